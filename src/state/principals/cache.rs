//! The cache of tokens, and of accounts without one: read without locks, changed under one.
//!
//! An entry is indexed by everything that a change may name: its token, its account, its orgs. The
//! result of a load that overlaps a change is not stored: the change is applied to the loads in
//! progress as well as to the entries.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;

use crate::domain::access::credential::Credential;
use crate::domain::access::member::Member;
use crate::domain::values::ids::{AccountId, CredentialId, OrgId, SessionId, TokenId};
use crate::domain::values::subject::Subject;
use crate::error::Reason;

/// How long a missing id is remembered.
const MISSING_FOR: Duration = Duration::from_secs(2);
/// How many missing ids are remembered.
const MAX_MISSING: usize = 10_000;
/// How many entries of an org are checked for its rules.
const MAX_LOOKS: usize = 8;

/// The key of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// A token, with the account behind it.
    Token(TokenId),
    /// A session, with the account behind it in its home org.
    Session(SessionId),
    /// An account in an org, without a token.
    Member(OrgId, AccountId),
}

impl From<CredentialId> for Key {
    fn from(id: CredentialId) -> Self {
        match id {
            CredentialId::Token(id) => Self::Token(id),
            CredentialId::Session(id) => Self::Session(id),
        }
    }
}

/// The value of an entry.
#[derive(Clone)]
pub enum Known {
    Credential(Arc<Credential>),
    Member(Arc<Member>),
}

impl Known {
    /// The account.
    pub fn member(&self) -> &Member {
        match self {
            Self::Credential(credential) => &credential.account,
            Self::Member(member) => member,
        }
    }
}

/// A cached value, and when it was loaded.
pub struct CacheEntry {
    pub known: Known,
    /// When its load began.
    pub loaded: Instant,
    used: AtomicBool,
}

/// A load from the database that is in progress.
#[derive(Default)]
pub struct Flight {
    pub outcome: OnceCell<Result<Option<Known>, Reason>>,
    /// The changes since it began.
    crossed: Mutex<Vec<Subject>>,
}

impl Flight {
    /// Forgets the changes before this read.
    pub fn start(&self) {
        lock(&self.crossed).clear();
    }

    fn is_crossed(&self, key: Key, found: Option<&Known>) -> bool {
        let crossed = lock(&self.crossed);
        crossed.iter().any(|subject| {
            names(*subject, key) || found.is_some_and(|known| concerns(*subject, key, known.member()))
        })
    }
}

/// Whether the change may create something under this key.
fn names(subject: Subject, key: Key) -> bool {
    match (subject, key) {
        (Subject::Credential(id), key) => key == id.into(),
        (Subject::Account(id), Key::Member(_, account)) => id == account,
        (Subject::Org(id), Key::Member(org, _)) => id == org,
        _ => false,
    }
}

/// Whether the change affects what is cached under this key.
fn concerns(subject: Subject, key: Key, member: &Member) -> bool {
    match subject {
        Subject::Credential(id) => key == id.into(),
        Subject::Account(id) => id == member.account_id,
        Subject::Org(id) => id == member.org_id || id == member.home_org_id,
        Subject::Owners(id) => id == member.org_id && member.owns_something(),
        Subject::Invitation(_) | Subject::Keys => false,
    }
}

/// The cache.
pub struct Cache {
    entries: papaya::HashMap<Key, Arc<CacheEntry>>,
    missing: papaya::HashMap<Key, Instant>,
    index: Mutex<Index>,
    capacity: usize,
}

/// The keys by what they depend on, and in the order in which they were added.
#[derive(Default)]
struct Index {
    accounts: HashMap<AccountId, HashSet<Key>>,
    orgs: HashMap<OrgId, HashSet<Key>>,
    /// The keys that were found missing, by the account that they name.
    missing: HashMap<AccountId, HashSet<Key>>,
    /// The keys of an org whose rights depend on the resources that it names.
    owners: HashMap<OrgId, HashSet<Key>>,
    order: VecDeque<Key>,
    /// The keys in that queue, each once.
    lined_up: HashSet<Key>,
    flights: HashMap<Key, Arc<Flight>>,
}

impl Index {
    fn land(&mut self, key: Key, flight: &Arc<Flight>) {
        if self.flights.get(&key).is_some_and(|current| Arc::ptr_eq(current, flight)) {
            self.flights.remove(&key);
        }
    }

    fn insert(&mut self, key: Key, member: &Member) {
        self.accounts.entry(member.account_id).or_default().insert(key);
        self.orgs.entry(member.org_id).or_default().insert(key);
        if member.home_org_id != member.org_id {
            self.orgs.entry(member.home_org_id).or_default().insert(key);
        }
        if member.owns_something() {
            self.owners.entry(member.org_id).or_default().insert(key);
        }
    }

    fn remove(&mut self, key: Key, member: &Member) {
        forget(&mut self.accounts, member.account_id, key);
        forget(&mut self.orgs, member.org_id, key);
        forget(&mut self.orgs, member.home_org_id, key);
        forget(&mut self.owners, member.org_id, key);
    }

    /// Puts a key at the end of the queue, unless it is in the queue already.
    fn line_up(&mut self, key: Key) {
        if self.lined_up.insert(key) {
            self.order.push_back(key);
        }
    }

    /// The keys that the change may touch.
    fn touched(&self, subject: Subject) -> Vec<Key> {
        match subject {
            Subject::Credential(id) => vec![id.into()],
            Subject::Account(id) => {
                let found = self.accounts.get(&id).into_iter().flatten();
                found.chain(self.missing.get(&id).into_iter().flatten()).copied().collect()
            }
            Subject::Org(id) => self.orgs.get(&id).into_iter().flatten().copied().collect(),
            Subject::Owners(id) => self.owners.get(&id).into_iter().flatten().copied().collect(),
            Subject::Invitation(_) | Subject::Keys => Vec::new(),
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

    /// The entry of a key. Takes no lock.
    pub fn get(&self, key: Key) -> Option<Arc<CacheEntry>> {
        let entry = self.entries.pin().get(&key).cloned()?;
        entry.used.store(true, Ordering::Relaxed);
        Some(entry)
    }

    /// Whether the key was found to be missing a moment ago.
    pub fn is_missing(&self, key: Key) -> bool {
        self.missing.pin().get(&key).is_some_and(|since| since.elapsed() < MISSING_FOR)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The load in progress for this key, or a new one.
    pub fn join(&self, key: Key) -> Arc<Flight> {
        lock(&self.index).flights.entry(key).or_default().clone()
    }

    /// Removes a load that has finished, or that no caller waits for any more, so that it is not
    /// joined again. One whose caller gave up is continued by the next waiting caller, and stays
    /// until then.
    pub fn leave(&self, key: Key, flight: Arc<Flight>) {
        let mut index = lock(&self.index);
        // One reference of the index, and one of the caller that leaves: callers join and leave
        // only under this lock.
        if flight.outcome.initialized() || Arc::strong_count(&flight) <= 2 {
            index.land(key, &flight);
        }
        drop(flight);
    }

    /// Stores what was read, unless a change overlapped the read: then returns false, and it must
    /// be read again.
    pub fn keep(&self, key: Key, flight: &Arc<Flight>, found: Option<Known>, began: Instant) -> bool {
        // Changes are applied under the same lock: none comes between the check and the store.
        let mut index = lock(&self.index);
        if flight.is_crossed(key, found.as_ref()) {
            return false;
        }
        // A caller that asks after the next change must not join a load from before it.
        index.land(key, flight);
        let Some(known) = found else {
            self.remember_missing(&mut index, key);
            return true;
        };
        index.insert(key, known.member());
        let entry = Arc::new(CacheEntry { known, loaded: began, used: AtomicBool::new(false) });
        self.entries.pin().insert(key, entry);
        index.line_up(key);
        while self.entries.len() > self.capacity {
            self.evict_one(&mut index);
        }
        true
    }

    /// Lets it share the rules of its org with other cached entries of that org: they are the same
    /// unless a change is just being applied.
    pub fn share_rules(&self, member: &mut Member) {
        let keys: Vec<Key> = {
            let index = lock(&self.index);
            index.orgs.get(&member.org_id).into_iter().flatten().copied().take(MAX_LOOKS).collect()
        };
        let entries = self.entries.pin();
        let mut others = keys.iter().filter_map(|key| entries.get(key)).map(|entry| entry.known.member());
        // Some may be of accounts whose home is this org, and which are guests elsewhere.
        if let Some(other) = others.find(|other| other.org_id == member.org_id)
            && other.rules == member.rules
        {
            member.rules = other.rules.clone();
        }
    }

    fn remember_missing(&self, index: &mut Index, key: Key) {
        let missing = self.missing.pin();
        if missing.len() >= MAX_MISSING {
            missing.clear();
            index.missing.clear();
        }
        missing.insert(key, Instant::now());
        if let Key::Member(_, account_id) = key {
            index.missing.entry(account_id).or_default().insert(key);
        }
    }

    fn forget_missing(&self, index: &mut Index, key: Key) {
        self.missing.pin().remove(&key);
        if let Key::Member(_, account_id) = key {
            forget(&mut index.missing, account_id, key);
        }
    }

    /// Evicts the oldest entry that was not used since it was last passed over.
    fn evict_one(&self, index: &mut Index) {
        while let Some(key) = index.order.pop_front() {
            index.lined_up.remove(&key);
            let entries = self.entries.pin();
            let Some(entry) = entries.get(&key).cloned() else { continue };
            if entry.used.swap(false, Ordering::Relaxed) {
                index.line_up(key);
            } else {
                self.remove(index, key, &entry);
                return;
            }
        }
    }

    fn remove(&self, index: &mut Index, key: Key, entry: &CacheEntry) {
        self.entries.pin().remove(&key);
        index.remove(key, entry.known.member());
    }

    /// Drops what these subjects touch, and marks the loads in progress.
    pub fn invalidate(&self, subjects: &[Subject]) {
        let mut index = lock(&self.index);
        for flight in index.flights.values() {
            lock(&flight.crossed).extend_from_slice(subjects);
        }
        for &subject in subjects {
            for key in index.touched(subject) {
                if names(subject, key) {
                    self.forget_missing(&mut index, key);
                }
                let entry = self.entries.pin().get(&key).cloned();
                if let Some(entry) = entry.filter(|entry| concerns(subject, key, entry.known.member())) {
                    self.remove(&mut index, key, &entry);
                }
            }
        }
        // Removed entries are skipped in their turn; many of them make the queue long.
        if index.order.len() > 2 * self.capacity {
            let entries = self.entries.pin();
            let Index { order, lined_up, .. } = &mut *index;
            order.retain(|key| entries.contains_key(key));
            lined_up.retain(|key| entries.contains_key(key));
        }
    }

    /// Drops everything, including the loads in progress.
    pub fn clear(&self) {
        let mut index = lock(&self.index);
        self.entries.pin().clear();
        self.missing.pin().clear();
        // A load from the previous database must not be stored: it is marked as changed in full.
        // It continues to be notified of changes, since it reads again.
        let flights = std::mem::take(&mut index.flights);
        for (key, flight) in &flights {
            let named: Subject = match *key {
                Key::Token(id) => id.into(),
                Key::Session(id) => id.into(),
                Key::Member(_, account_id) => account_id.into(),
            };
            lock(&flight.crossed).push(named);
        }
        *index = Index { flights, ..Index::default() };
    }
}

fn forget<K: std::hash::Hash + Eq>(sets: &mut HashMap<K, HashSet<Key>>, of: K, key: Key) {
    if let Some(set) = sets.get_mut(&of) {
        set.remove(&key);
        if set.is_empty() {
            sets.remove(&of);
        }
    }
}

/// No code under these locks panics half-way.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::access::credential::tests::credential;
    use crate::domain::tokens::policy::{Ceilings, TokenPolicy};

    fn of(id: u128, account: u128, org: u128, grants: &[(&str, &str)]) -> Known {
        let mut credential = credential(grants);
        credential.credential_id = TokenId::from_u128(id).into();
        credential.account.account_id = AccountId::from_u128(account);
        credential.account.org_id = OrgId::from_u128(org);
        credential.account.home_org_id = OrgId::from_u128(org);
        Known::Credential(Arc::new(credential))
    }

    fn guest(account: u128, org: u128, home: u128, grants: &[(&str, &str)]) -> Known {
        let mut member = credential(grants).account;
        member.account_id = AccountId::from_u128(account);
        member.org_id = OrgId::from_u128(org);
        member.home_org_id = OrgId::from_u128(home);
        Known::Member(Arc::new(member))
    }

    fn token(id: u128) -> Key {
        Key::Token(TokenId::from_u128(id))
    }

    fn member(org: u128, account: u128) -> Key {
        Key::Member(OrgId::from_u128(org), AccountId::from_u128(account))
    }

    fn key_of(known: &Known) -> Key {
        match known {
            Known::Credential(credential) => credential.credential_id.into(),
            Known::Member(member) => Key::Member(member.org_id, member.account_id),
        }
    }

    fn put(cache: &Cache, known: &Known) -> bool {
        let key = key_of(known);
        let flight = cache.join(key);
        let kept = cache.keep(key, &flight, Some(known.clone()), Instant::now());
        cache.leave(key, flight.clone());
        kept
    }

    fn has(cache: &Cache, id: u128) -> bool {
        cache.get(token(id)).is_some()
    }

    #[test]
    fn a_change_drops_what_it_names_and_nothing_else() {
        let all = || {
            let cache = Cache::new(100);
            for credential in [
                of(1, 10, 100, &[]),
                of(2, 10, 100, &[]),
                of(3, 11, 100, &[("owner", "a")]),
                of(4, 12, 101, &[]),
            ] {
                assert!(put(&cache, &credential));
            }
            cache
        };
        for (subject, left) in [
            (TokenId::from_u128(1).into(), vec![2, 3, 4]),
            (AccountId::from_u128(10).into(), vec![3, 4]),
            (OrgId::from_u128(100).into(), vec![4]),
            (Subject::Owners(OrgId::from_u128(100)), vec![1, 2, 4]),
            (Subject::Keys, vec![1, 2, 3, 4]),
        ] {
            let cache = all();
            cache.invalidate(&[subject]);
            let kept: Vec<u128> = (1..=4).filter(|token| has(&cache, *token)).collect();
            assert_eq!(kept, left, "{subject}");
        }
        let cache = all();
        cache.clear();
        assert_eq!(cache.len(), 0);
    }

    #[test]
    fn what_is_known_of_an_org_shares_its_rules() {
        let cache = Cache::new(10);
        let in_org = || {
            let mut member = credential(&[]).account;
            member.org_id = OrgId::from_u128(100);
            member
        };
        let one = Arc::new(Credential { account: in_org(), ..credential(&[]) });
        // At home in this org, and a guest of another one.
        assert!(put(&cache, &guest(11, 200, 100, &[])));
        assert!(put(&cache, &Known::Credential(one.clone())));
        let shared = |mut member: Member| {
            cache.share_rules(&mut member);
            member.rules
        };
        assert!(Arc::ptr_eq(&one.account.rules, &shared(in_org())));
        let policy = TokenPolicy { allow_endless: true, ..TokenPolicy::default() };
        let ruled = Member { rules: Arc::new(policy.within(&Ceilings::default())), ..in_org() };
        assert!(shared(ruled).endless, "others than these are its own");
    }

    #[test]
    fn a_reading_that_a_change_crosses_is_not_kept() {
        for subject in
            [TokenId::from_u128(1).into(), AccountId::from_u128(10).into(), OrgId::from_u128(100).into()]
        {
            let cache = Cache::new(10);
            let (key, found) = (token(1), of(1, 10, 100, &[]));
            let flight = cache.join(key);
            flight.start();
            cache.invalidate(&[subject]);
            assert!(!cache.keep(key, &flight, Some(found.clone()), Instant::now()));
            assert!(!has(&cache, 1));
            // The next read began after it.
            flight.start();
            cache.invalidate(&[TokenId::from_u128(2).into()]);
            assert!(cache.keep(key, &flight, Some(found), Instant::now()));
        }
        // A token that is created while it is found missing.
        let cache = Cache::new(10);
        let key = token(1);
        let flight = cache.join(key);
        flight.start();
        cache.invalidate(&[TokenId::from_u128(1).into()]);
        assert!(!cache.keep(key, &flight, None, Instant::now()));
        flight.start();
        assert!(cache.keep(key, &flight, None, Instant::now()) && cache.is_missing(key));
        cache.invalidate(&[TokenId::from_u128(1).into()]);
        assert!(!cache.is_missing(key));
    }

    #[test]
    fn nobody_joins_a_reading_that_is_done() {
        let cache = Cache::new(10);
        let (key, found) = (token(1), of(1, 10, 100, &[]));
        let flight = cache.join(key);
        assert!(Arc::ptr_eq(&flight, &cache.join(key)));
        assert!(cache.keep(key, &flight, Some(found), Instant::now()));
        // Later changes are not in it.
        cache.invalidate(&[TokenId::from_u128(1).into()]);
        let next = cache.join(key);
        assert!(!Arc::ptr_eq(&flight, &next));
        cache.leave(key, flight.clone());
        assert!(Arc::ptr_eq(&next, &cache.join(key)), "each leaves its own");
    }

    #[test]
    fn a_reading_of_the_former_database_is_read_again_and_hears_of_changes() {
        let cache = Cache::new(10);
        let (key, found) = (token(1), of(1, 10, 100, &[]));
        let flight = cache.join(key);
        flight.start();
        cache.clear();
        assert!(!cache.keep(key, &flight, Some(found.clone()), Instant::now()));
        flight.start();
        cache.invalidate(&[TokenId::from_u128(1).into()]);
        assert!(!cache.keep(key, &flight, Some(found.clone()), Instant::now()));
        flight.start();
        assert!(cache.keep(key, &flight, Some(found), Instant::now()));
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
            cache.remember_missing(&mut lock(&cache.index), token(id));
        }
        assert!(cache.missing.len() <= MAX_MISSING);
        for id in 0..20_001 {
            cache.remember_missing(&mut lock(&cache.index), member(1, id));
        }
        assert!(lock(&cache.index).missing.len() <= MAX_MISSING && cache.missing.len() <= MAX_MISSING);
        for token in 100..200 {
            put(&cache, &of(token, token, 1, &[]));
            cache.invalidate(&[OrgId::from_u128(1).into()]);
        }
        let index = lock(&cache.index);
        assert!(index.order.len() <= 21 && index.accounts.is_empty() && index.orgs.is_empty());
    }

    #[test]
    fn a_look_that_nobody_waits_for_any_more_is_forgotten() {
        let cache = Cache::new(10);
        let key = token(7);
        let (one, two) = (cache.join(key), cache.join(key));
        assert!(Arc::ptr_eq(&one, &two));
        cache.leave(key, one);
        assert_eq!(lock(&cache.index).flights.len(), 1, "the other waits on");
        cache.leave(key, two);
        assert!(lock(&cache.index).flights.is_empty(), "both were given up before there was an outcome");
    }

    #[test]
    fn what_is_known_of_a_guest_hangs_on_its_home_too() {
        let all = || {
            let cache = Cache::new(100);
            for known in [
                of(1, 10, 100, &[]),
                guest(10, 100, 100, &[]),
                guest(10, 101, 100, &[("owner", "a")]),
                guest(11, 101, 101, &[]),
            ] {
                assert!(put(&cache, &known));
            }
            cache
        };
        let keys = [token(1), member(100, 10), member(101, 10), member(101, 11)];
        for (subject, left) in [
            (TokenId::from_u128(1).into(), vec![1, 2, 3]),
            (AccountId::from_u128(10).into(), vec![3]),
            (OrgId::from_u128(100).into(), vec![3]),
            (OrgId::from_u128(101).into(), vec![0, 1]),
            (Subject::Owners(OrgId::from_u128(101)), vec![0, 1, 3]),
            (Subject::Owners(OrgId::from_u128(100)), vec![0, 1, 2, 3]),
        ] {
            let cache = all();
            cache.invalidate(&[subject]);
            let kept: Vec<usize> = (0..4).filter(|key| cache.get(keys[*key]).is_some()).collect();
            assert_eq!(kept, left, "{subject}");
            cache.clear();
            let index = lock(&cache.index);
            assert!(index.accounts.is_empty() && index.orgs.is_empty());
        }
        // Overlapped by a change at home; found missing while it becomes a member, or soon after.
        let cache = Cache::new(10);
        let (key, found) = (member(101, 10), guest(10, 101, 100, &[]));
        let flight = cache.join(key);
        flight.start();
        cache.invalidate(&[OrgId::from_u128(100).into()]);
        assert!(!cache.keep(key, &flight, Some(found), Instant::now()));
        let joins = AccountId::from_u128(10).into();
        flight.start();
        cache.invalidate(&[joins]);
        assert!(!cache.keep(key, &flight, None, Instant::now()));
        flight.start();
        assert!(cache.keep(key, &flight, None, Instant::now()) && cache.is_missing(key));
        cache.invalidate(&[joins]);
        assert!(!cache.is_missing(key) && lock(&cache.index).missing.is_empty());
    }
}
