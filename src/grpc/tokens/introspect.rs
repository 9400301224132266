//! `IntrospectToken`: is it good, now, and for what (RFC 7662).

use std::net::IpAddr;
use std::time::Duration;

use super::shown::Told;
use crate::domain::access_token::AccessToken;
use crate::domain::caller::Caller;
use crate::domain::exchange::{ShownAt, may_target};
use crate::domain::ids::OrgId;
use crate::domain::names::{Audience, Purpose};
use crate::domain::permissions::Permission;
use crate::domain::policy::MAX_LIST;
use crate::domain::principal::Principal;
use crate::error::{Code, Error, Reason, Result, Violations};
use crate::grpc::auth::{Call, looks_like_jwt};
use crate::grpc::{convert, pb};
use crate::principals;
use crate::state::State;

/// How long an answer may be kept at most: a revocation is not to be overlooked for longer.
const MAX_CACHE: Duration = Duration::from_secs(60);

pub async fn token(
    state: &State,
    call: &Call,
    request: pb::IntrospectTokenRequest,
) -> Result<pb::IntrospectTokenResponse> {
    let caller = call.caller()?;
    if !may_verify(caller) {
        let message = format!("the caller needs {} in an org", Permission::TOKENS_INTROSPECT);
        return Err(Error::with_message(Reason::PermissionMissing, message)
            .with_metadata("permission", Permission::TOKENS_INTROSPECT.as_str()));
    }
    let mut violations = Violations::default();
    if request.token_text.is_empty() {
        violations.add("token_text", "is required");
    }
    let audience = violations.check("audience", convert::optional(&request.audience, Audience::parse));
    let required =
        violations.check_each("required_scopes", &request.required_scopes, MAX_LIST, Permission::parse);
    let purpose = violations.check("purpose", convert::optional(&request.purpose, Purpose::parse));
    let told = Told::read(&mut violations, &request.origin, &request.client_address);
    violations.finish()?;
    let (Some(audience), Some(purpose)) = (audience, purpose) else {
        return Err(Error::internal("a field was refused without a violation"));
    };
    let asked = Asked { audience, purpose, shown_at: call.origin.shown_at(told.origin, told.address)? };

    // What others sent to the caller is no failure of the caller's address.
    let from = None;
    let looked_up = if looks_like_jwt(&request.token_text) {
        access_token(state, &request.token_text, &asked, from).await
    } else {
        service_token(state, &request.token_text, &asked, from).await
    };
    let found = match looked_up {
        Ok(found) => found,
        // Whatever is wrong with it, it is not good; what is wrong with us is another matter.
        Err(error) if error.reason().code() == Code::Unauthenticated => None,
        Err(error) => return Err(error),
    };
    let held = |response: &pb::IntrospectTokenResponse| {
        let scopes: Vec<_> = response.scope.split_ascii_whitespace().collect();
        required.iter().all(|scope| scopes.contains(&scope.as_str()))
    };
    Ok(match found {
        Some((org_id, response)) if caller.may_verify(org_id) && held(&response) => response,
        _ => pb::IntrospectTokenResponse::default(),
    })
}

/// Whether the caller may introspect anything at all.
fn may_verify(caller: &Caller) -> bool {
    caller.may_verify(caller.home())
}

/// What the token is to be good for.
struct Asked {
    audience: Option<Audience>,
    purpose: Option<Purpose>,
    shown_at: ShownAt,
}

type Found = Option<(OrgId, pb::IntrospectTokenResponse)>;

async fn service_token(state: &State, text: &str, asked: &Asked, from: Option<IpAddr>) -> Result<Found> {
    let principal = principals::by_text(state, text, from).await?.principal;
    let now = state.clock.now();
    principal.check(now)?;
    let may_target = asked.audience.as_ref().is_none_or(|audience| may_target(&principal, audience));
    if !may_target || principal.admit(&asked.shown_at.with(asked.purpose.as_ref())).is_err() {
        return Ok(None);
    }
    let scope = principal.effective_rights().on_org(&principal.named_by_org);
    let scope: Vec<&str> = scope.iter().map(Permission::as_str).collect();
    let left = principal.expire_time.map(|end| (end - now).unsigned_abs());
    Ok(Some((
        principal.org_id,
        pb::IntrospectTokenResponse {
            scope: scope.join(" "),
            exp: principal.expire_time.map_or(0, |end| end.unix_timestamp()),
            iat: principal.create_time.unix_timestamp(),
            nbf: principal.create_time.unix_timestamp(),
            aud: principal.restrictions.audiences.iter().map(ToString::to_string).collect(),
            max_cache_ttl: Some(convert::proto_duration(left.unwrap_or(MAX_CACHE).min(MAX_CACHE))),
            ..common(state, &principal)
        },
    )))
}

async fn access_token(state: &State, jwt: &str, asked: &Asked, from: Option<IpAddr>) -> Result<Found> {
    let (found, AccessToken { claims, .. }) = principals::by_access_token(state, jwt, from).await?;
    let principal = found.principal;
    let is_for = |audience: &Audience| claims.aud.as_slice().iter().any(|aud| aud == audience.as_str());
    let shown = asked.shown_at.with(asked.purpose.as_ref());
    if !asked.audience.as_ref().is_none_or(is_for) || principal.admit_access_token(&shown).is_err() {
        return Ok(None);
    }
    let left = Duration::from_secs((claims.exp - state.clock.now().unix_timestamp()).max(0) as u64);
    Ok(Some((
        principal.org_id,
        pb::IntrospectTokenResponse {
            scope: claims.scope.clone(),
            exp: claims.exp,
            iat: claims.iat,
            nbf: claims.nbf,
            aud: claims.aud.as_slice().to_vec(),
            jti: claims.jti,
            max_cache_ttl: Some(convert::proto_duration(left.min(MAX_CACHE))),
            ..common(state, &principal)
        },
    )))
}

fn common(state: &State, principal: &Principal) -> pb::IntrospectTokenResponse {
    pb::IntrospectTokenResponse {
        active: true,
        client_id: principal.token_id.to_string(),
        username: principal.username.clone(),
        token_type: "Bearer".to_owned(),
        sub: principal.account_id.to_string(),
        iss: state.ring.issuer().to_owned(),
        org_id: principal.org_id.to_string(),
        account_kind: convert::account_kind(principal.account_kind).into(),
        ..Default::default()
    }
}
