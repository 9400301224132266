//! The sweep of rows whose retention has expired, in all tables that have one.

use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use time::{Duration, OffsetDateTime};

use super::email_budgets;
use super::federation::presentations;
use super::orgs::invitations;
use super::pool::Db;
use super::requests;
use super::sign_in::sessions;
use super::tokens::{secrets, used_assertions};
use super::verifiers;
use crate::error::Result;

/// How long feed rows are stored.
const FEED_RETENTION: Duration = Duration::hours(24);
/// How long events are stored.
const EVENT_RETENTION: Duration = Duration::days(400);
/// How long the origins of expired tokens are stored: longer than the clocks of nodes differ.
const ORIGIN_RETENTION: Duration = Duration::days(1);

/// How long a code is stored after it has expired, so that its holder can be told why it is refused.
const CODE_RETENTION: Duration = Duration::days(30);
/// How long a request for a new password is stored when no node handles it.
const RESET_REQUEST_RETENTION: Duration = Duration::hours(1);
/// How long an email is stored after it was sent.
const SENT_EMAIL_RETENTION: Duration = Duration::days(7);
/// How long an email is stored after it was given up.
const DEAD_EMAIL_RETENTION: Duration = Duration::days(30);

/// How long a secret is stored after it has expired.
///
/// Until then its holder gets an error that says that it has expired, and its last use is displayed.
const SECRET_RETENTION: Duration = Duration::days(30);

/// Deletes the rows whose retention has expired, and returns how many there were.
///
/// Any number of nodes may do it at once. Each table has a transaction of its own, in which a
/// statement may take longer than any call.
pub async fn sweep(db: &Db, now: OffsetDateTime) -> Result<u64> {
    // Rows that are not settled stay: no client that resumes the feed can have received them yet. The
    // position up to which rows were deleted is stored in the same statement, so that such a client
    // learns that it has missed some.
    let feed = sqlx::query_scalar!(
        r#"with gone as (
               delete from feed
               where create_time < $1
                 and (epoch <> (select feed_epoch from deployment)
                      or xid < pg_snapshot_xmin(pg_current_snapshot())::text::bigint)
               returning epoch, xid, seq
           ), noted as (
               insert into feed_sweeps (epoch, xid, seq)
               select distinct on (epoch) epoch, xid, seq from gone order by epoch, xid desc, seq desc
               on conflict (epoch) do update set xid = excluded.xid, seq = excluded.seq
               where (feed_sweeps.xid, feed_sweeps.seq) < (excluded.xid, excluded.seq)
           )
           select count(*) as "rows!" from gone"#,
        now - FEED_RETENTION
    );
    let mut tx = db.begin_job().await?;
    let feed = feed.fetch_one(&mut *tx).await?;
    tx.commit().await?;
    let requests = sqlx::query!("delete from requests where create_time < $1", now - requests::RETENTION);
    let events = sqlx::query!("delete from events where create_time < $1", now - EVENT_RETENTION);
    let event_resources =
        sqlx::query!("delete from event_resources where create_time < $1", now - EVENT_RETENTION);
    let origins = sqlx::query!("delete from token_origins where expire_time < $1", now - ORIGIN_RETENTION);
    // Written so that the index on the time at which an email was sent or given up can be used.
    let emails = sqlx::query!(
        "delete from outbox
         where next_time is null and coalesce(sent_time, dead_time) < $1 and (sent_time is not null or dead_time < $2)",
        now - SENT_EMAIL_RETENTION,
        now - DEAD_EMAIL_RETENTION
    );
    let logins = sqlx::query!("delete from login_buckets where keep_until < $1", now);
    let codes = sqlx::query!("delete from codes where expire_time < $1", now - CODE_RETENTION);
    let resets =
        sqlx::query!("delete from reset_requests where create_time < $1", now - RESET_REQUEST_RETENTION);
    let mut tx = db.begin_job().await?;
    let mut deleted = feed as u64 + sessions::sweep(&mut tx, now).await?;
    tx.commit().await?;
    let mut tx = db.begin_job().await?;
    deleted += invitations::sweep(&mut *tx, now).await?;
    tx.commit().await?;
    let mut tx = db.begin_job().await?;
    deleted += email_budgets::sweep(&mut *tx, now).await?;
    tx.commit().await?;
    let mut tx = db.begin_job().await?;
    deleted += secrets::sweep(&mut tx, now - SECRET_RETENTION).await?;
    tx.commit().await?;
    let mut tx = db.begin_job().await?;
    deleted += used_assertions::sweep(&mut *tx, now).await?;
    tx.commit().await?;
    let mut tx = db.begin_job().await?;
    deleted += verifiers::sweep(&mut *tx, now).await?;
    tx.commit().await?;
    let mut tx = db.begin_job().await?;
    deleted += presentations::sweep(&mut tx, now).await?;
    tx.commit().await?;
    for query in [emails, requests, event_resources, events, origins, logins, codes, resets] {
        deleted += carry_out(db, query).await?;
    }
    Ok(deleted)
}

async fn carry_out(db: &Db, query: Query<'_, Postgres, PgArguments>) -> Result<u64> {
    let mut tx = db.begin_job().await?;
    let deleted = query.execute(&mut *tx).await?.rows_affected();
    tx.commit().await?;
    Ok(deleted)
}
