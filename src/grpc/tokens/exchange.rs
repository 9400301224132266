//! `ExchangeToken`: a long-lived token becomes a short-lived JWT. Nothing is written.

use std::time::Duration;

use super::claims::claims;
use super::shown::Told;
use crate::domain::exchange;
use crate::domain::ids::OrgId;
use crate::domain::names::{Audience, Purpose};
use crate::domain::permissions::Permission;
use crate::domain::policy::MAX_LIST;
use crate::error::{Code, Error, Reason, Result, Violations};
use crate::grpc::auth::{Call, looks_like_jwt};
use crate::grpc::{convert, pb};
use crate::principals::{self, Authenticated};
use crate::state::State;

/// `issued_token_type` (RFC 8693, section 3).
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// Why `origin` and `client_address` do not count.
const UNBELIEVED: &str = "counts only from a caller that authenticates beside the subject_token and holds \
                          tokens.introspect in its org";

/// The longest life of an access token that is made while the database is gone.
const OUTAGE_LIFE: Duration = Duration::from_secs(60);

pub async fn token(
    state: &State,
    call: &Call,
    request: pb::ExchangeTokenRequest,
) -> Result<pb::ExchangeTokenResponse> {
    let subject = if request.subject_token.is_empty() { call.bearer()? } else { &request.subject_token };
    if looks_like_jwt(subject) {
        // An access token never begets another: its life would have no end.
        return Err(Reason::SubjectNotExchangeable.into());
    }
    let found = principals::by_text(state, subject, call.origin.address).await?;
    let now = state.clock.now();
    found.check(now)?;
    let Authenticated { principal, in_outage, .. } = &found;
    let mut asked = asked(state, call, &request, principal.org_id).await?;
    if *in_outage {
        // Nobody can revoke it now: it must not outlive the outage by much.
        asked.cut_to(OUTAGE_LIFE);
    }
    let decision = exchange::decide(principal, &asked, state.ring.issuer(), now)?;
    let expires_at = decision.expires_at;
    let claims = claims(state, principal, &principal.member, decision);
    let access_token = state.ring.sign(&claims)?;
    state.uses.note(&found, asked.address(), now);
    Ok(pb::ExchangeTokenResponse {
        access_token,
        issued_token_type: ACCESS_TOKEN.to_owned(),
        token_type: "Bearer".to_owned(),
        expire_time: Some(prost_types::Timestamp { seconds: expires_at, nanos: 0 }),
        scopes: claims.scope.split_ascii_whitespace().map(str::to_owned).collect(),
    })
}

async fn asked(
    state: &State,
    call: &Call,
    request: &pb::ExchangeTokenRequest,
    org_id: OrgId,
) -> Result<exchange::Request> {
    let mut violations = Violations::default();
    let audiences = violations.check_each("audiences", &request.audiences, MAX_LIST, Audience::parse);
    let scopes = violations.check_each("scopes", &request.scopes, MAX_LIST, Permission::parse);
    let ttl = request.requested_ttl.as_ref().map(convert::duration).transpose();
    let ttl = violations.check("requested_ttl", ttl.and_then(exchange::Request::lifetime));
    let purpose = violations.check("purpose", convert::optional(&request.purpose, Purpose::parse));
    let told = Told::read(&mut violations, &request.origin, &request.client_address);
    if told.is_some() && !is_believed(state, call, request, org_id).await? {
        for (field, text) in [("origin", &request.origin), ("client_address", &request.client_address)] {
            if !text.is_empty() {
                violations.add(field, UNBELIEVED);
            }
        }
    }
    violations.finish()?;
    let (Some(ttl), Some(purpose)) = (ttl, purpose) else {
        return Err(Error::internal("a field was refused without a violation"));
    };
    let shown_at = call.origin.shown_at(told.origin, told.address.or(call.origin.address))?;
    Ok(exchange::Request::new(audiences, scopes, ttl).shown(shown_at, purpose))
}

/// Whether the bearer beside the subject is somebody whose word on who shows it counts.
async fn is_believed(
    state: &State,
    call: &Call,
    request: &pb::ExchangeTokenRequest,
    org_id: OrgId,
) -> Result<bool> {
    if request.subject_token.is_empty() {
        return Ok(false);
    }
    match call.authenticate(state).await {
        Ok(caller) => Ok(caller.may_verify(org_id)),
        Err(error) if matches!(error.reason().code(), Code::Unauthenticated | Code::PermissionDenied) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
