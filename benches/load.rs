//! What a request costs, as ratios to an echo server that is driven by the same
//! generator in the same run. `benches/README.md` says what the rows mean.
#![allow(unreachable_pub, reason = "nothing imports a bench")]

mod common;
#[path = "load/echo.rs"]
mod echo;
#[path = "load/generator.rs"]
mod generator;

use std::collections::HashMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use aws_lc_rs::signature::Ed25519KeyPair;
use bytes::Bytes;
use common::{AUDIENCE, Client, Cores, Deployment, Served, Sorted, myself, option, pin, progress};
use countersign::clock::{Clock, random};
use countersign::db;
use countersign::domain::tokens::policy::Ceilings;
use countersign::domain::values::ids::{AccountId, OrgId, TokenId};
use countersign::domain::values::token_string::{TokenString, TokenStringKind};
use countersign::grpc::pb;
use generator::{CONNECTIONS, Calls, STREAMS, Slice, framed, load, pass};
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use sqlx::PgPool;
use uuid::Uuid;

/// Tokens that the warm rows take in turn.
const WARM: usize = 1_000;
/// Tokens that the cold rows take in turn.
const COLD: usize = 20_000;
/// What the server of the cold rows keeps: when a token's turn comes again it is long forgotten.
const COLD_CACHE: &str = "1000";
/// Service accounts that the tokens belong to.
const ACCOUNTS: usize = 100;
/// What each account holds.
const GRANTS: [(&str, &str); 3] =
    [("invoices.read", "*"), ("payments.read", "*"), ("invoices.write", "customers/acme")];

const EXCHANGE: &str = "/countersign.v1.TokenService/ExchangeToken";
const INTROSPECT: &str = "/countersign.v1.TokenService/IntrospectToken";

fn main() -> Result<()> {
    if std::env::args().nth(1).is_some_and(|argument| argument == echo::ARGUMENT) {
        return echo::run();
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
        None => progress("there are no two cores: server, generator and PostgreSQL share what there is"),
    }
    let deployment = Deployment::make().await?;
    pin(cores.map(|cores| cores.server))?;
    let echo = Served::start(Command::new(myself()?).arg(echo::ARGUMENT))?;
    let warm = deployment.serve(&[])?;
    let cold = deployment.serve(&["--cache-size", COLD_CACHE])?;
    pin(cores.map(|cores| cores.others))?;
    let idle = warm.resident_kb()?;
    let tenant = Tenant::make(&deployment, &warm).await?;

    let exchanges: Vec<Bytes> = tenant.texts.iter().map(|text| framed(&exchange_of(text))).collect();
    let some = exchanges[..WARM].to_vec();
    let introspections = tenant.texts[..WARM].iter().map(|text| framed(&introspection_of(text))).collect();
    let bench = Bench {
        echo: Target::new(&echo, echo::PATH, None, vec![exchanges[0].clone()])?,
        warm: Target::new(&warm, EXCHANGE, None, some)?,
        introspect: Target::new(&warm, INTROSPECT, Some(&tenant.verifier), introspections)?,
        cold: Target::new(&cold, EXCHANGE, None, exchanges.clone())?,
        postgres: deployment.server.pid(),
        core: cores.map(|cores| cores.server),
        lasts,
        signed: check(&tenant, &warm).await?,
        deployment: &deployment,
        token_ids: tenant.token_ids.clone(),
    };
    progress("a first pass over the warm tokens");
    bench.warm.first_pass(WARM).await?;
    bench.introspect.first_pass(WARM).await?;

    // What the servers do by themselves is no part of a cold exchange. A backend tells what it did
    // when a second has passed since it last did.
    let idle_from = (Instant::now(), transactions(&tenant.db).await?);
    tokio::time::sleep(Duration::from_secs(4)).await;
    let before = transactions(&tenant.db).await?;
    let background = (before - idle_from.1) / idle_from.0.elapsed().as_secs_f64();
    let began = Instant::now();
    let mut all = Vec::with_capacity(rounds);
    for number in 1..=rounds {
        let round = bench.round().await?;
        progress(format_args!(
            "round {number} of {rounds}: of echo's throughput: warm exchange {:.2}, introspection {:.2}, cold exchange {:.2}",
            round.warm.throughput(),
            round.introspect.throughput(),
            round.cold.throughput()
        ));
        all.push(round);
    }
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let last = || bench.cold.first_pass(STREAMS);
    tokio::try_join!(last(), last(), last(), last())?;
    let statements = transactions(&tenant.db).await? - before - background * began.elapsed().as_secs_f64();

    report(&all, statements);
    progress(format_args!("\nfilling the cache with {COLD} tokens"));
    let filling = warm.resident_kb()?;
    Target::new(&warm, EXCHANGE, None, exchanges)?.first_pass(COLD).await?;
    let more = COLD - WARM;
    let each = (warm.resident_kb()?.saturating_sub(filling)) * 1024 / more as u64;
    println!("\nserve: {:.1} MB idle, {each} bytes for each of {more} more tokens", idle as f64 / 1024.0);
    println!("serve: from exec to ready {} ms, {} ms", warm.took.as_millis(), cold.took.as_millis());
    Ok(())
}

/// What is exchanged.
struct Tenant {
    db: PgPool,
    /// Of the tokens, in an order that has nothing to do with that of the database.
    texts: Vec<String>,
    token_ids: Vec<TokenId>,
    /// The credential that introspects.
    verifier: String,
}

impl Tenant {
    /// The accounts through the API; the tokens in three statements, since one by one they take long.
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
        // A map gives them back in an order of its own.
        let (token_ids, texts) = tokens.into_iter().collect::<HashMap<_, _>>().into_iter().unzip();
        Ok(Self { db, texts, token_ids, verifier })
    }
}

/// `COLD` tokens in turn for the accounts: their ids and texts.
async fn insert_tokens(
    deployment: &Deployment,
    db: &PgPool,
    org: OrgId,
    accounts: &[Uuid],
) -> Result<Vec<(TokenId, String)>> {
    let peppers = db::keys::find_peppers(db, &deployment.master_keys()?).await?;
    let clock = Clock::default();
    let new = || TokenString::new(TokenStringKind::SecretToken, clock.new_id::<TokenId>(), random());
    let texts: Vec<TokenString> = (0..COLD).map(|_| new()).collect();
    let records: Vec<_> = texts.iter().map(|text| peppers.record(text)).collect();
    let ids: Vec<Uuid> = texts.iter().map(|text| text.id().uuid()).collect();
    let owners: Vec<Uuid> = accounts.iter().copied().cycle().take(COLD).collect();
    let macs: Vec<_> = records.iter().map(|record| record.mac.clone()).collect();
    let numbers: Vec<i32> = records.iter().map(|record| record.pepper).collect();
    let hints: Vec<_> = texts.iter().map(|text| text.hint().to_owned()).collect();
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
    Ok(texts.into_iter().map(|text| (text.id(), text.expose().to_owned())).collect())
}

fn exchange_of(text: &str) -> pb::ExchangeTokenRequest {
    let audiences = vec![AUDIENCE.to_owned()];
    pb::ExchangeTokenRequest { subject_token: text.to_owned(), audiences, ..Default::default() }
}

fn introspection_of(text: &str) -> pb::IntrospectTokenRequest {
    pb::IntrospectTokenRequest { token_text: text.to_owned(), ..Default::default() }
}

/// Looks whether the answers are good; gives how many bytes of a JWT are signed.
async fn check(tenant: &Tenant, server: &Served) -> Result<usize> {
    let client: Client = server.client(&tenant.verifier).await?;
    let exchanged = client.tokens().exchange_token(exchange_of(&tenant.texts[0])).await?.into_inner();
    let introspected = client.tokens().introspect_token(introspection_of(&tenant.texts[0])).await?;
    ensure!(introspected.into_inner().active, "a token of ours is not active");
    let (signed, _) = exchanged.access_token.rsplit_once('.').context("no JWT")?;
    progress(format_args!("a JWT has {} bytes", exchanged.access_token.len()));
    Ok(signed.len())
}

/// The transactions that were committed in our database: each read outside of one is one.
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

    /// So many calls.
    async fn first_pass(&self, count: usize) -> Result<()> {
        pass(&self.server.address, &self.calls, count).await
    }
}

/// What is measured.
struct Bench<'a> {
    echo: Target<'a>,
    warm: Target<'a>,
    introspect: Target<'a>,
    cold: Target<'a>,
    /// The postmaster's process id.
    postgres: u32,
    core: Option<usize>,
    lasts: Duration,
    /// How many bytes are signed.
    signed: usize,
    deployment: &'a Deployment,
    token_ids: Vec<TokenId>,
}

/// A row and the echo right before it.
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

/// Time in microseconds.
struct Measured {
    /// Requests in a second.
    rate: f64,
    /// The server's processor time for a request.
    cpu: f64,
    /// PostgreSQL's processor time for a request.
    postgres: f64,
    p50: f64,
    p99: f64,
    /// All requests, those before and after the measured time too.
    all: f64,
}

struct Round {
    warm: Pair,
    introspect: Pair,
    cold: Pair,
    /// Processor time of one signature.
    signature: f64,
    /// Processor time of the two reads of a cold exchange, on our side of the connection.
    reads: f64,
    /// How often those were done to time them.
    read: f64,
}

impl Round {
    /// (echo + signature) ÷ warm exchange, in processor time.
    fn warm_share(&self) -> f64 {
        (self.warm.echo.cpu + self.signature) / self.warm.row.cpu
    }

    /// (echo + signature + the reads) ÷ cold exchange, in processor time.
    fn cold_share(&self) -> f64 {
        (self.cold.echo.cpu + self.signature + self.reads) / self.cold.row.cpu
    }
}

impl Bench<'_> {
    async fn round(&self) -> Result<Round> {
        let signature = self.signature().await?;
        let warm = self.pair(&self.warm).await?;
        let introspect = self.pair(&self.introspect).await?;
        let cold = self.pair(&self.cold).await?;
        let (reads, read) = self.reads().await?;
        Ok(Round { warm, introspect, cold, signature, reads, read })
    }

    async fn pair(&self, target: &Target<'_>) -> Result<Pair> {
        Ok(Pair { echo: self.measure(&self.echo).await?, row: self.measure(target).await? })
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

    /// One Ed25519 signature over as much as is signed of a JWT.
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

    /// What a cold exchange reads, with the server's own function on as many connections, and nothing else.
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
                        ensure!(found.is_some(), "a token of ours is gone");
                        if until.is_none_or(|until| Instant::now() >= until) {
                            return Ok(());
                        }
                    }
                };
                // Connections, and statements prepared.
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

/// Processor time of this thread, in microseconds.
fn own_thread() -> Result<f64> {
    micros(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

/// Processor time of a process, user and system, in microseconds.
fn used(pid: u32) -> Result<f64> {
    micros(clock_getcpuclockid(Pid::from_raw(pid.cast_signed()))?)
}

fn micros(clock: ClockId) -> Result<f64> {
    let time = clock_gettime(clock)?;
    Ok(time.tv_sec() as f64 * 1e6 + time.tv_nsec() as f64 / 1e3)
}

/// Processor time of a process and of each of its children.
fn used_below(parent: u32) -> Result<HashMap<u32, f64>> {
    let mut all = HashMap::from([(parent, used(parent)?)]);
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // Whatever has ended by now has nothing to do with us.
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        // After the name, which may hold anything: the state and the parent.
        let above = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(1));
        if above.and_then(|above| above.parse().ok()) == Some(parent)
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
        "| echo, 300 bytes | 1 | 1 | {} | {} | {} | {} |",
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
    println!("\n| besides | |\n|---|---|");
    println!("| one Ed25519 signature, CPU µs | {} |", over(&|round| round.signature).show(1));
    println!("| warm exchange, share of the limit | {} |", over(&Round::warm_share).show(2));
    println!("| the reads of a cold exchange alone, CPU µs | {} |", over(&|round| round.reads).show(1));
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
