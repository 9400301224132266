//! `ExchangeToken`: exchanges a long-lived token for a short-lived JWT. Nothing is written, except that an
//! assertion was used.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use time::OffsetDateTime;

use super::claims::sign;
use super::presented_at::PresentedAtFields;
use crate::domain::access::caller::Caller;
use crate::domain::access::carried::Carried;
use crate::domain::access::credential::Credential;
use crate::domain::access::exchange;
use crate::domain::access::work::Work;
use crate::domain::oauth::{ACCESS_TOKEN, JWT};
use crate::domain::tokens::limits::MAX_LIST;
use crate::domain::values::ids::{OrgId, RuleId};
use crate::domain::values::kinds::TokenKind;
use crate::domain::values::names::{Audience, Purpose};
use crate::domain::values::permissions::Permission;
use crate::error::{Error, Reason, Result, Violations};
use crate::grpc::layers::auth::{Call, find_org, looks_like_jwt};
use crate::grpc::pb;
use crate::grpc::service::{Answer, Fields};
use crate::grpc::wire::convert;
use crate::state::State;
use crate::state::assertions::SignedAssertion;
use crate::state::principals::{Authenticated, Source};

/// The message for a `subject_token_type` that is not known.
const UNKNOWN_TYPE: &str = "must be urn:ietf:params:oauth:token-type:access_token, which is the default, or \
                            urn:ietf:params:oauth:token-type:jwt";

/// The message for another `subject_token_type` than that of a JWT, with a rule.
const OF_RULE: &str = "must be urn:ietf:params:oauth:token-type:jwt with a federation_rule_id";

/// `token_type` (RFC 6750).
const BEARER: &str = "Bearer";

/// The message for an `origin` and a `client_address` that are not accepted.
const UNBELIEVED: &str = "counts only from a caller that authenticates beside the subject_token and holds \
                          tokens.introspect in its org";

/// The maximum lifetime of an access token issued while the database is unavailable.
const OUTAGE_LIFE: Duration = Duration::from_secs(60);

pub async fn exchange_token(
    state: &State,
    call: &Call,
    mut request: pb::ExchangeTokenRequest,
) -> Result<Issued> {
    let audiences = std::mem::take(&mut request.audiences);
    let now = state.clock.now();
    // A caller that speaks for the subject is refused first, also where none is needed.
    let speaker = match request.subject_token.as_deref() {
        None | Some("") => None,
        Some(subject) => call.speaker(state, subject).await?,
    };
    let subject = subject(state, call, &request, now).await?;
    let found = subject.found();
    let now = found.time(now, &state.clock);
    let credential_id = found.credential.credential_id;
    call.context.facts.set_caller(found.credential.as_ref());
    found.check(now)?;
    let (credential, in_outage) = (&found.credential.clone(), found.source == Source::BeforeOutage);
    let asked = asked(call, speaker.as_ref(), audiences, &request, credential.account.org_id)?;
    let mut asked = asked.by_secret(found.secret);
    if in_outage {
        // It cannot be revoked now: it must not outlive the outage by much.
        asked.limit_ttl(OUTAGE_LIFE);
    }
    let there = elsewhere(state, credential, &request.org_id).await?;
    let refused = |error: Error| error.of_credential(credential_id);
    let decision = decide(state, there.as_ref().unwrap_or(credential), &asked, now).map_err(refused)?;
    // After every other check, and before anything is signed.
    let found = subject.settled(state, now).await?;
    let issued = sign_decision(state, decision).map_err(refused)?;
    state.authenticator.record_use(&found, asked.address(), now);
    state.metrics.credentials.exchanged(found.credential.kind, in_outage);
    Ok(issued)
}

/// What is exchanged.
enum SubjectToken {
    /// A token whose string, or the key of its certificate, matched.
    TokenString(Authenticated),
    /// An assertion, of a key or of another issuer, whose signature was verified, and that was not used yet.
    Assertion(SignedAssertion),
}

impl SubjectToken {
    fn found(&self) -> &Authenticated {
        match self {
            Self::TokenString(found) => found,
            Self::Assertion(assertion) => assertion.found(),
        }
    }

    /// The same, once it has been used that can be used once.
    async fn settled(self, state: &State, now: OffsetDateTime) -> Result<Authenticated> {
        match self {
            Self::TokenString(found) => Ok(found),
            Self::Assertion(assertion) => Box::pin(state.authenticator.spend(assertion, now)).await,
        }
    }
}

/// The subject of the request, by the type that this says.
async fn subject(
    state: &State,
    call: &Call,
    request: &pb::ExchangeTokenRequest,
    now: OffsetDateTime,
) -> Result<SubjectToken> {
    if !request.federation_rule_id.is_empty() {
        return Box::pin(foreign_subject(state, call, request, now)).await;
    }
    let is_assertion = match request.subject_token_type.as_str() {
        "" | ACCESS_TOKEN => false,
        JWT => true,
        _ => return Err(Error::invalid("subject_token_type", UNKNOWN_TYPE)),
    };
    let subject = match request.subject_token.as_deref() {
        // An assertion is none of a call, whose metadata is sent with each of them.
        None if is_assertion => return Err(Error::invalid("subject_token", "is required with this type")),
        None if call.presents_certificate() => {
            return call.by_certificate(state).await.map(SubjectToken::TokenString);
        }
        None => call.bearer()?,
        // A gateway that forwards an empty credential must not get a JWT of its own.
        Some("") => return Err(Error::invalid("subject_token", "must not be empty where it is present")),
        Some(subject) => subject,
    };
    let from = call.context.address;
    match (is_assertion, looks_like_jwt(subject)) {
        (false, false) => {
            state.authenticator.by_secret(subject, from, now).await.map(SubjectToken::TokenString)
        }
        // An access token cannot be exchanged for another: its lifetime would have no limit.
        (false, true) => Err(Reason::SubjectNotExchangeable.into()),
        (true, true) => {
            let assertion = Box::pin(state.authenticator.by_assertion(subject, from, now)).await?;
            Ok(SubjectToken::Assertion(assertion))
        }
        (true, false) => {
            Err(Error::invalid("subject_token_type", "is that of a JWT, which the subject_token is not"))
        }
    }
}

/// The JWT of another issuer, by the rule that the request names. It is never looked for among rules.
async fn foreign_subject(
    state: &State,
    call: &Call,
    request: &pb::ExchangeTokenRequest,
    now: OffsetDateTime,
) -> Result<SubjectToken> {
    let mut violations = Violations::default();
    let rule_id = violations.check("federation_rule_id", RuleId::parse(&request.federation_rule_id));
    if request.subject_token_type != JWT {
        violations.add("subject_token_type", OF_RULE);
    }
    let subject = request.subject_token.as_deref().unwrap_or_default();
    if subject.is_empty() {
        violations
            .add("subject_token", "is required with a federation_rule_id: the JWT of the rule's issuer");
    }
    let (rule_id, subject) = violations.all((rule_id, Some(subject)))?;
    let found = state.authenticator.by_foreign_assertion(subject, rule_id, call.context.address, now);
    found.await.map(SubjectToken::Assertion)
}

/// An issued JWT, and what is returned with it.
pub struct Issued {
    pub access_token: String,
    pub expire_time: prost_types::Timestamp,
    /// The claims that it has of its credential.
    pub carried: Arc<Carried>,
}

impl Answer<pb::ExchangeTokenResponse> for Issued {
    fn encode(&self) -> Bytes {
        let texts = [(1, &*self.access_token), (2, ACCESS_TOKEN), (3, BEARER)];
        let scopes = || self.carried.scope().split_ascii_whitespace();
        let length = texts.iter().map(|(_, text)| Fields::text_len(text)).sum::<usize>()
            + Fields::message_len(&self.expire_time)
            + scopes().map(Fields::text_len).sum::<usize>();
        let mut fields = Fields::of_length(length);
        texts.into_iter().for_each(|(number, text)| fields.text(number, text));
        fields.message(4, &self.expire_time);
        scopes().for_each(|permission| fields.text(5, permission));
        fields.finish()
    }
}

/// Issues the requested JWT.
///
/// # Errors
/// What [`exchange::decide`] refuses; `SCOPE_TOO_WIDE`.
pub fn issue(
    state: &State,
    credential: &Credential,
    asked: &exchange::ExchangeRequest,
    now: OffsetDateTime,
) -> Result<Issued> {
    sign_decision(state, decide(state, credential, asked, now)?)
}

fn decide<'a>(
    state: &'a State,
    credential: &'a Credential,
    asked: &'a exchange::ExchangeRequest,
    now: OffsetDateTime,
) -> Result<exchange::Decision<'a>> {
    exchange::decide(credential, asked, state.keyring.signer.issuer(), now)
}

fn sign_decision(state: &State, decision: exchange::Decision<'_>) -> Result<Issued> {
    let expire_time = prost_types::Timestamp { seconds: decision.expires_at, nanos: 0 };
    let carried = decision.carried.clone();
    let access_token = sign(state, decision, state.clock.new_id(), None)?;
    Ok(Issued { access_token, expire_time, carried })
}

/// The subject in the named org, if that is not its own org. Only for sessions.
///
/// # Errors
/// `RESOURCE_NOT_FOUND` if the account may not act there, and for a token.
async fn elsewhere(state: &State, credential: &Credential, org_id: &str) -> Result<Option<Arc<Credential>>> {
    let named = convert::org(org_id)?;
    let there = match &named {
        None => None,
        Some(named) => Some(Box::pin(find_org(state, named, credential, Work::Cached)).await?),
    };
    match (there, named) {
        (Some(org_id), Some(named)) if org_id != credential.account.org_id => {
            let there = match credential.kind {
                TokenKind::Session => Box::pin(state.authenticator.within(credential, org_id)).await?,
                TokenKind::Secret | TokenKind::Publishable | TokenKind::Key | TokenKind::Federated => None,
            };
            let there = there.filter(|there| there.account.check_active().is_ok());
            there.map(Some).ok_or_else(|| Error::not_found("org", named))
        }
        _ => Ok(None),
    }
}

fn asked(
    call: &Call,
    speaker: Option<&Caller>,
    audiences: Vec<String>,
    request: &pb::ExchangeTokenRequest,
    org_id: OrgId,
) -> Result<exchange::ExchangeRequest> {
    let mut violations = Violations::default();
    let audiences = violations.take_each("audiences", audiences, MAX_LIST, Audience::new);
    let scopes = violations.check_each("scopes", &request.scopes, MAX_LIST, Permission::parse);
    let ttl = request.requested_ttl.as_ref().map(convert::duration).transpose();
    let ttl = violations.check("requested_ttl", ttl.and_then(exchange::ExchangeRequest::lifetime));
    let purpose = violations.check("purpose", convert::optional(&request.purpose, Purpose::parse));
    let told = PresentedAtFields::read(&mut violations, &request.origin, &request.client_address);
    if told.is_some() && !speaker.is_some_and(|caller| caller.may_verify(org_id)) {
        for (field, text) in [("origin", &request.origin), ("client_address", &request.client_address)] {
            if !text.is_empty() {
                violations.add(field, UNBELIEVED);
            }
        }
    }
    let (ttl, purpose) = violations.all((ttl, purpose))?;
    // Whatever the caller says of the client: the connection's own.
    let certificate = call.context.presented_certificate();
    let address = told.address.or(call.context.address.compared());
    let presented_at = call.context.presented_at(told.origin, address, certificate)?;
    let asked = exchange::ExchangeRequest::new(audiences, scopes, ttl).presented(presented_at, purpose);
    let asked = asked.bound(request.certificate_bound);
    Ok(if call.over_oauth { asked.with_oauth_defaults() } else { asked })
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::domain::access::credential::tests::credential;

    #[test]
    fn an_answer_is_encoded_as_its_message() {
        for grants in [&[][..], &[("auditor", "*"), ("invoices.read", "*"), ("invoices.write", "a")]] {
            let carried = credential(grants).carried().unwrap();
            let scopes: Vec<String> = carried.scope().split_ascii_whitespace().map(str::to_owned).collect();
            let expire_time = prost_types::Timestamp { seconds: 1_795_000_000, nanos: 0 };
            let issued = Issued { access_token: "a.b.c".repeat(100), expire_time, carried };
            let message = pb::ExchangeTokenResponse {
                access_token: issued.access_token.clone(),
                issued_token_type: ACCESS_TOKEN.into(),
                token_type: BEARER.into(),
                expire_time: Some(expire_time),
                scopes,
            };
            let encoded = Answer::<pb::ExchangeTokenResponse>::encode(&issued);
            assert_eq!(pb::ExchangeTokenResponse::decode(&encoded[5..]).unwrap(), message);
            assert_eq!(encoded, crate::grpc::service::encode(&message));
        }
    }
}
