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
    /// None: the system's time is added.
    stands_at: Option<OffsetDateTime>,
}

impl Clock {
    /// One that goes forward by [`Clock::advance`] alone, for tests of what seconds decide.
    pub fn standing() -> Self {
        Self { stands_at: Some(Self::default().now()), ..Self::default() }
    }

    /// Now, in UTC, whole microseconds: what the database keeps, so that a value
    /// that was written and one that was read compare equal.
    pub fn now(&self) -> OffsetDateTime {
        #[expect(clippy::disallowed_methods, reason = "this is where time enters")]
        let now = self.stands_at.unwrap_or_else(OffsetDateTime::now_utc);
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
