//! When reminders that a token expires soon are sent: 30, 7 and 1 days before, once each.

use time::{Duration, OffsetDateTime};

/// The number of days before the expiry, the longest first.
pub const THRESHOLDS: [i32; 3] = [30, 7, 1];

/// The threshold for which a reminder is due now; none if nothing is due.
///
/// `last_notified` is the last threshold that was notified, or need not be. If the job has not run
/// for a while, only the nearest threshold is due, so that no account is notified of the same
/// expiry three times in a row.
pub fn due(end: OffsetDateTime, last_notified: Option<i32>, now: OffsetDateTime) -> Option<i32> {
    if end <= now {
        return None;
    }
    let nearest = THRESHOLDS.into_iter().rev().find(|days| end - now <= days_long(*days))?;
    last_notified.is_none_or(|last_notified| nearest < last_notified).then_some(nearest)
}

/// The last threshold that a token with this lifetime skips; none if all apply.
///
/// A caller that makes a token for a week knows that it expires within a month.
pub fn skipped_threshold(lifetime: Duration) -> Option<i32> {
    THRESHOLDS.into_iter().rev().find(|days| lifetime <= days_long(*days))
}

fn days_long(days: i32) -> Duration {
    Duration::days(days.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::tokens::policy::tests::now;

    #[test]
    fn each_threshold_is_notified_once_and_only_the_nearest() {
        let second = Duration::SECOND;
        for (left, last_notified, expected) in [
            (Duration::days(30) + second, None, None),
            (Duration::days(30), None, Some(30)),
            (Duration::days(30), Some(30), None),
            (Duration::days(7) + second, None, Some(30)),
            (Duration::days(7), Some(30), Some(7)),
            (Duration::days(2), Some(7), None),
            (Duration::days(1), Some(7), Some(1)),
            (second, Some(1), None),
            (Duration::ZERO, Some(7), None),
            (-second, None, None),
            // The job did not run for a while, or the expiry was brought forward.
            (Duration::days(3), None, Some(7)),
            (Duration::hours(3), Some(30), Some(1)),
        ] {
            assert_eq!(due(now() + left, last_notified, now()), expected, "{left} {last_notified:?}");
        }
    }

    #[test]
    fn a_short_lifetime_skips_early_reminders() {
        let second = Duration::SECOND;
        for (lifetime, expected) in [
            (second, Some(1)),
            (Duration::days(1), Some(1)),
            (Duration::days(1) + second, Some(7)),
            (Duration::days(30), Some(30)),
            (Duration::days(30) + second, None),
        ] {
            assert_eq!(skipped_threshold(lifetime), expected, "{lifetime}");
        }
    }

    proptest! {
        #[test]
        fn at_most_three_reminders_are_due_and_each_is_nearer(
            lifetime in 1..5_000_000_i64,
            mut runs in prop::collection::vec(0..5_000_000_i64, 0..40),
        ) {
            runs.sort_unstable();
            let end = now() + Duration::seconds(lifetime);
            let mut last_notified = skipped_threshold(Duration::seconds(lifetime));
            for run in runs {
                let time = now() + Duration::seconds(run);
                if let Some(days) = due(end, last_notified, time) {
                    prop_assert!(last_notified.is_none_or(|last_notified| days < last_notified) && time < end);
                    prop_assert!(end - time <= Duration::days(days.into()));
                    prop_assert!(Duration::seconds(lifetime) > Duration::days(days.into()));
                    last_notified = Some(days);
                    prop_assert_eq!(due(end, last_notified, time), None);
                }
            }
        }
    }
}
