//! What the keys of issuers weigh, by org: whose keys give way when there are too many.

use std::collections::{BTreeSet, HashMap};

use crate::domain::values::ids::{IssuerId, OrgId};

/// How many issuers' keys are kept at most.
pub(super) const MAX_ISSUERS: usize = 10_000;
/// The most bytes that they take.
pub(super) const MAX_WEIGHT: usize = 64 << 20;

/// The weights of all entries.
#[derive(Debug, Default)]
pub(super) struct Weights {
    orgs: HashMap<OrgId, OfOrg>,
    /// The orgs, the heaviest last.
    by_weight: BTreeSet<(usize, OrgId)>,
    total: usize,
    count: usize,
}

#[derive(Debug, Default)]
struct OfOrg {
    weight: usize,
    issuers: HashMap<IssuerId, usize>,
}

impl Weights {
    /// Sets what the entry of an issuer weighs.
    pub(super) fn set(&mut self, org_id: OrgId, issuer_id: IssuerId, weight: usize) {
        self.change(org_id, |issuers| issuers.insert(issuer_id, weight), weight);
    }

    /// Removes the entry of an issuer.
    pub(super) fn remove(&mut self, org_id: OrgId, issuer_id: IssuerId) {
        self.change(org_id, |issuers| issuers.remove(&issuer_id), 0);
    }

    fn change(
        &mut self,
        org_id: OrgId,
        change: impl FnOnce(&mut HashMap<IssuerId, usize>) -> Option<usize>,
        weight: usize,
    ) {
        let of_org = self.orgs.entry(org_id).or_default();
        self.by_weight.remove(&(of_org.weight, org_id));
        let before = of_org.issuers.len();
        let weighed = change(&mut of_org.issuers).unwrap_or_default();
        self.count = self.count + of_org.issuers.len() - before;
        self.total = self.total + weight - weighed;
        of_org.weight = of_org.weight + weight - weighed;
        if of_org.issuers.is_empty() {
            self.orgs.remove(&org_id);
        } else {
            self.by_weight.insert((of_org.weight, org_id));
        }
    }

    /// Whether there are too many, or they weigh too much.
    pub(super) fn are_too_much(&self) -> bool {
        self.count > MAX_ISSUERS || self.total > MAX_WEIGHT
    }

    /// The issuer that gives way: of the org that has most, the one for which `used` is least. Not this one, which
    /// is the newest.
    pub(super) fn next_to_go<U: Ord>(
        &self,
        newest: IssuerId,
        used: impl Fn(IssuerId) -> U,
    ) -> Option<(OrgId, IssuerId)> {
        self.by_weight.iter().rev().find_map(|(_, org_id)| {
            let issuers = self.orgs.get(org_id)?.issuers.keys().copied();
            let others = issuers.filter(|issuer_id| *issuer_id != newest);
            Some((*org_id, others.min_by_key(|issuer_id| used(*issuer_id))?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn org(n: u128) -> OrgId {
        OrgId::from_u128(n)
    }

    fn issuer(n: u128) -> IssuerId {
        IssuerId::from_u128(n)
    }

    /// Removes what is too much, as if higher numbers were used later; the issuers that went.
    fn make_room(weights: &mut Weights, newest: u128) -> Vec<IssuerId> {
        let mut gone = Vec::new();
        while weights.are_too_much()
            && let Some((org_id, issuer_id)) = weights.next_to_go(issuer(newest), |issuer_id| issuer_id)
        {
            weights.remove(org_id, issuer_id);
            gone.push(issuer_id);
        }
        gone
    }

    #[test]
    fn an_org_with_much_makes_room_by_its_own() {
        let mut weights = Weights::default();
        // Others were used before all of it.
        for n in 0..100 {
            weights.set(org(2 + n), issuer(n), MAX_WEIGHT / 1_000);
        }
        let mut gone = Vec::new();
        for n in 1_000..1_100 {
            weights.set(org(1), issuer(n), MAX_WEIGHT / 40);
            gone.extend(make_room(&mut weights, n));
            assert!(!weights.are_too_much());
        }
        assert_eq!(gone, (1_000..1_064).map(issuer).collect::<Vec<_>>(), "its own, the oldest first");
        assert_eq!((weights.count, weights.orgs.len(), weights.by_weight.len()), (136, 101, 101));
        let sum: usize = weights.orgs.values().flat_map(|of_org| of_org.issuers.values()).sum();
        assert_eq!(weights.total, sum);
    }

    #[test]
    fn the_newest_stays_whatever_it_weighs() {
        let mut weights = Weights::default();
        weights.set(org(1), issuer(1), 10);
        weights.set(org(2), issuer(2), 2 * MAX_WEIGHT);
        assert_eq!(make_room(&mut weights, 2), [issuer(1)]);
        // What it weighs is counted anew, and no more than that.
        weights.set(org(2), issuer(2), 10);
        assert!(!weights.are_too_much());
        weights.remove(org(2), issuer(2));
        weights.remove(org(2), issuer(2));
        assert_eq!((weights.count, weights.total, weights.orgs.len(), weights.by_weight.len()), (0, 0, 0, 0));
    }

    #[test]
    fn so_many_issuers_are_kept() {
        let mut weights = Weights::default();
        for n in 0..MAX_ISSUERS as u128 {
            weights.set(org(n % 500), issuer(n), 1);
        }
        assert!(!weights.are_too_much());
        weights.set(org(3), issuer(1 << 20), 1);
        assert_eq!(make_room(&mut weights, 1 << 20), [issuer(3)]);
    }
}
