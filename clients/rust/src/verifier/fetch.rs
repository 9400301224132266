//! The key set by HTTP: for a verifier without the stream, and for keys that the stream has not brought.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderMap, Method, header};
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tonic::Code;

use super::Inner;
use super::keys::{KeySet, MOST_BYTES};
use crate::connect::{Endpoint, HttpRequest};
use crate::error::{Error, Result};
use crate::random::{backoff, unit};

const WITHIN: Duration = Duration::from_secs(5);
/// How often an unknown key may have the set fetched.
const BETWEEN: Duration = Duration::from_secs(30);
/// How long a set is kept that says nothing of it, and at most.
const MOST_AGE: Duration = Duration::from_secs(300);
const LEAST_AGE: Duration = Duration::from_secs(30);
/// How long the last set counts while no other comes: as long as a JWT lives.
const LAST_AGE: Duration = Duration::from_secs(3_600);

pub(super) struct Fetcher {
    endpoint: Endpoint,
    /// One at a time.
    gate: AsyncMutex<()>,
    times: Mutex<Times>,
    /// Whether the first fetch in the background is done, where there is one.
    first: watch::Sender<bool>,
    pub(super) fetches: AtomicU64,
}

#[derive(Default)]
struct Times {
    /// When an unknown key last had the set fetched.
    for_unknown: Option<Duration>,
    succeeded: Option<Duration>,
}

impl Fetcher {
    /// `in_background`: whether [`spawn`] follows.
    pub(super) fn new(endpoint: Endpoint, in_background: bool) -> Self {
        let (gate, times, fetches) = (AsyncMutex::default(), Mutex::default(), AtomicU64::new(0));
        Self { endpoint, gate, times, first: watch::Sender::new(!in_background), fetches }
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn may_begin(&self, now: Duration) -> bool {
        self.times().for_unknown.is_none_or(|began| now.saturating_sub(began) >= BETWEEN)
    }

    /// Whether the last set that came still counts.
    pub(super) fn is_recent(&self, now: Duration) -> bool {
        self.times().succeeded.is_some_and(|at| now.saturating_sub(at) <= LAST_AGE)
    }

    /// Fetches in the background, if it is time.
    pub(super) fn begin(inner: &Arc<Inner>, kid: String) {
        let due = inner.fetcher.as_ref().is_some_and(|fetcher| fetcher.may_begin(inner.clock.monotonic()));
        if due && let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let inner = Arc::clone(inner);
            runtime.spawn(async move { inner.fetch_unknown(&kid).await });
        }
    }

    async fn fetch(&self, inner: &Inner) -> Result<Duration> {
        self.fetches.fetch_add(1, Ordering::Relaxed);
        let request = HttpRequest {
            method: Method::GET,
            path: "/.well-known/jwks.json",
            form: None,
            most_bytes: MOST_BYTES,
            within: WITHIN,
        };
        let answer = self.endpoint.send(request).await?;
        let wrong = || Error::new(Code::Unavailable, "", "the answer is no key set");
        if !answer.status.is_success() {
            return Err(wrong());
        }
        let keys = KeySet::from_json(&answer.body).ok_or_else(wrong)?;
        let mut state = inner.write();
        if inner.with_revocations {
            state.add_keys(keys);
        } else {
            state.replace_keys(keys);
        }
        drop(state);
        self.times().succeeded = Some(inner.clock.monotonic());
        if !inner.with_revocations {
            inner.note(None);
        }
        Ok(max_age(&answer.headers))
    }
}

impl Inner {
    /// Fetches the set for a key that is not known, unless that was done a moment ago; waits for one that is under way.
    pub(super) async fn fetch_unknown(&self, kid: &str) {
        let Some(fetcher) = &self.fetcher else { return };
        // It fails only when there is no fetcher any more.
        let _ = fetcher.first.subscribe().wait_for(|done| *done).await;
        let _gate = fetcher.gate.lock().await;
        let now = self.clock.monotonic();
        if self.read().keys.get(kid).is_some() || !fetcher.may_begin(now) {
            return;
        }
        fetcher.times().for_unknown = Some(now);
        if let Err(error) = fetcher.fetch(self).await {
            tracing::debug!(%error, "key set not fetched");
        }
    }
}

/// Fetches the set now, and whenever it is too old.
pub(super) fn spawn(inner: &Arc<Inner>) -> JoinHandle<()> {
    let inner = Arc::clone(inner);
    tokio::spawn(async move {
        let Some(fetcher) = &inner.fetcher else { return };
        let mut failures = 0;
        loop {
            let gate = fetcher.gate.lock().await;
            let fetched = fetcher.fetch(&inner).await;
            fetcher.first.send_replace(true);
            drop(gate);
            let wait = match fetched {
                Ok(age) => {
                    failures = 0;
                    age.mul_f64(0.9 + 0.1 * unit())
                }
                Err(error) => {
                    tracing::debug!(%error, "key set not fetched");
                    let wait = backoff(failures, Duration::from_secs(1), BETWEEN, error.retry_after());
                    inner.note(Some(error));
                    failures += 1;
                    wait
                }
            };
            sleep(wait).await;
        }
    })
}

/// What `Cache-Control` says, within bounds.
fn max_age(headers: &HeaderMap) -> Duration {
    let said = headers.get(header::CACHE_CONTROL).and_then(|value| value.to_str().ok()).and_then(|value| {
        value.split(',').find_map(|part| part.trim().strip_prefix("max-age=")?.parse().ok())
    });
    said.map_or(MOST_AGE, |seconds| Duration::from_secs(seconds).clamp(LEAST_AGE, MOST_AGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_a_set_is_bounded() {
        let age = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CACHE_CONTROL, http::HeaderValue::from_static(text));
            max_age(&headers).as_secs()
        };
        assert_eq!(age("public, max-age=120"), 120);
        assert_eq!(age("max-age=0"), 30);
        assert_eq!(age("public, max-age=99999999"), 300);
        assert_eq!(age("no-store"), 300);
        assert_eq!(max_age(&HeaderMap::new()).as_secs(), 300);
    }
}
