//! The connections that load credentials, kept outside a pool: each load is a call that waits.
//!
//! A pool asks the database whether a connection still works each time that it is given back. That is as
//! many round trips again as a load takes.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::session::SessionSettings;
use super::sqlstate;

/// How long an idle connection is assumed to work.
const FRESH: Duration = Duration::from_secs(1);
/// How long a connection may be idle: after that it is closed when a connection is taken or given back.
const MAX_IDLE: Duration = Duration::from_secs(300);
/// How long a statement may take that was left half-way, before its connection is closed.
const LEFT_HALF_WAY: Duration = Duration::from_secs(1);
/// How long a connection is used.
const MAX_AGE: Duration = Duration::from_secs(30 * 60);

/// Connections that are opened when they are needed, and used by one load at a time. Clones share them.
#[derive(Clone)]
pub struct LoadConnections(Arc<Inner>);

struct Inner {
    options: PgConnectOptions,
    settings: SessionSettings,
    max_connections: u32,
    places: Arc<Semaphore>,
    idle: Mutex<IdleConnections>,
}

#[derive(Default)]
struct IdleConnections {
    /// The one that was given back last is used next.
    connections: Vec<Idle>,
    /// Raised when all connections are dropped: those in use are not given back.
    generation: u64,
}

struct Idle {
    connection: PgConnection,
    opened: Instant,
    since: Instant,
}

/// A connection in use.
///
/// When it is dropped and not [given back](Self::give_back), a statement may have been left half-way: it is
/// asked whether it works before it is used again.
pub struct LoadConnection(Option<InUse>);

struct InUse {
    connection: PgConnection,
    opened: Instant,
    generation: u64,
    of: Arc<Inner>,
    _place: OwnedSemaphorePermit,
}

impl LoadConnections {
    /// At most so many connections to this database.
    pub fn lazy(options: PgConnectOptions, max_connections: u32, settings: SessionSettings) -> Self {
        Self(Arc::new(Inner {
            options,
            settings,
            max_connections,
            places: Arc::new(Semaphore::new(max_connections as usize)),
            idle: Mutex::default(),
        }))
    }

    /// A connection, once one is free. How long that may take is for the caller to limit.
    ///
    /// # Errors
    /// If the database cannot be connected to, or all connections were closed.
    pub async fn take(&self) -> sqlx::Result<LoadConnection> {
        let place = self.0.places.clone().acquire_owned().await.map_err(|_| sqlx::Error::PoolClosed)?;
        let of = self.0.clone();
        let (idle, generation) = of.pop();
        match idle {
            Some(Idle { connection, opened, since }) if since.elapsed() < FRESH && is_usable(opened) => {
                Ok(InUse { connection, opened, generation, of, _place: place }.into())
            }
            // A task of its own: where the caller gives up, the connection is there for the next one.
            idle => {
                let checking = tokio::spawn(of.check_or_open(idle, generation, place));
                checking.await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
            }
        }
    }

    /// How many connections are idle, and how many are in use.
    pub fn count(&self) -> (usize, usize) {
        let used = (self.0.max_connections as usize).saturating_sub(self.0.places.available_permits());
        (self.0.idle().connections.len(), used)
    }

    /// The most connections that are opened.
    pub fn max_connections(&self) -> u32 {
        self.0.max_connections
    }

    /// Drops all connections, without a closing message: the other side may be gone.
    pub fn renew(&self) {
        drop(self.0.drop_all());
    }

    /// Closes all connections permanently; those in use when they are given back.
    pub async fn close(&self) {
        self.0.places.close();
        let idle = self.0.drop_all();
        for Idle { connection, .. } in idle {
            // The database may be gone already.
            let _ = connection.close().await;
        }
    }
}

impl Inner {
    async fn open(&self) -> sqlx::Result<PgConnection> {
        let mut connection = PgConnection::connect_with(&self.options).await?;
        if let Some(statement) = self.settings.first_statement() {
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
        }
        Ok(connection)
    }

    /// An idle connection that still works, or else a new one.
    async fn check_or_open(
        self: Arc<Self>,
        mut idle: Option<Idle>,
        mut generation: u64,
        place: OwnedSemaphorePermit,
    ) -> sqlx::Result<LoadConnection> {
        loop {
            let found = match idle {
                Some(Idle { mut connection, opened, since }) => {
                    let works =
                        since.elapsed() <= MAX_IDLE && is_usable(opened) && connection.ping().await.is_ok();
                    works.then_some((connection, opened))
                }
                None => Some((self.open().await?, Instant::now())),
            };
            // All may have been dropped meanwhile.
            if let Some((connection, opened)) = found.filter(|_| self.generation() == generation) {
                return Ok(InUse { connection, opened, generation, of: self, _place: place }.into());
            }
            (idle, generation) = self.pop();
        }
    }

    fn idle(&self) -> MutexGuard<'_, IdleConnections> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn generation(&self) -> u64 {
        self.idle().generation
    }

    /// The connection that was given back last, if any is idle, and the generation that it is of.
    fn pop(&self) -> (Option<Idle>, u64) {
        let mut idle = self.idle();
        (idle.connections.pop(), idle.generation)
    }

    fn drop_all(&self) -> Vec<Idle> {
        let mut idle = self.idle();
        idle.generation += 1;
        std::mem::take(&mut idle.connections)
    }
}

impl From<InUse> for LoadConnection {
    fn from(used: InUse) -> Self {
        Self(Some(used))
    }
}

impl LoadConnection {
    /// The connection.
    pub fn get(&mut self) -> &mut PgConnection {
        &mut self.0.as_mut().expect("it is taken out when it is given back").connection
    }

    /// Whether all connections were dropped since it was taken: it may lead to the former database.
    pub fn is_dropped(&self) -> bool {
        self.0.as_ref().is_none_or(|used| used.of.generation() != used.generation)
    }

    /// Gives it back, after its statements were carried out to the end.
    pub fn give_back(mut self) {
        if let Some(used) = self.0.take() {
            used.give_back();
        }
    }
}

impl Drop for LoadConnection {
    fn drop(&mut self) {
        let Some(mut used) = self.0.take() else { return };
        // Outside a runtime there is nothing to ask with: it is closed.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            if let Ok(Ok(())) = tokio::time::timeout(LEFT_HALF_WAY, used.connection.ping()).await {
                used.give_back();
            }
        });
    }
}

impl InUse {
    fn give_back(self) {
        let Self { connection, opened, generation, of, _place } = self;
        let mut idle = of.idle();
        if generation == idle.generation && !is_suspect(opened) {
            // The oldest ones are at the front.
            let fresh = idle.connections.iter().position(|idle| idle.since.elapsed() <= MAX_IDLE);
            let stale = fresh.unwrap_or(idle.connections.len());
            idle.connections.drain(..stale);
            idle.connections.push(Idle { connection, opened, since: Instant::now() });
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

impl fmt::Debug for LoadConnections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadConnections").field("count", &self.count()).finish_non_exhaustive()
    }
}
