//! How soon the server recovers after the database was unavailable: killed, stopped, or unreachable.
//!
//! Fails when it takes longer than 2 s after the database is available again.

mod common;
#[allow(dead_code, unreachable_pub, reason = "the tests also use its other functions")]
#[path = "../tests/it/harness/proxy.rs"]
mod proxy;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use common::{AUDIENCE, Client, Served, Sorted, countersign, only_options, option, progress};
use countersign::crypto::seal::MasterKeys;
use countersign::grpc::pb;
use countersign_embedded_postgres as postgres;
use countersign_os as os;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use proxy::Proxy;

/// The longest that recovery may take.
const LIMIT: Duration = Duration::from_secs(2);
/// How long the database is unavailable, at least.
///
/// Up to a second is added, so that it returns at any time between two attempts to reconnect.
const OUTAGE: Duration = Duration::from_secs(4);
/// The longest wait for recovery.
const GIVE_UP: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug)]
enum How {
    Killed,
    Stopped,
    Unreachable,
}

impl How {
    const ALL: [Self; 3] = [Self::Killed, Self::Stopped, Self::Unreachable];

    fn name(self) -> &'static str {
        match self {
            Self::Killed => "killed and restarted",
            Self::Stopped => "stopped (SIGSTOP) and resumed",
            Self::Unreachable => "unreachable and back",
        }
    }
}

/// A temporary directory, which is removed when this is dropped.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn main() -> Result<()> {
    only_options(&["--times"])?;
    let times = option("--times", 30)?;
    os::forget_pg_environment();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(times))
}

async fn run(times: usize) -> Result<()> {
    let scratch =
        Scratch(std::env::temp_dir().join(format!("countersign-bench-outage-{}", std::process::id())));
    std::fs::create_dir_all(&scratch.0)?;
    let mut rows = Vec::new();
    for how in How::ALL {
        progress(format_args!("{}: {times} times", how.name()));
        let mut bench = Bench::start(&scratch.0.join(format!("{how:?}"))).await?;
        let mut returns = Vec::with_capacity(times);
        for n in 0..times {
            returns.push(bench.once(how, n).await?);
        }
        rows.push((how, returns));
    }
    println!("\n| the database was | times | writes p50 ms | max ms | misses p50 ms | max ms |");
    println!("|---|---|---|---|---|---|");
    let mut late = 0;
    for (how, returns) in &rows {
        let (writes, misses): (Sorted, Sorted) = (
            returns.iter().map(|(write, _)| write.as_secs_f64() * 1e3).collect(),
            returns.iter().map(|(_, miss)| miss.as_secs_f64() * 1e3).collect(),
        );
        late += returns.iter().filter(|(write, miss)| write.max(miss) > &LIMIT).count();
        let (name, count) = (how.name(), returns.len());
        let [a, b, c, d] = [writes.median(), writes.max(), misses.median(), misses.max()];
        println!("| {name} | {count} | {a:.0} | {b:.0} | {c:.0} | {d:.0} |");
    }
    ensure!(late == 0, "{late} times it took longer than {LIMIT:?}");
    Ok(())
}

/// `serve` on its own database, through a proxy that can be cut.
struct Bench {
    postgres: Option<postgres::Server>,
    data_dir: PathBuf,
    proxy: Proxy,
    _served: Served,
    operator: Client,
    org: String,
    account: String,
    warm: String,
}

impl Bench {
    async fn start(data_dir: &Path) -> Result<Self> {
        let postgres = start_postgres(data_dir).await?;
        let proxy = Proxy::to(&postgres).await;
        let key = data_dir.join("master.key");
        std::fs::write(&key, MasterKeys::new_file().as_bytes())?;
        let url = proxy.url("postgres");
        let command = |name: &str| {
            let mut command = countersign(name);
            command.env("COUNTERSIGN_DATABASE_URL", &url).env("COUNTERSIGN_MASTER_KEY_FILE", &key);
            command.env("COUNTERSIGN_ISSUER", common::ISSUER);
            command
        };
        let token = data_dir.join("operator.token");
        let mut bootstrap = command("bootstrap");
        bootstrap.arg("--output").arg(&token);
        for mut step in [command("migrate"), bootstrap] {
            let output = tokio::task::spawn_blocking(move || step.output()).await??;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        let mut serve = command("serve");
        serve.args(["--listen", "127.0.0.1:0", "--log-format", "json", "--log", "off,countersign=info"]);
        // The proxy to the database runs on this runtime, which must not block until the server is ready.
        let served = tokio::task::block_in_place(|| Served::start(&mut serve))?;
        let operator = served.client(std::fs::read_to_string(&token)?.trim()).await?;
        let org = operator.make_org("bench", "customers").await?;
        let account = operator.make_account(&org, "bot", &[]).await?;
        let (_, warm) = operator.make_token(&org, &account).await?;
        let data_dir = data_dir.to_owned();
        Ok(Self { postgres: Some(postgres), data_dir, proxy, _served: served, operator, org, account, warm })
    }

    /// The times from the return to the first write, and to the first exchange of an uncached token.
    async fn once(&mut self, how: How, n: usize) -> Result<(Duration, Duration)> {
        let (_, cold) = self.operator.make_token(&self.org, &self.account).await?;
        exchange(&self.operator, &self.warm).await?;
        match how {
            How::Killed => {
                let postgres = self.postgres.take().context("PostgreSQL is not running")?;
                tokio::task::block_in_place(|| postgres.stop_immediately());
            }
            How::Stopped => self.signal(Signal::SIGSTOP)?,
            How::Unreachable => self.proxy.cut(),
        }
        let phase = u64::from_le_bytes(countersign::clock::random()) % 1_000;
        let outage_began = Instant::now();
        while outage_began.elapsed() < OUTAGE + Duration::from_millis(phase) {
            exchange(&self.operator, &self.warm)
                .await
                .context("a cached token must be exchanged during the outage")?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        match how {
            How::Killed => self.postgres = Some(start_postgres(&self.data_dir).await?),
            How::Stopped => self.signal(Signal::SIGCONT)?,
            How::Unreachable => self.proxy.mend(),
        }
        let back = Instant::now();
        let write = until(back, async |tries| {
            let path = format!("customers/{n}-{tries}");
            let request = pb::CreateResourceRequest { org_id: self.org.clone(), path, ..Default::default() };
            self.operator.orgs().create_resource(request).await.is_ok()
        });
        let miss = until(back, async |_| exchange(&self.operator, &cold).await.is_ok());
        let (write, miss) = tokio::join!(write, miss);
        Ok((write?, miss?))
    }

    /// Sends a signal to all processes of the database.
    fn signal(&self, signal: Signal) -> Result<()> {
        let head = self.postgres.as_ref().context("PostgreSQL is not running")?.pid();
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
            let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
            if parent == Some(&head.to_string())
                && let Some(Ok(child)) = entry.file_name().to_str().map(str::parse)
            {
                let _ = kill(Pid::from_raw(child), signal);
            }
        }
        Ok(kill(Pid::from_raw(head.cast_signed()), signal)?)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // A stopped process would not handle the signal to exit.
        if self.postgres.is_some() {
            let _ = self.signal(Signal::SIGCONT);
        }
    }
}

async fn start_postgres(data_dir: &Path) -> Result<postgres::Server> {
    let data_dir = data_dir.to_owned();
    let start = move || {
        postgres::Server::start(&postgres::Options {
            data_dir: &data_dir,
            durable: true,
            settings: &[],
            progress: &|_| (),
        })
    };
    tokio::task::spawn_blocking(start).await?
}

async fn exchange(node: &Client, token: &str) -> Result<(), tonic::Status> {
    let request = pb::ExchangeTokenRequest {
        subject_token: Some(token.into()),
        audiences: vec![AUDIENCE.into()],
        ..Default::default()
    };
    node.tokens().exchange_token(request).await.map(|_| ())
}

/// Retries until a call succeeds. Returns how long that was after the return.
async fn until(back: Instant, mut ask: impl AsyncFnMut(u32) -> bool) -> Result<Duration> {
    for tries in 0.. {
        if ask(tries).await {
            break;
        }
        ensure!(back.elapsed() < GIVE_UP, "it has not recovered within {GIVE_UP:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(back.elapsed())
}
