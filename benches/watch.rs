//! Verifiers that watch revocations on one node, some of them stalled, while it exchanges tokens: how long it takes from
//! the answer to a revocation until each verifier that reads has heard it.
//!
//! Fails when the p99 is above 100 ms with notifications, or above 2 s without.

mod common;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use common::{AUDIENCE, Client, Deployment, Served, Sorted, option, progress};
use countersign::grpc::pb;
use pb::revocation::Subject;
use pb::watch_revocations_response::Item;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::Streaming;

/// The limits of the p99.
const WOKEN: Duration = Duration::from_millis(100);
const POLLING: Duration = Duration::from_secs(2);
/// The most streams of a credential, and of an org.
const OF_CREDENTIAL: usize = 20;
const OF_ORG: usize = 100;
/// How many streams share a connection.
const OF_CONNECTION: usize = 50;
/// One of so many is stalled.
const STALLED: usize = 100;
/// How many exchanges run at once.
const EXCHANGING: usize = 8;
/// The longest wait for what a verifier has not heard.
const GIVE_UP: Duration = Duration::from_secs(30);

fn main() -> Result<()> {
    common::only_options(&["--changes", "--watchers"])?;
    let (changes, watchers) = (option("--changes", 1_000)?, option("--watchers", 500)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(changes, watchers))
}

async fn run(changes: usize, watchers: usize) -> Result<()> {
    let deployment = Deployment::make().await?;
    let mut rows = Vec::new();
    for (listens, how, limit) in [("true", "with notifications", WOKEN), ("false", "without", POLLING)] {
        progress(format_args!("{how}: {changes} changes, {watchers} watchers"));
        let served = deployment.serve(&["--feed-listen", listens, "--max-concurrent-requests", "4096"])?;
        let outcome = measure(&deployment, &served, listens, changes, watchers).await?;
        rows.push((how, limit, outcome));
    }
    println!(
        "\n| | heard | p50 ms | p99 ms | max ms | exchanges/s | memory before, with watchers, after (MB) |"
    );
    println!("|---|---|---|---|---|---|---|");
    let mut late = Vec::new();
    for (how, limit, outcome) in &rows {
        let [before, watching, after] = outcome.memory.map(|kb| kb / 1_024);
        let p99 = outcome.heard.quantile(0.99);
        println!(
            "| {how} | {} | {:.1} | {p99:.1} | {:.1} | {:.0} | {before}, {watching}, {after} |",
            outcome.heard.len(),
            outcome.heard.median(),
            outcome.heard.max(),
            outcome.exchanges,
        );
        if p99 > limit.as_secs_f64() * 1e3 {
            late.push(format!("{how}: {p99:.1} ms is above {limit:?}"));
        }
    }
    ensure!(late.is_empty(), "{}", late.join("; "));
    Ok(())
}

struct Outcome {
    /// From the answer to a change to each verifier, in milliseconds.
    heard: Sorted,
    /// In a second.
    exchanges: f64,
    memory: [u64; 3],
}

/// What a verifier has heard, and when.
type Heard = (String, Instant);

async fn measure(
    deployment: &Deployment,
    served: &Served,
    name: &str,
    changes: usize,
    watchers: usize,
) -> Result<Outcome> {
    let operator = served.client(&deployment.operator).await?;
    let mut orgs = Vec::new();
    for n in 0..watchers.div_ceil(OF_ORG) {
        let org = operator.make_org(&format!("bench-{name}-{n}"), "customers/acme").await?;
        let bot = operator.make_account(&org, "bot", &[("invoices.read", "*")]).await?;
        orgs.push((org, bot));
    }
    let before = served.resident_kb()?;
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let mut readers = JoinSet::new();
    let mut stalled = Vec::new();
    // Verifiers of each org that read.
    let mut reading: HashMap<&str, usize> = HashMap::new();
    let mut connection = operator.clone();
    let mut credential = String::new();
    for n in 0..watchers {
        let (org, _) = &orgs[n / OF_ORG];
        if n % OF_CONNECTION == 0 {
            connection = served.client(&deployment.operator).await?;
        }
        if n % OF_CREDENTIAL == 0 {
            let grants = [("tokens.introspect", "*")];
            let account = operator.make_account(org, &format!("watcher-{n}"), &grants).await?;
            credential = operator.make_token(org, &account).await?.1;
        }
        // A stalled one has a connection of its own: else it would stall others.
        let is_stalled = n % STALLED == STALLED - 1;
        let client =
            if is_stalled { served.client(&credential).await? } else { connection.with(&credential)? };
        let mut items = client.tokens().watch_revocations(pb::WatchRevocationsRequest::default()).await?;
        until_checkpoint(items.get_mut()).await?;
        if is_stalled {
            stalled.push(items.into_inner());
        } else {
            *reading.entry(org).or_default() += 1;
            readers.spawn(read(items.into_inner(), sender.clone()));
        }
    }
    let watching = served.resident_kb()?;

    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut exchanging = JoinSet::new();
    let (org, bot) = &orgs[0];
    let (_, subject) = operator.make_token(org, bot).await?;
    for _ in 0..EXCHANGING {
        let client = served.client(&subject).await?;
        exchanging.spawn(exchange(client, stop.clone(), count.clone()));
    }
    let began = Instant::now();
    let (mut answered, mut expected) = (HashMap::new(), 0);
    for n in 0..changes {
        let (org, bot) = &orgs[n % orgs.len()];
        let (id, _) = operator.make_token(org, bot).await?;
        let request = pb::RevokeTokenRequest {
            org_id: org.clone(),
            target: Some(pb::revoke_token_request::Target::TokenId(id.clone())),
            ..Default::default()
        };
        operator.tokens().revoke_token(request).await?;
        answered.insert(id, Instant::now());
        expected += reading[org.as_str()];
    }
    let mut delays = Vec::with_capacity(expected);
    while delays.len() < expected {
        let heard = tokio::time::timeout(GIVE_UP, receiver.recv()).await;
        let (id, at): Heard =
            heard.context("a verifier has not heard of a revocation")?.context("no reader")?;
        if let Some(answer) = answered.get(&id) {
            delays.push(at.saturating_duration_since(*answer).as_secs_f64() * 1e3);
        }
    }
    let took = began.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = exchanging.join_next().await {
        ended??;
    }
    let after = served.resident_kb()?;
    readers.abort_all();
    drop(stalled);
    Ok(Outcome {
        heard: delays.into_iter().collect(),
        exchanges: count.load(Ordering::Relaxed) as f64 / took,
        memory: [before, watching, after],
    })
}

async fn until_checkpoint(items: &mut Streaming<pb::WatchRevocationsResponse>) -> Result<()> {
    loop {
        let item = items.message().await?.context("the stream ended")?.item;
        if matches!(item, Some(Item::Checkpoint(_))) {
            return Ok(());
        }
    }
}

/// Notes when each revocation of a token was heard, once.
async fn read(
    mut items: Streaming<pb::WatchRevocationsResponse>,
    heard: mpsc::UnboundedSender<Heard>,
) -> Result<()> {
    while let Some(answer) = items.message().await? {
        if let Some(Item::Revocation(pb::Revocation { subject: Some(Subject::TokenId(id)), .. })) =
            answer.item
        {
            let _ = heard.send((id, Instant::now()));
        }
    }
    Ok(())
}

async fn exchange(client: Client, stop: Arc<AtomicBool>, count: Arc<AtomicU64>) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let request = pb::ExchangeTokenRequest { audiences: vec![AUDIENCE.into()], ..Default::default() };
        client.tokens().exchange_token(request).await?;
        count.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
