//! `countersign dev` is killed at any moment; no data is lost and no process left behind.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign::clock::random;
use countersign::grpc::pb;
use nix::sys::signal::Signal;
use tonic::transport::{Channel, Endpoint};

use crate::harness::{
    Client, PATIENCE, Running, Scratch, countersign, search_too, token_for, variables, watch,
};

/// A `countersign dev` that is never asked to exit. Dropping it kills it, as `kill -9` does.
struct Dev {
    running: Running,
    log: PathBuf,
    stdout: BufReader<ChildStdout>,
}

impl Dev {
    fn spawn(data_dir: &Path) -> Self {
        let log = data_dir.with_extension("log");
        let mut command = countersign();
        command.args(["dev", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data_dir);
        command.stdout(Stdio::piped()).stderr(File::create(&log).unwrap());
        let mut running = Running::new(&mut command);
        let stdout = BufReader::new(running.0.stdout.take().unwrap());
        Self { running, log, stdout }
    }

    /// Waits until it serves.
    #[track_caller]
    fn ready(&mut self) {
        let mut lines = self.stdout.by_ref().lines().map_while(Result::ok);
        if !lines.any(|line| line.starts_with("Serving")) {
            panic!("it does not start: {}", self.said());
        }
    }

    /// What it wrote to its log and of its progress.
    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until its work has got that far.
    async fn reaches(&mut self, far: impl Fn(&Self) -> bool) {
        while !far(self) {
            assert_eq!(self.running.0.try_wait().unwrap(), None, "it ended by itself: {}", self.said());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.running.0.kill();
        let _ = self.running.0.wait();
        search_too(self.said().as_bytes());
    }
}

/// What the API acknowledged.
#[derive(Default)]
struct Acknowledged {
    accounts: Vec<String>,
    tokens: Vec<String>,
}

struct Connection {
    channel: Channel,
    operator: Client,
    org_id: String,
}

impl Connection {
    async fn open(data_dir: &Path) -> Self {
        let variables = variables(data_dir);
        let endpoint = variables["COUNTERSIGN_ENDPOINT"].clone();
        let channel = Endpoint::from_shared(endpoint).unwrap().connect().await.unwrap();
        let operator = variables["COUNTERSIGN_OPERATOR_TOKEN"].clone();
        Self {
            operator: Client { channel: channel.clone(), bearer: Some(operator) },
            channel,
            org_id: variables["COUNTERSIGN_ORG_ID"].clone(),
        }
    }

    /// Creates accounts, each with a token, until the server is gone.
    async fn write(self: Arc<Self>, prefix: String, acknowledged: Arc<Mutex<Acknowledged>>) {
        for number in 0.. {
            let request = pb::CreateServiceAccountRequest {
                org_id: self.org_id.clone(),
                name: format!("{prefix}-{number}"),
                ..Default::default()
            };
            let Ok(made) = self.operator.accounts().create_service_account(request).await else { return };
            let account = made.into_inner().account.unwrap();
            acknowledged.lock().unwrap().accounts.push(account.name);
            let request = token_for(&self.org_id, &account.id);
            let Ok(made) = self.operator.tokens().create_token(request).await else { return };
            let secret = made.into_inner().secret;
            watch(&secret);
            acknowledged.lock().unwrap().tokens.push(secret);
        }
    }

    async fn has(&self, acknowledged: &Acknowledged) {
        let mut names = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = pb::ListAccountsRequest {
                org_id: self.org_id.clone(),
                page_size: 200,
                page_token,
                ..Default::default()
            };
            let page = self.operator.accounts().list_accounts(request).await.unwrap().into_inner();
            names.extend(page.accounts.into_iter().map(|account| account.name));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        for name in &acknowledged.accounts {
            assert!(names.contains(name), "the account {name} is lost");
        }
        for token in &acknowledged.tokens {
            let client = Client { channel: self.channel.clone(), bearer: Some(token.clone()) };
            client.exchange().await.expect("a token is lost");
        }
    }
}

/// The processes that work in the directory, or have its name among their arguments.
#[cfg(target_os = "linux")]
fn processes_of(data_dir: &Path) -> Vec<String> {
    let name = data_dir.to_str().unwrap();
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path()) {
        let told = fs::read(process.join("cmdline")).unwrap_or_default();
        let told = String::from_utf8_lossy(&told).replace('\0', " ");
        let works_there = fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(data_dir));
        if works_there || told.contains(name) {
            found.push(format!("{} {told}", process.display()));
        }
    }
    found
}

/// Only Linux shows them as files; elsewhere `dev` would not start on the files of a running server.
#[cfg(not(target_os = "linux"))]
fn processes_of(_: &Path) -> Vec<String> {
    Vec::new()
}

// The connections of this process are served while it waits for the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dev_survives_being_killed_at_any_moment() {
    let seed = std::env::var("CRASH_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from_be_bytes(random()));
    eprintln!("CRASH_SEED={seed} takes the same moments again");
    let mut state = seed;
    // splitmix64
    let mut moment = |within: u64| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let after = Duration::from_millis((mixed ^ (mixed >> 31)) % within);
        eprintln!("killed after {after:?}");
        after
    };
    let scratch = Scratch::new("crash");

    // In its first start: before the database is created, meanwhile, and in the tour. Each time it gets
    // further than the time before.
    let data_dir = scratch.path("data");
    let mut told = None;
    for (part, millis) in [("begin", 100), ("initdb", 600), ("tour", 400)] {
        let mut dev = Dev::spawn(&data_dir);
        dev.reaches(|dev| match part {
            "begin" => true,
            "initdb" => dev.said().contains("making a new PostgreSQL"),
            _ => data_dir.join("master.key").exists(),
        })
        .await;
        tokio::time::sleep(moment(millis)).await;
        drop(dev);
        told = data_dir.join("dev.env").exists().then(|| variables(&data_dir));
    }

    // At work, each time on what the last one left.
    let acknowledged = Arc::new(Mutex::new(Acknowledged::default()));
    for round in 0..3 {
        let mut dev = Dev::spawn(&data_dir);
        dev.ready();
        // The tokens that a run gave its user work in the next one.
        for (name, value) in told.take().into_iter().flatten() {
            assert!(name == "COUNTERSIGN_ENDPOINT" || variables(&data_dir)[&name] == value, "{name}");
        }
        let connection = Arc::new(Connection::open(&data_dir).await);
        let so_far = std::mem::take(&mut *acknowledged.lock().unwrap());
        connection.has(&so_far).await;
        let writers: Vec<_> = (0..3)
            .map(|writer| format!("crash-{round}-{writer}"))
            .map(|prefix| tokio::spawn(connection.clone().write(prefix, acknowledged.clone())))
            .collect();
        tokio::time::sleep(moment(600)).await;
        drop(dev);
        for writer in writers {
            writer.await.unwrap();
        }
        let mut all = acknowledged.lock().unwrap();
        all.accounts.extend(so_far.accounts);
        all.tokens.extend(so_far.tokens);
    }
    // The server goes without a further start.
    let gone = async {
        while !processes_of(&data_dir).is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("PostgreSQL outlives its parent");

    let mut last = Dev::spawn(&data_dir);
    last.ready();
    let acknowledged = std::mem::take(&mut *acknowledged.lock().unwrap());
    eprintln!("{} accounts, {} tokens", acknowledged.accounts.len(), acknowledged.tokens.len());
    Connection::open(&data_dir).await.has(&acknowledged).await;
    last.running.signal(Signal::SIGINT);
    assert!(last.running.0.wait().unwrap().success());
    assert_eq!(processes_of(&scratch.path("")), [""; 0]);
}
