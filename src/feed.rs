//! Follows the feed: every node hears of each change, and drops what it touches.
//!
//! `NOTIFY` only wakes. Without it, through a connection pooler for example, the feed is
//! looked at each second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::db::feed::{self, Cursor, News};
use crate::state::State;

/// The channel on which changes wake the nodes.
pub const CHANNEL: &str = "countersign_feed";
/// How often the feed is looked at when nothing wakes us. Together with the time that a look
/// may take this is less than the 2 s of silence after which entries are read again: a
/// database that hangs is known to be gone before anybody waits for it.
const POLL: Duration = Duration::from_millis(800);
/// How long a look may take before the database counts as gone.
const POLL_TIMEOUT: Duration = Duration::from_secs(1);

/// How far this node has heard.
pub struct Feed {
    /// A pool of its own: a busy server still hears.
    db: PgPool,
    began: Instant,
    /// Microseconds after `began` at which the last look that succeeded was started.
    seen: AtomicU64,
    answers: AtomicBool,
}

impl Feed {
    /// A node that has just heard: its database has answered.
    pub fn new(db: PgPool) -> Self {
        Self { db, began: Instant::now(), seen: AtomicU64::new(0), answers: AtomicBool::new(true) }
    }

    /// Closes its connections.
    pub async fn close(&self) {
        self.db.close().await;
    }

    /// Whether the database answered the last time that it was asked.
    pub fn answers(&self) -> bool {
        self.answers.load(Ordering::Relaxed)
    }

    /// When the last look that succeeded was started: what had been committed before is known.
    pub fn last_seen(&self) -> Instant {
        self.began + Duration::from_micros(self.seen.load(Ordering::Relaxed))
    }

    /// How long ago that was.
    pub fn staleness(&self) -> Duration {
        self.last_seen().elapsed()
    }

    fn saw(&self, at: Instant) {
        self.seen.store(at.duration_since(self.began).as_micros() as u64, Ordering::Relaxed);
        self.answers.store(true, Ordering::Relaxed);
    }
}

/// Follows until it is dropped.
///
/// `wake` says whether to listen for notifications besides.
pub async fn follow(state: Arc<State>, wake: bool) {
    let db = state.feed.db.clone();
    let woken = Arc::new(Notify::new());
    // Ends with this future.
    let mut listener = tokio::task::JoinSet::new();
    if wake {
        listener.spawn(listen(db.clone(), woken.clone()));
    }
    let mut cursor = Cursor::default();
    loop {
        look(&state, &db, &mut cursor).await;
        let _ = timeout(POLL, woken.notified()).await;
    }
}

async fn look(state: &State, db: &PgPool, cursor: &mut Cursor) {
    let began = Instant::now();
    let first = cursor.is_new();
    match timeout(POLL_TIMEOUT, feed::read(db, cursor)).await {
        Ok(Ok(News::Touched(subjects))) => {
            if !subjects.is_empty() {
                state.principals.invalidate(&subjects);
                state.origins.touched(&subjects);
            }
            if first {
                // They were read before the feed was: what came between is in neither.
                state.origins.doubt_all();
            }
            if !state.feed.answers() {
                tracing::info!("the database answers again");
            }
            state.feed.saw(began);
        }
        Ok(Ok(News::AnotherDatabase)) => {
            tracing::warn!("the database is another one than before: all that was cached is dropped");
            state.principals.clear();
            state.origins.doubt_all();
            if let Err(error) = state.reload_keys().await {
                tracing::error!(%error, "the keys of the other database cannot be read");
            }
            state.feed.saw(began);
        }
        failed => {
            if state.feed.answers() {
                let error = match failed {
                    Ok(Err(error)) => format!("{error:?}"),
                    _ => "it does not answer in time".to_owned(),
                };
                tracing::error!(error, "the database is gone");
            }
            state.feed.answers.store(false, Ordering::Relaxed);
        }
    }
}

/// Wakes at each notification. Where none can be had, the poll is enough.
async fn listen(db: PgPool, woken: Arc<Notify>) {
    loop {
        if let Ok(mut listener) = PgListener::connect_with(&db).await
            && listener.listen(CHANNEL).await.is_ok()
        {
            while listener.recv().await.is_ok() {
                woken.notify_one();
            }
        }
        tokio::time::sleep(POLL).await;
    }
}
