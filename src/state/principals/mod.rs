//! From a credential, or an account without one, to the account and rights behind it, without the
//! database where the cache is warm.
//!
//! The order of the checks is the rule of `docs/architecture.md`: checks that cost nothing come
//! first, and nothing is revealed about a token before its secret matched.

pub mod batches;
pub mod cache;
#[cfg(test)]
mod cache_tests;
pub mod entry;
#[cfg(test)]
mod eviction_tests;
pub mod failures;
pub mod index;
mod loads;
mod shared;
#[cfg(test)]
mod sharing_tests;
mod slots;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::clock::Clock;
use crate::config::CredentialLimits;
use crate::crypto::password_places::Asker;
use crate::crypto::seal::MasterKeys;
use crate::db;
use crate::db::pool::Db;
use crate::db::tokens::principals::LoadedWith;
use crate::domain::access::credential::Credential;
use crate::domain::access::member::Member;
use crate::domain::federation::ceiling::Ceiling;
use crate::domain::tokens::policy::Ceilings;
use crate::domain::values::client_address::ClientAddress;
use crate::domain::values::ids::{AccountId, CredentialId, OrgId, SYSTEM_ORG};
use crate::domain::values::kinds::TokenKind;
use crate::domain::values::subject::Subject;
use crate::error::{Error, Reason, Result};
use crate::metrics;
use crate::state::feed::Feed;
use crate::telemetry::spans::span;
use batches::Batches;
use cache::Cache;
use entry::{Key, Known, Loaded};
use failures::Failures;
use index::Flight;
use loads::TokenLoads;

/// How often a credential that seems unused for too long is loaded again on use.
const IDLE_FOR: Duration = Duration::from_secs(2);
/// How many loads may be in progress or waiting at once; more are shed.
const MAX_LOADS: usize = 256;
/// How often a load is repeated that a change overlapped.
const MAX_CROSSINGS: u32 = 4;

/// The cache, with loading from the database behind it.
pub struct Principals {
    cache: Cache,
    failures: Failures,
    /// Where ids are looked up that are likely not to exist.
    batches: Batches,
    /// Its own: no flood of misses takes a connection from a write.
    loads: Db,
    places: Semaphore,
    tokens: Arc<TokenLoads>,
    /// The number of loads from the database.
    looks: AtomicU64,
    /// How credentials were found, for the metrics.
    pub counts: metrics::Cache,
    feed: Arc<Feed>,
    clock: Clock,
    limits: CredentialLimits,
    ceilings: Ceilings,
    /// The issuers that the deployment admits.
    federation: Ceiling,
    master: Arc<MasterKeys>,
}

/// Where a credential is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Cache,
    /// The database, which was waited for; or the cache, and the keys of its issuer were waited for.
    Load,
    /// The database is unavailable, and this is what was cached when it last answered.
    BeforeOutage,
}

/// A credential that authenticated.
pub struct Authenticated {
    pub credential: Arc<Credential>,
    pub source: Source,
    /// The number of the secret that matched; none for a JWT.
    pub secret: Option<i32>,
}

impl Authenticated {
    /// The time to check it at: when its call began, or now if it was waited for.
    pub fn time(&self, began: OffsetDateTime, clock: &Clock) -> OffsetDateTime {
        if self.source == Source::Load { clock.now() } else { began }
    }

    /// When the presented credential expires: the token, or the secret where another replaces it
    /// before.
    pub fn end(&self) -> Option<OffsetDateTime> {
        self.credential.end(self.secret)
    }

    /// Checks whether it works now, by the secret that was presented.
    ///
    /// # Errors
    /// What blocks the token; `TOKEN_EXPIRED` also when another secret has replaced this one.
    pub fn check(&self, now: OffsetDateTime) -> Result<()> {
        self.credential.check_secret(self.secret, now).map_err(|reason| {
            let replaced = reason == Reason::TokenExpired && self.credential.was_replaced(self.secret, now);
            let error = match replaced {
                true => Error::with_message(reason, "the secret has expired: the token was rotated"),
                false => reason.into(),
            };
            error.of_credential(self.credential.credential_id)
        })
    }
}

impl Principals {
    /// An empty cache in front of this pool.
    pub fn new(
        loads: Db,
        feed: Arc<Feed>,
        clock: Clock,
        limits: CredentialLimits,
        master: Arc<MasterKeys>,
    ) -> Self {
        Self {
            cache: Cache::new(limits.cache_size),
            failures: Failures::default(),
            batches: Batches::default(),
            places: Semaphore::new(MAX_LOADS),
            loads: loads.clone(),
            tokens: TokenLoads::new(loads, feed.engine(), &limits, master.clone()),
            looks: AtomicU64::new(0),
            counts: metrics::Cache::default(),
            feed,
            clock,
            ceilings: limits.tokens.into(),
            federation: limits.federation.ceiling.clone(),
            master,
            limits,
        }
    }

    /// Closes its connections.
    pub async fn close(&self) {
        self.loads.close().await;
    }

    /// Drops what these subjects touch. Dropping twice is harmless.
    pub fn invalidate(&self, subjects: &[Subject]) {
        self.cache.invalidate(subjects);
    }

    /// Drops everything: the database was replaced by another one.
    pub fn clear(&self) {
        self.cache.clear();
    }

    /// The number of loads from the database since the start.
    pub fn looks(&self) -> u64 {
        self.looks.load(Ordering::Relaxed)
    }

    /// How many entries are cached.
    pub fn len(&self) -> usize {
        self.cache.len()
    }

    /// The most bytes that the cache takes.
    pub fn capacity(&self) -> usize {
        self.cache.capacity
    }

    /// How many entries were dropped to make room.
    pub fn evictions(&self) -> u64 {
        self.cache.evictions.get()
    }

    /// The bytes that the cache takes.
    pub fn weight(&self) -> usize {
        self.cache.weight()
    }

    /// Whether the cache is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whose turn a verification is: that of the org whose credential was found, and for an address with too many
    /// failures that of a stranger. None for such an address where nothing was found: its answer says so anyway.
    pub fn verifier_of(&self, found: Option<OrgId>, from: ClientAddress) -> Option<Asker> {
        match (found, self.failures.are_too_many(from)) {
            (Some(org_id), false) => Some(Asker::Known(org_id)),
            (None, true) => None,
            (Some(_), true) | (None, false) => Some(Asker::Stranger(from)),
        }
    }

    /// Counts one more failure of this address, and returns the error for it: `THROTTLED` after too
    /// many. Only for a secret that did not match.
    pub fn refuse(&self, from: ClientAddress, reason: Reason) -> Error {
        if self.failures.are_too_many(from) {
            self.counts.throttled.one();
            return Failures::refusal();
        }
        self.failures.note(from);
        Error::new(reason)
    }

    /// Counts one more failure of this address whose cause its client must learn: it exchanges its
    /// token again where a JWT has expired.
    pub fn refuse_access_token(&self, from: ClientAddress) -> Error {
        self.failures.note(from);
        Reason::AccessTokenInvalid.into()
    }

    /// Whether the id of a code may exist, which is looked up elsewhere: false is certain.
    ///
    /// An id that is likely not to exist is looked up in a batch, where it takes no connection from
    /// others.
    ///
    /// # Errors
    /// `DATABASE_UNAVAILABLE`.
    pub async fn may_exist(&self, id: Uuid, from: ClientAddress) -> Result<bool> {
        Ok(self.is_worth_a_load(id, from).await?)
    }

    async fn is_worth_a_load(&self, id: Uuid, from: ClientAddress) -> Result<bool, Reason> {
        if !self.failures.ask_for_batches(from) {
            return Ok(true);
        }
        self.counts.batched.one();
        let exists = self.batches.exists(&self.loads, id, self.limits.database_answers.load).await?;
        if !exists {
            self.failures.note_unknown();
        }
        Ok(exists)
    }

    /// The account in the org, whatever credential it uses; none where it is no member and never
    /// was. Whether anything blocks it is for the caller to check ([`Member::check_active`]).
    ///
    /// # Errors
    /// `DATABASE_UNAVAILABLE` from the first moment of an outage on: only tokens outlast one.
    pub async fn member(&self, org_id: OrgId, account_id: AccountId) -> Result<Option<Arc<Member>>> {
        // The caller has authenticated: nothing is guessed.
        let found = self.find(Key::Member(org_id, account_id), ClientAddress::UNKNOWN).await?;
        Ok(found.and_then(|(known, _)| match known {
            Known::Member(member) => Some(member),
            Known::Credential(_) => None,
        }))
    }

    /// The credential of this id; none where there is none. Whether anything blocks it is for the
    /// caller to check ([`Authenticated::check`]).
    ///
    /// # Errors
    /// `DATABASE_UNAVAILABLE`, or `OVERLOADED`.
    pub async fn credential(&self, id: CredentialId, from: ClientAddress) -> Result<Option<Authenticated>> {
        let found = self.find(id.into(), from).await?;
        Ok(found.and_then(|(known, source)| match known {
            Known::Credential(credential) => Some(Authenticated { credential, source, secret: None }),
            Known::Member(_) => None,
        }))
    }

    /// The value behind the key, and where it is from.
    ///
    /// What waits for the database is boxed, so that the future of a call that does not is small.
    async fn find(&self, key: Key, from: ClientAddress) -> Result<Option<(Known, Source)>> {
        let known = self.cache.get(key);
        if let Some(entry) = &known
            && self.is_fresh(entry)
            && !self.may_have_been_used(entry)
        {
            self.counts.hits.one();
            return Ok(Some((entry.known.clone(), Source::Cache)));
        }
        let loaded = if !self.feed.answers() {
            Err(Reason::DatabaseUnavailable)
        } else if known.is_none() && self.cache.is_missing(key) {
            self.counts.negative.one();
            return Ok(None);
        } else if let (None, Some(id)) = (&known, guessable(key)) {
            match Box::pin(self.is_worth_a_load(id, from)).await {
                Ok(false) => return Ok(None),
                Ok(true) => Box::pin(self.load(key, false)).await.inspect(|found| {
                    if found.is_none() {
                        self.failures.note_unknown();
                    }
                }),
                Err(reason) => Err(reason),
            }
        } else {
            Box::pin(self.load(key, known.is_some())).await
        };
        match (loaded, known) {
            (Ok(found), _) => Ok(found.map(|known| (known, Source::Load))),
            (Err(Reason::DatabaseUnavailable), Some(entry)) if self.outlives_outage(&entry) => {
                Ok(Some((entry.known.clone(), Source::BeforeOutage)))
            }
            (Err(Reason::Overloaded), _) => {
                Err(Error::new(Reason::Overloaded).retry_after(Duration::from_secs(1)))
            }
            (Err(reason), _) => Err(reason.into()),
        }
    }

    /// Whether the database answers, the entry is young enough, and the feed would have named a
    /// change; or it was just read.
    fn is_fresh(&self, entry: &Loaded) -> bool {
        let (age, silence) = (entry.at.elapsed(), self.limits.database_answers.silence);
        self.feed.answers()
            && age <= self.limits.cache_max_age
            && (age <= silence || self.feed.staleness() <= silence)
    }

    /// Whether an entry may have been used elsewhere since it was read: one that was unused for
    /// too long at that time may have been used since, here or on another node. It is read again,
    /// as rarely as an id that does not exist.
    fn may_have_been_used(&self, entry: &Loaded) -> bool {
        let Known::Credential(credential) = &entry.known else { return false };
        (credential.kind == TokenKind::Session || credential.account.rules.idle.is_some())
            && entry.at.elapsed() > IDLE_FOR
            && credential.seems_idle(self.clock.now())
    }

    /// Whether an entry stays valid in an outage: one that was valid when the database last
    /// answered is valid for the grace period after it. Platform administrators wait for the
    /// database, and so does a caller that acts without a token of the account.
    fn outlives_outage(&self, entry: &Loaded) -> bool {
        let seen = self.feed.last_seen();
        let may = |credential: &Credential| {
            credential.kind != TokenKind::Session && credential.account.org_id != SYSTEM_ORG
        };
        matches!(&entry.known, Known::Credential(credential) if may(credential))
            && self.feed.staleness() <= self.limits.outage_grace
            && seen.saturating_duration_since(entry.at) <= self.limits.cache_max_age
    }

    /// Runs one load, however many callers ask for the same key at once. Where nothing was cached
    /// a moment ago, another caller's load may have finished since: what it stored is new.
    async fn load(&self, key: Key, was_known: bool) -> Result<Option<Known>, Reason> {
        // It leaves also when the caller is dropped before there is an outcome.
        let waiting = WaitingLoad { cache: &self.cache, key, flight: Some(self.cache.join(key)) };
        let flight = waiting.flight.as_ref().expect("it leaves at the end");
        let look = async || match self.cache.get(key) {
            Some(entry) if !was_known => Ok(Some(entry.known.clone())),
            _ => {
                let loaded = self.read(key, flight).instrument(span!("load")).await;
                self.count_load(&loaded);
                loaded
            }
        };
        flight.outcome.get_or_init(look).await.clone()
    }

    fn count_load(&self, loaded: &Result<Option<Known>, Reason>) {
        let counted = match loaded {
            Ok(Some(_)) => &self.counts.loads_found,
            Ok(None) => &self.counts.loads_missing,
            Err(Reason::Overloaded) => &self.counts.loads_shed,
            Err(_) => &self.counts.loads_failed,
        };
        counted.one();
    }

    /// Reads until no change overlapped the read: what was read before a change and stored after
    /// it was announced would stay wrong.
    async fn read(&self, key: Key, flight: &Arc<Flight>) -> Result<Option<Known>, Reason> {
        let _place = self.places.try_acquire().map_err(|_| Reason::Overloaded)?;
        for _ in 0..MAX_CROSSINGS {
            flight.start();
            self.looks.fetch_add(1, Ordering::Relaxed);
            let began = Instant::now();
            let found = tokio::time::timeout(self.limits.database_answers.load, self.look(key)).await;
            let found = found.map_err(|_| Reason::DatabaseUnavailable)?.map_err(|error| {
                tracing::warn!(?error, "credential not loaded");
                error.reason()
            })?;
            if self.cache.keep(key, flight, found.clone(), began) {
                return Ok(found);
            }
        }
        Err(Reason::Overloaded)
    }

    async fn look(&self, key: Key) -> Result<Option<Known>> {
        Ok(match key {
            Key::Token(id) => self.tokens.load(id).await?.map(|found| self.credential_of(found)),
            // Where all connections were dropped meanwhile, what was read may be of the former database: it is read
            // again.
            Key::Session(id) => loop {
                let mut connection = self.loads.take().await?;
                let found = db::tokens::principals::find_session(&mut connection, id, &self.ceilings).await?;
                if !connection.is_dropped() {
                    break found.map(|found| self.credential_of(found));
                }
            },
            Key::Rule(id) => loop {
                let mut connection = self.loads.take().await?;
                let with = LoadedWith { ceilings: &self.ceilings, master: &self.master };
                let found =
                    db::federation::credentials::find(&mut connection, id, with, &self.federation).await?;
                if !connection.is_dropped() {
                    break found.map(|found| self.credential_of(found));
                }
            },
            Key::Member(org_id, account_id) => loop {
                let mut connection = self.loads.take().await?;
                let (db, ceilings) = (&mut connection, &self.ceilings);
                let found = db::accounts::members::find(db, org_id, account_id, ceilings).await?;
                if !connection.is_dropped() {
                    break found.map(|mut found| {
                        self.cache.share(&mut found);
                        found.held.prepare();
                        Known::Member(Arc::new(found))
                    });
                }
            },
        })
    }

    fn credential_of(&self, mut found: Credential) -> Known {
        self.cache.share(&mut found.account);
        if let Some(federated) = &mut found.federated {
            self.cache.share_issuer(&mut federated.issuer);
        }
        // Worked out here, once, and not on each call.
        found.prepare();
        Known::Credential(Arc::new(found))
    }
}

/// The id of a credential, which any client may name; none of an account, which only a caller that
/// has authenticated names.
fn guessable(key: Key) -> Option<Uuid> {
    match key {
        Key::Token(id) => Some(id.uuid()),
        Key::Session(id) => Some(id.uuid()),
        Key::Rule(id) => Some(id.uuid()),
        Key::Member(..) => None,
    }
}

/// A caller that waits for a load.
struct WaitingLoad<'a> {
    cache: &'a Cache,
    key: Key,
    /// None once it has left.
    flight: Option<Arc<Flight>>,
}

impl Drop for WaitingLoad<'_> {
    fn drop(&mut self) {
        if let Some(flight) = self.flight.take() {
            self.cache.leave(self.key, flight);
        }
    }
}
