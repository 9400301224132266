//! Changes of the lifecycle of an account, and its purge.

use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

use super::account::{Account, find_any};
use crate::db::federation::rules;
use crate::db::one_row;
use crate::db::sign_in::sessions;
use crate::db::tokens::keys;
use crate::domain::accounts::lifecycle::AccountLifecycle;
use crate::domain::values::ids::{AccountId, OrgId};
use crate::error::{Error, Result};

/// Sets the lifecycle of an account, and returns the changed account.
pub async fn set_lifecycle(
    tx: &mut PgConnection,
    org_id: OrgId,
    account_id: AccountId,
    lifecycle: AccountLifecycle,
    now: OffsetDateTime,
) -> Result<Account> {
    let query = sqlx::query!(
        "update accounts set deactivate_time = $3, delete_time = $4, revision = revision + 1, update_time = $5
         where org_id = $1 and account_id = $2",
        org_id.uuid(),
        account_id.uuid(),
        lifecycle.deactivate_time,
        lifecycle.delete_time,
        now
    );
    one_row(&query.execute(&mut *tx).await?, "changing the lifecycle of an account")?;
    let account = find_any(tx, org_id, account_id).await?;
    account.ok_or_else(|| Error::internal("the changed account is missing"))
}

/// Finds accounts of any org that were deleted by then, after this one in the order of their keys.
pub async fn find_deleted_by(
    db: impl PgExecutor<'_>,
    deleted_by: OffsetDateTime,
    (after_org, after_account): (Uuid, Uuid),
    limit: i64,
) -> Result<Vec<(OrgId, AccountId)>> {
    let query = sqlx::query!(
        "select org_id, account_id from accounts
         where delete_time is not null and delete_time <= $1 and (org_id, account_id) > ($2, $3)
         order by org_id, account_id limit $4",
        deleted_by,
        after_org,
        after_account,
        limit
    );
    let rows = query.fetch_all(db).await?;
    Ok(rows.into_iter().map(|row| (row.org_id.into(), row.account_id.into())).collect())
}

/// Removes an account that was deleted by then, with everything that refers to it in its home org.
///
/// Its name and username are available again. False if there is no such account: another node was first,
/// or it was undeleted. The org is locked.
pub async fn purge(
    tx: &mut PgConnection,
    org_id: OrgId,
    account_id: AccountId,
    deleted_by: OffsetDateTime,
) -> Result<bool> {
    let (org, account) = (org_id.uuid(), account_id.uuid());
    let due = sqlx::query_scalar!(
        "select username from accounts where org_id = $1 and account_id = $2 and delete_time <= $3 for update",
        org,
        account,
        deleted_by
    );
    if due.fetch_optional(&mut *tx).await?.is_none() {
        return Ok(false);
    }
    remove(tx, org_id, account_id).await?;
    Ok(true)
}

/// Removes an account, whatever its state, with everything that refers to it in its home org.
///
/// The org is locked, and none of the account's tokens is active.
pub async fn remove(tx: &mut PgConnection, org_id: OrgId, account_id: AccountId) -> Result<()> {
    let (org, account) = (org_id.uuid(), account_id.uuid());
    // What refers to the membership first; the secrets of tokens are deleted with these, by the foreign key.
    let sealed = sqlx::query!(
        "select s.token_id, s.hint from token_secrets s join tokens t on t.org_id = $1 and t.token_id = s.token_id
         where s.org_id = $1 and t.account_id = $2 and s.public_jwk is not null",
        org,
        account
    );
    let sealed = sealed.fetch_all(&mut *tx).await?;
    let sealed: Vec<_> = sealed.into_iter().map(|row| (row.token_id, row.hint)).collect();
    keys::free(&mut *tx, &sealed).await?;
    let tokens = sqlx::query_scalar!(
        "delete from tokens where org_id = $1 and account_id = $2 returning token_id",
        org,
        account
    );
    let tokens = tokens.fetch_all(&mut *tx).await?;
    sqlx::query!("delete from credentials where credential_id = any($1)", &tokens).execute(&mut *tx).await?;
    rules::purge(&mut *tx, org_id, account_id).await?;
    sessions::purge(&mut *tx, org_id, account_id).await?;
    let grants = sqlx::query!("delete from grants where org_id = $1 and account_id = $2", org, account);
    grants.execute(&mut *tx).await?;
    let member = sqlx::query!("delete from memberships where org_id = $1 and account_id = $2", org, account);
    one_row(&member.execute(&mut *tx).await?, "purging a membership")?;
    let listed = sqlx::query!("delete from account_orgs where account_id = $1 and org_id = $2", account, org);
    one_row(&listed.execute(&mut *tx).await?, "purging a listed membership")?;
    // Its links are deleted with it.
    let deleted = sqlx::query_scalar!(
        "delete from accounts where org_id = $1 and account_id = $2 returning username",
        org,
        account
    );
    let username = deleted.fetch_one(&mut *tx).await?;
    let name = sqlx::query!(
        "delete from usernames where username = $1 and org_id = $2 and account_id = $3",
        username,
        org,
        account
    );
    one_row(&name.execute(tx).await?, "deleting a username")
}
