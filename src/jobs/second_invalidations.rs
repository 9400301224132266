//! Invalidations that are made a second time, where the database is a cluster.
//!
//! There a row of the feed can be visible some milliseconds before the worker commits the change that it is
//! about: a credential that is loaded in between is the old one. (`docs/operate/scale.md`)

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::domain::values::subject::Subject;

/// When an invalidation is repeated. A commit on a worker with a slow disk took 105 ms.
const DELAY: Duration = Duration::from_secs(2);

/// What is still to be invalidated a second time, the oldest first.
#[derive(Debug)]
pub(super) struct SecondInvalidations {
    /// Whether there are any: not on one PostgreSQL server.
    needed: bool,
    waiting: VecDeque<(Instant, Vec<Subject>)>,
}

impl SecondInvalidations {
    pub(super) fn new(needed: bool) -> Self {
        Self { needed, waiting: VecDeque::new() }
    }

    /// Notes what was invalidated now.
    pub(super) fn note(&mut self, subjects: &[Subject], now: Instant) {
        if self.needed && !subjects.is_empty() {
            self.waiting.push_back((now + DELAY, subjects.to_vec()));
        }
    }

    /// Takes out what is due.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Subject> {
        let mut due = Vec::new();
        while let Some((_, subjects)) = self.waiting.pop_front_if(|(at, _)| *at <= now) {
            due.extend(subjects);
        }
        due
    }

    /// How long until something is due, if anything waits.
    pub(super) fn pause(&self, now: Instant) -> Option<Duration> {
        self.waiting.front().map(|(at, _)| at.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::values::ids::OrgId;

    fn org(number: u128) -> Subject {
        Subject::from(OrgId::from_u128(number))
    }

    #[test]
    fn each_is_due_once_and_after_the_delay() {
        let mut seconds = SecondInvalidations::new(true);
        let now = Instant::now();
        seconds.note(&[org(1)], now);
        seconds.note(&[], now);
        seconds.note(&[org(2), org(3)], now + DELAY / 2);
        assert_eq!(seconds.pause(now), Some(DELAY));
        assert_eq!(seconds.take_due(now), []);
        assert_eq!(seconds.take_due(now + DELAY), [org(1)]);
        assert_eq!(seconds.take_due(now + DELAY), []);
        assert_eq!(seconds.take_due(now + 2 * DELAY), [org(2), org(3)]);
        assert_eq!(seconds.pause(now), None);
    }

    #[test]
    fn one_server_needs_none() {
        let mut seconds = SecondInvalidations::new(false);
        seconds.note(&[org(1)], Instant::now());
        assert_eq!(seconds.pause(Instant::now()), None);
    }
}
