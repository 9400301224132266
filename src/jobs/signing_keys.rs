//! Creates the next signing key ahead of time, and activates it when every node knows it.

use std::time::Duration;

use super::context::JobContext;
use crate::db::within;
use crate::flows::signing_key_rotation::rotate_signing_keys;

/// When to try again after a failure.
const RETRY: Duration = Duration::from_secs(30);

/// Checks in memory, each time, whether a key has to be created, activated or removed.
pub(super) async fn run(context: JobContext, period: Duration) {
    let state = &context.state;
    let lifetime = context.signing_key_lifetime.try_into().unwrap_or(time::Duration::MAX);
    let mut ticks = context.ticks(period);
    loop {
        ticks.next().await;
        if !state.feed.answers() {
            continue;
        }
        let outcome = within(context.limits.long, rotate_signing_keys(state, lifetime)).await;
        context.ran(&outcome);
        if let Err(error) = outcome {
            tracing::error!(?error, "signing key rotation failed; it is retried");
            ticks.retry_in(RETRY);
        }
    }
}
