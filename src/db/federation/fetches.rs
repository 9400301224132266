//! What nodes have found when they fetched the keys of issuers: columns of `issuers`.

use sqlx::PgExecutor;
use time::OffsetDateTime;

use crate::domain::federation::fetching::{FETCHED_AHEAD, FetchError, FetchFacts};
use crate::domain::values::ids::{IssuerId, OrgId};
use crate::error::Result;

/// What is stored of the last good fetch of an issuer's keys.
pub struct LastFetch {
    /// The thumbprints of the keys; none where they were never fetched.
    pub thumbprints: Option<Vec<String>>,
    /// When they were fetched.
    pub time: Option<OffsetDateTime>,
    /// When keys were last stored that were others than before.
    pub change_time: Option<OffsetDateTime>,
}

/// Finds what is stored of the last good fetch; none where the issuer has changed since this version.
pub async fn find_last(
    db: impl PgExecutor<'_>,
    org_id: OrgId,
    issuer_id: IssuerId,
    version: i64,
) -> Result<Option<LastFetch>> {
    let query = sqlx::query_as!(
        LastFetch,
        r#"select key_prints as thumbprints, fetch_time as time, keys_change_time as change_time
           from issuers where org_id = $1 and issuer_id = $2 and version = $3"#,
        org_id.uuid(),
        issuer_id.uuid(),
        version
    );
    Ok(query.fetch_optional(db).await?)
}

/// Stores what was fetched, unless the issuer was changed, or fetched by another node, since: whether it did. A time
/// that is to come is replaced. `changed` is now, where the keys are others than before.
pub async fn record_keys(
    db: impl PgExecutor<'_>,
    (org_id, issuer_id): (OrgId, IssuerId),
    version: i64,
    facts: &FetchFacts,
    (time, now): (OffsetDateTime, OffsetDateTime),
    changed: Option<OffsetDateTime>,
) -> Result<bool> {
    let query = sqlx::query!(
        "update issuers set fetch_time = $4, fetch_error = null, fetched_jwks_uri = $5, key_ids = $6, key_prints = $7,
                keys_change_time = coalesce($8, keys_change_time)
         where org_id = $1 and issuer_id = $2 and version = $3
           and (fetch_time is null or fetch_time < $4 or fetch_time > $9)",
        org_id.uuid(),
        issuer_id.uuid(),
        version,
        time,
        facts.jwks_uri,
        &facts.key_ids,
        &facts.thumbprints,
        changed,
        now + FETCHED_AHEAD
    );
    Ok(query.execute(db).await?.rows_affected() == 1)
}

/// Stores why keys were not fetched, unless another node has fetched them since. That they were not asked for says
/// less than why the last time failed.
pub async fn record_failure(
    db: impl PgExecutor<'_>,
    (org_id, issuer_id): (OrgId, IssuerId),
    version: i64,
    error: FetchError,
    (time, now): (OffsetDateTime, OffsetDateTime),
) -> Result<()> {
    let query = sqlx::query!(
        "update issuers set fetch_error = case when $6 then coalesce(fetch_error, $4) else $4 end
         where org_id = $1 and issuer_id = $2 and version = $3
           and (fetch_time is null or fetch_time < $5 or fetch_time > $7)",
        org_id.uuid(),
        issuer_id.uuid(),
        version,
        error.name(),
        time,
        error == FetchError::TooOften,
        now + FETCHED_AHEAD
    );
    query.execute(db).await?;
    Ok(())
}
