//! `IntrospectToken` and `BatchIntrospectTokens`: is a token valid now, and for what (RFC 7662).

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use time::OffsetDateTime;

use super::presented_at::PresentedAtFields;
use crate::domain::access::caller::Caller;
use crate::domain::access::member::Member;
use crate::domain::access::presentation::PresentedAt;
use crate::domain::tokens::limits::MAX_LIST;
use crate::domain::values::client_address::ClientAddress;
use crate::domain::values::ids::{CredentialId, OrgId};
use crate::domain::values::names::{Audience, Purpose};
use crate::domain::values::permissions::Permission;
use crate::error::{Code, Error, Reason, Result, Violations};
use crate::grpc::layers::auth::{Call, looks_like_jwt};
use crate::grpc::pb;
use crate::grpc::wire::convert;
use crate::state::State;

/// The maximum time to cache a response: a revocation must not go unseen for longer.
const MAX_CACHE: Duration = Duration::from_secs(60);

pub async fn introspect_token(
    state: &State,
    call: &Call,
    request: pb::IntrospectTokenRequest,
) -> Result<pb::IntrospectTokenResponse> {
    let caller = verifier(call)?;
    let mut violations = Violations::default();
    let asked = IntrospectionRequest::read(&mut violations, &request);
    let (asked,) = violations.all((asked,))?;
    introspect(state, call, caller, &asked).await
}

pub async fn batch_introspect_tokens(
    state: &State,
    call: &Call,
    request: pb::BatchIntrospectTokensRequest,
) -> Result<pb::BatchIntrospectTokensResponse> {
    let caller = verifier(call)?;
    let mut violations = Violations::default();
    let asked: Vec<_> = match request.requests.len() {
        0 => {
            violations.add("requests", "is required");
            Vec::new()
        }
        n if n > MAX_LIST => {
            violations.add("requests", format!("holds {n} requests; at most {MAX_LIST} are allowed"));
            Vec::new()
        }
        _ => {
            let each = request.requests.iter().enumerate();
            each.filter_map(|(i, one)| {
                let mut wrong = Violations::default();
                let asked = IntrospectionRequest::read(&mut wrong, one);
                violations.take_in(&format!("requests[{i}]"), wrong);
                asked
            })
            .collect()
        }
    };
    violations.finish()?;
    // Sequential: the cache answers most, and a batch uses no more of the database at a time than
    // one call.
    let mut responses = Vec::with_capacity(asked.len());
    for one in &asked {
        responses.push(introspect(state, call, caller, one).await?);
    }
    Ok(pb::BatchIntrospectTokensResponse { responses })
}

/// The caller, who must be allowed to introspect somewhere.
fn verifier(call: &Call) -> Result<&Caller> {
    let caller = call.caller()?;
    if caller.may_verify(caller.home()) {
        return Ok(caller);
    }
    let message = format!("the caller needs {} in an org", Permission::TOKENS_INTROSPECT);
    Err(Error::with_message(Reason::PermissionMissing, message)
        .with_metadata("permission", Permission::TOKENS_INTROSPECT.as_str()))
}

/// The checked request: the token, and what it must be valid for.
struct IntrospectionRequest<'a> {
    token_text: &'a str,
    audience: Option<Audience>,
    purpose: Option<Purpose>,
    fields: PresentedAtFields,
    required: Vec<Permission>,
}

impl<'a> IntrospectionRequest<'a> {
    /// Checks a request.
    fn read(violations: &mut Violations, request: &'a pb::IntrospectTokenRequest) -> Option<Self> {
        if request.token_text.is_empty() {
            violations.add("token_text", "is required");
        }
        let audience = violations.check("audience", convert::optional(&request.audience, Audience::parse));
        let purpose = violations.check("purpose", convert::optional(&request.purpose, Purpose::parse));
        let fields = PresentedAtFields::read(violations, &request.origin, &request.client_address);
        let required =
            violations.check_each("required_scopes", &request.required_scopes, MAX_LIST, Permission::parse);
        Some(Self {
            token_text: &request.token_text,
            audience: audience?,
            purpose: purpose?,
            fields,
            required,
        })
    }
}

async fn introspect(
    state: &State,
    call: &Call,
    caller: &Caller,
    asked: &IntrospectionRequest<'_>,
) -> Result<pb::IntrospectTokenResponse> {
    let presentation = call.context.presented_at(asked.fields.origin.clone(), asked.fields.address)?;
    // Credentials that others sent to the caller do not count as failures of the caller's
    // address.
    let from = ClientAddress::UNKNOWN;
    let looked_up = if looks_like_jwt(asked.token_text) {
        access_token(state, asked, &presentation, from).await
    } else {
        service_token(state, asked, &presentation, from).await
    };
    let found = match looked_up {
        Ok(found) => found,
        // An invalid token is reported as inactive, whatever the cause; our own failures are
        // returned as errors.
        Err(error) if error.reason().code() == Code::Unauthenticated => None,
        Err(error) => return Err(error),
    };
    let held = |response: &pb::IntrospectTokenResponse| {
        let scopes: HashSet<_> = response.scope.split_ascii_whitespace().collect();
        asked.required.iter().all(|scope| scopes.contains(scope.as_str()))
    };
    Ok(match found {
        Some((org_id, response)) if caller.may_verify(org_id) && held(&response) => response,
        _ => pb::IntrospectTokenResponse::default(),
    })
}

type Found = Option<(OrgId, pb::IntrospectTokenResponse)>;

async fn service_token(
    state: &State,
    asked: &IntrospectionRequest<'_>,
    presentation: &PresentedAt,
    from: ClientAddress,
) -> Result<Found> {
    let found = state.authenticator.by_string(asked.token_text, from).await?;
    let (end, now) = (found.end(), state.clock.now());
    found.check(now)?;
    let credential = found.credential;
    let may_target = asked.audience.as_ref().is_none_or(|audience| credential.may_target(audience));
    if !may_target || credential.admit(&presentation.with(asked.purpose.as_ref())).is_err() {
        return Ok(None);
    }
    let left = end.map(|end| (end - now).unsigned_abs());
    Ok(Some((
        credential.account.org_id,
        pb::IntrospectTokenResponse {
            scope: joined(
                &credential.effective_rights().on_org(&named(&credential.account.named_by_org, asked)),
            ),
            exp: end.map_or(0, OffsetDateTime::unix_timestamp),
            iat: credential.create_time.unix_timestamp(),
            nbf: credential.create_time.unix_timestamp(),
            aud: credential.targets(state.keyring.signer.issuer()),
            max_cache_ttl: Some(convert::proto_duration(left.unwrap_or(MAX_CACHE).min(MAX_CACHE))),
            ..common(state, credential.credential_id, &credential.account)
        },
    )))
}

async fn access_token(
    state: &State,
    asked: &IntrospectionRequest<'_>,
    presentation: &PresentedAt,
    from: ClientAddress,
) -> Result<Found> {
    let verified = state.authenticator.by_access_token(asked.token_text, from).await?;
    let (credential, claims) = (&verified.found.credential, &verified.token.claims);
    let is_for = |audience: &Audience| claims.aud.as_slice().iter().any(|aud| aud == audience.as_str());
    let presented = presentation.with(asked.purpose.as_ref());
    if !asked.audience.as_ref().is_none_or(is_for) || credential.admit_access_token(&presented).is_err() {
        return Ok(None);
    }
    // If the expiry of the token, or of its secret, was brought forward since, its JWTs expire with it.
    let end = credential.end(verified.token.secret());
    let exp = end.map_or(claims.exp, |end| claims.exp.min(end.unix_timestamp()));
    let left = Duration::from_secs((exp - state.clock.now().unix_timestamp()).max(0) as u64);
    let member = verified.member();
    let scope = match (&verified.impersonation, &verified.token.narrowed_to) {
        // The administrator's rights may have been narrowed since.
        (Some(impersonation), Some(carried)) => {
            joined(&impersonation.rights(carried).on_org(&named(&member.named_by_org, asked)))
        }
        _ => claims.scope.clone(),
    };
    Ok(Some((
        member.org_id,
        pb::IntrospectTokenResponse {
            scope,
            exp,
            iat: claims.iat,
            nbf: claims.nbf,
            aud: claims.aud.as_slice().to_vec(),
            jti: claims.jti.clone(),
            actor: verified.token.actor_id.map(|id| id.to_string()).unwrap_or_default(),
            max_cache_ttl: Some(convert::proto_duration(left.min(MAX_CACHE))),
            ..common(state, credential.credential_id, member)
        },
    )))
}

/// What an owner's scopes may list: permissions that the org names, and requested ones, which the
/// org need not name.
fn named(by_org: &BTreeSet<Permission>, asked: &IntrospectionRequest<'_>) -> BTreeSet<Permission> {
    by_org.iter().chain(&asked.required).cloned().collect()
}

fn joined(scope: &BTreeSet<Permission>) -> String {
    scope.iter().map(Permission::as_str).collect::<Vec<_>>().join(" ")
}

fn common(state: &State, client_id: CredentialId, member: &Member) -> pb::IntrospectTokenResponse {
    pb::IntrospectTokenResponse {
        active: true,
        client_id: client_id.to_string(),
        username: member.username.clone(),
        token_type: "Bearer".to_owned(),
        sub: member.account_id.to_string(),
        iss: state.keyring.signer.issuer().to_owned(),
        org_id: member.org_id.to_string(),
        account_kind: convert::account_kind(member.account_kind).into(),
        ..Default::default()
    }
}
