//! When a new token expires: what was requested, within what the org's policy allows.

use std::borrow::Cow;
use std::time::Duration;

use time::OffsetDateTime;

use super::limits::MAX_TOKEN_LIFETIME;
use super::policy::Rules;
use crate::domain::values::kinds::TokenKind;

/// The requested expiry of a new token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiration {
    Unspecified,
    After(Duration),
    At(OffsetDateTime),
    Never,
}

/// Why the requested expiry is refused: the sentence that follows the field's name.
pub(crate) type Refusal = Cow<'static, str>;

impl Expiration {
    /// Expiry after this long: at least 1 s, at most [`MAX_TOKEN_LIFETIME`], for every policy.
    ///
    /// # Errors
    /// The sentence that follows the field's name.
    pub(crate) fn after(lifetime: Duration) -> Result<Self, &'static str> {
        if lifetime < Duration::from_secs(1) {
            Err("must be at least 1 s")
        } else if lifetime > MAX_TOKEN_LIFETIME {
            Err("must be at most 3 650 days")
        } else {
            Ok(Self::After(lifetime))
        }
    }

    /// The field that requests it.
    pub(crate) fn field(self) -> &'static str {
        match self {
            Self::Unspecified | Self::After(_) => "ttl",
            Self::At(_) => "expire_time",
            Self::Never => "never_expires",
        }
    }

    /// When a token of this kind that is made now expires; none if it never does.
    ///
    /// `ceiling` is when the credential that makes the token expires, if that limits the new token.
    /// A requested lifetime beyond it, or beyond what the policy allows, is refused; the default is
    /// reduced to both.
    ///
    /// # Errors
    /// The sentence that follows the name of the [`field`](Self::field).
    pub(crate) fn resolve(
        self,
        kind: TokenKind,
        rules: &Rules,
        now: OffsetDateTime,
        ceiling: Option<OffsetDateTime>,
    ) -> Result<Option<OffsetDateTime>, Refusal> {
        const OUTLIVES: &str = "must not be after the expiry of the credential that creates the token";
        let end = match self {
            Self::Unspecified => {
                let end = now + rules.default_lifetime.min(rules.max_lifetime(kind));
                return Ok(Some(ceiling.map_or(end, |ceiling| end.min(ceiling))));
            }
            Self::Never if !rules.endless => {
                return Err("is not allowed: the org's policy requires an expiry".into());
            }
            Self::Never if ceiling.is_some() => return Err(OUTLIVES.into()),
            Self::Never => return Ok(None),
            Self::After(lifetime) => now + lifetime,
            Self::At(end) => end,
        };
        if end <= now {
            return Err("must be after now".into());
        }
        rules.check_expiry(kind, now, end)?;
        if ceiling.is_some_and(|ceiling| end > ceiling) {
            return Err(OUTLIVES.into());
        }
        Ok(Some(end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::tokens::limits::{DAY, DEFAULT_TOKEN_LIFETIME};
    use crate::domain::tokens::policy::{Ceilings, TokenPolicy};

    #[test]
    fn a_lifetime_is_bounded() {
        let now = OffsetDateTime::UNIX_EPOCH + DAY * 20_000;
        let soon = now + DAY;
        let rules = TokenPolicy::default().within(&Ceilings::default());
        let resolve = |asked: Expiration, ceiling| asked.resolve(TokenKind::Secret, &rules, now, ceiling);
        let after = |seconds| Expiration::After(Duration::from_secs(seconds));
        assert_eq!(resolve(Expiration::Unspecified, None), Ok(Some(now + DEFAULT_TOKEN_LIFETIME)));
        assert_eq!(resolve(Expiration::Unspecified, Some(soon)), Ok(Some(soon)));
        assert_eq!(resolve(after(1), None), Ok(Some(now + Duration::from_secs(1))));
        assert_eq!(resolve(Expiration::After(MAX_TOKEN_LIFETIME), None), Ok(Some(now + MAX_TOKEN_LIFETIME)));
        assert_eq!(resolve(Expiration::At(soon), Some(soon)), Ok(Some(soon)));
        assert!(Expiration::after(Duration::from_millis(999)).is_err());
        assert!(Expiration::after(MAX_TOKEN_LIFETIME + Duration::from_nanos(1)).is_err());
        assert_eq!(Expiration::after(MAX_TOKEN_LIFETIME), Ok(Expiration::After(MAX_TOKEN_LIFETIME)));
        for (asked, ceiling) in [
            (after(2 * 86_400), Some(soon)),
            (Expiration::At(now), None),
            (Expiration::At(now - DAY), None),
            (Expiration::At(now + MAX_TOKEN_LIFETIME + DAY), None),
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
        // A credential that expires cannot make a non-expiring token.
        assert!(Expiration::Never.resolve(secret, &rules, now, Some(now + DAY)).is_err());
    }
}
