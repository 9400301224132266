//! What one tenant's flood costs another: the latency of one tenant's calls without and with it.
//!
//! Fails when a p99 is more than doubled, unless `--report true`.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use common::{Client, Cores, Deployment, Served, Sorted, grant, option, pin, progress};
use countersign::clock::random;
use countersign::domain::values::ids::{GrantId, TokenId};
use countersign::domain::values::token_string::{TokenString, TokenStringKind};
use countersign::grpc::pb;
use tokio::task::JoinSet;
use tonic::metadata::MetadataValue;
use tonic::{Request, Status};

/// The most that a p99 may grow by.
const MAX_GROWTH: f64 = 2.0;
/// The number of calls of a flood at once, and of its connections.
const LANES: usize = 200;
const CONNECTIONS: usize = 4;
/// The grants of the flooding org that it lists.
const LISTED: usize = 100;
const PASSWORD: &str = "correct horse battery staple";
/// Where the measured tenant signs in from. Its first login makes the address known; loopback never is.
const HOME: &str = "203.0.113.7";
/// How long a flood lasts before anything is measured.
const WARMING: Duration = Duration::from_secs(1);
/// The pause between two calls of the tenant that is measured.
const PAUSE: Duration = Duration::from_millis(5);

/// How many of the other calls are made for each login.
const OTHERS: usize = 20;

/// What the measured tenant does.
const CALLS: [&str; 3] = ["GetAccount", "ExchangeToken", "Login"];

/// What the other one does at the same time.
const FLOODS: [&str; 9] = [
    "GrantAccess",
    "SetPassword",
    "junk tokens",
    "ListGrants",
    "ListGrants by JSON",
    "RevokeAccess by id",
    "anonymous Login",
    "Login",
    "WatchRevocations",
];

/// One tenant.
#[derive(Clone)]
struct Tenant {
    client: Client,
    org: String,
    account: String,
    token: String,
    username: String,
}

fn main() -> Result<()> {
    common::only_options(&["--seconds", "--report"])?;
    let seconds = option("--seconds", 10)?;
    let report = option("--report", false)?;
    let cores = Cores::find();
    pin(cores.map(|cores| cores.others))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(Duration::from_secs(seconds), report, cores))
}

async fn run(during: Duration, report: bool, cores: Option<Cores>) -> Result<()> {
    let deployment = Deployment::make().await?;
    pin(cores.map(|cores| cores.server))?;
    let served = deployment.serve(&["--trusted-proxies", "127.0.0.1"])?;
    pin(cores.map(|cores| cores.others))?;
    // It would be on another machine than the database, too.
    countersign_os::go_first();
    let operator = served.client(&deployment.operator).await?;
    let measured = tenant(&operator, &served, "measured").await?;
    let flooding = tenant(&operator, &served, "flooding").await?;
    let mut worst: f64 = 0.0;
    println!("\n| flood | calls of it | call | p50 ms | with | ratio | p99 ms | with | ratio |");
    println!("|---|---|---|---|---|---|---|---|---|");
    for flood in FLOODS {
        // The server opens the connections to the database that it needs.
        let warming = Flood::begin(&served.address, &flooding, flood);
        tokio::time::sleep(WARMING).await;
        warming.end()?;
        let calm = measure(&measured, during).await;
        let pouring = Flood::begin(&served.address, &flooding, flood);
        let flooded = measure(&measured, during).await;
        let made = pouring.end()?;
        for (i, name) in CALLS.iter().enumerate() {
            let [p50, p99] = [0.5, 0.99].map(|share| {
                let (before, after) = (calm[i].quantile(share), flooded[i].quantile(share));
                (format!("{before:.2} | {after:.2} | {:.2}", after / before), after / before)
            });
            worst = worst.max(p99.1);
            println!("| {flood} | {made} | {name} | {} | {} |", p50.0, p99.0);
        }
    }
    ensure!(report || worst <= MAX_GROWTH, "a p99 grew {worst:.2} times");
    Ok(())
}

/// A flood that goes on.
struct Flood {
    made: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Flood {
    /// On a thread that gives way: its clients would be on other machines.
    fn begin(address: &str, tenant: &Tenant, flood: &'static str) -> Self {
        let (made, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (address, tenant) = (address.to_owned(), tenant.clone());
        let (counted, stopped) = (made.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            countersign_os::give_way(countersign_os::GiveWay::Most);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(pour(&address, &tenant, flood, &counted, &stopped))
        });
        Self { made, stop, thread }
    }

    /// Ends it, and returns how many calls it made.
    fn end(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the flood panicked"))??;
        Ok(self.made.load(Ordering::Relaxed))
    }
}

/// Calls without a pause, over a few connections, until it is to stop.
async fn pour(
    address: &str,
    tenant: &Tenant,
    flood: &'static str,
    made: &Arc<AtomicU64>,
    stop: &Arc<AtomicBool>,
) -> Result<()> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(Client::connect(address, &tenant.token).await?);
    }
    let mut lanes = JoinSet::new();
    for lane in 0..LANES {
        let client = connections[lane % CONNECTIONS].clone();
        let (tenant, made, stop) = (tenant.clone(), made.clone(), stop.clone());
        lanes.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                // Most are refused or wait: that is what is measured.
                call(&client, &tenant, flood, lane).await;
                made.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
    }
    lanes.join_all().await;
    Ok(())
}

async fn tenant(operator: &Client, served: &Served, slug: &str) -> Result<Tenant> {
    progress(format_args!("creating the org {slug}"));
    let org = operator.make_org(slug, "customers/acme").await?;
    let username = format!("bot@{slug}");
    let request = pb::CreateServiceAccountRequest {
        org_id: org.clone(),
        name: "bot".into(),
        username: username.clone(),
        password: PASSWORD.into(),
        grants: vec![
            grant("accounts.write", "*"),
            grant("accounts.read", "*"),
            grant("flood.read", "*"),
            grant("tokens.introspect", "*"),
        ],
        ..Default::default()
    };
    let created = operator.accounts().create_service_account(request).await?.into_inner();
    let account = created.account.context("no account")?.id;
    for n in 0..LISTED {
        give(operator, &org, &account, &format!("listed{n}.read")).await?;
    }
    let (_, token) = operator.make_token(&org, &account).await?;
    let client = served.client(&token).await?;
    let tenant = Tenant { client, org, account, token, username };
    // Its address is known from then on.
    login(&tenant.client, &tenant).await?;
    Ok(tenant)
}

async fn give(client: &Client, org: &str, account: &str, permission: &str) -> Result<()> {
    let request = pb::GrantAccessRequest {
        org_id: org.into(),
        account_id: account.into(),
        grants: vec![grant(permission, "*")],
    };
    client.accounts().grant_access(request).await?;
    Ok(())
}

/// The account signs in from its own address.
async fn login(client: &Client, tenant: &Tenant) -> Result<(), Status> {
    let mut request = Request::new(pb::LoginRequest {
        username: tenant.username.clone(),
        password: PASSWORD.into(),
        ..Default::default()
    });
    request.metadata_mut().insert("x-forwarded-for", MetadataValue::from_static(HOME));
    client.tokens().login(request).await.map(drop)
}

/// One call of the flood, whatever comes of it.
async fn call(client: &Client, tenant: &Tenant, flood: &str, lane: usize) {
    let account_id = tenant.account.clone();
    match flood {
        "GrantAccess" => drop(give(client, &tenant.org, &account_id, "flood.read").await),
        "SetPassword" => {
            let password = format!("{PASSWORD} {lane}");
            let request = pb::SetPasswordRequest { account_id, password, ..Default::default() };
            drop(client.accounts().set_password(request).await);
        }
        "junk tokens" => {
            let id = TokenId::from_u128(u128::from_be_bytes(random()));
            let junk = TokenString::new(TokenStringKind::SecretToken, id, random());
            let request =
                pb::ExchangeTokenRequest { subject_token: Some(junk.expose().into()), ..Default::default() };
            drop(client.tokens().exchange_token(request).await);
        }
        "ListGrants by JSON" => {
            let message = format!("{{\"accountId\": \"{account_id}\", \"pageSize\": 1000}}");
            drop(client.json("/countersign.v1.AccountService/ListGrants", message).await);
        }
        // One that is not there is looked up before the call is refused.
        "RevokeAccess by id" => {
            let grant_id = GrantId::from_u128(1).to_string();
            let grants = vec![pb::Grant { grant_id, ..Default::default() }];
            let request = pb::RevokeAccessRequest { account_id, grants, ..Default::default() };
            drop(client.accounts().revoke_access(request).await);
        }
        // With the right password, from an address that is known.
        "Login" => drop(login(client, tenant).await),
        // From one address that is not known; each names another account.
        "anonymous Login" => {
            let name = u128::from_be_bytes(random());
            let username = format!("{name:x}@nowhere.example");
            let request = pb::LoginRequest { username, password: PASSWORD.into(), ..Default::default() };
            drop(client.tokens().login(request).await);
        }
        // Each reads what is in force, and is given up.
        "WatchRevocations" => {
            let opened = client.tokens().watch_revocations(pb::WatchRevocationsRequest::default()).await;
            if let Ok(stream) = opened {
                drop(stream.into_inner().message().await);
            }
        }
        _ => {
            let filter = Some(pb::list_grants_request::Filter::AccountId(account_id));
            let request = pb::ListGrantsRequest { filter, page_size: 1_000, ..Default::default() };
            drop(client.accounts().list_grants(request).await);
        }
    }
}

/// The times of each call of the measured tenant, in milliseconds.
async fn measure(tenant: &Tenant, during: Duration) -> [Sorted; 3] {
    let began = Instant::now();
    let mut took = CALLS.map(|_| Vec::new());
    for turn in 0_usize.. {
        if began.elapsed() >= during {
            break;
        }
        for (name, took) in CALLS.iter().zip(&mut took) {
            // A login takes as long as many of the others, whose p99 would be that of a few.
            if *name == "Login" && turn % OTHERS != 0 {
                continue;
            }
            let began = Instant::now();
            let outcome = match *name {
                "GetAccount" => {
                    let request =
                        pb::GetAccountRequest { account_id: tenant.account.clone(), ..Default::default() };
                    tenant.client.accounts().get_account(request).await.map(drop)
                }
                "ExchangeToken" => {
                    let request = pb::ExchangeTokenRequest {
                        subject_token: Some(tenant.token.clone()),
                        ..Default::default()
                    };
                    tenant.client.tokens().exchange_token(request).await.map(drop)
                }
                _ => login(&tenant.client, tenant).await,
            };
            // A refusal counts as a call that never ends.
            let millis = began.elapsed().as_secs_f64() * 1e3;
            took.push(if outcome.is_ok() { millis } else { f64::INFINITY });
        }
        tokio::time::sleep(PAUSE).await;
    }
    took.map(|took| took.into_iter().collect())
}
