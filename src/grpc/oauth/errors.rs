//! The errors of the endpoints (RFC 6749, section 5.2), from the reasons of RPCs.

use axum::body::Bytes;
use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

use super::json::json;
use crate::domain::oauth::Endpoint;
use crate::error::{Code, Parts, Reason};
use crate::grpc::layers::auth::is_of_caller;
use crate::grpc::layers::reply::Reply;
use crate::grpc::layers::status::REASON_HEADER;
use crate::grpc::layers::unread::Unread;

/// What a client whose own credential is refused may authenticate with.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"countersign\", charset=\"UTF-8\"");

/// Whose credential an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Client,
    Subject,
}

/// An error as an endpoint says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OAuthError {
    status: StatusCode,
    /// `error`.
    error: &'static str,
}

#[derive(Serialize)]
struct Written<'a> {
    error: &'a str,
    error_description: &'a str,
}

/// The error for a reason: which one it is depends on whose credential is refused.
fn error_of(reason: Reason, whose: Whose, field: Option<&str>) -> OAuthError {
    let bad = |error| OAuthError { status: StatusCode::BAD_REQUEST, error };
    let client = || OAuthError { status: StatusCode::UNAUTHORIZED, error: "invalid_client" };
    let away = |status| OAuthError { status, error: "temporarily_unavailable" };
    match reason {
        Reason::MessageTooLarge => {
            OAuthError { status: StatusCode::PAYLOAD_TOO_LARGE, error: "invalid_request" }
        }
        Reason::UnsupportedGrantType => bad("unsupported_grant_type"),
        Reason::UnsupportedTokenType => bad("unsupported_token_type"),
        Reason::ScopeNotHeld | Reason::ScopeTooWide => bad("invalid_scope"),
        Reason::InvalidTarget => bad("invalid_target"),
        Reason::InvalidField => match field.map(|field| field.split('[').next().unwrap_or_default()) {
            Some("scopes") => bad("invalid_scope"),
            Some("audiences") => bad("invalid_target"),
            _ => bad("invalid_request"),
        },
        Reason::PermissionMissing => bad("unauthorized_client"),
        Reason::AddressNotAllowed
        | Reason::ClientCertificateNotAllowed
        | Reason::PurposeMismatch
        | Reason::OriginNotAllowed => match whose {
            Whose::Client => client(),
            Whose::Subject => bad("invalid_grant"),
        },
        Reason::Throttled => away(StatusCode::TOO_MANY_REQUESTS),
        Reason::Internal => OAuthError { status: StatusCode::INTERNAL_SERVER_ERROR, error: "server_error" },
        reason => match (reason.code(), whose) {
            (Code::Unauthenticated, Whose::Client) => client(),
            (Code::Unauthenticated, Whose::Subject) => bad("invalid_grant"),
            // What has to be tried again, or took too long.
            (Code::Aborted | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Unavailable, _) => {
                away(StatusCode::SERVICE_UNAVAILABLE)
            }
            _ => bad("invalid_request"),
        },
    }
}

/// The answer to a request that is refused.
pub(in crate::grpc) fn refusal(endpoint: Endpoint, parts: &Parts, unread: Option<Unread>) -> Response<Reply> {
    let reason = parts.reason;
    // Introspection answers for a subject that is refused; only its client is.
    let whose =
        if endpoint == Endpoint::Introspect || is_of_caller(parts) { Whose::Client } else { Whose::Subject };
    let field = parts.violations.first().map(|violation| &*violation.field);
    let error = error_of(reason, whose, field);
    let description = match reason {
        // These messages are ours, and name no value.
        Reason::MalformedRequest | Reason::InvalidField => format!("{}: {}", reason.name(), parts.message),
        _ => format!("{}: {}", reason.name(), reason.message()),
    };
    let description: String = description.chars().map(speakable).collect();
    let written = Written { error: error.error, error_description: &description };
    let body = serde_json::to_vec(&written).unwrap_or_default();
    let mut response = json(error.status, Reply::refusal(Bytes::from(body), unread));
    let headers = response.headers_mut();
    headers.insert(REASON_HEADER, HeaderValue::from_static(reason.name()));
    if error.status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, CHALLENGE);
    }
    if matches!(error.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        let delay = parts.retry_after.map_or(1, |delay| delay.as_secs().max(1));
        headers.insert(RETRY_AFTER, delay.into());
    }
    response
}

/// What `error_description` may contain (RFC 6749, section 5.2).
fn speakable(character: char) -> char {
    match character {
        '"' | '\\' => '\'',
        ' '..='~' => character,
        _ => '?',
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, Reason as R};
    use crate::grpc::layers::unread::UnreadResponses;

    /// Each reason: the error of a client, and that of a subject.
    const TABLE: &[(Reason, &str, &str)] = &[
        (R::CredentialMissing, "401 invalid_client", "400 invalid_grant"),
        (R::TokenInvalid, "401 invalid_client", "400 invalid_grant"),
        (R::TokenExpired, "401 invalid_client", "400 invalid_grant"),
        (R::TokenRevoked, "401 invalid_client", "400 invalid_grant"),
        (R::TokenBlocked, "401 invalid_client", "400 invalid_grant"),
        (R::AccessTokenInvalid, "401 invalid_client", "400 invalid_grant"),
        (R::AccessTokenStale, "401 invalid_client", "400 invalid_grant"),
        (R::AccountDeactivated, "401 invalid_client", "400 invalid_grant"),
        (R::OrgSuspended, "401 invalid_client", "400 invalid_grant"),
        (R::LoginFailed, "401 invalid_client", "400 invalid_grant"),
        (R::OriginNotAllowed, "401 invalid_client", "400 invalid_grant"),
        (R::AddressNotAllowed, "401 invalid_client", "400 invalid_grant"),
        (R::ClientCertificateNotAllowed, "401 invalid_client", "400 invalid_grant"),
        (R::PurposeMismatch, "401 invalid_client", "400 invalid_grant"),
        (R::PermissionMissing, "400 unauthorized_client", "400 unauthorized_client"),
        (R::ScopeNotHeld, "400 invalid_scope", "400 invalid_scope"),
        (R::ScopeTooWide, "400 invalid_scope", "400 invalid_scope"),
        (R::InvalidTarget, "400 invalid_target", "400 invalid_target"),
        (R::UnsupportedGrantType, "400 unsupported_grant_type", "400 unsupported_grant_type"),
        (R::UnsupportedTokenType, "400 unsupported_token_type", "400 unsupported_token_type"),
        (R::MessageTooLarge, "413 invalid_request", "413 invalid_request"),
        (R::Throttled, "429 temporarily_unavailable", "429 temporarily_unavailable"),
        (R::Overloaded, "503 temporarily_unavailable", "503 temporarily_unavailable"),
        (R::DatabaseUnavailable, "503 temporarily_unavailable", "503 temporarily_unavailable"),
        (R::DeadlineExceeded, "503 temporarily_unavailable", "503 temporarily_unavailable"),
        (R::Conflict, "503 temporarily_unavailable", "503 temporarily_unavailable"),
        (R::EtagMismatch, "503 temporarily_unavailable", "503 temporarily_unavailable"),
        (R::Internal, "500 server_error", "500 server_error"),
    ];

    #[test]
    fn every_reason_has_its_error() {
        let said = |error: OAuthError| format!("{} {}", error.status.as_u16(), error.error);
        for reason in Reason::ALL {
            let row = TABLE.iter().find(|(known, ..)| known == reason);
            let (client, subject) =
                row.map_or(("400 invalid_request", "400 invalid_request"), |row| (row.1, row.2));
            assert_eq!(said(error_of(*reason, Whose::Client, None)), client, "{reason:?}");
            assert_eq!(said(error_of(*reason, Whose::Subject, None)), subject, "{reason:?}");
        }
        for (field, error) in [
            ("scopes[3]", "400 invalid_scope"),
            ("audiences", "400 invalid_target"),
            ("purpose", "400 invalid_request"),
        ] {
            assert_eq!(said(error_of(R::InvalidField, Whose::Subject, Some(field))), error);
        }
    }

    #[tokio::test]
    async fn an_answer_says_when_to_retry_and_nothing_of_the_request() {
        let answered = |error: Error| {
            refusal(Endpoint::Token, &error.into_parts(), Some(UnreadResponses::new(1).count(None)))
        };
        let header = |response: &Response<Reply>, name: &str| {
            response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
        };
        let throttled = answered(Error::new(R::Throttled).retry_after(std::time::Duration::from_secs(90)));
        assert_eq!(header(&throttled, "retry-after").as_deref(), Some("90"));
        let overloaded = answered(Error::new(R::Overloaded));
        assert_eq!(
            (overloaded.status(), header(&overloaded, "retry-after").as_deref()),
            (StatusCode::SERVICE_UNAVAILABLE, Some("1"))
        );
        let said = "no \"secret\\\u{1}\u{e9}";
        for (error, expected) in [
            (
                Error::with_message(R::ScopeNotHeld, said),
                "SCOPE_NOT_HELD: a scope that was asked for is not held",
            ),
            (Error::with_message(R::MalformedRequest, said), "MALFORMED_REQUEST: no 'secret'??"),
        ] {
            let body = axum::body::to_bytes(axum::body::Body::new(answered(error).into_body()), 1_024).await;
            let body: serde_json::Value = serde_json::from_slice(&body.unwrap()).unwrap();
            assert_eq!(body["error_description"], expected);
        }
    }
}
