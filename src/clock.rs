//! Time and randomness, which pure rules take as arguments.

use std::cell::RefCell;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use uuid::Uuid;

/// The clock of this process. Clones share its offset, with which tests move it forward.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    ahead_micros: Arc<AtomicI64>,
    /// The time of the newest id, in units of 1/4096 ms.
    newest_id: Arc<AtomicU64>,
    /// None: the system's time is added.
    stands_at: Option<OffsetDateTime>,
}

impl Clock {
    /// A clock that moves only by [`Clock::advance`], for tests of what seconds decide.
    pub fn standing() -> Self {
        Self { stands_at: Some(Self::default().now()), ..Self::default() }
    }

    /// The current time in UTC, in whole microseconds.
    ///
    /// This is the precision of the database, so that a value that was written equals the one that is read.
    pub fn now(&self) -> OffsetDateTime {
        #[expect(clippy::disallowed_methods, reason = "the only place that reads the time")]
        let now = self.stands_at.unwrap_or_else(OffsetDateTime::now_utc);
        let now = now.replace_nanosecond(now.nanosecond() / 1_000 * 1_000).unwrap_or(now);
        match self.ahead_micros.load(Ordering::Relaxed) {
            0 => now,
            ahead => now + time::Duration::microseconds(ahead),
        }
    }

    /// Moves this clock and its clones forward.
    pub fn advance(&self, by: Duration) {
        self.ahead_micros.fetch_add(by.as_micros() as i64, Ordering::Relaxed);
    }

    /// A clock that shows the same time now, and that is moved by itself: the clock of another machine.
    pub fn apart(&self) -> Self {
        let ahead = self.ahead_micros.load(Ordering::Relaxed);
        Self {
            ahead_micros: Arc::new(AtomicI64::new(ahead)),
            newest_id: Arc::default(),
            stands_at: self.stands_at,
        }
    }

    /// A new UUIDv7 (RFC 9562): 48 bits of milliseconds, 12 bits of their fraction, 62 random bits.
    ///
    /// The ids of one process ascend, so that events sort in the order in which they were written,
    /// also those of one transaction (section 6.2, method 3).
    pub fn new_id<T: From<Uuid>>(&self) -> T {
        let now = self.now();
        let (seconds, micros) = (now.unix_timestamp() as u64, u64::from(now.microsecond()));
        let now = seconds * 4_096_000 + micros * 4_096 / 1_000;
        let after = |newest: u64| now.max(newest + 1);
        let newest = self.newest_id.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| Some(after(n)));
        let (Ok(newest) | Err(newest)) = newest;
        let time = after(newest);
        let mut random = bulk_random();
        random[..2].copy_from_slice(&((time % 4_096) as u16).to_be_bytes());
        uuid::Builder::from_unix_timestamp_millis(time / 4_096, &random).into_uuid().into()
    }
}

/// Random bytes for an id, which this thread has fetched in bulk: a system call for each would cost
/// more than the id. Never for a secret.
fn bulk_random() -> [u8; 10] {
    const BULK: usize = 64;
    thread_local! {
        static FETCHED: RefCell<(usize, [u8; 10 * BULK])> = const { RefCell::new((BULK, [0; 10 * BULK])) };
    }
    FETCHED.with_borrow_mut(|(used, bytes)| {
        if *used == BULK {
            (*used, *bytes) = (0, random());
        }
        let next = std::array::from_fn(|i| bytes[*used * 10 + i]);
        *used += 1;
        next
    })
}

/// Random bytes of the operating system.
///
/// # Panics
/// When the operating system returns none. On the supported systems this does not happen after boot, and
/// continuing without them would be worse.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    #[expect(clippy::disallowed_methods, reason = "the only place that reads random bytes")]
    getrandom::fill(&mut bytes).expect("the operating system returns random bytes");
    bytes
}

/// Allows an action at most once in a period, however often any client causes it.
#[derive(Debug)]
pub struct OncePer {
    period: Duration,
    last: Mutex<Option<Instant>>,
}

impl OncePer {
    pub fn new(period: Duration) -> Self {
        Self { period, last: Mutex::default() }
    }

    /// Whether the action is allowed now. It is then refused for the period.
    pub fn may(&self) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let may = last.is_none_or(|last| last.elapsed() >= self.period);
        if may {
            *last = Some(Instant::now());
        }
        may
    }
}

/// How often something happened within the present period, as far as one word counts it: the number of the period
/// above, and the count below.
#[derive(Debug, Default)]
pub struct PerPeriod(AtomicU64);

impl PerPeriod {
    /// Counts one more, and says whether that is more than so many in the period with this number.
    pub fn is_more_than(&self, most: u64, period: u64) -> bool {
        const COUNT: u64 = u32::MAX as u64;
        let now = period << 32;
        let counted = |before: u64| Some(if before & !COUNT == now { before + 1 } else { now + 1 });
        let before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, counted).unwrap_or_default();
        before & !COUNT == now && before & COUNT >= most
    }
}

impl PerPeriod {
    /// Whether anything was counted in this period.
    pub fn is_in(&self, period: u64) -> bool {
        self.0.load(Ordering::Relaxed) >> 32 == period
    }
}

/// Spreads pauses before retries: nodes that failed at the same moment do not retry at the same
/// moment.
#[derive(Clone, Copy, Debug)]
pub struct Jitter(fn() -> [u8; 4]);

impl Default for Jitter {
    fn default() -> Self {
        Self(random)
    }
}

impl Jitter {
    /// With randomness from this function: tests know what it gives.
    pub const fn with(random: fn() -> [u8; 4]) -> Self {
        Self(random)
    }

    /// The pause, up to 20 % shorter or longer.
    pub fn spread(self, pause: Duration) -> Duration {
        self.within(pause, 0.2)
    }

    /// The duration, up to this part of it shorter or longer.
    pub fn within(self, duration: Duration, part: f64) -> Duration {
        let drawn = f64::from(u32::from_le_bytes((self.0)())) / f64::from(u32::MAX);
        duration.mul_f64(1.0 - part + 2.0 * part * drawn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_so_many_of_a_period_are_many() {
        let counted = PerPeriod::default();
        // Each period begins anew.
        for period in [0, 7, 8] {
            let many = [(); 5].map(|()| counted.is_more_than(3, period));
            assert_eq!(many, [false, false, false, true, true], "{period}");
        }
    }

    #[test]
    fn ids_ascend_also_when_time_stands_or_goes_back() {
        for clock in [Clock::default(), Clock::standing()] {
            let ids: Vec<Uuid> = (0..10_000).map(|_| clock.clone().new_id()).collect();
            assert!(ids.is_sorted_by(|one, next| one < next));
            assert!(
                ids.iter().all(|id| id.get_version_num() == 7 && id.get_variant() == uuid::Variant::RFC4122)
            );
            clock.ahead_micros.fetch_sub(60_000_000, Ordering::Relaxed);
            assert!(clock.new_id::<Uuid>() > ids[9_999]);
        }
    }

    #[test]
    fn an_id_begins_with_the_millisecond() {
        let clock = Clock::standing();
        let (seconds, nanos) = clock.new_id::<Uuid>().get_timestamp().unwrap().to_unix();
        let millis = (seconds * 1_000 + u64::from(nanos / 1_000_000)) as i128;
        assert_eq!(millis, clock.now().unix_timestamp_nanos() / 1_000_000);
    }

    #[test]
    fn once_in_a_period() {
        let (rare, frequent) = (OncePer::new(Duration::from_secs(3_600)), OncePer::new(Duration::ZERO));
        assert_eq!([rare.may(), rare.may(), rare.may()], [true, false, false]);
        assert_eq!([frequent.may(), frequent.may()], [true, true]);
    }

    #[test]
    fn a_pause_is_spread_by_a_fifth() {
        let pause = Duration::from_secs(10);
        let millis = |random| Jitter::with(random).spread(pause).as_millis();
        assert_eq!(millis(|| [0; 4]), 8_000);
        assert_eq!(millis(|| [u8::MAX; 4]), 12_000);
        assert_eq!(millis(|| (1_u32 << 31).to_le_bytes()), 10_000);
        let spread: std::collections::HashSet<_> =
            (0..100).map(|_| Jitter::default().spread(pause)).collect();
        assert!(spread.len() > 50, "{spread:?}");
    }
}
