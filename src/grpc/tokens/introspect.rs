//! `IntrospectToken`: is it good, now, and for what (RFC 7662).

use std::net::IpAddr;
use std::time::Duration;

use crate::domain::access_token::AccessToken;
use crate::domain::caller::Caller;
use crate::domain::exchange::may_target;
use crate::domain::ids::OrgId;
use crate::domain::names::Audience;
use crate::domain::permissions::Permission;
use crate::domain::policy::MAX_LIST;
use crate::domain::principal::Principal;
use crate::domain::resources::Node;
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
    let (Some(audience), ()) = (audience, violations.finish()?) else {
        return Err(Error::internal("a field was refused without a violation"));
    };

    let from = call.origin.address;
    let looked_up = if looks_like_jwt(&request.token_text) {
        access_token(state, &request.token_text, audience.as_ref(), from).await
    } else {
        service_token(state, &request.token_text, audience.as_ref(), from).await
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
        Some((org_id, response)) if may_see(caller, org_id) && held(&response) => response,
        _ => pb::IntrospectTokenResponse::default(),
    })
}

/// Whether the caller may introspect anything at all.
fn may_verify(caller: &Caller) -> bool {
    caller.holds_platform(&Permission::PLATFORM_VERIFY)
        || caller
            .acting_in(None)
            .is_ok_and(|acting| acting.require(&Permission::TOKENS_INTROSPECT, &Node::Org).is_ok())
}

/// Whether the caller may introspect tokens of this org.
fn may_see(caller: &Caller, org_id: OrgId) -> bool {
    let in_org = caller.acting_in(Some(org_id));
    caller.holds_platform(&Permission::PLATFORM_VERIFY)
        || in_org.is_ok_and(|acting| acting.require(&Permission::TOKENS_INTROSPECT, &Node::Org).is_ok())
}

type Found = Option<(OrgId, pb::IntrospectTokenResponse)>;

async fn service_token(
    state: &State,
    text: &str,
    audience: Option<&Audience>,
    from: Option<IpAddr>,
) -> Result<Found> {
    let principal = principals::by_text(state, text, from).await?.principal;
    let now = state.clock.now();
    principal.check(now)?;
    if !audience.is_none_or(|audience| may_target(&principal, audience)) {
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

async fn access_token(
    state: &State,
    jwt: &str,
    audience: Option<&Audience>,
    from: Option<IpAddr>,
) -> Result<Found> {
    let (found, AccessToken { claims, .. }) = principals::by_access_token(state, jwt, from).await?;
    let principal = found.principal;
    if !audience.is_none_or(|audience| claims.aud.as_slice().iter().any(|aud| aud == audience.as_str())) {
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
