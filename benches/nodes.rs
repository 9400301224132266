//! Two nodes on one database: how long until the other follows a change. Fails when an
//! exchange succeeds more than 2 s after the change that forbids it was acknowledged.

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

/// Nothing that a change forbids may succeed later than this after its acknowledgement.
const LIMIT: Duration = Duration::from_secs(2);
/// When the other node is given up.
const GIVE_UP: Duration = Duration::from_secs(10);
/// With notifications, on the other node: half of the changes at once would be no test of one.
const LANES_WOKEN: usize = 2;
/// Without, each change waits for up to a second.
const LANES_POLLING: usize = 10;
/// The permission that is taken away and given again.
const PERMISSION: &str = "invoices.read";

/// What is done on the one node.
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
            Self::Narrow => "take a grant away",
            Self::Widen => "give a grant",
            Self::Create => "create a token",
        }
    }

    /// Whether an exchange is to be refused once it is done.
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

/// What a change came to.
#[derive(Default)]
struct Outcome {
    /// From the acknowledgement to the first answer of the other node that knows of it.
    followed: Duration,
    /// From the acknowledgement to the last answer that does not; none when there was none.
    last_success: Option<Duration>,
}

/// An account, and a client of each node.
struct Pair {
    one: Client,
    other: Client,
    org: String,
    account: String,
    /// Between two exchanges.
    pause: Duration,
}

impl Pair {
    async fn repeat(self: &Arc<Self>, change: Change, times: usize) -> Result<Vec<Outcome>> {
        let mut outcomes = Vec::with_capacity(times);
        for _ in 0..times {
            // The other node looks at each full second of its own: a change may come at any time between.
            let phase = u64::from_le_bytes(countersign::clock::random()) % 1_000;
            tokio::time::sleep(self.pause.mul_f64(phase as f64)).await;
            outcomes.push(self.once(change).await?);
        }
        Ok(outcomes)
    }

    async fn once(self: &Arc<Self>, change: Change) -> Result<Outcome> {
        if change == Change::Create {
            let (id, text) = self.one.make_token(&self.org, &self.account).await?;
            let outcome = self.follow(Instant::now(), &text, false, None).await?;
            self.revoke(&id).await?;
            return Ok(outcome);
        }
        let (id, text) = self.one.make_token(&self.org, &self.account).await?;
        if change == Change::Widen {
            self.take_away().await?;
        }
        // The other node has it in its cache, as it is before the change.
        self.settle(&text, change == Change::Widen).await?;
        // One exchanges all the while; the other changes in the midst of it.
        let (tell, told) = watch::channel(None);
        let follower = tokio::spawn({
            let (pair, text) = (self.clone(), text.clone());
            async move { pair.follow(Instant::now(), &text, change.forbids(), Some(told)).await }
        });
        match change {
            Change::Revoke => self.revoke(&id).await?,
            Change::Narrow => self.take_away().await?,
            Change::Widen => self.give().await?,
            Change::Create => {}
        }
        let acknowledged = Instant::now();
        tell.send_replace(Some(acknowledged));
        // Where the change was made it holds at once.
        let here = exchange(&self.one, &text).await;
        ensure!(here.is_err() == change.forbids(), "{change:?} does not hold where it was made");
        let outcome = follower.await??;
        if change == Change::Narrow {
            self.give().await?;
        }
        if change != Change::Revoke {
            self.revoke(&id).await?;
        }
        Ok(outcome)
    }

    /// Exchanges on the other node until it knows of the change, whose acknowledgement is
    /// told later or was before this began.
    async fn follow(
        &self,
        began: Instant,
        text: &str,
        forbidden: bool,
        told: Option<watch::Receiver<Option<Instant>>>,
    ) -> Result<Outcome> {
        let acknowledged = || told.as_ref().map_or(Some(began), |told| *told.borrow());
        let mut last_success = None;
        loop {
            let answer = exchange(&self.other, text).await;
            let now = Instant::now();
            if is_expected(&answer, forbidden)? {
                // Known to the other node before to the one who asked for it: that is no delay.
                let at = match told.clone() {
                    None => began,
                    Some(mut told) => told.wait_for(Option::is_some).await?.context("not acknowledged")?,
                };
                let late = last_success.map(|last: Instant| last.saturating_duration_since(at));
                let last_success = late.filter(|_| forbidden);
                return Ok(Outcome { followed: now.saturating_duration_since(at), last_success });
            }
            last_success = Some(now);
            if acknowledged().is_some_and(|at| at.elapsed() > GIVE_UP) {
                bail!("the other node does not follow within {GIVE_UP:?}");
            }
            tokio::time::sleep(self.pause).await;
        }
    }

    /// Until the other node says what holds before the change.
    async fn settle(&self, text: &str, refused: bool) -> Result<()> {
        let began = Instant::now();
        while exchange(&self.other, text).await.is_err() != refused {
            ensure!(began.elapsed() < GIVE_UP, "the other node does not see the start");
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

    async fn take_away(&self) -> Result<()> {
        let (org_id, account_id) = (self.org.clone(), self.account.clone());
        let request = pb::RevokeAccessRequest { org_id, account_id, grants: vec![grant(PERMISSION, "*")] };
        self.one.accounts().revoke_access(request).await?;
        Ok(())
    }

    async fn give(&self) -> Result<()> {
        let (org_id, account_id) = (self.org.clone(), self.account.clone());
        let request = pb::GrantAccessRequest { org_id, account_id, grants: vec![grant(PERMISSION, "*")] };
        self.one.accounts().grant_access(request).await?;
        Ok(())
    }
}

async fn exchange(node: &Client, text: &str) -> Result<(), Status> {
    let request = pb::ExchangeTokenRequest {
        subject_token: text.into(),
        audiences: vec![AUDIENCE.into()],
        scopes: vec![PERMISSION.into()],
        ..Default::default()
    };
    node.tokens().exchange_token(request).await.map(|_| ())
}

/// Whether the answer is what the change makes of it. Any answer that fits neither the
/// time before nor the time after is an error.
fn is_expected(answer: &Result<(), Status>, forbidden: bool) -> Result<bool> {
    let Err(status) = answer else { return Ok(!forbidden) };
    let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    let fits = ["TOKEN_REVOKED", "SCOPE_NOT_HELD", "TOKEN_INVALID"].contains(&reason.as_str());
    ensure!(fits, "an exchange failed: {reason} {status:?}");
    Ok(forbidden)
}

fn report(rows: &[(&str, Change, Vec<Outcome>)]) -> usize {
    println!("\n| | | times | p50 ms | p99 ms | max ms | later than 2 s |");
    println!("|---|---|---|---|---|---|---|");
    let mut all = 0;
    for (how, change, outcomes) in rows {
        let followed: Sorted = outcomes.iter().map(|o| o.followed.as_secs_f64() * 1e3).collect();
        let late = outcomes.iter().filter(|o| o.last_success.is_some_and(|late| late > LIMIT)).count();
        all += late;
        println!(
            "| {} | {how} | {} | {:.1} | {:.1} | {:.1} | {} |",
            change.name(),
            outcomes.len(),
            followed.median(),
            followed.quantile(0.99),
            followed.max(),
            if change.forbids() { late.to_string() } else { "–".into() }
        );
    }
    all
}
