//! Queries: one file for each table, or for a few that belong together.
//!
//! They are free functions, whose SQL is checked against the schema when it is compiled. `find*`
//! read; the others write, and take the transaction of the caller.

pub mod accounts;
pub mod distribution;
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
    let error = error.as_database_error()?;
    error.constraint().or_else(|| constraint_in(error.message()))
}

/// The name of the violated constraint in a message such as `duplicate key value violates unique constraint
/// "usernames_pk_102512"`.
///
/// A sharded engine passes the message of a worker on without the field, and its constraints are those of a
/// shard: the name of ours, `_`, and the number of the shard.
fn constraint_in(message: &str) -> Option<&str> {
    let (_, quoted) = message.split_once(" constraint \"")?;
    let (name, _) = quoted.split_once('"')?;
    let (ours, shard) = name.rsplit_once('_')?;
    let numbered = !shard.is_empty() && shard.bytes().all(|byte| byte.is_ascii_digit());
    Some(if numbered { ours } else { name })
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

#[cfg(test)]
mod tests {
    use super::constraint_in;

    #[test]
    fn a_constraint_is_found_in_the_message_of_a_shard() {
        for (message, name) in [
            (r#"duplicate key value violates unique constraint "usernames_pk_102512""#, Some("usernames_pk")),
            (r#"duplicate key value violates unique constraint "usernames_pk""#, Some("usernames_pk")),
            (
                r#"insert or update on table "grants_102040" violates foreign key constraint "grants_role_fk_102040""#,
                Some("grants_role_fk"),
            ),
            (
                r#"new row for relation "tokens_102072" violates check constraint "tokens_kind_102072""#,
                Some("tokens_kind"),
            ),
            (r#"null value in column "slug" of relation "slugs" violates not-null constraint"#, None),
            (r#"relation "constraint" does not exist"#, None),
            ("", None),
        ] {
            assert_eq!(constraint_in(message), name, "{message}");
        }
    }
}
