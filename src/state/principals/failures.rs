//! Failed authentications by address: a client that guesses is throttled before a guess costs a
//! query.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::domain::values::networks::neighbourhood;
use crate::error::{Error, Reason};

/// How many failures of one address are allowed within `WINDOW`.
const LIMIT: u32 = 100;
/// The time in which failures are counted.
const WINDOW: Duration = Duration::from_secs(10);
/// How many addresses are counted at once.
const MAX_ADDRESSES: usize = 50_000;

/// The counts.
#[derive(Default)]
pub struct Failures(Mutex<HashMap<IpAddr, (Instant, u32)>>);

impl Failures {
    /// Counts one more failure.
    pub fn note(&self, from: Option<IpAddr>) {
        let Some(from) = from.map(neighbourhood) else { return };
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= MAX_ADDRESSES && !counts.contains_key(&from) {
            counts.retain(|_, (since, _)| since.elapsed() < WINDOW);
            if counts.len() >= MAX_ADDRESSES {
                return;
            }
        }
        let count = counts.entry(from).or_insert_with(|| (Instant::now(), 0));
        if count.0.elapsed() >= WINDOW {
            *count = (Instant::now(), 0);
        }
        count.1 += 1;
    }

    /// Whether the address has to wait.
    pub fn are_too_many(&self, from: Option<IpAddr>) -> bool {
        let Some(from) = from.map(neighbourhood) else { return false };
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(&from).is_some_and(|(since, count)| *count > LIMIT && since.elapsed() < WINDOW)
    }

    /// The error for an address that has to wait.
    pub fn refusal() -> Error {
        Error::new(Reason::Throttled).retry_after(WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    #[test]
    fn the_hundred_and_first_failure_is_one_too_many() {
        let failures = Failures::default();
        let from = Some("192.0.2.1".parse().unwrap());
        for _ in 0..LIMIT {
            failures.note(from);
        }
        assert!(!failures.are_too_many(from));
        failures.note(from);
        assert!(
            failures.are_too_many(from) && failures.are_too_many(Some("::ffff:192.0.2.1".parse().unwrap()))
        );
        assert!(!failures.are_too_many(Some("192.0.2.2".parse().unwrap())) && !failures.are_too_many(None));
        for n in 0..=LIMIT {
            failures.note(Some(IpAddr::V6(Ipv6Addr::from_bits(1 << 64 | u128::from(n)))));
        }
        assert!(failures.are_too_many(Some("::1:ffff:0:0:0".parse().unwrap())));
        assert!(!failures.are_too_many(Some("::2:0:0:0:0".parse().unwrap())));
    }
}
