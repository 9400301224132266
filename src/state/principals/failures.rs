//! Failed authentications, by address and in all: from where too many come, ids that are not cached
//! are looked up in batches ([`super::batches`]), so that a guess takes no place from others.
//!
//! Counts decide how an id is looked up, and never whether: a secret that matches is not refused
//! for the failures of others. So they may be inexact, and are stored in a table of a fixed size,
//! in which two addresses may share a count.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::domain::values::client_address::ClientAddress;
use crate::domain::values::networks::{Neighbourhood, Reach};
use crate::error::{Error, Reason};

/// The time in which failures are counted.
const WINDOW: Duration = Duration::from_secs(10);
/// How many failures of a host are allowed within `WINDOW`.
const HOST_LIMIT: u32 = 100;
/// How many ids that do not exist may be looked up one by one within `WINDOW`, from all addresses.
const UNKNOWN_LIMIT: u32 = 1_000;
/// How many counts there are: 256 KiB.
const SLOTS: usize = 1 << 15;

/// How many failures of a network of this size are allowed within `WINDOW`.
const fn limit(reach: Reach) -> u32 {
    reach.hosts() * HOST_LIMIT
}

/// The counts.
pub struct Failures {
    slots: Box<[Slot]>,
    /// Keyed at random: no client can choose addresses that share a count with another one's.
    hasher: RandomState,
    /// Ids that were looked up and do not exist.
    unknown: Slot,
    began: Instant,
}

impl Default for Failures {
    fn default() -> Self {
        Self {
            slots: (0..SLOTS).map(|_| Slot::default()).collect(),
            hasher: RandomState::new(),
            unknown: Slot::default(),
            began: Instant::now(),
        }
    }
}

/// A count: when its window began, in milliseconds, and below that how many there were. One
/// word, so that counting neither waits nor allocates.
#[derive(Default)]
struct Slot(AtomicU64);

/// The bits of a slot that count.
const COUNT_BITS: u32 = 20;
const MAX_COUNT: u64 = (1 << COUNT_BITS) - 1;

impl Slot {
    fn count(&self, now: u64) {
        let counted = |slot: u64| {
            let (since, count) = (slot >> COUNT_BITS, slot & MAX_COUNT);
            Some(if count == 0 || is_over(since, now) {
                now << COUNT_BITS | 1
            } else {
                since << COUNT_BITS | (count + 1).min(MAX_COUNT)
            })
        };
        // It is never refused.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, counted);
    }

    fn exceeds(&self, limit: u32, now: u64) -> bool {
        let slot = self.0.load(Ordering::Relaxed);
        slot & MAX_COUNT > u64::from(limit) && !is_over(slot >> COUNT_BITS, now)
    }
}

/// Whether a window has ended.
fn is_over(since: u64, now: u64) -> bool {
    u128::from(now.saturating_sub(since)) >= WINDOW.as_millis()
}

impl Failures {
    /// Counts one more failure of an address, whatever it was.
    pub fn note(&self, from: ClientAddress) {
        let now = self.now();
        for (slot, _) in self.slots_of(from) {
            slot.count(now);
        }
    }

    /// Counts one more id that does not exist, wherever the request came from.
    pub fn note_unknown(&self) {
        self.unknown.count(self.now());
    }

    /// Whether too many failures came from the address.
    pub fn are_too_many(&self, from: ClientAddress) -> bool {
        let now = self.now();
        self.slots_of(from).any(|(slot, limit)| slot.exceeds(limit, now))
    }

    /// Whether an id from this address that is not cached is looked up in a batch.
    pub fn ask_for_batches(&self, from: ClientAddress) -> bool {
        self.unknown.exceeds(UNKNOWN_LIMIT, self.now()) || self.are_too_many(from)
    }

    /// The error for a secret that does not match, from an address with too many failures.
    pub fn refusal() -> Error {
        Error::new(Reason::Throttled).retry_after(WINDOW)
    }

    fn slots_of(&self, from: ClientAddress) -> impl Iterator<Item = (&Slot, u32)> {
        let host = from.shown().map(Neighbourhood::of_host);
        host.into_iter().flat_map(Neighbourhood::and_wider).map(|network| {
            let place = self.hasher.hash_one(network) as usize % SLOTS;
            (&self.slots[place], limit(network.reach))
        })
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::domain::values::client_address::ForwardedHeaders;

    fn from(address: &str) -> ClientAddress {
        ClientAddress::of_request(address.parse().unwrap(), &ForwardedHeaders::default(), &[])
    }

    /// Counts, of which no two networks of these addresses have the same one.
    fn without_shared_counts(addresses: &[ClientAddress]) -> Failures {
        let networks =
            addresses.iter().flat_map(|address| Neighbourhood::of_host(address.shown().unwrap()).and_wider());
        let networks = networks.collect::<HashSet<_>>().len();
        let counts = |failures: &Failures| {
            let slots = addresses.iter().flat_map(|address| failures.slots_of(*address));
            slots.map(|(slot, _)| std::ptr::from_ref(slot)).collect::<HashSet<_>>().len()
        };
        let mut tried = std::iter::repeat_with(Failures::default);
        tried.find(|failures| counts(failures) == networks).unwrap()
    }

    #[test]
    fn the_hundred_and_first_failure_is_one_too_many() {
        let failures = Failures::default();
        let host = from("192.0.2.1");
        for _ in 0..HOST_LIMIT {
            failures.note(host);
        }
        assert!(!failures.are_too_many(host));
        failures.note(host);
        assert!(failures.are_too_many(host) && failures.are_too_many(from("::ffff:192.0.2.1")));
        assert!(failures.ask_for_batches(host) && !failures.ask_for_batches(ClientAddress::UNKNOWN));
        assert!(!failures.are_too_many(ClientAddress::UNKNOWN));
    }

    #[test]
    fn networks_of_ipv6_are_counted_by_their_size() {
        for (step, limit) in [(0, 100), (1_u128 << 64, 400), (1 << 72, 2_000)] {
            let address = |n: u32| {
                let bits = (0x2001_0db8 << 96) | (step * u128::from(n % 25)) | u128::from(n);
                from(&std::net::Ipv6Addr::from_bits(bits).to_string())
            };
            let all: Vec<_> = (0..25).map(address).chain([from("2001:db9::1")]).collect();
            let failures = without_shared_counts(&all);
            for n in 0..limit {
                failures.note(address(n));
            }
            assert!(!failures.are_too_many(address(limit)), "{step:x}");
            failures.note(address(limit));
            assert!(failures.are_too_many(address(7)), "{step:x}");
            assert!(!failures.are_too_many(from("2001:db9::1")), "{step:x}");
        }
    }

    #[test]
    fn ids_that_do_not_exist_are_counted_for_all_addresses() {
        let failures = Failures::default();
        for _ in 0..=UNKNOWN_LIMIT {
            failures.note_unknown();
        }
        let other = from("192.0.2.9");
        assert!(failures.ask_for_batches(other) && failures.ask_for_batches(ClientAddress::UNKNOWN));
        assert!(!failures.are_too_many(other), "no client there has failed");
    }

    #[test]
    fn a_window_ends() {
        let slot = Slot::default();
        let end = WINDOW.as_millis() as u64;
        for now in [0, 0, 5] {
            slot.count(now);
        }
        assert!(slot.exceeds(2, end - 1) && !slot.exceeds(3, end - 1) && !slot.exceeds(0, end));
        slot.count(end);
        assert!(slot.exceeds(0, end) && !slot.exceeds(1, end));
        for _ in 0..=MAX_COUNT {
            slot.count(end);
        }
        assert!(slot.exceeds(u32::try_from(MAX_COUNT).unwrap() - 1, end) && !slot.exceeds(0, 2 * end));
    }
}
