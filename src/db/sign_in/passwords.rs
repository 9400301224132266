//! `passwords`: the stored form of the passwords of accounts.

use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;

use super::sessions;
use crate::crypto::password_hash::{Owner, PasswordRecord};
use crate::db::one_row;
use crate::domain::values::ids::{AccountId, OrgId, SessionId};
use crate::error::Result;

/// Finds the stored form of the password of the account.
pub async fn find(
    db: impl PgExecutor<'_>,
    org_id: OrgId,
    account_id: AccountId,
) -> Result<Option<PasswordRecord>> {
    let query = sqlx::query_scalar!(
        "select sealed from passwords where org_id = $1 and account_id = $2",
        org_id.uuid(),
        account_id.uuid()
    );
    Ok(query.fetch_optional(db).await?.map(PasswordRecord::from_sealed))
}

/// Sets or replaces the password of the account, and ends its sessions.
///
/// The account is in its home org, and locked. With a password, an `INVITED` user becomes `ACTIVE`, and a
/// service account may `Login`. The caller records the change, and names the account among the subjects
/// that it touches.
pub async fn set(
    tx: &mut PgConnection,
    org_id: OrgId,
    account_id: AccountId,
    record: &PasswordRecord,
    now: OffsetDateTime,
) -> Result<()> {
    change(tx, (org_id, account_id), record, None, now).await
}

/// Does what [`set`] does, but does not end one session: the one that changes the password.
pub async fn change(
    tx: &mut PgConnection,
    (org_id, account_id): Owner,
    record: &PasswordRecord,
    but: Option<SessionId>,
    now: OffsetDateTime,
) -> Result<()> {
    let stored = sqlx::query!(
        "insert into passwords (org_id, account_id, sealed) values ($1, $2, $3)
         on conflict on constraint passwords_pk do update set sealed = excluded.sealed",
        org_id.uuid(),
        account_id.uuid(),
        record.sealed()
    );
    one_row(&stored.execute(&mut *tx).await?, "storing a password")?;
    let updated = sqlx::query!(
        "update accounts set password_time = $3, revision = revision + 1, update_time = $3
         where org_id = $1 and account_id = $2",
        org_id.uuid(),
        account_id.uuid(),
        now
    );
    one_row(&updated.execute(&mut *tx).await?, "setting a password")?;
    sessions::end_for_account(tx, org_id, account_id, but, now).await?;
    Ok(())
}

/// Deletes the password of the account, if it has one.
pub async fn clear(tx: &mut PgConnection, org_id: OrgId, account_id: AccountId) -> Result<()> {
    let deleted = sqlx::query!(
        "delete from passwords where org_id = $1 and account_id = $2",
        org_id.uuid(),
        account_id.uuid()
    );
    deleted.execute(&mut *tx).await?;
    let updated = sqlx::query!(
        "update accounts set password_time = null where org_id = $1 and account_id = $2",
        org_id.uuid(),
        account_id.uuid()
    );
    one_row(&updated.execute(tx).await?, "clearing a password")
}
