//! What bounds the life of credentials.

use std::time::Duration;

use time::OffsetDateTime;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a token lives when nothing else is asked for.
pub const DEFAULT_TOKEN_LIFE: Duration = DAY.saturating_mul(365);
/// The longest life that can be asked for.
pub const MAX_TOKEN_LIFE: Duration = DAY.saturating_mul(3_650);
/// How long an access token lives when nothing else is asked for.
pub const DEFAULT_ACCESS_TOKEN_LIFE: Duration = Duration::from_secs(5 * 60);
/// The longest life of an access token.
pub const MAX_ACCESS_TOKEN_LIFE: Duration = Duration::from_secs(60 * 60);
/// Live tokens of one account.
pub const MAX_LIVE_TOKENS: i64 = 100;
/// The most origins that the live tokens of an org name in all: every node keeps them in
/// memory, and no org takes that of the others.
pub const MAX_ORIGINS_OF_ORG: i64 = 10_000;
/// Labels of one token.
pub const MAX_LABELS: usize = 16;
/// Scopes, resources, audiences, networks, origins and grants in one list.
pub const MAX_LIST: usize = 100;

/// When a new token is to end, as it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiration {
    Unspecified,
    After(Duration),
    At(OffsetDateTime),
}

/// Why a token cannot end when it was asked to: the sentence after the field's name.
pub type Refusal = &'static str;

impl Expiration {
    /// After this long, where that is within the limits.
    pub fn after(life: Duration) -> Result<Self, Refusal> {
        if life < Duration::from_secs(1) {
            Err("must be at least 1 s")
        } else if life > MAX_TOKEN_LIFE {
            Err("must be at most 3 650 days")
        } else {
            Ok(Self::After(life))
        }
    }

    /// The time at which a token made now ends. `ceiling` is when the credential that
    /// makes it ends, where that bounds the new one: an asked-for life beyond it is
    /// refused, the default is cut to it.
    pub fn resolve(
        self,
        now: OffsetDateTime,
        ceiling: Option<OffsetDateTime>,
    ) -> Result<OffsetDateTime, Refusal> {
        let end = match self {
            Self::Unspecified => {
                let end = now + DEFAULT_TOKEN_LIFE;
                return Ok(ceiling.map_or(end, |ceiling| end.min(ceiling)));
            }
            Self::After(life) => now + life,
            Self::At(end) => end,
        };
        if end <= now {
            return Err("must be after now");
        }
        if end > now + MAX_TOKEN_LIFE {
            return Err("must be within 3 650 days");
        }
        if ceiling.is_some_and(|ceiling| end > ceiling) {
            return Err("must not be after the end of the credential that makes the token");
        }
        Ok(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_bounded() {
        let now = OffsetDateTime::UNIX_EPOCH + DAY * 20_000;
        let soon = now + DAY;
        let after = |seconds| Expiration::After(Duration::from_secs(seconds));
        assert_eq!(Expiration::Unspecified.resolve(now, None), Ok(now + DEFAULT_TOKEN_LIFE));
        assert_eq!(Expiration::Unspecified.resolve(now, Some(soon)), Ok(soon));
        assert_eq!(after(1).resolve(now, None), Ok(now + Duration::from_secs(1)));
        assert_eq!(Expiration::After(MAX_TOKEN_LIFE).resolve(now, None), Ok(now + MAX_TOKEN_LIFE));
        assert_eq!(Expiration::At(soon).resolve(now, Some(soon)), Ok(soon));
        assert!(Expiration::after(Duration::from_millis(999)).is_err());
        assert!(Expiration::after(MAX_TOKEN_LIFE + Duration::from_nanos(1)).is_err());
        assert_eq!(Expiration::after(MAX_TOKEN_LIFE), Ok(Expiration::After(MAX_TOKEN_LIFE)));
        for (asked, ceiling) in [
            (after(2 * 86_400), Some(soon)),
            (Expiration::At(now), None),
            (Expiration::At(now - DAY), None),
            (Expiration::At(now + MAX_TOKEN_LIFE + DAY), None),
            (Expiration::At(soon + DAY), Some(soon)),
        ] {
            assert!(asked.resolve(now, ceiling).is_err(), "{asked:?}");
        }
    }
}
