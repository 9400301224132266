//! Two nodes on one database: how long it takes until the other node applies a change.
//!
//! Fails when an exchange succeeds more than 2 s after the change that forbids it was acknowledged.

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use common::{AUDIENCE, Client, Deployment, Sorted, grant, option, progress};
use countersign::grpc::pb;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::Status;
use tonic_types::StatusExt as _;

/// The longest that an exchange may succeed after the acknowledgement of a change that forbids it.
const LIMIT: Duration = Duration::from_secs(2);
/// The longest wait for the other node.
const GIVE_UP: Duration = Duration::from_secs(10);
/// The number of changes at once, with notifications.
///
/// There are few, so that what is measured is the delay of a single change.
const LANES_WOKEN: usize = 2;
/// The number of changes at once, without notifications, where each waits for up to a second.
const LANES_POLLING: usize = 10;
/// The permission that is revoked and granted again.
const PERMISSION: &str = "invoices.read";

/// A change that is made on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Revoke,
    Narrow,
    Widen,
    Create,
}

impl Change {
    const ALL: [Self; 4] = [Self::Revoke, Self::Narrow, Self::Widen, Self::Create];

    fn name(self) -> &'static str {
        match self {
            Self::Revoke => "revoke a token",
            Self::Narrow => "revoke a grant",
            Self::Widen => "add a grant",
            Self::Create => "create a token",
        }
    }

    /// Whether exchanges must be refused after the change.
    fn forbids(self) -> bool {
        matches!(self, Self::Revoke | Self::Narrow)
    }
}

fn main() -> Result<()> {
    common::only_options(&["--with", "--without"])?;
    let (with, without) = (option("--with", 300)?, option("--without", 100)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let late = runtime.block_on(run(with, without))?;
    ensure!(late == 0, "{late} exchanges succeeded more than {LIMIT:?} after the change was acknowledged");
    Ok(())
}

async fn run(with: usize, without: usize) -> Result<usize> {
    let deployment = Deployment::make().await?;
    let one = deployment.serve(&[])?;
    let operator = one.client(&deployment.operator).await?;
    let org = operator.make_org("bench", "customers/acme").await?;
    let mut rows = Vec::new();
    for (listens, count, lanes) in [("true", with, LANES_WOKEN), ("false", without, LANES_POLLING)] {
        let other = deployment.serve(&["--feed-listen", listens])?;
        let how = if listens == "true" { "with notifications" } else { "without" };
        for change in Change::ALL {
            progress(format_args!("{how}: {}, {count} times", change.name()));
            let mut running = JoinSet::new();
            for lane in 0..lanes {
                let (one, other) = (operator.clone(), other.client(&deployment.operator).await?);
                let name = format!("worker-{listens}-{change:?}-{lane}");
                let account = one.make_account(&org, &name, &[(PERMISSION, "*")]).await?;
                let pause =
                    if listens == "true" { Duration::from_micros(200) } else { Duration::from_millis(1) };
                let pair = Arc::new(Pair { one, other, org: org.clone(), account, pause });
                let times = count / lanes + usize::from(lane < count % lanes);
                running.spawn(async move { pair.repeat(change, times).await });
            }
            let mut outcomes = Vec::new();
            while let Some(lane) = running.join_next().await {
                outcomes.extend(lane??);
            }
            rows.push((how, change, outcomes));
        }
    }
    Ok(report(&rows))
}

/// The delays of one change.
#[derive(Default)]
struct Outcome {
    /// From the acknowledgement to the first response of the other node that reflects the change.
    applied: Duration,
    /// From the acknowledgement to the last response that does not, if there was one.
    last_success: Option<Duration>,
}

/// An account, and a client of each node.
struct Pair {
    one: Client,
    other: Client,
    org: String,
    account: String,
    /// The pause between two exchanges.
    pause: Duration,
}

impl Pair {
    async fn repeat(self: &Arc<Self>, change: Change, times: usize) -> Result<Vec<Outcome>> {
        let mut outcomes = Vec::with_capacity(times);
        for _ in 0..times {
            // The other node polls once a second: the change must come at any time between two polls.
            let phase = u64::from_le_bytes(countersign::clock::random()) % 1_000;
            tokio::time::sleep(self.pause.mul_f64(phase as f64)).await;
            outcomes.push(self.once(change).await?);
        }
        Ok(outcomes)
    }

    async fn once(self: &Arc<Self>, change: Change) -> Result<Outcome> {
        if change == Change::Create {
            let (id, token) = self.one.make_token(&self.org, &self.account).await?;
            let outcome = self.follow(Instant::now(), &token, false, None).await?;
            self.revoke(&id).await?;
            return Ok(outcome);
        }
        let (id, token) = self.one.make_token(&self.org, &self.account).await?;
        if change == Change::Widen {
            self.revoke_grant().await?;
        }
        // Waits until the other node has the token in its cache, as it is before the change.
        self.settle(&token, change == Change::Widen).await?;
        // Exchanges run on the other node while the change is made.
        let (acknowledge, acknowledgement) = watch::channel(None);
        let follower = tokio::spawn({
            let (pair, token) = (self.clone(), token.clone());
            async move { pair.follow(Instant::now(), &token, change.forbids(), Some(acknowledgement)).await }
        });
        match change {
            Change::Revoke => self.revoke(&id).await?,
            Change::Narrow => self.revoke_grant().await?,
            Change::Widen => self.add_grant().await?,
            Change::Create => {}
        }
        let acknowledged = Instant::now();
        acknowledge.send_replace(Some(acknowledged));
        // The change applies immediately on the node where it was made.
        let here = exchange(&self.one, &token).await;
        ensure!(here.is_err() == change.forbids(), "{change:?} does not apply on the node where it was made");
        let outcome = follower.await??;
        if change == Change::Narrow {
            self.add_grant().await?;
        }
        if change != Change::Revoke {
            self.revoke(&id).await?;
        }
        Ok(outcome)
    }

    /// Exchanges on the other node until it has applied the change.
    ///
    /// The acknowledgement of the change comes through the channel, or was before this call.
    async fn follow(
        &self,
        began: Instant,
        token: &str,
        forbidden: bool,
        acknowledgement: Option<watch::Receiver<Option<Instant>>>,
    ) -> Result<Outcome> {
        let acknowledged = || acknowledgement.as_ref().map_or(Some(began), |at| *at.borrow());
        let mut last_success = None;
        loop {
            let answer = exchange(&self.other, token).await;
            let now = Instant::now();
            if is_expected(&answer, forbidden)? {
                // The other node may apply the change before its caller has the response: that is no delay.
                let at = match acknowledgement.clone() {
                    None => began,
                    Some(mut received) => {
                        received.wait_for(Option::is_some).await?.context("not acknowledged")?
                    }
                };
                let late = last_success.map(|last: Instant| last.saturating_duration_since(at));
                let last_success = late.filter(|_| forbidden);
                return Ok(Outcome { applied: now.saturating_duration_since(at), last_success });
            }
            last_success = Some(now);
            if acknowledged().is_some_and(|at| at.elapsed() > GIVE_UP) {
                bail!("the other node does not apply the change within {GIVE_UP:?}");
            }
            tokio::time::sleep(self.pause).await;
        }
    }

    /// Waits until the other node has the state before the change.
    async fn settle(&self, token: &str, refused: bool) -> Result<()> {
        let began = Instant::now();
        while exchange(&self.other, token).await.is_err() != refused {
            ensure!(began.elapsed() < GIVE_UP, "the other node does not have the state before the change");
            tokio::time::sleep(self.pause).await;
        }
        Ok(())
    }

    async fn revoke(&self, token_id: &str) -> Result<()> {
        let target = Some(pb::revoke_token_request::Target::TokenId(token_id.into()));
        let request = pb::RevokeTokenRequest { org_id: self.org.clone(), target, ..Default::default() };
        self.one.tokens().revoke_token(request).await?;
        Ok(())
    }

    async fn revoke_grant(&self) -> Result<()> {
        let (org_id, account_id) = (self.org.clone(), self.account.clone());
        let request = pb::RevokeAccessRequest { org_id, account_id, grants: vec![grant(PERMISSION, "*")] };
        self.one.accounts().revoke_access(request).await?;
        Ok(())
    }

    async fn add_grant(&self) -> Result<()> {
        let (org_id, account_id) = (self.org.clone(), self.account.clone());
        let request = pb::GrantAccessRequest { org_id, account_id, grants: vec![grant(PERMISSION, "*")] };
        self.one.accounts().grant_access(request).await?;
        Ok(())
    }
}

async fn exchange(node: &Client, token: &str) -> Result<(), Status> {
    let request = pb::ExchangeTokenRequest {
        subject_token: Some(token.into()),
        audiences: vec![AUDIENCE.into()],
        scopes: vec![PERMISSION.into()],
        ..Default::default()
    };
    node.tokens().exchange_token(request).await.map(|_| ())
}

/// Whether the response reflects the change.
///
/// A response that is right neither before nor after the change is an error.
fn is_expected(answer: &Result<(), Status>, forbidden: bool) -> Result<bool> {
    let Err(status) = answer else { return Ok(!forbidden) };
    let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    let is_refusal = ["TOKEN_REVOKED", "SCOPE_NOT_HELD", "TOKEN_INVALID"].contains(&reason.as_str());
    ensure!(is_refusal, "an exchange failed: {reason} {status:?}");
    Ok(forbidden)
}

fn report(rows: &[(&str, Change, Vec<Outcome>)]) -> usize {
    println!("\n| | | times | p50 ms | p99 ms | max ms | later than 2 s |");
    println!("|---|---|---|---|---|---|---|");
    let mut all = 0;
    for (how, change, outcomes) in rows {
        let applied: Sorted = outcomes.iter().map(|o| o.applied.as_secs_f64() * 1e3).collect();
        let late = outcomes.iter().filter(|o| o.last_success.is_some_and(|late| late > LIMIT)).count();
        all += late;
        println!(
            "| {} | {how} | {} | {:.1} | {:.1} | {:.1} | {} |",
            change.name(),
            outcomes.len(),
            applied.median(),
            applied.quantile(0.99),
            applied.max(),
            if change.forbids() { late.to_string() } else { "–".into() }
        );
    }
    all
}
