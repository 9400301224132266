//! Sends messages from the outbox.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::context::JobContext;
use crate::mail::Delivery;

/// Sends until the server stops; messages in progress are still sent, and marked as sent.
///
/// Runs when this node put something into the outbox, and in each period for what other nodes
/// wrote and did not send, and for what is to be retried. It must not be aborted: a message that
/// was handed over and is not marked is sent twice.
pub(super) async fn run(context: JobContext, period: Duration) {
    let Some(mailer) = context.delivery.mailer.clone() else {
        // There is nothing to do, and nothing that could be late.
        loop {
            context.succeeded();
            tokio::select! {
                () = context.stopped() => return,
                () = sleep(period) => {}
            }
        }
    };
    let state = &context.state;
    let delivery = Arc::new(Delivery::new(state.clone(), context.delivery.clone(), mailer, context.jitter));
    loop {
        let mut pause = period;
        if state.feed.answers() {
            let outcome = delivery.clone().send_due().await;
            context.ran(&outcome);
            match outcome {
                // There may be more.
                Ok(more) if more && !state.lifecycle.is_stopping() => continue,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(?error, "outbox not read; it is retried");
                    pause = context.jitter.spread(period);
                }
            }
        }
        tokio::select! {
            () = context.stopped() => return,
            () = state.outbox_filled.notified() => {}
            () = sleep(pause) => {}
        }
    }
}
