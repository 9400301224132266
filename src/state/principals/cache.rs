//! The cache of tokens, and of accounts without one: read without locks, changed under one.
//!
//! An entry is indexed by everything that a change may name: its token, its account, its orgs. The
//! result of a load that overlaps a change is not stored: the change is applied to the loads in
//! progress as well as to the entries. It is bounded by the bytes that it takes, since an entry may
//! be a thousand times as large as another.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use super::entry::{CacheEntry, Key, Known, Loaded, Tenths, names};
use super::index::{Flight, Index};
use crate::domain::access::held::Held;
use crate::domain::access::member::Member;
use crate::domain::federation::issuer::Issuer;
use crate::domain::values::subject::Subject;
use crate::metrics::Counter;
use crate::state::locks::lock;

/// How long a missing id is remembered.
const MISSING_FOR: Duration = Duration::from_secs(2);
/// How many missing ids are remembered.
pub(super) const MAX_MISSING: usize = 10_000;
/// The bytes of the set and the index for one entry, beside what it holds, as
/// `cargo bench --bench memory` measures them.
pub(super) const ENTRY_WEIGHT: usize = 165;
/// The same for a missing id.
pub(super) const MISSING_WEIGHT: usize = 300;
/// A value that takes more than this part of the cache is not cached: it would push out too much.
const LARGEST_PART: usize = 16;
/// The part of the cache that missing ids may take.
pub(super) const MISSING_PART: usize = 8;

/// The cache.
pub struct Cache {
    /// The keys are not kept beside the entries: they are read from what is cached.
    entries: papaya::HashSet<CacheEntry, RandomState>,
    pub(super) missing: papaya::HashMap<Key, Instant, RandomState>,
    pub(super) index: Mutex<Index>,
    /// What the times of entries are counted from.
    start: Instant,
    /// The most bytes that it may take.
    pub(super) capacity: usize,
    /// Entries that were dropped to make room.
    pub(super) evictions: Counter,
}

impl Cache {
    /// An empty cache that takes at most this many bytes.
    pub fn new(capacity: usize) -> Self {
        Self {
            entries: papaya::HashSet::with_hasher(RandomState::default()),
            missing: papaya::HashMap::with_hasher(RandomState::default()),
            index: Mutex::default(),
            start: Instant::now(),
            capacity,
            evictions: Counter::default(),
        }
    }

    /// What is cached under a key. Takes no lock.
    pub fn get(&self, key: Key) -> Option<Loaded> {
        let entries = self.entries.pin();
        let entry = entries.get(&key)?;
        // Written only where that changes it: others read it on other cores.
        if !entry.used.load(Ordering::Relaxed) {
            entry.used.store(true, Ordering::Relaxed);
        }
        Some(Loaded { known: entry.known.clone(), at: entry.at.after(self.start) })
    }

    /// Whether the key was found to be missing a moment ago.
    pub fn is_missing(&self, key: Key) -> bool {
        self.missing.pin().get(&key).is_some_and(|since| since.elapsed() < MISSING_FOR)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// All entries, with their slots.
    #[cfg(test)]
    pub(super) fn all(&self) -> Vec<(u32, Known)> {
        let entries = self.entries.pin();
        entries.iter().map(|entry| (entry.slot, entry.known.clone())).collect()
    }

    /// The bytes that it takes.
    pub fn weight(&self) -> usize {
        self.total(&lock(&self.index))
    }

    fn total(&self, index: &Index) -> usize {
        let shared =
            index.held.weight() + index.sets.weight() + index.rules.weight() + index.issuers.weight();
        index.weight + shared + self.missing.len() * MISSING_WEIGHT
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
        self.remove(&mut index, key);
        match found {
            Some(known) => self.store(&mut index, key, known, began),
            None => self.remember_missing(&mut index, key),
        }
        while self.total(&index) > self.capacity && self.evict_one(&mut index) {}
        true
    }

    fn store(&self, index: &mut Index, key: Key, known: Known, began: Instant) {
        debug_assert_eq!(key, known.key(), "something else was loaded");
        let own = ENTRY_WEIGHT + known.weight();
        let held = &known.member().held;
        let issuer = known.issuer().map_or(0, |issuer| issuer.weight());
        let weight = own + held.weight() + held.sets_weight() + issuer;
        if weight > self.capacity / LARGEST_PART {
            tracing::debug!(?key, weight, "credential not cached");
            return;
        }
        // The largest cache (1 TiB) has no room for 2³² entries: each takes more than 256 bytes.
        let Some((slot, unshared)) = index.insert(&known) else { return };
        let weight = u32::try_from(own + unshared).unwrap_or(u32::MAX);
        index.weight += weight as usize;
        // In a free slot that the hand comes to before others, it would be evicted before what was there
        // before it: it is passed over once, as if it were used. Where it is the last in any case, it is not.
        let used = AtomicBool::new(!index.slots.is_last(slot));
        let at = Tenths::between(self.start, began);
        self.entries.pin().insert(CacheEntry { known, at, weight, slot, used });
    }

    /// Lets it share what it holds and the rules of its org with the entries that have the same.
    pub fn share(&self, member: &mut Member) {
        let index = lock(&self.index);
        index.held.share(&mut member.held);
        // Where it holds something of its own, the sets of that may be others' too.
        if let Some(sets) = Arc::get_mut(&mut member.held).and_then(Held::sets_mut) {
            index.sets.share(sets);
        }
        index.rules.share(&mut member.rules);
    }

    /// Lets a rule share its issuer with the others for the same one.
    pub fn share_issuer(&self, issuer: &mut Arc<Issuer>) {
        lock(&self.index).issuers.share(issuer);
    }

    pub(super) fn remember_missing(&self, index: &mut Index, key: Key) {
        let missing = self.missing.pin();
        let most = MAX_MISSING.min(self.capacity / MISSING_PART / MISSING_WEIGHT);
        if missing.len() >= most {
            missing.clear();
            index.missing.clear();
        }
        missing.insert(key, Instant::now());
        if let Key::Member(_, account_id) = key {
            index.missing.insert((account_id, key));
        }
    }

    fn forget_missing(&self, index: &mut Index, key: Key) {
        self.missing.pin().remove(&key);
        if let Key::Member(_, account_id) = key {
            index.missing.remove(&(account_id, key));
        }
    }

    /// Evicts the next entry that was not used since it was last passed over. False if there is none.
    fn evict_one(&self, index: &mut Index) -> bool {
        let entries = self.entries.pin();
        // Entries are used meanwhile: after one round, the next one is evicted even so.
        let mut left = entries.len();
        while let Some(key) = index.slots.advance() {
            let is_used = entries.get(&key).is_some_and(|entry| entry.used.swap(false, Ordering::Relaxed));
            if is_used && left > 0 {
                left -= 1;
                continue;
            }
            self.remove(index, key);
            self.evictions.one();
            return true;
        }
        false
    }

    fn remove(&self, index: &mut Index, key: Key) {
        let entries = self.entries.pin();
        if let Some(entry) = entries.get(&key) {
            index.remove(entry.slot, &entry.known);
            index.weight -= entry.weight as usize;
            entries.remove(&key);
        }
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
                self.remove(&mut index, key);
            }
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
                Key::Rule(id) => id.into(),
                Key::Member(_, account_id) => account_id.into(),
            };
            lock(&flight.crossed).push(named);
        }
        *index = Index { flights, ..Index::default() };
    }
}
