//! What is changed under the lock of the cache: the keys by what they depend on, and their order.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;

use super::entry::{Key, Known, concerns, names};
use crate::domain::access::member::Member;
use crate::domain::values::ids::{AccountId, OrgId};
use crate::domain::values::subject::Subject;
use crate::error::Reason;

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

/// The keys by what they depend on, and in the order in which they were added.
#[derive(Default)]
pub(super) struct Index {
    pub accounts: HashMap<AccountId, HashSet<Key>>,
    pub orgs: HashMap<OrgId, HashSet<Key>>,
    /// The keys that were found missing, by the account that they name.
    pub missing: HashMap<AccountId, HashSet<Key>>,
    /// The keys of an org whose rights depend on the resources that it names.
    pub owners: HashMap<OrgId, HashSet<Key>>,
    pub order: VecDeque<Key>,
    /// The keys in that queue, each once.
    pub lined_up: HashSet<Key>,
    pub flights: HashMap<Key, Arc<Flight>>,
    /// What all entries weigh.
    pub weight: usize,
}

impl Index {
    pub(super) fn land(&mut self, key: Key, flight: &Arc<Flight>) {
        if self.flights.get(&key).is_some_and(|current| Arc::ptr_eq(current, flight)) {
            self.flights.remove(&key);
        }
    }

    pub(super) fn insert(&mut self, key: Key, member: &Member) {
        self.accounts.entry(member.account_id).or_default().insert(key);
        self.orgs.entry(member.org_id).or_default().insert(key);
        if member.home_org_id != member.org_id {
            self.orgs.entry(member.home_org_id).or_default().insert(key);
        }
        if member.owns_something() {
            self.owners.entry(member.org_id).or_default().insert(key);
        }
    }

    pub(super) fn remove(&mut self, key: Key, member: &Member) {
        forget(&mut self.accounts, member.account_id, key);
        forget(&mut self.orgs, member.org_id, key);
        forget(&mut self.orgs, member.home_org_id, key);
        forget(&mut self.owners, member.org_id, key);
    }

    /// Puts a key at the end of the queue, unless it is in the queue already.
    pub(super) fn line_up(&mut self, key: Key) {
        if self.lined_up.insert(key) {
            self.order.push_back(key);
        }
    }

    /// The keys that the change may touch.
    pub(super) fn touched(&self, subject: Subject) -> Vec<Key> {
        match subject {
            Subject::Credential(id) => vec![id.into()],
            Subject::Account(id) => {
                let found = self.accounts.get(&id).into_iter().flatten();
                found.chain(self.missing.get(&id).into_iter().flatten()).copied().collect()
            }
            Subject::Org(id) => self.orgs.get(&id).into_iter().flatten().copied().collect(),
            Subject::Owners(id) => self.owners.get(&id).into_iter().flatten().copied().collect(),
            Subject::Secret(..) | Subject::Invitation(_) | Subject::Keys => Vec::new(),
        }
    }
}

pub(super) fn forget<K: std::hash::Hash + Eq>(sets: &mut HashMap<K, HashSet<Key>>, of: K, key: Key) {
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
