//! The cost of a request, as a ratio to an echo server under the same load in the same run.
//!
//! `benches/README.md` says what the rows mean.
#![allow(unreachable_pub, reason = "nothing imports a bench")]

mod common;
#[path = "load/echo.rs"]
mod echo;
#[path = "load/generator.rs"]
mod generator;
#[path = "load/scrape.rs"]
mod scrape;

use std::collections::HashMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use aws_lc_rs::signature::Ed25519KeyPair;
use bytes::Bytes;
use common::{AUDIENCE, Client, Cores, Deployment, Served, Sorted, option, own_path, pin, progress};
use countersign::clock::{Clock, random};
use countersign::db;
use countersign::domain::tokens::policy::Ceilings;
use countersign::domain::values::ids::{AccountId, OrgId, TokenId};
use countersign::domain::values::token_string::{TokenString, TokenStringKind};
use countersign::grpc::pb;
use generator::{CONNECTIONS, Calls, STREAMS, Slice, framed, load, pass};
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use prost::Message as _;
use scrape::{Scraper, counting, free_address};
use sqlx::PgPool;
use uuid::Uuid;

/// The number of tokens that the warm rows use in turn.
const WARM: usize = 1_000;
/// The number of tokens that the cold rows use in turn.
const COLD: usize = 20_000;
/// The cache size of the server of the cold rows: a token is evicted long before its next turn.
const COLD_CACHE: &str = "2MiB";
/// The number of service accounts that the tokens belong to.
const ACCOUNTS: usize = 100;
/// The grants of each account.
const GRANTS: [(&str, &str); 3] =
    [("invoices.read", "*"), ("payments.read", "*"), ("invoices.write", "customers/acme")];

const EXCHANGE: &str = "/countersign.v1.TokenService/ExchangeToken";
const INTROSPECT: &str = "/countersign.v1.TokenService/IntrospectToken";

fn main() -> Result<()> {
    if std::env::args().nth(1).is_some_and(|argument| argument == echo::ARGUMENT) {
        return echo::run(std::env::args().skip(2));
    }
    common::only_options(&["--rounds", "--seconds"])?;
    let rounds: usize = option("--rounds", 7)?;
    let lasts = Duration::from_secs_f64(option("--seconds", 2.0)?);
    ensure!(rounds > 0 && !lasts.is_zero(), "at least one round, of some length");
    let cores = Cores::find();
    pin(cores.map(|cores| cores.others))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(rounds, lasts, cores))
}

async fn run(rounds: usize, lasts: Duration, cores: Option<Cores>) -> Result<()> {
    match cores {
        Some(Cores { server, others }) => progress(format_args!(
            "the server that is measured has core {server}; the generator and PostgreSQL have core {others}"
        )),
        None => progress("only one core is available: server, generator and PostgreSQL share it"),
    }
    let deployment = Deployment::make().await?;
    pin(cores.map(|cores| cores.server))?;
    let warm = deployment.serve(&[])?;
    let cold = deployment.serve(&["--cache-size", COLD_CACHE])?;
    let metrics = free_address()?;
    let scraped = deployment.serve(&["--metrics-listen", &metrics.to_string()])?;
    pin(cores.map(|cores| cores.others))?;
    let idle = warm.resident_kb()?;
    let tenant = Tenant::make(&deployment, &warm).await?;

    let answers = check(&tenant, &warm).await?;
    pin(cores.map(|cores| cores.server))?;
    let lengths = [answers.exchange, answers.introspection].map(|length| length.to_string());
    let echo = Served::start(Command::new(own_path()?).arg(echo::ARGUMENT).args(lengths))?;
    pin(cores.map(|cores| cores.others))?;
    let exchanges: Vec<Bytes> =
        tenant.token_strings.iter().map(|token| framed(&exchange_of(token))).collect();
    let some = exchanges[..WARM].to_vec();
    let introspections =
        tenant.token_strings[..WARM].iter().map(|token| framed(&introspection_of(token))).collect();
    let bench = Bench {
        echo: Target::new(&echo, echo::PATHS[0], None, vec![exchanges[0].clone()])?,
        short_echo: Target::new(&echo, echo::PATHS[1], None, vec![exchanges[0].clone()])?,
        warm: Target::new(&warm, EXCHANGE, None, some.clone())?,
        scraped: Target::new(&scraped, EXCHANGE, None, some)?,
        scraper: Scraper::start(metrics),
        introspect: Target::new(&warm, INTROSPECT, Some(&tenant.verifier), introspections)?,
        cold: Target::new(&cold, EXCHANGE, None, exchanges.clone())?,
        postgres: deployment.server.pid(),
        core: cores.map(|cores| cores.server),
        lasts,
        signed: answers.signed,
        deployment: &deployment,
        token_ids: tenant.token_ids.clone(),
    };
    progress("a first pass over the warm tokens");
    bench.warm.first_pass(WARM).await?;
    bench.introspect.first_pass(WARM).await?;
    bench.scraped.first_pass(WARM).await?;

    // The background work of the servers is not part of a cold exchange. A backend reports its statistics
    // when a second has passed since its last report.
    let idle_from = (Instant::now(), transactions(&tenant.db).await?);
    tokio::time::sleep(Duration::from_secs(4)).await;
    let before = transactions(&tenant.db).await?;
    let background = (before - idle_from.1) / idle_from.0.elapsed().as_secs_f64();
    let began = Instant::now();
    let mut all = Vec::with_capacity(rounds);
    for number in 1..=rounds {
        let round = bench.round().await?;
        progress(format_args!(
            "round {number} of {rounds}: warm exchange {:.2} of its limit, introspection {:.2}, cold exchange {:.2}",
            round.warm_share(),
            round.introspection_share(),
            round.cold_share()
        ));
        all.push(round);
    }
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let last = || bench.cold.first_pass(STREAMS);
    tokio::try_join!(last(), last(), last(), last())?;
    let statements = transactions(&tenant.db).await? - before - background * began.elapsed().as_secs_f64();

    report(&all, statements);
    ensure!(bench.scraper.scrapes.load(Ordering::Relaxed) > 0, "nothing was scraped");
    progress(format_args!("\nfilling the cache with {COLD} tokens"));
    let filling = warm.resident_kb()?;
    Target::new(&warm, EXCHANGE, None, exchanges)?.first_pass(COLD).await?;
    let more = COLD - WARM;
    let each = (warm.resident_kb()?.saturating_sub(filling)) * 1024 / more as u64;
    goals(&all, each as f64);
    println!("\nserve: {:.1} MB idle, {each} bytes for each of {more} more tokens", idle as f64 / 1024.0);
    println!("serve: from exec to ready {} ms, {} ms", warm.took.as_millis(), cold.took.as_millis());
    Ok(())
}

/// The tokens that are exchanged, and the credential that introspects them.
struct Tenant {
    db: PgPool,
    /// The token strings, in an order that is unrelated to that of the database.
    token_strings: Vec<String>,
    token_ids: Vec<TokenId>,
    /// The credential that introspects.
    verifier: String,
}

impl Tenant {
    /// Creates the accounts through the API, and the tokens with three statements.
    ///
    /// One by one, the tokens would take long.
    async fn make(deployment: &Deployment, server: &Served) -> Result<Self> {
        progress(format_args!("making {ACCOUNTS} accounts and {COLD} tokens"));
        let operator = server.client(&deployment.operator).await?;
        let org = operator.make_org("bench", "customers/acme").await?;
        let mut accounts = Vec::with_capacity(ACCOUNTS);
        for number in 0..ACCOUNTS {
            let id = operator.make_account(&org, &format!("worker-{number}"), &GRANTS).await?;
            accounts.push(AccountId::parse(&id).map_err(|wrong| anyhow!("{wrong}"))?.uuid());
        }
        let verifier = operator.make_account(&org, "verifier", &[("tokens.introspect", "*")]).await?;
        let (_, verifier) = operator.make_token(&org, &verifier).await?;
        let db = deployment.pool(2);
        let org = OrgId::parse(&org).map_err(|wrong| anyhow!("{wrong}"))?;
        let tokens = insert_tokens(deployment, &db, org, &accounts).await?;
        // A map iterates in an unrelated order.
        let (token_ids, token_strings) = tokens.into_iter().collect::<HashMap<_, _>>().into_iter().unzip();
        Ok(Self { db, token_strings, token_ids, verifier })
    }
}

/// Inserts `COLD` tokens, for the accounts in turn. Returns their ids and token strings.
async fn insert_tokens(
    deployment: &Deployment,
    db: &PgPool,
    org: OrgId,
    accounts: &[Uuid],
) -> Result<Vec<(TokenId, String)>> {
    let peppers = db::keys::find_peppers(db, &deployment.master_keys()?).await?;
    let clock = Clock::default();
    let new = || TokenString::new(TokenStringKind::SecretToken, clock.new_id::<TokenId>(), random());
    let token_strings: Vec<TokenString> = (0..COLD).map(|_| new()).collect();
    let records: Vec<_> = token_strings.iter().map(|token| peppers.record(token)).collect();
    let ids: Vec<Uuid> = token_strings.iter().map(|token| token.id().uuid()).collect();
    let owners: Vec<Uuid> = accounts.iter().copied().cycle().take(COLD).collect();
    let macs: Vec<_> = records.iter().map(|record| record.mac.clone()).collect();
    let numbers: Vec<i32> = records.iter().map(|record| record.pepper).collect();
    let hints: Vec<_> = token_strings.iter().map(|token| token.hint().to_owned()).collect();
    let now = clock.now();
    sqlx::query(
        "insert into credentials (credential_id, org_id, account_id) select id, $1, account
         from unnest($2::uuid[], $3::uuid[]) n (id, account)",
    )
    .bind(org.uuid())
    .bind(&ids)
    .bind(&owners)
    .execute(db)
    .await?;
    sqlx::query(
        "insert into tokens (org_id, token_id, account_id, kind, scopes, resources, allowed_audiences,
                             may_manage_tokens, revision, create_time, expire_time)
         select $1, id, account, 'SECRET', '{}', '{}', '{}', false, 1, $4, $5
         from unnest($2::uuid[], $3::uuid[]) n (id, account)",
    )
    .bind(org.uuid())
    .bind(&ids)
    .bind(&owners)
    .bind(now)
    .bind(now + Duration::from_secs(30 * 24 * 60 * 60))
    .execute(db)
    .await?;
    sqlx::query(
        "insert into token_secrets (org_id, token_id, secret_number, mac, pepper_id, hint, create_time)
         select $1, id, 1, mac, pepper, hint, $6
         from unnest($2::uuid[], $3::bytea[], $4::int[], $5::text[]) n (id, mac, pepper, hint)",
    )
    .bind(org.uuid())
    .bind(&ids)
    .bind(&macs)
    .bind(&numbers)
    .bind(&hints)
    .bind(now)
    .execute(db)
    .await?;
    sqlx::query("analyze").execute(db).await?;
    Ok(token_strings.into_iter().map(|token| (token.id(), token.expose().to_owned())).collect())
}

fn exchange_of(token: &str) -> pb::ExchangeTokenRequest {
    let audiences = vec![AUDIENCE.to_owned()];
    pb::ExchangeTokenRequest { subject_token: Some(token.to_owned()), audiences, ..Default::default() }
}

fn introspection_of(token: &str) -> pb::IntrospectTokenRequest {
    pb::IntrospectTokenRequest { token_text: token.to_owned(), ..Default::default() }
}

/// What the answers of the server look like.
struct Answers {
    /// The bytes of the answer to an exchange.
    exchange: usize,
    /// The same for an introspection.
    introspection: usize,
    /// How many bytes of a JWT are signed.
    signed: usize,
}

/// Checks that the responses are correct.
async fn check(tenant: &Tenant, server: &Served) -> Result<Answers> {
    let client: Client = server.client(&tenant.verifier).await?;
    let exchanged = client.tokens().exchange_token(exchange_of(&tenant.token_strings[0])).await?.into_inner();
    let introspected = client.tokens().introspect_token(introspection_of(&tenant.token_strings[0])).await?;
    let introspected = introspected.into_inner();
    ensure!(introspected.active, "one of our tokens is not active");
    let (signed, _) = exchanged.access_token.rsplit_once('.').context("the access token is not a JWT")?;
    let answers = Answers {
        exchange: exchanged.encoded_len(),
        introspection: introspected.encoded_len(),
        signed: signed.len(),
    };
    progress(format_args!(
        "an exchange is answered with {} bytes, an introspection with {}; a JWT has {}",
        answers.exchange,
        answers.introspection,
        exchanged.access_token.len()
    ));
    Ok(answers)
}

/// The number of transactions committed in our database, where each single read counts as one.
async fn transactions(db: &PgPool) -> Result<f64> {
    let sql = "select xact_commit::float8 from pg_stat_database where datname = current_database()";
    Ok(sqlx::query_scalar(sql).fetch_one(db).await?)
}

/// A method of a server.
struct Target<'a> {
    server: &'a Served,
    calls: Arc<Calls>,
}

impl<'a> Target<'a> {
    fn new(server: &'a Served, path: &str, bearer: Option<&str>, messages: Vec<Bytes>) -> Result<Self> {
        Ok(Self { server, calls: Arc::new(Calls::new(&server.address, path, bearer, messages)?) })
    }

    /// Makes this many calls, without measuring them.
    async fn first_pass(&self, count: usize) -> Result<()> {
        pass(&self.server.address, &self.calls, count).await
    }
}

/// The servers that are measured, and what the measurements need.
struct Bench<'a> {
    /// Answers with as many bytes as an exchange.
    echo: Target<'a>,
    /// The same for an introspection.
    short_echo: Target<'a>,
    warm: Target<'a>,
    /// A server as the warm one, whose metrics are read once a second meanwhile.
    scraped: Target<'a>,
    scraper: Scraper,
    introspect: Target<'a>,
    cold: Target<'a>,
    /// The process id of the postmaster.
    postgres: u32,
    core: Option<usize>,
    lasts: Duration,
    /// How many bytes of a JWT are signed.
    signed: usize,
    deployment: &'a Deployment,
    token_ids: Vec<TokenId>,
}

/// The measurement of a row, and of the echo right before it.
struct Pair {
    echo: Measured,
    row: Measured,
}

impl Pair {
    fn throughput(&self) -> f64 {
        self.row.rate / self.echo.rate
    }

    fn cpu(&self) -> f64 {
        self.row.cpu / self.echo.cpu
    }
}

/// One measurement, with times in microseconds.
struct Measured {
    /// Requests per second.
    rate: f64,
    /// The CPU time of the server per request.
    cpu: f64,
    /// The CPU time of PostgreSQL per request.
    postgres: f64,
    p50: f64,
    p99: f64,
    /// The number of all requests, including those before and after the measured time.
    all: f64,
}

struct Round {
    warm: Pair,
    introspect: Pair,
    cold: Pair,
    /// Warm exchanges without a scraper, and with one.
    scraped: Pair,
    /// The CPU time of what a warm exchange counts.
    counting: f64,
    /// The CPU time of one signature.
    signature: f64,
    /// The CPU time of the two reads of a cold exchange, on our side of the connection.
    reads: f64,
    /// How many times these were made to measure them.
    read: f64,
}

impl Round {
    /// Echo ÷ introspection, in CPU time.
    fn introspection_share(&self) -> f64 {
        self.introspect.echo.cpu / self.introspect.row.cpu
    }

    /// (echo + signature) ÷ warm exchange, in CPU time.
    fn warm_share(&self) -> f64 {
        (self.warm.echo.cpu + self.signature) / self.warm.row.cpu
    }

    /// (echo + signature + the reads) ÷ cold exchange, in CPU time.
    fn cold_share(&self) -> f64 {
        (self.cold.echo.cpu + self.signature + self.reads) / self.cold.row.cpu
    }
}

impl Bench<'_> {
    async fn round(&self) -> Result<Round> {
        let signature = self.signature().await?;
        let warm = self.pair(&self.echo, &self.warm).await?;
        let plain = self.measure(&self.warm).await?;
        self.scraper.on.store(true, Ordering::Relaxed);
        let scraped = self.measure(&self.scraped).await;
        self.scraper.on.store(false, Ordering::Relaxed);
        let scraped = Pair { echo: plain, row: scraped? };
        let counting = self.on_the_servers_core(counting).await?;
        let introspect = self.pair(&self.short_echo, &self.introspect).await?;
        let cold = self.pair(&self.echo, &self.cold).await?;
        let (reads, read) = self.reads().await?;
        Ok(Round { warm, introspect, cold, scraped, counting, signature, reads, read })
    }

    async fn pair(&self, echo: &Target<'_>, target: &Target<'_>) -> Result<Pair> {
        Ok(Pair { echo: self.measure(echo).await?, row: self.measure(target).await? })
    }

    async fn measure(&self, target: &Target<'_>) -> Result<Measured> {
        let meter = || Ok((used(target.server.pid())?, used_below(self.postgres)?));
        let slice = load(&target.server.address, &target.calls, self.lasts, meter).await?;
        let Slice { requests, seconds, before, after, latencies, all } = slice;
        let postgres = after.1.iter().map(|(pid, now)| now - before.1.get(pid).unwrap_or(&0.0)).sum::<f64>();
        let latencies: Sorted = latencies.into_iter().collect();
        Ok(Measured {
            rate: requests / seconds,
            cpu: (after.0 - before.0) / requests,
            postgres: postgres / requests,
            p50: latencies.median(),
            p99: latencies.quantile(0.99),
            all,
        })
    }

    /// Measures one Ed25519 signature over as many bytes as are signed of a JWT.
    async fn signature(&self) -> Result<f64> {
        let message = vec![b'x'; self.signed];
        let sign = move || -> Result<f64> {
            let pair = Ed25519KeyPair::generate().map_err(|_| anyhow!("no Ed25519 key"))?;
            let (began, mut signatures) = (own_thread()?, 0.0);
            while own_thread()? - began < 200_000.0 {
                for _ in 0..100 {
                    std::hint::black_box(pair.sign(std::hint::black_box(&message)));
                }
                signatures += 100.0;
            }
            Ok((own_thread()? - began) / signatures)
        };
        self.on_the_servers_core(sign).await
    }

    /// Measures only the reads of a cold exchange, with the server's own function on as many connections.
    async fn reads(&self) -> Result<(f64, f64)> {
        const READERS: u32 = 4;
        let (options, ids, lasts) = (self.deployment.options(), self.token_ids.clone(), self.lasts / 2);
        let read = move || -> Result<(f64, f64)> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let pool = db::pool::lazy(options, READERS);
                let next = AtomicUsize::new(0);
                let read = async |until: Option<Instant>| -> Result<()> {
                    loop {
                        let id = ids[next.fetch_add(1, Ordering::Relaxed) % ids.len()];
                        let found = db::tokens::principals::find(&pool, id, None, &Ceilings::default()).await;
                        let found = found.map_err(|e| anyhow!("{e:?}"))?;
                        ensure!(found.is_some(), "one of our tokens was not found");
                        if until.is_none_or(|until| Instant::now() >= until) {
                            return Ok(());
                        }
                    }
                };
                // Opens the connections and prepares the statements.
                tokio::try_join!(read(None), read(None), read(None), read(None))?;
                let prepared = next.load(Ordering::Relaxed);
                let (began, until) = (own_thread()?, Some(Instant::now() + lasts));
                tokio::try_join!(read(until), read(until), read(until), read(until))?;
                let all = next.load(Ordering::Relaxed);
                let each = (own_thread()? - began) / (all - prepared) as f64;
                pool.close().await;
                Ok((each, all as f64))
            })
        };
        self.on_the_servers_core(read).await
    }

    async fn on_the_servers_core<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let core = self.core;
        let thread = std::thread::spawn(move || pin(core).and_then(|()| work()));
        while !thread.is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        thread.join().map_err(|_| anyhow!("a measurement panicked"))?
    }
}

/// The CPU time of this thread, in microseconds.
fn own_thread() -> Result<f64> {
    micros(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

/// The CPU time of a process, user and system, in microseconds.
fn used(pid: u32) -> Result<f64> {
    micros(clock_getcpuclockid(Pid::from_raw(pid.cast_signed()))?)
}

fn micros(clock: ClockId) -> Result<f64> {
    let time = clock_gettime(clock)?;
    Ok(time.tv_sec() as f64 * 1e6 + time.tv_nsec() as f64 / 1e3)
}

/// The CPU times of a process and of each of its children.
fn used_below(parent: u32) -> Result<HashMap<u32, f64>> {
    let mut all = HashMap::from([(parent, used(parent)?)]);
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // A process that has exited meanwhile does not matter.
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        // The state and the parent follow the name, which may contain any character.
        let parent_field = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(1));
        if parent_field.and_then(|field| field.parse().ok()) == Some(parent)
            && let Ok(used) = used(pid)
        {
            all.insert(pid, used);
        }
    }
    Ok(all)
}

fn report(rounds: &[Round], statements: f64) {
    let over = |value: &dyn Fn(&Round) -> f64| rounds.iter().map(value).collect::<Sorted>();
    let echoes: Vec<&Measured> = rounds
        .iter()
        .flat_map(|round| [&round.warm.echo, &round.introspect.echo, &round.cold.echo])
        .collect();
    let echo =
        |value: fn(&Measured) -> f64| echoes.iter().map(|measured| value(measured)).collect::<Sorted>();
    println!("\n{CONNECTIONS} connections × {STREAMS} streams, {} rounds; median (min–max)\n", rounds.len());
    println!("| row | throughput ÷ echo | CPU ÷ echo | CPU µs | requests/s | p50 µs | p99 µs |");
    println!("|---|---|---|---|---|---|---|");
    println!(
        "| echo | 1 | 1 | {} | {} | {} | {} |",
        echo(|m| m.cpu).show(1),
        echo(|m| m.rate).show(0),
        echo(|m| m.p50).show(0),
        echo(|m| m.p99).show(0)
    );
    type Row = (&'static str, fn(&Round) -> &Pair);
    let rows: [Row; 3] = [
        ("exchange, warm", |round| &round.warm),
        ("introspection of a token, warm", |round| &round.introspect),
        ("exchange, cold", |round| &round.cold),
    ];
    for (name, pair) in rows {
        println!(
            "| {name} | {} | {} | {} | {} | {} | {} |",
            over(&|round| pair(round).throughput()).show(2),
            over(&|round| pair(round).cpu()).show(2),
            over(&|round| pair(round).row.cpu).show(1),
            over(&|round| pair(round).row.rate).show(0),
            over(&|round| pair(round).row.p50).show(0),
            over(&|round| pair(round).row.p99).show(0)
        );
    }
    println!("\n| other figures | |\n|---|---|");
    println!("| one Ed25519 signature, CPU µs | {} |", over(&|round| round.signature).show(1));
    println!("| warm exchange, share of the limit | {} |", over(&Round::warm_share).show(2));
    println!(
        "| warm exchange while metrics are read, CPU ÷ without | {} |",
        over(&|r| r.scraped.cpu()).show(3)
    );
    println!("| what a warm exchange counts, CPU µs | {} |", over(&|round| round.counting).show(3));
    println!("| introspection, share of echo | {} |", over(&Round::introspection_share).show(2));
    println!("| only the reads of a cold exchange, CPU µs | {} |", over(&|round| round.reads).show(1));
    println!("| cold exchange, share of its limit | {} |", over(&Round::cold_share).show(2));
    println!(
        "| PostgreSQL for a cold exchange, CPU µs | {} |",
        over(&|round| round.cold.row.postgres).show(1)
    );
    println!(
        "| PostgreSQL for a warm exchange, CPU µs | {} |",
        over(&|round| round.warm.row.postgres).show(1)
    );
    let finds: f64 = rounds.iter().map(|round| round.read).sum();
    let colds: f64 = rounds.iter().map(|round| round.cold.row.all).sum();
    println!("| statements of a cold exchange | {:.2} |", (statements - 2.0 * finds) / colds);
}

/// Prints each goal of the hot path, what the medians are, and whether they reach it.
fn goals(rounds: &[Round], bytes: f64) {
    let median = |value: &dyn Fn(&Round) -> f64| rounds.iter().map(value).collect::<Sorted>().median();
    let verdict = |reached: bool| if reached { "pass" } else { "short" };
    let least = |goal: f64, value: f64| format!("≥ {goal} | {value:.2} | {}", verdict(value >= goal));
    println!("\n| goal | | median | |\n|---|---|---|---|");
    println!("| warm exchange, share of the limit | {} |", least(0.95, median(&Round::warm_share)));
    println!("| introspection, share of echo | {} |", least(1.0, median(&Round::introspection_share)));
    println!("| warm exchange, throughput ÷ echo | {} |", least(0.45, median(&|r| r.warm.throughput())));
    let most = |goal: f64, value: f64| format!("≤ {goal} | {value:.3} | {}", verdict(value <= goal));
    println!(
        "| warm exchange while metrics are read, CPU ÷ without | {} |",
        most(1.02, median(&|r| r.scraped.cpu()))
    );
    let counting = median(&|round| round.counting / round.warm.row.cpu);
    println!("| what a warm exchange counts, part of its CPU | {} |", most(0.02, counting));
    println!("| bytes for a cached token | ≤ 1000 | {bytes:.0} | {} |", verdict(bytes <= 1000.0));
}
