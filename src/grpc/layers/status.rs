//! The only place where a status is created: from our own errors, and from those that the
//! framework creates itself, which have no reason.

use std::collections::HashMap;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, PreconditionViolation, StatusExt as _};

use crate::domain::access::request_context::RequestContext;
use crate::error;
use crate::error::{Error, Parts, Precondition, Reason};

/// The `domain` of every `ErrorInfo`.
pub const DOMAIN: &str = "countersign";
/// The plain trailer (a header of a refusal) with the reason, for clients that read no protobuf.
pub const REASON_HEADER: &str = "countersign-reason";
/// How many bytes the message and details of a status take at most in headers, as they are encoded.
///
/// All headers of a refusal stay below 3.5 KB: a proxy in front, such as nginx with its defaults, has
/// 4 KB for them, and answers 502 to what is larger. What remains is for the other headers. List
/// entries that do not fit are left out and counted in `ErrorInfo.metadata["omitted"]`.
const STATUS_BUDGET: usize = 2_800;
/// The size of a list without its entries: its type's name, three lengths and their tags.
const LIST_FRAME: usize = 64;
/// The size of the count of entries that are left out, with its key.
const OMITTED_FRAME: usize = 24;
/// The maximum length of each string in an entry, in bytes.
const MAX_ENTRY: usize = 200;
/// The maximum length of a message, percent-encoded.
const MAX_MESSAGE: usize = 600;
/// The maximum length of a value of `ErrorInfo.metadata`, in bytes: a resource path fits.
const MAX_METADATA: usize = 512;

/// The header or trailer with the code of a call.
pub(in crate::grpc) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// The trailers of success.
pub(in crate::grpc) fn trailers_of_success() -> HeaderMap {
    HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from_static("0"))])
}

/// The status of an error. Its source is logged ([`AccessLog`](crate::flows::access_log::AccessLog)), and
/// not sent anywhere.
pub fn answer(parts: &Parts, origin: &RequestContext) -> Status {
    let reason = parts.reason;
    let metadata = parts.metadata.iter().map(|(key, value)| ((*key).to_owned(), cut(value, MAX_METADATA)));
    let mut metadata: HashMap<_, _> = metadata.collect();
    let mut details = ErrorDetails::with_error_info(reason.name(), DOMAIN, metadata.clone());
    if !origin.request_id.is_empty() {
        details.set_request_info(&*origin.request_id, "");
    }
    if let Some((kind, name)) = &parts.resource {
        details.set_resource_info(*kind, cut(name, MAX_ENTRY), "", "");
    }
    if let Some(delay) = parts.retry_after {
        details.set_retry_info(Some(delay));
    }
    let message = cut_encoded(&parts.message, MAX_MESSAGE);
    let status = |details| {
        let mut metadata = MetadataMap::new();
        metadata.insert(REASON_HEADER, MetadataValue::from_static(reason.name()));
        Status::with_error_details_and_metadata(code(reason), message.as_str(), details, metadata)
    };
    let entries = parts.violations.len() + parts.preconditions.len();
    if entries == 0 {
        return status(details);
    }
    let mut left = room(&status(details.clone()));
    let mut listed = 0;
    if !parts.violations.is_empty() {
        let entries = parts.violations.iter().map(|v| [v.field.as_str(), &v.description]);
        let violations = fitting(entries, &mut left).map(|[field, why]| FieldViolation::new(field, why));
        let violations: Vec<_> = violations.collect();
        listed += violations.len();
        details.set_bad_request(violations);
    }
    if !parts.preconditions.is_empty() {
        let violations = fitting(said_once(&parts.preconditions), &mut left)
            .map(|[kind, subject, why]| PreconditionViolation::new(kind, subject, why));
        let violations: Vec<_> = violations.collect();
        listed += violations.len();
        details.set_precondition_failure(violations);
    }
    if listed < entries {
        metadata.insert("omitted".to_owned(), (entries - listed).to_string());
        details.set_error_info(reason.name(), DOMAIN, metadata);
    }
    status(details)
}

/// The error of a status that the framework created, in headers or trailers: it has no reason yet. `encoded`:
/// the headers of the request name an encoding of its messages.
pub fn error_of_framework(headers: &HeaderMap, encoded: bool) -> Option<Error> {
    // Our own statuses have details, those of the framework have none.
    if headers.contains_key("grpc-status-details-bin") {
        return None;
    }
    let status = Status::from_header_map(headers).filter(|status| status.code() != Code::Ok);
    status.map(|status| foreign(&status, encoded))
}

/// The trailers of an error.
pub(super) fn trailers_of(parts: &Parts, origin: &RequestContext) -> HeaderMap {
    let (mut head, _) = answer(parts, origin).into_http::<()>().into_parts();
    head.headers.remove(CONTENT_TYPE);
    head.headers
}

fn foreign(status: &Status, encoded: bool) -> Error {
    match status.code() {
        // Without the header, which the framework did not see, a compressed message is wrong.
        Code::Internal if encoded => Reason::CompressionUnsupported.into(),
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
        error::Code::OutOfRange => Code::OutOfRange,
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
    let message: usize = status.message().chars().map(encoded).sum();
    let details = STATUS_BUDGET.saturating_sub(message) / 4 * 3;
    details.saturating_sub(status.details().len() + LIST_FRAME + OMITTED_FRAME)
}

/// The bytes of a character in a percent-encoded message.
fn encoded(character: char) -> usize {
    let plain = character.is_ascii_graphic() && !"\"#<>`?{}%".contains(character);
    if plain { 1 } else { 3 * character.len_utf8() }
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

/// The text as far as it fits, percent-encoded.
fn cut_encoded(text: &str, max: usize) -> String {
    let mut length = 0;
    let fits = |character: &char| {
        length += encoded(*character);
        length <= max
    };
    let kept: String = text.chars().take_while(fits).collect();
    if kept.len() == text.len() { kept } else { format!("{kept}…") }
}

fn cut(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let end = (0..=max).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    format!("{}…", &text[..end])
}
