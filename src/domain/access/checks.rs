//! The checks that a token string, and the token behind it, pass before an exchange.
//!
//! Each check has a name, and they are listed in the order in which they run. Authentication stops
//! at the first that fails; an explanation lists the outcome of all of them.

use std::borrow::Cow;

use time::OffsetDateTime;

use super::credential::Credential;
use super::presentation::Presentation;
use crate::domain::federation::assertion::RuleCheck;
use crate::domain::federation::federated::Federated;
use crate::domain::tokens::assertion::AssertionCheck;
use crate::domain::values::kinds::{AccountKind, TokenKind};
use crate::domain::values::names::Audience;
use crate::error::Reason;

/// A check of the token string. The caller gets `TOKEN_INVALID`, whichever of them fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenStringCheck {
    /// It has the length and the parts of one of our token strings.
    Shape,
    /// Its last part is the checksum of the others: there is no typing error.
    Checksum,
    /// A token with this id exists.
    Known,
    /// One of the token's secrets is this one.
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

/// A check of the token behind the string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    Revoked,
    Org,
    Account,
    /// The expiry of the token, of an idle session, and of a secret that another one has replaced.
    Expiry,
    /// The token policy of the org. What it blocks is valid again when the policy allows it again.
    Policy,
    Purpose,
    Network,
    Certificate,
    Origin,
    Audience,
}

impl Check {
    /// The checks of whether the token works at all.
    pub const OF_STATE: [Check; 5] = [Self::Revoked, Self::Org, Self::Account, Self::Expiry, Self::Policy];
    /// The checks of whether it may be used from this client, for this purpose.
    pub const OF_USE: [Check; 4] = [Self::Purpose, Self::Network, Self::Certificate, Self::Origin];

    const fn name(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Org => "org",
            Self::Account => "account",
            Self::Expiry => "expiry",
            Self::Policy => "policy",
            Self::Purpose => "purpose",
            Self::Network => "network",
            Self::Certificate => "certificate",
            Self::Origin => "origin",
            Self::Audience => "audience",
        }
    }
}

/// The inputs of the checks beside the token.
#[derive(Clone, Copy)]
pub struct CheckInput<'a> {
    pub now: OffsetDateTime,
    /// The number of the secret that was presented; none if no secret was presented.
    pub secret: Option<i32>,
    pub presentation: Presentation<'a>,
    /// The requested audience of an access token; none means the issuer.
    pub audience: Option<&'a Audience>,
    /// The issuer, where an audience is checked.
    pub issuer: &'a str,
}

impl CheckInput<'_> {
    /// Only the time.
    pub(crate) fn at(now: OffsetDateTime) -> Self {
        Self { now, secret: None, presentation: Presentation::default(), audience: None, issuer: "" }
    }
}

impl Credential {
    /// Whether the token works at all now.
    ///
    /// Run only after its secret matched, or a JWT made from it was verified, so that the real
    /// reason may be returned.
    ///
    /// # Errors
    /// `TOKEN_REVOKED`, `ORG_SUSPENDED`, `ACCOUNT_DEACTIVATED`, `TOKEN_EXPIRED` or `TOKEN_BLOCKED`.
    pub(crate) fn check(&self, now: OffsetDateTime) -> Result<(), Reason> {
        self.check_secret(None, now)
    }

    /// As [`check`](Self::check), for a token that was presented by the secret with this number.
    pub(crate) fn check_secret(&self, secret: Option<i32>, now: OffsetDateTime) -> Result<(), Reason> {
        let used = CheckInput { secret, ..CheckInput::at(now) };
        Check::OF_STATE.into_iter().try_for_each(|check| self.pass(check, &used))
    }

    /// Whether the token may be used from this client, for this purpose.
    ///
    /// Run in the same place as [`check`](Self::check).
    ///
    /// # Errors
    /// - `PURPOSE_MISMATCH` unless both sides name the same purpose, or neither names one.
    /// - `ADDRESS_NOT_ALLOWED`, also if the address is not known.
    /// - `CLIENT_CERTIFICATE_NOT_ALLOWED`, also if there is no certificate.
    /// - `ORIGIN_NOT_ALLOWED` for a publishable token without one of its origins.
    pub(crate) fn admit(&self, presentation: &Presentation<'_>) -> Result<(), Reason> {
        // None of these checks the time.
        let used = CheckInput { presentation: *presentation, ..CheckInput::at(OffsetDateTime::UNIX_EPOCH) };
        Check::OF_USE.into_iter().try_for_each(|check| self.pass(check, &used))
    }

    /// Whether the token passes this check.
    ///
    /// # Errors
    /// The reason for which every use of the token is refused.
    pub(crate) fn pass(&self, check: Check, used: &CheckInput<'_>) -> Result<(), Reason> {
        let (passed, reason) = match check {
            Check::Revoked => (!self.revoked, Reason::TokenRevoked),
            Check::Org => (!self.account.org_stopped, Reason::OrgSuspended),
            Check::Account => (!self.account.account_stopped, Reason::AccountDeactivated),
            Check::Expiry => {
                let is_session = self.kind == TokenKind::Session;
                let expired = self.expire_time.is_some_and(|end| end <= used.now)
                    || (is_session && self.seems_idle(used.now));
                (!expired && !self.was_replaced(used.secret, used.now), Reason::TokenExpired)
            }
            Check::Policy => {
                // A token policy applies to tokens and rules, and does not cover sessions.
                let allows_issuer = self.federated.as_ref().is_none_or(|federated| {
                    federated.is_admitted
                        && self.account.account_kind == AccountKind::ServiceAccount
                        && self.account.rules.allow_issuer(federated.issuer.name())
                });
                let allows = self.kind == TokenKind::Session
                    || (allows_issuer && self.account.rules.allow(&self.facts(), used.now));
                (allows, Reason::TokenBlocked)
            }
            Check::Purpose => {
                (self.restrictions.purpose.as_ref() == used.presentation.purpose, Reason::PurposeMismatch)
            }
            Check::Network => {
                let unknown = self.restrictions.networks.is_empty();
                let works = used.presentation.address.map_or(unknown, |address| self.works_at(address));
                (works, Reason::AddressNotAllowed)
            }
            Check::Certificate => {
                let allowed = &self.restrictions.certificates;
                let works = allowed.is_empty() || used.presentation.certificate.is_among(allowed);
                (works, Reason::ClientCertificateNotAllowed)
            }
            Check::Origin => {
                let none = self.kind != TokenKind::Publishable;
                let works = used.presentation.origin.map_or(none, |origin| self.works_from(origin));
                (works, Reason::OriginNotAllowed)
            }
            Check::Audience => {
                let may = match used.audience {
                    Some(audience) => self.may_target(audience),
                    None => used.issuer.is_empty() || self.is_for(used.issuer),
                };
                (may, Reason::InvalidTarget)
            }
        };
        if passed { Ok(()) } else { Err(reason) }
    }
}

/// The outcome of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckOutcome {
    pub name: Cow<'static, str>,
    /// Why it failed; none if it passed, or was not made.
    pub failure: Option<Reason>,
    /// Whether it was made: not where this server lacks what it needs, and an exchange would fetch it.
    pub was_made: bool,
}

/// The outcomes of the checks of a token string, up to the first that fails.
///
/// Beyond that one nothing is known.
pub(crate) fn explain_string_checks(failed: Option<TokenStringCheck>) -> Vec<CheckOutcome> {
    let until = failed.and_then(|failed| TokenStringCheck::ALL.iter().position(|check| *check == failed));
    let made = &TokenStringCheck::ALL[..until.map_or(TokenStringCheck::ALL.len(), |failed| failed + 1)];
    let outcome = |check: &TokenStringCheck| {
        CheckOutcome::of(check.name(), failed != Some(*check), Reason::TokenInvalid)
    };
    made.iter().map(outcome).collect()
}

/// The outcomes of the checks of an assertion, up to the first that fails.
pub(crate) fn explain_assertion_checks(failed: Option<AssertionCheck>) -> Vec<CheckOutcome> {
    let mut outcomes = Vec::new();
    for check in AssertionCheck::ALL {
        outcomes.push(CheckOutcome::of(check.name(), failed != Some(check), Reason::TokenInvalid));
        if failed == Some(check) {
            break;
        }
    }
    outcomes
}

/// The outcomes of the checks of an assertion of another issuer, and of whether the rule that is named works at all.
pub(crate) fn explain_foreign_checks(
    checks: &[(RuleCheck, Option<bool>)],
    federated: &Federated,
) -> Vec<CheckOutcome> {
    let of_assertion = checks.iter().map(|(check, passed)| {
        let outcome = CheckOutcome::of(
            check.name(Some(&federated.matches)),
            *passed != Some(false),
            Reason::TokenInvalid,
        );
        CheckOutcome { was_made: passed.is_some(), ..outcome }
    });
    let rule = CheckOutcome::of("rule", federated.is_usable(), Reason::TokenInvalid);
    of_assertion.chain([rule]).collect()
}

/// The outcomes of the first checks of a JWT of this issuer, up to the one that fails: none, `signature`
/// for a reason, or `known`.
pub(crate) fn explain_access_token_checks(failed: Option<Result<(), Reason>>) -> Vec<CheckOutcome> {
    let signature = failed.and_then(Result::err);
    let mut outcomes = vec![CheckOutcome::made("signature", signature)];
    if signature.is_none() {
        outcomes.push(CheckOutcome::of("known", failed.is_none(), Reason::AccessTokenInvalid));
    }
    outcomes
}

impl CheckOutcome {
    /// A check that fails for this reason unless it passed.
    pub(crate) fn of(name: impl Into<Cow<'static, str>>, passed: bool, reason: Reason) -> Self {
        Self::made(name, (!passed).then_some(reason))
    }

    /// A check that was made.
    pub(crate) fn made(name: impl Into<Cow<'static, str>>, failure: Option<Reason>) -> Self {
        Self { name: name.into(), failure, was_made: true }
    }
}

/// The outcomes of all checks of a token.
pub(crate) fn explain_credential_checks(credential: &Credential, used: &CheckInput<'_>) -> Vec<CheckOutcome> {
    let checks = Check::OF_STATE.into_iter().chain(Check::OF_USE).chain([Check::Audience]);
    checks.map(|check| CheckOutcome::made(check.name(), credential.pass(check, used).err())).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::access::credential::tests::{credential, now};
    use crate::domain::access::exchange::{ExchangeRequest, decide};
    use crate::domain::access::presentation::PresentedAt;
    use crate::domain::tokens::policy::{Ceilings, MIN_TOKEN_LIFETIME, TokenPolicy};
    use crate::domain::tokens::secrets::{Secret, SecretRecord};
    use crate::domain::values::client_certificate::AllowedCertificate;
    use crate::domain::values::names::Purpose;
    use crate::domain::values::networks::Network;
    use crate::domain::values::web_origin::WebOrigin;

    const ISSUER: &str = "https://id.example";

    fn first_failure(outcomes: &[CheckOutcome]) -> Option<(&str, Reason)> {
        outcomes.iter().find_map(|outcome| Some((&*outcome.name, outcome.failure?)))
    }

    #[test]
    fn a_token_works_until_a_check_fails() {
        let end = now() + time::Duration::days(1);
        type Case = (fn(&mut Credential), Result<(), Reason>);
        let blocking = |credential: &mut Credential| {
            let policy = TokenPolicy {
                max_secret_lifetime: Some(std::time::Duration::from_secs(60)),
                ..TokenPolicy::default()
            };
            credential.account.rules = Arc::new(policy.within(&Ceilings::default()));
        };
        let cases: [Case; 12] = [
            (|_| (), Ok(())),
            (|p| p.revoked = true, Err(Reason::TokenRevoked)),
            (|p| p.account.org_stopped = true, Err(Reason::OrgSuspended)),
            (|p| p.account.account_stopped = true, Err(Reason::AccountDeactivated)),
            (|p| p.expire_time = Some(now().to_utc()), Err(Reason::TokenExpired)),
            (|p| p.expire_time = None, Err(Reason::TokenBlocked)),
            (|p| p.account.account_kind = AccountKind::User, Err(Reason::TokenBlocked)),
            (blocking, Err(Reason::TokenBlocked)),
            (
                |p| (p.account.account_kind, p.expire_time) = (AccountKind::User, Some(now().to_utc())),
                Err(Reason::TokenExpired),
            ),
            // A session is not a token: a policy for tokens does not block it.
            (|p| (p.kind, p.account.account_kind) = (TokenKind::Session, AccountKind::User), Ok(())),
            (
                |p| (p.kind, p.last_use) = (TokenKind::Session, now().to_utc() - 12 * time::Duration::HOUR),
                Ok(()),
            ),
            (
                |p| (p.kind, p.last_use) = (TokenKind::Session, now().to_utc() - 13 * time::Duration::HOUR),
                Err(Reason::TokenExpired),
            ),
        ];
        for (change, expected) in cases {
            let mut credential = credential(&[]);
            change(&mut credential);
            assert_eq!(credential.check(now()), expected);
        }
        assert_eq!(credential(&[]).check(end), Err(Reason::TokenExpired));
    }

    #[test]
    fn a_token_works_only_where_and_for_what_it_is_meant() {
        let origin = WebOrigin::parse("https://app.example").unwrap();
        let other = WebOrigin::parse("https://other.example").unwrap();
        let (scim, etl) = (Purpose::parse("SCIM").unwrap(), Purpose::parse("ETL").unwrap());
        let from = |address: &str| Presentation { address: address.parse().ok(), ..Default::default() };
        let anywhere = credential(&[]);
        assert_eq!(anywhere.admit(&Presentation::default()), Ok(()));
        assert_eq!(anywhere.admit(&Presentation { origin: Some(&other), ..from("192.0.2.1") }), Ok(()));
        assert_eq!(
            anywhere.admit(&Presentation { purpose: Some(&scim), ..Default::default() }),
            Err(Reason::PurposeMismatch)
        );

        let mut held = credential(&[]);
        held.restrictions.networks =
            vec![Network::parse("192.0.2.0/24").unwrap(), Network::parse("2001:db8::/32").unwrap()];
        for (address, good) in [
            ("192.0.2.9", true),
            ("::ffff:192.0.2.9", true),
            ("2001:db8::9", true),
            ("192.0.3.9", false),
            ("2001:db9::9", false),
            ("", false),
        ] {
            let expected = if good { Ok(()) } else { Err(Reason::AddressNotAllowed) };
            assert_eq!(held.admit(&from(address)), expected, "{address}");
        }

        let mut held = credential(&[]);
        held.restrictions.purpose = Some(scim.clone());
        for (purpose, good) in [(Some(&scim), true), (Some(&etl), false), (None, false)] {
            let presentation = Presentation { purpose, ..Default::default() };
            assert_eq!(held.admit(&presentation).is_ok(), good, "{purpose:?}");
        }

        let mut held = credential(&[]);
        held.kind = TokenKind::Publishable;
        held.restrictions.origins = vec![origin.clone()];
        for (sent, good) in [(Some(&origin), true), (Some(&other), false), (None, false)] {
            let outcome = held.admit(&Presentation { origin: sent, ..Default::default() });
            assert_eq!(outcome, if good { Ok(()) } else { Err(Reason::OriginNotAllowed) });
        }

        held.restrictions.networks = vec![Network::parse("192.0.2.0/24").unwrap()];
        let at =
            |address: &str, origin| held.admit_access_token(&Presentation { origin, ..from(address) }, None);
        assert_eq!(at("", None), Ok(()), "an omitted address was checked when the token was exchanged");
        assert_eq!(at("192.0.2.9", Some(&origin)), Ok(()));
        assert_eq!(at("192.0.3.9", Some(&origin)), Err(Reason::AddressNotAllowed));
        assert_eq!(at("", Some(&other)), Err(Reason::OriginNotAllowed));
    }

    #[test]
    fn a_token_string_is_explained_up_to_the_first_failure() {
        let names = |failed| {
            explain_string_checks(failed).into_iter().map(|outcome| outcome.name).collect::<Vec<_>>()
        };
        assert_eq!(names(None), ["shape", "checksum", "known", "secret"]);
        assert_eq!(names(Some(TokenStringCheck::Shape)), ["shape"]);
        assert_eq!(names(Some(TokenStringCheck::Known)), ["shape", "checksum", "known"]);
        assert_eq!(first_failure(&explain_string_checks(None)), None);
        for check in TokenStringCheck::ALL {
            let explained = explain_string_checks(Some(check));
            let failure = first_failure(&explained);
            assert_eq!(failure, Some((check.name(), Reason::TokenInvalid)));
        }
    }

    /// The first check that fails is why the exchange is refused, whatever else would fail after
    /// it.
    #[test]
    fn an_explanation_says_what_the_exchange_says() {
        type Change = fn(&mut Credential);
        let changes: [(&str, Change); 10] = [
            ("revoked", |p| p.revoked = true),
            ("org", |p| p.account.org_stopped = true),
            ("account", |p| p.account.account_stopped = true),
            ("expiry", |p| p.expire_time = Some(now().to_utc())),
            ("policy", |p| {
                let policy =
                    TokenPolicy { max_secret_lifetime: Some(MIN_TOKEN_LIFETIME), ..TokenPolicy::default() };
                let policy = TokenPolicy { max_publishable_lifetime: policy.max_secret_lifetime, ..policy };
                p.create_time -= time::Duration::days(1);
                p.account.rules = Arc::new(policy.within(&Ceilings::default()));
            }),
            ("purpose", |p| p.restrictions.purpose = Purpose::parse("SCIM").ok()),
            ("network", |p| p.restrictions.networks = vec![Network::parse("192.0.2.0/24").unwrap()]),
            ("certificate", |p| {
                p.restrictions.certificates = vec![AllowedCertificate::Thumbprint([1; 32].into())]
            }),
            ("origin", |p| p.kind = TokenKind::Publishable),
            ("audience", |p| p.restrictions.audiences = vec![Audience::parse("a").unwrap()]),
        ];
        let audience = Audience::parse("b").unwrap();
        let presented_at = || PresentedAt {
            origin: WebOrigin::parse("https://app.example").ok(),
            address: "198.51.100.1".parse().ok(),
            ..PresentedAt::default()
        };
        for set in 0..1_u32 << changes.len() {
            let mut held = credential(&[]);
            let made = changes.iter().enumerate().filter(|(bit, _)| set >> bit & 1 == 1);
            let names: Vec<_> = made.map(|(_, (name, change))| (change(&mut held), *name).1).collect();
            let request = ExchangeRequest::new(vec![audience.clone()], Vec::new(), None)
                .presented(presented_at(), None);
            let refused = decide(&held, &request, ISSUER, now()).err().map(|error| error.reason());
            let presented_at = presented_at();
            let used = CheckInput {
                presentation: presented_at.with(None),
                audience: Some(&audience),
                ..CheckInput::at(now())
            };
            let outcomes = explain_credential_checks(&held, &used);
            let failed: Vec<_> = outcomes.iter().filter(|outcome| outcome.failure.is_some()).collect();
            assert_eq!(failed.iter().map(|outcome| &*outcome.name).collect::<Vec<_>>(), names);
            assert_eq!(first_failure(&outcomes).map(|(_, reason)| reason), refused, "{names:?}");
            assert_eq!(outcomes.len(), changes.len());
        }
    }

    #[test]
    fn a_secret_that_was_replaced_has_expired() {
        let mut held = credential(&[]);
        let record = || SecretRecord { mac: [0; 32], pepper: 1 };
        held.secrets = [
            Secret { number: 1, expire_time: Some(now()), proof: record().into() },
            Secret { number: 2, expire_time: None, proof: record().into() },
        ]
        .into();
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
