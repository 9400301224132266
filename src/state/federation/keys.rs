//! The keys of issuers as this node knows them, by the id of the issuer: never by a name or URL, which two orgs
//! may both have.
//!
//! A set is fetched at first use, again before it is old, and where a JWT names a key that is not in it. While the
//! issuer is away, the last good set serves for an hour. A key that is gone from the set is gone at once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;
use time::OffsetDateTime;
use tokio::sync::Notify;

use super::budget::Budget;
use super::fetcher::{FetchedKeys, Fetcher};
use crate::clock::Clock;
use crate::domain::federation::fetching::{
    FetchError, FetchFacts, FetchOutcome, MAX_AWAY, MAX_REFRESH, RETRY,
};
use crate::domain::federation::issuer::Issuer;
use crate::domain::federation::jwk_set::KeySet;
use crate::domain::values::ids::{IssuerId, OrgId};
use crate::state::keyring::Keyring;

/// How many issuers' keys are kept at most.
const MAX_ISSUERS: usize = 10_000;
/// The most bytes that they take.
const MAX_WEIGHT: usize = 64 << 20;

/// The keys of an issuer, as they were fetched, or as they are stored with it.
#[derive(Debug)]
pub struct KnownKeys {
    pub set: KeySet,
    /// When they were fetched.
    at: OffsetDateTime,
    /// When they are to be fetched again; none where they are inline.
    refresh_at: Option<OffsetDateTime>,
}

impl KnownKeys {
    /// Whether the set may still be used, while its issuer is away.
    fn serves(&self, now: OffsetDateTime) -> bool {
        self.refresh_at.is_none() || now < self.at + MAX_AWAY
    }
}

/// What is known of an issuer's keys on this node.
pub struct Entry {
    org_id: OrgId,
    issuer: Arc<Issuer>,
    /// Of the issuer's row: keys that were fetched for an older one are not used.
    version: i64,
    known: ArcSwapOption<KnownKeys>,
    attempt: Mutex<Attempt>,
    /// Held during a fetch: one at a time.
    flight: tokio::sync::Mutex<()>,
    /// When it was last used, in seconds since 1970.
    used: AtomicI64,
    /// From when on it is fetched again, since another node has found other keys; in seconds since 1970.
    recheck: AtomicI64,
}

/// No time at which an entry is fetched again.
const NEVER: i64 = i64::MAX;

impl Entry {
    fn is_due(&self, known: &KnownKeys, now: OffsetDateTime) -> bool {
        known
            .refresh_at
            .is_some_and(|at| now >= at || now.unix_timestamp() >= self.recheck.load(Ordering::Relaxed))
    }
}

/// The last attempt to fetch.
#[derive(Clone, Copy, Debug, Default)]
struct Attempt {
    began: Option<OffsetDateTime>,
    failed: Option<FetchError>,
}

impl Attempt {
    fn may_repeat(&self, now: OffsetDateTime) -> bool {
        self.began.is_none_or(|began| now >= began + RETRY)
    }
}

/// The keys of all issuers that were used lately.
pub struct IssuerKeys {
    entries: papaya::HashMap<IssuerId, Arc<Entry>>,
    fetcher: Fetcher,
    budget: Budget,
    keyring: Arc<Keyring>,
    clock: Clock,
    /// What is to be stored, the last one of each issuer.
    outcomes: Mutex<HashMap<IssuerId, FetchOutcome>>,
    /// Notified when there is an outcome.
    fetched: Notify,
}

impl IssuerKeys {
    pub fn new(fetcher: Fetcher, keyring: Arc<Keyring>, clock: Clock) -> Self {
        Self {
            entries: papaya::HashMap::new(),
            fetcher,
            budget: Budget::default(),
            keyring,
            clock,
            outcomes: Mutex::default(),
            fetched: Notify::new(),
        }
    }

    /// Whether the deployment admits the issuer.
    pub fn admits(&self, issuer: &Issuer) -> bool {
        self.fetcher.admits(issuer.name())
    }

    /// The entry of an issuer whose row has this version.
    pub fn entry(&self, org_id: OrgId, issuer: &Arc<Issuer>, version: i64) -> Arc<Entry> {
        let now = self.clock.now().unix_timestamp();
        let entries = self.entries.pin();
        if let Some(known) = entries.get(&issuer.id())
            && known.version >= version
        {
            known.used.store(now, Ordering::Relaxed);
            return known.clone();
        }
        let entry = Arc::new(Entry {
            org_id,
            issuer: issuer.clone(),
            version,
            known: ArcSwapOption::from(inline(issuer, self.clock.now()).map(Arc::new)),
            attempt: Mutex::default(),
            flight: tokio::sync::Mutex::default(),
            used: AtomicI64::new(now),
            recheck: AtomicI64::new(NEVER),
        });
        // Of two at the same moment the newer version stays.
        let newest = entries.update_or_insert(
            issuer.id(),
            |known| if known.version >= version { known.clone() } else { entry.clone() },
            entry.clone(),
        );
        let newest = newest.clone();
        self.make_room();
        newest
    }

    /// The keys of an issuer: those that are known while they are not old, or else fetched ones.
    ///
    /// # Errors
    /// Why they were not fetched, where the last good ones are too old.
    pub async fn current(self: &Arc<Self>, entry: &Arc<Entry>) -> Result<Arc<KnownKeys>, FetchError> {
        let now = self.clock.now();
        let known = entry.known.load_full();
        if let Some(known) = &known
            && !entry.is_due(known, now)
        {
            return Ok(known.clone());
        }
        let attempt = *lock(&entry.attempt);
        let may_try = attempt.may_repeat(now);
        match known {
            // Old, but not too old: calls do not wait for its issuer, unless it answered the last time and is due
            // for longer than the longest time between two fetches.
            Some(known)
                if known.serves(now) && (attempt.failed.is_some() || now < known.at + MAX_REFRESH) =>
            {
                if may_try {
                    self.refresh_beside(entry);
                }
                Ok(known)
            }
            _ => {
                self.refresh(entry).await;
                self.after_refresh(entry)
            }
        }
    }

    /// The keys where a JWT names one that is not among those that are known: fetched again, unless that was done
    /// within the last 10 s. A flood of such JWTs costs one fetch.
    ///
    /// # Errors
    /// As [`current`](Self::current).
    pub async fn renewed(self: &Arc<Self>, entry: &Arc<Entry>) -> Result<Arc<KnownKeys>, FetchError> {
        self.refresh(entry).await;
        self.after_refresh(entry)
    }

    fn after_refresh(&self, entry: &Entry) -> Result<Arc<KnownKeys>, FetchError> {
        let now = self.clock.now();
        match entry.known.load_full().filter(|known| known.serves(now)) {
            Some(known) => Ok(known),
            None => Err(lock(&entry.attempt).failed.unwrap_or(FetchError::TimedOut)),
        }
    }

    /// What is known without a fetch, as an explanation needs it.
    pub fn known(&self, entry: &Entry) -> Option<Arc<KnownKeys>> {
        entry.known.load_full().filter(|known| known.serves(self.clock.now()))
    }

    /// The keys of an issuer that is to be made or changed: fetched now, and kept nowhere.
    ///
    /// # Errors
    /// Why they were not fetched.
    pub async fn probe(&self, org_id: OrgId, issuer: &Issuer) -> Result<FetchedKeys, FetchError> {
        self.fetch(org_id, issuer).await
    }

    /// Fetches, unless that was tried within the last 10 s; and waits for a fetch that is in progress.
    ///
    /// In a task of its own: a caller that goes away does not end it for those that wait.
    async fn refresh(self: &Arc<Self>, entry: &Arc<Entry>) {
        let (keys, entry) = (self.clone(), entry.clone());
        // One that panicked is as one that failed.
        let _ = tokio::spawn(async move { keys.refresh_here(&entry).await }).await;
    }

    /// The same, without waiting for it: the call goes on with what is known.
    fn refresh_beside(self: &Arc<Self>, entry: &Arc<Entry>) {
        let (keys, entry) = (self.clone(), entry.clone());
        tokio::spawn(async move { keys.refresh_here(&entry).await });
    }

    async fn refresh_here(&self, entry: &Entry) {
        if entry.issuer.jwks().is_some() {
            return;
        }
        let _flight = entry.flight.lock().await;
        let now = self.clock.now();
        if !lock(&entry.attempt).may_repeat(now) {
            return;
        }
        lock(&entry.attempt).began = Some(now);
        entry.recheck.store(NEVER, Ordering::Relaxed);
        let fetched = self.fetch(entry.org_id, &entry.issuer).await;
        lock(&entry.attempt).failed = fetched.as_ref().err().copied();
        let result = match fetched {
            Ok(FetchedKeys { set, jwks_uri, refresh }) => {
                let facts = FetchFacts::of(&set, jwks_uri);
                entry.known.store(Some(Arc::new(KnownKeys {
                    set,
                    at: now,
                    refresh_at: Some(now + refresh),
                })));
                Ok(facts)
            }
            Err(error) => {
                tracing::warn!(%error, org_id = %entry.org_id, issuer_id = %entry.issuer.id(), "keys of an issuer not fetched");
                Err(error)
            }
        };
        let outcome = FetchOutcome {
            org_id: entry.org_id,
            issuer_id: entry.issuer.id(),
            version: entry.version,
            time: now,
            result,
        };
        lock(&self.outcomes).insert(outcome.issuer_id, outcome);
        self.fetched.notify_one();
    }

    async fn fetch(&self, org_id: OrgId, issuer: &Issuer) -> Result<FetchedKeys, FetchError> {
        let signer = &self.keyring.signer;
        if issuer.name().is_own(signer.issuer()) {
            return Err(FetchError::OwnKey);
        }
        let host = Fetcher::hosts(issuer).unwrap_or_default();
        if !self.budget.allows(org_id, &host, self.clock.now()) {
            return Err(FetchError::TooOften);
        }
        let fetched = self.fetcher.fetch(issuer).await?;
        if self.holds_our_own(&fetched.set) {
            return Err(FetchError::OwnKey);
        }
        Ok(fetched)
    }

    /// Whether a set holds a key of this deployment, which is never an issuer.
    pub fn holds_our_own(&self, set: &KeySet) -> bool {
        self.keyring.signer.holds_any(|own| set.holds(own))
    }

    /// Fetches again, in tasks of their own, the sets that were used lately and are due.
    pub fn refresh_due(self: &Arc<Self>) {
        let now = self.clock.now();
        let lately = (now - MAX_REFRESH).unix_timestamp();
        let entries = self.entries.pin();
        for entry in entries.values() {
            let is_due = entry.known.load().as_ref().is_some_and(|known| entry.is_due(known, now));
            let may_try = lock(&entry.attempt).may_repeat(now);
            if is_due && may_try && entry.used.load(Ordering::Relaxed) >= lately {
                self.refresh_beside(entry);
            }
        }
    }

    /// Another node, or this one, has found that an issuer has other keys: they are fetched again, 10 s after they
    /// were last fetched here.
    pub fn changed(&self, issuer_id: IssuerId) {
        if let Some(entry) = self.entries.pin().get(&issuer_id)
            && let Some(began) = lock(&entry.attempt).began
        {
            entry.recheck.store((began + RETRY).unix_timestamp(), Ordering::Relaxed);
        }
    }

    /// What became of fetches since this was last asked for.
    pub fn take_outcomes(&self) -> Vec<FetchOutcome> {
        std::mem::take(&mut *lock(&self.outcomes)).into_values().collect()
    }

    /// Takes back what could not be stored, unless a later fetch has another outcome.
    pub fn put_back(&self, outcome: FetchOutcome) {
        lock(&self.outcomes).entry(outcome.issuer_id).or_insert(outcome);
    }

    /// Done when there is an outcome to be stored.
    pub async fn fetched(&self) {
        self.fetched.notified().await;
    }

    /// Drops the entries that were not used for longest, while there are too many, or they weigh too much.
    fn make_room(&self) {
        let entries = self.entries.pin();
        let weight = |entry: &Entry| {
            let known = entry.known.load();
            let set = known.as_ref().map_or(0, |known| known.set.weight());
            size_of::<Entry>() + entry.issuer.jwks().map_or(0, str::len) + set
        };
        let mut total: usize = entries.values().map(|entry| weight(entry)).sum();
        if entries.len() <= MAX_ISSUERS && total <= MAX_WEIGHT {
            return;
        }
        let mut by_use: Vec<_> = entries
            .iter()
            .map(|(id, entry)| (entry.used.load(Ordering::Relaxed), *id, weight(entry)))
            .collect();
        by_use.sort_unstable();
        let mut count = entries.len();
        // The newest one stays, whatever it weighs.
        for (_, id, weight) in by_use.iter().take(by_use.len().saturating_sub(1)) {
            if count <= MAX_ISSUERS && total <= MAX_WEIGHT {
                break;
            }
            entries.remove(id);
            count -= 1;
            total -= weight;
        }
    }
}

/// The keys of an issuer that are stored with it.
fn inline(issuer: &Issuer, now: OffsetDateTime) -> Option<KnownKeys> {
    Some(KnownKeys { set: issuer.inline_keys()?, at: now, refresh_at: None })
}

/// No code under these locks panics half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
