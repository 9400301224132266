//! Time and randomness, the two things that pure rules take as arguments.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

/// The time of this process. Clones share it; tests move it forward.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    ahead_micros: Arc<AtomicI64>,
}

impl Clock {
    /// Now, in UTC, whole microseconds: what the database keeps, so that a value
    /// that was written and one that was read compare equal.
    pub fn now(&self) -> OffsetDateTime {
        #[expect(clippy::disallowed_methods, reason = "this is where time enters")]
        let now = OffsetDateTime::now_utc();
        let now = now.replace_nanosecond(now.nanosecond() / 1_000 * 1_000).unwrap_or(now);
        now + time::Duration::microseconds(self.ahead_micros.load(Ordering::Relaxed))
    }

    /// Moves this clock and its clones forward.
    pub fn advance(&self, by: Duration) {
        self.ahead_micros.fetch_add(by.as_micros() as i64, Ordering::Relaxed);
    }

    /// A fresh UUIDv7 (RFC 9562): its first 48 bits are the time in milliseconds.
    pub fn new_id<T: From<Uuid>>(&self) -> T {
        let millis = (self.now().unix_timestamp_nanos() / 1_000_000) as u64;
        uuid::Builder::from_unix_timestamp_millis(millis, &random()).into_uuid().into()
    }
}

/// Random bytes of the operating system.
///
/// # Panics
/// When the operating system has none to give, which on the supported systems
/// does not happen after boot; going on without would be worse.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    #[expect(clippy::disallowed_methods, reason = "this is where randomness enters")]
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
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
        let part = f64::from(u32::from_le_bytes((self.0)())) / f64::from(u32::MAX);
        pause.mul_f64(0.8 + 0.4 * part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
