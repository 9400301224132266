//! The decision of an exchange: from a valid token and a request to what the access token says.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};
use time::OffsetDateTime;

use super::carried::Carried;
use super::credential::Credential;
use super::member::Member;
use super::presentation::PresentedAt;
use crate::domain::tokens::limits::MAX_ACCESS_TOKEN_LIFETIME;
use crate::domain::values::client_certificate::Sha256Digest;
use crate::domain::values::ids::{AccountId, CredentialId, OrgId};
use crate::domain::values::kinds::{AccountKind, TokenKind};
use crate::domain::values::names::{Audience, Purpose};
use crate::domain::values::permissions::Permission;
use crate::error::{Error, Precondition, Reason, Result};

/// What a caller requests of an exchange, validated.
#[derive(Clone, Debug, Default)]
pub struct ExchangeRequest {
    audiences: Vec<Audience>,
    scopes: Vec<Permission>,
    ttl: Option<Duration>,
    /// An upper bound of the lifetime, whatever is requested.
    longest: Option<Duration>,
    purpose: Option<Purpose>,
    presented_at: PresentedAt,
    /// The number of the subject's secret that was presented.
    secret: Option<i32>,
    /// Whether the access token is to be bound to the client's certificate.
    certificate_bound: bool,
    /// Whether what is left out means what it means in OAuth 2.0.
    oauth_defaults: bool,
}

impl ExchangeRequest {
    /// Validates the requested lifetime: more than 0 and at most 1 h.
    ///
    /// # Errors
    /// The sentence that follows the field's name.
    pub(crate) fn lifetime(asked: Option<time::Duration>) -> Result<Option<Duration>, &'static str> {
        let Some(asked) = asked else { return Ok(None) };
        match Duration::try_from(asked) {
            Ok(ttl) if !ttl.is_zero() && ttl <= MAX_ACCESS_TOKEN_LIFETIME => Ok(Some(ttl)),
            _ => Err("must be more than 0 and at most 1 h"),
        }
    }

    /// A request of validated parts, with `ttl` as [`lifetime`](Self::lifetime) returned it.
    pub(crate) fn new(mut audiences: Vec<Audience>, scopes: Vec<Permission>, ttl: Option<Duration>) -> Self {
        if audiences.len() > 1 {
            let mut seen = BTreeSet::new();
            audiences.retain(|audience| seen.insert(audience.clone()));
        }
        Self { audiences, scopes, ttl, ..Self::default() }
    }

    /// The same request, with where the subject is presented and for what purpose.
    pub(crate) fn presented(self, presented_at: PresentedAt, purpose: Option<Purpose>) -> Self {
        Self { presented_at, purpose, ..self }
    }

    /// The same request, by the secret with this number.
    pub(crate) fn by_secret(self, secret: Option<i32>) -> Self {
        Self { secret, ..self }
    }

    /// The same request, for an access token that is bound to the client's certificate.
    pub(crate) fn bound(self, certificate_bound: bool) -> Self {
        Self { certificate_bound, ..self }
    }

    /// The same request, as OAuth 2.0 reads what it leaves out: without an audience it is for the only one
    /// that the token may be used for, or else for the issuer, and then Countersign's own permissions are
    /// only those that were asked for.
    pub(crate) fn with_oauth_defaults(self) -> Self {
        Self { oauth_defaults: true, ..self }
    }

    /// The address from which the subject is presented.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.presented_at.address
    }

    /// The audiences that it names, or that follow from the token; none is the issuer.
    fn named_audiences<'a>(&'a self, credential: &'a Credential) -> &'a [Audience] {
        match credential.restrictions.audiences.as_slice() {
            [only] if self.audiences.is_empty() && self.oauth_defaults => std::slice::from_ref(only),
            _ => &self.audiences,
        }
    }

    /// Also limits the lifetime to this bound.
    pub(crate) fn limit_ttl(&mut self, longest: Duration) {
        self.longest = Some(longest);
    }
}

/// The account that an access token speaks for, and the credential that the token is made from.
#[derive(Debug, PartialEq, Eq)]
pub struct SpeaksFor {
    pub account_id: AccountId,
    pub account_kind: AccountKind,
    pub account_version: i64,
    pub org_id: OrgId,
    pub org_version: i64,
    pub credential_id: CredentialId,
    pub token_kind: TokenKind,
}

impl SpeaksFor {
    /// This member, by a token that is made from this credential.
    pub(super) fn new(member: &Member, credential: &Credential) -> Self {
        Self {
            account_id: member.account_id,
            account_kind: member.account_kind,
            account_version: member.account_version,
            org_id: member.org_id,
            org_version: member.org_version,
            credential_id: credential.credential_id,
            token_kind: credential.kind,
        }
    }
}

/// Whom an access token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audiences<'a> {
    /// Countersign's own API.
    Issuer(&'a str),
    /// These, each once.
    Listed(&'a [Audience]),
}

impl Audiences<'_> {
    /// Whether they are this issuer alone.
    fn are(&self, issuer: &str) -> bool {
        match self {
            Self::Issuer(_) => true,
            Self::Listed(listed) => matches!(listed, [one] if one.as_str() == issuer),
        }
    }
}

/// `aud`: a string when there is one audience, otherwise an array (RFC 7519, section 4.1.3).
impl Serialize for Audiences<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Self::Issuer(one) => serializer.serialize_str(one),
            Self::Listed([one]) => serializer.serialize_str(one.as_str()),
            Self::Listed(all) => serializer.collect_seq(all.iter().map(Audience::as_str)),
        }
    }
}

/// What the access token will say.
#[derive(Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    pub speaks_for: SpeaksFor,
    pub audiences: Audiences<'a>,
    /// What follows from the rights, after every restriction.
    pub carried: Arc<Carried>,
    /// The number of the secret that it ends with, of a token.
    pub secret: Option<i32>,
    /// The version of the rule that it ends with, of a rule.
    pub rule_version: Option<i64>,
    /// The certificate that it is bound to, if any.
    pub bound_to: Option<Sha256Digest>,
    /// Whole seconds since 1970.
    pub issued_at: i64,
    /// Whole seconds since 1970, after `issued_at` and never after the expiry of the token or its secret.
    pub expires_at: i64,
}

/// Decides what the access token says. The caller has already matched the token's secret.
///
/// # Errors
/// - Any reason for which the token does not work ([`Credential::check`], [`Credential::admit`]).
/// - `SCOPE_NOT_HELD` with the scopes.
/// - `INVALID_TARGET` with the audience.
/// - `SCOPE_TOO_WIDE`.
/// - `INVALID_FIELD` for a binding to a certificate that the client does not have.
pub(crate) fn decide<'a>(
    credential: &'a Credential,
    request: &'a ExchangeRequest,
    issuer: &'a str,
    now: OffsetDateTime,
) -> Result<Decision<'a>> {
    credential.check_secret(request.secret, now)?;
    credential.admit(&request.presented_at.with(request.purpose.as_ref()))?;
    let named = request.named_audiences(credential);
    let audiences = audiences(credential, named, issuer)?;
    let held = credential.effective_rights();
    let not_held = request.scopes.iter().filter(|scope| !held.hold_somewhere(scope));
    refuse_scopes(not_held)?;

    let issued_at = now.unix_timestamp();
    let ttl = credential.account.rules.access_token_lifetime(request.ttl);
    let of_rule = credential.federated.as_ref().and_then(|federated| federated.access_token_lifetime);
    let ttl = request.longest.into_iter().chain(of_rule).fold(ttl, Duration::min);
    let asked = (now + ttl).unix_timestamp().max(issued_at + 1);
    let end = credential.end(request.secret);
    let expires_at = end.map_or(asked, |end| asked.min(end.unix_timestamp()));
    if expires_at <= issued_at {
        // Less than a second of the token's lifetime is left, and a JWT counts in whole seconds.
        return Err(Reason::TokenExpired.into());
    }
    // What ownership implies must be asked for: the permissions of applications that are held only as an
    // owner are listed where they are among the scopes.
    let carried = match request.scopes.as_slice() {
        [] if request.oauth_defaults && request.audiences.is_empty() && audiences.are(issuer) => {
            Carried::of_applications(held)?.into()
        }
        [] => credential.carried()?,
        scopes => Carried::new(&held.narrowed(scopes, &[]), None)?.into(),
    };
    let speaks_for = SpeaksFor::new(&credential.account, credential);
    let secret = credential.bound_to(request.secret);
    let bound_to = binding(credential, request)?;
    let rule_version = credential.rule_version();
    Ok(Decision { speaks_for, audiences, carried, secret, rule_version, bound_to, issued_at, expires_at })
}

/// The certificate that the access token is bound to: where that was asked for, and where the credential
/// works with some certificates alone.
fn binding(credential: &Credential, request: &ExchangeRequest) -> Result<Option<Sha256Digest>> {
    let own = request.presented_at.certificate.thumbprint();
    if request.certificate_bound && own.is_none() {
        let why = "needs a client certificate in the handshake of the connection";
        return Err(Error::invalid("certificate_bound", why));
    }
    let is_bound = request.certificate_bound || !credential.restrictions.certificates.is_empty();
    Ok(own.filter(|_| is_bound))
}

/// Refuses scopes that are not held; passes if there are none.
///
/// # Errors
/// `SCOPE_NOT_HELD`, listing them.
pub(crate) fn refuse_scopes<'a>(not_held: impl Iterator<Item = &'a Permission>) -> Result<()> {
    let scopes: Vec<_> = not_held.map(Permission::to_string).collect();
    if scopes.is_empty() {
        return Ok(());
    }
    let message = format!("{}: {}", Reason::ScopeNotHeld.message(), scopes.join(", "));
    Err(Error::with_message(Reason::ScopeNotHeld, message).with_preconditions(
        scopes.into_iter().map(|subject| Precondition {
            kind: "SCOPE",
            subject,
            description: "not held".into(),
        }),
    ))
}

fn audiences<'a>(credential: &Credential, asked: &'a [Audience], issuer: &'a str) -> Result<Audiences<'a>> {
    if asked.is_empty() {
        return if credential.is_for(issuer) { Ok(Audiences::Issuer(issuer)) } else { Err(lacks_issuer()) };
    }
    if let Some(audience) = asked.iter().find(|audience| !credential.may_target(audience)) {
        let message =
            format!("the token or the org's policy allows no access token for the audience {audience}");
        return Err(Error::with_message(Reason::InvalidTarget, message));
    }
    // A JWT that is valid for Countersign's own API must not be handed to another service.
    if asked.len() > 1 && asked.iter().any(|audience| audience.as_str() == issuer) {
        return Err(Error::with_message(
            Reason::InvalidTarget,
            "the issuer cannot be combined with other audiences",
        ));
    }
    Ok(Audiences::Listed(asked))
}

fn lacks_issuer() -> Error {
    let message = "the token's allowed_audiences lack this issuer: name one of them";
    Error::with_message(Reason::InvalidTarget, message)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::access::credential::tests::{credential, now};
    use crate::domain::tokens::policy::{Ceilings, TokenPolicy};

    const ISSUER: &str = "https://id.example";

    fn request(audiences: &[&str], scopes: &[&str], ttl: Option<u64>) -> ExchangeRequest {
        ExchangeRequest::new(
            audiences.iter().map(|a| Audience::parse(a).unwrap()).collect(),
            scopes.iter().map(|s| Permission::parse(s).unwrap()).collect(),
            ttl.map(Duration::from_secs),
        )
    }

    fn listed(decision: &Decision<'_>) -> Vec<String> {
        match decision.audiences {
            Audiences::Issuer(issuer) => vec![issuer.to_owned()],
            Audiences::Listed(listed) => listed.iter().map(Audience::to_string).collect(),
        }
    }

    fn scope<'a>(decision: &'a Decision<'_>) -> Vec<&'a str> {
        decision.carried.scope().split_ascii_whitespace().collect()
    }

    /// The claims beside the scope: the number of paths, and the roles.
    fn others(decision: &Decision<'_>) -> (usize, Option<Vec<String>>) {
        let claims = serde_json::from_str(&format!("{{{}}}", decision.carried.json()));
        let claims: serde_json::Value = claims.unwrap();
        let paths = claims["authorization_details"].as_array().map_or(0, Vec::len);
        (paths, serde_json::from_value(claims["roles"].clone()).unwrap())
    }

    #[test]
    fn an_empty_request_gives_everything_held_for_the_issuer_for_five_minutes() {
        let held = credential(&[("auditor", "*"), ("invoices.read", "customers/acme")]);
        let asked = ExchangeRequest::default();
        let decision = decide(&held, &asked, ISSUER, now()).unwrap();
        assert_eq!(decision.audiences, Audiences::Issuer(ISSUER));
        assert_eq!(scope(&decision).len(), 8);
        assert_eq!(others(&decision), (1, Some(vec!["auditor".into(), "member".into()])));
        assert_eq!(decision.expires_at - decision.issued_at, 300);
    }

    #[test]
    fn a_request_narrows_and_never_widens() {
        let held = credential(&[("invoices.read", "*"), ("invoices.write", "a")]);
        let asked = request(&[], &["invoices.read"], None);
        let decision = decide(&held, &asked, ISSUER, now()).unwrap();
        assert_eq!(scope(&decision), ["invoices.read"]);
        assert_eq!(others(&decision), (0, None));
        // Held only on a path: it counts as held, and appears only in the details.
        let asked = request(&[], &["invoices.write"], None);
        let decision = decide(&held, &asked, ISSUER, now()).unwrap();
        assert!(scope(&decision).is_empty());
        assert_eq!(others(&decision), (1, None));
        let refused =
            decide(&held, &request(&[], &["invoices.read", "x.y"], None), ISSUER, now()).unwrap_err();
        assert_eq!(refused.reason(), Reason::ScopeNotHeld);
        assert_eq!(refused.into_parts().preconditions[0].subject, "x.y");
    }

    #[test]
    fn the_tokens_own_lists_narrow_too() {
        let mut held = credential(&[("owner", "*")]);
        held.restrictions.scopes = vec![Permission::ACCOUNTS_READ];
        let asked = ExchangeRequest::default();
        let decision = decide(&held, &asked, ISSUER, now()).unwrap();
        assert_eq!(scope(&decision), ["accounts.read"]);
        assert_eq!(others(&decision).1, None);
        let refused = decide(&held, &request(&[], &["accounts.write"], None), ISSUER, now()).unwrap_err();
        assert_eq!(refused.reason(), Reason::ScopeNotHeld);
    }

    #[test]
    fn audiences() {
        let mut held = credential(&[]);
        let ask = |held: &Credential, audiences: &[&str]| {
            decide(held, &request(audiences, &[], None), ISSUER, now())
                .map(|decision| listed(&decision))
                .map_err(|e| e.reason())
        };
        assert_eq!(ask(&held, &["https://b.example", "a"]), Ok(vec!["https://b.example".into(), "a".into()]));
        assert_eq!(ask(&held, &["a", "a"]), Ok(vec!["a".into()]));
        assert_eq!(ask(&held, &[ISSUER]), Ok(vec![ISSUER.into()]));
        assert_eq!(ask(&held, &[ISSUER, "a"]), Err(Reason::InvalidTarget));
        held.restrictions.audiences = vec![Audience::parse("a").unwrap()];
        assert_eq!(ask(&held, &["a"]), Ok(vec!["a".into()]));
        assert_eq!(ask(&held, &["a", "b"]), Err(Reason::InvalidTarget));
        // No audience is the issuer, which the list lacks.
        assert_eq!(ask(&held, &[ISSUER]), Err(Reason::InvalidTarget));
        assert_eq!(ask(&held, &[]), Err(Reason::InvalidTarget));
        held.restrictions.audiences.push(Audience::parse(ISSUER).unwrap());
        assert_eq!(ask(&held, &[]), Ok(vec![ISSUER.into()]));
    }

    #[test]
    fn the_policy_narrows_audiences_and_lifetimes() {
        let ruled = |own: &[&str], policy: &[&str]| {
            let list = |texts: &[&str]| texts.iter().map(|a| Audience::parse(a).unwrap()).collect();
            let mut held = credential(&[]);
            held.restrictions.audiences = list(own);
            let policy = TokenPolicy {
                allowed_audiences: list(policy),
                access_token_lifetime: Some(Duration::from_secs(120)),
                ..TokenPolicy::default()
            };
            held.account.rules = Arc::new(policy.within(&Ceilings::default()));
            held
        };
        for (own, policy, good, bad, targets) in [
            (&[][..], &[][..], &["a", "b"][..], &[][..], &[][..]),
            (&["a"], &[], &["a"], &["b"], &["a"]),
            (&[], &["a"], &["a"], &["b"], &["a"]),
            (&["a", "b"], &["b", "c"], &["b"], &["a", "c"], &["b"]),
            (&["a"], &["b"], &[], &["a", "b"], &[ISSUER]),
        ] {
            let held = ruled(own, policy);
            let ask = |audience: &str| {
                let asked = request(&[audience], &[], None);
                decide(&held, &asked, ISSUER, now()).map(drop).map_err(|error| error.reason())
            };
            assert!(good.iter().all(|audience| ask(audience).is_ok()), "{own:?} {policy:?}");
            for audience in bad {
                assert_eq!(ask(audience), Err(Reason::InvalidTarget));
            }
            assert_eq!(held.targets(ISSUER), targets, "{own:?} {policy:?}");
            // Without a requested audience it is the issuer, whatever the policy says, but not for a
            // token whose own list lacks it.
            assert_eq!(decide(&held, &request(&[], &[], None), ISSUER, now()).is_ok(), own.is_empty());
        }
        let mut asked = request(&[], &[], Some(3_600));
        let lifetime = |asked: &ExchangeRequest| {
            let held = ruled(&[], &[]);
            let decision = decide(&held, asked, ISSUER, now()).unwrap();
            decision.expires_at - decision.issued_at
        };
        assert_eq!(lifetime(&asked), 120);
        asked.limit_ttl(Duration::from_secs(60));
        assert_eq!(lifetime(&asked), 60);
        assert_eq!(lifetime(&ExchangeRequest::default()), 120);
    }

    #[test]
    fn lifetimes() {
        let lasts = |left: time::Duration, ttl: Option<u64>| {
            let mut held = credential(&[]);
            held.expire_time = Some((now() + left).to_utc());
            let asked = request(&[], &[], ttl);
            let decision = decide(&held, &asked, ISSUER, now());
            decision.map(|d| d.expires_at - d.issued_at).map_err(|e| e.reason())
        };
        assert_eq!(lasts(time::Duration::days(1), Some(3_600)), Ok(3_600));
        assert_eq!(lasts(time::Duration::seconds(90), Some(3_600)), Ok(90));
        assert_eq!(lasts(time::Duration::milliseconds(1_900), None), Ok(1));
        assert_eq!(lasts(time::Duration::milliseconds(900), None), Err(Reason::TokenExpired));
        assert_eq!(lasts(time::Duration::ZERO, None), Err(Reason::TokenExpired));
        for (asked, good) in
            [(1, true), (3_600, true), (0, false), (-1, false), (3_601, false), (i64::MAX, false)]
        {
            assert_eq!(
                ExchangeRequest::lifetime(Some(time::Duration::seconds(asked))).is_ok(),
                good,
                "{asked}"
            );
        }
    }
}
