//! How long a login takes that fails, for each reason that it may have: the medians must not
//! tell one from another. And what a flood of logins does to exchanges and to memory.
//! Fails when two medians are more than 5 % apart.

mod common;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use common::{Client, Deployment, Served, Sorted, option, progress};
use countersign::grpc::pb;
use tokio::task::JoinSet;
use tonic::{Code, Request};

/// How far the medians may be apart.
const APART: f64 = 0.05;
const PASSWORD: &str = "correct horse battery staple";
const WRONG: &str = "correct horse battery stable";
/// Logins under way at once in the flood.
const FLOOD: usize = 64;
/// What is said of the memory in `--help`, in KiB.
const BUDGET: u64 = 128 << 10;
/// How far a process may be above that: what the connections of the flood take.
const SLACK: u64 = 32 << 10;

/// Why a login fails.
const CASES: [&str; 4] = ["unknown", "wrong", "no-login", "deactivated"];

fn main() -> Result<()> {
    common::only_options(&["--times", "--seconds"])?;
    let (times, seconds) = (option("--times", 400)?, option("--seconds", 10)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(times, Duration::from_secs(seconds)))
}

async fn run(times: usize, flood: Duration) -> Result<()> {
    let deployment = Deployment::make().await?;
    let served = deployment.serve(&["--trusted-proxies", "127.0.0.1"])?;
    let operator = served.client(&deployment.operator).await?;
    let org = operator.make_org("bench", "customers/acme").await?;
    // An account for each attempt: one that fails five times has to wait.
    progress(format_args!("makes {} accounts", 3 * times));
    for n in 0..times {
        for case in &CASES[1..] {
            make(&operator, &org, case, n).await?;
        }
    }
    progress(format_args!("{times} failed logins of each kind, in turn"));
    let mut took = CASES.map(|_| Vec::with_capacity(times));
    // The first ones pay for connections.
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
    ensure!(most / least <= 1.0 + APART, "the medians are {:.1} % apart", (most / least - 1.0) * 100.0);
    Ok(())
}

fn username(case: &str, n: usize) -> String {
    format!("{case}-{n}@bench")
}

/// Another address for each attempt, of a network that nobody has.
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
) -> Result<pb::LoginResponse, Code> {
    let request =
        pb::LoginRequest { username: username.into(), password: password.into(), ..Default::default() };
    let mut request = Request::new(request);
    request.metadata_mut().insert("x-forwarded-for", from.parse().expect("an address is ASCII"));
    match client.tokens().login(request).await {
        Ok(answer) => Ok(answer.into_inner()),
        Err(status) => Err(status.code()),
    }
}

async fn fail(client: &Client, username: &str, from: &str) -> Result<()> {
    // The right password of who is deactivated, a wrong one of all others.
    let password = if username.starts_with("deactivated") { PASSWORD } else { WRONG };
    match login(client, username, password, from).await {
        Err(Code::Unauthenticated) => Ok(()),
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

/// Exchanges alone, and beside more logins than have room.
async fn under_load(served: &Served, operator: &Client, org: &str, flood: Duration) -> Result<()> {
    let account = operator.make_account(org, "exchanging", &[("invoices.read", "*")]).await?;
    let (_, token) = operator.make_token(org, &account).await?;
    // One for each client: what is under way counts as failed until it has succeeded.
    for lane in 0..FLOOD {
        make(operator, org, "flooding", lane).await?;
    }
    let before = served.resident_kb()?;
    let alone = exchanges(operator, &token, flood).await?;
    let mut logins = JoinSet::new();
    for lane in 0..FLOOD {
        let client = operator.clone();
        logins.spawn(async move {
            let (mut done, mut shed) = (0_u32, 0_u32);
            let began = Instant::now();
            while began.elapsed() < flood {
                match login(&client, &username("flooding", lane), PASSWORD, &address(lane)).await {
                    Ok(_) => done += 1,
                    Err(Code::ResourceExhausted) => {
                        shed += 1;
                        // A client that is told to come back in a second comes a little sooner.
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    Err(code) => anyhow::bail!("a login of the flood: {code:?}"),
                }
            }
            Ok((done, shed))
        });
    }
    let beside = exchanges(operator, &token, flood).await?;
    let (mut done, mut shed) = (0, 0);
    while let Some(lane) = logins.join_next().await {
        let (some, more) = lane??;
        (done, shed) = (done + some, shed + more);
    }
    let peak = peak_kb(served.pid())?;
    println!("\n| exchanges, one after the other | p50 ms | p99 ms |\n|---|---|---|");
    for (name, took) in [("alone", &alone), ("beside the flood", &beside)] {
        println!("| {name} | {:.2} | {:.2} |", took.quantile(0.5), took.quantile(0.99));
    }
    println!(
        "\n{FLOOD} clients: {done} logins in {flood:?}, {shed} shed; memory {} MB before, {} MB at most",
        before >> 10,
        peak >> 10
    );
    ensure!(shed > 0, "nothing was shed: the flood was none");
    ensure!(peak < before + BUDGET + SLACK, "the memory exceeds its budget");
    Ok(())
}

async fn exchanges(client: &Client, token: &str, during: Duration) -> Result<Sorted> {
    let mut took = Vec::new();
    let began = Instant::now();
    while began.elapsed() < during {
        let request = pb::ExchangeTokenRequest { subject_token: token.into(), ..Default::default() };
        let sent = Instant::now();
        client.tokens().exchange_token(request).await?;
        took.push(sent.elapsed().as_secs_f64() * 1e3);
    }
    Ok(took.into_iter().collect())
}

/// The most that the process has had in memory.
fn peak_kb(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.split_whitespace().next().context("no figure")?.parse()?)
}
