//! `ExplainToken`: why a token is refused, check by check.

use super::presented_at::PresentedAtFields;
use crate::domain::access::acting::Acting;
use crate::domain::access::checks::{
    Check, CheckInput, CheckOutcome, TokenStringCheck, explain_access_token_checks, explain_assertion_checks,
    explain_credential_checks, explain_foreign_checks, explain_string_checks,
};
use crate::domain::access::credential::Credential;
use crate::domain::access::presentation::PresentedAt;
use crate::domain::tokens::assertion::AssertionCheck;
use crate::domain::tokens::limits::MAX_LIST;
use crate::domain::values::client_address::ClientAddress;
use crate::domain::values::ids::{OrgId, RuleId, TokenId};
use crate::domain::values::names::{Audience, Purpose};
use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::Node;
use crate::error::{Error, Reason, Result, Violations};
use crate::grpc::layers::auth::{Call, looks_like_jwt};
use crate::grpc::pb;
use crate::grpc::pb::explain_token_request::Target;
use crate::grpc::wire::convert;
use crate::state::State;
use crate::state::assertions::ExplainedAssertion;
use crate::state::authenticate::TokenStringLookup;
use crate::state::federation::ExplainedForeign;

/// The token to explain, checked.
enum ExplainTarget<'a> {
    Text(&'a str),
    AccessToken(&'a str),
    Assertion(&'a str),
    /// A JWT of another issuer, for this rule.
    Foreign(&'a str, RuleId),
    Id(TokenId),
}

pub async fn explain_token(
    state: &State,
    call: &Call,
    request: pb::ExplainTokenRequest,
) -> Result<pb::ExplainTokenResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    let needed = match request.federation_rule_id.is_empty() {
        true => &Permission::TOKENS_READ,
        false => &Permission::FEDERATION_READ,
    };
    acting.require(needed, &Node::Org)?;
    let mut violations = Violations::default();
    let asked = target(&mut violations, &request);
    let audience = violations.check("audience", convert::optional(&request.audience, Audience::parse));
    let purpose = violations.check("purpose", convert::optional(&request.purpose, Purpose::parse));
    let PresentedAtFields { origin, address } =
        PresentedAtFields::read(&mut violations, &request.origin, &request.client_address);
    let certificate = PresentedAtFields::certificate(&mut violations, &request.client_certificate_thumbprint);
    let scopes = violations.check_each("scopes", &request.scopes, MAX_LIST, Permission::parse);
    let node = violations.check("resource", convert::optional(&request.resource, Node::parse));
    let (asked, audience, purpose, certificate, node) =
        violations.all((asked, audience, purpose, certificate, node))?;

    // The rights that a JWT carries, and why it is refused beside the checks of its token.
    let (mut carried, mut version, mut bound_to) = (None, None, None);
    let (mut outcomes, credential, secret) = match asked {
        ExplainTarget::AccessToken(jwt) => {
            let named = !request.org_id.is_empty();
            let found = state.authenticator.explain_access_token(jwt).await?;
            let found = found.map(|found| found.filter(|found| may_read(&acting, named, found.token.org_id)));
            match found {
                Err(reason) => (explain_access_token_checks(Some(Err(reason))), None, None),
                Ok(None) => (explain_access_token_checks(Some(Ok(()))), None, None),
                Ok(Some(found)) => {
                    version = Some(found.refusal);
                    bound_to = found.token.bound_to;
                    let aud = found.token.claims.aud.as_slice();
                    let wanted = audience.as_ref().map_or(state.keyring.signer.issuer(), Audience::as_str);
                    carried = Some((found.token.listed.clone(), aud.iter().any(|aud| aud == wanted)));
                    (explain_access_token_checks(None), Some(found.credential), None)
                }
            }
        }
        ExplainTarget::Assertion(text) => {
            let named = !request.org_id.is_empty();
            let explained = state.authenticator.explain_assertion(text, state.clock.now()).await?;
            let ExplainedAssertion { failed, found } = explained;
            let may_read = |credential: &Credential| may_read(&acting, named, credential.account.org_id);
            match found.filter(|(credential, _)| may_read(credential)) {
                Some((credential, number)) => (explain_assertion_checks(failed), Some(credential), number),
                // That of a token of others is answered as if there were none.
                None => {
                    let of_text = failed.filter(|failed| !AssertionCheck::OF_TOKEN.contains(failed));
                    (explain_assertion_checks(of_text.or(Some(AssertionCheck::Known))), None, None)
                }
            }
        }
        ExplainTarget::Foreign(text, rule_id) => {
            // The rule is named, in the org of the call alone: nothing is searched.
            let found = state.authenticator.by_rule(rule_id).await?;
            let found = found.filter(|credential| credential.account.org_id == acting.org_id);
            let credential = found.ok_or_else(|| Error::not_found("federation rule", rule_id))?;
            let federated = credential.federated.as_deref();
            let federated = federated.ok_or_else(|| Error::internal("a rule that is none"))?;
            let explained = state.authenticator.explain_foreign_assertion(
                text,
                &credential,
                federated,
                state.clock.now(),
            );
            let ExplainedForeign { checks, is_our_own } = Box::pin(explained).await?;
            let mut outcomes = explain_foreign_checks(&checks, federated);
            if is_our_own {
                outcomes.insert(0, CheckOutcome::of("exchangeable", false, Reason::SubjectNotExchangeable));
            }
            (outcomes, Some(credential.clone()), None)
        }
        ExplainTarget::Id(id) => {
            let found = state.authenticator.by_id(id).await?;
            let found = found.filter(|credential| credential.account.org_id == acting.org_id);
            (Vec::new(), Some(found.ok_or_else(|| Error::not_found("token", id))?), None)
        }
        ExplainTarget::Text(text) => {
            let named = !request.org_id.is_empty();
            let may_read = |org_id: OrgId| may_read(&acting, named, org_id);
            // An invalid token of others does not count as a failure of the caller's address.
            match state.authenticator.read_string(text, ClientAddress::UNKNOWN, state.clock.now()).await? {
                TokenStringLookup::Good(found) if may_read(found.credential.account.org_id) => {
                    (explain_string_checks(None), Some(found.credential), found.secret)
                }
                TokenStringLookup::WrongSecret(credential) if may_read(credential.account.org_id) => {
                    (explain_string_checks(Some(TokenStringCheck::Secret)), Some(credential), None)
                }
                // Answered as if it did not exist.
                TokenStringLookup::Good(_) | TokenStringLookup::WrongSecret(_) => {
                    (explain_string_checks(Some(TokenStringCheck::Known)), None, None)
                }
                TokenStringLookup::Failed(check) => (explain_string_checks(Some(check)), None, None),
            }
        }
    };
    if let Some(credential) = credential {
        let presentation = PresentedAt { address, origin, certificate };
        let presented = presentation.with(purpose.as_ref());
        let used = CheckInput {
            now: state.clock.now(),
            secret,
            presentation: presented,
            audience: audience.as_ref(),
            issuer: state.keyring.signer.issuer(),
        };
        let mut of_token = explain_credential_checks(&credential, &used);
        if let Some(bound) = of_token.iter_mut().find(|outcome| outcome.name == "certificate")
            && bound_to.is_some()
            && certificate.thumbprint() != bound_to
        {
            bound.failure = Some(Reason::ClientCertificateNotAllowed);
        }
        let held = |permission: &Permission| {
            let rights = credential.effective_rights();
            let own = node
                .as_ref()
                .map_or(rights.hold_somewhere(permission), |node| rights.cover(permission, node));
            own && carried.as_ref().is_none_or(|(carried, _)| {
                node.as_ref()
                    .map_or(carried.hold_somewhere(permission), |node| carried.cover(permission, node))
            })
        };
        of_token.push(CheckOutcome::of("scopes", scopes.iter().all(held), Reason::ScopeNotHeld));
        if let Some((_, is_for)) = &carried {
            of_token.retain(|outcome| outcome.name != "audience");
            let at = of_token.len() - 1;
            of_token.insert(at, CheckOutcome::of("audience", *is_for, Reason::InvalidTarget));
        }
        if let Some(refusal) = version {
            // What a check of the token says already is not said again.
            let known = of_token.iter().any(|outcome| outcome.failure == refusal);
            let at = Check::OF_STATE.len();
            let failure = refusal.filter(|_| !known);
            of_token.insert(at, CheckOutcome::made("version", failure));
        }
        outcomes.extend(of_token);
    }
    Ok(pb::ExplainTokenResponse { checks: outcomes.iter().map(check).collect() })
}

fn target<'a>(
    violations: &mut Violations,
    request: &'a pb::ExplainTokenRequest,
) -> Option<ExplainTarget<'a>> {
    match &request.target {
        None => violations.check("target", Err("is required: token_text, token_id or assertion")),
        Some(Target::TokenId(_) | Target::TokenText(_)) if !request.federation_rule_id.is_empty() => {
            violations.check("federation_rule_id", Err("goes with an assertion alone"))
        }
        Some(Target::TokenId(id)) => violations.check("token_id", TokenId::parse(id)).map(ExplainTarget::Id),
        Some(Target::TokenText(text)) if text.is_empty() => {
            violations.check("token_text", Err("is required"))
        }
        Some(Target::Assertion(text)) if text.is_empty() => violations.check("assertion", Err("is required")),
        Some(Target::Assertion(text)) if !request.federation_rule_id.is_empty() => {
            let rule_id = violations.check("federation_rule_id", RuleId::parse(&request.federation_rule_id));
            rule_id.map(|rule_id| ExplainTarget::Foreign(text, rule_id))
        }
        Some(Target::Assertion(text)) => Some(ExplainTarget::Assertion(text)),
        Some(Target::TokenText(text)) if looks_like_jwt(text) => Some(ExplainTarget::AccessToken(text)),
        Some(Target::TokenText(text)) => Some(ExplainTarget::Text(text)),
    }
}

/// Whether the caller may read the tokens of the org that the token string belongs to. If the
/// request names an org it must be that one, else any in which the caller may act.
fn may_read(acting: &Acting<'_>, named: bool, org_id: OrgId) -> bool {
    if named {
        return org_id == acting.org_id;
    }
    let there = acting.caller.acting_in(Some(org_id));
    there.is_ok_and(|there| there.require(&Permission::TOKENS_READ, &Node::Org).is_ok())
}

fn check(outcome: &CheckOutcome) -> pb::TokenCheck {
    pb::TokenCheck {
        name: outcome.name.clone().into_owned(),
        passed: outcome.was_made && outcome.failure.is_none(),
        reason: outcome.failure.map(Reason::name).unwrap_or_default().to_owned(),
    }
}
