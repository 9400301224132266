//! `sessions`: the sessions that logins have created, each in the home org of its account.

use sqlx::{PgConnection, PgExecutor};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::password_maker::PasswordMaker;
use crate::db::{one_row, stored_secret};
use crate::domain::access::credential::TiedTo;
use crate::domain::sign_in::emailed_codes::CodePurpose;
use crate::domain::tokens::secrets::SecretRecord;
use crate::domain::values::ids::{AccountId, OrgId, SessionId, TokenId};
use crate::error::Result;

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
    /// The credential that the password comes from with which it begins.
    pub maker: PasswordMaker,
}

/// A session as it is stored.
pub struct Session {
    pub account_id: AccountId,
    pub secret: SecretRecord,
    pub create_time: OffsetDateTime,
    pub expire_time: OffsetDateTime,
    pub use_time: OffsetDateTime,
    pub ended: bool,
    /// The token with which it ends.
    pub tied_to: Option<TiedTo>,
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
        "insert into sessions (org_id, session_id, account_id, mac, pepper_id, create_time, expire_time, use_time,
                               password_made_by, ends_with)
         values ($1, $2, $3, $4, $5, $6, $7, $6, $8, $9)",
        new.org_id.uuid(),
        new.session_id.uuid(),
        new.account_id.uuid(),
        &new.secret.mac,
        new.secret.pepper,
        now,
        new.expire_time,
        new.maker.made_by,
        new.maker.ends_with.map(TokenId::uuid)
    );
    one_row(&session.execute(tx).await?, "inserting a session")
}

/// Finds a session of this org, ended or not.
///
/// One that ends with a token has ended when that was revoked, and expires with it.
pub async fn find(db: impl PgExecutor<'_>, org_id: OrgId, session_id: SessionId) -> Result<Option<Session>> {
    let query = sqlx::query!(
        r#"select s.account_id, s.mac, s.pepper_id, s.create_time, s.use_time, s.ends_with,
                  least(s.expire_time, t.expire_time) as "expire_time!", t.expire_time as "token_expire_time?",
                  (s.end_time is not null or t.revoke_time is not null
                   or (s.ends_with is not null and t.token_id is null)) as "ended!"
           from sessions s left join tokens t on t.org_id = $1 and t.token_id = s.ends_with
           where s.org_id = $1 and s.session_id = $2"#,
        org_id.uuid(),
        session_id.uuid()
    );
    let Some(row) = query.fetch_optional(db).await? else { return Ok(None) };
    Ok(Some(Session {
        account_id: row.account_id.into(),
        secret: stored_secret(row.mac, row.pepper_id)?,
        create_time: row.create_time,
        expire_time: row.expire_time,
        use_time: row.use_time,
        ended: row.ended,
        tied_to: row
            .ends_with
            .map(|token_id| TiedTo { token_id: token_id.into(), expire_time: row.token_expire_time }),
    }))
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

/// Ends the sessions that end with these tokens. Returns their accounts.
pub async fn end_with(
    tx: &mut PgConnection,
    org_id: OrgId,
    token_ids: &[Uuid],
    now: OffsetDateTime,
) -> Result<Vec<AccountId>> {
    let query = sqlx::query_scalar!(
        "update sessions set end_time = $3
         where org_id = $1 and ends_with = any($2) and end_time is null and expire_time > $3
         returning account_id",
        org_id.uuid(),
        token_ids,
        now
    );
    Ok(query.fetch_all(tx).await?.into_iter().map(AccountId::from).collect())
}

/// Finds the sessions that began with a password which these credentials made, whatever their state.
///
/// Searches all orgs, as the search for what a compromised token made does.
pub async fn find_begun_by(db: impl PgExecutor<'_>, makers: &[Uuid]) -> Result<Vec<SessionId>> {
    let query =
        sqlx::query_scalar!("select session_id from sessions where password_made_by = any($1)", makers);
    Ok(query.fetch_all(db).await?.into_iter().map(SessionId::from).collect())
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
    let deleted = sqlx::query!(
        "delete from sessions where org_id = $1 and account_id = $2 returning session_id, password_made_by",
        org_id.uuid(),
        account_id.uuid()
    );
    let deleted = deleted.fetch_all(&mut *tx).await?;
    let forgotten: Vec<_> = deleted.into_iter().map(|row| (row.session_id, row.password_made_by)).collect();
    forget(tx, &forgotten).await
}

/// Deletes the narrow rows of sessions that are deleted. What a session has made counts from then on as made
/// by the credential that its password came from, so that this one is still found to be its maker.
async fn forget(tx: &mut PgConnection, sessions: &[(Uuid, Option<Uuid>)]) -> Result<()> {
    let with_maker = sessions.iter().filter_map(|(session_id, maker)| Some((*session_id, (*maker)?)));
    let (ids, makers): (Vec<Uuid>, Vec<Uuid>) = with_maker.unzip();
    if !ids.is_empty() {
        // Everything that names the credential that made it.
        macro_rules! hand_over {
            ($statement:tt) => {
                sqlx::query!($statement, &ids, &makers).execute(&mut *tx).await?
            };
        }
        hand_over!(
            "update credentials c set made_by = u.maker
             from unnest($1::uuid[], $2::uuid[]) as u (session_id, maker) where c.made_by = u.session_id"
        );
        hand_over!(
            "update token_secrets s set made_by = u.maker
             from unnest($1::uuid[], $2::uuid[]) as u (session_id, maker) where s.made_by = u.session_id"
        );
        hand_over!(
            "update accounts a set made_by = u.maker
             from unnest($1::uuid[], $2::uuid[]) as u (session_id, maker) where a.made_by = u.session_id"
        );
        hand_over!(
            "update passwords p set made_by = u.maker
             from unnest($1::uuid[], $2::uuid[]) as u (session_id, maker) where p.made_by = u.session_id"
        );
        hand_over!(
            "update invitations i set credential_id = u.maker
             from unnest($1::uuid[], $2::uuid[]) as u (session_id, maker) where i.credential_id = u.session_id"
        );
        hand_over!(
            "update sessions s set password_made_by = u.maker
             from unnest($1::uuid[], $2::uuid[]) as u (session_id, maker)
             where s.password_made_by = u.session_id"
        );
        // Of many makers some may be among these sessions.
        hand_over!(
            "update federation_rules r set makers = array(
                 select coalesce(u.maker, m.id) from unnest(r.makers) with ordinality as m (id, place)
                 left join unnest($1::uuid[], $2::uuid[]) as u (session_id, maker) on u.session_id = m.id
                 order by m.place)
             where r.makers && $1"
        );
        hand_over!(
            "update issuers i set makers = array(
                 select coalesce(u.maker, m.id) from unnest(i.makers) with ordinality as m (id, place)
                 left join unnest($1::uuid[], $2::uuid[]) as u (session_id, maker) on u.session_id = m.id
                 order by m.place)
             where i.makers && $1"
        );
    }
    let ids: Vec<Uuid> = sessions.iter().map(|(session_id, _)| *session_id).collect();
    sqlx::query!("delete from credentials where credential_id = any($1)", &ids).execute(tx).await?;
    Ok(())
}

/// Deletes sessions of all orgs whose retention has expired. Returns how many there were.
pub async fn sweep(tx: &mut PgConnection, now: OffsetDateTime) -> Result<u64> {
    let due = sqlx::query!(
        "select session_id, password_made_by from sessions
         where expire_time < $1 and (compromise_time is null or compromise_time < $3)
         order by expire_time limit $2",
        now - RETENTION,
        SWEEP_LIMIT,
        now - COMPROMISED_RETENTION
    );
    let due = due.fetch_all(&mut *tx).await?;
    let due: Vec<_> = due.into_iter().map(|row| (row.session_id, row.password_made_by)).collect();
    // The rows in `credentials` first: after an interruption the next sweep finds the sessions again.
    forget(&mut *tx, &due).await?;
    let due: Vec<Uuid> = due.into_iter().map(|(session_id, _)| session_id).collect();
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
