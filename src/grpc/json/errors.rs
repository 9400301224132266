//! Errors as the Connect protocol writes them: <https://connectrpc.com/docs/protocol/#error-codes>.

use axum::body::Bytes;
use base64::prelude::{BASE64_STANDARD_NO_PAD, Engine as _};
use http::header::{ACCEPT_ENCODING, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use prost::Message as _;
use prost_reflect::DynamicMessage;
use prost_types::Any;
use serde::Serialize;

use super::methods::POOL;
use super::response::json;
use crate::domain::access::request_context::RequestContext;
use crate::domain::oauth;
use crate::error::{Code, Parts, Reason};
use crate::grpc::layers::reply::Reply;
use crate::grpc::layers::status::{self, REASON_HEADER};
use crate::grpc::service::IDENTITY;

/// An error.
#[derive(Serialize)]
struct Written<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<Detail>,
}

/// One of its details.
#[derive(Serialize)]
struct Detail {
    r#type: String,
    /// Encoded, in base64.
    value: String,
    /// The same in JSON, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    debug: Option<DynamicMessage>,
}

impl Detail {
    fn of(detail: &Any) -> Self {
        let name = detail.type_url.rsplit('/').next().unwrap_or_default();
        let descriptor = POOL.get_message_by_name(name);
        Self {
            r#type: name.to_owned(),
            value: BASE64_STANDARD_NO_PAD.encode(&detail.value),
            debug: descriptor.and_then(|name| DynamicMessage::decode(name, &*detail.value).ok()),
        }
    }
}

/// The status of HTTP for a code (Connect protocol, "Error codes").
pub fn http_status(code: Code) -> StatusCode {
    match code {
        Code::FailedPrecondition | Code::InvalidArgument => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::Aborted | Code::AlreadyExists => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
    }
}

/// The answer to a call that is refused, by the server of this issuer.
pub(in crate::grpc) fn refusal(parts: &Parts, context: &RequestContext, issuer: &str) -> Response<Reply> {
    let reason = parts.reason;
    let of_grpc = status::answer(parts, context);
    let details = tonic_types::pb::Status::decode(of_grpc.details()).unwrap_or_default().details;
    let written = Written {
        code: &reason.code().name().to_ascii_lowercase(),
        message: of_grpc.message(),
        details: details.iter().map(Detail::of).collect(),
    };
    let body = serde_json::to_vec(&written).unwrap_or_default();
    let mut response = json(http_status(reason.code()), Reply::bytes(Bytes::from(body), None));
    let headers = response.headers_mut();
    headers.insert(REASON_HEADER, HeaderValue::from_static(reason.name()));
    if reason.code() == Code::Unauthenticated {
        headers.insert(WWW_AUTHENTICATE, challenge(issuer));
    }
    if let Some(delay) = parts.retry_after {
        headers.insert(RETRY_AFTER, (delay.as_millis().div_ceil(1_000).max(1) as u64).into());
    }
    if reason == Reason::CompressionUnsupported {
        headers.insert(ACCEPT_ENCODING, IDENTITY);
    }
    response
}

/// Where a client learns how to get a token (RFC 9728, section 5.1).
fn challenge(issuer: &str) -> HeaderValue {
    let metadata = oauth::protected_resource_url(issuer);
    let challenge = HeaderValue::from_str(&format!("Bearer resource_metadata=\"{metadata}\""));
    // An issuer is a URL, which every header can hold.
    challenge.unwrap_or(HeaderValue::from_static("Bearer"))
}
