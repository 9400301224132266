//! Renewal: a rotation that gives the token another lifetime.
//!
//! So a program that rotates its own token each night does not stop after a year. A thief could do the same:
//! therefore a token renews itself only where the org allows it, late, with an overlap in which the owner's
//! client is still heard, and not for ever.

use std::borrow::Cow;
use std::time::Duration;

use time::OffsetDateTime;

use super::limits::{MAX_TOKEN_LIFETIME, format_lifetime};
use super::policy::Rules;
use crate::domain::values::kinds::TokenKind;

/// The shortest overlap of a rotation by which a token renews itself.
pub const MIN_OVERLAP: Duration = Duration::from_secs(60 * 60);

/// The requested lifetime, if one is requested.
///
/// # Errors
/// The sentence that follows the field's name.
pub fn lifetime(asked: Option<time::Duration>) -> Result<Option<Duration>, &'static str> {
    let Some(asked) = asked else { return Ok(None) };
    match Duration::try_from(asked) {
        Ok(ttl) if (Duration::from_secs(1)..=MAX_TOKEN_LIFETIME).contains(&ttl) => Ok(Some(ttl)),
        _ => Err("must be 1 s to 3 650 days"),
    }
}

/// The lifetime of a token up to now.
#[derive(Clone, Copy, Debug)]
pub struct Lifetime {
    pub kind: TokenKind,
    pub create_time: OffsetDateTime,
    /// When it was last renewed.
    pub renew_time: Option<OffsetDateTime>,
    /// None: it never expires.
    pub expire_time: Option<OffsetDateTime>,
    /// When the credential that made it was to expire at that time; none if that does not limit it.
    pub maker_expire_time: Option<OffsetDateTime>,
}

/// The credential that renews a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenewedBy {
    Itself,
    /// Another one, which limits it to this time.
    Another(Option<OffsetDateTime>),
}

impl Lifetime {
    /// From when on the token may renew itself under these rules: in the last quarter of its lifetime.
    ///
    /// None where it never may: the policy does not allow it, it never expires, or it cannot last longer.
    pub fn renewable_from(&self, rules: &Rules) -> Option<OffsetDateTime> {
        let end = self.expire_time?;
        let lasts_longer = self.latest(RenewedBy::Itself, rules).is_none_or(|latest| latest > end);
        let since = self.renew_time.unwrap_or(self.create_time);
        (rules.self_renewal && lasts_longer).then(|| end - (end - since) / 4)
    }

    /// The latest expiry that a renewal may give, beside what the policy allows of one lifetime.
    fn latest(&self, by: RenewedBy, rules: &Rules) -> Option<OffsetDateTime> {
        let limit = match by {
            RenewedBy::Itself => Some(self.create_time + rules.max_renewed_lifetime),
            RenewedBy::Another(ceiling) => ceiling,
        };
        limit.into_iter().chain(self.maker_expire_time).min()
    }

    /// When the token expires that gets this lifetime from now on: earlier where the maker's expiry, that
    /// of the renewing credential, or the limit of renewals comes before.
    ///
    /// # Errors
    /// The sentence that follows the field's name.
    pub fn renewed(
        &self,
        ttl: Duration,
        by: RenewedBy,
        rules: &Rules,
        now: OffsetDateTime,
    ) -> Result<OffsetDateTime, Cow<'static, str>> {
        let Some(end) = self.expire_time else {
            return Err("must be absent: the token does not expire".into());
        };
        let longest = rules.max_lifetime(self.kind);
        if ttl > longest {
            return Err(format!("must be at most {}, the org's maximum", format_lifetime(longest)).into());
        }
        if by == RenewedBy::Itself {
            let from = self.renewable_from(rules);
            let from = from.ok_or("must be absent: the token has reached the limit of its renewals")?;
            if now < from {
                let seconds = Duration::try_from(from - now).unwrap_or_default().as_secs() + 1;
                return Err(format!(
                    "must be absent until the last quarter of the token's lifetime, which begins in {seconds} s"
                )
                .into());
            }
        }
        let asked = now + ttl;
        let renewed = self.latest(by, rules).map_or(asked, |latest| asked.min(latest));
        if renewed <= end {
            return Err("must give an expiry later than the present one".into());
        }
        Ok(renewed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::tokens::limits::{DAY, DEFAULT_MAX_RENEWED_LIFETIME};
    use crate::domain::tokens::policy::tests::now;
    use crate::domain::tokens::policy::{Ceilings, TokenPolicy};

    fn rules(allowed: bool) -> Rules {
        let policy = TokenPolicy { allow_self_renewal: allowed, ..TokenPolicy::default() };
        policy.within(&Ceilings::default())
    }

    /// Made so many days ago, for so many.
    fn token(age: u32, days: u32) -> Lifetime {
        let create_time = now() - DAY * age;
        Lifetime {
            kind: TokenKind::Secret,
            create_time,
            renew_time: None,
            expire_time: Some(create_time + DAY * days),
            maker_expire_time: None,
        }
    }

    #[test]
    fn a_token_renews_itself_late_and_not_for_ever() {
        let itself = |token: &Lifetime, days, rules: &Rules| {
            token
                .renewed(DAY * days, RenewedBy::Itself, rules, now())
                .ok()
                .map(|end| (end - now()).whole_days())
        };
        assert_eq!(itself(&token(75, 100), 100, &rules(true)), Some(100));
        assert_eq!(itself(&token(74, 100), 100, &rules(true)), None, "not in the last quarter");
        assert_eq!(itself(&token(75, 100), 100, &rules(false)), None, "the policy does not allow it");
        assert_eq!(itself(&token(75, 100), 10, &rules(true)), None, "no longer than before");
        assert_eq!(itself(&Lifetime { expire_time: None, ..token(75, 100) }, 100, &rules(true)), None);
        // Two years from its creation, however often.
        let old =
            Lifetime { renew_time: Some(now() - DAY * 75), create_time: now() - DAY * 700, ..token(75, 100) };
        assert_eq!(itself(&old, 100, &rules(true)), Some(30));
        let oldest = Lifetime { create_time: now() - DAY * 705, ..old };
        assert_eq!((itself(&oldest, 100, &rules(true)), oldest.renewable_from(&rules(true))), (None, None));
        // Nor past the end that its maker had.
        let made = Lifetime { maker_expire_time: Some(now() + DAY * 50), ..token(75, 100) };
        assert_eq!(itself(&made, 100, &rules(true)), Some(50));
        assert_eq!(token(75, 100).renewable_from(&rules(true)), Some(now()));
        assert_eq!(token(75, 100).renewable_from(&rules(false)), None);
    }

    #[test]
    fn another_credential_renews_it_within_its_own_lifetime() {
        let by = |token: &Lifetime, ttl, ceiling: Option<u32>| {
            let by = RenewedBy::Another(ceiling.map(|days| now() + DAY * days));
            token.renewed(ttl, by, &rules(false), now()).ok().map(|end| (end - now()).whole_days())
        };
        assert_eq!(by(&token(1, 100), DAY * 200, None), Some(200));
        assert_eq!(by(&token(1, 100), DAY * 200, Some(150)), Some(150));
        assert_eq!(by(&token(1, 100), DAY * 200, Some(50)), None, "it would end earlier than now");
        assert_eq!(by(&token(1_000, 1_001), DAY * 200, None), Some(200));
        assert_eq!(by(&token(1, 100), DAY * 3_651, None), None, "the policy");
    }

    proptest! {
        /// Whatever is asked, in whatever order: never past the limit, and each renewal is later.
        #[test]
        fn renewals_end(steps in prop::collection::vec((0u32..400, 1u32..800), 1..40), made_until in prop::option::of(1u32..2_000)) {
            let rules = rules(true);
            let mut time = now();
            let mut token = Lifetime { maker_expire_time: made_until.map(|days| now() + DAY * days), ..token(0, 30) };
            for (later, ttl) in steps {
                time += DAY * later;
                let before = token.expire_time.unwrap();
                if time >= before { break; }
                let Ok(end) = token.renewed(DAY * ttl, RenewedBy::Itself, &rules, time) else { continue };
                prop_assert!(end > before && end <= token.create_time + DEFAULT_MAX_RENEWED_LIFETIME);
                prop_assert!(token.maker_expire_time.is_none_or(|limit| end <= limit));
                prop_assert!(token.renewable_from(&rules).is_some_and(|from| from <= time));
                (token.renew_time, token.expire_time) = (Some(time), Some(end));
            }
        }
    }
}
