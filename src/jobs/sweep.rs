//! Deletes rows that are no longer needed.

use std::time::Duration;

use super::context::JobContext;
use crate::db::sweep;
use crate::db::within;

pub(super) async fn run(context: JobContext, period: Duration) {
    let state = &context.state;
    let mut ticks = context.ticks(period);
    loop {
        ticks.next().await;
        let outcome = within(context.limits.long, sweep::sweep(&state.db, state.clock.now())).await;
        context.ran(&outcome);
        match outcome {
            Ok(0) => {}
            Ok(rows) => tracing::info!(rows, "rows swept"),
            Err(error) => {
                tracing::warn!(?error, "sweep failed; it is retried");
                ticks.retry();
            }
        }
    }
}
