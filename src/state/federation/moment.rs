//! Moments by two clocks: that of the wall, which may be set back, and one that only goes on.

use std::time::{Duration, Instant};

use time::OffsetDateTime;

/// A moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub time: OffsetDateTime,
    pub instant: Instant,
}

impl Moment {
    /// Whether so much time has passed since then, by one of the clocks: one that was set back stops nothing.
    pub(super) fn is_past(self, since: Self, pause: Duration) -> bool {
        self.time >= since.time + pause || self.instant.saturating_duration_since(since.instant) >= pause
    }
}

/// In microseconds since 1970: as exact as the database.
pub(super) fn micros(time: OffsetDateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_stops_nothing() {
        let began = Moment { time: OffsetDateTime::UNIX_EPOCH, instant: Instant::now() };
        let after = |wall: i64, steady: u64| Moment {
            time: began.time + time::Duration::seconds(wall),
            instant: began.instant + Duration::from_secs(steady),
        };
        for (wall, steady, expected) in [
            (0, 0, false),
            (9, 9, false),
            (10, 10, true),
            (-3_600, 9, false),
            (-3_600, 10, true),
            (10, 0, true),
        ] {
            assert_eq!(
                after(wall, steady).is_past(began, Duration::from_secs(10)),
                expected,
                "{wall} {steady}"
            );
        }
    }
}
