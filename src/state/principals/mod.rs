//! From a credential, or an account without one, to what is behind it, without the database
//! where that is warm.
//!
//! The order of the checks is the rule of `docs/architecture.md`: what costs nothing
//! first, and nothing is told about a token before its secret matched.

pub mod cache;
pub mod failures;
pub mod pepper_renewals;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use tokio::sync::Semaphore;

use super::State;
use crate::config::CredentialLimits;
use crate::db;
use crate::db::pool::Db;
use crate::domain::access::access_token::AccessToken;
use crate::domain::access::checks::TokenStringCheck;
use crate::domain::access::credential::Credential;
use crate::domain::access::impersonation::Impersonation;
use crate::domain::access::member::Member;
use crate::domain::tokens::policy::Ceilings;
use crate::domain::values::ids::{AccountId, CredentialId, OrgId, SYSTEM_ORG, TokenId};
use crate::domain::values::kinds::{AccountKind, TokenKind};
use crate::domain::values::token_string::{Malformed, TokenString};
use crate::error::{Error, Reason, Result};
use cache::{Cache, CacheEntry, Flight, Key, Known, lock};
use failures::Failures;
use pepper_renewals::PepperRenewals;

/// How far behind the feed may be before an entry is looked at again on use.
const MAX_LAG: Duration = Duration::from_secs(2);
/// How long one look at the database may take.
const LOAD_TIMEOUT: Duration = Duration::from_secs(1);
/// Looks that may be under way or waiting at once; more are shed.
const MAX_LOADS: usize = 256;
/// How often a look is repeated that a change crossed.
const MAX_CROSSINGS: u32 = 4;

/// The cache, and the way to the database behind it.
pub struct Principals {
    cache: Cache,
    failures: Failures,
    /// A pool of its own: no flood of misses takes a connection from a write.
    loads: Db,
    places: Semaphore,
    /// The token that was read last, for ids that do not exist.
    decoy: Mutex<Option<(OrgId, TokenId)>>,
    /// How often the database was looked at.
    looks: AtomicU64,
    limits: CredentialLimits,
    ceilings: Ceilings,
    pepper_renewals: PepperRenewals,
}

/// A credential whose credential was good.
pub struct Authenticated {
    pub credential: Arc<Credential>,
    /// The database is gone, and this is what was known when it was last seen.
    pub in_outage: bool,
    /// The number of the secret that matched; none for a JWT.
    pub secret: Option<i32>,
}

impl Authenticated {
    /// When what was shown ends: the token, or the secret where another takes its place before.
    pub fn end(&self) -> Option<OffsetDateTime> {
        let shown = self.credential.secrets.iter().find(|secret| Some(secret.number) == self.secret);
        let ends = [self.credential.expire_time, shown.and_then(|secret| secret.expire_time)];
        ends.into_iter().flatten().min()
    }

    /// Whether it works now, by the secret that was shown.
    ///
    /// # Errors
    /// What stops the token; `TOKEN_EXPIRED` also when another secret has taken the place of
    /// this one.
    pub fn check(&self, now: OffsetDateTime) -> Result<()> {
        self.credential.check_secret(self.secret, now).map_err(|reason| {
            if reason == Reason::TokenExpired && self.credential.was_replaced(self.secret, now) {
                return Error::with_message(reason, "the secret has expired: the token was rotated");
            }
            reason.into()
        })
    }
}

/// How far the text of a token got.
pub enum TokenStringLookup {
    /// It is the text of this token, perhaps one that has ended.
    Good(Authenticated),
    /// The token is there, and this is not its secret.
    WrongSecret(Arc<Credential>),
    /// There is no such token, or it is not the text of one.
    Failed(TokenStringCheck),
}

impl Principals {
    pub fn new(loads: Db, limits: CredentialLimits) -> Self {
        Self {
            cache: Cache::new(limits.cache_size),
            failures: Failures::default(),
            loads,
            places: Semaphore::new(MAX_LOADS),
            decoy: Mutex::default(),
            looks: AtomicU64::new(0),
            ceilings: limits.tokens.into(),
            limits,
            pepper_renewals: PepperRenewals::default(),
        }
    }

    /// Closes its connections.
    pub async fn close(&self) {
        self.loads.close().await;
    }

    /// Gives them up, to begin with new ones.
    pub fn renew_connections(&self) {
        self.loads.renew();
    }

    /// Drops what these subjects touch. Twice is harmless.
    pub fn invalidate(&self, subjects: &[String]) {
        self.cache.invalidate(subjects);
    }

    /// Drops everything: the database under us is another one.
    pub fn clear(&self) {
        self.cache.clear();
    }

    /// How often the database was looked at since the start.
    pub fn looks(&self) -> u64 {
        self.looks.load(Ordering::Relaxed)
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.cache.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether exchanges go on: the database answers, or did until a while ago.
    pub fn serve(&self, state: &State) -> bool {
        state.feed.answers() || state.feed.staleness() <= self.limits.outage_grace
    }

    /// Counts one more failure of this address. After too many it is told to wait, whatever
    /// was wrong.
    pub fn refuse(&self, from: Option<IpAddr>, reason: Reason) -> Error {
        if self.failures.are_too_many(from) {
            return Failures::refusal();
        }
        self.failures.note(from);
        Error::new(reason)
    }

    /// Refuses an address that has guessed too often, before a guess costs a query.
    ///
    /// # Errors
    /// `THROTTLED`.
    pub fn may_guess(&self, from: Option<IpAddr>) -> Result<()> {
        if self.failures.are_too_many(from) { Err(Failures::refusal()) } else { Ok(()) }
    }

    /// The account in the org, whatever credential it uses; none where it is no member and
    /// never was. Whether anything stops it is the caller's to check ([`Member::check_active`]).
    ///
    /// # Errors
    /// `DATABASE_UNAVAILABLE` from the first moment of an outage on: only tokens outlive one.
    pub async fn member(
        &self,
        state: &State,
        org_id: OrgId,
        account_id: AccountId,
    ) -> Result<Option<Arc<Member>>> {
        // Who asks has authenticated: nothing is guessed.
        let found = self.find(state, Key::Member(org_id, account_id), None).await?;
        Ok(found.and_then(|(known, _)| match known {
            Known::Member(member) => Some(member),
            Known::Credential(_) => None,
        }))
    }

    async fn credential(
        &self,
        state: &State,
        id: CredentialId,
        from: Option<IpAddr>,
    ) -> Result<Option<Authenticated>> {
        let found = self.find(state, id.into(), from).await?;
        Ok(found.and_then(|(known, in_outage)| match known {
            Known::Credential(credential) => Some(Authenticated { credential, in_outage, secret: None }),
            Known::Member(_) => None,
        }))
    }

    /// What is behind the key, and whether that is what was known before an outage.
    async fn find(&self, state: &State, key: Key, from: Option<IpAddr>) -> Result<Option<(Known, bool)>> {
        let known = self.cache.get(key);
        if let Some(entry) = &known
            && self.is_fresh(state, entry)
            && !self.may_have_been_used(state, entry)
        {
            return Ok(Some((entry.known.clone(), false)));
        }
        let loaded = if !state.feed.answers() {
            Err(Reason::DatabaseUnavailable)
        } else if known.is_none() && self.failures.are_too_many(from) {
            return Err(Failures::refusal());
        } else if known.is_none() && self.cache.is_missing(key) {
            return Ok(None);
        } else {
            self.load(key, known.is_some()).await
        };
        match (loaded, known) {
            (Ok(found), _) => Ok(found.map(|known| (known, false))),
            (Err(Reason::DatabaseUnavailable), Some(entry)) if self.outlives_outage(state, &entry) => {
                Ok(Some((entry.known.clone(), true)))
            }
            (Err(Reason::Overloaded), _) => {
                Err(Error::new(Reason::Overloaded).retry_after(Duration::from_secs(1)))
            }
            (Err(reason), _) => Err(reason.into()),
        }
    }

    /// The database is there, the entry young enough, and the feed would have told of a
    /// change; or it was just read.
    fn is_fresh(&self, state: &State, entry: &CacheEntry) -> bool {
        let age = entry.loaded.elapsed();
        state.feed.answers()
            && age <= self.limits.cache_max_age
            && (age <= MAX_LAG || state.feed.staleness() <= MAX_LAG)
    }

    /// What was not used for too long when it was read may have been used since, here or on
    /// another node: it is read again, as seldom as an id that does not exist.
    fn may_have_been_used(&self, state: &State, entry: &CacheEntry) -> bool {
        let Known::Credential(credential) = &entry.known else { return false };
        (credential.kind == TokenKind::Session || credential.account.rules.idle.is_some())
            && entry.loaded.elapsed() > MAX_LAG
            && credential.seems_idle(state.clock.now())
    }

    /// What was good at the last sign of the database is good for the grace after it.
    /// Platform administrators wait for the database, and so does whoever acts without a
    /// token of the account.
    fn outlives_outage(&self, state: &State, entry: &CacheEntry) -> bool {
        let seen = state.feed.last_seen();
        let may = |credential: &Credential| {
            credential.kind != TokenKind::Session && credential.account.org_id != SYSTEM_ORG
        };
        matches!(&entry.known, Known::Credential(credential) if may(credential))
            && state.feed.staleness() <= self.limits.outage_grace
            && seen.saturating_duration_since(entry.loaded) <= self.limits.cache_max_age
    }

    /// One look at the database, however many ask for the same key at once. Where nothing
    /// was known a moment ago, another's look may have ended since: what it kept is new.
    async fn load(&self, key: Key, was_known: bool) -> Result<Option<Known>, Reason> {
        // It leaves also when the caller goes away before there is an outcome.
        let waiting = WaitingLoad { cache: &self.cache, key, flight: Some(self.cache.join(key)) };
        let flight = waiting.flight.as_ref().expect("it leaves at the end");
        let look = async || match self.cache.get(key) {
            Some(entry) if !was_known => Ok(Some(entry.known.clone())),
            _ => self.read(key, flight).await,
        };
        flight.outcome.get_or_init(look).await.clone()
    }

    /// Reads until no change crossed the reading: what was read before a change and kept
    /// after it was announced would stay wrong.
    async fn read(&self, key: Key, flight: &Arc<Flight>) -> Result<Option<Known>, Reason> {
        let _place = self.places.try_acquire().map_err(|_| Reason::Overloaded)?;
        for _ in 0..MAX_CROSSINGS {
            flight.start();
            self.looks.fetch_add(1, Ordering::Relaxed);
            let began = Instant::now();
            let found = tokio::time::timeout(LOAD_TIMEOUT, self.look(key)).await;
            let found = found.map_err(|_| Reason::DatabaseUnavailable)?.map_err(|error| {
                tracing::warn!(?error, "a credential could not be read");
                error.reason()
            })?;
            if self.cache.keep(key, flight, found.clone(), began) {
                return Ok(found);
            }
        }
        Err(Reason::Overloaded)
    }

    async fn look(&self, key: Key) -> Result<Option<Known>> {
        let pool = self.loads.pool();
        Ok(match key {
            Key::Token(id) => {
                let decoy = *lock(&self.decoy);
                let found = db::tokens::principals::find(&pool, id, decoy, &self.ceilings).await?;
                if let Some(found) = &found {
                    *lock(&self.decoy) = Some((found.account.org_id, id));
                }
                found.map(|found| self.credential_of(found))
            }
            Key::Session(id) => {
                let found = db::tokens::principals::find_session(&pool, id, &self.ceilings).await?;
                found.map(|found| self.credential_of(found))
            }
            Key::Member(org_id, account_id) => {
                let found =
                    db::tokens::principals::find_member(&pool, org_id, account_id, &self.ceilings).await?;
                found.map(|mut found| {
                    self.cache.share_rules(&mut found);
                    Known::Member(Arc::new(found))
                })
            }
        })
    }

    fn credential_of(&self, mut found: Credential) -> Known {
        self.cache.share_rules(&mut found.account);
        Known::Credential(Arc::new(found))
    }
}

/// Somebody who waits for a look at the database.
struct WaitingLoad<'a> {
    cache: &'a Cache,
    key: Key,
    /// None when it has left.
    flight: Option<Arc<Flight>>,
}

impl Drop for WaitingLoad<'_> {
    fn drop(&mut self) {
        if let Some(flight) = self.flight.take() {
            self.cache.leave(self.key, flight);
        }
    }
}

/// Keeps what was noted of secrets under older peppers under the newest one, in one
/// statement. Returns how many.
pub async fn renew_secrets(state: &State) -> Result<u64> {
    let renewals = state.principals.pepper_renewals.take();
    if renewals.is_empty() {
        return Ok(0);
    }
    let renewed = db::keys::peppers::renew(&state.db.pool(), &renewals).await?;
    // So that they are not noted again. Other nodes learn of it when they read them the next time.
    let tokens: Vec<_> = renewals.iter().map(|renewal| renewal.token_id.to_string()).collect();
    state.principals.invalidate(&tokens);
    Ok(renewed)
}

/// The credential whose token text this is.
///
/// # Errors
/// `TOKEN_INVALID`, whatever of the text fails. When the secret is one whose overlap has
/// ended, `TOKEN_EXPIRED`, and before that whatever stops the whole token. Whether the token
/// still works otherwise is the caller's to check ([`Authenticated::check`]).
pub async fn by_text(state: &State, text: &str, from: Option<IpAddr>) -> Result<Authenticated> {
    let TokenStringLookup::Good(found) = read_text(state, text, from).await? else {
        return Err(state.principals.refuse(from, Reason::TokenInvalid));
    };
    let now = state.clock.now();
    if found.credential.was_replaced(found.secret, now) {
        found.check(now)?;
    }
    Ok(found)
}

/// The token of this id, without its text, which whoever asks needs a right for.
pub async fn by_id(state: &State, id: TokenId) -> Result<Option<Arc<Credential>>> {
    Ok(state.principals.credential(state, id.into(), None).await?.map(|found| found.credential))
}

/// Reads a text: length, shape and checksum (no database call for junk), then what is
/// known by its id, then the secret in constant time. Which of them failed is told to
/// nobody who may not read the token.
pub async fn read_text(state: &State, text: &str, from: Option<IpAddr>) -> Result<TokenStringLookup> {
    let text = match TokenString::parse(text) {
        Ok(text) => text,
        Err(Malformed::Shape) => return Ok(TokenStringLookup::Failed(TokenStringCheck::Shape)),
        Err(Malformed::Checksum) => return Ok(TokenStringLookup::Failed(TokenStringCheck::Checksum)),
    };
    let Some(id) = text.credential_id() else {
        return Ok(TokenStringLookup::Failed(TokenStringCheck::Known));
    };
    let found = state.principals.credential(state, id, from).await?;
    let secrets = found.as_ref().map_or(&[][..], |found| &found.credential.secrets);
    let mut peppers = state.peppers.load();
    let now = state.clock.now();
    // One that has ended may outlive its pepper.
    if secrets.iter().any(|secret| !secret.is_expired(now) && !peppers.knows(secret.record.pepper)) {
        // Another node took a newer pepper up.
        state.look_for_pepper().await;
        peppers = state.peppers.load();
    }
    // Compared even where nothing was found, so that both take the same time.
    let place = peppers.find(&text, secrets.iter().map(|secret| &secret.record));
    Ok(match (place, found) {
        (Some(place), Some(mut found)) => {
            let secret = &found.credential.secrets[place];
            if !secret.is_expired(now) {
                state.principals.pepper_renewals.note(&peppers, &text, &found.credential, place);
            }
            found.secret = Some(secret.number);
            TokenStringLookup::Good(found)
        }
        (None, Some(found)) => TokenStringLookup::WrongSecret(found.credential),
        (_, None) => TokenStringLookup::Failed(TokenStringCheck::Known),
    })
}

/// A session in another org than its account's home; none where the account is no member. Whether
/// anything stops it there is the caller's to check ([`Credential::check`]).
pub async fn within(state: &State, session: &Credential, org_id: OrgId) -> Result<Option<Arc<Credential>>> {
    let member = state.principals.member(state, org_id, session.account.account_id).await?;
    Ok(member.map(|member| Arc::new(session.within(member.as_ref().clone()))))
}

/// What a JWT of ours stands for now.
pub struct Verified {
    /// The credential that it was made from.
    pub found: Authenticated,
    pub token: AccessToken,
    /// Whose place it puts the holder of the credential in, if anybody's.
    pub impersonation: Option<Impersonation>,
}

impl Verified {
    /// The account that it speaks for.
    pub fn member(&self) -> &Member {
        self.impersonation
            .as_ref()
            .map_or(&self.found.credential.account, |impersonation| &impersonation.target)
    }
}

/// The credential that a JWT of ours was made from, as it is now, and what the JWT says.
/// The audience is the caller's to check.
///
/// # Errors
/// `ACCESS_TOKEN_INVALID` for one that is not good or has nothing behind it; what
/// stops its token, or whom it impersonates; `ACCESS_TOKEN_STALE` when rights were narrowed
/// since, that to impersonate among them.
pub async fn by_access_token(state: &State, jwt: &str, from: Option<IpAddr>) -> Result<Verified> {
    let now = state.clock.now();
    let refuse = |reason| state.principals.refuse(from, reason);
    let mut verified = state.ring.verify(jwt, now);
    if verified.is_err() && state.ring.names_another_key(jwt) && !state.principals.failures.are_too_many(from)
    {
        // Another node may have made the key a moment ago: it signs at once where one was revoked.
        state.look_for_signing_key().await;
        verified = state.ring.verify(jwt, now);
    }
    let token = verified.map_err(refuse)?;
    let found = state.principals.credential(state, token.credential_id, from).await?;
    let mut found = found.ok_or_else(|| refuse(Reason::AccessTokenInvalid))?;
    if found.credential.account.account_id != token.actor_id.unwrap_or(token.account_id) {
        return Err(refuse(Reason::AccessTokenInvalid));
    }
    if found.credential.kind == TokenKind::Session
        && found.credential.account.org_id != token.org_id
        && let Some(there) = within(state, &found.credential, token.org_id).await?
    {
        found.credential = there;
    }
    found.credential.check(now)?;
    let impersonation = match token.actor_id {
        None => None,
        Some(actor_id) => {
            let target = state.principals.member(state, token.org_id, token.account_id).await?;
            let may_be = |target: &Member| {
                target.account_id != actor_id && target.account_kind == AccountKind::ServiceAccount
            };
            let target = target.filter(|target| may_be(target));
            let target = target.ok_or_else(|| refuse(Reason::AccessTokenInvalid))?;
            let impersonation = Impersonation::new(&found.credential, target)?;
            impersonation.target.check_active()?;
            Some(impersonation)
        }
    };
    let verified = Verified { found, token, impersonation };
    let (claims, member) = (&verified.token.claims, verified.member());
    if member.org_id != verified.token.org_id {
        return Err(refuse(Reason::AccessTokenInvalid));
    }
    if claims.org_ver < member.org_version || claims.acct_ver < member.account_version {
        return Err(Reason::AccessTokenStale.into());
    }
    Ok(verified)
}
