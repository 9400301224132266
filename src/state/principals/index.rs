//! What is changed under the lock of the cache: the keys by what they depend on, and their order.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;

use super::entry::{Key, Known, concerns, names};
use super::shared::Shared;
use crate::domain::access::held::Held;
use crate::domain::access::member::Member;
use crate::domain::tokens::policy::Rules;
use crate::domain::values::ids::{AccountId, OrgId, TokenId};
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

/// The keys by what they depend on, and in the order in which they were added; and what entries share.
pub(super) struct Index {
    pub accounts: BTreeSet<(AccountId, Key)>,
    pub orgs: BTreeSet<(OrgId, Key)>,
    /// The keys that were found missing, by the account that they name.
    pub missing: BTreeSet<(AccountId, Key)>,
    /// The keys of an org whose rights depend on the resources that it names.
    pub owners: BTreeSet<(OrgId, Key)>,
    /// Those that were removed and added again are there more than once.
    pub order: VecDeque<Key>,
    pub flights: HashMap<Key, Arc<Flight>>,
    pub held: Shared<Held>,
    pub rules: Shared<Rules>,
    /// What all entries weigh, without what they share.
    pub weight: usize,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            accounts: BTreeSet::new(),
            orgs: BTreeSet::new(),
            missing: BTreeSet::new(),
            owners: BTreeSet::new(),
            order: VecDeque::new(),
            flights: HashMap::new(),
            held: Shared::new(Held::weight),
            rules: Shared::new(Rules::weight),
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

    /// Adds an entry. Returns the bytes of what entries share otherwise.
    pub(super) fn insert(&mut self, key: Key, member: &Member) -> usize {
        self.accounts.insert((member.account_id, key));
        self.orgs.insert((member.org_id, key));
        self.orgs.insert((member.home_org_id, key));
        if member.held.owns_something() {
            self.owners.insert((member.org_id, key));
        }
        self.held.enter(&member.held) + self.rules.enter(&member.rules)
    }

    pub(super) fn remove(&mut self, key: Key, member: &Member) {
        self.accounts.remove(&(member.account_id, key));
        self.orgs.remove(&(member.org_id, key));
        self.orgs.remove(&(member.home_org_id, key));
        self.owners.remove(&(member.org_id, key));
        self.held.leave(&member.held);
        self.rules.leave(&member.rules);
    }

    /// The keys that the change may touch.
    pub(super) fn touched(&self, subject: Subject) -> Vec<Key> {
        match subject {
            Subject::Credential(id) => vec![id.into()],
            Subject::Account(id) => of(&self.accounts, id).chain(of(&self.missing, id)).collect(),
            Subject::Org(id) => of(&self.orgs, id).collect(),
            Subject::Owners(id) => of(&self.owners, id).collect(),
            Subject::Secret(..) | Subject::Invitation(_) | Subject::Issuer(_) | Subject::Keys => Vec::new(),
        }
    }
}

/// The keys of one account or org.
fn of<K: Copy + Ord>(keys: &BTreeSet<(K, Key)>, of: K) -> impl Iterator<Item = Key> {
    // The first key there is.
    let first = Key::Token(TokenId::from_u128(0));
    keys.range((of, first)..).take_while(move |(owner, _)| *owner == of).map(|(_, key)| *key)
}

/// No code under these locks panics half-way.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
