//! OAuth 2.0 over HTTP: the token endpoint (RFC 6749, RFC 8693), introspection (RFC 7662) and revocation
//! (RFC 7009).
//!
//! A request is translated into one of an RPC, and its answer into JSON. What is decided, the RPC decides.

mod client;
mod errors;
mod form;
mod json;
mod request;
mod response;
mod routes;

use http::request::Parts;

use crate::domain::access::request_context::RequestContext;
use crate::domain::oauth::Endpoint;
use crate::error::Result;

pub(super) use errors::refusal;
pub(super) use form::MAX_BODY;
pub(super) use request::Translated;
pub(super) use response::{answer, translated};
pub use routes::{endpoint, path};

/// The path of the RPC that answers an endpoint.
pub(super) const fn rpc(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Token => "/countersign.v1.TokenService/ExchangeToken",
        Endpoint::Introspect => "/countersign.v1.TokenService/IntrospectToken",
        Endpoint::Revoke => "/countersign.v1.TokenService/RevokeToken",
    }
}

/// Reads a request of an endpoint.
///
/// # Errors
/// `MALFORMED_REQUEST`, `MESSAGE_TOO_LARGE`, `UNSUPPORTED_GRANT_TYPE`, `UNSUPPORTED_TOKEN_TYPE`, and the
/// reasons for which a client is refused.
pub(super) fn translate(
    endpoint: Endpoint,
    head: &Parts,
    body: &[u8],
    context: &RequestContext,
) -> Result<Translated> {
    if head.uri.query().is_some() {
        return Err(form::malformed("parameters belong into the body, and not into the URL"));
    }
    let form = form::Form::read(body)?;
    let client = client::Client::read(endpoint, &head.headers, &form, context.certificate.is_some())?;
    request::read(endpoint, &head.headers, &form, client)
}
