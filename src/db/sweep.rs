//! Rows that have served their time.

use sqlx::PgPool;
use time::{Duration, OffsetDateTime};

use super::requests;
use crate::error::Result;

/// How long feed rows are kept.
const FEED_KEPT: Duration = Duration::hours(24);
/// How long events are kept.
const EVENTS_KEPT: Duration = Duration::days(400);
/// How long the origins of expired tokens are kept: longer than clocks differ.
const ORIGINS_KEPT: Duration = Duration::days(1);

/// How long a secret that has ended is still known for what it was: its holder is told that it
/// has expired, and its last use is shown.
const SECRETS_KEPT: Duration = Duration::days(30);

/// Deletes what is older than it is kept. Any number of nodes may do it at once.
/// Returns how many rows went.
pub async fn sweep(db: &PgPool, now: OffsetDateTime) -> Result<u64> {
    let feed = sqlx::query!("delete from feed where create_time < $1", now - FEED_KEPT);
    let requests = sqlx::query!("delete from requests where create_time < $1", now - requests::KEPT);
    let events = sqlx::query!("delete from events where create_time < $1", now - EVENTS_KEPT);
    let secrets = sqlx::query!("delete from token_secrets where expire_time < $1", now - SECRETS_KEPT);
    let origins = sqlx::query!("delete from token_origins where expire_time < $1", now - ORIGINS_KEPT);
    let mut gone = 0;
    for query in [feed, requests, events, secrets, origins] {
        gone += query.execute(db).await?.rows_affected();
    }
    Ok(gone)
}
