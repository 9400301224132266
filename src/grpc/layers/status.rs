//! The only place where a status is created: from our own errors, and from those that the
//! framework creates itself, which have no reason.

use std::collections::HashMap;

use http::{HeaderMap, HeaderName, HeaderValue, Response};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, PreconditionViolation, StatusExt as _};

use crate::domain::access::request_context::RequestContext;
use crate::error;
use crate::error::{Error, Precondition, Reason};

/// The `domain` of every `ErrorInfo`.
pub const DOMAIN: &str = "countersign";
/// How many encoded bytes the message and details of a status may take in headers. Clients limit
/// header size: gRPC's C core starts to refuse at 8 KiB. The ids of as many tokens as an account
/// may have fit. List entries that do not fit are left out, and the message says that there are
/// more.
const STATUS_BUDGET: usize = 6_500;
/// The size of a list without its entries: its type's name, three lengths and their tags.
const LIST_FRAME: usize = 64;
/// The maximum length of each string in an entry, in bytes.
const MAX_ENTRY: usize = 200;
/// The maximum length of a message, in bytes: it is sent twice, once percent-encoded.
const MAX_MESSAGE: usize = 600;

/// The header or trailer with the code of a call.
pub(in crate::grpc) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// The trailers of success.
pub(in crate::grpc) fn trailers_of_success() -> HeaderMap {
    HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from_static("0"))])
}

/// The status of an error. Its source is logged here, once, and not sent anywhere.
pub fn answer(error: Error, origin: &RequestContext) -> Status {
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
    if let Some((kind, name)) = parts.resource {
        details.set_resource_info(kind, cut(&name, MAX_ENTRY), "", "");
    }
    if let Some(delay) = parts.retry_after {
        details.set_retry_info(Some(delay));
    }
    let message = cut(&parts.message, MAX_MESSAGE);
    let status = |details| Status::with_error_details(code(reason), message.as_str(), details);
    if parts.violations.is_empty() && parts.preconditions.is_empty() {
        return status(details);
    }
    let mut left = room(&status(details.clone()));
    if !parts.violations.is_empty() {
        let entries = parts.violations.iter().map(|v| [v.field.as_str(), &v.description]);
        let violations = fitting(entries, &mut left).map(|[field, why]| FieldViolation::new(field, why));
        details.set_bad_request(violations.collect::<Vec<_>>());
    }
    if !parts.preconditions.is_empty() {
        let violations = fitting(said_once(&parts.preconditions), &mut left)
            .map(|[kind, subject, why]| PreconditionViolation::new(kind, subject, why));
        details.set_precondition_failure(violations.collect::<Vec<_>>());
    }
    status(details)
}

/// Adds code and reason to a status that the framework created. Our own statuses have details,
/// those of the framework have none.
pub fn normalise<B: Default>(response: Response<B>, origin: &RequestContext) -> Response<B> {
    let headers = response.headers();
    if headers.contains_key("grpc-status-details-bin") {
        return response;
    }
    match Status::from_header_map(headers) {
        Some(status) if status.code() != Code::Ok => answer(foreign(&status), origin).into_http(),
        _ => response,
    }
}

fn foreign(status: &Status) -> Error {
    match status.code() {
        Code::OutOfRange | Code::ResourceExhausted => Reason::MessageTooLarge.into(),
        Code::Cancelled | Code::DeadlineExceeded => Reason::DeadlineExceeded.into(),
        Code::Unimplemented => Reason::MethodUnknown.into(),
        // The framework fails only on messages that it cannot read: it never sees our own errors.
        Code::Internal | Code::InvalidArgument | Code::Unknown | Code::DataLoss => {
            Reason::MalformedRequest.into()
        }
        // From a service of the framework, such as health for an unknown service.
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

/// How many bytes of lists fit into a status. The message is percent-encoded in its own header,
/// and the details, which contain it again, are base64.
fn room(status: &Status) -> usize {
    let encoded = |byte: u8| if byte.is_ascii_alphanumeric() { 1 } else { 3 };
    let message: usize = status.message().bytes().map(encoded).sum();
    let details = STATUS_BUDGET.saturating_sub(message) / 4 * 3;
    details.saturating_sub(status.details().len() + LIST_FRAME)
}

/// The first entries that fit into the remaining space, each string cut to its maximum length.
fn fitting<'a, const N: usize>(
    entries: impl Iterator<Item = [&'a str; N]>,
    left: &mut usize,
) -> impl Iterator<Item = [String; N]> {
    entries.map(|texts| texts.map(|text| cut(text, MAX_ENTRY))).take_while(move |texts| {
        let size = field(texts.iter().map(|text| field(text.len())).sum());
        let fits = size <= *left;
        *left = left.saturating_sub(size);
        fits
    })
}

/// The encoded size of a field of this length: tag, length and content; zero if it is empty.
fn field(length: usize) -> usize {
    match length {
        0 => 0,
        1..128 => length + 2,
        _ => length + 3,
    }
}

/// Kind, subject and description of each precondition. A description equal to the previous one is
/// left out: a hundred ids with a sentence each do not fit.
fn said_once(preconditions: &[Precondition]) -> impl Iterator<Item = [&str; 3]> {
    let mut before = None;
    preconditions.iter().map(move |each| {
        let (kind, subject, why) = (each.kind, each.subject.as_str(), each.description.as_str());
        let again = before.replace((kind, why)) == Some((kind, why));
        [kind, subject, if again { "" } else { why }]
    })
}

fn cut(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let end = (0..=max).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    format!("{}…", &text[..end])
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
