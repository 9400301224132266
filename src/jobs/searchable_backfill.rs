//! Writes the search columns of accounts that an older binary did not fill.

use std::time::Duration;

use super::context::JobContext;
use crate::db;
use crate::db::within;
use crate::error::Result;
use crate::state::State;

/// How many accounts are made searchable in one statement.
const BATCH: i64 = 500;

pub(super) async fn run(context: JobContext, period: Duration) {
    let mut ticks = context.ticks(period);
    loop {
        ticks.next().await;
        let outcome = within(context.limits.long, fill_searchable(&context.state)).await;
        context.ran(&outcome);
        match outcome {
            Ok(0) => {}
            Ok(accounts) => tracing::info!(accounts, "accounts made searchable"),
            Err(error) => {
                tracing::warn!(?error, "accounts not made searchable; it is retried");
                ticks.retry();
            }
        }
    }
}

/// Writes the search columns of accounts that an older binary did not fill. Returns how many
/// accounts there were.
///
/// # Errors
/// When the accounts could not be found or written.
pub async fn fill_searchable(state: &State) -> Result<u64> {
    let mut filled = 0;
    loop {
        let mut db = state.db.acquire().await?;
        match db::accounts::fill_searchable(&mut db, BATCH).await? {
            0 => return Ok(filled),
            some => filled += some,
        }
    }
}
