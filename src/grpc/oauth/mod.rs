//! OAuth 2.0 over HTTP: the token endpoint (RFC 6749, RFC 8693), introspection (RFC 7662) and revocation
//! (RFC 7009).
//!
//! A request is translated into one of an RPC, and its answer into JSON. What is decided, the RPC decides.

mod client;
mod errors;
mod form;
mod request;
mod response;

use axum::body::{Body, Bytes};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, PRAGMA};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

use super::layers::access::Access;
use super::layers::auth::{Call, Presented, of_caller};
use super::layers::reply::Reply;
use crate::domain::access::request_context::RequestContext;
use crate::domain::oauth::{Endpoint, path_of};
use crate::error::{Error, Result};
use crate::state::State;

pub(super) use errors::refusal;
pub(super) use response::answer;

/// What the paths of all endpoints begin with.
const PREFIX: &str = "/oauth2/";

/// The path of an endpoint without that of the issuer, which a proxy may have removed already. None for a path
/// of something else.
pub fn path<'a>(issuer: &str, path: &'a str) -> Option<&'a str> {
    let below = path.strip_prefix(path_of(issuer)).filter(|below| below.starts_with(PREFIX));
    below.or_else(|| path.starts_with(PREFIX).then_some(path))
}

/// The path of the RPC that answers an endpoint.
pub(super) const fn rpc(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Token => "/countersign.v1.TokenService/ExchangeToken",
        Endpoint::Introspect => "/countersign.v1.TokenService/IntrospectToken",
        Endpoint::Revoke => "/countersign.v1.TokenService/RevokeToken",
    }
}

/// The parameters that have a meaning. Others are ignored (RFC 6749, section 3.2).
const PARAMETERS: [&str; 24] = [
    "grant_type",
    "scope",
    "resource",
    "audience",
    "subject_token",
    "subject_token_type",
    "requested_token_type",
    "actor_token",
    "actor_token_type",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "assertion",
    "token",
    "token_type_hint",
    "requested_ttl",
    "purpose",
    "origin",
    "client_address",
    "client_certificate_thumbprint",
    "required_scopes",
    "org_id",
    "federation_rule_id",
];

/// A request of an endpoint, as its RPC takes it.
pub(super) struct Translated {
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
    pub(super) async fn call(&self, access: Access, state: &State, context: &RequestContext) -> Result<Call> {
        let access =
            if self.authenticates && access == Access::Open { Access::Authenticated } else { access };
        let call = Call::authenticate_for(access, state, self.presented.clone(), context).await;
        let mut call = call.map_err(of_caller)?;
        call.over_oauth = true;
        Ok(call)
    }

    /// The error of the RPC, as one of the client where that is the subject.
    pub(super) fn refused(&self, error: Error) -> Error {
        if self.client_is_subject { of_caller(error) } else { error }
    }
}

/// What a path below [`PREFIX`] leads to.
///
/// # Errors
/// The answer to a request that is none of an endpoint.
pub fn endpoint(
    method: &Method,
    path: &str,
    headers: &HeaderMap,
) -> std::result::Result<Endpoint, Response<Reply>> {
    let Some(endpoint) = Endpoint::ALL.into_iter().find(|endpoint| endpoint.path() == path) else {
        return Err(refused(StatusCode::NOT_FOUND, "there is no such endpoint"));
    };
    if method != Method::POST {
        let mut response = refused(StatusCode::METHOD_NOT_ALLOWED, "an endpoint takes POST only");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return Err(response);
    }
    if super::layers::grpc_web::media_type(headers, CONTENT_TYPE) != "application/x-www-form-urlencoded" {
        let what = "the content type must be application/x-www-form-urlencoded";
        return Err(refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, what));
    }
    Ok(endpoint)
}

fn refused(status: StatusCode, what: &'static str) -> Response<Reply> {
    let body = serde_json::json!({ "error": "invalid_request", "error_description": what });
    json(status, Reply::http(Body::from(body.to_string())))
}

/// An answer, which is not to be cached (RFC 6749, section 5.1).
fn json(status: StatusCode, body: Reply) -> Response<Reply> {
    const HEADERS: [(HeaderName, &str); 3] =
        [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store"), (PRAGMA, "no-cache")];
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = HEADERS.map(|(name, value)| (name, HeaderValue::from_static(value)));
    response.headers_mut().extend(headers);
    response
}

/// Reads a request of an endpoint.
///
/// # Errors
/// `MALFORMED_REQUEST`, `MESSAGE_TOO_LARGE`, `UNSUPPORTED_GRANT_TYPE`, `UNSUPPORTED_TOKEN_TYPE`, and the
/// reasons for which a client is refused.
pub(super) fn translate(endpoint: Endpoint, head: &Parts, body: &[u8]) -> Result<Translated> {
    if head.uri.query().is_some() {
        return Err(form::malformed("parameters belong into the body, and not into the URL"));
    }
    let form = form::Form::read(body)?;
    let client = client::Client::read(endpoint, &head.headers, &form)?;
    request::read(endpoint, &head.headers, &form, client)
}
