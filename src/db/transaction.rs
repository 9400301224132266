//! A transaction on a connection of its own.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection, SqlSafeStr as _, SqlStr};

use super::connections::Connection;

/// Begins a transaction, in one round trip. When the network to this server is cut, PostgreSQL
/// keeps waiting for the next statement and holds the transaction's locks, an org's row for
/// example, until TCP times out, which takes hours: these timeouts end such a transaction.
/// Transactions that wait for its locks time out earlier. Otherwise each would acquire the lock in
/// turn, though their clients are gone as well.
///
/// The time limit of a statement is set here too: a pooler may give each transaction another session.
fn begin(statement_timeout: Duration) -> SqlStr {
    AssertSqlSafe(format!(
        "begin; set local lock_timeout = '2s'; set local idle_in_transaction_session_timeout = '3s'; \
         set local statement_timeout = {}",
        statement_timeout.as_millis()
    ))
    .into_sql_str()
}

/// A transaction. Rolled back in a task when it is dropped, also where its caller was cancelled in the middle of a
/// statement, of its begin or of its commit.
pub struct Transaction(Connection);

impl Transaction {
    /// Begins on this connection, with this time limit for each of its statements.
    pub(super) async fn begin(
        mut connection: Connection,
        statement_timeout: Option<Duration>,
    ) -> sqlx::Result<Self> {
        connection.open(begin(statement_timeout.unwrap_or_default()), statement_timeout).await?;
        Ok(Self(connection))
    }

    /// Commits it, and gives its connection back.
    pub async fn commit(mut self) -> sqlx::Result<()> {
        self.0.commit().await
    }

    /// Rolls it back, and gives its connection back.
    pub async fn rollback(mut self) -> sqlx::Result<()> {
        self.0.roll_back().await
    }
}

impl Deref for Transaction {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.0
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.0
    }
}
