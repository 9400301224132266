//! Writes when secrets and rules were last used, and what was presented to rules.

use std::time::Duration;

use tokio::time::sleep;

use super::context::JobContext;
use crate::db::within;

/// How soon a write that failed is retried.
const RETRY: Duration = Duration::from_secs(5);

/// Writes in each period, earlier when many uses are buffered, and a last time when the server
/// stops.
///
/// It must not be aborted: the uses being written would be lost.
pub(super) async fn run(context: JobContext, period: Duration) {
    let last_uses = &context.state.last_uses;
    let mut failed = false;
    loop {
        let wait = if failed { context.jitter.spread(period.min(RETRY)) } else { period };
        let stopping = tokio::select! {
            () = context.stopped() => true,
            // After a failure the buffer is still crowded.
            () = last_uses.crowded(), if !failed => false,
            () = sleep(wait) => false,
        };
        failed = false;
        let outcome = last_uses.flush().await;
        context.ran(&outcome);
        if let Err(error) = outcome {
            tracing::warn!(?error, "last uses not written; they stay buffered");
            failed = true;
        }
        // Afterwards: what they take is up to tenants.
        if let Err(error) = within(context.limits.short, context.state.presentations.flush()).await {
            tracing::warn!(?error, "presentations not written; they are left out");
        }
        if stopping {
            return;
        }
    }
}
