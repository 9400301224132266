//! `passwords`: what is kept of the passwords of accounts.

use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;

use super::sessions;
use crate::crypto::password_hash::{Owner, PasswordRecord};
use crate::db::one_row;
use crate::domain::values::ids::{AccountId, OrgId, SessionId};
use crate::error::Result;

/// What is kept of the account's password.
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

/// Gives the account this password, in the place of the one that it has. The account is in its home
/// org, and locked. Ends its sessions. An `INVITED` user is `ACTIVE` with it, a service account may `Login`.
///
/// The caller records the change, and names the account among the subjects that it touches.
pub async fn set(
    tx: &mut PgConnection,
    org_id: OrgId,
    account_id: AccountId,
    record: &PasswordRecord,
    now: OffsetDateTime,
) -> Result<()> {
    change(tx, (org_id, account_id), record, None, now).await
}

/// As [`set`] does, but for one session: that of whoever changes the password.
pub async fn change(
    tx: &mut PgConnection,
    (org_id, account_id): Owner,
    record: &PasswordRecord,
    but: Option<SessionId>,
    now: OffsetDateTime,
) -> Result<()> {
    let kept = sqlx::query!(
        "insert into passwords (org_id, account_id, sealed) values ($1, $2, $3)
         on conflict on constraint passwords_pk do update set sealed = excluded.sealed",
        org_id.uuid(),
        account_id.uuid(),
        record.sealed()
    );
    one_row(&kept.execute(&mut *tx).await?, "keeping a password")?;
    let told = sqlx::query!(
        "update accounts set password_time = $3, revision = revision + 1, update_time = $3
         where org_id = $1 and account_id = $2",
        org_id.uuid(),
        account_id.uuid(),
        now
    );
    one_row(&told.execute(&mut *tx).await?, "setting a password")?;
    sessions::end_of_account(tx, org_id, account_id, but, now).await?;
    Ok(())
}

/// Takes the account's password away, if it has one.
pub async fn clear(tx: &mut PgConnection, org_id: OrgId, account_id: AccountId) -> Result<()> {
    let gone = sqlx::query!(
        "delete from passwords where org_id = $1 and account_id = $2",
        org_id.uuid(),
        account_id.uuid()
    );
    gone.execute(&mut *tx).await?;
    let told = sqlx::query!(
        "update accounts set password_time = null where org_id = $1 and account_id = $2",
        org_id.uuid(),
        account_id.uuid()
    );
    one_row(&told.execute(tx).await?, "clearing a password")
}
