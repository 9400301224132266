//! `reset_requests`: who asked for another password, whether there is such an account or not.

use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::values::names::Email;
use crate::error::Result;

/// What was asked, and from where.
pub struct ResetRequest {
    pub address: Option<String>,
    pub request_id: String,
}

/// Notes that somebody asked. It waits for nobody who asked, or answers, for the same name: how
/// long answering takes depends on whether there is such an account.
pub async fn insert(
    tx: &mut PgConnection,
    id: Uuid,
    username: &Email,
    asked: &ResetRequest,
    now: OffsetDateTime,
) -> Result<()> {
    let query = sqlx::query!(
        "insert into reset_requests (reset_request_id, username, address, request_id, create_time)
         values ($1, $2, $3, $4, $5)",
        id,
        username.as_str(),
        asked.address,
        asked.request_id,
        now
    );
    query.execute(tx).await?;
    Ok(())
}

/// Names that were asked for, those that wait longest first.
pub async fn find(db: impl PgExecutor<'_>, limit: i64) -> Result<Vec<String>> {
    let query = sqlx::query_scalar!(
        "select username from reset_requests group by username order by min(create_time) limit $1",
        limit
    );
    Ok(query.fetch_all(db).await?)
}

/// Takes all requests for a name away: whoever does so answers them as one, with the rest of the
/// transaction. None when another node was first.
pub async fn take(tx: &mut PgConnection, username: &str) -> Result<Option<ResetRequest>> {
    let query = sqlx::query_as!(
        ResetRequest,
        "delete from reset_requests where username = $1 returning address, request_id",
        username
    );
    Ok(query.fetch_all(tx).await?.pop())
}
