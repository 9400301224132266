//! Queries: one file for each table, or for a few that belong together.
//!
//! They are free functions, whose SQL is checked against the schema when it is compiled. `find*`
//! read; the others write, and take the transaction of the caller.

pub mod accounts;
pub mod connections;
pub mod deployment;
pub mod distribution;
pub mod email_budgets;
pub mod events;
pub mod federation;
pub mod keys;
pub mod named_permissions;
pub mod orgs;
pub mod outbox;
pub mod pool;
pub mod pooler;
pub mod references;
pub mod requests;
pub mod schema;
pub mod session;
pub mod sign_in;
pub mod sqlstate;
pub mod sweep;
pub mod tokens;
pub mod transaction;
pub mod verifiers;

use std::time::Duration;

use crate::clock::Jitter;
use crate::domain::tokens::secrets::SecretRecord;
use crate::domain::values::names::Invalid;
use crate::error::{Error, Reason, Result};

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

/// Waits for the database so long at most, where no client waits whose deadline ends it before.
///
/// A statement on a connection whose network is gone ends only when TCP gives up, which takes a quarter of an hour.
///
/// # Errors
/// Those of the work; `DATABASE_UNAVAILABLE` where it took too long.
pub async fn within<T>(limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    let outcome = tokio::time::timeout(limit, work).await;
    outcome.unwrap_or_else(|_| Err(Reason::DatabaseUnavailable.into()))
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

/// What is stored of a secret.
fn stored_secret(mac: Vec<u8>, pepper: i32) -> Result<SecretRecord> {
    SecretRecord::new(mac, pepper).ok_or_else(|| Error::internal("a stored hash of a secret is damaged"))
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
