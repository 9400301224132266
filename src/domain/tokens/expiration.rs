//! When a new token expires: what was requested, within what the org's policy allows.

use std::borrow::Cow;
use std::time::Duration;

use time::OffsetDateTime;

use super::limits::MAX_TOKEN_LIFE;
use super::policy::Rules;
use crate::domain::values::kinds::TokenKind;

/// When a new token is to expire, as it was requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiration {
    Unspecified,
    After(Duration),
    At(OffsetDateTime),
    Never,
}

/// Why the requested expiry is refused: the sentence after the field's name.
pub(crate) type Refusal = Cow<'static, str>;

impl Expiration {
    /// After this long, where that is within the limits of every policy.
    pub(crate) fn after(life: Duration) -> Result<Self, &'static str> {
        if life < Duration::from_secs(1) {
            Err("must be at least 1 s")
        } else if life > MAX_TOKEN_LIFE {
            Err("must be at most 3 650 days")
        } else {
            Ok(Self::After(life))
        }
    }

    /// The field that asks for it.
    pub(crate) fn field(self) -> &'static str {
        match self {
            Self::Unspecified | Self::After(_) => "ttl",
            Self::At(_) => "expire_time",
            Self::Never => "never_expires",
        }
    }

    /// The time at which a token of this kind that is made now expires; none where it never does.
    ///
    /// `ceiling` is when the credential that makes it expires, where that bounds the new one. A
    /// requested lifetime beyond it, or beyond what the policy allows, is refused; the default is
    /// cut to both.
    pub(crate) fn resolve(
        self,
        kind: TokenKind,
        rules: &Rules,
        now: OffsetDateTime,
        ceiling: Option<OffsetDateTime>,
    ) -> Result<Option<OffsetDateTime>, Refusal> {
        const OUTLIVES: &str = "must not be after the end of the credential that makes the token";
        let end = match self {
            Self::Unspecified => {
                let end = now + rules.default_lifetime.min(rules.max_lifetime(kind));
                return Ok(Some(ceiling.map_or(end, |ceiling| end.min(ceiling))));
            }
            Self::Never if !rules.endless => {
                return Err("is not allowed: by the org's policy every token has an end".into());
            }
            Self::Never if ceiling.is_some() => return Err(OUTLIVES.into()),
            Self::Never => return Ok(None),
            Self::After(life) => now + life,
            Self::At(end) => end,
        };
        if end <= now {
            return Err("must be after now".into());
        }
        rules.may_end(kind, now, end)?;
        if ceiling.is_some_and(|ceiling| end > ceiling) {
            return Err(OUTLIVES.into());
        }
        Ok(Some(end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::tokens::limits::{DAY, DEFAULT_TOKEN_LIFE};
    use crate::domain::tokens::policy::{Ceilings, TokenPolicy};

    #[test]
    fn a_life_is_bounded() {
        let now = OffsetDateTime::UNIX_EPOCH + DAY * 20_000;
        let soon = now + DAY;
        let rules = TokenPolicy::default().within(&Ceilings::default());
        let resolve = |asked: Expiration, ceiling| asked.resolve(TokenKind::Secret, &rules, now, ceiling);
        let after = |seconds| Expiration::After(Duration::from_secs(seconds));
        assert_eq!(resolve(Expiration::Unspecified, None), Ok(Some(now + DEFAULT_TOKEN_LIFE)));
        assert_eq!(resolve(Expiration::Unspecified, Some(soon)), Ok(Some(soon)));
        assert_eq!(resolve(after(1), None), Ok(Some(now + Duration::from_secs(1))));
        assert_eq!(resolve(Expiration::After(MAX_TOKEN_LIFE), None), Ok(Some(now + MAX_TOKEN_LIFE)));
        assert_eq!(resolve(Expiration::At(soon), Some(soon)), Ok(Some(soon)));
        assert!(Expiration::after(Duration::from_millis(999)).is_err());
        assert!(Expiration::after(MAX_TOKEN_LIFE + Duration::from_nanos(1)).is_err());
        assert_eq!(Expiration::after(MAX_TOKEN_LIFE), Ok(Expiration::After(MAX_TOKEN_LIFE)));
        for (asked, ceiling) in [
            (after(2 * 86_400), Some(soon)),
            (Expiration::At(now), None),
            (Expiration::At(now - DAY), None),
            (Expiration::At(now + MAX_TOKEN_LIFE + DAY), None),
            (Expiration::At(soon + DAY), Some(soon)),
            (Expiration::Never, None),
        ] {
            assert!(resolve(asked, ceiling).is_err(), "{asked:?}");
        }
    }

    #[test]
    fn a_policy_bounds_it_by_kind() {
        let now = OffsetDateTime::UNIX_EPOCH + DAY * 20_000;
        let policy = TokenPolicy {
            max_publishable_lifetime: Some(30 * DAY),
            default_lifetime: Some(90 * DAY),
            allow_endless: true,
            ..TokenPolicy::default()
        };
        let rules = policy.within(&Ceilings::default());
        let (secret, publishable) = (TokenKind::Secret, TokenKind::Publishable);
        let resolve = |asked: Expiration, kind| asked.resolve(kind, &rules, now, None);
        assert_eq!(resolve(Expiration::Unspecified, secret), Ok(Some(now + 90 * DAY)));
        assert_eq!(resolve(Expiration::Unspecified, publishable), Ok(Some(now + 30 * DAY)));
        assert_eq!(resolve(Expiration::After(60 * DAY), secret), Ok(Some(now + 60 * DAY)));
        let refused = resolve(Expiration::After(60 * DAY), publishable).unwrap_err();
        assert!(refused.contains("at most 30 days"), "{refused}");
        assert_eq!(resolve(Expiration::Never, secret), Ok(None));
        // A maker that ends makes nothing that does not.
        assert!(Expiration::Never.resolve(secret, &rules, now, Some(now + DAY)).is_err());
    }
}
