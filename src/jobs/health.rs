//! Sets the status of the health service.

use std::time::Duration;

use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::context::JobContext;

/// Reports each change: whether the database answers, and whether exchanges continue without it.
pub async fn run(context: JobContext, period: Duration) {
    let state = &context.state;
    let mut ticks = context.ticks(period);
    let mut reported = None;
    loop {
        ticks.next().await;
        let ready = state.lifecycle.is_ready();
        let now = (state.feed.answers() && ready, ready);
        if reported != Some(now) {
            report(&context.health, context.services, now.0, now.1).await;
            reported = Some(now);
        }
        context.succeeded();
    }
}

/// Sets the health of services that write and of services that exchange.
///
/// The server as a whole is healthy while exchanges continue, since other systems depend on those.
pub async fn report(health: &HealthReporter, services: &[&'static str], writes: bool, exchanges: bool) {
    let status = |healthy| if healthy { ServingStatus::Serving } else { ServingStatus::NotServing };
    for service in services {
        let healthy = if service.ends_with(".TokenService") { exchanges } else { writes };
        health.set_service_status(service, status(healthy)).await;
    }
    health.set_service_status("", status(exchanges)).await;
}
