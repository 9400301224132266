//! Whether a pooler, such as PgBouncer, stands before the database, and whether this server can
//! work with it.
//!
//! A pooler in transaction mode gives each transaction whichever session is free. A statement that
//! was prepared in one session is then missing in the next, unless the pooler prepares it there,
//! which PgBouncer does from 1.21 on. This is found out at the start: later it would be an error of
//! some calls, and of others not.

use std::fmt;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use tokio::time::timeout;

use super::sqlstate;

/// How long the probe waits for a session that another connection holds: a pooler of one session
/// has no second one.
const WAIT: Duration = Duration::from_secs(3);

/// Why this server cannot work with what it is connected to.
#[derive(Debug)]
pub enum PoolerError {
    Unreachable(sqlx::Error),
    /// A pooler refuses a parameter that every session begins with.
    RefusesParameters,
    /// Prepared statements get lost.
    LosesStatements,
    Database(sqlx::Error),
}

impl fmt::Display for PoolerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Its `Display` names the cause already.
            Self::Unreachable(error) => write!(f, "the database cannot be reached: {}", sqlstate::text(error)),
            Self::RefusesParameters => f.write_str(
                "the pooler before the database refuses a startup parameter: set \
                 `ignore_startup_parameters = extra_float_digits` in PgBouncer",
            ),
            Self::LosesStatements => f.write_str(
                "the pooler before the database is in transaction mode and loses prepared statements: \
                 use PgBouncer 1.21 or newer with `max_prepared_statements` above 0, or `pool_mode = session`, \
                 or connect to PostgreSQL itself",
            ),
            Self::Database(error) => write!(f, "the database did not answer: {}", sqlstate::text(error)),
        }
    }
}

impl std::error::Error for PoolerError {}

impl From<sqlx::Error> for PoolerError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

/// Opens a single connection.
///
/// # Errors
/// When it is refused, which the error says in words.
pub async fn connect(options: &PgConnectOptions) -> Result<PgConnection, PoolerError> {
    PgConnection::connect_with(options).await.map_err(|error| {
        let refuses = |text: &str| text.contains("unsupported startup parameter");
        match error.as_database_error() {
            // PgBouncer has no code of its own for it.
            Some(refused) if refuses(refused.message()) => PoolerError::RefusesParameters,
            _ => PoolerError::Unreachable(error),
        }
    })
}

/// Whether a pooler gives each transaction another session.
///
/// # Errors
/// When the database is unreachable, or prepared statements get lost.
pub async fn probe(options: &PgConnectOptions) -> Result<bool, PoolerError> {
    let (mut a, mut b) = (connect(options).await?, connect(options).await?);
    let shared = is_shared(&mut a, &mut b).await?;
    if shared && !keeps_statements(&mut a, &mut b).await? {
        return Err(PoolerError::LosesStatements);
    }
    a.close().await?;
    b.close().await?;
    Ok(shared)
}

/// Whether one connection gets the session that another one had, or another session than before
/// while that one holds it.
async fn is_shared(a: &mut PgConnection, b: &mut PgConnection) -> sqlx::Result<bool> {
    let before = session(a).await?;
    let mut held = b.begin().await?;
    if session(&mut held).await? == before {
        held.rollback().await?;
        return Ok(true);
    }
    let after = session(a).await?;
    held.rollback().await?;
    Ok(after != before)
}

/// The process id of the session. By the simple protocol: nothing is prepared.
async fn session(connection: &mut PgConnection) -> sqlx::Result<i32> {
    use sqlx::{Executor as _, Row as _};
    connection.fetch_one(sqlx::raw_sql("select pg_backend_pid()")).await?.try_get(0)
}

/// Whether a statement that was prepared over one connection is still there when another one holds
/// the session, and whether another connection can prepare one in the same session.
async fn keeps_statements(a: &mut PgConnection, b: &mut PgConnection) -> sqlx::Result<bool> {
    if first(a).await != Some(1) || second(b).await != Some(2) {
        return Ok(false);
    }
    let mut held = b.begin().await?;
    if second(&mut held).await != Some(2) {
        return Ok(false);
    }
    // In the session that is held it may be prepared twice; in another one it is missing.
    let again = timeout(WAIT, first(a)).await;
    // Nothing else is done with the connection that waits.
    held.rollback().await?;
    Ok(again.is_err() || again == Ok(Some(1)))
}

/// Prepared under the same name as the statement of [`second`], as that of any two clients.
async fn first(connection: &mut PgConnection) -> Option<i32> {
    sqlx::query_scalar("select 1").fetch_one(connection).await.ok()
}

async fn second(connection: &mut PgConnection) -> Option<i32> {
    sqlx::query_scalar("select 2").fetch_one(connection).await.ok()
}
