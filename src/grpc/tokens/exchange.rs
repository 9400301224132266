//! `ExchangeToken`: a long-lived token becomes a short-lived JWT. Nothing is written.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;

use super::claims::claims;
use super::presented_at::PresentedAtFields;
use crate::domain::access::credential::Credential;
use crate::domain::access::exchange;
use crate::domain::tokens::limits::MAX_LIST;
use crate::domain::values::ids::OrgId;
use crate::domain::values::kinds::TokenKind;
use crate::domain::values::names::{Audience, Purpose};
use crate::domain::values::permissions::Permission;
use crate::error::{Code, Error, Reason, Result, Violations};
use crate::grpc::layers::auth::{Call, looks_like_jwt};
use crate::grpc::pb;
use crate::grpc::wire::convert;
use crate::state::State;
use crate::state::principals::Authenticated;

/// `issued_token_type` (RFC 8693, section 3).
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// Why `origin` and `client_address` do not count.
const UNBELIEVED: &str = "counts only from a caller that authenticates beside the subject_token and holds \
                          tokens.introspect in its org";

/// The longest life of an access token that is made while the database is gone.
const OUTAGE_LIFE: Duration = Duration::from_secs(60);

pub async fn exchange_token(
    state: &State,
    call: &Call,
    request: pb::ExchangeTokenRequest,
) -> Result<pb::ExchangeTokenResponse> {
    let subject = if request.subject_token.is_empty() { call.bearer()? } else { &request.subject_token };
    if looks_like_jwt(subject) {
        // An access token never begets another: its life would have no end.
        return Err(Reason::SubjectNotExchangeable.into());
    }
    let found = state.authenticator.by_string(subject, call.context.address).await?;
    let now = state.clock.now();
    found.check(now)?;
    let Authenticated { credential, in_outage, .. } = &found;
    let mut asked = asked(state, call, &request, credential.account.org_id).await?;
    if *in_outage {
        // Nobody can revoke it now: it must not outlive the outage by much.
        asked.cut_to(OUTAGE_LIFE);
    }
    let issued = match elsewhere(state, credential, &request.org_id).await? {
        None => issue(state, credential, &asked, now)?,
        Some(there) => issue(state, &there, &asked, now)?,
    };
    state.authenticator.record_use(&found, asked.address(), now);
    Ok(pb::ExchangeTokenResponse {
        access_token: issued.access_token,
        issued_token_type: ACCESS_TOKEN.to_owned(),
        token_type: "Bearer".to_owned(),
        expire_time: Some(issued.expire_time),
        scopes: issued.scope.split_ascii_whitespace().map(str::to_owned).collect(),
    })
}

/// A JWT, and what its holder is told of it.
pub struct Issued {
    pub access_token: String,
    pub expire_time: prost_types::Timestamp,
    /// Its claim `scope`.
    pub scope: String,
}

/// Makes the JWT that is asked for.
///
/// # Errors
/// What [`exchange::decide`] refuses; `SCOPE_TOO_WIDE`.
pub fn issue(
    state: &State,
    credential: &Credential,
    asked: &exchange::ExchangeRequest,
    now: OffsetDateTime,
) -> Result<Issued> {
    let decision = exchange::decide(credential, asked, state.keyring.signer.issuer(), now)?;
    let expire_time = prost_types::Timestamp { seconds: decision.expires_at, nanos: 0 };
    let claims = claims(state, credential, &credential.account, decision);
    Ok(Issued { access_token: state.keyring.signer.sign(&claims)?, expire_time, scope: claims.scope })
}

/// The subject in the org that is named, where that is another one than its own: a session's alone.
///
/// # Errors
/// `RESOURCE_NOT_FOUND` where it does not act, and for a token.
async fn elsewhere(state: &State, credential: &Credential, org_id: &str) -> Result<Option<Arc<Credential>>> {
    match convert::org_id(org_id)? {
        Some(org_id) if org_id != credential.account.org_id => {
            let there = match credential.kind {
                TokenKind::Session => state.authenticator.within(credential, org_id).await?,
                TokenKind::Secret | TokenKind::Publishable => None,
            };
            let there = there.filter(|there| there.account.check_active().is_ok());
            there.map(Some).ok_or_else(|| Error::not_found("org", org_id))
        }
        _ => Ok(None),
    }
}

async fn asked(
    state: &State,
    call: &Call,
    request: &pb::ExchangeTokenRequest,
    org_id: OrgId,
) -> Result<exchange::ExchangeRequest> {
    let mut violations = Violations::default();
    let audiences = violations.check_each("audiences", &request.audiences, MAX_LIST, Audience::parse);
    let scopes = violations.check_each("scopes", &request.scopes, MAX_LIST, Permission::parse);
    let ttl = request.requested_ttl.as_ref().map(convert::duration).transpose();
    let ttl = violations.check("requested_ttl", ttl.and_then(exchange::ExchangeRequest::lifetime));
    let purpose = violations.check("purpose", convert::optional(&request.purpose, Purpose::parse));
    let told = PresentedAtFields::read(&mut violations, &request.origin, &request.client_address);
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
    let shown_at = call.context.shown_at(told.origin, told.address.or(call.context.address))?;
    Ok(exchange::ExchangeRequest::new(audiences, scopes, ttl).shown(shown_at, purpose))
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
