//! The keys of issuers as this node knows them, by the id of the issuer: never by a name or URL, which two orgs
//! may both have.
//!
//! A set is fetched at first use, again before it is old, and where a JWT names a key that is not in it. While the
//! issuer is away, the last good set serves for an hour. A key that is gone from the set is gone at once, also where
//! another node has seen it go.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::budget::{Budget, Purpose};
use super::entry::{Entry, KnownKeys, without_gone};
use super::fetcher::{FetchedKeys, Fetcher};
use super::flights::{Place, Turns, Waiting};
use super::moment::{Moment, micros};
use super::outcomes::Outcomes;
use super::weights::Weights;
use crate::clock::Clock;
use crate::domain::federation::algorithm::Algorithm;
use crate::domain::federation::fetching::{
    FETCH_TIMEOUT, FetchError, FetchFacts, FetchOutcome, MAX_REFRESH, StoredKeys,
};
use crate::domain::federation::inline_keys::ReadKeys;
use crate::domain::federation::issuer::{Issuer, Trust};
use crate::domain::federation::jwk_set::{KeySet, Named};
use crate::domain::values::ids::{IssuerId, OrgId};
use crate::error::{Error, Reason, Result};
use crate::state::keyring::Keyring;
use crate::state::locks::lock;

/// How long a call waits for a fetch: for as long as one may take, and until it is known how it ended.
const WAIT: Duration = FETCH_TIMEOUT.saturating_add(Duration::from_millis(500));
/// When a call that could not wait for keys is worth repeating.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The keys of an issuer, if any may be used; and whether the call waited for them, or for a fetch that failed.
pub type Waited = (Option<Arc<KnownKeys>>, bool);

/// What a server knows of the key that a JWT names, without a fetch.
pub enum KnownHere {
    Keys(Arc<KnownKeys>),
    /// It has no keys of the issuer, or not that one, and an exchange would wait for a fetch.
    NotHere,
    /// It has none, and an exchange would have none, either.
    None,
}

/// The keys of all issuers that were used lately.
pub struct IssuerKeys {
    entries: papaya::HashMap<IssuerId, Arc<Entry>>,
    /// What they weigh. All that adds or removes an entry does so under this lock.
    weights: Mutex<Weights>,
    /// The number of the next entry.
    number: AtomicU64,
    fetcher: Fetcher,
    budget: Budget,
    flights: Turns,
    waiting: Waiting,
    readings: Turns,
    keyring: Arc<Keyring>,
    clock: Clock,
    outcomes: Outcomes,
}

impl IssuerKeys {
    pub fn new(fetcher: Fetcher, keyring: Arc<Keyring>, clock: Clock) -> Self {
        Self {
            entries: papaya::HashMap::new(),
            weights: Mutex::default(),
            number: AtomicU64::new(0),
            fetcher,
            budget: Budget::default(),
            flights: Turns::of_flights(),
            waiting: Waiting::default(),
            readings: Turns::of_readings(),
            keyring,
            clock,
            outcomes: Outcomes::default(),
        }
    }

    fn now(&self) -> Moment {
        Moment { time: self.clock.now(), instant: Instant::now() }
    }

    /// The entry of an issuer whose row has this version, and of whose keys this is stored.
    ///
    /// An issuer that was changed keeps its keys where that said nothing of them; also the time of the last fetch. Which
    /// of two is the newer one does not count: a database that was restored has the older one.
    pub fn entry(
        &self,
        org_id: OrgId,
        issuer: &Arc<Issuer>,
        version: i64,
        stored: Option<&Arc<StoredKeys>>,
    ) -> Arc<Entry> {
        let entry = self.find(issuer, version).unwrap_or_else(|| self.add(org_id, issuer, version));
        if let Some(stored) = stored {
            entry.heed(stored, self.clock.now());
        }
        entry
    }

    fn find(&self, issuer: &Arc<Issuer>, version: i64) -> Option<Arc<Entry>> {
        let entries = self.entries.pin();
        let entry = entries.get(&issuer.id())?;
        let known = entry.issuer.load();
        if !Arc::ptr_eq(&known, issuer) {
            if !known.has_keys_of(issuer) {
                return None;
            }
            // So that they are not compared each time.
            entry.issuer.store(issuer.clone());
        }
        if entry.version.load(Ordering::Relaxed) != version {
            entry.version.store(version, Ordering::Relaxed);
        }
        entry.used.store(micros(self.clock.now()), Ordering::Relaxed);
        Some(entry.clone())
    }

    fn add(&self, org_id: OrgId, issuer: &Arc<Issuer>, version: i64) -> Arc<Entry> {
        let mut weights = lock(&self.weights);
        // Of two at the same moment there is one.
        if let Some(known) = self.find(issuer, version) {
            return known;
        }
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let entry = Arc::new(Entry::new(org_id, issuer.clone(), version, micros(self.clock.now()), number));
        self.entries.pin().insert(issuer.id(), entry.clone());
        self.weigh(&mut weights, &entry);
        entry
    }

    /// Counts what an entry weighs now, and makes room for it.
    fn weigh(&self, weights: &mut Weights, entry: &Entry) {
        let set = entry.known.load().as_ref().map_or(0, |known| known.set.weight());
        weights.set(entry.org_id, entry.issuer_id, size_of::<Entry>() + entry.issuer.load().weight() + set);
        let entries = self.entries.pin();
        let used =
            |issuer_id| entries.get(&issuer_id).map(|one| (one.used.load(Ordering::Relaxed), one.number));
        while weights.are_too_much()
            && let Some((org_id, issuer_id)) = weights.next_to_go(entry.issuer_id, used)
        {
            entries.remove(&issuer_id);
            weights.remove(org_id, issuer_id);
        }
    }

    /// Drops all keys: the database was replaced by another one, which may have other issuers under the same ids.
    pub fn clear(&self) {
        let mut weights = lock(&self.weights);
        self.entries.pin().clear();
        *weights = Weights::default();
        self.outcomes.clear();
    }

    /// The keys of an issuer: those that are known while they are not old, or else fetched ones. None where they could
    /// not be fetched, and the last good ones are too old.
    ///
    /// # Errors
    /// `OVERLOADED` where too many calls wait for keys of this issuer, or of its org.
    pub async fn current(self: &Arc<Self>, entry: &Arc<Entry>) -> Result<Waited> {
        let now = self.now();
        match entry.known.load_full() {
            Some(known) if !entry.is_due(&known, now) => Ok((Some(known), false)),
            Some(known) if entry.serves_meanwhile(&known, now) => {
                let may_repeat = lock(&entry.fetching).may_repeat(now);
                if may_repeat {
                    self.take_off(entry);
                }
                Ok((Some(known), false))
            }
            known => match (self.refresh(entry).await, known) {
                // Nor do calls wait where too many do already.
                (Err(_), Some(known)) if known.serves(now) => Ok((Some(known), false)),
                (waited, _) => {
                    let waited = waited?;
                    Ok((self.serving(entry), waited))
                }
            },
        }
    }

    /// The keys where a JWT names one that is not among those that are known: fetched again, unless that was done
    /// within the last 10 s. A flood of such JWTs costs one fetch.
    ///
    /// # Errors
    /// As [`current`](Self::current).
    pub async fn renewed(self: &Arc<Self>, entry: &Arc<Entry>) -> Result<Waited> {
        let waited = self.refresh(entry).await?;
        Ok((self.serving(entry), waited))
    }

    /// The keys that are known and may be used, without a fetch.
    pub fn serving(&self, entry: &Entry) -> Option<Arc<KnownKeys>> {
        entry.known.load_full().filter(|known| known.serves(self.now()))
    }

    /// What is known without a fetch of the key that a JWT names, as an explanation needs it.
    ///
    /// # Errors
    /// As [`current`](Self::current): inline keys are read.
    pub async fn known(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        (kid, algorithm, signature): (Option<&str>, Algorithm, &[u8]),
    ) -> Result<KnownHere> {
        if entry.is_inline() {
            let (known, _) = self.current(entry).await?;
            return Ok(known.map_or(KnownHere::None, KnownHere::Keys));
        }
        let now = self.now();
        let would_wait = entry.flies.load(Ordering::SeqCst) || lock(&entry.fetching).may_repeat(now);
        let is_enough = |known: &KnownKeys| {
            let is_old = entry.is_due(known, now) && !entry.serves_meanwhile(known, now);
            !is_old && !matches!(known.set.named(kid, algorithm, signature), Named::Unknown)
        };
        Ok(match self.serving(entry) {
            Some(known) if !would_wait || is_enough(&known) => KnownHere::Keys(known),
            None if !would_wait => KnownHere::None,
            Some(_) | None => KnownHere::NotHere,
        })
    }

    /// The keys of an issuer that is to be made or changed: fetched now, and kept nowhere.
    ///
    /// # Errors
    /// Why they were not fetched.
    pub async fn probe(&self, org_id: OrgId, issuer: &Issuer) -> Result<FetchedKeys, FetchError> {
        let _waits = self.waiting.enter(org_id, issuer.id()).ok_or(FetchError::TooOften)?;
        let place = timeout(FETCH_TIMEOUT, self.flights.place(org_id)).await;
        self.fetch(org_id, issuer, Purpose::Probe, place.map_err(|_| FetchError::TimedOut)?).await
    }

    /// Reads the keys that are stored with issuers of an org, beside the task of the connection.
    ///
    /// # Errors
    /// `INTERNAL`.
    pub async fn read(&self, org_id: OrgId, issuers: Vec<Trust>) -> Result<ReadKeys> {
        if issuers.iter().all(|issuer| issuer.jwks().is_none()) {
            return Ok(ReadKeys::of(issuers));
        }
        self.readings.beside(org_id, || ReadKeys::of(issuers)).await
    }

    /// Fetches, unless that was tried within the last 10 s; and waits for the fetch that is in progress, for as long as
    /// one may take. Returns whether it waited, whatever came of it.
    async fn refresh(self: &Arc<Self>, entry: &Arc<Entry>) -> Result<bool> {
        if entry.is_inline() && entry.known.load().is_some() {
            return Ok(false);
        }
        let may_repeat = lock(&entry.fetching).may_repeat(self.now());
        if !may_repeat && !entry.flies.load(Ordering::SeqCst) {
            return Ok(false);
        }
        let waits = self.waiting.enter(entry.org_id, entry.issuer_id);
        let _waits = waits.ok_or_else(|| Error::new(Reason::Overloaded).retry_after(RETRY_AFTER))?;
        let mut landed = std::pin::pin!(entry.landed.notified());
        // Before it is looked whether one flies: one that lands from here on wakes this call.
        landed.as_mut().enable();
        self.take_off(entry);
        // One that panicked is as one that failed.
        let _ = timeout(WAIT, landed).await;
        Ok(true)
    }

    /// Begins a fetch, unless one is in progress. In a task of its own: a caller that goes away does not end it for
    /// those that wait.
    fn take_off(self: &Arc<Self>, entry: &Arc<Entry>) {
        if entry.flies.swap(true, Ordering::SeqCst) {
            return;
        }
        let landing = Landing(entry.clone());
        let keys = self.clone();
        tokio::spawn(async move {
            let entry = &landing.0;
            if entry.is_inline() { keys.read_inline(entry).await } else { keys.fly(entry).await }
        });
    }

    /// Reads the keys that are stored with an issuer, once.
    async fn read_inline(&self, entry: &Entry) {
        let now = self.now();
        lock(&entry.fetching).began = Some(now);
        let issuer = entry.issuer.load_full();
        let read = self.readings.beside(entry.org_id, move || issuer.inline_keys()).await;
        let Ok(Ok(Some(set))) = read else { return };
        entry.known.store(Some(Arc::new(KnownKeys { set, at: now, refresh: None })));
        self.weigh_again(entry);
    }

    async fn fly(&self, entry: &Entry) {
        if !lock(&entry.fetching).may_repeat(self.now()) {
            return;
        }
        let place = self.flights.place(entry.org_id).await;
        let now = self.now();
        lock(&entry.fetching).began = Some(now);
        entry.again.store(false, Ordering::Relaxed);
        let (issuer, heeded) = (entry.issuer.load_full(), entry.heeded.load_full());
        let fetched = self.fetch(entry.org_id, &issuer, Purpose::Use, place).await;
        if let Some(outcome) = self.note(entry, (now, heeded), fetched) {
            self.outcomes.add(outcome);
        }
    }

    /// Keeps what a fetch has brought that began then, when this was heeded of what is stored. What of it is to be
    /// stored, if anything.
    fn note(
        &self,
        entry: &Entry,
        (began, before): (Moment, Option<Arc<StoredKeys>>),
        fetched: Result<FetchedKeys, FetchError>,
    ) -> Option<FetchOutcome> {
        let mut gone = BTreeSet::new();
        let mut fetching = lock(&entry.fetching);
        fetching.failed = fetched.as_ref().err().copied();
        let result = match fetched {
            Ok(FetchedKeys { set, jwks_uri, refresh }) => {
                fetching.reported = None;
                fetching.brings(began);
                let facts = FetchFacts::of(&set, jwks_uri);
                if let Some(before) = entry.known.load_full() {
                    let went = before.set.thumbprints().filter(|thumbprint| !set.holds(*thumbprint));
                    gone.extend(went.map(|thumbprint| thumbprint.to_string()));
                }
                let mut known = KnownKeys { set, at: began, refresh: Some(refresh) };
                // What was stored while it was fetched counts as well. What was stored before is older than it, whatever
                // time is stored with it.
                if let Some(heeded) = entry.heeded.load_full()
                    && before.as_ref().is_none_or(|before| !Arc::ptr_eq(before, &heeded))
                    && !fetching.has_brought(heeded.time)
                    && let Some(rest) = without_gone(&known, before.as_deref(), &heeded, self.clock.now())
                {
                    known = rest;
                    entry.again.store(true, Ordering::Relaxed);
                }
                entry.known.store(Some(Arc::new(known)));
                Ok(facts)
            }
            Err(error) => {
                if !fetching.reports(error, began) {
                    return None;
                }
                tracing::warn!(%error, org_id = %entry.org_id, issuer_id = %entry.issuer_id, "keys of an issuer not fetched");
                Err(error)
            }
        };
        drop(fetching);
        if result.is_ok() {
            self.weigh_again(entry);
        }
        Some(FetchOutcome {
            org_id: entry.org_id,
            issuer_id: entry.issuer_id,
            version: entry.version.load(Ordering::Relaxed),
            time: began.time,
            result,
            gone,
        })
    }

    /// Counts what an entry weighs now, unless another one has its place.
    fn weigh_again(&self, entry: &Entry) {
        let mut weights = lock(&self.weights);
        let is_kept =
            self.entries.pin().get(&entry.issuer_id).is_some_and(|kept| std::ptr::eq(&**kept, entry));
        if is_kept {
            self.weigh(&mut weights, entry);
        }
    }

    async fn fetch(
        &self,
        org_id: OrgId,
        issuer: &Issuer,
        purpose: Purpose,
        place: Arc<Place>,
    ) -> Result<FetchedKeys, FetchError> {
        if issuer.name().is_own(self.keyring.signer.issuer()) {
            return Err(FetchError::OwnKey);
        }
        if !self.budget.begins(org_id, purpose, self.clock.now()) {
            return Err(FetchError::TooOften);
        }
        let asks = |host: &str| self.budget.asks(org_id, host, purpose, self.clock.now());
        let fetched = self.fetcher.fetch_within(issuer, &place, &asks).await?;
        drop(place);
        let trust = issuer.trust().clone();
        let read = self.readings.beside(org_id, move || fetched.read(&trust)).await;
        let fetched = read.map_err(|_| FetchError::Malformed)??;
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
        let now = self.now();
        let lately = micros(now.time - MAX_REFRESH);
        let entries = self.entries.pin();
        for entry in entries.values() {
            let is_due = entry.known.load().as_ref().is_some_and(|known| entry.is_due(known, now));
            if is_due && lock(&entry.fetching).may_repeat(now) && entry.used.load(Ordering::Relaxed) >= lately
            {
                self.take_off(entry);
            }
        }
    }

    /// Done when there is an outcome to be stored.
    pub async fn fetched(&self) {
        self.outcomes.added().await;
    }

    /// Takes what became of the fetches of one org, which is none of these.
    pub fn take_outcomes(&self, but: &HashSet<OrgId>) -> Option<(OrgId, Vec<FetchOutcome>)> {
        self.outcomes.take(but, self.now())
    }

    /// Takes back what was not stored, to be tried again after a pause.
    pub fn put_back(&self, outcome: FetchOutcome, pause: Duration) {
        self.outcomes.put_back(outcome, self.now(), pause);
    }
}

/// Wakes those that wait for a fetch when it is over, however it ends.
struct Landing(Arc<Entry>);

impl Drop for Landing {
    fn drop(&mut self) {
        self.0.flies.store(false, Ordering::SeqCst);
        self.0.landed.notify_waiters();
    }
}
