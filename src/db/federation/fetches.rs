//! What nodes have found when they fetched the keys of issuers: columns of `issuers`.

use sqlx::PgExecutor;
use time::OffsetDateTime;

use crate::domain::federation::fetching::{FetchError, FetchFacts};
use crate::domain::values::ids::{IssuerId, OrgId};
use crate::error::Result;

/// The thumbprints of the keys of an issuer that were fetched last; none where it was never fetched, or has
/// changed since this version.
pub async fn find_thumbprints(
    db: impl PgExecutor<'_>,
    org_id: OrgId,
    issuer_id: IssuerId,
    version: i64,
) -> Result<Option<Vec<String>>> {
    let query = sqlx::query_scalar!(
        "select key_prints from issuers where org_id = $1 and issuer_id = $2 and version = $3",
        org_id.uuid(),
        issuer_id.uuid(),
        version
    );
    Ok(query.fetch_optional(db).await?.flatten())
}

/// Stores what was fetched, unless the issuer was changed, or fetched by another node, since.
pub async fn record_keys(
    db: impl PgExecutor<'_>,
    (org_id, issuer_id): (OrgId, IssuerId),
    version: i64,
    facts: &FetchFacts,
    time: OffsetDateTime,
) -> Result<()> {
    let query = sqlx::query!(
        "update issuers set fetch_time = $4, fetch_error = null, fetched_jwks_uri = $5, key_ids = $6, key_prints = $7
         where org_id = $1 and issuer_id = $2 and version = $3 and (fetch_time is null or fetch_time < $4)",
        org_id.uuid(),
        issuer_id.uuid(),
        version,
        time,
        facts.jwks_uri,
        &facts.key_ids,
        &facts.thumbprints
    );
    query.execute(db).await?;
    Ok(())
}

/// Stores why keys were not fetched, unless another node has fetched them since.
pub async fn record_failure(
    db: impl PgExecutor<'_>,
    (org_id, issuer_id): (OrgId, IssuerId),
    version: i64,
    error: FetchError,
    time: OffsetDateTime,
) -> Result<()> {
    let query = sqlx::query!(
        "update issuers set fetch_error = $4
         where org_id = $1 and issuer_id = $2 and version = $3 and (fetch_time is null or fetch_time < $5)",
        org_id.uuid(),
        issuer_id.uuid(),
        version,
        error.name(),
        time
    );
    query.execute(db).await?;
    Ok(())
}
