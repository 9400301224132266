//! What is changed under the lock of the cache: the entries by what they depend on, and their order.

use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex};

use foldhash::quality::RandomState;
use tokio::sync::OnceCell;

use super::entry::{Key, Known, concerning, concerns, names};
use super::shared::Shared;
use super::slots::Slots;
use crate::domain::access::held::Held;
use crate::domain::access::sets::Sets;
use crate::domain::federation::issuer::Issuer;
use crate::domain::tokens::policy::Rules;
use crate::domain::values::ids::{AccountId, TokenId};
use crate::domain::values::subject::Subject;
use crate::error::Reason;
use crate::state::locks::lock;

/// A load from the database that is in progress.
#[derive(Default)]
pub struct Flight {
    pub outcome: OnceCell<Result<Option<Known>, Reason>>,
    /// The changes since it began.
    pub(super) crossed: Mutex<Vec<Subject>>,
}

impl Flight {
    /// Forgets the changes before this read.
    pub fn start(&self) {
        lock(&self.crossed).clear();
    }

    pub(super) fn is_crossed(&self, key: Key, found: Option<&Known>) -> bool {
        let crossed = lock(&self.crossed);
        crossed.iter().any(|subject| {
            names(*subject, key) || found.is_some_and(|known| concerns(*subject, key, known.member()))
        })
    }
}

/// The entries by what they depend on, and in the order of eviction; and what entries share.
pub(super) struct Index {
    pub slots: Slots,
    /// The hash of each account and org that an entry depends on, with the slot of the entry.
    ///
    /// It has 8 bytes for what would be an id of 16 and a key of 33. Ids with the same hash are told apart
    /// where the entries are read.
    pub dependent: BTreeSet<(u32, u32)>,
    /// Keyed, so that clients cannot choose ids with the same hash.
    pub hasher: RandomState,
    /// The keys that were found missing, by the account that they name.
    pub missing: BTreeSet<(AccountId, Key)>,
    pub flights: HashMap<Key, Arc<Flight>>,
    pub held: Shared<Held>,
    pub sets: Shared<Sets>,
    pub rules: Shared<Rules>,
    pub issuers: Shared<Issuer>,
    /// What all entries weigh, without what they share.
    pub weight: usize,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            slots: Slots::default(),
            dependent: BTreeSet::new(),
            hasher: RandomState::default(),
            missing: BTreeSet::new(),
            flights: HashMap::new(),
            held: Shared::new(Held::weight),
            sets: Shared::new(Sets::weight),
            rules: Shared::new(Rules::weight),
            issuers: Shared::new(Issuer::weight),
            weight: 0,
        }
    }
}

impl Index {
    pub(super) fn land(&mut self, key: Key, flight: &Arc<Flight>) {
        if self.flights.get(&key).is_some_and(|current| Arc::ptr_eq(current, flight)) {
            self.flights.remove(&key);
        }
    }

    /// Adds an entry. Returns its slot, and the bytes of what entries share otherwise; none if there is no
    /// slot for it.
    pub(super) fn insert(&mut self, known: &Known) -> Option<(u32, usize)> {
        let slot = self.slots.add(known.clone())?;
        let member = known.member();
        for subject in concerning(member) {
            self.dependent.insert((self.hash(subject), slot));
        }
        let issuer = known.issuer().map_or(0, |issuer| self.issuers.enter(issuer));
        let sets = member.held.sets().map_or(0, |sets| self.sets.enter(sets));
        let unshared = self.held.enter(&member.held) + sets + self.rules.enter(&member.rules) + issuer;
        Some((slot, unshared))
    }

    pub(super) fn remove(&mut self, slot: u32, known: &Known) {
        self.slots.remove(slot);
        let member = known.member();
        for subject in concerning(member) {
            self.dependent.remove(&(self.hash(subject), slot));
        }
        self.held.leave(&member.held);
        if let Some(sets) = member.held.sets() {
            self.sets.leave(sets);
        }
        self.rules.leave(&member.rules);
        if let Some(issuer) = known.issuer() {
            self.issuers.leave(issuer);
        }
    }

    /// The keys that the change touches.
    pub(super) fn touched(&self, subject: Subject) -> Vec<Key> {
        match subject {
            Subject::Credential(id) => vec![id.into()],
            Subject::Account(id) => self.entries_of(subject).chain(of(&self.missing, id)).collect(),
            Subject::Org(_) | Subject::Owners(_) => self.entries_of(subject).collect(),
            Subject::Secret(..) | Subject::Invitation(_) | Subject::Issuer(_) | Subject::Keys => Vec::new(),
        }
    }

    /// The keys of the entries that depend on the subject.
    fn entries_of(&self, subject: Subject) -> impl Iterator<Item = Key> {
        let hash = self.hash(subject);
        let slots = self.dependent.range((hash, 0)..=(hash, u32::MAX)).map(|(_, slot)| *slot);
        let entries =
            slots.filter_map(|slot| self.slots.get(slot)).map(|known| (known.key(), known.member()));
        // Another account or org may have the same hash.
        entries.filter(move |(key, member)| concerns(subject, *key, member)).map(|(key, _)| key)
    }

    /// The hash of an account, an org, or the owners in one.
    pub(super) fn hash(&self, subject: Subject) -> u32 {
        let hash = match subject {
            Subject::Account(id) => self.hasher.hash_one(id),
            Subject::Org(id) => self.hasher.hash_one(id),
            Subject::Owners(id) => self.hasher.hash_one((id, "owners")),
            // No entry is found by these.
            _ => 0,
        };
        hash as u32
    }

    /// Whether nothing is left in it of an entry, or of an id that was missing.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.slots.len() == 0 && self.dependent.is_empty() && self.missing.is_empty()
    }
}

/// The keys that were found missing of an account.
fn of(missing: &BTreeSet<(AccountId, Key)>, of: AccountId) -> impl Iterator<Item = Key> {
    // The first key there is.
    let first = Key::Token(TokenId::from_u128(0));
    missing.range((of, first)..).take_while(move |(owner, _)| *owner == of).map(|(_, key)| *key)
}
