//! Exchanges a credential for JWTs, and keeps them fresh.

mod exchange;
mod keeper;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};
use tonic::Code;

use crate::clock::Clock;
use crate::connect::Endpoint;
use crate::credential::Credential;
use crate::error::{Error, Result};
use exchange::Exchanger;

/// How many JWTs are cached, each for other audiences or scopes.
const MOST_CACHED: usize = 1_000;
/// How long a call waits for a JWT where nothing else is said.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a file with a credential is read, at most.
const REREAD: Duration = Duration::from_secs(1);
/// How old a JWT is before it is worth another exchange that a service refuses it.
const REFUSED_AFTER: Duration = Duration::from_secs(5);
/// The waits after a stop that can be lifted.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LAST_WAIT: Duration = Duration::from_secs(60);

/// How the token endpoint is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// `ExchangeToken`.
    #[default]
    Grpc,
    /// `POST <endpoint>/oauth2/token`, over HTTP/1.1: where gRPC does not pass. A JWT for the issuer has those of
    /// Countersign's own permissions alone that are asked for by name.
    Http,
}

/// Which JWT: for whom, and with what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TokenRequest {
    audiences: Vec<String>,
    scopes: Vec<String>,
    ttl: Option<Duration>,
}

impl TokenRequest {
    /// For one service.
    pub fn audience(audience: impl Into<String>) -> Self {
        Self::new([audience.into()], [] as [String; 0])
    }

    /// For these services, with these scopes. Without audiences it is for the issuer: for Countersign's own API.
    /// Without scopes it has all rights that the credential has.
    pub fn new<A: Into<String>, S: Into<String>>(
        audiences: impl IntoIterator<Item = A>,
        scopes: impl IntoIterator<Item = S>,
    ) -> Self {
        let sorted = |mut all: Vec<String>| {
            all.sort();
            all.dedup();
            all
        };
        let audiences = sorted(audiences.into_iter().map(Into::into).collect());
        Self { audiences, scopes: sorted(scopes.into_iter().map(Into::into).collect()), ttl: None }
    }

    /// With another lifetime than the server's default.
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }
}

/// A JWT.
#[derive(Clone)]
pub struct AccessToken {
    text: Arc<str>,
    expire_time: SystemTime,
}

impl AccessToken {
    /// What is sent after `Bearer`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// When it ends.
    pub fn expire_time(&self) -> SystemTime {
        self.expire_time
    }
}

/// Never the JWT.
impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken").field("expire_time", &self.expire_time).finish_non_exhaustive()
    }
}

/// How a [`TokenSource`] is set up.
#[derive(Clone, Debug)]
pub struct TokenSourceBuilder {
    endpoint: Endpoint,
    credential: Credential,
    issuer: Option<String>,
    transport: Transport,
    clock: Clock,
}

impl TokenSourceBuilder {
    /// The issuer, which is the audience of the assertions that a key signs. Default: the URL of the endpoint.
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// How the token endpoint is reached. Default: gRPC.
    pub fn transport(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    /// The clock that assertions are dated by.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Makes the source. It calls nothing yet.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn build(self) -> TokenSource {
        let issuer = self.issuer.unwrap_or_else(|| self.endpoint.url());
        let exchanger = Exchanger::new(self.endpoint, self.transport);
        let (changes, _) = watch::channel(self.credential.generation());
        TokenSource(Arc::new(Inner {
            credential: self.credential,
            issuer,
            clock: self.clock,
            exchanger,
            exchanges: AtomicU64::new(0),
            changes,
            cache: Mutex::new(Cache {
                entries: HashMap::new(),
                stop: None,
                read_at: Instant::now(),
                uses: 0,
            }),
        }))
    }
}

/// Exchanges a credential for JWTs, and keeps them fresh in the background.
///
/// - A JWT is cached by its audiences, scopes and lifetime, and refreshed at two thirds of its life. One exchange runs
///   at a time for each.
/// - While the server is away, what is cached and has not expired is answered. Retries back off, with jitter, and wait
///   for as long as the server says.
/// - At a reason that is final (`TOKEN_REVOKED`, say) it stops, until the credential changes; where an administrator can
///   lift the stop, a later call asks again.
///
/// Cheap to clone; the clones share the cache. The background tasks end when the last one is dropped.
#[derive(Clone)]
pub struct TokenSource(Arc<Inner>);

struct Inner {
    credential: Credential,
    issuer: String,
    clock: Clock,
    exchanger: Exchanger,
    exchanges: AtomicU64,
    /// The generation of the credential that was last seen.
    changes: watch::Sender<u64>,
    cache: Mutex<Cache>,
}

struct Cache {
    entries: HashMap<TokenRequest, Arc<Entry>>,
    stop: Option<Stop>,
    /// When the file with the credential was last read.
    read_at: Instant,
    uses: u64,
}

/// A reason that ends the credential.
struct Stop {
    error: Error,
    generation: u64,
    /// When a call may ask again, and how long the next wait is; none where nothing lifts it.
    again: Option<(Instant, Duration)>,
}

struct Entry {
    state: watch::Sender<State>,
    /// The number of its last use among those of the cache, and when that was.
    last_use: Mutex<(u64, Instant)>,
    /// Whether a task keeps it. Changed under the lock of the cache alone.
    kept: AtomicBool,
    task: Mutex<Option<AbortHandle>>,
}

/// One that gave way to others in the cache, or was refused, has nothing left to keep.
impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut().unwrap_or_else(PoisonError::into_inner) {
            task.abort();
        }
    }
}

#[derive(Clone, Default)]
struct State {
    held: Option<Held>,
    /// Why the last exchange failed, and when the next one begins; never, where it is none to repeat.
    failure: Option<(Error, Option<Instant>)>,
}

#[derive(Clone)]
struct Held {
    token: AccessToken,
    /// When it was asked for, which its life counts from.
    since: Instant,
    refresh: Instant,
    expires: Instant,
}

impl State {
    fn usable(&self) -> Option<AccessToken> {
        self.held.as_ref().filter(|held| Instant::now() < held.expires).map(|held| held.token.clone())
    }
}

impl TokenSource {
    /// A source of JWTs for the credential, by gRPC.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn new(endpoint: &Endpoint, credential: Credential) -> Self {
        Self::builder(endpoint, credential).build()
    }

    /// With more to set up.
    pub fn builder(endpoint: &Endpoint, credential: Credential) -> TokenSourceBuilder {
        TokenSourceBuilder {
            endpoint: endpoint.clone(),
            credential,
            issuer: None,
            transport: Transport::default(),
            clock: Clock::system(),
        }
    }

    /// The JWT, from the cache or by an exchange. Waits for 10 s at most.
    ///
    /// # Errors
    /// Why the exchange failed.
    pub async fn get(&self, request: &TokenRequest) -> Result<AccessToken> {
        self.get_within(request, DEFAULT_TIMEOUT).await
    }

    /// The JWT, from the cache or by an exchange, which is repeated while that may help and the time is not over.
    ///
    /// # Errors
    /// Why the last exchange failed.
    pub async fn get_within(&self, request: &TokenRequest, within: Duration) -> Result<AccessToken> {
        let deadline = Instant::now() + within;
        loop {
            let mut states = self.0.entry(request)?.state.subscribe();
            loop {
                let state = states.borrow_and_update().clone();
                if let Some(token) = state.usable() {
                    return Ok(token);
                }
                match state.failure {
                    Some((error, None)) => return Err(error),
                    Some((error, Some(next))) if next >= deadline => return Err(error),
                    _ => {}
                }
                match timeout_at(deadline, states.changed()).await {
                    Ok(Ok(())) => {}
                    // It gave way to others in the cache.
                    Ok(Err(_)) => break,
                    Err(_) => {
                        let last = states.borrow().failure.clone().map(|(error, _)| error);
                        return Err(last.unwrap_or_else(|| {
                            Error::new(Code::Unavailable, "", "the server did not answer in time")
                        }));
                    }
                }
            }
        }
    }

    /// The JWT if it is in the cache, without waiting. If it is not, an exchange begins in the background.
    ///
    /// # Errors
    /// Why there is none; `UNAVAILABLE` where it has yet to come.
    pub fn try_get(&self, request: &TokenRequest) -> Result<AccessToken> {
        let state = self.0.entry(request)?.state.borrow().clone();
        if let Some(token) = state.usable() {
            return Ok(token);
        }
        Err(state
            .failure
            .map_or_else(|| Error::new(Code::Unavailable, "", "there is no JWT yet"), |(error, _)| error))
    }

    /// Drops a JWT that a service refused, if it is the cached one: the next call makes another. One of a moment ago
    /// stays, since another one would be no better.
    pub fn refused(&self, request: &TokenRequest, token: &AccessToken) {
        let mut cache = self.0.lock();
        let is_it = cache.entries.get(request).is_some_and(|entry| {
            let state = entry.state.borrow();
            let held = state.held.as_ref().filter(|held| held.since.elapsed() >= REFUSED_AFTER);
            held.is_some_and(|held| Arc::ptr_eq(&held.token.text, &token.text))
        });
        if is_it {
            cache.entries.remove(request);
        }
    }

    /// How many JWTs are cached, and how many exchanges were made.
    pub fn statistics(&self) -> TokenSourceStatistics {
        let entries: Vec<_> = self.0.lock().entries.values().cloned().collect();
        TokenSourceStatistics {
            cached: entries.iter().filter(|entry| entry.state.borrow().usable().is_some()).count(),
            exchanges: self.0.exchanges.load(Ordering::Relaxed),
        }
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSource").field("credential", &self.0.credential).finish_non_exhaustive()
    }
}

/// What a [`TokenSource`] has and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenSourceStatistics {
    /// How many JWTs are cached.
    pub cached: usize,
    /// How many exchanges were asked for.
    pub exchanges: u64,
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the file again if it is time, and tells the tasks if it changed.
    fn reread(&self, cache: &mut Cache) {
        // Once it was refused, only another credential helps.
        if self.credential.is_file() && (cache.stop.is_some() || cache.read_at.elapsed() >= REREAD) {
            cache.read_at = Instant::now();
            self.note_generation();
        }
    }

    fn note_generation(&self) -> u64 {
        let generation = self.credential.generation();
        self.changes.send_if_modified(|known| std::mem::replace(known, generation) != generation);
        generation
    }

    /// The entry of a request, with a task that keeps it.
    ///
    /// # Errors
    /// The reason that stopped the source.
    fn entry(self: &Arc<Self>, request: &TokenRequest) -> Result<Arc<Entry>> {
        let mut cache = self.lock();
        self.reread(&mut cache);
        if let Some(stop) = &cache.stop {
            let lifted = stop.again.is_some_and(|(next, _)| Instant::now() >= next);
            if stop.generation == *self.changes.borrow() && !lifted {
                return Err(stop.error.clone());
            }
            if stop.generation != *self.changes.borrow() {
                cache.stop = None;
            } else if let Some(Stop { again: Some((next, wait)), .. }) = &mut cache.stop {
                // One call asks; the others get the reason until it is answered.
                *next = Instant::now() + *wait;
            }
        }
        cache.uses += 1;
        let used = (cache.uses, Instant::now());
        let entry = match cache.entries.get(request) {
            Some(entry) => Arc::clone(entry),
            None => {
                if cache.entries.len() >= MOST_CACHED {
                    cache.make_room();
                }
                let entry = Arc::new(Entry {
                    state: watch::Sender::new(State::default()),
                    last_use: Mutex::new(used),
                    kept: AtomicBool::new(false),
                    task: Mutex::new(None),
                });
                cache.entries.insert(request.clone(), Arc::clone(&entry));
                entry
            }
        };
        *entry.last_use.lock().unwrap_or_else(PoisonError::into_inner) = used;
        let state = entry.state.borrow().clone();
        let is_refused = matches!(state.failure, Some((_, None)));
        // What is good for now, and would not be refreshed, is answered for the rest of its life.
        let is_done = is_refused && state.usable().is_some();
        if !is_done && !entry.kept.swap(true, Ordering::Relaxed) {
            if is_refused {
                entry.state.send_modify(|state| state.failure = None);
            }
            let task = keeper::spawn(self, request.clone(), &entry);
            *entry.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        }
        Ok(entry)
    }

    /// Ends the credential for this reason: nothing more is answered or asked.
    fn stop(&self, error: Error, generation: u64) {
        let mut cache = self.lock();
        cache.entries.clear();
        let wait = match &cache.stop {
            Some(Stop { again: Some((_, wait)), .. }) => *wait,
            _ => FIRST_WAIT,
        };
        let again = error.is_liftable().then(|| (Instant::now() + wait, (wait * 2).min(LAST_WAIT)));
        tracing::warn!(reason = error.reason(), "credential refused");
        cache.stop = Some(Stop { error, generation, again });
    }
}

impl Cache {
    /// Drops the entry that was used longest ago.
    fn make_room(&mut self) {
        let used = |entry: &Entry| entry.last_use.lock().unwrap_or_else(PoisonError::into_inner).0;
        let oldest =
            self.entries.iter().min_by_key(|(_, entry)| used(entry)).map(|(request, _)| request.clone());
        if let Some(oldest) = oldest {
            self.entries.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests;
