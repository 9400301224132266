//! Connections to the database.

use std::fmt;
use std::pin::Pin;
use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{
    PgConnectOptions, PgPool, PgPoolOptions, PgQueryResult, PgRow, PgStatement, PgTypeInfo,
};
use sqlx::{
    AssertSqlSafe, Connection as _, Describe, Either, Execute, Executor, Postgres, SqlSafeStr as _, SqlStr,
    Transaction,
};
use tokio_stream::Stream;

use super::load_connections::LoadConnections;
use super::session::SessionSettings;
use super::sqlstate;

/// The connections that follow the feed, beside those that can be chosen.
pub const FEED_CONNECTIONS: u32 = 4;

/// How long a call waits for a connection before it fails.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a returned connection is assumed to work: the driver pings the database when it is
/// returned. Another ping cost a round trip for each statement of a busy server.
const FRESH: Duration = Duration::from_secs(1);

/// How long a statement that loads a credential may take. Those who wait for it have given up before
/// that: without a limit it would keep its connection from other loads.
const LOAD_STATEMENT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the transaction of a background job may take for one statement.
const JOB_STATEMENT_TIMEOUT: Duration = Duration::from_secs(300);

/// Begins a transaction, in one round trip. When the network to this server is cut, PostgreSQL
/// keeps waiting for the next statement and holds the transaction's locks, an org's row for
/// example, until TCP times out, which takes hours: these timeouts end such a transaction.
/// Transactions that wait for its locks time out earlier. Otherwise each would acquire the lock in
/// turn, though their clients are gone as well.
///
/// The time limit of a statement is set here too: a pooler may give each transaction another session.
fn begin(statement_timeout: Duration) -> String {
    format!(
        "begin; set local lock_timeout = '2s'; set local idle_in_transaction_session_timeout = '3s'; \
         set local statement_timeout = {}",
        statement_timeout.as_millis()
    )
}

async fn begin_within(
    pool: &PgPool,
    statement_timeout: Duration,
) -> sqlx::Result<Transaction<'static, Postgres>> {
    match begin_on(pool.acquire().await?, statement_timeout).await {
        // The connection was closed while it was idle, and nothing was executed: those that were
        // idle beside it are closed too, and a new one is opened.
        Err(error) if sqlstate::note(&error) == sqlstate::Meaning::DropConnection => {
            begin_on(pool.acquire().await?, statement_timeout).await
        }
        begun => begun,
    }
}

/// Begins in a task of its own, which goes on where the caller is cancelled: the driver counts a transaction
/// only once `BEGIN` was answered. Dropped before that, the connection would return to the pool with a
/// transaction open that the driver does not roll back, and the statements of the next user would not be
/// committed.
async fn begin_on(
    connection: PoolConnection<Postgres>,
    statement_timeout: Duration,
) -> sqlx::Result<Transaction<'static, Postgres>> {
    let statement = AssertSqlSafe(begin(statement_timeout)).into_sql_str();
    let begun = tokio::spawn(Transaction::begin(connection, Some(statement)));
    begun.await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
}

/// Begins a transaction of a background job: a statement of it may take longer than any call.
pub async fn begin_job(pool: &PgPool) -> sqlx::Result<Transaction<'static, Postgres>> {
    begin_within(pool, JOB_STATEMENT_TIMEOUT).await
}

/// Options from a URL, `postgres://user:password@host/database`. The PG* variables of the
/// environment, which the driver reads by itself, are ignored: what is not in the URL has its
/// default.
///
/// # Errors
/// A sentence without the URL, which may hold a password.
pub fn options(url: &str) -> Result<PgConnectOptions, String> {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err("must begin with postgres://".to_owned());
    }
    match PgConnectOptions::from_str(url) {
        Ok(options) => Ok(options.application_name("countersign")),
        // Of the parser's errors, this kind names what is wrong and quotes nothing.
        Err(sqlx::Error::Configuration(error)) => Err(format!("cannot be read: {error}")),
        Err(_) => Err("cannot be read".to_owned()),
    }
}

/// A pool that connects when it is first needed, without a time limit for statements.
pub fn lazy(options: PgConnectOptions, max_connections: u32) -> PgPool {
    lazy_with(options, max_connections, SessionSettings::default())
}

fn lazy_with(options: PgConnectOptions, max_connections: u32, settings: SessionSettings) -> PgPool {
    PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(Duration::from_secs(300))
        .test_before_acquire(false)
        .after_connect(move |connection, _| {
            Box::pin(async move {
                if let Some(statement) = settings.first_statement() {
                    sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await?;
                }
                Ok(())
            })
        })
        .before_acquire(|connection, since| {
            Box::pin(async move {
                if sqlstate::is_suspect(since.age) {
                    return Ok(false);
                }
                if since.idle_for >= FRESH {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        // A session that cannot go on is closed, and not handed out again.
        .after_release(|_, since| Box::pin(async move { Ok(!sqlstate::is_suspect(since.age)) }))
        .connect_lazy_with(options)
}

/// A pool whose connections can all be dropped at once.
///
/// When the network to a database is cut, its connections hang in their current operation, and
/// continue to hang after the network is back: nothing notifies them. A pool waits for each of
/// them before it gives the place to another. This one is replaced by a new pool instead. Clones
/// share it.
#[derive(Clone)]
pub struct Db(Arc<SharedPool>);

struct SharedPool {
    options: PgConnectOptions,
    max_connections: u32,
    settings: SessionSettings,
    pool: ArcSwap<PgPool>,
    closed: AtomicBool,
}

impl Db {
    /// Connects when it is first needed.
    pub fn lazy(options: PgConnectOptions, max_connections: u32, settings: SessionSettings) -> Self {
        let pool = ArcSwap::from_pointee(lazy_with(options.clone(), max_connections, settings));
        Self(Arc::new(SharedPool {
            options,
            max_connections,
            settings,
            pool,
            closed: AtomicBool::new(false),
        }))
    }

    /// The current pool.
    pub fn pool(&self) -> PgPool {
        PgPool::clone(&self.0.pool.load())
    }

    /// How many connections are idle, and how many are in use.
    pub fn count(&self) -> (usize, usize) {
        let pool = self.pool();
        let idle = pool.num_idle();
        (idle, (pool.size() as usize).saturating_sub(idle))
    }

    /// The most connections that it opens.
    pub fn max_connections(&self) -> u32 {
        self.0.max_connections
    }

    pub async fn acquire(&self) -> sqlx::Result<PoolConnection<Postgres>> {
        self.pool().acquire().await
    }

    /// Begins a transaction with the time limits of a call.
    pub async fn begin(&self) -> sqlx::Result<Transaction<'static, Postgres>> {
        begin_within(&self.pool(), self.0.settings.statement_timeout.unwrap_or_default()).await
    }

    /// Begins a transaction of a background job: a statement of it may take longer than any call.
    pub async fn begin_job(&self) -> sqlx::Result<Transaction<'static, Postgres>> {
        begin_job(&self.pool()).await
    }

    /// Drops all connections. A caller that waits for one gets an error at once; a caller that has
    /// one may continue to use it.
    pub fn renew(&self) {
        if self.is_closed() {
            return;
        }
        let new = lazy_with(self.0.options.clone(), self.0.max_connections, self.0.settings);
        let old = self.0.pool.swap(Arc::new(new));
        // Dropped without a closing message: the other side may be gone.
        while let Some(idle) = old.try_acquire() {
            drop(idle.detach());
        }
        // No connection is handed out from here on; this does not wait until all are returned.
        drop(old.close());
    }

    /// Whether it was closed permanently.
    pub fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Relaxed)
    }

    /// Closes all connections permanently.
    pub async fn close(&self) {
        self.0.closed.store(true, Ordering::Relaxed);
        self.pool().close().await;
    }
}

/// The pools of a server: each kind of work has its own. Clones share them.
#[derive(Clone)]
pub struct Pools {
    /// For what handlers read and write.
    pub main: Db,
    /// For loading the data behind a credential.
    pub loads: LoadConnections,
    /// For following the feed: one connection listens, one polls, one reads keys, one origins.
    pub feed: Db,
}

impl Pools {
    /// Pools of this database that connect when they are first needed.
    pub fn open(options: &PgConnectOptions, main: u32, loads: u32, settings: SessionSettings) -> Self {
        Self {
            main: Db::lazy(options.clone(), main, settings),
            loads: LoadConnections::lazy(options.clone(), loads, settings.at_most(LOAD_STATEMENT_TIMEOUT)),
            feed: Db::lazy(options.clone(), FEED_CONNECTIONS, settings),
        }
    }

    /// Drops all connections: they hang, or lead to a database that is no longer this server's.
    pub fn renew(&self) {
        self.feed.renew();
        self.main.renew();
        self.loads.renew();
    }

    /// Closes all connections permanently.
    pub async fn close(&self) {
        self.feed.close().await;
        self.loads.close().await;
        self.main.close().await;
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Db").field("max_connections", &self.0.max_connections).finish_non_exhaustive()
    }
}

type BoxFuture<'e, T> = Pin<Box<dyn Future<Output = sqlx::Result<T>> + Send + 'e>>;
type BoxStream<'e, T> = Pin<Box<dyn Stream<Item = sqlx::Result<T>> + Send + 'e>>;

/// A statement on any free connection, as with the pool itself.
impl<'p> Executor<'p> for &'_ Db {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Either<PgQueryResult, PgRow>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        (&self.pool()).fetch_many(query)
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Option<PgRow>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        (&self.pool()).fetch_optional(query)
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [PgTypeInfo]) -> BoxFuture<'e, PgStatement>
    where
        'p: 'e,
    {
        (&self.pool()).prepare_with(sql, parameters)
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Describe<Postgres>>
    where
        'p: 'e,
    {
        (&self.pool()).describe(sql)
    }
}
