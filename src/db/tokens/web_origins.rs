//! `token_origins`: the web origins that CORS allows, because a token names them.

use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

use super::counts;
use crate::domain::values::ids::{OrgId, TokenId};
use crate::domain::values::text::texts;
use crate::domain::values::web_origin::WebOrigin;
use crate::error::{Error, Result};

/// An origin that a token names.
pub struct NamedOrigin {
    pub origin: String,
    pub token_id: Uuid,
    /// When the token expires; none if it does not.
    pub expire_time: Option<OffsetDateTime>,
}

/// Finds all origins of tokens that have not expired.
pub async fn find_all(db: impl PgExecutor<'_>, now: OffsetDateTime) -> Result<Vec<NamedOrigin>> {
    let query = sqlx::query_as!(
        NamedOrigin,
        "select origin, token_id, expire_time from token_origins where expire_time is null or expire_time > $1",
        now
    );
    Ok(query.fetch_all(db).await?)
}

/// Finds the origins of these tokens.
pub async fn find_of(db: impl PgExecutor<'_>, tokens: &[Uuid]) -> Result<Vec<NamedOrigin>> {
    let query = sqlx::query_as!(
        NamedOrigin,
        "select origin, token_id, expire_time from token_origins where token_id = any($1)",
        tokens
    );
    Ok(query.fetch_all(db).await?)
}

/// Sets until when the origins of a token count.
pub async fn set_expiry(tx: &mut PgConnection, token_id: TokenId, end: OffsetDateTime) -> Result<()> {
    let query =
        sqlx::query!("update token_origins set expire_time = $2 where token_id = $1", token_id.uuid(), end);
    query.execute(tx).await?;
    Ok(())
}

/// Inserts the origins of a token that has none yet. The org is locked if there are any.
///
/// # Errors
/// `LIMIT_REACHED`.
pub async fn insert(
    tx: &mut PgConnection,
    org_id: OrgId,
    token_id: TokenId,
    origins: &[WebOrigin],
    expire_time: Option<OffsetDateTime>,
    now: OffsetDateTime,
) -> Result<()> {
    if origins.is_empty() {
        return Ok(());
    }
    let mut texts = texts(origins);
    texts.sort_unstable();
    texts.dedup();
    let query = sqlx::query!(
        "insert into token_origins (origin, token_id, org_id, expire_time)
         select origin, $2, $3, $4 from unnest($1::text[]) origin",
        &texts,
        token_id.uuid(),
        org_id.uuid(),
        expire_time
    );
    match query.execute(&mut *tx).await?.rows_affected() {
        rows if rows == texts.len() as u64 => counts::refuse_too_many_origins(tx, org_id, now).await,
        rows => Err(Error::internal(format!("inserting {} origins touched {rows} rows", texts.len()))),
    }
}

/// Deletes the origins of these tokens.
///
/// The number of deleted rows is not checked, since each token may name any number of origins.
pub async fn delete(tx: &mut PgConnection, org_id: OrgId, token_ids: &[TokenId]) -> Result<()> {
    let tokens: Vec<Uuid> = token_ids.iter().map(|id| id.uuid()).collect();
    let query = sqlx::query!(
        "delete from token_origins where org_id = $1 and token_id = any($2)",
        org_id.uuid(),
        &tokens
    );
    query.execute(tx).await?;
    Ok(())
}
