//! The memberships of an account as a guest: all but the one in its home org.

use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

use super::grants::Grant;
use crate::db::orgs;
use crate::domain::values::ids::{AccountId, OrgId};
use crate::error::{Error, Reason, Result};

/// Finds the orgs where the account is a guest, in the order in which they are locked.
pub async fn find_guest_orgs(
    db: impl PgExecutor<'_>,
    home: OrgId,
    account_id: AccountId,
) -> Result<Vec<OrgId>> {
    let query = sqlx::query_scalar!(
        "select org_id from account_orgs where account_id = $1 and org_id <> $2 order by org_id",
        account_id.uuid(),
        home.uuid()
    );
    Ok(query.fetch_all(db).await?.into_iter().map(OrgId::from).collect())
}

/// Locks the home org of the account and the orgs where it is a guest. Returns the latter.
///
/// # Errors
/// `CONFLICT` when a membership was added or removed before its org was locked.
pub async fn lock_orgs(tx: &mut PgConnection, home: OrgId, account_id: AccountId) -> Result<Vec<OrgId>> {
    let guest_in = find_guest_orgs(&mut *tx, home, account_id).await?;
    orgs::lock_all(&mut *tx, guest_in.iter().copied().chain([home])).await?;
    if find_guest_orgs(&mut *tx, home, account_id).await? == guest_in {
        Ok(guest_in)
    } else {
        Err(Reason::Conflict.into())
    }
}

/// Ends the memberships and deletes the grants of a guest in these orgs, which are locked.
///
/// Returns the grants of each org. The rows of the memberships stay, because a version must never
/// decrease, and because revoked tokens refer to them.
pub async fn leave(
    tx: &mut PgConnection,
    account_id: AccountId,
    orgs: &[OrgId],
    now: OffsetDateTime,
) -> Result<Vec<(OrgId, Vec<Grant>)>> {
    if orgs.is_empty() {
        return Ok(Vec::new());
    }
    let mut left: Vec<(OrgId, Vec<Grant>)> = orgs.iter().map(|org| (*org, Vec::new())).collect();
    let orgs: Vec<Uuid> = orgs.iter().map(|org| org.uuid()).collect();
    let grants = sqlx::query!(
        "delete from grants where org_id = any($1) and account_id = $2
         returning org_id, grant_id, account_id, right_id, resource, create_time",
        &orgs,
        account_id.uuid()
    );
    let grants = grants.fetch_all(&mut *tx).await?;
    let members = sqlx::query!(
        "update memberships set remove_time = $3, version = version + 1
         where org_id = any($1) and account_id = $2 and remove_time is null",
        &orgs,
        account_id.uuid(),
        now
    );
    let members = members.execute(&mut *tx).await?.rows_affected();
    let listed = sqlx::query!(
        "delete from account_orgs where org_id = any($1) and account_id = $2",
        &orgs,
        account_id.uuid()
    );
    let listed = listed.execute(tx).await?.rows_affected();
    if members != orgs.len() as u64 || listed != members {
        return Err(Error::internal(format!("leaving {} orgs touched {members} and {listed}", orgs.len())));
    }
    for row in grants {
        let grant = Grant {
            grant_id: row.grant_id,
            account_id: row.account_id,
            right_id: row.right_id,
            resource: row.resource,
            create_time: row.create_time,
        };
        let of_org = left.iter_mut().find(|(org, _)| org.uuid() == row.org_id);
        of_org.ok_or_else(|| Error::internal("a grant was deleted in another org"))?.1.push(grant);
    }
    Ok(left)
}
