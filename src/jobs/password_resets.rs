//! Answers requests for password resets, received here or on a node that stopped before it
//! answered.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::sleep;

use super::context::JobContext;
use crate::flows::password_reset;

/// Runs when this node receives a request, and in each period for requests to other nodes.
pub(super) async fn run(context: JobContext, period: Duration) {
    let state = &context.state;
    let mut late = VecDeque::new();
    loop {
        let mut pause = period;
        if state.feed.answers() {
            let outcome = password_reset::answer_all(state, &mut late).await;
            context.ran(&outcome);
            if let Err(error) = outcome {
                tracing::warn!(?error, "password reset requests not answered; they are retried");
                pause = context.jitter.spread(period);
            }
        }
        tokio::select! {
            () = state.reset_requested.notified() => {}
            () = sleep(pause) => {}
        }
    }
}
