//! How often keys are fetched: for an org, and from a host, within a minute.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use time::OffsetDateTime;

use crate::domain::federation::fetching::{FETCHES_OF_HOST, FETCHES_OF_ORG};
use crate::domain::values::ids::OrgId;

/// The fetches of the present minute.
#[derive(Debug, Default)]
pub(super) struct Budget(Mutex<Minute>);

#[derive(Debug, Default)]
struct Minute {
    /// Since 1970.
    number: i64,
    orgs: HashMap<OrgId, u32>,
    hosts: HashMap<String, u32>,
}

impl Budget {
    /// Whether an org may have keys fetched from a host now. It is counted then.
    pub(super) fn allows(&self, org_id: OrgId, host: &str, now: OffsetDateTime) -> bool {
        let number = now.unix_timestamp().div_euclid(60);
        let mut minute = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if minute.number != number {
            // No more are stored than were fetched within a minute.
            *minute = Minute { number, ..Minute::default() };
        }
        let of_org = minute.orgs.get(&org_id).copied().unwrap_or_default();
        let of_host = minute.hosts.get(host).copied().unwrap_or_default();
        if of_org >= FETCHES_OF_ORG || of_host >= FETCHES_OF_HOST {
            return false;
        }
        minute.orgs.insert(org_id, of_org + 1);
        minute.hosts.insert(host.to_owned(), of_host + 1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_has_so_many_fetches_of_an_org_and_from_a_host() {
        let budget = Budget::default();
        let at = |second: i64| OffsetDateTime::from_unix_timestamp(1_795_000_020 + second).unwrap();
        let allowed = |org: u128, host: &str, second| {
            (0..100).filter(|_| budget.allows(OrgId::from_u128(org), host, at(second))).count()
        };
        assert_eq!(allowed(1, "a.example", 0), 10);
        // Another org is not served from the same host, either; it is from another.
        assert_eq!((allowed(2, "a.example", 1), allowed(2, "b.example", 1)), (0, 10));
        let hosts: usize = (0..10).map(|n| allowed(1, &format!("{n}.example"), 2)).sum();
        assert_eq!(hosts, 50);
        assert_eq!(allowed(1, "a.example", 60), 10);
    }
}
