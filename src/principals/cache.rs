//! What is known of tokens: read without locks, changed under one.
//!
//! An entry is found again by whatever a change names: its token, its account, its org.
//! A look at the database that a change crosses is not kept: the change is applied to
//! the looks under way just as to the entries.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;

use crate::domain::ids::{AccountId, OrgId, TokenId};
use crate::domain::permissions::{Right, SystemRole};
use crate::domain::principal::Principal;
use crate::error::Reason;

/// How long it is remembered that an id does not exist.
const MISSING_FOR: Duration = Duration::from_secs(2);
/// How many of those are remembered.
const MAX_MISSING: usize = 10_000;

/// A principal, and since when it is known.
pub struct Entry {
    pub principal: Arc<Principal>,
    /// When its reading began.
    pub loaded: Instant,
    used: AtomicBool,
}

/// A look at the database that is under way.
#[derive(Default)]
pub struct Flight {
    pub outcome: OnceCell<Result<Option<Arc<Principal>>, Reason>>,
    /// What was changed since it began.
    crossed: Mutex<Vec<String>>,
}

impl Flight {
    /// Forgets what came before this reading.
    pub fn start(&self) {
        lock(&self.crossed).clear();
    }

    fn is_crossed(&self, id: TokenId, found: Option<&Principal>) -> bool {
        let crossed = lock(&self.crossed);
        crossed.iter().any(|subject| {
            *subject == id.to_string() || found.is_some_and(|principal| concerns(subject, principal))
        })
    }
}

/// What a change names.
enum Subject {
    Token(TokenId),
    Account(AccountId),
    Org(OrgId),
    /// The owners of an org, or of nodes of it: what they hold depends on what the org names.
    Owners(OrgId),
}

impl Subject {
    /// Unknown ones concern nothing that is kept here.
    fn parse(text: &str) -> Option<Self> {
        if let Some(org) = text.strip_prefix(OWNERS) {
            return OrgId::parse(org).ok().map(Self::Owners);
        }
        let token = TokenId::parse(text).map(Self::Token).ok();
        let account = || AccountId::parse(text).map(Self::Account).ok();
        token.or_else(account).or_else(|| OrgId::parse(text).map(Self::Org).ok())
    }
}

/// Before an org's id: the owners of it.
const OWNERS: &str = "owners/";

fn concerns(subject: &str, principal: &Principal) -> bool {
    match Subject::parse(subject) {
        Some(Subject::Token(id)) => id == principal.token_id,
        Some(Subject::Account(id)) => id == principal.account_id,
        Some(Subject::Org(id)) => id == principal.org_id,
        Some(Subject::Owners(id)) => id == principal.org_id && owns_something(principal),
        None => false,
    }
}

fn owns_something(principal: &Principal) -> bool {
    principal.grants.iter().any(|grant| grant.right == Right::System(SystemRole::Owner))
}

/// The cache.
pub struct Cache {
    entries: papaya::HashMap<TokenId, Arc<Entry>>,
    missing: papaya::HashMap<TokenId, Instant>,
    index: Mutex<Index>,
    capacity: usize,
}

/// How entries are found by what they depend on, and in which order they came.
#[derive(Default)]
struct Index {
    accounts: HashMap<AccountId, HashSet<TokenId>>,
    orgs: HashMap<OrgId, HashSet<TokenId>>,
    order: VecDeque<TokenId>,
    flights: HashMap<TokenId, Arc<Flight>>,
}

impl Index {
    fn land(&mut self, id: TokenId, flight: &Arc<Flight>) {
        if self.flights.get(&id).is_some_and(|current| Arc::ptr_eq(current, flight)) {
            self.flights.remove(&id);
        }
    }
}

impl Cache {
    pub fn new(capacity: usize) -> Self {
        Self {
            entries: papaya::HashMap::new(),
            missing: papaya::HashMap::new(),
            index: Mutex::default(),
            capacity: capacity.max(1),
        }
    }

    /// What is known of a token. Takes no lock.
    pub fn get(&self, id: TokenId) -> Option<Arc<Entry>> {
        let entry = self.entries.pin().get(&id).cloned()?;
        entry.used.store(true, Ordering::Relaxed);
        Some(entry)
    }

    /// Whether the id was found not to exist, a moment ago.
    pub fn is_missing(&self, id: TokenId) -> bool {
        self.missing.pin().get(&id).is_some_and(|since| since.elapsed() < MISSING_FOR)
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The look that is under way for this token, or a new one.
    pub fn join(&self, id: TokenId) -> Arc<Flight> {
        lock(&self.index).flights.entry(id).or_default().clone()
    }

    /// A look that has ended is joined no more, nor one that nobody waits for any more. One
    /// that was given up goes on with the next who waits, and stays until then.
    pub fn leave(&self, id: TokenId, flight: &Arc<Flight>) {
        let mut index = lock(&self.index);
        // The index's own, and that of whoever leaves: others join under this lock alone.
        if flight.outcome.initialized() || Arc::strong_count(flight) <= 2 {
            index.land(id, flight);
        }
    }

    /// Keeps what was read, unless a change crossed the reading: then false, and it must
    /// be read again.
    pub fn keep(
        &self,
        id: TokenId,
        flight: &Arc<Flight>,
        found: Option<Arc<Principal>>,
        began: Instant,
    ) -> bool {
        // Changes are applied under the same lock: none comes between the look and the keeping.
        let mut index = lock(&self.index);
        if flight.is_crossed(id, found.as_deref()) {
            return false;
        }
        // Whoever asks after the next change must not join a look that was before it.
        index.land(id, flight);
        let Some(principal) = found else {
            self.remember_missing(id);
            return true;
        };
        index.accounts.entry(principal.account_id).or_default().insert(id);
        index.orgs.entry(principal.org_id).or_default().insert(id);
        let entry = Arc::new(Entry { principal, loaded: began, used: AtomicBool::new(false) });
        if self.entries.pin().insert(id, entry).is_none() {
            index.order.push_back(id);
        }
        while self.entries.len() > self.capacity {
            self.evict_one(&mut index);
        }
        true
    }

    /// The same, sharing the rules of its org with what is cached of that: they are the same
    /// unless a change is just being heard of.
    pub fn with_rules_of_org(&self, mut principal: Principal) -> Principal {
        let other = {
            let index = lock(&self.index);
            index.orgs.get(&principal.org_id).and_then(|tokens| tokens.iter().next().copied())
        };
        let other = other.and_then(|id| self.entries.pin().get(&id).cloned());
        if let Some(other) = other.filter(|other| other.principal.rules == principal.rules) {
            principal.rules = other.principal.rules.clone();
        }
        principal
    }

    fn remember_missing(&self, id: TokenId) {
        let missing = self.missing.pin();
        if missing.len() >= MAX_MISSING {
            missing.clear();
        }
        missing.insert(id, Instant::now());
    }

    /// The oldest that was not used since it was last passed over.
    fn evict_one(&self, index: &mut Index) {
        while let Some(id) = index.order.pop_front() {
            let entries = self.entries.pin();
            let Some(entry) = entries.get(&id) else { continue };
            if entry.used.swap(false, Ordering::Relaxed) {
                index.order.push_back(id);
            } else {
                let principal = entry.principal.clone();
                self.remove(index, id, &principal);
                return;
            }
        }
    }

    fn remove(&self, index: &mut Index, id: TokenId, principal: &Principal) {
        self.entries.pin().remove(&id);
        forget(&mut index.accounts, principal.account_id, id);
        forget(&mut index.orgs, principal.org_id, id);
    }

    /// Drops what these subjects touch, and tells the looks that are under way.
    pub fn invalidate(&self, subjects: &[String]) {
        let mut index = lock(&self.index);
        for flight in index.flights.values() {
            lock(&flight.crossed).extend_from_slice(subjects);
        }
        for subject in subjects {
            let touched: Vec<TokenId> = match Subject::parse(subject) {
                Some(Subject::Token(id)) => {
                    self.missing.pin().remove(&id);
                    vec![id]
                }
                Some(Subject::Account(id)) => {
                    index.accounts.get(&id).into_iter().flatten().copied().collect()
                }
                Some(Subject::Org(id) | Subject::Owners(id)) => {
                    index.orgs.get(&id).into_iter().flatten().copied().collect()
                }
                None => continue,
            };
            for id in touched {
                let entry = self.entries.pin().get(&id).cloned();
                if let Some(entry) = entry.filter(|entry| concerns(subject, &entry.principal)) {
                    self.remove(&mut index, id, &entry.principal);
                }
            }
        }
        // What was removed is passed over when its turn comes; many such make the line long.
        if index.order.len() > 2 * self.capacity {
            let entries = self.entries.pin();
            index.order.retain(|id| entries.contains_key(id));
        }
    }

    /// Drops everything, and what is under way with it.
    pub fn clear(&self) {
        let mut index = lock(&self.index);
        self.entries.pin().clear();
        self.missing.pin().clear();
        // A look at the former database must not be kept: it is told that everything has
        // changed. It goes on to hear of changes, since it looks again.
        let flights = std::mem::take(&mut index.flights);
        for (id, flight) in &flights {
            lock(&flight.crossed).push(id.to_string());
        }
        *index = Index { flights, ..Index::default() };
    }
}

fn forget<K: std::hash::Hash + Eq>(sets: &mut HashMap<K, HashSet<TokenId>>, key: K, id: TokenId) {
    if let Some(set) = sets.get_mut(&key) {
        set.remove(&id);
        if set.is_empty() {
            sets.remove(&key);
        }
    }
}

/// Nothing that is done under these locks panics half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::principal::tests::principal;
    use crate::domain::token_policy::{Ceilings, TokenPolicy};

    fn of(token: u128, account: u128, org: u128, grants: &[(&str, &str)]) -> Arc<Principal> {
        let mut principal = principal(grants);
        principal.token_id = TokenId::from_u128(token);
        principal.account_id = AccountId::from_u128(account);
        principal.org_id = OrgId::from_u128(org);
        Arc::new(principal)
    }

    fn put(cache: &Cache, principal: &Arc<Principal>) -> bool {
        let flight = cache.join(principal.token_id);
        let kept = cache.keep(principal.token_id, &flight, Some(principal.clone()), Instant::now());
        cache.leave(principal.token_id, &flight);
        kept
    }

    fn has(cache: &Cache, token: u128) -> bool {
        cache.get(TokenId::from_u128(token)).is_some()
    }

    #[test]
    fn a_change_drops_what_it_names_and_nothing_else() {
        let all = || {
            let cache = Cache::new(100);
            for principal in [
                of(1, 10, 100, &[]),
                of(2, 10, 100, &[]),
                of(3, 11, 100, &[("owner", "a")]),
                of(4, 12, 101, &[]),
            ] {
                assert!(put(&cache, &principal));
            }
            cache
        };
        for (subject, left) in [
            (TokenId::from_u128(1).to_string(), vec![2, 3, 4]),
            (AccountId::from_u128(10).to_string(), vec![3, 4]),
            (OrgId::from_u128(100).to_string(), vec![4]),
            (format!("owners/{}", OrgId::from_u128(100)), vec![1, 2, 4]),
            ("customers/acme".to_owned(), vec![1, 2, 3, 4]),
        ] {
            let cache = all();
            cache.invalidate(std::slice::from_ref(&subject));
            let kept: Vec<u128> = (1..=4).filter(|token| has(&cache, *token)).collect();
            assert_eq!(kept, left, "{subject}");
        }
        let cache = all();
        cache.clear();
        assert_eq!(cache.len(), 0);
    }

    #[test]
    fn the_tokens_of_an_org_share_its_rules() {
        let cache = Cache::new(10);
        let (one, other) = (of(1, 10, 100, &[]), of(2, 11, 100, &[]));
        assert!(put(&cache, &one));
        let other = cache.with_rules_of_org(Arc::into_inner(other).unwrap());
        assert!(Arc::ptr_eq(&one.rules, &other.rules));
        let mut ruled = principal(&[]);
        ruled.org_id = OrgId::from_u128(100);
        let policy = TokenPolicy { allow_endless: true, ..TokenPolicy::default() };
        ruled.rules = Arc::new(policy.within(&Ceilings::default()));
        assert!(cache.with_rules_of_org(ruled).rules.endless, "others than these are its own");
    }

    #[test]
    fn a_reading_that_a_change_crosses_is_not_kept() {
        for subject in [
            TokenId::from_u128(1).to_string(),
            AccountId::from_u128(10).to_string(),
            OrgId::from_u128(100).to_string(),
        ] {
            let cache = Cache::new(10);
            let (id, found) = (TokenId::from_u128(1), of(1, 10, 100, &[]));
            let flight = cache.join(id);
            flight.start();
            cache.invalidate(&[subject]);
            assert!(!cache.keep(id, &flight, Some(found.clone()), Instant::now()));
            assert!(!has(&cache, 1));
            // The next reading began after it.
            flight.start();
            cache.invalidate(&[TokenId::from_u128(2).to_string()]);
            assert!(cache.keep(id, &flight, Some(found), Instant::now()));
        }
        // A token that is made while it is found missing.
        let cache = Cache::new(10);
        let id = TokenId::from_u128(1);
        let flight = cache.join(id);
        flight.start();
        cache.invalidate(&[id.to_string()]);
        assert!(!cache.keep(id, &flight, None, Instant::now()));
        flight.start();
        assert!(cache.keep(id, &flight, None, Instant::now()) && cache.is_missing(id));
        cache.invalidate(&[id.to_string()]);
        assert!(!cache.is_missing(id));
    }

    #[test]
    fn nobody_joins_a_reading_that_is_done() {
        let cache = Cache::new(10);
        let (id, found) = (TokenId::from_u128(1), of(1, 10, 100, &[]));
        let flight = cache.join(id);
        assert!(Arc::ptr_eq(&flight, &cache.join(id)));
        assert!(cache.keep(id, &flight, Some(found), Instant::now()));
        // What changes now is not in it.
        cache.invalidate(&[id.to_string()]);
        let next = cache.join(id);
        assert!(!Arc::ptr_eq(&flight, &next));
        cache.leave(id, &flight);
        assert!(Arc::ptr_eq(&next, &cache.join(id)), "each leaves its own");
    }

    #[test]
    fn a_reading_of_the_former_database_is_read_again_and_hears_of_changes() {
        let cache = Cache::new(10);
        let (id, found) = (TokenId::from_u128(1), of(1, 10, 100, &[]));
        let flight = cache.join(id);
        flight.start();
        cache.clear();
        assert!(!cache.keep(id, &flight, Some(found.clone()), Instant::now()));
        flight.start();
        cache.invalidate(&[id.to_string()]);
        assert!(!cache.keep(id, &flight, Some(found.clone()), Instant::now()));
        flight.start();
        assert!(cache.keep(id, &flight, Some(found), Instant::now()));
    }

    #[test]
    fn it_is_bounded_and_keeps_what_is_used() {
        let cache = Cache::new(10);
        for token in 0..10 {
            put(&cache, &of(token, token, 1, &[]));
        }
        assert!(has(&cache, 0));
        for token in 10..15 {
            put(&cache, &of(token, token, 1, &[]));
        }
        assert_eq!(cache.len(), 10);
        assert!(has(&cache, 0) && !has(&cache, 1) && has(&cache, 14));
        for id in 0..20_001 {
            cache.remember_missing(TokenId::from_u128(id));
        }
        assert!(cache.missing.len() <= MAX_MISSING);
        for token in 100..200 {
            put(&cache, &of(token, token, 1, &[]));
            cache.invalidate(&[OrgId::from_u128(1).to_string()]);
        }
        let index = lock(&cache.index);
        assert!(index.order.len() <= 21 && index.accounts.is_empty() && index.orgs.is_empty());
    }

    #[test]
    fn a_look_that_nobody_waits_for_any_more_is_forgotten() {
        let cache = Cache::new(10);
        let id = TokenId::from_u128(7);
        let (one, two) = (cache.join(id), cache.join(id));
        assert!(Arc::ptr_eq(&one, &two));
        cache.leave(id, &one);
        drop(one);
        assert_eq!(lock(&cache.index).flights.len(), 1, "the other waits on");
        cache.leave(id, &two);
        assert!(lock(&cache.index).flights.is_empty(), "both were given up before there was an outcome");
    }
}
