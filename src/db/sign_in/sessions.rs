//! `sessions`: the sessions that logins have created, each in the home org of its account.

use sqlx::{PgConnection, PgExecutor};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::db::one_row;
use crate::domain::sign_in::emailed_codes::CodePurpose;
use crate::domain::tokens::secrets::SecretRecord;
use crate::domain::values::ids::{AccountId, OrgId, SessionId};
use crate::error::{Reason, Result};

/// How long a session is stored after it has expired, so that its use is refused with the right error.
const RETENTION: Duration = Duration::days(1);
/// How long a session that another person had is stored after it was revoked: what it sent may be
/// accepted for as long, and a sweep may be early by the clock of another node.
const COMPROMISED_RETENTION: Duration =
    Duration::seconds(CodePurpose::Invitation.lifetime().whole_seconds() + RETENTION.whole_seconds());
/// How many sessions are swept at once.
const SWEEP_LIMIT: i64 = 10_000;

/// A session to be inserted.
pub struct NewSession<'a> {
    pub session_id: SessionId,
    /// The home org of the account.
    pub org_id: OrgId,
    pub account_id: AccountId,
    pub secret: &'a SecretRecord,
    pub expire_time: OffsetDateTime,
}

/// A session as it is stored.
pub struct Session {
    pub account_id: AccountId,
    pub secret: SecretRecord,
    pub create_time: OffsetDateTime,
    pub expire_time: OffsetDateTime,
    pub use_time: OffsetDateTime,
    pub ended: bool,
}

/// Inserts a session. The row of the account is locked.
pub async fn insert(tx: &mut PgConnection, new: &NewSession<'_>, now: OffsetDateTime) -> Result<()> {
    let narrow = sqlx::query!(
        "insert into credentials (credential_id, org_id, account_id) values ($1, $2, $3)",
        new.session_id.uuid(),
        new.org_id.uuid(),
        new.account_id.uuid()
    );
    one_row(&narrow.execute(&mut *tx).await?, "inserting the credential of a session")?;
    let session = sqlx::query!(
        "insert into sessions (org_id, session_id, account_id, mac, pepper_id, create_time, expire_time, use_time)
         values ($1, $2, $3, $4, $5, $6, $7, $6)",
        new.org_id.uuid(),
        new.session_id.uuid(),
        new.account_id.uuid(),
        new.secret.mac,
        new.secret.pepper,
        now,
        new.expire_time
    );
    one_row(&session.execute(tx).await?, "inserting a session")
}

/// Finds a session of this org, ended or not.
pub async fn find(db: impl PgExecutor<'_>, org_id: OrgId, session_id: SessionId) -> Result<Option<Session>> {
    let query = sqlx::query!(
        r#"select account_id, mac, pepper_id, create_time, expire_time, use_time, end_time is not null as "ended!"
           from sessions where org_id = $1 and session_id = $2"#,
        org_id.uuid(),
        session_id.uuid()
    );
    Ok(query.fetch_optional(db).await?.map(|row| Session {
        account_id: row.account_id.into(),
        secret: SecretRecord { mac: row.mac, pepper: row.pepper_id },
        create_time: row.create_time,
        expire_time: row.expire_time,
        use_time: row.use_time,
        ended: row.ended,
    }))
}

/// Keeps a session from being ended until the transaction ends.
///
/// A transaction that ends the session afterwards finds what it has created.
///
/// # Errors
/// `TOKEN_REVOKED` when the session has been ended.
pub async fn hold_unrevoked(tx: &mut PgConnection, org_id: OrgId, session_id: SessionId) -> Result<()> {
    let query = sqlx::query_scalar!(
        "select session_id from sessions
         where org_id = $1 and session_id = $2 and end_time is null for share",
        org_id.uuid(),
        session_id.uuid()
    );
    query.fetch_optional(tx).await?.map(|_| ()).ok_or_else(|| Reason::TokenRevoked.into())
}

/// Ends a session. False if it had been ended before.
pub async fn end(
    tx: &mut PgConnection,
    org_id: OrgId,
    session_id: SessionId,
    now: OffsetDateTime,
) -> Result<bool> {
    let query = sqlx::query!(
        "update sessions set end_time = $3 where org_id = $1 and session_id = $2 and end_time is null",
        org_id.uuid(),
        session_id.uuid(),
        now
    );
    Ok(query.execute(tx).await?.rows_affected() == 1)
}

/// Stores that another person had the session, whether it had ended or not.
pub async fn mark_compromised(
    tx: &mut PgConnection,
    org_id: OrgId,
    session_id: SessionId,
    now: OffsetDateTime,
) -> Result<()> {
    let query = sqlx::query!(
        "update sessions set compromise_time = coalesce(compromise_time, $3)
         where org_id = $1 and session_id = $2",
        org_id.uuid(),
        session_id.uuid(),
        now
    );
    query.execute(tx).await?;
    Ok(())
}

/// Whether the session was revoked because another person had it.
pub async fn is_compromised(db: impl PgExecutor<'_>, org_id: OrgId, session_id: SessionId) -> Result<bool> {
    let query = sqlx::query_scalar!(
        r#"select exists (select 1 from sessions
                          where org_id = $1 and session_id = $2 and compromise_time is not null) as "is!""#,
        org_id.uuid(),
        session_id.uuid()
    );
    Ok(query.fetch_one(db).await?)
}

/// Ends the sessions of an account, except for one. Returns how many were active.
pub async fn end_for_account(
    tx: &mut PgConnection,
    org_id: OrgId,
    account_id: AccountId,
    except: Option<SessionId>,
    now: OffsetDateTime,
) -> Result<u64> {
    let query = sqlx::query!(
        "update sessions set end_time = $3
         where org_id = $1 and account_id = $2 and end_time is null and expire_time > $3
           and ($4::uuid is null or session_id <> $4)",
        org_id.uuid(),
        account_id.uuid(),
        now,
        except.map(SessionId::uuid)
    );
    Ok(query.execute(tx).await?.rows_affected())
}

/// Ends the sessions of all accounts of an org.
pub async fn end_for_org(tx: &mut PgConnection, org_id: OrgId, now: OffsetDateTime) -> Result<()> {
    let query = sqlx::query!(
        "update sessions set end_time = $2 where org_id = $1 and end_time is null and expire_time > $2",
        org_id.uuid(),
        now
    );
    query.execute(tx).await?;
    Ok(())
}

/// Deletes the sessions of an account that is purged.
pub async fn purge(tx: &mut PgConnection, org_id: OrgId, account_id: AccountId) -> Result<()> {
    let deleted = sqlx::query_scalar!(
        "delete from sessions where org_id = $1 and account_id = $2 returning session_id",
        org_id.uuid(),
        account_id.uuid()
    );
    let deleted = deleted.fetch_all(&mut *tx).await?;
    sqlx::query!("delete from credentials where credential_id = any($1)", &deleted).execute(tx).await?;
    Ok(())
}

/// Deletes sessions of all orgs whose retention has expired. Returns how many there were.
pub async fn sweep(tx: &mut PgConnection, now: OffsetDateTime) -> Result<u64> {
    let due = sqlx::query_scalar!(
        "select session_id from sessions
         where expire_time < $1 and (compromise_time is null or compromise_time < $3)
         order by expire_time limit $2",
        now - RETENTION,
        SWEEP_LIMIT,
        now - COMPROMISED_RETENTION
    );
    let due = due.fetch_all(&mut *tx).await?;
    // The rows in `credentials` first: after an interruption the next sweep finds the sessions again.
    sqlx::query!("delete from credentials where credential_id = any($1)", &due).execute(&mut *tx).await?;
    let deleted = sqlx::query!("delete from sessions where session_id = any($1)", &due);
    Ok(deleted.execute(tx).await?.rows_affected())
}

/// The last use of a session since the last write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionUse {
    pub org_id: OrgId,
    pub session_id: SessionId,
    pub time: OffsetDateTime,
}

/// Stores the last use of many sessions in one statement. A stored time only moves forward.
pub async fn record_uses(db: impl PgExecutor<'_>, uses: &[SessionUse]) -> Result<()> {
    let orgs: Vec<Uuid> = uses.iter().map(|used| used.org_id.uuid()).collect();
    let sessions: Vec<Uuid> = uses.iter().map(|used| used.session_id.uuid()).collect();
    let times: Vec<OffsetDateTime> = uses.iter().map(|used| used.time).collect();
    let query = sqlx::query!(
        "update sessions s set use_time = u.time
         from unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) as u (org_id, session_id, time)
         where s.org_id = u.org_id and s.session_id = u.session_id and s.use_time < u.time",
        &orgs,
        &sessions,
        &times
    );
    query.execute(db).await?;
    Ok(())
}
