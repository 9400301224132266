//! Connections to the database.

use std::fmt;
use std::pin::Pin;
use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use sqlx::postgres::{PgConnectOptions, PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Connection as _, Describe, Either, Execute, Executor, Postgres, SqlStr};
use tokio::time::{sleep, timeout};
use tokio_stream::{Stream, StreamExt as _};

use super::connections::{Connection, Generation, Outside, Target};
use super::session::SessionSettings;
use super::sqlstate;
use super::transaction::Transaction;

/// The connections that follow the feed, beside those that can be chosen: one that polls and one that listens are
/// out of the pool.
pub const FEED_CONNECTIONS: u32 = FEED_POOL + 2;
/// Those in the pool: one reads keys, one origins, one scheduled ends.
const FEED_POOL: u32 = 3;

/// How long a call that waits for a connection pauses where the database has none for it yet.
const FULL: Duration = Duration::from_millis(50);

/// How long a statement that loads a credential may take. Those who wait for it have given up before
/// that: without a limit it would keep its connection from other loads.
const LOAD_STATEMENT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the transaction of a background job may take for one statement.
const JOB_STATEMENT_TIMEOUT: Duration = Duration::from_secs(300);

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

/// A pool of connections, which are opened when they are needed. Clones share it.
///
/// All connections can be dropped at once. When the network to a database is cut, they hang in their
/// current operation, and continue to hang after the network is back: nothing notifies them. Their
/// places are given to others then, and nothing waits for them.
#[derive(Clone)]
pub struct Db(Arc<Shared>);

struct Shared {
    target: Arc<Target>,
    connections: ArcSwap<Generation>,
    closed: AtomicBool,
}

impl Db {
    /// At most so many connections to this database. Connects when it is first needed.
    pub fn lazy(options: PgConnectOptions, max_connections: u32, settings: SessionSettings) -> Self {
        let target = Arc::new(Target::new(options, settings, max_connections));
        let connections = ArcSwap::new(Generation::new(target.clone()));
        Self(Arc::new(Shared { target, connections, closed: AtomicBool::new(false) }))
    }

    /// The options of its connections.
    pub fn options(&self) -> &PgConnectOptions {
        &self.0.target.options
    }

    /// How many connections are idle, and how many are in use, those that were taken out of it included.
    pub fn count(&self) -> (usize, usize) {
        let (idle, used) = self.0.connections.load().count();
        (idle, used + self.0.target.outside())
    }

    /// Counts a connection to the same database that was never in it, until what is returned is dropped.
    pub fn count_outside(&self) -> Outside {
        Outside::of(self.0.target.clone())
    }

    /// The most connections that it opens.
    pub fn max_connections(&self) -> u32 {
        self.0.target.max_connections
    }

    /// How long a call waits for one of its connections.
    pub fn connect_timeout(&self) -> Duration {
        self.0.target.settings.connect_timeout
    }

    /// A connection, once one is free. How long that may take is for the caller to limit.
    ///
    /// # Errors
    /// If the database cannot be connected to, or all connections were closed.
    pub async fn take(&self) -> sqlx::Result<Connection> {
        loop {
            let connections = self.0.connections.load_full();
            if self.is_closed() {
                return Err(sqlx::Error::PoolClosed);
            }
            if let Some(connection) = connections.take().await? {
                return Ok(connection);
            }
        }
    }

    /// A connection, with the time limit of a call. A database that starts, or has no connection to spare, is asked
    /// again within it.
    ///
    /// # Errors
    /// If there is none in time.
    pub async fn acquire(&self) -> sqlx::Result<Connection> {
        let acquire = async {
            loop {
                match self.take().await {
                    Err(error) if may_connect_soon(&error) => sleep(FULL).await,
                    outcome => return outcome,
                }
            }
        };
        timeout(self.connect_timeout(), acquire).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    /// Begins a transaction with the time limits of a call.
    pub async fn begin(&self) -> sqlx::Result<Transaction> {
        self.begin_within(self.0.target.settings.statement_timeout).await
    }

    /// Begins a transaction of a background job: a statement of it may take longer than any call.
    pub async fn begin_job(&self) -> sqlx::Result<Transaction> {
        self.begin_within(Some(JOB_STATEMENT_TIMEOUT)).await
    }

    async fn begin_within(&self, statement_timeout: Option<Duration>) -> sqlx::Result<Transaction> {
        match Transaction::begin(self.acquire().await?, statement_timeout).await {
            // The connection was closed while it was idle, and nothing was executed: those that were
            // idle beside it are closed too, and a new one is opened.
            Err(error) if sqlstate::note(&error) == sqlstate::Meaning::DropConnection => {
                Transaction::begin(self.acquire().await?, statement_timeout).await
            }
            begun => begun,
        }
    }

    /// Drops all connections. A caller that waits for one gets a new one; a caller that has one may continue to
    /// use it.
    pub fn renew(&self) {
        if self.is_closed() {
            return;
        }
        let former = self.0.connections.swap(Generation::new(self.0.target.clone()));
        // Without a closing message: the other side may be gone.
        drop(former.drop_all());
    }

    /// Waits until all its connections are dropped.
    pub fn until_dropped(&self) -> impl Future<Output = ()> + Send + use<> {
        self.0.connections.load().until_dropped()
    }

    /// Whether it was closed permanently.
    pub fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Relaxed)
    }

    /// Closes all connections permanently; those in use when they are given back.
    pub async fn close(&self) {
        self.0.closed.store(true, Ordering::Relaxed);
        let idle = self.0.connections.load().drop_all();
        for connection in idle {
            // The database may be gone already.
            let _ = connection.close().await;
        }
    }
}

/// Whether a database that refused a connection may take one soon: it starts, or others have all that it has.
fn may_connect_soon(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        sqlx::Error::Database(refused) => refused.is_transient_in_connect_phase(),
        _ => false,
    }
}

/// The pools of a server: each kind of work has its own. Clones share them.
#[derive(Clone)]
pub struct Pools {
    /// For what handlers read and write.
    pub main: Db,
    /// For loading the data behind a credential.
    pub loads: Db,
    /// For following the feed.
    pub feed: Db,
}

impl Pools {
    /// Pools of this database that connect when they are first needed.
    pub fn open(options: &PgConnectOptions, main: u32, loads: u32, settings: SessionSettings) -> Self {
        Self {
            main: Db::lazy(options.clone(), main, settings),
            loads: Db::lazy(options.clone(), loads, settings.at_most(LOAD_STATEMENT_TIMEOUT)),
            feed: Db::lazy(options.clone(), FEED_POOL, settings),
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
        f.debug_struct("Db").field("count", &self.count()).finish_non_exhaustive()
    }
}

type BoxFuture<'e, T> = Pin<Box<dyn Future<Output = sqlx::Result<T>> + Send + 'e>>;
type BoxStream<'e, T> = Pin<Box<dyn Stream<Item = sqlx::Result<T>> + Send + 'e>>;

/// A statement on any free connection, which is given back when the statement ends.
impl<'p> Executor<'p> for &'_ Db {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Either<PgQueryResult, PgRow>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let db = self.clone();
        Box::pin(sqlx_core::try_stream! {
            let mut connection = db.acquire().await?;
            let mut parts = connection.fetch_many(query);
            while let Some(part) = parts.next().await {
                r#yield!(part?);
            }
            Ok(())
        })
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Option<PgRow>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let db = self.clone();
        Box::pin(async move { db.acquire().await?.fetch_optional(query).await })
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [PgTypeInfo]) -> BoxFuture<'e, PgStatement>
    where
        'p: 'e,
    {
        let db = self.clone();
        Box::pin(async move { db.acquire().await?.prepare_with(sql, parameters).await })
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Describe<Postgres>>
    where
        'p: 'e,
    {
        let db = self.clone();
        Box::pin(async move { db.acquire().await?.describe(sql).await })
    }
}
