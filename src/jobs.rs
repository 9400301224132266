//! What happens in the background.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::db::{schema, sweep};
use crate::grpc::SERVICES;
use crate::state::State;

/// How often the database is looked at.
const PROBE: Duration = Duration::from_secs(1);
/// How often the keys are read again.
const KEYS: Duration = Duration::from_secs(30);
/// How often what has served its time is swept.
const SWEEP: Duration = Duration::from_secs(600);

/// Starts all jobs. They end when the set is dropped.
pub fn start(state: &Arc<State>, health: HealthReporter) -> JoinSet<()> {
    let mut jobs = JoinSet::new();
    jobs.spawn(probe(state.clone(), health));
    jobs.spawn(reload_keys(state.clone()));
    jobs.spawn(sweep_rows(state.clone()));
    jobs
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Tells health and readiness whether the database answers.
async fn probe(state: Arc<State>, health: HealthReporter) {
    let mut tick = every(PROBE);
    let mut said = None;
    loop {
        tick.tick().await;
        let answers = matches!(timeout(PROBE, schema::ping(&state.db)).await, Ok(Ok(())));
        if said == Some(answers) {
            continue;
        }
        if said.is_some() || !answers {
            tracing::warn!(answers, "the database's readiness changed");
        }
        said = Some(answers);
        state.ready.send_replace(answers);
        report(&health, answers).await;
    }
}

/// Sets the health of every service, and of the whole.
pub async fn report(health: &HealthReporter, serving: bool) {
    let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    for service in SERVICES.into_iter().chain([""]) {
        health.set_service_status(service, status).await;
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

async fn sweep_rows(state: Arc<State>) {
    let mut tick = every(SWEEP);
    loop {
        tick.tick().await;
        match sweep::sweep(&state.db, state.clock.now()).await {
            Ok(0) => {}
            Ok(rows) => tracing::info!(rows, "swept rows that have served their time"),
            Err(error) => tracing::warn!(?error, "sweeping failed; it is tried again later"),
        }
    }
}
