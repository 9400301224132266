//! `IntrospectToken` and `BatchIntrospectTokens`: is a token valid now, and for what (RFC 7662).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use prost::Message;
use time::OffsetDateTime;

use super::presented_at::PresentedAtFields;
use crate::domain::access::access_token::{Detail, GRANT_DETAIL};
use crate::domain::access::caller::Caller;
use crate::domain::access::carried::Carried;
use crate::domain::access::credential::Credential;
use crate::domain::access::presentation::PresentedAt;
use crate::domain::access::rights::Rights;
use crate::domain::tokens::limits::MAX_LIST;
use crate::domain::values::client_address::ClientAddress;
use crate::domain::values::client_certificate::{PresentedCertificate, Sha256Digest};
use crate::domain::values::ids::OrgId;
use crate::domain::values::names::{Audience, Purpose};
use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::Node;
use crate::error::{Code, Error, Reason, Result, Violations};
use crate::grpc::layers::auth::{Call, looks_like_jwt};
use crate::grpc::layers::body::MESSAGE_HEAD;
use crate::grpc::pb;
use crate::grpc::service::{Answer, Fields, encode};
use crate::grpc::wire::{answer_size, convert};
use crate::state::State;

/// The maximum time to cache a response: a revocation must not go unseen for longer.
const MAX_CACHE: Duration = Duration::from_secs(60);

/// `token_type` (RFC 6750).
const BEARER: &str = "Bearer";

pub async fn introspect_token<'a>(
    state: &'a State,
    call: &Call,
    request: pb::IntrospectTokenRequest,
) -> Result<Introspection<'a>> {
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
    let mut left = answer_size::MOST;
    for one in &asked {
        let mut response = introspect(state, call, caller, one).await?.into_message();
        if answer_size::in_list(&response) > left {
            shorten(&mut response, one);
        }
        left = left.saturating_sub(answer_size::in_list(&response));
        responses.push(response);
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
    certificate: PresentedCertificate,
    required: Vec<Permission>,
    /// Where they are required.
    node: Node,
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
        let certificate = PresentedAtFields::certificate(violations, &request.client_certificate_thumbprint);
        let required =
            violations.check_each("required_scopes", &request.required_scopes, MAX_LIST, Permission::parse);
        let node = violations.check("resource", convert::optional(&request.resource, Node::parse));
        Some(Self {
            token_text: &request.token_text,
            audience: audience?,
            purpose: purpose?,
            fields,
            certificate: certificate?,
            required,
            node: node?.unwrap_or(Node::Org),
        })
    }

    /// Whether each required scope is held where it is required.
    fn is_covered(&self, held: impl Fn(&Permission, &Node) -> bool) -> bool {
        self.required.iter().all(|permission| held(permission, &self.node))
    }
}

/// Leaves of the lists of a response what was asked for, where a batch is too large with all of them.
fn shorten(response: &mut pb::IntrospectTokenResponse, asked: &IntrospectionRequest<'_>) {
    let required: BTreeSet<_> = asked.required.iter().map(Permission::as_str).collect();
    let scopes = response.scope.split_ascii_whitespace().filter(|scope| required.contains(scope));
    response.scope = scopes.collect::<Vec<_>>().join(" ");
    response.authorization_details.clear();
    // Never none: that would be any audience.
    let asked_for = |aud: &&String| asked.audience.as_ref().is_some_and(|audience| audience.as_str() == *aud);
    let kept = response.aud.iter().find(asked_for).or(response.aud.first()).cloned();
    response.aud = kept.into_iter().collect();
}

/// What an introspection found.
pub enum Introspection<'a> {
    /// Nothing that is valid.
    Inactive,
    Token(Box<ActiveToken<'a>>),
    AccessToken(Box<pb::IntrospectTokenResponse>),
}

/// A token that was presented as its string. Its answer is encoded from what is cached.
pub struct ActiveToken<'a> {
    credential: Arc<Credential>,
    issuer: &'a str,
    listed: Listed,
    expire_time: Option<OffsetDateTime>,
    max_cache_ttl: Duration,
    confirmation: Option<Sha256Digest>,
}

/// The rights of a token.
enum Listed {
    /// As its access tokens have them.
    Carried(Arc<Carried>),
    /// As far as they were asked for.
    Asked(String, Vec<pb::AuthorizationDetail>),
}

impl Introspection<'_> {
    /// The message.
    fn into_message(self) -> pb::IntrospectTokenResponse {
        match self {
            Self::Inactive => pb::IntrospectTokenResponse::default(),
            Self::Token(token) => {
                let encoded = token.encoded();
                Message::decode(&encoded[MESSAGE_HEAD..]).expect("it was encoded here")
            }
            Self::AccessToken(message) => *message,
        }
    }
}

impl Answer<pb::IntrospectTokenResponse> for Introspection<'_> {
    fn encode(&self) -> Bytes {
        match self {
            Self::Inactive => encode(&pb::IntrospectTokenResponse::default()),
            Self::Token(token) => token.encoded(),
            Self::AccessToken(message) => encode(&**message),
        }
    }
}

impl ActiveToken<'_> {
    /// The encoded message, with its prefix.
    fn encoded(&self) -> Bytes {
        /// What the rest takes at most: ids, times, and the prefixes of fields.
        const REST: usize = 320;
        let (credential, account) = (&*self.credential, &self.credential.account);
        let listed = match &self.listed {
            Listed::Carried(carried) => carried.json().len(),
            Listed::Asked(scope, details) => {
                scope.len() + details.iter().map(Fields::message_len).sum::<usize>()
            }
        };
        let create_time = credential.create_time.unix_timestamp();
        let mut fields = Fields::of_length(REST + listed + account.username.len() + self.issuer.len());
        fields.number(1, true.into());
        fields.text_of(
            2,
            match &self.listed {
                Listed::Carried(carried) => carried.scope(),
                Listed::Asked(scope, _) => scope,
            },
        );
        fields.displayed(3, &credential.credential_id);
        fields.text_of(4, &account.username);
        fields.text(5, BEARER);
        fields.number(6, self.expire_time.map_or(0, OffsetDateTime::unix_timestamp));
        fields.number(7, create_time);
        fields.number(8, create_time);
        fields.displayed(9, &account.account_id);
        credential.targets(self.issuer).iter().for_each(|audience| fields.text(10, audience));
        fields.text_of(11, self.issuer);
        fields.displayed(13, &account.org_id);
        fields.number(14, i64::from(i32::from(convert::account_kind(account.account_kind))));
        fields.message(16, &convert::proto_duration(self.max_cache_ttl));
        match &self.listed {
            Listed::Carried(carried) => carried.details().for_each(|detail| {
                let named = [(1, detail.kind), (2, detail.identifier)].into_iter();
                fields.texts(17, named.chain(detail.actions().map(|action| (3, action))));
            }),
            Listed::Asked(_, details) => details.iter().for_each(|detail| fields.message(17, detail)),
        }
        if let Some(thumbprint) = self.confirmation {
            fields.message(18, &confirmation(thumbprint));
        }
        fields.finish()
    }
}

async fn introspect<'a>(
    state: &'a State,
    call: &Call,
    caller: &Caller,
    asked: &IntrospectionRequest<'_>,
) -> Result<Introspection<'a>> {
    let presentation =
        call.context.presented_at(asked.fields.origin.clone(), asked.fields.address, asked.certificate)?;
    // Credentials that others sent to the caller do not count as failures of the caller's
    // address.
    let from = ClientAddress::UNKNOWN;
    let looked_up = if looks_like_jwt(asked.token_text) {
        Box::pin(access_token(state, asked, &presentation, from)).await
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
    Ok(match found {
        // In its own org it may: `verifier` has let it pass.
        Some((org_id, found)) if org_id == caller.home() || caller.may_verify(org_id) => found,
        _ => Introspection::Inactive,
    })
}

type Found<'a> = Option<(OrgId, Introspection<'a>)>;

async fn service_token<'a>(
    state: &'a State,
    asked: &IntrospectionRequest<'_>,
    presentation: &PresentedAt,
    from: ClientAddress,
) -> Result<Found<'a>> {
    let now = state.clock.now();
    let found = state.authenticator.by_string(asked.token_text, from, now).await?;
    let now = found.time(now, &state.clock);
    found.check(now)?;
    let end = found.end();
    let credential = found.credential;
    let may_target = asked.audience.as_ref().is_none_or(|audience| credential.may_target(audience));
    if !may_target || credential.admit(&presentation.with(asked.purpose.as_ref())).is_err() {
        return Ok(None);
    }
    let held = credential.effective_rights();
    if !asked.is_covered(|permission, node| held.cover(permission, node)) {
        return Ok(None);
    }
    let listed = match credential.listed() {
        Some(carried) => Listed::Carried(carried),
        None => {
            let (scope, details) = listed(held, credential.account.held.named_by_org(), asked);
            Listed::Asked(scope, details)
        }
    };
    let left = end.map(|end| (end - now).unsigned_abs());
    // The one that was compared.
    let confirmation =
        asked.certificate.thumbprint().filter(|_| !credential.restrictions.certificates.is_empty());
    let org_id = credential.account.org_id;
    let token = ActiveToken {
        listed,
        issuer: state.keyring.signer.issuer(),
        expire_time: end,
        max_cache_ttl: left.unwrap_or(MAX_CACHE).min(MAX_CACHE),
        confirmation,
        credential,
    };
    Ok(Some((org_id, Introspection::Token(token.into()))))
}

async fn access_token<'a>(
    state: &'a State,
    asked: &IntrospectionRequest<'_>,
    presentation: &PresentedAt,
    from: ClientAddress,
) -> Result<Found<'a>> {
    let verified = state.authenticator.by_access_token(asked.token_text, from).await?;
    let (credential, claims) = (&verified.found.credential, &verified.token.claims);
    let is_for = |audience: &Audience| claims.aud.as_slice().iter().any(|aud| aud == audience.as_str());
    let presented = presentation.with(asked.purpose.as_ref());
    let issuer = state.keyring.signer.issuer();
    // The token may have been limited to other audiences since.
    let is_still_for = |aud: &String| match aud == issuer {
        true => credential.is_for(issuer),
        false => Audience::parse(aud).is_ok_and(|audience| credential.may_target(&audience)),
    };
    if !asked.audience.as_ref().is_none_or(is_for)
        || !claims.aud.as_slice().iter().all(is_still_for)
        || credential.admit_access_token(&presented, verified.token.bound_to).is_err()
    {
        return Ok(None);
    }
    // If the expiry of the token, or of its secret, was brought forward since, its JWTs expire with it.
    let end = credential.end(verified.token.secret());
    let exp = end.map_or(claims.exp, |end| claims.exp.min(end.unix_timestamp()));
    let left = Duration::from_secs((exp - state.clock.now().unix_timestamp()).max(0) as u64);
    let member = verified.member();
    let carried = &verified.token.listed;
    let (scope, authorization_details) = match &verified.impersonation {
        // The administrator's rights may have been narrowed since.
        Some(impersonation) => {
            let held = impersonation.rights(carried);
            if !asked.is_covered(|permission, node| held.cover(permission, node)) {
                return Ok(None);
            }
            listed(&held, member.held.named_by_org(), asked)
        }
        None => {
            if !asked.is_covered(|permission, node| carried.cover(permission, node)) {
                return Ok(None);
            }
            (claims.scope.clone(), claims.authorization_details.iter().cloned().map(detail).collect())
        }
    };
    let message = pb::IntrospectTokenResponse {
        active: true,
        scope,
        client_id: credential.credential_id.to_string(),
        username: member.username.to_string(),
        token_type: BEARER.to_owned(),
        exp,
        iat: claims.iat,
        nbf: claims.nbf,
        sub: member.account_id.to_string(),
        aud: claims.aud.as_slice().to_vec(),
        iss: issuer.to_owned(),
        jti: claims.jti.clone(),
        org_id: member.org_id.to_string(),
        account_kind: convert::account_kind(member.account_kind).into(),
        act: verified.token.actor_id.map(|id| pb::Act { sub: id.to_string() }),
        max_cache_ttl: Some(convert::proto_duration(left.min(MAX_CACHE))),
        authorization_details,
        cnf: verified.token.bound_to.map(confirmation),
    };
    Ok(Some((member.org_id, Introspection::AccessToken(message.into()))))
}

/// The most bytes of scopes that are listed, beside those that were required. A batch has 100 of them.
const MOST_SCOPES: usize = 16 << 10;
/// The most bytes of details that are listed.
const MOST_DETAILS: usize = 8 << 10;

/// The scopes on the whole org, and the details of single resources.
///
/// An owner's list has the permissions that the org names, and requested ones, which the org need not name.
fn listed(
    held: &Rights,
    by_org: &BTreeSet<Permission>,
    asked: &IntrospectionRequest<'_>,
) -> (String, Vec<pb::AuthorizationDetail>) {
    let named: BTreeSet<_> = by_org.iter().chain(&asked.required).cloned().collect();
    let scopes = held.on_org(&named);
    let required =
        asked.required.iter().filter(|permission| scopes.contains(permission)).map(Permission::as_str);
    let mut kept: BTreeSet<&str> =
        answer_size::fitting_texts(scopes.iter().map(Permission::as_str), MOST_SCOPES).into_iter().collect();
    kept.extend(required);
    let on_paths = held.on_paths(&named, MOST_DETAILS).unwrap_or_default();
    let details = on_paths.into_iter().map(|(path, permissions)| pb::AuthorizationDetail {
        r#type: GRANT_DETAIL.to_owned(),
        identifier: path.to_string(),
        actions: permissions.iter().map(Permission::to_string).collect(),
    });
    (kept.into_iter().collect::<Vec<_>>().join(" "), details.collect())
}

fn detail(detail: Detail) -> pb::AuthorizationDetail {
    let Detail { kind, identifier, actions } = detail;
    pb::AuthorizationDetail { r#type: kind, identifier, actions }
}

fn confirmation(thumbprint: Sha256Digest) -> pb::Confirmation {
    pb::Confirmation { x5t_s256: thumbprint.to_string() }
}
