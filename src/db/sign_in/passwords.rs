//! `passwords`: the stored form of the passwords of accounts.

use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

use super::password_maker::PasswordMaker;
use super::sessions;
use crate::crypto::password_hash::{Owner, PasswordRecord};
use crate::db::one_row;
use crate::domain::values::ids::{AccountId, OrgId, SessionId, TokenId};
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
    maker: PasswordMaker,
    now: OffsetDateTime,
) -> Result<()> {
    let stored = sqlx::query!(
        "insert into passwords (org_id, account_id, sealed, made_by, ends_with) values ($1, $2, $3, $4, $5)
         on conflict on constraint passwords_pk do update
         set sealed = excluded.sealed, made_by = excluded.made_by, ends_with = excluded.ends_with",
        org_id.uuid(),
        account_id.uuid(),
        record.sealed(),
        maker.made_by,
        maker.ends_with.map(TokenId::uuid)
    );
    one_row(&stored.execute(&mut *tx).await?, "storing a password")?;
    stored_at(tx, (org_id, account_id), None, now).await
}

/// Replaces a password by the account's own call, which knows it. Ends its sessions, but not the one of the call.
///
/// The new one comes from the credential that the replaced one came from, and ends with it.
pub async fn change(
    tx: &mut PgConnection,
    (org_id, account_id): Owner,
    record: &PasswordRecord,
    but: Option<SessionId>,
    now: OffsetDateTime,
) -> Result<()> {
    let stored = sqlx::query!(
        "update passwords set sealed = $3 where org_id = $1 and account_id = $2",
        org_id.uuid(),
        account_id.uuid(),
        record.sealed()
    );
    one_row(&stored.execute(&mut *tx).await?, "replacing a password")?;
    stored_at(tx, (org_id, account_id), but, now).await
}

/// Records that the account has another password, and ends its sessions.
async fn stored_at(
    tx: &mut PgConnection,
    (org_id, account_id): Owner,
    but: Option<SessionId>,
    now: OffsetDateTime,
) -> Result<()> {
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

/// Finds the accounts whose password ends with one of these tokens of the org.
pub async fn find_ending_with(
    db: impl PgExecutor<'_>,
    org_id: OrgId,
    token_ids: &[Uuid],
) -> Result<Vec<AccountId>> {
    let query = sqlx::query_scalar!(
        "select account_id from passwords where org_id = $1 and ends_with = any($2)",
        org_id.uuid(),
        token_ids
    );
    Ok(query.fetch_all(db).await?.into_iter().map(AccountId::from).collect())
}

/// Finds the accounts whose password comes from one of these credentials.
///
/// Searches all orgs, as the search for what a compromised token made does.
pub async fn find_made_by(db: impl PgExecutor<'_>, makers: &[Uuid]) -> Result<Vec<Owner>> {
    let query = sqlx::query!("select org_id, account_id from passwords where made_by = any($1)", makers);
    let rows = query.fetch_all(db).await?;
    Ok(rows.into_iter().map(|row| (row.org_id.into(), row.account_id.into())).collect())
}

/// Deletes the passwords of these accounts, ends all their sessions, and makes their JWTs stale.
pub async fn take_away(
    tx: &mut PgConnection,
    org_id: OrgId,
    accounts: &[AccountId],
    now: OffsetDateTime,
) -> Result<()> {
    let ids: Vec<Uuid> = accounts.iter().map(|id| id.uuid()).collect();
    // The accounts first: a login that is under way has its session then, and no other one begins.
    let updated = sqlx::query!(
        "update accounts set password_time = null, revision = revision + 1, update_time = $3
         where org_id = $1 and account_id = any($2)",
        org_id.uuid(),
        &ids,
        now
    );
    updated.execute(&mut *tx).await?;
    let ended = sqlx::query!(
        "update sessions set end_time = $3
         where org_id = $1 and account_id = any($2) and end_time is null and expire_time > $3",
        org_id.uuid(),
        &ids,
        now
    );
    ended.execute(&mut *tx).await?;
    let deleted =
        sqlx::query!("delete from passwords where org_id = $1 and account_id = any($2)", org_id.uuid(), &ids);
    deleted.execute(&mut *tx).await?;
    let raised = sqlx::query!(
        "update memberships set version = version + 1 where org_id = $1 and account_id = any($2)",
        org_id.uuid(),
        &ids
    );
    raised.execute(tx).await?;
    Ok(())
}
