//! What happens in the background.

mod purge;
mod remind;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::config::LimitArgs;
use crate::db;
use crate::db::sweep;
use crate::error::Result;
use crate::flows::{password_reset, signing_key_rotation};
use crate::state::State;
use crate::state::{cors_origins, feed, principals};

pub use purge::purge;
pub use remind::remind;

/// How often health is compared with what the feed says.
const HEALTH: Duration = Duration::from_millis(100);
/// How often the keys are read again.
const KEYS: Duration = Duration::from_secs(30);
/// How often it is asked, in memory, whether a key has to be made, or to sign, or to go.
const TURN: Duration = Duration::from_secs(1);
/// How often what was noted of secrets under older peppers is written.
const UPTAKE: Duration = Duration::from_secs(1);
/// How often it is looked whether somebody asked another node for a password.
const RESETS: Duration = Duration::from_secs(2);
/// How often what has served its time is swept.
const SWEEP: Duration = Duration::from_secs(600);

/// How many accounts are made searchable in one statement.
const FILLED_AT_ONCE: i64 = 500;

/// Where health is reported, and the services that it is reported of.
#[derive(Clone)]
pub struct Health {
    pub reporter: HealthReporter,
    pub services: &'static [&'static str],
}

impl Health {
    /// Sets the health of what writes and of what exchanges; the whole is well while
    /// exchanges go on, which is what others depend on.
    pub async fn report(&self, writes: bool, exchanges: bool) {
        let status = |well| if well { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in self.services {
            let well = if service.ends_with(".TokenService") { exchanges } else { writes };
            self.reporter.set_service_status(service, status(well)).await;
        }
        self.reporter.set_service_status("", status(exchanges)).await;
    }
}

/// Starts all jobs; the options say whether the feed's follower listens, and how long a key
/// signs. They end when the set is dropped.
pub fn start(state: &Arc<State>, options: &LimitArgs, health: Health) -> JoinSet<()> {
    let mut jobs = JoinSet::new();
    jobs.spawn(tell_health(state.clone(), health));
    jobs.spawn(feed::follow(state.clone(), options.feed_listen));
    jobs.spawn(cors_origins::keep(state.clone()));
    jobs.spawn(reload_keys(state.clone()));
    jobs.spawn(turn_signing_keys(state.clone(), options.signing_key_lifetime));
    jobs.spawn(take_up_pepper(state.clone()));
    jobs.spawn(answer_reset_requests(state.clone()));
    jobs.spawn(sweep_rows(state.clone()));
    jobs
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Tells health whether the database answers, and whether exchanges go on without it.
async fn tell_health(state: Arc<State>, health: Health) {
    let mut tick = every(HEALTH);
    let mut said = None;
    loop {
        tick.tick().await;
        let now = (state.feed.answers() && state.is_ready(), state.is_ready());
        if said != Some(now) {
            health.report(now.0, now.1).await;
            said = Some(now);
        }
    }
}

/// Takes up what other nodes made.
async fn reload_keys(state: Arc<State>) {
    let mut tick = every(KEYS);
    // The first tick is at once, and the keys were just read.
    tick.tick().await;
    loop {
        tick.tick().await;
        if let Err(error) = state.reload_keys().await {
            tracing::warn!(%error, "keys could not be read again; the ones at hand stay in use");
        }
    }
}

/// Makes the next signing key ahead of time, and lets it sign when it is known.
async fn turn_signing_keys(state: Arc<State>, lifetime: Duration) {
    let lifetime = lifetime.try_into().unwrap_or(time::Duration::MAX);
    let mut tick = every(TURN);
    loop {
        tick.tick().await;
        if state.feed.answers()
            && let Err(error) = signing_key_rotation::turn_signing_keys(&state, lifetime).await
        {
            tracing::error!(?error, "the signing keys cannot go on; it is tried again later");
            sleep(KEYS).await;
        }
    }
}

/// Secrets that were used are kept under the newest pepper.
async fn take_up_pepper(state: Arc<State>) {
    let mut tick = every(UPTAKE);
    loop {
        tick.tick().await;
        match principals::take_up_pepper(&state).await {
            Ok(0) => {}
            Ok(secrets) => tracing::info!(secrets, "kept secrets under the newest pepper"),
            Err(error) => tracing::warn!(?error, "a pepper was not taken up; it is with the next use"),
        }
    }
}

/// Looks who asked for another password, here or on a node that ended before it looked.
async fn answer_reset_requests(state: Arc<State>) {
    loop {
        if state.feed.answers()
            && let Err(error) = password_reset::answer_all(&state).await
        {
            tracing::warn!(?error, "requests for passwords were not answered; it is tried again");
        }
        tokio::select! {
            () = state.reset_requests.notified() => {}
            () = sleep(RESETS) => {}
        }
    }
}

/// Writes what accounts are found by where an older binary did not. Returns how many
/// there were.
pub async fn fill_searchable(state: &State) -> Result<u64> {
    let mut filled = 0;
    loop {
        let mut db = state.db.acquire().await?;
        match db::accounts::fill_searchable(&mut db, FILLED_AT_ONCE).await? {
            0 => return Ok(filled),
            some => filled += some,
        }
    }
}

async fn sweep_rows(state: Arc<State>) {
    let mut tick = every(SWEEP);
    loop {
        tick.tick().await;
        match sweep::sweep(&state.db, state.clock.now()).await {
            Ok(0) => {}
            Ok(rows) => tracing::info!(rows, "swept rows that have served their time"),
            Err(error) => tracing::warn!(?error, "sweeping failed; it is tried again later"),
        }
        match fill_searchable(&state).await {
            Ok(0) => {}
            Ok(accounts) => tracing::info!(accounts, "wrote what accounts from before are found by"),
            Err(error) => {
                tracing::warn!(?error, "writing what accounts are found by failed; it is tried again")
            }
        }
        match purge(&state).await {
            Ok(0) => {}
            Ok(accounts) => tracing::info!(accounts, "purged accounts that were deleted 30 days ago"),
            Err(error) => tracing::warn!(?error, "purging failed; it is tried again later"),
        }
        match remind(&state).await {
            Ok(0) => {}
            Ok(reminders) => tracing::info!(reminders, "told of tokens that end soon"),
            Err(error) => tracing::warn!(?error, "telling of tokens that end failed; it is tried again"),
        }
        match signing_key_rotation::drop_peppers(&state).await {
            Ok(dropped) if dropped.is_empty() => {}
            Ok(dropped) => tracing::info!(?dropped, "dropped peppers that no live secret names"),
            Err(error) => tracing::warn!(?error, "a pepper was not dropped; it is tried again later"),
        }
    }
}
