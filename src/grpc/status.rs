//! The only place where a status is made: from our errors, and from those that the
//! framework makes by itself, which come without a reason.

use std::borrow::Cow;
use std::collections::HashMap;

use axum::response::Response;
use http::HeaderMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, PreconditionViolation, StatusExt as _};

use crate::domain::caller::Origin;
use crate::error::{self, Error, Reason};

/// `domain` of every `ErrorInfo`.
pub const DOMAIN: &str = "countersign";
/// A status travels in a header, and clients bound those to 8 KiB or so: no more
/// entries than this, and the message says how many there are.
const MAX_ENTRIES: usize = 50;

/// The status of an error. Its source is logged here, once, and sent nowhere.
pub fn answer(error: Error, origin: &Origin) -> Status {
    let parts = error.into_parts();
    let (reason, request_id) = (parts.reason, origin.request_id.as_str());
    if let Some(source) = &parts.source {
        if reason == Reason::Internal {
            tracing::error!(request_id, reason = reason.name(), error = %Chain(source.as_ref()), "call failed");
        } else {
            tracing::warn!(request_id, reason = reason.name(), error = %Chain(source.as_ref()), "call failed");
        }
    } else if reason == Reason::Internal {
        tracing::error!(request_id, reason = reason.name(), "call failed");
    }
    let metadata: HashMap<String, String> =
        parts.metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let mut details = ErrorDetails::with_error_info(reason.name(), DOMAIN, metadata);
    if !origin.request_id.is_empty() {
        details.set_request_info(request_id, "");
    }
    if !parts.violations.is_empty() {
        let violations = parts.violations.into_iter().take(MAX_ENTRIES);
        details.set_bad_request(
            violations.map(|v| FieldViolation::new(v.field, v.description)).collect::<Vec<_>>(),
        );
    }
    if !parts.preconditions.is_empty() {
        let preconditions = parts.preconditions.into_iter().take(MAX_ENTRIES);
        let violations = preconditions.map(|p| PreconditionViolation::new(p.kind, p.subject, p.description));
        details.set_precondition_failure(violations.collect::<Vec<_>>());
    }
    if let Some((kind, name)) = parts.resource {
        details.set_resource_info(kind, name, "", "");
    }
    if let Some(delay) = parts.retry_after {
        details.set_retry_info(Some(delay));
    }
    Status::with_error_details(code(reason), cut(parts.message), details)
}

/// Gives a status that the framework made its code and its reason: ours have details,
/// its own have none.
pub fn normalise(response: Response, origin: &Origin) -> Response {
    let headers = response.headers();
    if headers.contains_key("grpc-status-details-bin") {
        return response;
    }
    match Status::from_header_map(headers) {
        Some(status) if status.code() != Code::Ok => answer(foreign(&status, headers), origin).into_http(),
        _ => response,
    }
}

fn foreign(status: &Status, headers: &HeaderMap) -> Error {
    match status.code() {
        Code::OutOfRange | Code::ResourceExhausted => Reason::MessageTooLarge.into(),
        Code::Cancelled | Code::DeadlineExceeded => Reason::DeadlineExceeded.into(),
        Code::Unimplemented if headers.contains_key("grpc-accept-encoding") => Error::with_message(
            Reason::MalformedRequest,
            "the request is compressed in a way that is not supported",
        ),
        Code::Unimplemented => Reason::MethodUnknown.into(),
        // The framework fails only on messages that it cannot read: it never sees our own errors.
        Code::Internal | Code::InvalidArgument | Code::Unknown | Code::DataLoss => {
            Reason::MalformedRequest.into()
        }
        // A service of the framework's own, such as health for an unknown service.
        Code::NotFound => Error::with_message(Reason::ResourceNotFound, "no such service"),
        _ => Error::internal(format!("the framework answered {:?}", status.code())),
    }
}

fn code(reason: Reason) -> Code {
    match reason.code() {
        error::Code::Aborted => Code::Aborted,
        error::Code::AlreadyExists => Code::AlreadyExists,
        error::Code::DeadlineExceeded => Code::DeadlineExceeded,
        error::Code::FailedPrecondition => Code::FailedPrecondition,
        error::Code::Internal => Code::Internal,
        error::Code::InvalidArgument => Code::InvalidArgument,
        error::Code::NotFound => Code::NotFound,
        error::Code::PermissionDenied => Code::PermissionDenied,
        error::Code::ResourceExhausted => Code::ResourceExhausted,
        error::Code::Unauthenticated => Code::Unauthenticated,
        error::Code::Unavailable => Code::Unavailable,
        error::Code::Unimplemented => Code::Unimplemented,
    }
}

fn cut(message: Cow<'static, str>) -> String {
    const MAX: usize = 1_000;
    if message.len() <= MAX {
        return message.into_owned();
    }
    let end = (0..=MAX).rev().find(|&at| message.is_char_boundary(at)).unwrap_or(0);
    format!("{}…", &message[..end])
}

/// An error with all its causes, for the log.
struct Chain<'a>(&'a (dyn std::error::Error + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self.0, f)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}
