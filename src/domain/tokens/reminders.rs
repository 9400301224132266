//! When it is told that a token ends soon: 30, 7 and 1 days before, once each.

use time::{Duration, OffsetDateTime};

/// So many days before the end, the longest first.
pub const THRESHOLDS: [i32; 3] = [30, 7, 1];

/// The threshold to tell of now; none where nothing is due. `told` is the last one that was
/// told of, or need not be. After a while in which nobody looked it is the nearest alone, so
/// that nobody is told of the same end three times in a row.
pub fn due(end: OffsetDateTime, told: Option<i32>, now: OffsetDateTime) -> Option<i32> {
    if end <= now {
        return None;
    }
    let nearest = THRESHOLDS.into_iter().rev().find(|days| end - now <= days_long(*days))?;
    told.is_none_or(|told| nearest < told).then_some(nearest)
}

/// The last threshold that a token of this life need not be told of: whoever makes a token
/// for a week knows that it ends within a month. None where all count.
pub fn need_not(life: Duration) -> Option<i32> {
    THRESHOLDS.into_iter().rev().find(|days| life <= days_long(*days))
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
    fn each_threshold_is_told_of_once_and_only_the_nearest() {
        let second = Duration::SECOND;
        for (left, told, expected) in [
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
            // Nobody looked for a while, or the end came nearer.
            (Duration::days(3), None, Some(7)),
            (Duration::hours(3), Some(30), Some(1)),
        ] {
            assert_eq!(due(now() + left, told, now()), expected, "{left} {told:?}");
        }
    }

    #[test]
    fn a_short_life_needs_no_early_reminder() {
        let second = Duration::SECOND;
        for (life, expected) in [
            (second, Some(1)),
            (Duration::days(1), Some(1)),
            (Duration::days(1) + second, Some(7)),
            (Duration::days(30), Some(30)),
            (Duration::days(30) + second, None),
        ] {
            assert_eq!(need_not(life), expected, "{life}");
        }
    }

    proptest! {
        #[test]
        fn whoever_looks_whenever_tells_at_most_three_times_and_nearer_each_time(
            life in 1..5_000_000_i64,
            mut looks in prop::collection::vec(0..5_000_000_i64, 0..40),
        ) {
            looks.sort_unstable();
            let end = now() + Duration::seconds(life);
            let mut told = need_not(Duration::seconds(life));
            for look in looks {
                let time = now() + Duration::seconds(look);
                if let Some(days) = due(end, told, time) {
                    prop_assert!(told.is_none_or(|told| days < told) && time < end);
                    prop_assert!(end - time <= Duration::days(days.into()));
                    prop_assert!(Duration::seconds(life) > Duration::days(days.into()));
                    told = Some(days);
                    prop_assert_eq!(due(end, told, time), None);
                }
            }
        }
    }
}
