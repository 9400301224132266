//! One error for all of it, with the reason.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::pb::{
    BadRequest, ErrorInfo, PreconditionFailure, RequestInfo, RetryInfo, precondition_failure,
};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::pb::ErrorReason;

/// A result with an [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The domain of the reasons, in `google.rpc.ErrorInfo`.
pub(crate) const DOMAIN: &str = "countersign";

/// Reasons that the library gives, and no server.
pub mod reason {
    /// The verifier has heard nothing of the server for too long: it cannot say whether a JWT was revoked.
    pub const VERIFIER_STALE: &str = "VERIFIER_STALE";
    /// The call has no credential, or the file that should hold one has none.
    pub const CREDENTIAL_MISSING: &str = "CREDENTIAL_MISSING";
    /// An argument or setting is wrong.
    pub const INVALID_FIELD: &str = "INVALID_FIELD";
    /// The JWT lacks the permission that the call needs.
    pub const PERMISSION_MISSING: &str = "PERMISSION_MISSING";
    /// The JWT is not one of this issuer for this service.
    pub const ACCESS_TOKEN_INVALID: &str = "ACCESS_TOKEN_INVALID";
    /// Rights were narrowed since the JWT was issued, or its secret has ended.
    pub const ACCESS_TOKEN_STALE: &str = "ACCESS_TOKEN_STALE";
}

/// Why a call failed, or a JWT was refused. Cheap to clone.
///
/// Match on [`reason`](Self::reason). New reasons are added over time: handle an unknown one by its
/// [`code`](Self::code). The message is for people.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    code: Code,
    reason: Cow<'static, str>,
    check: Option<&'static str>,
    message: String,
    retryable: bool,
    retry_after: Option<Duration>,
    metadata: BTreeMap<String, String>,
    violations: Vec<FieldViolation>,
    preconditions: Vec<Precondition>,
    request_id: String,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// A field of a request that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldViolation {
    /// Its path in the request, such as `grants[0].resource`.
    pub field: String,
    /// What is wrong with it.
    pub description: String,
}

/// A right, scope, token or limit that is in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Precondition {
    /// What kind of thing it is.
    pub kind: String,
    /// Which one.
    pub subject: String,
    /// What it does; empty where it is as in the entry before.
    pub description: String,
}

impl Error {
    pub(crate) fn new(code: Code, reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        let reason = reason.into();
        let retryable = is_retryable(code, &reason);
        Self(Arc::new(Inner {
            code,
            reason,
            check: None,
            message: message.into(),
            retryable,
            retry_after: None,
            metadata: BTreeMap::new(),
            violations: Vec::new(),
            preconditions: Vec::new(),
            request_id: String::new(),
            source: None,
        }))
    }

    /// A connection that could not be made, or broke.
    pub(crate) fn unavailable(
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::new(Code::Unavailable, "", message).with(|inner| inner.source = Some(source.into().into()))
    }

    /// A setting or argument that cannot be.
    pub(crate) fn invalid(field: &str, description: impl Into<String>) -> Self {
        let description = description.into();
        let message = format!("{field}: {description}");
        Self::new(Code::InvalidArgument, reason::INVALID_FIELD, message)
            .with(|inner| inner.violations = vec![FieldViolation { field: field.into(), description }])
    }

    /// A JWT that failed a check.
    pub(crate) fn refused(reason: &'static str, check: &'static str, message: &'static str) -> Self {
        let code = match reason {
            reason::VERIFIER_STALE => Code::Unavailable,
            "CLIENT_CERTIFICATE_NOT_ALLOWED" => Code::PermissionDenied,
            _ => Code::Unauthenticated,
        };
        Self::new(code, reason, message).with(|inner| inner.check = Some(check))
    }

    /// A right that is missing.
    pub(crate) fn denied(permission: &str, resource: Option<&str>) -> Self {
        Self::new(Code::PermissionDenied, reason::PERMISSION_MISSING, "the credential lacks the permission")
            .with(|inner| {
                if !permission.is_empty() {
                    inner.metadata.insert("permission".into(), permission.into());
                }
                if let Some(resource) = resource {
                    inner.metadata.insert("resource".into(), resource.into());
                }
            })
    }

    pub(crate) fn retryable(self, retryable: bool) -> Self {
        self.with(|inner| inner.retryable = retryable)
    }

    pub(crate) fn after(self, retry_after: Option<Duration>) -> Self {
        self.with(|inner| inner.retry_after = retry_after.or(inner.retry_after))
    }

    fn with(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// The reason: a name of [`ErrorReason`] without its prefix, or one of [`reason`]. Empty where no server
    /// gave one, as for a connection that broke: then the code counts.
    pub fn reason(&self) -> &str {
        &self.0.reason
    }

    /// The reason as the published enum has it; `Unspecified` for one that this version does not know.
    pub fn known_reason(&self) -> ErrorReason {
        ErrorReason::from_str_name(&format!("ERROR_REASON_{}", self.0.reason))
            .unwrap_or(ErrorReason::Unspecified)
    }

    /// Which check of a JWT failed: `aud`, say. `None` for anything but a verification.
    pub fn check(&self) -> Option<&'static str> {
        self.0.check
    }

    /// The gRPC status code: the rough kind.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// What is wrong, for people.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Whether the same call may succeed later. What creates something is repeated with the same `request_id`
    /// alone.
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// How long to wait before a retry, where the server said so.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// What the reason says more: the missing `permission`, for example.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.0.metadata
    }

    /// The fields that are wrong, of an `INVALID_FIELD`.
    pub fn field_violations(&self) -> &[FieldViolation] {
        &self.0.violations
    }

    /// What is in the way, where the reason lists something.
    pub fn preconditions(&self) -> &[Precondition] {
        &self.0.preconditions
    }

    /// The id of the call, as the server's log has it. Empty where no server answered.
    pub fn request_id(&self) -> &str {
        &self.0.request_id
    }

    /// Whether it ends the credential itself: no call with it succeeds any more, until the credential is changed or
    /// the stop is lifted.
    pub fn is_final(&self) -> bool {
        self.is_liftable()
            || (!self.0.retryable
                && matches!(
                    self.reason(),
                    "TOKEN_INVALID" | "TOKEN_REVOKED" | "TOKEN_EXPIRED" | "CREDENTIAL_MISSING"
                ))
    }

    /// Whether it is a final one that can be undone by an administrator.
    pub(crate) fn is_liftable(&self) -> bool {
        matches!(self.reason(), "TOKEN_BLOCKED" | "ACCOUNT_DEACTIVATED" | "ORG_SUSPENDED")
    }

    /// The error of an HTTP answer of the token endpoint.
    pub(crate) fn from_http(
        status: http::StatusCode,
        reason: Option<&str>,
        message: String,
        retry_after: Option<Duration>,
    ) -> Self {
        let code = match status.as_u16() {
            400 | 413 => Code::InvalidArgument,
            401 => Code::Unauthenticated,
            403 => Code::PermissionDenied,
            404 => Code::NotFound,
            405 | 415 => Code::Unimplemented,
            429 => Code::ResourceExhausted,
            502..=504 => Code::Unavailable,
            500..=599 => Code::Internal,
            _ => Code::Unknown,
        };
        Self::new(code, reason.unwrap_or_default().to_owned(), message).after(retry_after)
    }
}

/// By the reason where it is known, else by the code.
fn is_retryable(code: Code, reason: &str) -> bool {
    match reason {
        "OVERLOADED"
        | "THROTTLED"
        | "DATABASE_UNAVAILABLE"
        | "DEADLINE_EXCEEDED"
        | "CONFLICT"
        | reason::VERIFIER_STALE => true,
        known if ErrorReason::from_str_name(&format!("ERROR_REASON_{known}")).is_some() => false,
        _ => matches!(code, Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted),
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let details = Details::of(&status);
        let reason = match &details.info {
            Some(info) => info.reason.clone(),
            // It needs no protobuf to be read, and so passes where something cuts the details off.
            None => metadata(&status, "countersign-reason"),
        };
        // Made here, of a connection that broke: tonic gives it one of several codes.
        let broken = std::error::Error::source(&status).is_some() && reason.is_empty();
        let code = match status.code() {
            Code::Unknown | Code::Internal | Code::Cancelled if broken => Code::Unavailable,
            code => code,
        };
        Self::new(code, reason, status.message()).with(|inner| {
            inner.metadata = details.info.map(|info| info.metadata.into_iter().collect()).unwrap_or_default();
            inner.retry_after = details.retry_after;
            inner.violations = details.violations;
            inner.preconditions = details.preconditions;
            inner.request_id = details.request_id.unwrap_or_else(|| metadata(&status, "x-request-id"));
            if broken {
                inner.source = Some(Arc::new(status));
            }
        })
    }
}

fn metadata(status: &Status, name: &str) -> String {
    status.metadata().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

/// What the details of a status say.
#[derive(Default)]
struct Details {
    info: Option<ErrorInfo>,
    retry_after: Option<Duration>,
    violations: Vec<FieldViolation>,
    preconditions: Vec<Precondition>,
    request_id: Option<String>,
}

impl Details {
    /// Each detail by itself: of one that is broken the others still count.
    fn of(status: &Status) -> Self {
        let mut found = Self::default();
        let Ok(all) = tonic_types::pb::Status::decode(status.details()) else { return found };
        for detail in &all.details {
            // A broken one is skipped.
            let _ = found.add(detail);
        }
        found
    }

    fn add(&mut self, detail: &prost_types::Any) -> Result<(), prost::DecodeError> {
        let bytes = detail.value.as_slice();
        match detail.type_url.rsplit('/').next().unwrap_or_default() {
            "google.rpc.ErrorInfo" => {
                self.info = Some(ErrorInfo::decode(bytes)?).filter(|info| info.domain == DOMAIN);
            }
            "google.rpc.RetryInfo" => {
                let delay = RetryInfo::decode(bytes)?.retry_delay;
                self.retry_after = delay.and_then(|delay| Duration::try_from(delay).ok());
            }
            "google.rpc.BadRequest" => {
                let all = BadRequest::decode(bytes)?.field_violations.into_iter();
                self.violations =
                    all.map(|v| FieldViolation { field: v.field, description: v.description }).collect();
            }
            "google.rpc.PreconditionFailure" => {
                let all = PreconditionFailure::decode(bytes)?.violations.into_iter();
                let one = |v: precondition_failure::Violation| Precondition {
                    kind: v.r#type,
                    subject: v.subject,
                    description: v.description,
                };
                self.preconditions = all.map(one).collect();
            }
            "google.rpc.RequestInfo" => self.request_id = Some(RequestInfo::decode(bytes)?.request_id),
            _ => {}
        }
        Ok(())
    }
}

/// As a service answers it: with `google.rpc.ErrorInfo` of the domain `countersign`, and the reason as metadata.
impl From<Error> for Status {
    fn from(error: Error) -> Self {
        if error.0.reason.is_empty() {
            return Self::new(error.code(), error.message());
        }
        let metadata = error.0.metadata.clone().into_iter().collect::<std::collections::HashMap<_, _>>();
        let mut details = ErrorDetails::with_error_info(error.reason(), DOMAIN, metadata);
        if let Some(delay) = error.retry_after() {
            details.set_retry_info(Some(delay));
        }
        let mut status = Self::with_error_details(error.code(), error.message(), details);
        if let Ok(value) = error.reason().parse() {
            status.metadata_mut().insert("countersign-reason", value);
        }
        status
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.reason.is_empty() {
            write!(f, "{:?}: {}", self.0.code, self.0.message)
        } else {
            write!(f, "{}: {}", self.0.reason, self.0.message)
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("code", &self.0.code)
            .field("reason", &self.0.reason)
            .field("check", &self.0.check)
            .field("message", &self.0.message)
            .field("retryable", &self.0.retryable)
            .field("retry_after", &self.0.retry_after)
            .field("metadata", &self.0.metadata)
            .field("violations", &self.0.violations)
            .field("preconditions", &self.0.preconditions)
            .field("request_id", &self.0.request_id)
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| source.as_ref() as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_of_the_server_gives_all_that_its_details_say() {
        let mut details =
            ErrorDetails::with_error_info("THROTTLED", DOMAIN, [("id".to_owned(), "7".to_owned())]);
        details.set_retry_info(Some(Duration::from_millis(1500)));
        details.add_bad_request_violation("grants[0].resource", "no such resource");
        details.add_precondition_failure_violation("scope", "invoices.read", "is not held");
        details.set_request_info("req-1", "");
        let status = Status::with_error_details(Code::ResourceExhausted, "slow down", details);
        let error = Error::from(status);
        assert_eq!((error.reason(), error.known_reason()), ("THROTTLED", ErrorReason::Throttled));
        assert_eq!((error.code(), error.message()), (Code::ResourceExhausted, "slow down"));
        assert!(error.is_retryable() && !error.is_final());
        assert_eq!(error.retry_after(), Some(Duration::from_millis(1500)));
        assert_eq!(error.metadata()["id"], "7");
        assert_eq!(error.field_violations()[0].field, "grants[0].resource");
        assert_eq!(error.preconditions()[0].subject, "invoices.read");
        assert_eq!(error.request_id(), "req-1");
    }

    #[test]
    fn reasons_decide_before_codes_do_and_unknown_ones_go_by_their_code() {
        // A limit is no reason to try again, though its code alone would be one.
        let limit = Error::new(Code::ResourceExhausted, "MESSAGE_TOO_LARGE", "");
        assert!(!limit.is_retryable());
        assert!(Error::new(Code::ResourceExhausted, "SOMETHING_NEW", "").is_retryable());
        assert!(!Error::new(Code::PermissionDenied, "SOMETHING_NEW", "").is_retryable());
        assert!(Error::new(Code::Aborted, "CONFLICT", "").is_retryable());
        assert!(Error::new(Code::Unavailable, "", "").is_retryable());
        assert!(!Error::new(Code::Internal, "INTERNAL", "").is_retryable());
        assert_eq!(Error::new(Code::Unknown, "SOMETHING_NEW", "").known_reason(), ErrorReason::Unspecified);
    }

    #[test]
    fn the_reason_of_another_domain_is_none_and_the_trailer_is_read_where_details_are_cut() {
        let details =
            ErrorDetails::with_error_info("TOKEN_REVOKED", "other", std::collections::HashMap::new());
        let status = Status::with_error_details(Code::Unauthenticated, "", details);
        assert_eq!(Error::from(status).reason(), "");
        let mut status = Status::unauthenticated("");
        status.metadata_mut().insert("countersign-reason", "TOKEN_REVOKED".parse().unwrap());
        let error = Error::from(status);
        assert_eq!(error.reason(), "TOKEN_REVOKED");
        assert!(error.is_final() && !error.is_liftable());
    }

    #[test]
    fn a_refusal_is_the_same_after_it_travelled() {
        let error =
            Error::denied("invoices.read", Some("customers/acme")).after(Some(Duration::from_secs(2)));
        let there = Error::from(Status::from(error));
        assert_eq!((there.code(), there.reason()), (Code::PermissionDenied, "PERMISSION_MISSING"));
        assert_eq!(there.metadata()["resource"], "customers/acme");
        assert_eq!(there.retry_after(), Some(Duration::from_secs(2)));
    }

    #[test]
    fn a_broken_connection_is_worth_a_retry_whatever_tonic_calls_it() {
        let broken = Status::from_error(Box::new(std::io::Error::other("reset")));
        let error = Error::from(broken);
        assert_eq!(error.code(), Code::Unavailable);
        assert!(error.is_retryable() && std::error::Error::source(&error).is_some());
        // The same code from a server is its own.
        assert!(!Error::from(Status::unknown("what")).is_retryable());
    }
}
