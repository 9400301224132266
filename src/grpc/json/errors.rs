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
use crate::grpc::layers::unread::Unread;
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
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::FailedPrecondition | Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
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
pub(in crate::grpc) fn refusal(
    parts: &Parts,
    context: &RequestContext,
    issuer: &str,
    unread: Option<Unread>,
) -> Response<Reply> {
    let reason = parts.reason;
    let of_grpc = status::answer(parts, context);
    let details = tonic_types::pb::Status::decode(of_grpc.details()).unwrap_or_default().details;
    let written = Written {
        code: &reason.code().name().to_ascii_lowercase(),
        message: of_grpc.message(),
        details: details.iter().map(Detail::of).collect(),
    };
    let body = serde_json::to_vec(&written).unwrap_or_default();
    let mut response = json(http_status(reason.code()), Reply::refusal(Bytes::from(body), unread));
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::to_bytes;
    use serde_json::Value;

    use super::*;
    use crate::domain::access::request_context::RequestId;
    use crate::error::{Error, Precondition};
    use crate::grpc::layers::unread::UnreadResponses;

    /// The table of the specification, as far as a reason has these codes.
    const STATUSES: [(&str, u16); 13] = [
        ("aborted", 409),
        ("already_exists", 409),
        ("deadline_exceeded", 504),
        ("failed_precondition", 400),
        ("internal", 500),
        ("invalid_argument", 400),
        ("not_found", 404),
        ("out_of_range", 400),
        ("permission_denied", 403),
        ("resource_exhausted", 429),
        ("unauthenticated", 401),
        ("unavailable", 503),
        ("unimplemented", 501),
    ];

    async fn shown(error: Error) -> (Response<()>, Value) {
        let context =
            RequestContext { request_id: RequestId::given("r-1").unwrap(), ..RequestContext::default() };
        let (head, body) = refusal(
            &error.into_parts(),
            &context,
            "https://id.example/a",
            Some(UnreadResponses::new(1).count(None)),
        )
        .into_parts();
        let body = to_bytes(axum::body::Body::new(body), usize::MAX).await.unwrap();
        (Response::from_parts(head, ()), serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn every_reason_has_the_form_of_the_protocol() {
        for reason in Reason::ALL {
            let (head, body) = shown(Error::new(*reason)).await;
            let code = body["code"].as_str().unwrap();
            let expected = STATUSES.iter().find(|(name, _)| *name == code).unwrap();
            assert_eq!(head.status().as_u16(), expected.1, "{}", reason.name());
            assert_eq!(code.to_ascii_uppercase(), reason.code().name());
            assert_eq!(body["message"], reason.message());
            assert_eq!(head.headers()[REASON_HEADER], reason.name());
            let challenge = head.headers().get(WWW_AUTHENTICATE).map(|value| value.to_str().unwrap());
            let metadata = "https://id.example/.well-known/oauth-protected-resource/a";
            let expected = format!("Bearer resource_metadata=\"{metadata}\"");
            assert_eq!(challenge, (code == "unauthenticated").then_some(&*expected), "{}", reason.name());
            assert!(!head.headers().contains_key(RETRY_AFTER));
            let info = &body["details"][0];
            assert_eq!(
                (&info["type"], &info["debug"]["reason"]),
                (&"google.rpc.ErrorInfo".into(), &reason.name().into())
            );
            let members: Vec<_> = body.as_object().unwrap().keys().collect();
            assert_eq!(members, ["code", "details", "message"]);
        }
    }

    #[tokio::test]
    async fn every_kind_of_detail_is_shown() {
        let precondition =
            Precondition { kind: "TOKEN", subject: "tok_1".into(), description: "is active".into() };
        let error = Error::not_found("account", "acct_1")
            .with_metadata("permission", "a.b")
            .with_preconditions([precondition])
            .retry_after(Duration::from_millis(1_500));
        let (head, body) = shown(error).await;
        assert_eq!(head.headers()[RETRY_AFTER], "2");
        for (name, member, expected) in [
            ("ErrorInfo", "/metadata/permission", "a.b"),
            ("RetryInfo", "/retryDelay", "1.500s"),
            ("RequestInfo", "/requestId", "r-1"),
            ("ResourceInfo", "/resourceName", "acct_1"),
            ("PreconditionFailure", "/violations/0/subject", "tok_1"),
        ] {
            let details = body["details"].as_array().unwrap().iter();
            let mut named = details.filter(|detail| detail["type"] == format!("google.rpc.{name}"));
            let (detail, more) = (named.next().unwrap_or_else(|| panic!("{name}: {body}")), named.next());
            assert_eq!(detail["debug"].pointer(member), Some(&expected.into()), "{name}: {body}");
            assert!(more.is_none() && !detail["value"].as_str().unwrap().contains('='), "{name}");
        }
    }
}
