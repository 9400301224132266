//! Rotation: a token gets another secret, and the old one stays valid for a while.
//!
//! With this overlap the secret need not be replaced everywhere at the same moment.

use std::time::Duration;

use time::OffsetDateTime;

use super::secrets::Secret;
use crate::error::Reason;

/// How long the old secret stays valid when nothing else is requested.
pub const DEFAULT_OVERLAP: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest overlap.
pub const MAX_OVERLAP: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How far behind this node's clock that of another node may be.
const CLOCK_SKEW: time::Duration = time::Duration::seconds(60);

/// When a secret ends that is to end now: by the clock of every node.
///
/// A node whose clock is behind would otherwise accept it for that much longer.
pub fn ended_at(now: OffsetDateTime) -> OffsetDateTime {
    now - CLOCK_SKEW
}

/// The requested overlap; without a request 24 h.
///
/// # Errors
/// The sentence that follows the field's name.
pub fn overlap(asked: Option<time::Duration>) -> Result<Duration, &'static str> {
    let Some(asked) = asked else { return Ok(DEFAULT_OVERLAP) };
    match Duration::try_from(asked) {
        Ok(overlap) if overlap <= MAX_OVERLAP => Ok(overlap),
        _ => Err("must be 0 to 30 days"),
    }
}

/// The state of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretState {
    /// It is valid for as long as its token is.
    Active,
    /// It is valid until the overlap ends: another one replaces it.
    Retiring,
    /// It is no longer valid.
    Expired,
}

impl SecretState {
    /// The state of a secret that expires at this time, if it expires before its token.
    pub fn of(expire_time: Option<OffsetDateTime>, now: OffsetDateTime) -> Self {
        match expire_time {
            None => Self::Active,
            Some(end) if end > now => Self::Retiring,
            Some(_) => Self::Expired,
        }
    }
}

/// What a rotation does to the existing secrets.
#[derive(Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The number of the new secret.
    pub number: i32,
    /// The numbers of the secrets that expire, all at the same time.
    pub ending: Vec<i32>,
    /// When they expire.
    pub end: OffsetDateTime,
}

/// Decides about a rotation of an active token.
///
/// # Errors
/// `ROTATION_IN_PROGRESS` while two secrets are active, unless both are to expire at once.
pub fn rotate(
    secrets: &[Secret],
    overlap: Duration,
    now: OffsetDateTime,
    token_end: Option<OffsetDateTime>,
) -> Result<Rotation, Reason> {
    let ending: Vec<i32> = active(secrets, now).map(|secret| secret.number).collect();
    if ending.len() > 1 && !overlap.is_zero() {
        return Err(Reason::RotationInProgress);
    }
    let end = if overlap.is_zero() { ended_at(now) } else { now + overlap };
    // The database stores microseconds.
    let end = end.replace_nanosecond(end.nanosecond() / 1_000 * 1_000).unwrap_or(end);
    Ok(Rotation {
        number: secrets.iter().map(|secret| secret.number).max().unwrap_or(0) + 1,
        ending,
        end: token_end.map_or(end, |token_end| end.min(token_end)),
    })
}

/// A rotation in progress: both of its secrets are active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingRotation {
    /// The number of the secret that is retiring.
    pub old: i32,
    /// When it expires.
    pub end: OffsetDateTime,
    /// The number of the secret that replaces it.
    pub new: i32,
}

/// The rotation that is in progress, if any.
pub fn underway(secrets: &[Secret], now: OffsetDateTime) -> Option<PendingRotation> {
    let new = secrets.iter().find(|secret| secret.expire_time.is_none())?;
    let retiring = active(secrets, now).find_map(|secret| Some((secret.number, secret.expire_time?)));
    retiring.map(|(old, end)| PendingRotation { old, end, new: new.number })
}

/// What is revoked when a secret has leaked.
#[derive(Debug, PartialEq, Eq)]
pub enum Leak {
    /// The whole token.
    Token,
    /// Only the leaked secret: the other one stays valid for as long as the token is.
    Secret { revoked: i32, remaining: i32 },
}

/// Decides what to revoke of a token when secrets of it have leaked.
///
/// All secrets are given by their numbers: the active ones, the leaked ones, and those that the
/// token made by rotating itself. None if no leaked secret is active.
pub fn leak(active: &[i32], leaked: &[i32], made_by_itself: &[i32]) -> Option<Leak> {
    let (leaked_active, remaining): (Vec<i32>, Vec<i32>) =
        active.iter().partition(|number| leaked.contains(number));
    let first = *leaked_active.iter().min()?;
    // A client that had the leaked secret may have rotated the token with it, and so know the new
    // one.
    let is_known = |number: &i32| *number > first && made_by_itself.contains(number);
    Some(match (leaked_active[..].as_ref(), remaining[..].as_ref()) {
        (&[revoked], &[remaining]) if !is_known(&remaining) => Leak::Secret { revoked, remaining },
        _ => Leak::Token,
    })
}

fn active(secrets: &[Secret], now: OffsetDateTime) -> impl Iterator<Item = &Secret> {
    secrets.iter().filter(move |secret| !secret.is_expired(now))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::tokens::policy::tests::now;
    use crate::domain::tokens::secrets::SecretRecord;

    fn secret(number: i32, expire_time: Option<OffsetDateTime>) -> Secret {
        Secret { number, expire_time, proof: SecretRecord { mac: [0; 32], pepper: 1 }.into() }
    }

    /// What the handler writes: expired secrets are deleted, active ones get an expiry, the new one
    /// is added.
    fn apply(secrets: &mut Vec<Secret>, rotation: &Rotation, now: OffsetDateTime) {
        secrets.retain(|secret| !secret.is_expired(now));
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
    fn only_the_leaked_secret_is_revoked_if_it_could_not_make_the_other() {
        let only = |revoked, remaining| Some(Leak::Secret { revoked, remaining });
        for (active, leaked, made_by_itself, expected) in [
            (&[1][..], &[1][..], &[][..], Some(Leak::Token)),
            (&[1, 2], &[1], &[], only(1, 2)),
            (&[1, 2], &[2], &[], only(2, 1)),
            (&[1, 2], &[1, 2], &[], Some(Leak::Token)),
            (&[1, 2], &[1], &[2], Some(Leak::Token)),
            // The later secret does not reveal the earlier one.
            (&[1, 2], &[2], &[2], only(2, 1)),
            (&[2, 3], &[2], &[2], only(2, 3)),
            (&[2], &[1], &[], None),
            (&[], &[1], &[], None),
        ] {
            assert_eq!(
                leak(active, leaked, made_by_itself),
                expected,
                "{active:?} {leaked:?} {made_by_itself:?}"
            );
        }
    }

    #[test]
    fn a_second_secret_is_added_and_the_first_retires() {
        let (hour, end) = (Duration::from_secs(3_600), now() + time::Duration::hours(1));
        let one = [secret(1, None)];
        let rotated = |number, ending: &[i32], end| Ok(Rotation { number, ending: ending.to_vec(), end });
        assert_eq!(rotate(&one, hour, now(), None), rotated(2, &[1], end));
        assert_eq!(rotate(&one, Duration::ZERO, now(), None), rotated(2, &[1], ended_at(now())));
        // Never past the token's own expiry.
        let soon = now() + time::Duration::minutes(1);
        assert_eq!(rotate(&one, hour, now(), Some(soon)), rotated(2, &[1], soon));
        assert_eq!(rotate(&one, hour, now(), Some(end + time::Duration::HOUR)), rotated(2, &[1], end));
        // While two are active there is no third, unless both expire at once.
        let two = [secret(1, Some(end)), secret(2, None)];
        assert_eq!(rotate(&two, hour, now(), None), Err(Reason::RotationInProgress));
        assert_eq!(rotate(&two, Duration::from_nanos(1), now(), None), Err(Reason::RotationInProgress));
        assert_eq!(rotate(&two, Duration::ZERO, now(), None), rotated(3, &[1, 2], ended_at(now())));
        // At its expiry a secret is expired.
        assert_eq!(rotate(&two, hour, end, None), rotated(3, &[2], end + hour));
    }

    #[test]
    fn the_rotation_in_progress() {
        let end = now() + time::Duration::hours(1);
        let two = [secret(1, Some(end)), secret(2, None)];
        assert_eq!(underway(&two, now()), Some(PendingRotation { old: 1, end, new: 2 }));
        assert_eq!(underway(&two, end), None);
        assert_eq!(underway(&two[1..], now()), None);
        // A cancelled rotation: the new secret has expired, the old one has no expiry any more.
        assert_eq!(underway(&[secret(1, None), secret(2, Some(now()))], now()), None);
        assert_eq!(SecretState::of(None, now()), SecretState::Active);
        assert_eq!(SecretState::of(Some(end), now()), SecretState::Retiring);
        assert_eq!(SecretState::of(Some(end), end), SecretState::Expired);
    }

    proptest! {
        /// However it is rotated, finished and cancelled: at most two are active, exactly one of
        /// them has no expiry, no number is used twice, and few are stored.
        #[test]
        fn at_most_two_are_active(steps in prop::collection::vec((0u8..4, 0i64..7_200, 0u64..7_200), 0..40)) {
            let mut time = now();
            let token_end = now() + time::Duration::hours(20);
            let mut secrets = vec![secret(1, None)];
            let mut newest = 1;
            for (step, later, overlap) in steps {
                time += time::Duration::seconds(later);
                match (step, underway(&secrets, time)) {
                    (0, Some(found)) => {
                        secrets.iter_mut().find(|s| s.number == found.old).unwrap().expire_time = Some(ended_at(time));
                    }
                    (1, Some(found)) => {
                        secrets.iter_mut().find(|s| s.number == found.new).unwrap().expire_time = Some(ended_at(time));
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
                prop_assert!(active(&secrets, time).count() <= 2 && secrets.len() <= 3);
                prop_assert_eq!(secrets.iter().filter(|secret| secret.expire_time.is_none()).count(), 1);
            }
        }
    }
}
