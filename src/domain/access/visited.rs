//! How much of some rights was visited, which is bounded.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::alternatives::Alternatives;
use super::holdings::{Holdings, SetsAt};
use super::sets::Sets;
use super::steps;
use crate::domain::values::permissions::Permission;

/// What is known of the sets of permissions that were visited, and how many more names may be.
///
/// A thousand permissions on a thousand nodes are few bytes and a million names. So a set all of whose
/// names are held anyway is found once for all nodes that are alike in that, whichever other sets
/// they have; and where the rest is too much, the visit ends.
pub(super) struct Visited {
    left: usize,
    /// What is held anyway, numbered.
    held: HashMap<Vec<u32>, usize>,
    /// Whether a set names anything that is not held anyway.
    adds: HashMap<(SetId, usize), bool, RandomState>,
    /// Whether two sets name the same.
    equal: HashMap<(SetId, SetId), bool, RandomState>,
}

/// A set: the address of those that it is one of, and its number.
type SetId = (*const Sets, u32);

/// What another one holds on a node: its alternatives, and the sets of their parts.
pub(super) type OtherAt<'a> = (&'a Alternatives, &'a [Vec<SetsAt<'a>>]);

fn id(part: &Holdings, number: u32) -> SetId {
    (Arc::as_ptr(part.sets()), number)
}

impl Visited {
    /// At most so many names, and a few of the last set.
    pub(super) fn at_most(names: usize) -> Self {
        // Addresses and numbers are no caller's choice, so that a fast hash does.
        let (adds, equal) = (HashMap::default(), HashMap::default());
        Self { left: names, held: HashMap::new(), adds, equal }
    }

    /// The number of what is held anyway, on any node that is alike in that.
    pub(super) fn held(&mut self, key: Vec<u32>) -> usize {
        let next = self.held.len();
        *self.held.entry(key).or_insert(next)
    }

    /// Counts so many names more. None where they are too many.
    pub(super) fn count(&mut self, names: usize) -> Option<()> {
        steps::count(names);
        self.left = self.left.checked_sub(names)?;
        Some(())
    }

    /// Whether another one holds a set that names the same: an account is compared with itself, and with
    /// others that have its roles, without a look at each name on each node.
    fn is_had(&mut self, part: &Holdings, number: u32, (alternatives, at): OtherAt<'_>) -> Option<bool> {
        for (parts, sets) in alternatives.iter().zip(at) {
            let mut all = true;
            for (other, sets) in parts.iter().zip(sets) {
                if !all {
                    break;
                }
                all = false;
                for &its in sets.above.iter().chain([&sets.here]).copied().flatten() {
                    self.count(1)?;
                    if self.are_equal((part, number), (other, its))? {
                        all = true;
                        break;
                    }
                }
            }
            if all {
                return Some(true);
            }
        }
        Some(false)
    }

    fn are_equal(&mut self, one: (&Holdings, u32), other: (&Holdings, u32)) -> Option<bool> {
        let ids = (id(one.0, one.1), id(other.0, other.1));
        if let Some(known) = self.equal.get(&ids) {
            return Some(*known);
        }
        let (names, others) = (one.0.sets().named(one.1), other.0.sets().named(other.1));
        if names.len() == others.len() {
            self.count(names.len())?;
        }
        let equal = names == others;
        self.equal.insert(ids, equal);
        Some(equal)
    }

    /// Adds the names of these sets, without those of a set that names only what is held anyway.
    ///
    /// None where too many names were visited.
    pub(super) fn name<'a>(
        &mut self,
        part: &'a Holdings,
        numbers: &[u32],
        held: usize,
        is_held: impl Fn(&Permission) -> bool,
        other: Option<OtherAt<'_>>,
        named: &mut BTreeSet<&'a Permission>,
    ) -> Option<()> {
        for &number in numbers {
            let names = part.sets().named(number);
            let adds = match self.adds.get(&(id(part, number), held)) {
                Some(known) => *known,
                None => {
                    let is_had = match other {
                        Some(other) => self.is_had(part, number, other)?,
                        None => false,
                    };
                    let adds = !is_had && {
                        let first = names.iter().position(|name| !is_held(name));
                        self.count(first.unwrap_or(names.len()))?;
                        first.is_some()
                    };
                    self.adds.insert((id(part, number), held), adds);
                    adds
                }
            };
            if adds {
                self.count(names.len())?;
                named.extend(names.iter());
            }
        }
        Some(())
    }
}
