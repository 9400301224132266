//! The requests of the endpoints, as messages of RPCs.

use std::sync::Arc;

use axum::body::Bytes;
use http::HeaderMap;

use super::client::{Client, invalid};
use super::form::{Form, malformed};
use crate::domain::access::request_context::{BrowserOrigin, RequestContext};
use crate::domain::oauth::{ACCESS_TOKEN, Endpoint, Grant, ID_TOKEN, JWT};
use crate::domain::values::ids::TokenId;
use crate::domain::values::token_string::{TokenString, TokenStringKind};
use crate::error::{Error, Reason, Result};
use crate::flows::request::{browser_origin, is_cross_site};
use crate::grpc::layers::access::Access;
use crate::grpc::layers::auth::{Call, Presented, looks_like_jwt, of_caller};
use crate::grpc::pb;
use crate::grpc::wire::bounds::MOST_ELEMENTS;
use crate::state::State;

/// A request of an endpoint, as its RPC takes it.
pub(in crate::grpc) struct Translated {
    /// The credential of the client.
    pub presented: Presented,
    /// Whether the client has to be authenticated, though the RPC asks for none: it said who it is.
    pub authenticates: bool,
    /// Whether the client is the subject as well, so that a subject that is refused is a client that is.
    pub client_is_subject: bool,
    /// The encoded message of the RPC.
    pub message: Bytes,
}

impl Translated {
    /// The call, with its client authenticated, if there is one that is not the subject.
    ///
    /// # Errors
    /// Why the client is refused.
    pub(in crate::grpc) async fn call(
        &self,
        access: Access,
        state: &State,
        context: &Arc<RequestContext>,
    ) -> Result<Call> {
        let access =
            if self.authenticates && access == Access::Open { Access::Authenticated } else { access };
        let call = Call::authenticate_for(access, state, self.presented.clone(), context).await;
        let mut call = call.map_err(of_caller)?;
        call.over_oauth = true;
        Ok(call)
    }

    /// The error of the RPC, as one of the client where that is the subject.
    pub(in crate::grpc) fn refused(&self, error: Error) -> Error {
        if self.client_is_subject { of_caller(error) } else { error }
    }
}

/// Reads the parameters of a request.
///
/// # Errors
/// `MALFORMED_REQUEST`, `UNSUPPORTED_GRANT_TYPE`, `UNSUPPORTED_TOKEN_TYPE`, and what refuses a client.
pub(super) fn read(
    endpoint: Endpoint,
    headers: &HeaderMap,
    form: &Form<'_>,
    client: Client,
) -> Result<Translated> {
    let is_of_a_page = !matches!(browser_origin(headers), BrowserOrigin::None) || is_cross_site(headers);
    if is_of_a_page && !(endpoint == Endpoint::Token && exchanges_publishable(form, &client)) {
        return Err(malformed("a page may only exchange a publishable token"));
    }
    match endpoint {
        Endpoint::Token => token(form, client),
        Endpoint::Introspect => introspect(form, client),
        Endpoint::Revoke => revoke(form, client),
    }
}

/// Whether a request exchanges a publishable token, with no other credential.
fn exchanges_publishable(form: &Form<'_>, client: &Client) -> bool {
    let subject = form.get("subject_token").and_then(|subject| TokenString::parse(subject).ok());
    matches!(client, Client::Unnamed | Client::Named(_))
        && subject.is_some_and(|subject| subject.kind() == TokenStringKind::PublishableToken)
}

fn token(form: &Form<'_>, client: Client) -> Result<Translated> {
    let grant = form.required("grant_type")?;
    let grant = Grant::ALL.into_iter().find(|known| known.name() == grant);
    let mut message = pb::ExchangeTokenRequest {
        audiences: form.all("audience").chain(form.all("resource")).map(str::to_owned).collect(),
        scopes: names(&form.text("scope")),
        requested_ttl: form.get("requested_ttl").map(seconds).transpose()?,
        org_id: form.text("org_id"),
        purpose: form.text("purpose"),
        origin: form.text("origin"),
        client_address: form.text("client_address"),
        ..Default::default()
    };
    match grant.ok_or(Reason::UnsupportedGrantType)? {
        Grant::JwtBearer => {
            let subject = form.required("assertion")?.to_owned();
            message.subject_token_type = JWT.to_owned();
            exchange(form, client, subject, message)
        }
        Grant::ClientCredentials => {
            if form.get("subject_token").is_some() {
                return Err(malformed("subject_token belongs to token exchange: the client is the subject"));
            }
            let presented = match client {
                Client::Token(presented) => presented,
                Client::Assertion(assertion) => {
                    message.subject_token = Some(assertion);
                    message.subject_token_type = JWT.to_owned();
                    Presented::default()
                }
                Client::Certificate(token_id) => {
                    message.certificate_bound = true;
                    Presented::certificate(token_id)
                }
                Client::Unnamed | Client::Bearer(_) => Presented::default(),
                Client::Named(_) | Client::Rule(_) => return Err(invalid()),
            };
            Ok(translated(presented, false, true, &message))
        }
        Grant::TokenExchange => {
            for name in ["actor_token", "actor_token_type"] {
                if form.get(name).is_some() {
                    return Err(malformed(format!("{name} is not supported")));
                }
            }
            let subject = form.required("subject_token")?;
            message.subject_token_type = match form.required("subject_token_type")? {
                ACCESS_TOKEN => ACCESS_TOKEN,
                JWT | ID_TOKEN => JWT,
                _ => return Err(malformed(format!("subject_token_type must be {ACCESS_TOKEN} or {JWT}"))),
            }
            .to_owned();
            if !form.get("requested_token_type").is_none_or(|kind| kind == ACCESS_TOKEN || kind == JWT) {
                return Err(malformed(format!("requested_token_type must be {ACCESS_TOKEN} or {JWT}")));
            }
            exchange(form, client, subject.to_owned(), message)
        }
    }
}

/// The exchange of this subject. A `client_id` that names a rule of federation stands for `federation_rule_id`: many
/// libraries cannot add parameters of their own.
fn exchange(
    form: &Form<'_>,
    client: Client,
    subject: String,
    mut message: pb::ExchangeTokenRequest,
) -> Result<Translated> {
    let named = form.get("federation_rule_id");
    let (presented, authenticates) = match client {
        Client::Rule(rule_id) if named.is_none_or(|named| named == rule_id.to_string()) => {
            message.federation_rule_id = rule_id.to_string();
            (Presented::default(), false)
        }
        client => {
            message.federation_rule_id = named.unwrap_or_default().to_owned();
            speaker(client, &subject)?
        }
    };
    if form.get("grant_type") == Some(Grant::JwtBearer.name()) && message.federation_rule_id.is_empty() {
        return Err(malformed(
            "federation_rule_id is required, or a client_id that is the id of a federation rule",
        ));
    }
    message.subject_token = Some(subject);
    message.certificate_bound = authenticates && presented.is_certificate();
    Ok(translated(presented, authenticates, false, &message))
}

/// The names in a list. What is longer than any list of the RPC may be is refused by it, and not read to its end.
fn names(list: &str) -> Vec<String> {
    list.split_ascii_whitespace().take(MOST_ELEMENTS as usize + 1).map(str::to_owned).collect()
}

fn introspect(form: &Form<'_>, client: Client) -> Result<Translated> {
    let presented = match client {
        Client::Token(presented) | Client::Bearer(presented) => presented,
        Client::Assertion(assertion) => Presented::assertion(&assertion),
        Client::Certificate(token_id) => Presented::certificate(token_id),
        Client::Unnamed | Client::Named(_) | Client::Rule(_) => {
            return Err(of_caller(Reason::CredentialMissing.into()));
        }
    };
    let message = pb::IntrospectTokenRequest {
        token_text: form.required("token")?.to_owned(),
        audience: form.text("audience"),
        purpose: form.text("purpose"),
        origin: form.text("origin"),
        client_address: form.text("client_address"),
        client_certificate_thumbprint: form.text("client_certificate_thumbprint"),
        required_scopes: names(&form.text("required_scopes")),
        resource: form.text("resource"),
    };
    Ok(translated(presented, true, false, &message))
}

fn revoke(form: &Form<'_>, client: Client) -> Result<Translated> {
    let text = form.required("token")?;
    let is_publishable = |token: TokenString<'_>| token.kind() == TokenStringKind::PublishableToken;
    if looks_like_jwt(text) || TokenString::parse(text).is_ok_and(is_publishable) {
        return Err(Reason::UnsupportedTokenType.into());
    }
    let (presented, authenticates) = speaker(client, text)?;
    let target = Some(pb::revoke_token_request::Target::TokenText(text.to_owned()));
    let message = pb::RevokeTokenRequest { target, ..Default::default() };
    Ok(translated(presented, authenticates, false, &message))
}

/// The client beside a token that the request presents, and whether it has to be authenticated. The token
/// itself may be named as the client, which proves nothing.
fn speaker(client: Client, token: &str) -> Result<(Presented, bool)> {
    let is_itself = |id: TokenId| TokenString::parse(token).is_ok_and(|token| token.id() == id);
    match client {
        Client::Unnamed => Ok((Presented::default(), false)),
        Client::Named(id) | Client::Certificate(id) if is_itself(id) => Ok((Presented::default(), false)),
        Client::Named(_) | Client::Rule(_) => Err(invalid()),
        Client::Certificate(token_id) => Ok((Presented::certificate(token_id), true)),
        // An assertion works once: it is the subject alone.
        Client::Assertion(assertion) if assertion == token => Ok((Presented::default(), false)),
        Client::Assertion(assertion) => Ok((Presented::assertion(&assertion), true)),
        // It is there twice: as the subject alone.
        Client::Token(presented) if presented.text() == Some(token) => Ok((Presented::default(), false)),
        Client::Token(presented) | Client::Bearer(presented) => Ok((presented, true)),
    }
}

fn translated(
    presented: Presented,
    authenticates: bool,
    client_is_subject: bool,
    message: &impl prost::Message,
) -> Translated {
    let message = Bytes::from(message.encode_to_vec());
    Translated { presented, authenticates, client_is_subject, message }
}

fn seconds(text: &str) -> Result<prost_types::Duration> {
    let seconds = text.parse().map_err(|_| malformed("requested_ttl must be a number of seconds"))?;
    Ok(prost_types::Duration { seconds, nanos: 0 })
}
