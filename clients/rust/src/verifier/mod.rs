//! Verifies JWTs without asking the server, and hears when they end.

mod claims;
mod fetch;
mod jwt;
mod keys;
mod state;
mod watch;

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use tokio::sync::{Notify, watch as channel};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::Code;

pub use claims::{AuthorizationDetail, Claims};

use crate::clock::Clock;
use crate::connect::Endpoint;
use crate::credential::Credential;
use crate::error::{Error, Result, reason};
use crate::pb;
use crate::thumbprint::Thumbprint;
use fetch::Fetcher;
use jwt::{Expected, Unverified, invalid};
use state::{Now, Staleness, State};

/// How old the news may be where nothing else is said.
const DEFAULT_STALENESS: Duration = Duration::from_secs(30);
/// The longest that a verifier may go on without news.
const MOST_OPEN: Duration = Duration::from_secs(3_600);

/// The tenants whose JWTs are good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Orgs {
    /// Any org of the issuer: the service decides by `Claims::org` itself.
    Any,
    /// These alone, `org_…`.
    Only(Vec<String>),
}

impl Orgs {
    fn contains(&self, org: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(orgs) => orgs.iter().any(|one| one == org),
        }
    }
}

impl From<&str> for Orgs {
    fn from(org: &str) -> Self {
        Self::Only(vec![org.to_owned()])
    }
}

impl<const N: usize> From<[&str; N]> for Orgs {
    fn from(orgs: [&str; N]) -> Self {
        Self::Only(orgs.map(str::to_owned).into())
    }
}

impl From<Vec<String>> for Orgs {
    fn from(orgs: Vec<String>) -> Self {
        Self::Only(orgs)
    }
}

/// Verifies JWTs without asking the server.
///
/// The key set and the revocations come by a stream in the background, so that a JWT is refused within a moment of
/// when it ended. A verifier that has heard nothing for 30 s refuses everything with `VERIFIER_STALE`, which says
/// nothing of the JWT, and is worth a retry.
///
/// Cheap to clone; the background tasks end when the last clone is dropped.
#[derive(Clone)]
pub struct Verifier {
    inner: Arc<Inner>,
    _tasks: Arc<Tasks>,
}

struct Tasks(Vec<JoinHandle<()>>);

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

struct Inner {
    issuer: String,
    with_revocations: bool,
    staleness: Staleness,
    clock: Clock,
    state: RwLock<State>,
    fetcher: Option<Fetcher>,
    /// Wakes the task that acknowledges key sets.
    key_set_came: Notify,
    /// Counts the checkpoints, or key sets without a stream.
    news: channel::Sender<u64>,
    last_error: RwLock<Option<Error>>,
    process: u32,
}

/// How a [`Verifier`] is set up.
#[derive(Clone, Debug)]
pub struct VerifierBuilder {
    issuer: String,
    source: Source,
    staleness: Duration,
    open_for: Option<Duration>,
    clock: Clock,
    org_ids: Vec<String>,
    name: Option<String>,
}

#[derive(Clone, Debug)]
enum Source {
    Stream(Endpoint, Credential),
    KeySet(Endpoint),
    Fed { with_revocations: bool },
}

impl VerifierBuilder {
    /// How old the news may be before everything is refused. Default: 30 s.
    pub fn staleness(mut self, staleness: Duration) -> Self {
        self.staleness = staleness;
        self
    }

    /// Goes on beyond that, for at most this long since the last news, up to an hour: what is revoked meanwhile is
    /// accepted. A key that was revoked stays refused.
    pub fn open_for(mut self, open_for: Duration) -> Self {
        self.open_for = Some(open_for);
        self
    }

    /// The clock that times are compared with.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The orgs to hear of, `org_…`. Default: the org of the credential; with `platform.verify` every org.
    pub fn org_ids(mut self, org_ids: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.org_ids = org_ids.into_iter().map(Into::into).collect();
        self
    }

    /// What the server's `ListVerifiers` calls this process. Default: the machine's name and the process id.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Makes the verifier, and begins to listen. It does not wait for the first news: [`Verifier::ready`] does.
    ///
    /// # Errors
    /// `INVALID_FIELD` where it is to go on for more than an hour.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn build(self) -> Result<Verifier> {
        if self.open_for.is_some_and(|open| open > MOST_OPEN) {
            return Err(Error::invalid("open_for", "is more than an hour"));
        }
        let fetcher = match &self.source {
            Source::Stream(endpoint, _) => Some(Fetcher::new(endpoint.clone(), false)),
            Source::KeySet(endpoint) => Some(Fetcher::new(endpoint.clone(), true)),
            Source::Fed { .. } => None,
        };
        let inner = Arc::new(Inner {
            issuer: self.issuer,
            with_revocations: !matches!(
                self.source,
                Source::KeySet(_) | Source::Fed { with_revocations: false }
            ),
            staleness: Staleness { closed_after: self.staleness, open_for: self.open_for },
            clock: self.clock,
            state: RwLock::default(),
            fetcher,
            key_set_came: Notify::new(),
            news: channel::Sender::new(0),
            last_error: RwLock::new(None),
            process: std::process::id(),
        });
        let tasks = match self.source {
            Source::Stream(endpoint, credential) => {
                watch::spawn(&inner, &endpoint, credential, self.org_ids, self.name)
            }
            Source::KeySet(_) => vec![fetch::spawn(&inner)],
            Source::Fed { .. } => Vec::new(),
        };
        Ok(Verifier { inner, _tasks: Arc::new(Tasks(tasks)) })
    }
}

/// What a verifier knows.
#[derive(Clone, Debug)]
pub struct VerifierStatus {
    /// Whether JWTs are verified; else everything is `VERIFIER_STALE`.
    pub fresh: bool,
    /// How old the news are: the time since the last checkpoint, and its lag.
    pub age: Option<Duration>,
    /// The keys that are accepted.
    pub key_ids: Vec<String>,
    /// How many revocations are kept.
    pub revocations: usize,
    /// Where the stream would be resumed.
    pub cursor: String,
    /// How often the key set was fetched beside the stream.
    pub key_set_fetches: u64,
    /// Why the stream last ended, or a key set did not come; none once it went on.
    pub last_error: Option<Error>,
}

impl Verifier {
    /// Of the JWTs of an issuer, with revocations by a stream from the endpoint. The credential must hold
    /// `tokens.introspect`, or `platform.verify`.
    pub fn watching(
        endpoint: &Endpoint,
        credential: Credential,
        issuer: impl Into<String>,
    ) -> VerifierBuilder {
        Self::builder(Source::Stream(endpoint.clone(), credential), issuer)
    }

    /// Of the JWTs of an issuer, by its published keys alone: a JWT is good until it expires, whatever is revoked.
    pub fn without_revocations(endpoint: &Endpoint, issuer: impl Into<String>) -> VerifierBuilder {
        Self::builder(Source::KeySet(endpoint.clone()), issuer)
    }

    /// One that calls nothing: it knows what [`apply`](Self::apply) gives it. For tests, and for a stream that comes
    /// another way. Without revocations it never is stale.
    pub fn fed(issuer: impl Into<String>, with_revocations: bool) -> VerifierBuilder {
        Self::builder(Source::Fed { with_revocations }, issuer)
    }

    fn builder(source: Source, issuer: impl Into<String>) -> VerifierBuilder {
        VerifierBuilder {
            issuer: issuer.into(),
            source,
            staleness: DEFAULT_STALENESS,
            open_for: None,
            clock: Clock::system(),
            org_ids: Vec::new(),
            name: None,
        }
    }

    /// The claims of a good JWT for this audience and one of these orgs. Never calls anything: of a key that is not
    /// known yet the JWT is refused, and the key set is fetched in the background.
    ///
    /// # Errors
    /// Why it is refused: see [`Error::reason`] and [`Error::check`].
    pub fn verify(&self, jwt: &str, audience: &str, orgs: &Orgs) -> Result<Claims> {
        self.verify_bound(jwt, audience, orgs, None)
    }

    /// As [`verify`](Self::verify), with the certificate that the peer of the connection has shown: a JWT that is
    /// bound to a certificate is good with that one alone.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn verify_bound(
        &self,
        jwt: &str,
        audience: &str,
        orgs: &Orgs,
        certificate: Option<&Thumbprint>,
    ) -> Result<Claims> {
        self.inner.verify(jwt, audience, orgs, certificate).map_err(|refusal| match refusal {
            Refusal::UnknownKey(kid) => {
                Fetcher::begin(&self.inner, kid);
                self.inner.unknown_key()
            }
            Refusal::Other(error) => error,
        })
    }

    /// As [`verify_bound`](Self::verify_bound), but of a key that is not known the key set is fetched first: at most
    /// once in 30 s, for all that wait.
    ///
    /// # Errors
    /// Why it is refused.
    pub async fn verify_or_fetch(
        &self,
        jwt: &str,
        audience: &str,
        orgs: &Orgs,
        certificate: Option<&Thumbprint>,
    ) -> Result<Claims> {
        match self.inner.verify(jwt, audience, orgs, certificate) {
            Ok(claims) => return Ok(claims),
            Err(Refusal::Other(error)) => return Err(error),
            Err(Refusal::UnknownKey(kid)) => self.inner.fetch_unknown(&kid).await,
        }
        self.inner.verify(jwt, audience, orgs, certificate).map_err(|refusal| match refusal {
            Refusal::UnknownKey(_) => self.inner.unknown_key(),
            Refusal::Other(error) => error,
        })
    }

    /// Waits until JWTs are verified.
    ///
    /// # Errors
    /// `VERIFIER_STALE` when it takes longer, or what the server answered.
    pub async fn ready(&self, within: Duration) -> Result<()> {
        let mut news = self.inner.news.subscribe();
        let coming = async {
            while !self.inner.is_ready() {
                if news.changed().await.is_err() {
                    return;
                }
            }
        };
        timeout(within, coming).await.map_err(|_| {
            let last = self.inner.last_error.read().unwrap_or_else(PoisonError::into_inner).clone();
            last.unwrap_or_else(stale)
        })
    }

    /// Takes an item of `WatchRevocations`.
    pub fn apply(&self, item: pb::watch_revocations_response::Item) {
        self.inner.apply(item);
    }

    /// What is done when the stream has ended: nothing of what was heard is forgotten. The answer is the cursor to
    /// resume with, which is empty after `CURSOR_EXPIRED`.
    pub fn stream_ended(&self, error: &Error) -> String {
        self.inner.stream_ended(error)
    }

    /// What it knows.
    pub fn status(&self) -> VerifierStatus {
        let now = self.inner.now();
        let state = self.inner.read();
        let mut key_ids: Vec<_> = state.keys.ids().map(str::to_owned).collect();
        key_ids.sort();
        VerifierStatus {
            fresh: self.inner.is_ready_in(&state, now),
            age: state.age(now),
            key_ids,
            revocations: state.revocations(now),
            cursor: state.cursor.clone(),
            key_set_fetches: self.inner.fetcher.as_ref().map_or(0, |f| f.fetches.load(Ordering::Relaxed)),
            last_error: self.inner.last_error.read().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("issuer", &self.inner.issuer).finish_non_exhaustive()
    }
}

enum Refusal {
    UnknownKey(String),
    Other(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

fn unknown_key() -> Error {
    invalid("kid", "the access token names no key of the issuer")
}

fn stale() -> Error {
    Error::refused(
        reason::VERIFIER_STALE,
        "fresh",
        "the verifier has heard nothing of the server for too long",
    )
    .after(Some(Duration::from_secs(1)))
}

impl Inner {
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Now {
        Now { unix: self.clock.unix(), monotonic: self.clock.monotonic() }
    }

    /// Without any key set it says nothing of the JWT that its key is not known.
    fn unknown_key(&self) -> Error {
        if self.is_ready() { unknown_key() } else { stale() }
    }

    fn is_ready(&self) -> bool {
        self.is_ready_in(&self.read(), self.now())
    }

    /// With revocations by the age of the news; without by that of the key set.
    fn is_ready_in(&self, state: &State, now: Now) -> bool {
        if !self.with_revocations {
            return match &self.fetcher {
                Some(fetcher) => state.has_keys && fetcher.is_recent(now.monotonic),
                None => state.has_keys,
            };
        }
        state.has_keys && state.is_fresh(now, self.staleness)
    }

    fn verify(
        &self,
        jwt: &str,
        audience: &str,
        orgs: &Orgs,
        certificate: Option<&Thumbprint>,
    ) -> Result<Claims, Refusal> {
        if std::process::id() != self.process {
            let message =
                "the process was forked after its verifier was made, which hears nothing here: make another";
            return Err(Error::new(Code::FailedPrecondition, "", message).into());
        }
        let jwt = Unverified::parse(jwt)?;
        let kid = jwt.kid().ok_or_else(unknown_key)?;
        let key = {
            let state = self.read();
            match state.keys.get(kid) {
                Some(key) => Arc::clone(key),
                None if state.is_revoked_key(kid) => {
                    return Err(invalid("kid", "the key of the access token was revoked").into());
                }
                // It may be a key that this verifier has not heard of.
                None if !self.is_ready_in(&state, self.now()) && self.with_revocations => {
                    return Err(stale().into());
                }
                None => return Err(Refusal::UnknownKey(kid.to_owned())),
            }
        };
        let claims = jwt.verify(&key)?;
        let expected = Expected {
            issuer: &self.issuer,
            audience,
            orgs,
            with_revocations: self.with_revocations,
            certificate: certificate.map(Thumbprint::as_str),
        };
        let now = self.now();
        expected.check(&claims, now.unix)?;
        let state = self.read();
        // The key may have been revoked while its signature was checked.
        if state.is_revoked_key(kid) {
            return Err(invalid("kid", "the key of the access token was revoked").into());
        }
        if !self.is_ready_in(&state, now) {
            return Err(stale().into());
        }
        if self.with_revocations {
            state.check(&claims, now)?;
        }
        Ok(claims)
    }

    fn apply(&self, item: pb::watch_revocations_response::Item) {
        let is_key_set = matches!(item, pb::watch_revocations_response::Item::KeySet(_));
        let is_checkpoint = matches!(item, pb::watch_revocations_response::Item::Checkpoint(_));
        let now = self.now();
        self.write().apply(item, now);
        if is_key_set {
            self.key_set_came.notify_one();
        }
        if is_key_set || is_checkpoint {
            self.note(None);
        }
    }

    fn stream_ended(&self, error: &Error) -> String {
        let mut state = self.write();
        if error.reason() == "CURSOR_EXPIRED" {
            state.cursor.clear();
        }
        state.cursor.clone()
    }

    /// What happened last: news, or why there are none.
    fn note(&self, error: Option<Error>) {
        let came = error.is_none();
        *self.last_error.write().unwrap_or_else(PoisonError::into_inner) = error;
        if came {
            self.news.send_modify(|count| *count = count.wrapping_add(1));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
