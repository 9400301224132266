//! What became of fetches, until it is stored.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::Notify;

use super::moment::Moment;
use crate::domain::federation::fetching::FetchOutcome;
use crate::domain::values::ids::{IssuerId, OrgId};
use crate::state::locks::lock;

/// What is to be stored of each issuer: the last set that was fetched, and why the last fetch failed.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    waiting: Mutex<HashMap<IssuerId, Waiting>>,
    /// Notified when there is another one.
    added: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    fetched: Option<FetchOutcome>,
    failed: Option<FetchOutcome>,
    /// Since when, and for how long, it is not tried again.
    pause: Option<(Moment, Duration)>,
}

impl Waiting {
    fn is_ready(&self, now: Moment) -> bool {
        self.pause.is_none_or(|(since, pause)| now.is_past(since, pause))
    }

    /// Adds an outcome: the later one of two counts, and each key that went is still reported.
    fn add(&mut self, mut outcome: FetchOutcome) {
        if outcome.result.is_err() {
            if self.failed.as_ref().is_none_or(|known| known.time <= outcome.time) {
                self.failed = Some(outcome);
            }
            return;
        }
        if let Some(mut known) = self.fetched.take() {
            if outcome.time < known.time {
                std::mem::swap(&mut outcome, &mut known);
            }
            outcome.gone.append(&mut known.gone);
        }
        // What failed before it is over.
        if self.failed.as_ref().is_some_and(|failed| failed.time <= outcome.time) {
            self.failed = None;
        }
        self.fetched = Some(outcome);
    }

    fn org_id(&self) -> Option<OrgId> {
        self.fetched.as_ref().or(self.failed.as_ref()).map(|outcome| outcome.org_id)
    }
}

impl Outcomes {
    /// Adds what became of a fetch.
    pub(super) fn add(&self, outcome: FetchOutcome) {
        lock(&self.waiting).entry(outcome.issuer_id).or_default().add(outcome);
        self.added.notify_one();
    }

    /// Done when there is another outcome.
    pub(super) async fn added(&self) {
        self.added.notified().await;
    }

    /// Takes all that is ready of one org, which is none of these; in the order in which it happened for each issuer.
    pub(super) fn take(&self, but: &HashSet<OrgId>, now: Moment) -> Option<(OrgId, Vec<FetchOutcome>)> {
        let mut waiting = lock(&self.waiting);
        let ready = |waiting: &Waiting| waiting.org_id().filter(|_| waiting.is_ready(now));
        let org_id = waiting.values().find_map(|one| ready(one).filter(|org_id| !but.contains(org_id)))?;
        let taken = waiting.extract_if(|_, one| ready(one) == Some(org_id));
        Some((org_id, taken.flat_map(|(_, one)| [one.fetched, one.failed]).flatten().collect()))
    }

    /// Takes back what was not stored, to be tried again after a pause.
    pub(super) fn put_back(&self, outcome: FetchOutcome, now: Moment, pause: Duration) {
        let mut waiting = lock(&self.waiting);
        let waiting = waiting.entry(outcome.issuer_id).or_default();
        waiting.add(outcome);
        waiting.pause = Some((now, pause));
    }

    /// Drops all of them.
    pub(super) fn clear(&self) {
        lock(&self.waiting).clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use time::OffsetDateTime;

    use super::*;
    use crate::domain::federation::fetching::{FetchError, FetchFacts};

    fn outcome(org: u128, issuer: u128, second: i64, result: Result<&[&str], FetchError>) -> FetchOutcome {
        let facts = |keys: &[&str]| FetchFacts {
            thumbprints: keys.iter().map(ToString::to_string).collect(),
            ..FetchFacts::default()
        };
        FetchOutcome {
            org_id: OrgId::from_u128(org),
            issuer_id: IssuerId::from_u128(issuer),
            version: 1,
            time: OffsetDateTime::from_unix_timestamp(second).unwrap(),
            result: result.map(facts),
            gone: [format!("went-at-{second}")].into(),
        }
    }

    fn at(second: i64) -> Moment {
        Moment { time: OffsetDateTime::from_unix_timestamp(second).unwrap(), instant: Instant::now() }
    }

    #[test]
    fn the_last_of_each_kind_is_stored_and_each_key_that_went() {
        let outcomes = Outcomes::default();
        outcomes.add(outcome(1, 1, 1, Err(FetchError::TimedOut)));
        outcomes.add(outcome(1, 1, 2, Ok(&["a"])));
        outcomes.add(outcome(1, 1, 3, Ok(&["b"])));
        outcomes.add(outcome(1, 1, 4, Err(FetchError::TooLarge)));
        // One that could not be stored, and is older.
        outcomes.put_back(outcome(1, 1, 0, Ok(&["z"])), at(10), Duration::ZERO);
        let (_, taken) = outcomes.take(&HashSet::new(), at(10)).unwrap();
        assert_eq!(taken.len(), 2);
        assert_eq!(taken[0].result.as_ref().unwrap().thumbprints, ["b"]);
        assert_eq!(taken[0].gone.iter().collect::<Vec<_>>(), ["went-at-0", "went-at-2", "went-at-3"]);
        assert_eq!(taken[1].result, Err(FetchError::TooLarge));
        assert!(outcomes.take(&HashSet::new(), at(10)).is_none());
    }

    #[test]
    fn orgs_are_taken_one_by_one_and_what_waits_waits() {
        let outcomes = Outcomes::default();
        for (org, issuer) in [(1, 1), (1, 2), (2, 3)] {
            outcomes.add(outcome(org, issuer, 1, Ok(&["a"])));
        }
        let (first, taken) = outcomes.take(&HashSet::new(), at(1)).unwrap();
        let busy = HashSet::from([first]);
        let (second, others) = outcomes.take(&busy, at(1)).unwrap();
        assert_eq!((taken.len() + others.len(), first == second), (3, false));
        // What could not be stored holds up nothing else, and is there after its pause.
        for outcome in taken.into_iter().chain(others) {
            let pause = if outcome.org_id == first { 5 } else { 0 };
            outcomes.put_back(outcome, at(1), Duration::from_secs(pause));
        }
        assert_eq!(outcomes.take(&HashSet::new(), at(2)).unwrap().0, second);
        assert!(outcomes.take(&HashSet::new(), at(2)).is_none());
        assert_eq!(outcomes.take(&HashSet::new(), at(6)).unwrap().0, first);
    }
}
