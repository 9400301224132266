//! The connections of a pool: those in use, and those that are idle.
//!
//! A connection is given back as it is where the database has answered all that was asked over it: asking whether it
//! still works would be one round trip more for each statement of a busy server. Where it was left half-way, a task
//! waits for the answer first, and rolls back.

use std::ops::{Deref, DerefMut};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, Database, PgConnection, Postgres, SqlStr, Transaction};
use sqlx_core::transaction::TransactionManager as _;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tracing::instrument::WithSubscriber as _;
use tracing::subscriber::NoSubscriber;

use super::session::SessionSettings;
use super::sqlstate;

/// How long an idle connection is assumed to work.
const FRESH: Duration = Duration::from_secs(1);
/// How long a connection may be idle: after that it is closed when a connection is taken or given back.
const MAX_IDLE: Duration = Duration::from_secs(300);
/// How long a connection is used.
const MAX_AGE: Duration = Duration::from_secs(30 * 60);
/// How long the database may take to answer where it has nothing to do.
const ANSWER: Duration = Duration::from_secs(1);
/// How long a statement without a time limit may take that was left half-way, before its connection is closed.
const LEFT_HALF_WAY: Duration = Duration::from_secs(60);

/// `begin`, `commit` and `rollback`, and the driver's count of them.
type Manager = <Postgres as Database>::TransactionManager;

/// Where the connections of a pool lead, and how many there may be.
pub(super) struct Target {
    pub options: PgConnectOptions,
    pub settings: SessionSettings,
    pub max_connections: u32,
    /// How many lead there beside those of the pool.
    outside: AtomicUsize,
}

/// The connections of a pool from one time at which all are dropped to the next.
pub(super) struct Generation {
    target: Arc<Target>,
    /// Closed when its connections are dropped.
    places: Arc<Semaphore>,
    /// The one that was given back last is used next.
    idle: Mutex<Vec<Idle>>,
    dropped: watch::Sender<bool>,
}

struct Idle {
    connection: PgConnection,
    opened: Instant,
    since: Instant,
}

/// A connection in use. It is given back when it is dropped.
pub struct Connection(Option<InUse>);

/// Only what ends a [`Connection`] takes it out.
const IN_USE: &str = "a connection is in use until it is dropped or detached";

struct InUse {
    connection: PgConnection,
    opened: Instant,
    /// Whether `BEGIN` was sent, and its answer was not seen: the driver does not count the transaction.
    begins: bool,
    /// How long its longest statement may take.
    longest: Duration,
    of: Arc<Generation>,
    _place: OwnedSemaphorePermit,
}

/// A connection outside its pool, counted until it is dropped.
pub struct Detached {
    connection: PgConnection,
    _outside: Outside,
}

/// The count of a connection outside a pool.
pub struct Outside(Arc<Target>);

impl Target {
    pub(super) fn new(options: PgConnectOptions, settings: SessionSettings, max_connections: u32) -> Self {
        Self { options, settings, max_connections, outside: AtomicUsize::new(0) }
    }

    /// How many connections lead there beside those of the pool.
    pub(super) fn outside(&self) -> usize {
        self.outside.load(Ordering::Relaxed)
    }

    async fn open(&self) -> sqlx::Result<PgConnection> {
        let mut connection = PgConnection::connect_with(&self.options).await?;
        if let Some(statement) = self.settings.first_statement() {
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
        }
        Ok(connection)
    }
}

impl Generation {
    pub(super) fn new(target: Arc<Target>) -> Arc<Self> {
        let places = Arc::new(Semaphore::new(target.max_connections as usize));
        Arc::new(Self { target, places, idle: Mutex::default(), dropped: watch::Sender::new(false) })
    }

    /// A connection, once one is free; none where all are dropped before that.
    pub(super) async fn take(self: Arc<Self>) -> sqlx::Result<Option<Connection>> {
        let Ok(place) = self.places.clone().acquire_owned().await else { return Ok(None) };
        match self.pop() {
            Some(idle) if idle.since.elapsed() < FRESH && is_usable(idle.opened) => {
                Ok(Some(self.in_use(idle.connection, idle.opened, place)))
            }
            // A task of its own: where the caller gives up, the connection is there for the next one.
            idle => {
                let dropped = self.until_dropped();
                let checking = tokio::spawn(self.check_or_open(idle, place));
                tokio::select! {
                    biased;
                    checked = checking => checked.unwrap_or(Err(sqlx::Error::WorkerCrashed)),
                    () = dropped => Ok(None),
                }
            }
        }
    }

    /// An idle connection that still works, or else a new one.
    async fn check_or_open(
        self: Arc<Self>,
        mut idle: Option<Idle>,
        place: OwnedSemaphorePermit,
    ) -> sqlx::Result<Option<Connection>> {
        loop {
            let found = match idle {
                Some(idle) => idle.check().await,
                None => {
                    let opened = timeout(self.target.settings.connect_timeout, self.target.open()).await;
                    Some((opened.map_err(|_| sqlx::Error::PoolTimedOut)??, Instant::now()))
                }
            };
            if self.is_dropped() {
                return Ok(None);
            }
            if let Some((connection, opened)) = found {
                return Ok(Some(self.in_use(connection, opened, place)));
            }
            idle = self.pop();
        }
    }

    fn in_use(
        self: Arc<Self>,
        connection: PgConnection,
        opened: Instant,
        place: OwnedSemaphorePermit,
    ) -> Connection {
        let longest = self.target.settings.statement_timeout.unwrap_or(LEFT_HALF_WAY);
        Connection(Some(InUse { connection, opened, begins: false, longest, of: self, _place: place }))
    }

    /// How many connections are idle, and how many are in use.
    pub(super) fn count(&self) -> (usize, usize) {
        let used = (self.target.max_connections as usize).saturating_sub(self.places.available_permits());
        (self.idle().len(), used)
    }

    /// Drops all connections, those in use when they are given back. Returns those that are idle.
    pub(super) fn drop_all(&self) -> impl Iterator<Item = PgConnection> + use<> {
        self.dropped.send_replace(true);
        self.places.close();
        std::mem::take(&mut *self.idle()).into_iter().map(|idle| idle.connection)
    }

    fn is_dropped(&self) -> bool {
        *self.dropped.borrow()
    }

    /// Waits until its connections are dropped.
    pub(super) fn until_dropped(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut dropped = self.dropped.subscribe();
        async move {
            // It fails where there is nothing left of it.
            let _ = dropped.wait_for(|dropped| *dropped).await;
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection that was given back last, if any is idle.
    fn pop(&self) -> Option<Idle> {
        self.idle().pop()
    }
}

impl Idle {
    /// The connection, and when it was opened, if it still works.
    async fn check(mut self) -> Option<(PgConnection, Instant)> {
        let may_work = self.since.elapsed() <= MAX_IDLE && is_usable(self.opened);
        let works = may_work && matches!(timeout(ANSWER, self.connection.ping()).await, Ok(Ok(())));
        works.then_some((self.connection, self.opened))
    }
}

impl Connection {
    /// Whether all connections were dropped since it was taken: it may lead to the former database.
    pub fn is_dropped(&self) -> bool {
        self.in_use().of.is_dropped()
    }

    /// Takes it out of its pool, which may open another one.
    pub fn detach(mut self) -> Detached {
        let InUse { connection, of, .. } = self.0.take().expect(IN_USE);
        Detached { connection, _outside: Outside::of(of.target.clone()) }
    }

    /// Gives it back. Where it was left half-way, what is returned does so once it can be used for something else,
    /// or closes it.
    pub fn give_back(mut self) -> Option<impl Future<Output = ()> + Send + use<>> {
        self.0.take().expect(IN_USE).give_back_or_settle()
    }

    /// Begins a transaction that borrows it.
    ///
    /// By this, and not by the driver's own `begin`, of which it would not know where its caller is cancelled.
    pub async fn begin(&mut self) -> sqlx::Result<Transaction<'_, Postgres>> {
        let InUse { connection, begins, .. } = self.in_use_mut();
        *begins = true;
        let begun = connection.begin().await?;
        *begins = false;
        Ok(begun)
    }

    /// Begins a transaction that is open until it is committed or rolled back. A statement of it may take so long.
    pub(super) async fn open(&mut self, statement: SqlStr, longest: Option<Duration>) -> sqlx::Result<()> {
        let used = self.in_use_mut();
        used.longest = longest.unwrap_or(LEFT_HALF_WAY);
        used.begins = true;
        Manager::begin(&mut used.connection, Some(statement)).await?;
        used.begins = false;
        Ok(())
    }

    /// Commits what [`open`](Self::open) began.
    pub(super) async fn commit(&mut self) -> sqlx::Result<()> {
        Manager::commit(&mut self.in_use_mut().connection).await
    }

    /// Rolls back what it may have open, after the statement that it may be in the middle of.
    pub(super) async fn roll_back(&mut self) -> sqlx::Result<()> {
        self.in_use_mut().roll_back().await
    }

    fn in_use(&self) -> &InUse {
        self.0.as_ref().expect(IN_USE)
    }

    fn in_use_mut(&mut self) -> &mut InUse {
        self.0.as_mut().expect(IN_USE)
    }
}

impl Outside {
    pub(super) fn of(target: Arc<Target>) -> Self {
        target.outside.fetch_add(1, Ordering::Relaxed);
        Self(target)
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.0.outside.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Deref for Detached {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Detached {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

impl Deref for Connection {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.in_use().connection
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.in_use_mut().connection
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some(used) = self.0.take() else { return };
        if let Some(settling) = used.give_back_or_settle()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(settling);
        }
        // Outside a runtime there is nothing to ask with: it is closed.
    }
}

impl InUse {
    /// Whether the database has answered everything, and no transaction is open.
    fn is_clean(&mut self) -> bool {
        if self.begins || self.connection.is_in_transaction() {
            return false;
        }
        // Nothing is sent or waited for where all was answered.
        let answered = pin!(self.connection.flush()).poll(&mut Context::from_waker(Waker::noop()));
        matches!(answered, Poll::Ready(Ok(())))
    }

    /// Gives it back where it is clean; else what is returned [settles](Self::settle) it.
    fn give_back_or_settle(mut self) -> Option<impl Future<Output = ()> + Send + use<>> {
        if self.is_clean() {
            self.give_back();
            return None;
        }
        Some(self.settle())
    }

    /// Gives it back once it can be used for something else, or closes it.
    async fn settle(mut self) {
        let limit = self.longest + ANSWER;
        // The database warns of a transaction that is there already, or not any more: either is expected here.
        let quietly = self.roll_back().with_subscriber(NoSubscriber::default());
        if matches!(timeout(limit, quietly).await, Ok(Ok(()))) {
            self.give_back();
        }
    }

    async fn roll_back(&mut self) -> sqlx::Result<()> {
        // What was left half-way may fail: the session goes on, and no one waits for the error.
        while let Err(error) = self.connection.flush().await {
            if !matches!(error, sqlx::Error::Database(_)) {
                return Err(error);
            }
        }
        if !self.connection.is_in_transaction() {
            // The driver may not know of one.
            sqlx::raw_sql("begin; rollback").execute(&mut self.connection).await?;
        }
        while self.connection.is_in_transaction() {
            Manager::rollback(&mut self.connection).await?;
        }
        self.begins = false;
        Ok(())
    }

    fn give_back(self) {
        let Self { connection, opened, of, _place, .. } = self;
        let mut idle = of.idle();
        if !of.is_dropped() && !is_suspect(opened) {
            // The oldest ones are at the front.
            let fresh = idle.iter().position(|idle| idle.since.elapsed() <= MAX_IDLE);
            let stale = fresh.unwrap_or(idle.len());
            idle.drain(..stale);
            idle.push(Idle { connection, opened, since: Instant::now() });
        }
    }
}

/// Whether a connection that was opened then may be used on.
fn is_usable(opened: Instant) -> bool {
    opened.elapsed() <= MAX_AGE && !is_suspect(opened)
}

/// Whether a session as old as this one was found to be unable to go on.
fn is_suspect(opened: Instant) -> bool {
    sqlstate::is_suspect(opened.elapsed())
}
