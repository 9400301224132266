//! Refreshes what the metrics say of the database, so that no scrape waits for it; and logs how many lines
//! of calls were left out.

use std::time::Duration;

use super::context::JobContext;
use crate::db::outbox;
use crate::db::within;

/// Reads the queue of emails with one statement in each period.
pub(super) async fn run(context: JobContext, period: Duration) {
    let state = &context.state;
    let mut ticks = context.ticks(period);
    loop {
        ticks.next().await;
        context.access_log.log_unlogged();
        if !state.feed.answers() {
            continue;
        }
        let queue = within(context.limits.short, outbox::count_queue(&state.db, state.clock.now())).await;
        context.ran(&queue);
        match queue {
            Ok(queue) => state.metrics.mail.set_queue(queue),
            Err(error) => {
                tracing::warn!(?error, "queue of emails not counted; it is retried");
                ticks.retry();
            }
        }
    }
}
