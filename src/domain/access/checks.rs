//! What a token's text, and the token behind it, must pass before it is exchanged: each
//! check by its name, in the order in which they are made. Who authenticates stops at the
//! first that fails; an explanation tells of all.

use time::OffsetDateTime;

use super::credential::{Credential, Presentation};
use super::exchange::may_target;
use crate::domain::values::kinds::TokenKind;
use crate::domain::values::names::Audience;
use crate::error::Reason;

/// A check of the text. What fails here is `TOKEN_INVALID`, whichever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenStringCheck {
    /// It has the length and the parts of one of ours.
    Shape,
    /// Its last part fits the others: no typing error.
    Checksum,
    /// There is a token of this id.
    Known,
    /// One of its secrets is this one.
    Secret,
}

impl TokenStringCheck {
    pub const ALL: [TokenStringCheck; 4] = [Self::Shape, Self::Checksum, Self::Known, Self::Secret];

    const fn name(self) -> &'static str {
        match self {
            Self::Shape => "shape",
            Self::Checksum => "checksum",
            Self::Known => "known",
            Self::Secret => "secret",
        }
    }
}

/// A check of what is behind the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    Revoked,
    Org,
    Account,
    /// The token's end, that of a session for want of use, and that of the secret where another
    /// took its place.
    Expiry,
    /// That of the org: what it stops is good again when it allows it again.
    Policy,
    Purpose,
    Network,
    Origin,
    Audience,
}

impl Check {
    /// Whether the token works at all.
    pub const OF_STATE: [Check; 5] = [Self::Revoked, Self::Org, Self::Account, Self::Expiry, Self::Policy];
    /// Whether it may be used from there, for that.
    pub const OF_USE: [Check; 3] = [Self::Purpose, Self::Network, Self::Origin];

    const fn name(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Org => "org",
            Self::Account => "account",
            Self::Expiry => "expiry",
            Self::Policy => "policy",
            Self::Purpose => "purpose",
            Self::Network => "network",
            Self::Origin => "origin",
            Self::Audience => "audience",
        }
    }
}

/// What the checks look at beside the token.
#[derive(Clone, Copy)]
pub struct CheckInput<'a> {
    pub now: OffsetDateTime,
    /// The number of the secret that was shown; none where none was.
    pub secret: Option<i32>,
    pub shown: Presentation<'a>,
    /// For whom an access token is asked for; none: the issuer.
    pub audience: Option<&'a Audience>,
}

impl CheckInput<'_> {
    /// Nothing but the time.
    pub fn at(now: OffsetDateTime) -> Self {
        Self { now, secret: None, shown: Presentation::default(), audience: None }
    }
}

impl Credential {
    /// Whether the token passes this check.
    ///
    /// # Errors
    /// The reason that everybody is given to whom the token is refused for it.
    pub fn pass(&self, check: Check, used: &CheckInput<'_>) -> Result<(), Reason> {
        let (passed, reason) = match check {
            Check::Revoked => (!self.revoked, Reason::TokenRevoked),
            Check::Org => (!self.org_stopped, Reason::OrgSuspended),
            Check::Account => (!self.account_stopped, Reason::AccountDeactivated),
            Check::Expiry => {
                let is_session = self.kind == TokenKind::Session;
                let ended = self.expire_time.is_some_and(|end| end <= used.now)
                    || (is_session && self.seems_idle(used.now));
                (!ended && !self.was_replaced(used.secret, used.now), Reason::TokenExpired)
            }
            Check::Policy => {
                // It is of tokens, and says nothing of sessions.
                let allows = self.kind == TokenKind::Session || self.rules.allow(&self.facts(), used.now);
                (allows, Reason::TokenBlocked)
            }
            Check::Purpose => {
                (self.restrictions.purpose.as_ref() == used.shown.purpose, Reason::PurposeMismatch)
            }
            Check::Network => {
                let unknown = self.restrictions.networks.is_empty();
                let works = used.shown.address.map_or(unknown, |address| self.works_at(address));
                (works, Reason::AddressNotAllowed)
            }
            Check::Origin => {
                let none = self.kind != TokenKind::Publishable;
                let works = used.shown.origin.map_or(none, |origin| self.works_from(origin));
                (works, Reason::OriginNotAllowed)
            }
            Check::Audience => {
                let may = used.audience.is_none_or(|audience| may_target(self, audience));
                (may, Reason::InvalidTarget)
            }
        };
        if passed { Ok(()) } else { Err(reason) }
    }

    /// Whether the secret of this number has ended: the token was rotated.
    pub fn was_replaced(&self, secret: Option<i32>, now: OffsetDateTime) -> bool {
        let shown = self.secrets.iter().find(|known| Some(known.number) == secret);
        shown.is_some_and(|secret| secret.has_ended(now))
    }
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckOutcome {
    pub name: &'static str,
    /// Why it failed; none where it passed.
    pub failure: Option<Reason>,
}

/// How the checks of a text go: up to the first that fails, since nothing is known beyond
/// it.
pub fn explain_string_checks(failed: Option<TokenStringCheck>) -> Vec<CheckOutcome> {
    let until = failed.and_then(|failed| TokenStringCheck::ALL.iter().position(|check| *check == failed));
    let made = &TokenStringCheck::ALL[..until.map_or(TokenStringCheck::ALL.len(), |failed| failed + 1)];
    let outcome = |check: &TokenStringCheck| CheckOutcome {
        name: check.name(),
        failure: (failed == Some(*check)).then_some(Reason::TokenInvalid),
    };
    made.iter().map(outcome).collect()
}

/// How the checks of a token go, all of them.
pub fn explain_credential_checks(credential: &Credential, used: &CheckInput<'_>) -> Vec<CheckOutcome> {
    let checks = Check::OF_STATE.into_iter().chain(Check::OF_USE).chain([Check::Audience]);
    checks
        .map(|check| CheckOutcome { name: check.name(), failure: credential.pass(check, used).err() })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::access::credential::tests::{credential, now};
    use crate::domain::access::exchange::{ExchangeRequest, PresentedAt, decide};
    use crate::domain::tokens::policy::{Ceilings, MIN_TOKEN_LIFE, TokenPolicy};
    use crate::domain::tokens::secrets::{Secret, SecretRecord};
    use crate::domain::values::names::Purpose;
    use crate::domain::values::networks::Network;
    use crate::domain::values::web_origin::WebOrigin;

    const ISSUER: &str = "https://id.example";

    fn first_failure(outcomes: &[CheckOutcome]) -> Option<(&'static str, Reason)> {
        outcomes.iter().find_map(|outcome| Some((outcome.name, outcome.failure?)))
    }

    #[test]
    fn a_text_is_explained_up_to_where_it_fails() {
        let names =
            |failed| explain_string_checks(failed).iter().map(|outcome| outcome.name).collect::<Vec<_>>();
        assert_eq!(names(None), ["shape", "checksum", "known", "secret"]);
        assert_eq!(names(Some(TokenStringCheck::Shape)), ["shape"]);
        assert_eq!(names(Some(TokenStringCheck::Known)), ["shape", "checksum", "known"]);
        assert_eq!(first_failure(&explain_string_checks(None)), None);
        for check in TokenStringCheck::ALL {
            let failure = first_failure(&explain_string_checks(Some(check)));
            assert_eq!(failure, Some((check.name(), Reason::TokenInvalid)));
        }
    }

    /// The first that fails is why the exchange is refused, whatever else would fail after it.
    #[test]
    fn an_explanation_says_what_the_exchange_says() {
        type Change = fn(&mut Credential);
        let changes: [(&str, Change); 9] = [
            ("revoked", |p| p.revoked = true),
            ("org", |p| p.member.org_stopped = true),
            ("account", |p| p.member.account_stopped = true),
            ("expiry", |p| p.expire_time = Some(now())),
            ("policy", |p| {
                let policy =
                    TokenPolicy { max_secret_lifetime: Some(MIN_TOKEN_LIFE), ..TokenPolicy::default() };
                let policy = TokenPolicy { max_publishable_lifetime: policy.max_secret_lifetime, ..policy };
                p.create_time -= time::Duration::days(1);
                p.member.rules = Arc::new(policy.within(&Ceilings::default()));
            }),
            ("purpose", |p| p.restrictions.purpose = Purpose::parse("SCIM").ok()),
            ("network", |p| p.restrictions.networks = vec![Network::parse("192.0.2.0/24").unwrap()]),
            ("origin", |p| p.kind = TokenKind::Publishable),
            ("audience", |p| p.restrictions.audiences = vec![Audience::parse("a").unwrap()]),
        ];
        let audience = Audience::parse("b").unwrap();
        let shown_at = || PresentedAt {
            origin: WebOrigin::parse("https://app.example").ok(),
            address: "198.51.100.1".parse().ok(),
        };
        for set in 0..1_u32 << changes.len() {
            let mut held = credential(&[]);
            let made = changes.iter().enumerate().filter(|(bit, _)| set >> bit & 1 == 1);
            let names: Vec<_> = made.map(|(_, (name, change))| (change(&mut held), *name).1).collect();
            let request =
                ExchangeRequest::new(vec![audience.clone()], Vec::new(), None).shown(shown_at(), None);
            let refused = decide(&held, &request, ISSUER, now()).err().map(|error| error.reason());
            let shown_at = shown_at();
            let used =
                CheckInput { shown: shown_at.with(None), audience: Some(&audience), ..CheckInput::at(now()) };
            let outcomes = explain_credential_checks(&held, &used);
            let failed: Vec<_> = outcomes.iter().filter(|outcome| outcome.failure.is_some()).collect();
            assert_eq!(failed.iter().map(|outcome| outcome.name).collect::<Vec<_>>(), names);
            assert_eq!(first_failure(&outcomes).map(|(_, reason)| reason), refused, "{names:?}");
            assert_eq!(outcomes.len(), changes.len());
        }
    }

    #[test]
    fn a_secret_that_was_replaced_has_expired() {
        let mut held = credential(&[]);
        let record = || SecretRecord { mac: Vec::new(), pepper: 1 };
        held.secrets = vec![
            Secret { number: 1, expire_time: Some(now()), record: record() },
            Secret { number: 2, expire_time: None, record: record() },
        ];
        for (secret, expected) in
            [(None, None), (Some(1), Some(("expiry", Reason::TokenExpired))), (Some(2), None)]
        {
            assert_eq!(
                first_failure(&explain_credential_checks(
                    &held,
                    &CheckInput { secret, ..CheckInput::at(now()) }
                )),
                expected
            );
        }
    }
}
