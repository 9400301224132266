//! The task that keeps one JWT fresh.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};
use tonic::Code;

use super::{AccessToken, Entry, Held, Inner, REREAD, State, TokenRequest};
use crate::error::{Error, Result};
use crate::random::{backoff, unit};

/// How long one exchange may take.
const EXCHANGE_WITHIN: Duration = Duration::from_secs(10);
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LAST_BACKOFF: Duration = Duration::from_secs(30);
/// A JWT is refreshed for as long as it was used within this, or within three of its lives.
const IDLE: Duration = Duration::from_secs(3_600);

/// Keeps the entry until it is not used any more, the source is dropped, or a reason ends it.
pub(super) fn spawn(source: &Arc<Inner>, request: TokenRequest, entry: &Arc<Entry>) -> AbortHandle {
    let changes = source.changes.subscribe();
    let keeper = Keeper { source: Arc::downgrade(source), entry: Arc::downgrade(entry), request, changes };
    tokio::spawn(keeper.run()).abort_handle()
}

struct Keeper {
    source: Weak<Inner>,
    entry: Weak<Entry>,
    request: TokenRequest,
    changes: watch::Receiver<u64>,
}

/// However the task ends, also with its runtime, another call may begin another.
impl Drop for Keeper {
    fn drop(&mut self) {
        if let (Some(source), Some(entry)) = (self.source.upgrade(), self.entry.upgrade()) {
            let _cache = source.lock();
            entry.kept.store(false, Ordering::Relaxed);
        }
    }
}

impl Keeper {
    async fn run(mut self) {
        let mut failures = 0;
        // One that was left alone for a while may be fresh enough.
        let fresh = self.entry.upgrade().and_then(|entry| {
            let state = entry.state.borrow();
            state.held.as_ref().filter(|_| state.usable().is_some()).map(|held| held.refresh)
        });
        if let Some(refresh) = fresh
            && !self.wait(refresh).await
        {
            return;
        }
        while let (Some(source), Some(entry)) = (self.source.upgrade(), self.entry.upgrade()) {
            // With nothing to keep fresh and no caller that waits, the next call begins again.
            if failures > 0 && entry.state.borrow().usable().is_none() && entry.state.receiver_count() == 0 {
                source.forget(&self.request, &entry);
                return;
            }
            let generation = source.note_generation();
            self.changes.mark_unchanged();
            let began = Instant::now();
            let answer = source.exchange(&self.request).await.and_then(|(token, life)| {
                let late = || Error::new(Code::Unavailable, "", "the JWT expired before it came");
                if began.elapsed() < life { Ok((token, life)) } else { Err(late()) }
            });
            let next = match answer {
                Ok((token, life)) => {
                    failures = 0;
                    source.resume();
                    // Two thirds, give or take a tenth.
                    let refresh = began + life.mul_f64(2.0 / 3.0 * (0.9 + 0.2 * unit()));
                    let held = Held { token, since: began, refresh, expires: began + life };
                    entry.state.send_replace(State { held: Some(held), failure: None });
                    let idle = entry.last_use.lock().unwrap_or_else(PoisonError::into_inner).1.elapsed();
                    if idle > IDLE.max(life * 3) {
                        return;
                    }
                    refresh
                }
                Err(error) if error.is_final() => {
                    source.stop(error.clone(), generation);
                    entry.state.send_replace(State { held: None, failure: Some((error, None)) });
                    return;
                }
                Err(error) if error.is_retryable() => {
                    let wait = backoff(failures, FIRST_BACKOFF, LAST_BACKOFF, error.retry_after());
                    failures = failures.saturating_add(1);
                    let next = Instant::now() + wait;
                    tracing::debug!(reason = error.reason(), code = ?error.code(), ?wait, "exchange failed");
                    entry.state.send_modify(|state| state.failure = Some((error, Some(next))));
                    next
                }
                Err(error) => {
                    // Of a JWT that is good for now the rest of its life is answered.
                    if entry.state.borrow().usable().is_none() {
                        source.forget(&self.request, &entry);
                    }
                    entry.state.send_modify(|state| state.failure = Some((error, None)));
                    return;
                }
            };
            drop((source, entry));
            if !self.wait(next).await {
                return;
            }
        }
    }

    /// Waits until then, or until the credential changes. Whether there still is something to do.
    async fn wait(&mut self, until: Instant) -> bool {
        loop {
            let Some(source) = self.source.upgrade() else { return false };
            if self.entry.strong_count() == 0 {
                return false;
            }
            let is_file = source.credential.is_file();
            drop(source);
            let wake = if is_file { until.min(Instant::now() + REREAD) } else { until };
            tokio::select! {
                () = sleep_until(wake) => {}
                changed = self.changes.changed() => return changed.is_ok(),
            }
            if wake == until {
                return true;
            }
            if let Some(source) = self.source.upgrade() {
                source.note_generation();
            }
        }
    }
}

impl Inner {
    async fn exchange(&self, request: &TokenRequest) -> Result<(AccessToken, Duration)> {
        let subject = self.credential.subject(&self.issuer, &self.clock)?;
        self.exchanges.fetch_add(1, Ordering::Relaxed);
        self.exchanger.exchange(subject, request, &self.clock, EXCHANGE_WITHIN).await
    }

    /// A stop was lifted.
    fn resume(&self) {
        let stop = &mut self.lock().stop;
        if stop.as_ref().is_some_and(|stop| stop.again.is_some()) {
            *stop = None;
        }
    }

    fn forget(&self, request: &TokenRequest, entry: &Arc<Entry>) {
        let mut cache = self.lock();
        if cache.entries.get(request).is_some_and(|known| Arc::ptr_eq(known, entry)) {
            cache.entries.remove(request);
        }
    }
}
