//! Follows the feed: every node is notified of each change, and invalidates what it touches.
//!
//! `NOTIFY` only wakes. Without it, through a connection pooler for example, the feed is polled in
//! each period.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::context::JobContext;
use super::second_invalidations::SecondInvalidations;
use crate::clock::{Clock, Jitter};
use crate::db::connections::Detached;
use crate::db::distribution::Engine;
use crate::db::events::feed::CHANNEL;
use crate::db::events::follower::{Follower, News};
use crate::db::pool::{Db, Pools};
use crate::db::sqlstate;
use crate::domain::values::subject::Subject;
use crate::error::{Error, Result};
use crate::state::cors_origins::CorsOrigins;
use crate::state::federation::keys::IssuerKeys;
use crate::state::feed::Feed;
use crate::state::keyring::Keyring;
use crate::state::principals::Principals;
use crate::state::streams::Streams;

/// How often an unavailable database is polled. One that comes back just after a failing poll
/// began is found by the next one: recovery takes at most 2 s.
const RETRY: Duration = Duration::from_millis(200);
/// How far apart the looks are that notifications ask for, in the mean: a node reads a flood of changes together, and not
/// one by one.
const APART: Duration = Duration::from_millis(10);
/// How far ahead of that they may be: a few changes are read at once, each by itself.
const AHEAD: Duration = Duration::from_millis(100);
/// The lag of resuming readers from which on it is logged.
const LONG_LAG: Duration = Duration::from_secs(30);

/// The caches that a change in the feed touches.
struct FollowedBy {
    principals: Arc<Principals>,
    cors_origins: Arc<CorsOrigins>,
    keyring: Arc<Keyring>,
    issuer_keys: Arc<IssuerKeys>,
    pools: Pools,
    streams: Arc<Streams>,
    clock: Clock,
}

/// Follows the feed. Also woken by notifications, where the context says so.
pub(super) async fn run(context: JobContext, period: Duration) {
    let state = &context.state;
    let followed_by = FollowedBy {
        principals: state.principals.clone(),
        cors_origins: state.cors_origins.clone(),
        keyring: state.keyring.clone(),
        issuer_keys: state.issuer_keys.clone(),
        pools: state.pools.clone(),
        streams: state.streams.clone(),
        clock: state.clock.clone(),
    };
    let woken = Notify::new();
    let listening = async {
        if context.feed_listen {
            listen(&state.pools.feed, &woken, period, context.jitter).await;
        }
    };
    // One task for both: a panic in either of them is a panic of the job.
    tokio::join!(listening, follow(&context, followed_by, &woken, period));
}

async fn follow(context: &JobContext, followed_by: FollowedBy, woken: &Notify, period: Duration) {
    let (feed, jitter) = (&context.state.feed, context.jitter);
    let mut follower = feed.follower().await;
    let mut connection = None;
    let mut lag_logged = false;
    let mut keys_changed = false;
    let mut seconds = SecondInvalidations::new(feed.engine() == Engine::Distributed);
    // When the looks that notifications asked for would be over, if each took as long as they are apart.
    let mut paced = Instant::now();
    // When the look began that may take several pages.
    let mut look_began = None;
    loop {
        let began = *look_began.get_or_insert_with(Instant::now);
        let due = seconds.take_due(Instant::now());
        if !due.is_empty() {
            followed_by.principals.invalidate(&due);
            followed_by.cors_origins.invalidate(&due);
            keys_changed |= due.contains(&Subject::Keys);
        }
        match timeout(feed.limits().poll, poll(&followed_by.pools.feed, &mut connection, &mut follower)).await
        {
            Ok(Ok(news)) => {
                apply(&followed_by, news, &follower, &mut keys_changed, &mut seconds).await;
                if !feed.answers() {
                    tracing::info!("database reachable again");
                }
                if follower.is_behind() {
                    feed.answered();
                    continue;
                }
                feed.polled(began, follower.held_back_since());
                followed_by.streams.settled(follower.settled());
                look_began = None;
                context.succeeded();
            }
            failed => {
                if !follower.is_behind() {
                    look_began = None;
                }
                // Whatever it hangs in, nothing waits for it.
                connection = None;
                context.ran(&Err::<(), _>(()));
                lost(feed, &followed_by.pools, failed.ok().and_then(Result::err));
            }
        }
        lag_logged = log_lag(feed.cursor_lag(), lag_logged);
        let pause = if feed.answers() { period } else { jitter.spread(RETRY) };
        let pause = seconds.pause(Instant::now()).map_or(pause, |until_due| until_due.min(pause));
        if timeout(pause, woken.notified()).await.is_ok() {
            let now = Instant::now();
            paced = paced.max(now) + APART;
            sleep((paced - now).saturating_sub(AHEAD)).await;
        }
    }
}

/// The connection of the follower, and when it was opened.
type Connected = Option<(Detached, Instant)>;

async fn poll(db: &Db, connection: &mut Connected, follower: &mut Follower) -> Result<News> {
    match poll_once(db, connection, follower).await {
        // The session was ended, not the database: another one says which.
        Err(error) if sqlstate::is_lost_session(&error) => {
            *connection = None;
            poll_once(db, connection, follower).await
        }
        outcome => outcome,
    }
}

async fn poll_once(db: &Db, connection: &mut Connected, follower: &mut Follower) -> Result<News> {
    // Where another session was found unable to go on, this one may only not know it yet: a session
    // that was opened before the database became read-only can still write.
    let (connection, _) = match connection {
        Some(known) if !db.is_closed() && !sqlstate::is_suspect(known.1.elapsed()) => known,
        // Detached from the pool, which would wait for it when it hangs.
        _ => connection.insert((db.acquire().await?.detach(), Instant::now())),
    };
    follower.read(connection).await
}

/// Invalidates what was touched. `keys_changed` stays set until the keys are loaded.
async fn apply(
    to: &FollowedBy,
    news: News,
    follower: &Follower,
    keys_changed: &mut bool,
    seconds: &mut SecondInvalidations,
) {
    let had_changed = *keys_changed;
    match news {
        News::Changes(rows) => {
            let subjects = rows.iter().flat_map(|row| &row.subjects);
            let subjects: Vec<_> = subjects.filter_map(|text| Subject::parse(text)).collect();
            if !subjects.is_empty() {
                to.principals.invalidate(&subjects);
                to.cors_origins.invalidate(&subjects);
                seconds.note(&subjects, Instant::now());
            }
            *keys_changed |= subjects.contains(&Subject::Keys);
            if *keys_changed {
                match to.keyring.reload().await {
                    Ok(()) => *keys_changed = false,
                    Err(error) => tracing::error!(%error, "changed keys not loaded; it is retried"),
                }
            }
            // After what was cached is dropped: a stream that is touched authenticates again.
            to.streams.changed(rows, to.clock.now());
            if had_changed && !*keys_changed {
                to.streams.wake();
            }
        }
        News::AnotherDatabase => {
            tracing::warn!("database replaced by another one: all that was cached is dropped");
            // Some connections may still lead to the previous one.
            to.pools.renew();
            to.principals.clear();
            to.cors_origins.invalidate_all();
            // Its issuers may be others under the same ids, with versions that are as new.
            to.issuer_keys.clear();
            *keys_changed = false;
            if let Err(error) = to.keyring.reload().await {
                tracing::error!(%error, "keys of the other database not loaded; it is retried");
                *keys_changed = true;
            }
            to.streams.begin_anew(follower.settled(), to.clock.now());
        }
    }
}

/// Logs the outage once, and drops all connections: a hanging one would continue to hang after the
/// database is back.
fn lost(feed: &Feed, pools: &Pools, error: Option<Error>) {
    if feed.lost() {
        let error = error.map_or("it did not answer in time".to_owned(), |error| format!("{error:?}"));
        tracing::error!(error, "database lost");
        pools.renew();
    }
}

/// Logs once that the lag is long, and once that it is over. Returns whether it is logged as long.
fn log_lag(lag: Duration, logged: bool) -> bool {
    match (lag > LONG_LAG, logged) {
        (true, false) => tracing::warn!(
            seconds = lag.as_secs(),
            "readers who resume the feed held back: a transaction stays open on the database server"
        ),
        (false, true) => tracing::info!("readers who resume the feed no longer held back"),
        _ => {}
    }
    lag > LONG_LAG
}

/// Wakes at each notification. Where notifications are unavailable, the poll is enough. A listener
/// is dropped with the connections of this pool, and a new one opened.
async fn listen(db: &Db, woken: &Notify, retry: Duration, jitter: Jitter) {
    loop {
        tokio::select! {
            () = db.until_dropped() => {}
            () = listen_once(db, woken) => {}
        }
        sleep(jitter.spread(retry)).await;
    }
}

/// Wakes at each notification, over a connection of its own, until that fails.
async fn listen_once(db: &Db, woken: &Notify) {
    let own = PgPoolOptions::new().max_connections(1).acquire_timeout(db.connect_timeout());
    let own = own.connect_lazy_with(db.options().clone());
    let _counted = db.count_outside();
    if let Ok(mut listener) = PgListener::connect_with(&own).await
        && listener.listen(CHANNEL).await.is_ok()
    {
        while listener.recv().await.is_ok() {
            woken.notify_one();
        }
    }
}
