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
pub mod pooler;
pub mod requests;
pub mod schema;
pub mod sign_in;
pub mod sqlstate;
pub mod sweep;
pub mod tokens;

use std::time::Duration;

use sqlx::error::DatabaseError;

use crate::clock::Jitter;
use crate::domain::values::names::Invalid;
use crate::error::{Error, Result};

/// How many times a transaction is tried in all.
const MAX_TRIES: u32 = 4;

/// Runs a whole transaction, and retries it where that may help: on a deadlock or a serialization
/// failure, and on another connection where its session could not go on.
///
/// When the last try fails as well, the error is `CONFLICT` or `DATABASE_UNAVAILABLE`.
pub async fn retrying<T, F: Future<Output = Result<T>>>(mut transaction: impl FnMut() -> F) -> Result<T> {
    let mut tries = 1;
    loop {
        match transaction().await {
            Err(error) if sqlstate::is_retried(&error) && tries < MAX_TRIES => {
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
