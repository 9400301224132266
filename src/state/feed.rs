//! Follows the feed: every node hears of each change, and drops what it touches.
//!
//! `NOTIFY` only wakes. Without it, through a connection pooler for example, the feed is
//! looked at each second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sqlx::postgres::PgListener;
use sqlx::{PgConnection, PgPool};
use tokio::sync::{Mutex, Notify};
use tokio::time::timeout;

use super::State;
use crate::db::events::feed::{Follower, News};
use crate::db::pool::Db;
use crate::domain::values::subject::Subject;
use crate::error::{Error, Result};

/// The channel on which changes wake the nodes.
pub const CHANNEL: &str = "countersign_feed";
/// How often the feed is looked at when nothing wakes us. Together with the time that a look
/// may take this is less than the 2 s of silence after which entries are read again: a
/// database that hangs is known to be gone before anybody waits for it.
const POLL: Duration = Duration::from_millis(800);
/// How long a look may take before the database counts as gone.
const POLL_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a database that is gone is looked for. One that comes back just after a look began
/// in vain is found by the next one: all is well within 2 s.
const RETRY: Duration = Duration::from_millis(200);
/// When it is worth a line in the log that readers who come back are held back.
const LONG_LAG: Duration = Duration::from_secs(30);

/// How far this node has heard.
pub struct Feed {
    /// A pool of its own: a busy server still hears.
    db: Db,
    /// Where it is in the feed; taken by whoever follows.
    follower: Mutex<Follower>,
    began: Instant,
    /// Microseconds after `began` at which the last look that succeeded was started.
    seen: AtomicU64,
    /// Since when readers who come back are held back, in the same way; [`NEVER`] when they are not.
    held_back: AtomicU64,
    answers: AtomicBool,
}

const NEVER: u64 = u64::MAX;

impl Feed {
    /// A node that knows everything that is committed now.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn begin(db: Db) -> Result<Self> {
        let began = Instant::now();
        let follower = Follower::begin(&mut *db.acquire().await?).await?;
        Ok(Self {
            db,
            follower: Mutex::new(follower),
            began,
            seen: AtomicU64::new(0),
            held_back: AtomicU64::new(NEVER),
            answers: AtomicBool::new(true),
        })
    }

    /// Its connections, for what has to be read when something was heard.
    pub fn db(&self) -> PgPool {
        self.db.pool()
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

    /// How long the oldest change has waited that caches know of and readers who come back may
    /// not have yet: some transaction of the database server is older and still open.
    pub fn cursor_lag(&self) -> Duration {
        match self.held_back.load(Ordering::Relaxed) {
            NEVER => Duration::ZERO,
            since => (self.began + Duration::from_micros(since)).elapsed(),
        }
    }

    fn micros(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.began).as_micros() as u64
    }

    fn saw(&self, at: Instant, held_back_since: Option<Instant>) {
        self.seen.store(self.micros(at), Ordering::Relaxed);
        self.held_back.store(held_back_since.map_or(NEVER, |since| self.micros(since)), Ordering::Relaxed);
        self.answers.store(true, Ordering::Relaxed);
    }
}

/// Follows until it is dropped.
///
/// `wake` says whether to listen for notifications besides.
pub async fn follow(state: Arc<State>, wake: bool) {
    let woken = Arc::new(Notify::new());
    // Ends with this future.
    let mut listener = tokio::task::JoinSet::new();
    if wake {
        listener.spawn(listen(state.clone(), woken.clone()));
    }
    let mut follower = state.feed.follower.lock().await;
    let mut connection = None;
    let mut told_of_lag = false;
    let mut keys_changed = false;
    loop {
        let began = Instant::now();
        match timeout(POLL_TIMEOUT, look(&state, &mut connection, &mut follower)).await {
            Ok(Ok(news)) => {
                apply(&state, news, &mut keys_changed).await;
                if !state.feed.answers() {
                    tracing::info!("the database answers again");
                }
                state.feed.saw(began, follower.held_back_since());
            }
            failed => {
                // Whatever it hangs in: nothing is waited for.
                connection = None;
                gone(&state, failed.ok().and_then(Result::err));
            }
        }
        told_of_lag = tell_of_lag(state.feed.cursor_lag(), told_of_lag);
        let pause = if state.feed.answers() { POLL } else { RETRY };
        let _ = timeout(pause, woken.notified()).await;
    }
}

async fn look(state: &State, connection: &mut Option<PgConnection>, follower: &mut Follower) -> Result<News> {
    let connection = match connection {
        Some(connection) if !state.feed.db.is_closed() => connection,
        // Taken out of the pool, which would wait for it when it hangs.
        _ => connection.insert(state.feed.db.acquire().await?.detach()),
    };
    follower.read(connection).await
}

/// What was heard counts. `keys_changed` stays set until the keys were read.
async fn apply(state: &State, news: News, keys_changed: &mut bool) {
    match news {
        News::Touched(subjects) => {
            let subjects: Vec<_> = subjects.iter().filter_map(|text| Subject::parse(text)).collect();
            if !subjects.is_empty() {
                state.principals.invalidate(&subjects);
                state.origins.touched(&subjects);
            }
            *keys_changed |= subjects.contains(&Subject::Keys);
            if *keys_changed {
                match state.reload_keys().await {
                    Ok(()) => *keys_changed = false,
                    Err(error) => {
                        tracing::error!(%error, "changed keys cannot be read; they are tried again")
                    }
                }
            }
        }
        News::AnotherDatabase => {
            tracing::warn!("the database is another one than before: all that was cached is dropped");
            // Some connections may still lead to the former one.
            state.feed.db.renew();
            state.renew_connections();
            state.principals.clear();
            state.origins.doubt_all();
            *keys_changed = false;
            if let Err(error) = state.reload_keys().await {
                tracing::error!(%error, "the keys of the other database cannot be read; they are tried again");
                *keys_changed = true;
            }
        }
    }
}

/// Says so once, and gives up all connections: what hangs in one would hang on after its return.
fn gone(state: &State, error: Option<Error>) {
    if state.feed.answers() {
        let error = error.map_or("it does not answer in time".to_owned(), |error| format!("{error:?}"));
        tracing::error!(error, "the database is gone");
        state.feed.answers.store(false, Ordering::Relaxed);
        state.feed.db.renew();
        state.renew_connections();
    }
}

/// Says once that the lag is long, and once that it is over. Returns whether it was said.
fn tell_of_lag(lag: Duration, told: bool) -> bool {
    match (lag > LONG_LAG, told) {
        (true, false) => tracing::warn!(
            seconds = lag.as_secs(),
            "a transaction that stays open on the database server holds back those who resume the feed"
        ),
        (false, true) => tracing::info!("those who resume the feed are held back no longer"),
        _ => {}
    }
    lag > LONG_LAG
}

/// Wakes at each notification. Where none can be had, the poll is enough. A listener whose
/// connections are given up hears so, and takes a new one.
async fn listen(state: Arc<State>, woken: Arc<Notify>) {
    loop {
        if let Ok(mut listener) = PgListener::connect_with(&state.feed.db.pool()).await
            && listener.listen(CHANNEL).await.is_ok()
        {
            while listener.recv().await.is_ok() {
                woken.notify_one();
            }
        }
        tokio::time::sleep(POLL).await;
    }
}
