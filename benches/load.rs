//! The cost of a request, as a ratio to an echo server under the same load in the same run.
//!
//! `benches/README.md` says what the rows mean.
#![allow(unreachable_pub, reason = "nothing imports a bench")]

#[path = "load/answers.rs"]
mod answers;
#[path = "load/beside.rs"]
mod beside;
mod common;
#[path = "load/cpu.rs"]
mod cpu;
#[path = "load/doors.rs"]
mod doors;
#[path = "load/echo.rs"]
mod echo;
#[path = "load/federation.rs"]
mod federation;
#[path = "load/generator.rs"]
mod generator;
#[path = "load/http1.rs"]
mod http1;
#[path = "load/peer.rs"]
mod peer;
#[path = "load/profile.rs"]
mod profile;
#[path = "load/report.rs"]
mod report;
#[path = "load/scrape.rs"]
mod scrape;
#[path = "load/tenant.rs"]
mod tenant;

use std::collections::HashMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use answers::{check, exchange_of, introspection_of};
use anyhow::{Result, anyhow, ensure};
use aws_lc_rs::signature::Ed25519KeyPair;
use beside::Beside;
use bytes::Bytes;
use common::{Client, Cores, Deployment, Served, Sorted, option, own_path, pin, progress};
use countersign::db;
use countersign::db::distribution::Engine;
use countersign::db::pool::Db;
use countersign::db::session::SessionSettings;
use countersign::db::tokens::principals::LoadedWith;
use countersign::domain::tokens::policy::Ceilings;
use countersign::domain::values::ids::TokenId;
use cpu::{each, own_thread, used, used_below};
use doors::Doors;
use federation::Federation;
use generator::{Calls, Slice, framed, load, pass};
use peer::{Issued, Peer};
use scrape::{Scraper, counting, free_address};
use sqlx::PgPool;
use tenant::{Owner, Tenant, Token};

/// How many slices a measurement has. What is compared is measured in turn, slice by slice: a shared machine changes
/// its speed within seconds.
const SLICES: u32 = 4;
/// The number of tokens that the warm rows use in turn.
const WARM: usize = 1_000;
/// The number of tokens that the cold rows use in turn.
const COLD: usize = 20_000;
/// The orgs over which tokens of another cold row are spread.
const SPREAD: usize = 500;
/// The orgs that are changed beside the load: one alone may not use so many connections.
const OTHER_ORGS: usize = 16;
/// The cache size of the server of the cold rows: a token is evicted long before its next turn.
const COLD_CACHE: &str = "2MiB";
const EXCHANGE: &str = "/countersign.v1.TokenService/ExchangeToken";
const INTROSPECT: &str = "/countersign.v1.TokenService/IntrospectToken";

fn main() -> Result<()> {
    if std::env::args().nth(1).is_some_and(|argument| argument == echo::ARGUMENT) {
        return echo::run(std::env::args().skip(2));
    }
    common::only_options(&["--rounds", "--seconds", "--scale", "--profile"])?;
    let rounds: usize = option("--rounds", 7)?;
    let lasts = Duration::from_secs_f64(option("--seconds", 2.0)?);
    // 0: not measured.
    let scale = option("--scale", 1_000_000)?;
    ensure!(rounds > 0 && !lasts.is_zero(), "at least one round, of some length");
    let cores = Cores::find();
    pin(cores.map(|cores| cores.others))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(rounds, lasts, scale, cores))
}

async fn run(rounds: usize, lasts: Duration, scale: usize, cores: Option<Cores>) -> Result<()> {
    match cores {
        Some(Cores { server, others }) => progress(format_args!(
            "the server that is measured has core {server}; the generator and PostgreSQL have core {others}"
        )),
        None => progress("only one core is available: server, generator and PostgreSQL share it"),
    }
    tenant::require_space(scale)?;
    let deployment = Deployment::make().await?;
    pin(cores.map(|cores| cores.server))?;
    let warm = deployment.serve(&["--federation-issuers", federation::ISSUERS])?;
    pin(cores.map(|cores| cores.others))?;
    let idle = warm.resident_kb()?;
    let tenant = Tenant::make(&deployment, &warm).await?;
    let tokens = shuffled(tenant.add_tokens(&tenant.accounts, COLD, COLD).await?);
    let other = warm.client(&deployment.operator).await?;
    let owners = Owner::spread(&other, SPREAD).await?;
    let spread = shuffled(tenant.add_tokens(&owners, COLD, COLD).await?);
    let federation = Federation::make(&deployment, &warm).await?;
    let mut other_orgs = Vec::new();
    for number in 0..OTHER_ORGS {
        // Changed by an account of its own, as most orgs are.
        let org = other.make_org(&format!("other{number}"), "things/one").await?;
        let account = other.make_account(&org, "admin", &[("orgs.write", "*")]).await?;
        let (_, token) = other.make_token(&org, &account).await?;
        other_orgs.push((other.with(&token)?, org));
    }

    let answers = check(&tenant, &warm, &tokens[0].1).await?;
    pin(cores.map(|cores| cores.server))?;
    let lengths = [answers.exchange, answers.introspection].map(|length| length.to_string());
    let echo = Served::start(Command::new(own_path()?).arg(echo::ARGUMENT).args(lengths))?;
    pin(cores.map(|cores| cores.others))?;
    let exchanges = exchanges_of(&tokens);
    let introspections = tokens[..WARM].iter().map(|(_, token)| framed(&introspection_of(token))).collect();
    let bench = Bench {
        echo: Target::new(&echo, echo::PATHS[0], None, vec![exchanges[0].clone()])?,
        short_echo: Target::new(&echo, echo::PATHS[1], None, vec![exchanges[0].clone()])?,
        warm: Target::new(&warm, EXCHANGE, None, exchanges[..WARM].to_vec())?,
        introspect: Target::new(&warm, INTROSPECT, Some(&tenant.verifier), introspections)?,
        postgres: deployment.server.pid(),
        cores,
        lasts,
        signed: answers.signed,
        deployment: &deployment,
        db: &tenant.db,
        token_ids: tokens.iter().map(|(id, _)| *id).collect(),
        other: &other,
        other_orgs,
    };
    let profiles = option("--profile", false)?;
    let statements = bench.statements().await?;
    progress("a first pass over the warm tokens");
    bench.warm.first_pass(WARM).await?;
    bench.introspect.first_pass(WARM).await?;
    let mut beside = Vec::with_capacity(rounds);
    if !profiles {
        // As long as there is one node: what others do at each change would count as well.
        progress("warm exchanges beside changes, logins and a client that reads nothing");
        for _ in 0..rounds {
            beside.push(bench.beside().await?);
        }
    }
    pin(cores.map(|cores| cores.server))?;
    let cold = deployment.serve(&["--cache-size", COLD_CACHE])?;
    let metrics = free_address()?;
    let scraped = deployment.serve(&["--metrics-listen", &metrics.to_string()])?;
    pin(cores.map(|cores| cores.others))?;
    let others = Others {
        cold: Target::new(&cold, EXCHANGE, None, exchanges.clone())?,
        spread: Target::new(&cold, EXCHANGE, None, exchanges_of(&spread))?,
        scraped: Target::new(&scraped, EXCHANGE, None, exchanges[..WARM].to_vec())?,
        scraper: Scraper::start(metrics),
    };
    others.scraped.first_pass(WARM).await?;
    if profiles {
        return bench.profile(&others.cold, &federation).await;
    }

    let mut all = Vec::with_capacity(rounds);
    for number in 1..=rounds {
        let round = bench.round(&others).await?;
        progress(format_args!(
            "round {number} of {rounds}: warm exchange {:.2} of its limit, introspection {:.2}, cold exchange {:.2}",
            round.warm.share_of_limit(),
            round.introspect.share_of_limit(),
            round.cold_share()
        ));
        all.push(round);
    }
    ensure!(others.scraper.scrapes.load(Ordering::Relaxed) > 0, "nothing was scraped");

    progress("the JWTs of other issuers");
    let mut federated = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        federated.push(federation.round(&bench).await?);
    }
    progress("the same by OAuth over HTTP, and as JSON");
    let strings: Vec<_> = tokens[..WARM].iter().map(|(_, token)| token.as_str()).collect();
    let doors = Doors::new(&bench.warm, &strings)?;
    let mut by_door = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        by_door.push(doors.round(&bench).await?);
    }
    let scaled = match scale {
        0 => None,
        tokens => Some(bench.at_scale(&others.cold, tokens, rounds).await?),
    };
    pin(cores.map(|cores| cores.server))?;
    let peer = Peer::start()?;
    pin(cores.map(|cores| cores.others))?;
    let beside_peer = bench.beside_peer(peer.as_ref(), rounds).await?;
    report::print(&report::Results {
        statements,
        rounds: &all,
        algorithms: &federation.algorithms(),
        federated: &federated,
        doors: &by_door,
        beside: &beside,
        scaled: scaled.as_ref(),
        beside_peer: &beside_peer,
        idle_kb: idle,
        ready: warm.took.max(cold.took),
    });
    Ok(())
}

/// The tokens in an order that is unrelated to that of the database: a map iterates in one.
fn shuffled(tokens: Vec<Token>) -> Vec<Token> {
    tokens.into_iter().collect::<HashMap<_, _>>().into_iter().collect()
}

fn exchanges_of(tokens: &[Token]) -> Vec<Bytes> {
    tokens.iter().map(|(_, token)| framed(&exchange_of(token))).collect()
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

/// The server that most rows are of, the echo, and what the measurements need.
struct Bench<'a> {
    /// Answers with as many bytes as an exchange.
    echo: Target<'a>,
    /// The same for an introspection.
    short_echo: Target<'a>,
    warm: Target<'a>,
    introspect: Target<'a>,
    /// The process id of the postmaster.
    postgres: u32,
    cores: Option<Cores>,
    lasts: Duration,
    /// How many bytes of a JWT are signed.
    signed: usize,
    deployment: &'a Deployment,
    db: &'a PgPool,
    token_ids: Vec<TokenId>,
    /// A client that signs in.
    other: &'a Client,
    /// Orgs that are changed, each with a client that may.
    other_orgs: Vec<(Client, String)>,
}

/// The servers of the other rows.
struct Others<'a> {
    cold: Target<'a>,
    /// The same for tokens of many orgs.
    spread: Target<'a>,
    /// A server as the warm one, whose metrics are read once a second meanwhile.
    scraped: Target<'a>,
    scraper: Scraper,
}

/// The measurement of a row, and of the echo in turn with it.
struct Pair {
    echo: Measured,
    row: Measured,
    /// The CPU time of the cryptography that the limit of the row has beside the echo.
    crypto: f64,
}

impl Pair {
    fn throughput(&self) -> f64 {
        self.row.rate / self.echo.rate
    }

    fn cpu(&self) -> f64 {
        self.row.cpu / self.echo.cpu
    }

    /// The least that the row can cost.
    fn limit(&self) -> f64 {
        self.echo.cpu + self.crypto
    }

    fn share_of_limit(&self) -> f64 {
        self.limit() / self.row.cpu
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
}

/// Slices of a measurement, added up.
#[derive(Default)]
struct Total {
    requests: f64,
    seconds: f64,
    cpu: f64,
    postgres: f64,
    latencies: Vec<f64>,
}

impl Total {
    fn add(&mut self, slice: Self) {
        self.requests += slice.requests;
        self.seconds += slice.seconds;
        self.cpu += slice.cpu;
        self.postgres += slice.postgres;
        self.latencies.extend(slice.latencies);
    }

    fn measured(self) -> Measured {
        let latencies: Sorted = self.latencies.into_iter().collect();
        Measured {
            rate: self.requests / self.seconds,
            cpu: self.cpu / self.requests,
            postgres: self.postgres / self.requests,
            p50: latencies.median(),
            p99: latencies.quantile(0.99),
        }
    }
}

struct Round {
    warm: Pair,
    introspect: Pair,
    cold: Pair,
    /// Cold exchanges of tokens of many orgs.
    spread: Pair,
    /// Echo and warm exchanges at half of the rates that were reached.
    half: [Measured; 2],
    /// Warm exchanges without a scraper, and with one.
    scraped: [Measured; 2],
    /// The CPU time of what a warm exchange counts.
    counting: f64,
    /// The CPU time of the statement of a cold exchange, on our side of the connection.
    reads: f64,
}

/// Warm exchanges: alone, and beside other work.
struct Besides {
    alone: Measured,
    writes: Measured,
    logins: Measured,
    stalled: Measured,
}

/// Exchanges where the database has few tokens, and where it has so many more.
struct Scaled {
    tokens: usize,
    warm: Vec<[Measured; 2]>,
    cold: Vec<[Measured; 2]>,
}

impl Round {
    /// (echo + signature + the reads) ÷ cold exchange, in CPU time.
    fn cold_share(&self) -> f64 {
        (self.cold.limit() + self.reads) / self.cold.row.cpu
    }
}

impl Bench<'_> {
    async fn round(&self, others: &Others<'_>) -> Result<Round> {
        let Others { cold, spread, scraped, scraper } = others;
        let signature = self.signature();
        let warm = self.pair(&self.echo, &self.warm, signature.clone()).await?;
        scraper.on.store(true, Ordering::Relaxed);
        let scraped = self.in_turn([(&self.warm, None), (scraped, None)]).await;
        scraper.on.store(false, Ordering::Relaxed);
        let counting = self.on_the_servers_core(counting).await?;
        let introspect = self.pair(&self.short_echo, &self.introspect, nothing).await?;
        let cold = self.pair(&self.echo, cold, signature.clone()).await?;
        let spread = self.pair(&self.echo, spread, signature).await?;
        let rates = [(&self.echo, Some(warm.echo.rate / 2.0)), (&self.warm, Some(warm.row.rate / 2.0))];
        let half = self.in_turn(rates).await?;
        let (reads, _) = self.reads().await?;
        Ok(Round { warm, introspect, cold, spread, half, scraped: scraped?, counting, reads })
    }

    /// Warm exchanges alone, and beside other work of the server.
    async fn beside(&self) -> Result<Besides> {
        let mut totals: [Total; 4] = Default::default();
        let [alone, writes, stalled, logins] = &mut totals;
        let refused = Arc::<AtomicU64>::default();
        for _ in 0..SLICES {
            let slice = self.slice(&self.warm, None).await?;
            // One change for a hundred exchanges.
            let every = Duration::from_secs_f64(100.0 * slice.seconds / slice.requests);
            alone.add(slice);
            let with = Beside::writes(&self.other_orgs, every, &refused);
            writes.add(self.slice(&self.warm, None).await?);
            drop(with);
            let with = Beside::stalled(&self.warm.server.address, &self.warm.calls).await?;
            stalled.add(self.slice(&self.warm, None).await?);
            drop(with);
            let with = Beside::logins(self.other);
            logins.add(self.slice(&self.warm, None).await?);
            drop(with);
        }
        let refused = refused.load(Ordering::Relaxed);
        if refused > 0 {
            progress(format_args!("{refused} changes beside it were refused"));
        }
        let [alone, writes, stalled, logins] = totals.map(Total::measured);
        Ok(Besides { alone, writes, logins, stalled })
    }

    /// Warm exchanges, and what a peer issued right after.
    async fn beside_peer(&self, peer: Option<&Peer>, rounds: usize) -> Result<Vec<(Measured, Issued)>> {
        let mut all = Vec::with_capacity(rounds);
        for peer in peer.into_iter().cycle().take(rounds) {
            all.push((self.measure(&self.warm).await?, peer.measure(self.lasts).await?));
        }
        Ok(all)
    }

    /// Warm and cold exchanges, in turn with those of another deployment whose database has so many more tokens.
    async fn at_scale(&self, cold: &Target<'_>, tokens: usize, rounds: usize) -> Result<Scaled> {
        let deployment = self.deployment.another("large").await?;
        pin(self.cores.map(|cores| cores.server))?;
        let servers = [deployment.serve(&[])?, deployment.serve(&["--cache-size", COLD_CACHE])?];
        pin(self.cores.map(|cores| cores.others))?;
        let tenant = Tenant::make(&deployment, &servers[0]).await?;
        let added = shuffled(tenant.add_tokens(&tenant.accounts, tokens, COLD.min(tokens)).await?);
        let exchanges = exchanges_of(&added);
        let few = [&self.warm, cold];
        let many = [
            Target::new(&servers[0], EXCHANGE, None, exchanges[..WARM.min(tokens)].to_vec())?,
            Target::new(&servers[1], EXCHANGE, None, exchanges)?,
        ];
        many[0].first_pass(WARM).await?;
        many[1].first_pass(WARM).await?;
        let mut scaled = Scaled { tokens, warm: Vec::new(), cold: Vec::new() };
        for _ in 0..rounds {
            scaled.warm.push(self.in_turn([(few[0], None), (&many[0], None)]).await?);
            scaled.cold.push(self.in_turn([(few[1], None), (&many[1], None)]).await?);
        }
        Ok(scaled)
    }

    /// Measures a row in turn with its echo, and with the cryptography of its limit.
    async fn pair(
        &self,
        echo: &Target<'_>,
        target: &Target<'_>,
        crypto: impl Fn() -> Result<f64> + Clone + Send + 'static,
    ) -> Result<Pair> {
        let (mut echoes, mut row, mut all) = (Total::default(), Total::default(), 0.0);
        for _ in 0..SLICES {
            all += self.on_the_servers_core(crypto.clone()).await?;
            echoes.add(self.slice(echo, None).await?);
            row.add(self.slice(target, None).await?);
        }
        Ok(Pair { echo: echoes.measured(), row: row.measured(), crypto: all / f64::from(SLICES) })
    }

    async fn measure(&self, target: &Target<'_>) -> Result<Measured> {
        let [measured] = self.in_turn([(target, None)]).await?;
        Ok(measured)
    }

    /// Measures targets in turn, each at its rate, or as fast as calls are answered.
    async fn in_turn<const N: usize>(
        &self,
        targets: [(&Target<'_>, Option<f64>); N],
    ) -> Result<[Measured; N]> {
        let mut totals: [Total; N] = std::array::from_fn(|_| Total::default());
        for _ in 0..SLICES {
            for (total, (target, rate)) in totals.iter_mut().zip(targets) {
                total.add(self.slice(target, rate).await?);
            }
        }
        Ok(totals.map(Total::measured))
    }

    /// Measures one slice.
    async fn slice(&self, target: &Target<'_>, rate: Option<f64>) -> Result<Total> {
        let meter = || Ok((used(target.server.pid())?, used_below(self.postgres)?));
        let slice = load(&target.server.address, &target.calls, rate, self.lasts / SLICES, meter).await?;
        let Slice { requests, seconds, before, after, latencies } = slice;
        let postgres = after.1.iter().map(|(pid, now)| now - before.1.get(pid).unwrap_or(&0.0)).sum();
        Ok(Total { requests, seconds, cpu: after.0 - before.0, postgres, latencies })
    }

    /// What measures one Ed25519 signature over as many bytes as are signed of a JWT.
    fn signature(&self) -> impl Fn() -> Result<f64> + Clone + Send + 'static {
        let message = vec![b'x'; self.signed];
        move || {
            let pair = Ed25519KeyPair::generate().map_err(|_| anyhow!("no Ed25519 key"))?;
            each(|| {
                std::hint::black_box(pair.sign(std::hint::black_box(&message)));
                Ok(())
            })
        }
    }

    /// The statements of a load that is alone. Measured before any other load: what the servers write after one
    /// would count as well.
    async fn statements(&self) -> Result<f64> {
        // An idle session reports what it did after ten seconds.
        tokio::time::sleep(Duration::from_secs(11)).await;
        let before = transactions(self.db).await?;
        let (_, loads) = self.reads().await?;
        // The statistics of a session are complete once it has ended.
        tokio::time::sleep(Duration::from_millis(200)).await;
        Ok((transactions(self.db).await? - before) / loads)
    }

    /// Measures only the reads of a cold exchange, with the server's own function, one token at a time on each of
    /// a few connections. Returns the CPU time of one, and how many were made.
    async fn reads(&self) -> Result<(f64, f64)> {
        const READERS: u32 = 4;
        let (options, ids, lasts) = (self.deployment.options(), self.token_ids.clone(), self.lasts / 2);
        let master = self.deployment.master_keys()?;
        let read = move || -> Result<(f64, f64)> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let settings = SessionSettings::default();
                let connections = Db::lazy(options, READERS, settings);
                let (next, ceilings) = (AtomicUsize::new(0), Ceilings::default());
                let with = LoadedWith { ceilings: &ceilings, master: &master };
                let read = async |until: Option<Instant>| -> Result<()> {
                    loop {
                        let id = [ids[next.fetch_add(1, Ordering::Relaxed) % ids.len()]];
                        let mut connection = connections.take().await?;
                        let found =
                            db::tokens::principals::find(&mut connection, Engine::Plain, &id, None, with);
                        let found = found.await.map_err(|e| anyhow!("{e:?}"))?;
                        ensure!(matches!(found[..], [Ok(Some(_))]), "one of our tokens was not found");
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
                connections.close().await;
                Ok((each, all as f64))
            })
        };
        self.on_the_servers_core(read).await
    }

    async fn on_the_servers_core<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let core = self.cores.map(|cores| cores.server);
        let thread = std::thread::spawn(move || pin(core).and_then(|()| work()));
        while !thread.is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        thread.join().map_err(|_| anyhow!("a measurement panicked"))?
    }
}

/// No cryptography.
fn nothing() -> Result<f64> {
    Ok(0.0)
}
