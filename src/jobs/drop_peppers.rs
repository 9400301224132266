//! Drops peppers that no active secret names.

use std::time::Duration;

use super::context::JobContext;
use crate::db::within;
use crate::flows::signing_key_rotation;

pub(super) async fn run(context: JobContext, period: Duration) {
    let mut ticks = context.ticks(period);
    loop {
        ticks.next().await;
        let outcome = within(context.limits.long, signing_key_rotation::drop_peppers(&context.state)).await;
        context.ran(&outcome);
        match outcome {
            Ok(dropped) if dropped.is_empty() => {}
            Ok(peppers) => tracing::info!(?peppers, "peppers dropped that no active secret names"),
            Err(error) => {
                tracing::warn!(?error, "peppers not dropped; it is retried");
                ticks.retry();
            }
        }
    }
}
