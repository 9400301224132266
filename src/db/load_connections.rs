//! The connections that load credentials, kept outside a pool: each load is a call that waits.
//!
//! A pool asks the database whether a connection still works each time that it is given back. That is as
//! many round trips again as a load takes.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::session::SessionSettings;
use super::sqlstate;

/// How long an idle connection is assumed to work.
const FRESH: Duration = Duration::from_secs(1);
/// How long a connection may be idle before it is closed.
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
    /// The one that was given back last is used next.
    idle: Mutex<Vec<Idle>>,
    /// Raised when all connections are dropped: those in use are not given back.
    generation: AtomicU64,
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
            generation: AtomicU64::new(0),
        }))
    }

    /// A connection, once one is free. How long that may take is for the caller to limit.
    ///
    /// # Errors
    /// If the database cannot be connected to, or all connections were closed.
    pub async fn take(&self) -> sqlx::Result<LoadConnection> {
        let place = self.0.places.clone().acquire_owned().await.map_err(|_| sqlx::Error::PoolClosed)?;
        let generation = self.0.generation.load(Ordering::Relaxed);
        let (connection, opened) = match self.idle().await {
            Some(idle) => idle,
            None => (self.open().await?, Instant::now()),
        };
        let of = self.0.clone();
        Ok(LoadConnection(Some(InUse { connection, opened, generation, of, _place: place })))
    }

    /// An idle connection that works.
    async fn idle(&self) -> Option<(PgConnection, Instant)> {
        loop {
            let Idle { mut connection, opened, since } = self.0.idle().pop()?;
            if opened.elapsed() > MAX_AGE || since.elapsed() > MAX_IDLE || is_suspect(opened) {
                continue;
            }
            if since.elapsed() < FRESH || connection.ping().await.is_ok() {
                return Some((connection, opened));
            }
        }
    }

    async fn open(&self) -> sqlx::Result<PgConnection> {
        let mut connection = PgConnection::connect_with(&self.0.options).await?;
        if let Some(statement) = self.0.settings.first_statement() {
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
        }
        Ok(connection)
    }

    /// How many connections are idle, and how many are in use.
    pub fn count(&self) -> (usize, usize) {
        let used = (self.0.max_connections as usize).saturating_sub(self.0.places.available_permits());
        (self.0.idle().len(), used)
    }

    /// The most connections that are opened.
    pub fn max_connections(&self) -> u32 {
        self.0.max_connections
    }

    /// Drops all connections, without a closing message: the other side may be gone.
    pub fn renew(&self) {
        self.0.generation.fetch_add(1, Ordering::Relaxed);
        self.0.idle().clear();
    }

    /// Closes all connections permanently; those in use when they are given back.
    pub async fn close(&self) {
        self.0.places.close();
        self.0.generation.fetch_add(1, Ordering::Relaxed);
        let idle = std::mem::take(&mut *self.0.idle());
        for Idle { connection, .. } in idle {
            // The database may be gone already.
            let _ = connection.close().await;
        }
    }
}

impl Inner {
    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LoadConnection {
    /// The connection.
    pub fn get(&mut self) -> &mut PgConnection {
        &mut self.0.as_mut().expect("it is taken out when it is given back").connection
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
        if generation == of.generation.load(Ordering::Relaxed) && !is_suspect(opened) {
            // The oldest one is at the front.
            if idle.first().is_some_and(|idle| idle.since.elapsed() > MAX_IDLE) {
                idle.remove(0);
            }
            idle.push(Idle { connection, opened, since: Instant::now() });
        }
    }
}

/// Whether a session as old as this one was found to be unable to go on.
fn is_suspect(opened: Instant) -> bool {
    sqlstate::is_suspect(opened.elapsed())
}

impl fmt::Debug for LoadConnections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadConnections").field("idle", &self.0.idle().len()).finish_non_exhaustive()
    }
}
