//! `sessions`: what logins gave, each in the home org of its account.

use sqlx::{PgConnection, PgExecutor};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::db::one_row;
use crate::domain::tokens::secrets::SecretRecord;
use crate::domain::values::ids::{AccountId, OrgId, SessionId};
use crate::error::{Reason, Result};

/// How long a session that has ended is still known for what it was.
const KEPT: Duration = Duration::days(1);
/// How many are swept at once.
const SWEPT_AT_ONCE: i64 = 10_000;

/// A session to be kept.
pub struct NewSession<'a> {
    pub session_id: SessionId,
    /// The home of the account.
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

/// Keeps a new session. The account's row is held.
pub async fn insert(tx: &mut PgConnection, new: &NewSession<'_>, now: OffsetDateTime) -> Result<()> {
    let narrow = sqlx::query!(
        "insert into credentials (credential_id, org_id, account_id) values ($1, $2, $3)",
        new.session_id.uuid(),
        new.org_id.uuid(),
        new.account_id.uuid()
    );
    one_row(&narrow.execute(&mut *tx).await?, "making a session")?;
    let kept = sqlx::query!(
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
    one_row(&kept.execute(tx).await?, "keeping a session")
}

/// A session of this org, ended or not.
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

/// Keeps a session from being ended until the transaction ends: whoever ends it then finds
/// what it made.
///
/// # Errors
/// `TOKEN_REVOKED` when it was.
pub async fn hold_live(tx: &mut PgConnection, org_id: OrgId, session_id: SessionId) -> Result<()> {
    let query = sqlx::query_scalar!(
        "select session_id from sessions
         where org_id = $1 and session_id = $2 and end_time is null for share",
        org_id.uuid(),
        session_id.uuid()
    );
    query.fetch_optional(tx).await?.map(|_| ()).ok_or_else(|| Reason::TokenRevoked.into())
}

/// Ends a session. False when it was before.
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

/// Ends the sessions of an account, but for one. Returns how many were live.
pub async fn end_of_account(
    tx: &mut PgConnection,
    org_id: OrgId,
    account_id: AccountId,
    but: Option<SessionId>,
    now: OffsetDateTime,
) -> Result<u64> {
    let query = sqlx::query!(
        "update sessions set end_time = $3
         where org_id = $1 and account_id = $2 and end_time is null and expire_time > $3
           and ($4::uuid is null or session_id <> $4)",
        org_id.uuid(),
        account_id.uuid(),
        now,
        but.map(SessionId::uuid)
    );
    Ok(query.execute(tx).await?.rows_affected())
}

/// Ends the sessions of all accounts of an org.
pub async fn end_of_org(tx: &mut PgConnection, org_id: OrgId, now: OffsetDateTime) -> Result<()> {
    let query = sqlx::query!(
        "update sessions set end_time = $2 where org_id = $1 and end_time is null and expire_time > $2",
        org_id.uuid(),
        now
    );
    query.execute(tx).await?;
    Ok(())
}

/// Drops the sessions of an account that is purged.
pub async fn purge(tx: &mut PgConnection, org_id: OrgId, account_id: AccountId) -> Result<()> {
    let gone = sqlx::query_scalar!(
        "delete from sessions where org_id = $1 and account_id = $2 returning session_id",
        org_id.uuid(),
        account_id.uuid()
    );
    let gone = gone.fetch_all(&mut *tx).await?;
    sqlx::query!("delete from credentials where credential_id = any($1)", &gone).execute(tx).await?;
    Ok(())
}

/// Drops those that have ended some time ago, in all orgs. Returns how many went.
pub async fn sweep(db: impl PgExecutor<'_> + Copy, now: OffsetDateTime) -> Result<u64> {
    let due = sqlx::query_scalar!(
        "select session_id from sessions where expire_time < $1 order by expire_time limit $2",
        now - KEPT,
        SWEPT_AT_ONCE
    );
    let due = due.fetch_all(db).await?;
    // The narrow rows first: whoever is interrupted finds the others again.
    sqlx::query!("delete from credentials where credential_id = any($1)", &due).execute(db).await?;
    let gone = sqlx::query!("delete from sessions where session_id = any($1)", &due);
    Ok(gone.execute(db).await?.rows_affected())
}

/// The last use of a session since it was last written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionUse {
    pub org_id: OrgId,
    pub session_id: SessionId,
    pub time: OffsetDateTime,
}

/// Writes down when many sessions were last used, in one statement. The time goes forward only.
pub async fn note_uses(db: impl PgExecutor<'_>, uses: &[SessionUse]) -> Result<()> {
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
