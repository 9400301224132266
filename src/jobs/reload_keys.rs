//! Loads keys that other nodes created, independently of the feed.

use std::time::Duration;

use super::context::JobContext;

pub(super) async fn run(context: JobContext, period: Duration) {
    let mut ticks = context.ticks(period);
    // The first tick is immediate, and the keys were just loaded.
    ticks.next().await;
    context.succeeded();
    loop {
        ticks.next().await;
        let outcome = context.state.keyring.reload().await;
        context.ran(&outcome);
        if let Err(error) = outcome {
            tracing::warn!(%error, "keys not reloaded; those in memory stay in use");
            ticks.retry();
        }
    }
}
