//! Reloads the web origins of publishable tokens when they changed.

use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use super::context::JobContext;

/// When to try again after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// Loads those that the feed names, and all of them in each period.
pub(super) async fn run(context: JobContext, period: Duration) {
    let origins = &context.state.cors_origins;
    let mut reloaded = Instant::now();
    loop {
        if reloaded.elapsed() >= period {
            origins.invalidate_all();
            reloaded = Instant::now();
        }
        let outcome = origins.reload_stale().await;
        context.ran(&outcome);
        if let Err(error) = outcome {
            tracing::warn!(?error, "origins of publishable tokens not loaded; it is retried");
            sleep(context.jitter.spread(RETRY)).await;
        } else {
            let _ = timeout(period.saturating_sub(reloaded.elapsed()), origins.stale()).await;
        }
    }
}
