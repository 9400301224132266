//! How failed logins delay the next ones.
//!
//! Which accounts they concern, and over which nodes they are counted, is decided elsewhere: a
//! bucket counts for one name or one address.

use time::{Duration, OffsetDateTime};

use crate::domain::values::networks::Reach;

/// The period within which failures are counted together.
pub const WINDOW: Duration = Duration::minutes(15);
/// The longest back-off.
pub const LONGEST: Duration = Duration::minutes(15);
/// How long an address counts as known for an account after a successful login there.
pub const KNOWN_FOR: Duration = Duration::days(30);

/// The number of failures for one name that begins a back-off.
pub const NAME_LIMIT: usize = 5;
/// The number of failures for one network of this size that begins a back-off: many clients may
/// share one.
pub const fn address_limit(reach: Reach) -> usize {
    match reach {
        Reach::Host => 50,
        Reach::Home => 200,
        Reach::Site => 1_000,
    }
}

/// The failure counts for one name or one address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// The failures within the window, oldest first, until a back-off begins.
    pub failures: Vec<OffsetDateTime>,
    /// The number of failures since the back-off began.
    pub further: i32,
    /// Attempts before this time are refused unchecked. None if no back-off has begun.
    pub blocked_until: Option<OffsetDateTime>,
}

/// How long the back-off is after this many failures beyond the one that began it.
///
/// 1 s, twice as long each time, at most 15 minutes.
pub fn back_off(further: i32) -> Duration {
    let seconds = 1_i64.checked_shl(further.clamp(0, 62).unsigned_abs()).unwrap_or(i64::MAX);
    Duration::seconds(seconds).min(LONGEST)
}

impl Bucket {
    /// How long an attempt has to wait; none if it may be made now.
    pub fn wait(&self, now: OffsetDateTime) -> Option<Duration> {
        self.blocked_until.map(|end| end - now).filter(|wait| wait.is_positive())
    }

    /// Counts an attempt as a failure before its result is known.
    ///
    /// Call it only for an attempt that may be made. Returns whether a back-off begins with it.
    ///
    /// Counting first means that of many simultaneous attempts none goes uncounted.
    pub fn count(&mut self, limit: usize, now: OffsetDateTime) -> bool {
        if self.blocked_until.is_some_and(|end| now < end + WINDOW) {
            self.further = self.further.saturating_add(1);
            self.blocked_until = Some(now + back_off(self.further));
            return false;
        }
        self.failures.retain(|failure| now - *failure < WINDOW);
        self.failures.push(now);
        let begins = self.failures.len() >= limit;
        self.further = 0;
        self.blocked_until = begins.then(|| now + back_off(0));
        begins
    }

    /// Undoes the count of an attempt that succeeded.
    pub fn withdraw(&mut self, at: OffsetDateTime) {
        let last = self.blocked_until == Some(at + back_off(self.further));
        if let Some(place) = self.failures.iter().rposition(|failure| *failure == at) {
            self.failures.remove(place);
            if last && self.further == 0 {
                self.blocked_until = None;
            }
        } else if self.further > 0 {
            self.further -= 1;
            if last {
                // The earlier back-off was over, and must still be remembered.
                self.blocked_until = Some(at);
            }
        }
    }

    /// When the bucket can be dropped because it no longer affects anything.
    pub fn forgotten_at(&self) -> Option<OffsetDateTime> {
        self.blocked_until.max(self.failures.last().copied()).map(|last| last + WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + Duration::seconds(seconds)
    }

    #[test]
    fn a_back_off_doubles_to_a_quarter_of_an_hour() {
        for (further, seconds) in
            [(-1, 1), (0, 1), (1, 2), (2, 4), (5, 32), (9, 512), (10, 900), (31, 900), (i32::MAX, 900)]
        {
            assert_eq!(back_off(further), Duration::seconds(seconds), "{further}");
        }
    }

    #[test]
    fn attempts_over_time() {
        // When the attempt is made, and how long the next one then has to wait; for a refused
        // attempt, how long it has to wait itself.
        type Attempt = (i64, Result<i64, i64>);
        let cases: [(&str, &[Attempt]); 6] = [
            ("five", &[(0, Ok(0)), (1, Ok(0)), (2, Ok(0)), (3, Ok(0)), (4, Ok(1)), (4, Err(1)), (5, Ok(2))]),
            (
                "refused ones extend nothing",
                &[
                    (0, Ok(0)),
                    (0, Ok(0)),
                    (0, Ok(0)),
                    (0, Ok(0)),
                    (0, Ok(1)),
                    (0, Err(1)),
                    (0, Err(1)),
                    (1, Ok(2)),
                ],
            ),
            // The first is out of the window when the fifth comes.
            ("slowly", &[(0, Ok(0)), (300, Ok(0)), (600, Ok(0)), (890, Ok(0)), (900, Ok(0)), (901, Ok(1))]),
            (
                "to the longest",
                &[
                    (0, Ok(0)),
                    (0, Ok(0)),
                    (0, Ok(0)),
                    (0, Ok(0)),
                    (0, Ok(1)),
                    (10, Ok(2)),
                    (20, Ok(4)),
                    (30, Ok(8)),
                    (40, Ok(16)),
                    (60, Ok(32)),
                    (100, Ok(64)),
                    (200, Ok(128)),
                    (400, Ok(256)),
                    (700, Ok(512)),
                    (1_300, Ok(900)),
                    (2_199, Err(1)),
                    (2_200, Ok(900)),
                    (3_999, Ok(900)),
                ],
            ),
            (
                "forgotten a quarter of an hour after its end",
                &[(0, Ok(0)), (0, Ok(0)), (0, Ok(0)), (0, Ok(0)), (0, Ok(1)), (900, Ok(2)), (1_802, Ok(0))],
            ),
            (
                "one by one",
                &[(0, Ok(0)), (900, Ok(0)), (1_800, Ok(0)), (2_700, Ok(0)), (3_600, Ok(0)), (4_500, Ok(0))],
            ),
        ];
        for (name, attempts) in cases {
            let mut bucket = Bucket::default();
            for (i, (second, expected)) in attempts.iter().enumerate() {
                let now = at(*second);
                let got = match bucket.wait(now) {
                    Some(wait) => Err(wait.whole_seconds()),
                    None => {
                        bucket.count(NAME_LIMIT, now);
                        Ok(bucket.wait(now).unwrap_or_default().whole_seconds())
                    }
                };
                assert_eq!(got, *expected, "{name}: attempt {i}");
            }
        }
    }

    #[test]
    fn limits_of_networks() {
        let limits = |address: &str| -> Vec<usize> {
            let networks = crate::domain::values::networks::neighbourhoods(address.parse().unwrap());
            networks.into_iter().map(|network| address_limit(network.reach)).collect()
        };
        assert_eq!(limits("192.0.2.1"), [50]);
        assert_eq!(limits("2001:db8::1"), [50, 200, 1_000]);
    }

    #[test]
    fn a_back_off_begins_once() {
        let mut bucket = Bucket::default();
        let begins: Vec<bool> = (0..8).map(|n| bucket.count(NAME_LIMIT, at(100 * n))).collect();
        assert_eq!(begins, [false, false, false, false, true, false, false, false]);
        assert!(bucket.count(1, at(100_000)), "and again when it was forgotten");
    }

    #[test]
    fn a_success_leaves_what_was_there() {
        let counted = |times: &[i64]| {
            let mut bucket = Bucket::default();
            for second in times {
                bucket.count(NAME_LIMIT, at(*second));
            }
            bucket
        };
        for before in [&[][..], &[0], &[0, 1, 2, 3]] {
            let (mut bucket, expected) = (counted(before), counted(before));
            bucket.count(NAME_LIMIT, at(10));
            bucket.withdraw(at(10));
            assert_eq!(bucket, expected, "{before:?}");
        }
        // In a back-off the next failure waits as long as it would have.
        let mut bucket = counted(&[0, 0, 0, 0, 0, 5, 10]);
        bucket.count(NAME_LIMIT, at(20));
        bucket.withdraw(at(20));
        assert_eq!(bucket.wait(at(20)), None);
        bucket.count(NAME_LIMIT, at(21));
        assert_eq!(bucket.wait(at(21)), Some(Duration::seconds(8)));
        // An attempt that another one came after.
        let mut bucket = counted(&[0, 1, 2]);
        bucket.withdraw(at(1));
        assert_eq!(bucket, counted(&[0, 2]));
        let mut bucket = counted(&[0, 0, 0, 0, 0, 5, 10]);
        bucket.withdraw(at(5));
        assert_eq!((bucket.further, bucket.wait(at(10))), (1, Some(Duration::seconds(4))));
    }

    #[test]
    fn it_is_forgotten() {
        let mut bucket = Bucket::default();
        assert_eq!(bucket.forgotten_at(), None);
        bucket.count(NAME_LIMIT, at(0));
        assert_eq!(bucket.forgotten_at(), Some(at(900)));
        for _ in 0..4 {
            bucket.count(NAME_LIMIT, at(1));
        }
        assert_eq!(bucket.forgotten_at(), Some(at(902)));
    }
}
