//! The sets of permissions that some grants carry.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, Hasher, RandomState};
use std::sync::LazyLock;

use super::steps;
use crate::domain::values::permissions::{Permission, PermissionSet};

/// From this many sets on, a permission is found in an index, and not in each set in turn.
const MANY_SETS: usize = 9;

/// What a grant carries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct HeldSet {
    pub permissions: PermissionSet,
    /// Also every application permission, named or not.
    pub applications: bool,
}

/// What is asked for.
#[derive(Clone, Copy)]
pub(super) enum Wanted<'a> {
    Permission(&'a Permission),
    /// Every permission of applications, also those that nothing names yet.
    EveryApplication,
}

/// Sets of permissions, each with a number, and which of them are held on the whole org.
///
/// Accounts with the same roles, each on a resource of its own, have the same and can share one.
#[derive(Debug)]
pub struct Sets {
    /// Each is held on some node.
    all: Box<[HeldSet]>,
    /// The numbers of those on the whole org, sorted.
    on_org: Box<[u32]>,
    /// The numbers of the sets that carry every application permission.
    with_applications: Box<[u32]>,
    /// The numbers of the sets that name a permission, where there are many.
    index: Option<HashMap<Permission, Vec<u32>>>,
    /// Of what is compared, and the bytes that they take: worked out once, and not under the lock of the cache.
    hash: u64,
    weight: usize,
}

impl Sets {
    /// These sets, numbered in this order; those with the numbers of `on_org`, which are sorted, on the whole org.
    pub(super) fn new(all: Vec<HeldSet>, on_org: Box<[u32]>) -> Self {
        static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        let numbered = || (0..).zip(&all);
        let with_applications = numbered().filter(|(_, set)| set.applications).map(|(n, _)| n).collect();
        let index = (all.len() >= MANY_SETS).then(|| {
            let mut index: HashMap<Permission, Vec<u32>> = HashMap::new();
            for (number, set) in numbered() {
                set.permissions.iter().for_each(|p| index.entry(p.clone()).or_default().push(number));
            }
            index
        });
        let hash = HASHER.hash_one((&all, &on_org));
        let mut sets = Self { all: all.into(), on_org, with_applications, index, hash, weight: 0 };
        sets.weight = sets.weigh();
        sets
    }

    /// The numbers of those on the whole org.
    pub(super) fn on_org(&self) -> &[u32] {
        &self.on_org
    }

    /// The sets in the order of their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &HeldSet)> {
        (0..).zip(&self.all)
    }

    /// The permissions that the set names.
    pub(super) fn named(&self, number: u32) -> &PermissionSet {
        &self.all[number as usize].permissions
    }

    /// Whether any of all sets has it.
    pub(super) fn have(&self, wanted: Wanted<'_>) -> bool {
        match (&self.index, wanted) {
            (Some(index), Wanted::Permission(permission)) => {
                let by_role = permission.is_application() && !self.with_applications.is_empty();
                by_role || index.contains_key(permission)
            }
            _ => (0..self.all.len()).any(|n| self.has(n as u32, wanted)),
        }
    }

    /// Whether one of these sets has it.
    pub(super) fn any_has(&self, numbers: &[u32], wanted: Wanted<'_>) -> bool {
        if let (Some(index), Wanted::Permission(permission)) = (&self.index, wanted) {
            let with = index.get(permission).map_or(&[][..], Vec::as_slice);
            return meet(numbers, with)
                || (permission.is_application() && meet(numbers, &self.with_applications));
        }
        numbers.iter().any(|n| self.has(*n, wanted))
    }

    /// Whether the set has it.
    pub(super) fn has(&self, number: u32, wanted: Wanted<'_>) -> bool {
        steps::count(1);
        let set = &self.all[number as usize];
        match wanted {
            Wanted::EveryApplication => set.applications,
            Wanted::Permission(one) => (set.applications && one.is_application()) || set.permissions.has(one),
        }
    }

    /// The bytes that they take.
    pub(crate) fn weight(&self) -> usize {
        self.weight
    }

    fn weigh(&self) -> usize {
        steps::count(self.all.len());
        let sets = self.all.iter().map(|set| size_of_val(set) + set.permissions.weight());
        let indexed = |numbers: &Vec<u32>| 64 + size_of_val(numbers.as_slice());
        let index = self.index.iter().flat_map(HashMap::values).map(indexed);
        let numbers = size_of_val(&*self.on_org) + size_of_val(&*self.with_applications);
        size_of::<Self>() + numbers + sets.sum::<usize>() + index.sum::<usize>()
    }
}

impl PartialEq for Sets {
    fn eq(&self, other: &Self) -> bool {
        // The rest follows from these.
        self.hash == other.hash && self.all == other.all && self.on_org == other.on_org
    }
}

impl Eq for Sets {}

impl Hash for Sets {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}

/// Whether two sorted lists have a number in common.
fn meet(a: &[u32], b: &[u32]) -> bool {
    let (few, many) = if a.len() < b.len() { (a, b) } else { (b, a) };
    steps::count(few.len());
    few.iter().any(|number| many.binary_search(number).is_ok())
}
