//! Rows that have served their time.

use sqlx::PgExecutor;
use time::{Duration, OffsetDateTime};

use super::orgs::invitations;
use super::requests;
use super::sign_in::sessions;
use crate::error::Result;

/// How long feed rows are kept.
const FEED_KEPT: Duration = Duration::hours(24);
/// How long events are kept.
const EVENTS_KEPT: Duration = Duration::days(400);
/// How long the origins of expired tokens are kept: longer than clocks differ.
const ORIGINS_KEPT: Duration = Duration::days(1);

/// How long a code is known after it has ended: its holder is told so.
const CODES_KEPT: Duration = Duration::days(30);
/// How long it is remembered that somebody asked for a new password, when no node looked.
const RESET_REQUESTS_KEPT: Duration = Duration::hours(1);
/// How long a mail is kept that was sent.
const SENT_MAILS_KEPT: Duration = Duration::days(7);
/// How long a mail is kept that was given up.
const DEAD_MAILS_KEPT: Duration = Duration::days(30);

/// How long a secret that has ended is still known for what it was: its holder is told that it
/// has expired, and its last use is shown.
const SECRETS_KEPT: Duration = Duration::days(30);

/// Deletes what is older than it is kept. Any number of nodes may do it at once.
/// Returns how many rows went.
pub async fn sweep(db: impl PgExecutor<'_> + Copy, now: OffsetDateTime) -> Result<u64> {
    // What is not settled stays: nobody who resumes the feed can have had it yet. How far was
    // swept is noted in the same statement, so that they hear of what they have missed.
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
        now - FEED_KEPT
    );
    let feed = feed.fetch_one(db).await?;
    let requests = sqlx::query!("delete from requests where create_time < $1", now - requests::KEPT);
    let events = sqlx::query!("delete from events where create_time < $1", now - EVENTS_KEPT);
    let secrets = sqlx::query!("delete from token_secrets where expire_time < $1", now - SECRETS_KEPT);
    let named = sqlx::query!("delete from event_resources where create_time < $1", now - EVENTS_KEPT);
    let origins = sqlx::query!("delete from token_origins where expire_time < $1", now - ORIGINS_KEPT);
    // Written so that the index on when they ended is of use.
    let mails = sqlx::query!(
        "delete from outbox
         where next_time is null and coalesce(sent_time, dead_time) < $1 and (sent_time is not null or dead_time < $2)",
        now - SENT_MAILS_KEPT,
        now - DEAD_MAILS_KEPT
    );
    let logins = sqlx::query!("delete from login_buckets where keep_until < $1", now);
    let codes = sqlx::query!("delete from codes where expire_time < $1", now - CODES_KEPT);
    let resets = sqlx::query!("delete from reset_requests where create_time < $1", now - RESET_REQUESTS_KEPT);
    let mut gone = feed as u64 + sessions::sweep(db, now).await? + invitations::sweep(db, now).await?;
    gone += mails.execute(db).await?.rows_affected();
    for query in [requests, named, events, secrets, origins, logins, codes, resets] {
        gone += query.execute(db).await?.rows_affected();
    }
    Ok(gone)
}
