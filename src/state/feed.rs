//! How far this node is in the feed of changes, and whether the database answers.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, MutexGuard};

use crate::config::DatabaseAnswers;
use crate::db::distribution::{self, Engine};
use crate::db::events::follower::Follower;
use crate::db::pool::Db;
use crate::error::Result;

/// How far this node is in the feed, and whether the database answers.
pub struct Feed {
    /// A pool of its own: a busy server still follows the feed.
    db: Db,
    /// Its position in the feed; locked by the job that follows it.
    follower: Mutex<Follower>,
    engine: Engine,
    limits: DatabaseAnswers,
    began: Instant,
    /// Microseconds after `began` at which the last poll that succeeded was started.
    seen: AtomicU64,
    /// Since when resuming readers are held back, in the same unit; [`NEVER`] when they are not.
    held_back: AtomicU64,
    answers: AtomicBool,
}

const NEVER: u64 = u64::MAX;

impl Feed {
    /// A node that starts from everything that is committed now.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn begin(db: Db, limits: DatabaseAnswers) -> Result<Self> {
        let began = Instant::now();
        let mut connection = db.acquire().await?;
        let engine = distribution::engine(&mut connection).await?;
        let follower = Follower::begin(&mut connection).await?;
        drop(connection);
        Ok(Self {
            db,
            follower: Mutex::new(follower),
            engine,
            limits,
            began,
            seen: AtomicU64::new(0),
            held_back: AtomicU64::new(NEVER),
            answers: AtomicBool::new(true),
        })
    }

    /// Its pool, for reading what the feed names.
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// Its position in the feed, for as long as the guard is held.
    pub async fn follower(&self) -> MutexGuard<'_, Follower> {
        self.follower.lock().await
    }

    /// How late the database may be.
    pub fn limits(&self) -> DatabaseAnswers {
        self.limits
    }

    /// Whether the tables are distributed over workers.
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// Whether the database answered the last poll.
    pub fn answers(&self) -> bool {
        self.answers.load(Ordering::Relaxed)
    }

    /// When the last poll that succeeded was started: everything committed before is known.
    pub fn last_seen(&self) -> Instant {
        self.began + Duration::from_micros(self.seen.load(Ordering::Relaxed))
    }

    /// The time since the last poll that succeeded was started.
    pub fn staleness(&self) -> Duration {
        self.last_seen().elapsed()
    }

    /// How long the oldest change has waited that caches know of and resuming readers may not have
    /// yet: an older transaction of the database server is still open.
    pub fn cursor_lag(&self) -> Duration {
        match self.held_back.load(Ordering::Relaxed) {
            NEVER => Duration::ZERO,
            since => (self.began + Duration::from_micros(since)).elapsed(),
        }
    }

    /// The database answered; there is more to read before everything is known.
    pub fn answered(&self) {
        self.answers.store(true, Ordering::Relaxed);
    }

    /// A poll that was started at this time succeeded, and its changes were applied.
    pub fn polled(&self, at: Instant, held_back_since: Option<Instant>) {
        self.seen.store(self.micros(at), Ordering::Relaxed);
        self.held_back.store(held_back_since.map_or(NEVER, |since| self.micros(since)), Ordering::Relaxed);
        self.answered();
    }

    /// A poll failed: the database does not answer. Returns whether it did before.
    pub fn lost(&self) -> bool {
        self.answers.swap(false, Ordering::Relaxed)
    }

    fn micros(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.began).as_micros() as u64
    }
}
