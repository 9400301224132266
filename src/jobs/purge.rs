//! Purges accounts that were deleted long enough ago.

use std::time::Duration;

use uuid::Uuid;

use super::context::{JobContext, Limits};
use crate::db;
use crate::db::events::{Author, Change, FieldChange};
use crate::db::within;
use crate::domain::accounts::lifecycle::DELETED_RETENTION;
use crate::domain::values::ids::{AccountId, OrgId};
use crate::domain::values::subject::Subject;
use crate::error::Result;
use crate::flows::transaction::transact;
use crate::state::State;

/// How many accounts are read per batch.
const BATCH: i64 = 100;

pub(super) async fn run(context: JobContext, period: Duration) {
    let mut ticks = context.ticks(period);
    loop {
        ticks.next().await;
        let outcome = purge_within(&context.state, context.limits).await;
        context.ran(&outcome);
        match outcome {
            Ok(0) => {}
            Ok(accounts) => tracing::info!(accounts, "accounts purged that were deleted 30 days ago"),
            Err(error) => {
                tracing::warn!(?error, "purge failed; it is retried");
                ticks.retry();
            }
        }
    }
}

/// Purges the accounts that were deleted 30 days ago or more. Any number of nodes may do it
/// concurrently. One that cannot be purged does not hold up the others. Returns how many were
/// purged.
///
/// # Errors
/// When the accounts could not be found.
pub async fn purge(state: &State) -> Result<u64> {
    purge_within(state, Limits::default()).await
}

async fn purge_within(state: &State, limits: Limits) -> Result<u64> {
    let mut after = (Uuid::nil(), Uuid::nil());
    let mut purged = 0;
    loop {
        let deleted_by = state.clock.now() - DELETED_RETENTION;
        let find = async {
            let mut tx = state.db.begin_job().await?;
            db::accounts::find_deleted_by(&mut *tx, deleted_by, after, BATCH).await
        };
        let due = within(limits.long, find).await?;
        let Some((org_id, account_id)) = due.last() else {
            return Ok(purged);
        };
        after = (org_id.uuid(), account_id.uuid());
        for (org_id, account_id) in due {
            match within(limits.long, purge_one(state, org_id, account_id)).await {
                Ok(gone) => purged += u64::from(gone),
                Err(error) => tracing::warn!(?error, %account_id, "account not purged; it is retried"),
            }
        }
    }
}

async fn purge_one(state: &State, org_id: OrgId, account_id: AccountId) -> Result<bool> {
    transact!(state, Author::server(org_id), |mut tx| {
        let now = tx.now();
        let guest_in = db::accounts::lock_orgs(&mut tx, org_id, account_id).await?;
        if !db::accounts::purge(&mut tx, org_id, account_id, now - DELETED_RETENTION).await? {
            return Ok(false);
        }
        // Where it was a guest it is no longer a member.
        let left = db::accounts::leave(&mut tx, account_id, &guest_in, now).await?;
        let home = Change::of("account.purged", [account_id])
            .fields([FieldChange::cleared("account_id", account_id)])
            // The owners' permission list included the resources of its grants.
            .subjects([Subject::from(account_id), Subject::Owners(org_id)]);
        let guests =
            left.iter().map(|(host, lost)| db::orgs::memberships::removed(*host, (org_id, account_id), lost));
        let changes: Vec<_> = std::iter::once(home).chain(guests).collect();
        tx.record_all(&changes).await?;
        tx.commit().await?;
        Ok(true)
    })
}
