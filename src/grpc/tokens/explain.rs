//! `ExplainToken`: why a token is refused, check by check.

use super::presented_at::PresentedAtFields;
use crate::domain::access::acting::Acting;
use crate::domain::access::checks::{
    CheckInput, CheckOutcome, TokenStringCheck, explain_credential_checks, explain_string_checks,
};
use crate::domain::access::presentation::PresentedAt;
use crate::domain::values::client_address::ClientAddress;
use crate::domain::values::ids::{OrgId, TokenId};
use crate::domain::values::names::{Audience, Purpose};
use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::Node;
use crate::error::{Error, Reason, Result, Violations};
use crate::grpc::layers::auth::{Call, looks_like_jwt};
use crate::grpc::pb;
use crate::grpc::pb::explain_token_request::Target;
use crate::grpc::wire::convert;
use crate::state::State;
use crate::state::authenticate::TokenStringLookup;

/// The token to explain, checked.
enum ExplainTarget<'a> {
    Text(&'a str),
    Id(TokenId),
}

pub async fn explain_token(
    state: &State,
    call: &Call,
    request: pb::ExplainTokenRequest,
) -> Result<pb::ExplainTokenResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    acting.require(&Permission::TOKENS_READ, &Node::Org)?;
    let mut violations = Violations::default();
    let asked = target(&mut violations, &request);
    let audience = violations.check("audience", convert::optional(&request.audience, Audience::parse));
    let purpose = violations.check("purpose", convert::optional(&request.purpose, Purpose::parse));
    let PresentedAtFields { origin, address } =
        PresentedAtFields::read(&mut violations, &request.origin, &request.client_address);
    let (asked, audience, purpose) = violations.all((asked, audience, purpose))?;

    let (mut outcomes, credential, secret) = match asked {
        ExplainTarget::Id(id) => {
            let found = state.authenticator.by_id(id).await?;
            let found = found.filter(|credential| credential.account.org_id == acting.org_id);
            (Vec::new(), Some(found.ok_or_else(|| Error::not_found("token", id))?), None)
        }
        ExplainTarget::Text(text) => {
            let named = !request.org_id.is_empty();
            let may_read = |org_id: OrgId| may_read(&acting, named, org_id);
            // An invalid token of others does not count as a failure of the caller's address.
            match state.authenticator.read_string(text, ClientAddress::UNKNOWN).await? {
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
        let presentation = PresentedAt { address, origin };
        let presented = presentation.with(purpose.as_ref());
        let used = CheckInput {
            now: state.clock.now(),
            secret,
            presentation: presented,
            audience: audience.as_ref(),
        };
        outcomes.extend(explain_credential_checks(&credential, &used));
    }
    Ok(pb::ExplainTokenResponse { checks: outcomes.iter().map(check).collect() })
}

fn target<'a>(
    violations: &mut Violations,
    request: &'a pb::ExplainTokenRequest,
) -> Option<ExplainTarget<'a>> {
    match &request.target {
        None => violations.check("target", Err("is required: token_text or token_id")),
        Some(Target::TokenId(id)) => violations.check("token_id", TokenId::parse(id)).map(ExplainTarget::Id),
        Some(Target::TokenText(text)) if text.is_empty() => {
            violations.check("token_text", Err("is required"))
        }
        Some(Target::TokenText(text)) if looks_like_jwt(text) => {
            violations.check("token_text", Err("is a JWT: use IntrospectToken for those"))
        }
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
        name: outcome.name.to_owned(),
        passed: outcome.failure.is_none(),
        reason: outcome.failure.map(Reason::name).unwrap_or_default().to_owned(),
    }
}
