//! Queries: one file for each table, or for a few that belong together.
//!
//! They are free functions, whose SQL is checked against the schema when it is compiled. `find*`
//! read; the others write, and take the transaction of the caller.

pub mod accounts;
pub mod events;
pub mod keys;
pub mod orgs;
pub mod outbox;
pub mod pool;
pub mod requests;
pub mod schema;
pub mod sign_in;
pub mod sweep;
pub mod tokens;

use std::time::Duration;

use sqlx::error::DatabaseError;

use crate::clock::Jitter;
use crate::domain::values::names::Invalid;
use crate::error::{Error, Reason, Result};

/// How many times a transaction that conflicts with others is tried in all.
const MAX_TRIES: u32 = 4;

impl From<sqlx::Error> for Error {
    /// Translates an error that no query has translated.
    ///
    /// The database is unreachable, another transaction conflicts, or this is a bug.
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        let code = error.as_database_error().and_then(DatabaseError::code);
        let reason = match (&error, code.as_deref()) {
            (E::PoolTimedOut | E::PoolClosed | E::Io(_) | E::Tls(_) | E::WorkerCrashed, _) => {
                Reason::DatabaseUnavailable
            }
            // Serialization failure, deadlock, a lock that another transaction holds for too long.
            (_, Some("40001" | "40P01" | "55P03")) => Reason::Conflict,
            // Failover: shutting down, starting up, too many connections, read-only standby, connection lost;
            // and a transaction that was idle for too long.
            (_, Some("57P01" | "57P02" | "57P03" | "53300" | "25006" | "25P03")) => {
                Reason::DatabaseUnavailable
            }
            (_, Some(code)) if code.starts_with("08") => Reason::DatabaseUnavailable,
            _ => Reason::Internal,
        };
        Error::new(reason).because(error)
    }
}

/// Runs a whole transaction, and retries it on a deadlock or a serialization failure.
///
/// When the last try fails as well, the error is `CONFLICT`.
pub async fn retrying<T, F: Future<Output = Result<T>>>(mut transaction: impl FnMut() -> F) -> Result<T> {
    let mut tries = 1;
    loop {
        match transaction().await {
            Err(error) if error.reason() == Reason::Conflict && tries < MAX_TRIES => {
                // Spread, so that transactions that met once do not meet again at each retry.
                tokio::time::sleep(Jitter::default().spread(Duration::from_millis(5 << tries))).await;
                tries += 1;
            }
            result => return result,
        }
    }
}

/// The name of the constraint that a write violated.
fn constraint(error: &sqlx::Error) -> Option<&str> {
    error.as_database_error().and_then(DatabaseError::constraint)
}

/// The error for a stored value that does not pass the check that it passed before it was stored.
fn damaged(what: &'static str) -> impl Fn(Invalid) -> Error {
    move |invalid| Error::internal(format!("a stored {what} is damaged: it {invalid}"))
}

/// Refuses a write that did not touch exactly one row.
fn one_row(done: &sqlx::postgres::PgQueryResult, what: &'static str) -> Result<()> {
    match done.rows_affected() {
        1 => Ok(()),
        rows => Err(Error::internal(format!("{what} touched {rows} rows instead of one"))),
    }
}
