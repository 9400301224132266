//! How often keys are fetched within a minute: by an org, by an org from a host, and from a host by all orgs.
//!
//! No org uses up what another one has. What all of them have of a host refuses an org only what is beyond its first
//! fetch of this host in the minute.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use time::OffsetDateTime;

use crate::domain::federation::fetching::{
    FETCHES_OF_HOST, FETCHES_OF_HOST_IN_ALL, FETCHES_OF_ORG, PROBES_OF_HOST, PROBES_OF_HOST_IN_ALL,
    PROBES_OF_ORG,
};
use crate::domain::values::ids::OrgId;
use crate::state::locks::lock;

/// How many minutes a clock has to be set back for the minute to be an earlier one: by less than that it only differs
/// from one look to the next.
const SET_BACK: i64 = 5;

/// What a fetch is for. Each has a budget of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To verify with.
    Use,
    /// To see what an issuer has that is to be made or changed.
    Probe,
}

/// The most within a minute.
struct Bounds {
    of_org: u32,
    of_host: u32,
    of_host_in_all: u32,
}

impl Purpose {
    const fn bounds(self) -> Bounds {
        match self {
            Self::Use => Bounds {
                of_org: FETCHES_OF_ORG,
                of_host: FETCHES_OF_HOST,
                of_host_in_all: FETCHES_OF_HOST_IN_ALL,
            },
            Self::Probe => Bounds {
                of_org: PROBES_OF_ORG,
                of_host: PROBES_OF_HOST,
                of_host_in_all: PROBES_OF_HOST_IN_ALL,
            },
        }
    }
}

/// The fetches of the present minute.
#[derive(Debug, Default)]
pub(super) struct Budget(Mutex<Minute>);

#[derive(Debug, Default)]
struct Minute {
    /// Since 1970.
    number: i64,
    fetches: Counted,
    probes: Counted,
}

#[derive(Debug, Default)]
struct Counted {
    orgs: HashMap<OrgId, u32>,
    /// By the org that asked.
    hosts: HashMap<(OrgId, String), u32>,
    /// By all of them.
    hosts_in_all: HashMap<String, u32>,
}

impl Minute {
    fn counted(&mut self, purpose: Purpose) -> &mut Counted {
        match purpose {
            Purpose::Use => &mut self.fetches,
            Purpose::Probe => &mut self.probes,
        }
    }
}

impl Budget {
    /// Whether an org may begin a fetch now. It is counted then.
    pub(super) fn begins(&self, org_id: OrgId, purpose: Purpose, now: OffsetDateTime) -> bool {
        let mut minute = self.minute(now);
        let of_org = minute.counted(purpose).orgs.entry(org_id).or_default();
        let may = *of_org < purpose.bounds().of_org;
        *of_org += u32::from(may);
        may
    }

    /// Whether a fetch that has begun may ask this host now. It is counted then: once for each fetch, however much it
    /// asks for.
    pub(super) fn asks(&self, org_id: OrgId, host: &str, purpose: Purpose, now: OffsetDateTime) -> bool {
        let bounds = purpose.bounds();
        let mut minute = self.minute(now);
        let counted = minute.counted(purpose);
        let of_host = counted.hosts.entry((org_id, host.to_owned())).or_default();
        let in_all = counted.hosts_in_all.entry(host.to_owned()).or_default();
        let may = *of_host == 0 || (*of_host < bounds.of_host && *in_all < bounds.of_host_in_all);
        *of_host += u32::from(may);
        *in_all = in_all.saturating_add(u32::from(may));
        may
    }

    /// The minute of this time, or the one that has begun already. No more are counted in it than were asked for:
    /// fetches of an org, and their hosts.
    fn minute(&self, now: OffsetDateTime) -> MutexGuard<'_, Minute> {
        let number = now.unix_timestamp().div_euclid(60);
        let mut minute = lock(&self.0);
        if minute.number < number || minute.number - number > SET_BACK {
            *minute = Minute { number, ..Minute::default() };
        }
        minute
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_795_000_020 + second).unwrap()
    }

    /// How many of a hundred fetches of an org from a host are allowed.
    fn allowed(budget: &Budget, org: u128, host: &str, purpose: Purpose, second: i64) -> usize {
        let org_id = OrgId::from_u128(org);
        let fetch =
            || budget.begins(org_id, purpose, at(second)) && budget.asks(org_id, host, purpose, at(second));
        (0..100).filter(|_| fetch()).count()
    }

    #[test]
    fn a_minute_has_so_many_fetches_of_an_org_and_of_an_org_from_a_host() {
        let budget = Budget::default();
        let allowed = |org, host: &str, second| allowed(&budget, org, host, Purpose::Use, second);
        assert_eq!(allowed(1, "a.example", 0), 10);
        // What one org has asked is nothing to another one.
        assert_eq!(
            (allowed(2, "a.example", 1), allowed(2, "b.example", 1)),
            (10, 0),
            "of a hundred 60 begin"
        );
        assert_eq!(allowed(3, "b.example", 1), 10);
        assert_eq!(allowed(1, "a.example", 60), 10);
        // Hosts of one org add up.
        let org_id = OrgId::from_u128(4);
        let begun = (0..100).filter(|_| budget.begins(org_id, Purpose::Use, at(61))).count();
        assert_eq!(begun, 60);
    }

    #[test]
    fn a_host_is_asked_by_every_org_once_and_not_without_a_bound() {
        let budget = Budget::default();
        let of = |org| allowed(&budget, org, "shared.example", Purpose::Use, 0);
        let first: Vec<_> = (0..30).map(of).collect();
        assert_eq!(first, [10; 30]);
        // The host is used up: another org has its first fetch, and no second one.
        assert_eq!((30..1_000).map(of).collect::<Vec<_>>(), [1; 970]);
    }

    #[test]
    fn a_time_of_the_minute_before_begins_no_minute() {
        let budget = Budget::default();
        let allowed = |second| allowed(&budget, 1, "a.example", Purpose::Use, second);
        assert_eq!(allowed(60), 10);
        // A fetch that began before it.
        assert_eq!((allowed(59), allowed(60), allowed(-240)), (0, 0, 0));
        // A clock that was set back stops nothing for long.
        assert_eq!((allowed(-3_600), allowed(-3_600)), (10, 0));
        assert_eq!(allowed(-3_540), 10);
    }

    #[test]
    fn what_is_only_tried_takes_nothing_from_what_is_used() {
        let budget = Budget::default();
        assert_eq!(allowed(&budget, 1, "a.example", Purpose::Probe, 0), 5);
        assert_eq!(allowed(&budget, 1, "a.example", Purpose::Use, 0), 10);
        let begun = (0..100).filter(|_| budget.begins(OrgId::from_u128(2), Purpose::Probe, at(0))).count();
        assert_eq!(begun, 20);
    }
}
