//! Re-hashes secrets that were used under the newest pepper.

use std::time::Duration;

use super::context::JobContext;
use crate::db::keys::peppers;
use crate::domain::values::subject::Subject;
use crate::error::Result;
use crate::state::State;

pub(super) async fn run(context: JobContext, period: Duration) {
    let mut ticks = context.ticks(period);
    loop {
        ticks.next().await;
        match renew(&context.state).await {
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

/// Writes what was buffered of secrets under older peppers, in one statement. Returns how
/// many there were.
async fn renew(state: &State) -> Result<u64> {
    let renewals = state.pepper_renewals.take();
    if renewals.is_empty() {
        return Ok(0);
    }
    let renewed = peppers::renew(&state.db.pool(), &renewals).await?;
    // So that they are not buffered again. Other nodes learn of it when they load them the next time.
    let tokens: Vec<_> = renewals.iter().map(|renewal| Subject::from(renewal.token_id)).collect();
    state.principals.invalidate(&tokens);
    Ok(renewed)
}
