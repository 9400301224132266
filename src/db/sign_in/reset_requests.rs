//! `reset_requests`: requests for a new password, whether the account exists or not.

use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::values::names::Email;
use crate::error::Result;

/// A request for a new password: the address that it came from, and its request id.
pub struct ResetRequest {
    pub address: Option<String>,
    pub request_id: String,
}

/// Inserts a request.
///
/// It waits for no other transaction that inserts, or handles, requests for the same username, because
/// how long the handling takes depends on whether there is such an account.
pub async fn insert(
    tx: &mut PgConnection,
    id: Uuid,
    username: &Email,
    request: &ResetRequest,
    now: OffsetDateTime,
) -> Result<()> {
    let query = sqlx::query!(
        "insert into reset_requests (reset_request_id, username, address, request_id, create_time)
         values ($1, $2, $3, $4, $5)",
        id,
        username.as_str(),
        request.address,
        request.request_id,
        now
    );
    query.execute(tx).await?;
    Ok(())
}

/// Finds the usernames of the requests except these, those that have waited longest first.
pub async fn find(db: impl PgExecutor<'_>, except: &[String], limit: i64) -> Result<Vec<String>> {
    let query = sqlx::query_scalar!(
        "select username from reset_requests where username <> all($1)
         group by username order by min(create_time) limit $2",
        except,
        limit
    );
    Ok(query.fetch_all(db).await?)
}

/// Deletes all requests for a username, and returns one of them; none when another node was first.
///
/// The caller handles them as a single request, in the same transaction.
pub async fn take(tx: &mut PgConnection, username: &str) -> Result<Option<ResetRequest>> {
    let query = sqlx::query_as!(
        ResetRequest,
        "delete from reset_requests where username = $1 returning address, request_id",
        username
    );
    Ok(query.fetch_all(tx).await?.pop())
}
