//! Rotation: a token gets another secret, and the old one goes on for a while, so that
//! nobody has to change it everywhere in one moment.

use std::time::Duration;

use time::OffsetDateTime;

use super::secrets::Secret;
use crate::error::Reason;

/// How long the old secret goes on when nothing else is asked for.
pub const DEFAULT_OVERLAP: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest that it may.
pub const MAX_OVERLAP: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The overlap that was asked for; none = 24 h. The error is the sentence after the
/// field's name.
pub fn overlap(asked: Option<time::Duration>) -> Result<Duration, &'static str> {
    let Some(asked) = asked else { return Ok(DEFAULT_OVERLAP) };
    match Duration::try_from(asked) {
        Ok(overlap) if overlap <= MAX_OVERLAP => Ok(overlap),
        _ => Err("must be 0 to 30 days"),
    }
}

/// Where a secret is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretState {
    /// It works for as long as its token does.
    Active,
    /// It works until the overlap ends: another one takes its place.
    Retiring,
    /// It has ended.
    Expired,
}

impl SecretState {
    /// The state of a secret that ends then, if before its token does.
    pub fn of(expire_time: Option<OffsetDateTime>, now: OffsetDateTime) -> Self {
        match expire_time {
            None => Self::Active,
            Some(end) if end > now => Self::Retiring,
            Some(_) => Self::Expired,
        }
    }
}

/// What a rotation does to the secrets that are there.
#[derive(Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The number of the new one.
    pub number: i32,
    /// The ones that end, all at once.
    pub ending: Vec<i32>,
    /// When they end.
    pub end: OffsetDateTime,
}

/// Decides about a rotation of a live token.
///
/// # Errors
/// `ROTATION_IN_PROGRESS` while two live, unless both are to end at once.
pub fn rotate(
    secrets: &[Secret],
    overlap: Duration,
    now: OffsetDateTime,
    token_end: Option<OffsetDateTime>,
) -> Result<Rotation, Reason> {
    let ending: Vec<i32> = live(secrets, now).map(|secret| secret.number).collect();
    if ending.len() > 1 && !overlap.is_zero() {
        return Err(Reason::RotationInProgress);
    }
    let end = now + overlap;
    // What is kept has microseconds.
    let end = end.replace_nanosecond(end.nanosecond() / 1_000 * 1_000).unwrap_or(end);
    Ok(Rotation {
        number: secrets.iter().map(|secret| secret.number).max().unwrap_or(0) + 1,
        ending,
        end: token_end.map_or(end, |token_end| end.min(token_end)),
    })
}

/// A rotation whose two secrets both live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Underway {
    /// The number of the secret that is retiring.
    pub old: i32,
    /// When it retires.
    pub end: OffsetDateTime,
    /// The number of the one that takes its place.
    pub new: i32,
}

/// The rotation that is under way, if one is.
pub fn underway(secrets: &[Secret], now: OffsetDateTime) -> Option<Underway> {
    let new = secrets.iter().find(|secret| secret.expire_time.is_none())?;
    let retiring = live(secrets, now).find_map(|secret| Some((secret.number, secret.expire_time?)));
    retiring.map(|(old, end)| Underway { old, end, new: new.number })
}

/// What goes when a secret has leaked.
#[derive(Debug, PartialEq, Eq)]
pub enum Leak {
    /// The whole token.
    Token,
    /// The leaked secret alone: the other one goes on, as long as the token does.
    Secret { ended: i32, left: i32 },
}

/// Decides what goes of a token when secrets of it have leaked. All are given by their
/// numbers: those that live, those that leaked, those that the token made by rotating
/// itself. None when none that leaked lives.
pub fn leak(live: &[i32], leaked: &[i32], made_by_itself: &[i32]) -> Option<Leak> {
    let (gone, left): (Vec<i32>, Vec<i32>) = live.iter().partition(|number| leaked.contains(number));
    let first = *gone.iter().min()?;
    // Whoever had the leaked one may have rotated the token with it, and know what came of that.
    let is_known = |number: &i32| *number > first && made_by_itself.contains(number);
    Some(match (gone[..].as_ref(), left[..].as_ref()) {
        (&[ended], &[left]) if !is_known(&left) => Leak::Secret { ended, left },
        _ => Leak::Token,
    })
}

fn live(secrets: &[Secret], now: OffsetDateTime) -> impl Iterator<Item = &Secret> {
    secrets.iter().filter(move |secret| !secret.has_ended(now))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::tokens::policy::tests::now;
    use crate::domain::tokens::secrets::SecretRecord;

    fn secret(number: i32, expire_time: Option<OffsetDateTime>) -> Secret {
        Secret { number, expire_time, record: SecretRecord { mac: Vec::new(), pepper: 1 } }
    }

    /// What the handler writes: those that have ended go, the live ones get an end, the new one comes.
    fn apply(secrets: &mut Vec<Secret>, rotation: &Rotation, now: OffsetDateTime) {
        secrets.retain(|secret| !secret.has_ended(now));
        for secret in secrets.iter_mut().filter(|secret| rotation.ending.contains(&secret.number)) {
            secret.expire_time = Some(rotation.end);
        }
        secrets.push(secret(rotation.number, None));
    }

    #[test]
    fn an_overlap_is_bounded() {
        let days = time::Duration::days;
        assert_eq!(overlap(None), Ok(DEFAULT_OVERLAP));
        assert_eq!(overlap(Some(time::Duration::ZERO)), Ok(Duration::ZERO));
        assert_eq!(overlap(Some(days(30))), Ok(MAX_OVERLAP));
        for wrong in [days(30) + time::Duration::NANOSECOND, -time::Duration::NANOSECOND, days(-1), days(99)]
        {
            assert!(overlap(Some(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_leaked_secret_goes_alone_where_another_lives_that_it_could_not_make() {
        let alone = |ended, left| Some(Leak::Secret { ended, left });
        for (live, leaked, made_by_itself, expected) in [
            (&[1][..], &[1][..], &[][..], Some(Leak::Token)),
            (&[1, 2], &[1], &[], alone(1, 2)),
            (&[1, 2], &[2], &[], alone(2, 1)),
            (&[1, 2], &[1, 2], &[], Some(Leak::Token)),
            (&[1, 2], &[1], &[2], Some(Leak::Token)),
            // What was there before is not known by the one that came after it.
            (&[1, 2], &[2], &[2], alone(2, 1)),
            (&[2, 3], &[2], &[2], alone(2, 3)),
            (&[2], &[1], &[], None),
            (&[], &[1], &[], None),
        ] {
            assert_eq!(
                leak(live, leaked, made_by_itself),
                expected,
                "{live:?} {leaked:?} {made_by_itself:?}"
            );
        }
    }

    #[test]
    fn a_second_one_comes_and_the_first_retires() {
        let (hour, end) = (Duration::from_secs(3_600), now() + time::Duration::hours(1));
        let one = [secret(1, None)];
        let rotated = |number, ending: &[i32], end| Ok(Rotation { number, ending: ending.to_vec(), end });
        assert_eq!(rotate(&one, hour, now(), None), rotated(2, &[1], end));
        assert_eq!(rotate(&one, Duration::ZERO, now(), None), rotated(2, &[1], now()));
        // Never past the token's own end.
        let soon = now() + time::Duration::minutes(1);
        assert_eq!(rotate(&one, hour, now(), Some(soon)), rotated(2, &[1], soon));
        assert_eq!(rotate(&one, hour, now(), Some(end + time::Duration::HOUR)), rotated(2, &[1], end));
        // While two live there is no third, unless both end.
        let two = [secret(1, Some(end)), secret(2, None)];
        assert_eq!(rotate(&two, hour, now(), None), Err(Reason::RotationInProgress));
        assert_eq!(rotate(&two, Duration::from_nanos(1), now(), None), Err(Reason::RotationInProgress));
        assert_eq!(rotate(&two, Duration::ZERO, now(), None), rotated(3, &[1, 2], now()));
        // The end itself is over.
        assert_eq!(rotate(&two, hour, end, None), rotated(3, &[2], end + hour));
    }

    #[test]
    fn what_is_under_way() {
        let end = now() + time::Duration::hours(1);
        let two = [secret(1, Some(end)), secret(2, None)];
        assert_eq!(underway(&two, now()), Some(Underway { old: 1, end, new: 2 }));
        assert_eq!(underway(&two, end), None);
        assert_eq!(underway(&two[1..], now()), None);
        // A cancelled one: the new secret has ended, the old one has no end any more.
        assert_eq!(underway(&[secret(1, None), secret(2, Some(now()))], now()), None);
        assert_eq!(SecretState::of(None, now()), SecretState::Active);
        assert_eq!(SecretState::of(Some(end), now()), SecretState::Retiring);
        assert_eq!(SecretState::of(Some(end), end), SecretState::Expired);
    }

    proptest! {
        /// However it is rotated, finished and cancelled: at most two live, exactly one of
        /// them without an end, no number comes twice, and few are kept.
        #[test]
        fn at_most_two_live(steps in prop::collection::vec((0u8..4, 0i64..7_200, 0u64..7_200), 0..40)) {
            let mut time = now();
            let token_end = now() + time::Duration::hours(20);
            let mut secrets = vec![secret(1, None)];
            let mut newest = 1;
            for (step, later, overlap) in steps {
                time += time::Duration::seconds(later);
                match (step, underway(&secrets, time)) {
                    (0, Some(found)) => {
                        secrets.iter_mut().find(|s| s.number == found.old).unwrap().expire_time = Some(time);
                    }
                    (1, Some(found)) => {
                        secrets.iter_mut().find(|s| s.number == found.new).unwrap().expire_time = Some(time);
                        secrets.iter_mut().find(|s| s.number == found.old).unwrap().expire_time = None;
                    }
                    (_, found) => {
                        match rotate(&secrets, Duration::from_secs(overlap), time, Some(token_end)) {
                            Ok(rotation) => {
                                prop_assert!(found.is_none() || overlap == 0);
                                prop_assert!(rotation.end <= token_end && rotation.number == newest + 1);
                                newest = rotation.number;
                                apply(&mut secrets, &rotation, time);
                            }
                            Err(_) => prop_assert!(found.is_some() && overlap > 0),
                        }
                    }
                }
                prop_assert!(live(&secrets, time).count() <= 2 && secrets.len() <= 3);
                prop_assert_eq!(secrets.iter().filter(|secret| secret.expire_time.is_none()).count(), 1);
            }
        }
    }
}
