//! Re-hashes, under the newest pepper, secrets that were used.

use std::time::Duration;

use super::context::JobContext;
use crate::db::keys::peppers;
use crate::db::within;
use crate::domain::values::subject::Subject;
use crate::error::Result;
use crate::state::State;

pub(super) async fn run(context: JobContext, period: Duration) {
    let mut ticks = context.ticks(period);
    loop {
        ticks.next().await;
        let outcome = within(context.limits.short, renew(&context.state)).await;
        context.ran(&outcome);
        match outcome {
            Ok(0) => {}
            Ok(secrets) => tracing::info!(secrets, "secrets re-hashed under the newest pepper"),
            Err(error) => {
                tracing::warn!(
                    ?error,
                    "secrets not re-hashed under the newest pepper; their next use retries"
                );
                ticks.retry();
            }
        }
    }
}

/// Writes the buffered re-hashes of secrets under older peppers, in one statement. Returns how
/// many there were.
async fn renew(state: &State) -> Result<u64> {
    let renewals = state.pepper_renewals.take();
    if renewals.is_empty() {
        return Ok(0);
    }
    let renewed = peppers::renew(&state.db, &renewals).await?;
    // So that they are not buffered again. Other nodes get the new hash when they load them the
    // next time.
    let tokens: Vec<_> = renewals.iter().map(|renewal| Subject::from(renewal.token_id)).collect();
    state.principals.invalidate(&tokens);
    Ok(renewed)
}
