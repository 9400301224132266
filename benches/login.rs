//! How long failed logins take, by reason, and how a flood of logins affects exchanges and memory.
//!
//! Fails when two of the medians are more than 5 % apart, because the time must not reveal the reason.

mod common;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use common::{Client, Cores, Deployment, Served, Sorted, option, pin, progress};
use countersign::grpc::pb;
use tokio::task::JoinSet;
use tonic::Request;
use tonic_types::StatusExt as _;

/// The largest difference of the medians.
const MAX_DIFFERENCE: f64 = 0.05;
const PASSWORD: &str = "correct horse battery staple";
const WRONG: &str = "correct horse battery stable";
/// The number of clients that sign in at once.
const FLOOD: usize = 64;
/// The number of guesses, and of the addresses that they come from.
const GUESSES: usize = 1_000;
const ADDRESSES: usize = 50;
/// The memory of password hashes according to `--help`, in KiB.
const BUDGET: u64 = 128 << 10;
/// The most memory above that, for the connections of the flood.
const SLACK: u64 = 32 << 10;

/// Why a login fails.
const CASES: [&str; 4] = ["unknown", "wrong", "no-login", "deactivated"];

fn main() -> Result<()> {
    common::only_options(&["--times", "--seconds"])?;
    let (times, seconds) = (option("--times", 400)?, option("--seconds", 10)?);
    // If there are two cores, the server has one of them for itself.
    let cores = Cores::find();
    pin(cores.map(|cores| cores.others))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(times, Duration::from_secs(seconds), cores))
}

async fn run(times: usize, flood: Duration, cores: Option<Cores>) -> Result<()> {
    let deployment = Deployment::make().await?;
    pin(cores.map(|cores| cores.server))?;
    let served = deployment.serve(&["--trusted-proxies", "127.0.0.1"])?;
    pin(cores.map(|cores| cores.others))?;
    let operator = served.client(&deployment.operator).await?;
    let org = operator.make_org("bench", "customers/acme").await?;
    // One account for each attempt, because an account is throttled after five failures.
    progress(format_args!("creating {} accounts", 3 * times));
    for n in 0..times {
        for case in &CASES[1..] {
            make(&operator, &org, case, n).await?;
        }
    }
    progress(format_args!("{times} failed logins of each kind, in turn"));
    let mut took = CASES.map(|_| Vec::with_capacity(times));
    // The first attempts include the cost of connections.
    for n in 0..times {
        for (case, took) in CASES.iter().zip(&mut took) {
            let began = Instant::now();
            fail(&operator, &username(case, n), &address(n)).await?;
            took.push(began.elapsed().as_secs_f64() * 1e3);
        }
    }
    let medians = report(took)?;
    under_load(&served, &operator, &org, flood).await?;
    let (least, most) =
        medians.iter().fold((f64::MAX, 0.0_f64), |(least, most), m| (least.min(*m), most.max(*m)));
    ensure!(
        most / least <= 1.0 + MAX_DIFFERENCE,
        "the medians are {:.1} % apart",
        (most / least - 1.0) * 100.0
    );
    Ok(())
}

fn username(case: &str, n: usize) -> String {
    format!("{case}-{n}@bench")
}

/// Another address for each attempt, of a network that is reserved for documentation.
fn address(n: usize) -> String {
    format!("2001:db8:{:x}:{:x}::1", n >> 16, n & 0xffff)
}

async fn make(operator: &Client, org: &str, case: &str, n: usize) -> Result<()> {
    let request = pb::CreateServiceAccountRequest {
        org_id: org.into(),
        name: format!("{case}-{n}"),
        username: username(case, n),
        password: if case == "no-login" { String::new() } else { PASSWORD.into() },
        deactivated: case == "deactivated",
        ..Default::default()
    };
    operator.accounts().create_service_account(request).await?;
    Ok(())
}

async fn login(
    client: &Client,
    username: &str,
    password: &str,
    from: &str,
) -> Result<pb::LoginResponse, String> {
    let request =
        pb::LoginRequest { username: username.into(), password: password.into(), ..Default::default() };
    let mut request = Request::new(request);
    request.metadata_mut().insert("x-forwarded-for", from.parse().expect("an address is ASCII"));
    match client.tokens().login(request).await {
        Ok(answer) => Ok(answer.into_inner()),
        Err(status) => {
            Err(status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default())
        }
    }
}

async fn fail(client: &Client, username: &str, from: &str) -> Result<()> {
    // The right password for a deactivated account, a wrong one for all others.
    let password = if username.starts_with("deactivated") { PASSWORD } else { WRONG };
    match login(client, username, password, from).await {
        Err(reason) if reason == "LOGIN_FAILED" => Ok(()),
        other => anyhow::bail!("{username}: {:?} instead of LOGIN_FAILED", other.map(drop)),
    }
}

fn report(took: [Vec<f64>; 4]) -> Result<[f64; 4]> {
    let took = took.map(|took| took.into_iter().collect::<Sorted>());
    let medians = [0, 1, 2, 3].map(|i| took[i].median());
    println!("\n| a login that fails | median ms | p90 ms | to unknown |\n|---|---|---|---|");
    for (i, case) in CASES.iter().enumerate() {
        let (median, p90) = (medians[i], took[i].quantile(0.9));
        println!("| {case} | {median:.2} | {p90:.2} | {:.3} |", median / medians[0]);
    }
    Ok(medians)
}

/// Measures exchanges without other load, during more logins than fit, and during guesses.
async fn under_load(served: &Served, operator: &Client, org: &str, during: Duration) -> Result<()> {
    let account = operator.make_account(org, "exchanging", &[("invoices.read", "*")]).await?;
    let (_, token) = operator.make_token(org, &account).await?;
    // One account for each client, because an attempt counts as failed until it has succeeded.
    for lane in 0..FLOOD {
        make(operator, org, "flooding", lane).await?;
    }
    for n in 0..GUESSES {
        make(operator, org, "guessed", n).await?;
    }
    let before = served.resident_kb()?;
    let client = served.client(&token).await?;
    let unloaded = exchanges(&client, &token, during).await?;
    println!("\n| exchanges, one after the other | p50 ms | p99 ms | logins | shed | throttled |");
    println!("|---|---|---|---|---|---|");
    let row = |name: &str, took: &Sorted, count: Count| {
        let (p50, p99) = (took.quantile(0.5), took.quantile(0.99));
        println!(
            "| {name} | {p50:.2} | {p99:.2} | {} | {} | {} |",
            count.compared, count.shed, count.throttled
        );
    };
    row("no other load", &unloaded, Count::default());
    let others = served.client(&token).await?;
    for kind in [Flood::Right, Flood::OneAccount, Flood::ManyAccounts] {
        let flood = kind.begin(&others, during);
        let beside = exchanges(&client, &token, during).await?;
        let count = Count::of(flood).await?;
        row(kind.name(), &beside, count);
        ensure!(kind == Flood::OneAccount || count.shed > 0, "no login was shed: the flood was too small");
        ensure!(kind != Flood::OneAccount || count.throttled > 0, "no login was throttled");
    }
    let peak = peak_kb(served.pid())?;
    println!("\nmemory: {} MB before, {} MB at most", before >> 10, peak >> 10);
    ensure!(peak < before + BUDGET + SLACK, "the memory exceeds its budget");
    Ok(())
}

/// The load during the exchanges.
#[derive(Clone, Copy, PartialEq)]
enum Flood {
    /// Right passwords, from more clients than fit, as long as the exchanges run.
    Right,
    /// A thousand guesses from 50 addresses at one account.
    OneAccount,
    /// A thousand guesses from 50 addresses, each at another account.
    ManyAccounts,
}

#[derive(Clone, Copy, Default)]
struct Count {
    compared: u32,
    shed: u32,
    throttled: u32,
}

impl Count {
    async fn of(mut flood: JoinSet<Result<Self>>) -> Result<Self> {
        let mut all = Self::default();
        while let Some(lane) = flood.join_next().await {
            let lane = lane??;
            all.compared += lane.compared;
            all.shed += lane.shed;
            all.throttled += lane.throttled;
        }
        Ok(all)
    }
}

impl Flood {
    fn name(self) -> &'static str {
        match self {
            Self::Right => "during logins of 64 clients",
            Self::OneAccount => "during 1 000 guesses at one account",
            Self::ManyAccounts => "during 1 000 guesses at 1 000 accounts",
        }
    }

    fn begin(self, client: &Client, during: Duration) -> JoinSet<Result<Count>> {
        let lanes = if self == Self::Right { FLOOD } else { ADDRESSES };
        (0..lanes).map(|lane| self.lane(client.clone(), lane, during)).collect()
    }

    async fn lane(self, client: Client, lane: usize, during: Duration) -> Result<Count> {
        let (mut count, began, mut n) = (Count::default(), Instant::now(), 0);
        // Other addresses than those that earlier floods were counted for.
        let from = address(0x1_0000 * (1 + self as usize) + lane);
        loop {
            let (name, password) = match self {
                Self::Right if began.elapsed() > during => return Ok(count),
                Self::Right => (username("flooding", lane), PASSWORD),
                _ if n == GUESSES / ADDRESSES => return Ok(count),
                Self::OneAccount => (username("guessed", 0), WRONG),
                Self::ManyAccounts => (username("guessed", n * ADDRESSES + lane), WRONG),
            };
            match login(&client, &name, password, &from).await {
                Err(reason) if reason == "OVERLOADED" => {
                    count.shed += 1;
                    // The error asks to retry after a second; these clients retry sooner, but not all at once.
                    tokio::time::sleep(Duration::from_millis(70 + lane as u64)).await;
                    continue;
                }
                Err(reason) if reason == "THROTTLED" => count.throttled += 1,
                Ok(_) if self == Self::Right => count.compared += 1,
                Err(reason) if self != Self::Right && reason == "LOGIN_FAILED" => count.compared += 1,
                other => anyhow::bail!("a login of the flood: {:?}", other.map(drop)),
            }
            n += 1;
        }
    }
}

async fn exchanges(client: &Client, token: &str, during: Duration) -> Result<Sorted> {
    let mut took = Vec::new();
    let began = Instant::now();
    while began.elapsed() < during {
        let request = pb::ExchangeTokenRequest { subject_token: Some(token.into()), ..Default::default() };
        let sent = Instant::now();
        client.tokens().exchange_token(request).await?;
        took.push(sent.elapsed().as_secs_f64() * 1e3);
    }
    Ok(took.into_iter().collect())
}

/// The peak resident memory of the process, in KB.
fn peak_kb(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.split_whitespace().next().context("no figure")?.parse()?)
}
