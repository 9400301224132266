//! What happens in the background.

mod purge;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::db::sweep;
use crate::grpc::SERVICES;
use crate::state::State;
use crate::{feed, origins};

pub use purge::purge;

/// How often health is compared with what the feed says.
const HEALTH: Duration = Duration::from_millis(100);
/// How often the keys are read again.
const KEYS: Duration = Duration::from_secs(30);
/// How often what has served its time is swept.
const SWEEP: Duration = Duration::from_secs(600);

/// Starts all jobs; `wake` says whether the feed's follower listens. They end when the set is dropped.
pub fn start(state: &Arc<State>, wake: bool, health: HealthReporter) -> JoinSet<()> {
    let mut jobs = JoinSet::new();
    jobs.spawn(tell_health(state.clone(), health));
    jobs.spawn(feed::follow(state.clone(), wake));
    jobs.spawn(origins::keep(state.clone()));
    jobs.spawn(reload_keys(state.clone()));
    jobs.spawn(sweep_rows(state.clone()));
    jobs
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Tells health whether the database answers, and whether exchanges go on without it.
async fn tell_health(state: Arc<State>, health: HealthReporter) {
    let mut tick = every(HEALTH);
    let mut said = None;
    loop {
        tick.tick().await;
        let now = (state.feed.answers() && state.is_ready(), state.is_ready());
        if said != Some(now) {
            report(&health, now.0, now.1).await;
            said = Some(now);
        }
    }
}

/// Sets the health of what writes and of what exchanges; the whole is well while
/// exchanges go on, which is what others depend on.
pub async fn report(health: &HealthReporter, writes: bool, exchanges: bool) {
    let status = |well| if well { ServingStatus::Serving } else { ServingStatus::NotServing };
    for service in SERVICES {
        let well = if service.ends_with(".TokenService") { exchanges } else { writes };
        health.set_service_status(service, status(well)).await;
    }
    health.set_service_status("", status(exchanges)).await;
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

async fn sweep_rows(state: Arc<State>) {
    let mut tick = every(SWEEP);
    loop {
        tick.tick().await;
        match sweep::sweep(&state.db, state.clock.now()).await {
            Ok(0) => {}
            Ok(rows) => tracing::info!(rows, "swept rows that have served their time"),
            Err(error) => tracing::warn!(?error, "sweeping failed; it is tried again later"),
        }
        match purge(&state).await {
            Ok(0) => {}
            Ok(accounts) => tracing::info!(accounts, "purged accounts that were deleted 30 days ago"),
            Err(error) => tracing::warn!(?error, "purging failed; it is tried again later"),
        }
    }
}
