//! Errors as callers see them.
//!
//! An [`Error`] has a [`Reason`], which determines its status code, a message that is safe to
//! send, details, and optionally a source. The source is logged once, in the request layer, and
//! never sent.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

/// The result of an operation whose failure a caller may see.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The gRPC status codes that Countersign answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    Aborted,
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    OutOfRange,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Unimplemented,
}

impl Code {
    /// Its name in the specification of gRPC.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aborted => "ABORTED",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::Internal => "INTERNAL",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::NotFound => "NOT_FOUND",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::Unavailable => "UNAVAILABLE",
            Self::Unimplemented => "UNIMPLEMENTED",
        }
    }
}

macro_rules! reasons {
    ($($variant:ident $name:literal $code:ident $message:literal;)*) => {
        /// The precise reason for a failure: the values of the published `ErrorReason`. Each has
        /// a status code and a default message, which is sent when there is no more specific one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $($variant),* }

        impl Reason {
            /// All reasons.
            pub const ALL: &[Reason] = &[$(Reason::$variant),*];

            /// The name on the wire, without the enum's prefix.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// The status code of this reason. There is exactly one.
            pub const fn code(self) -> Code {
                match self { $(Self::$variant => Code::$code),* }
            }

            /// The default message, used when there is no more specific one.
            pub const fn message(self) -> &'static str {
                match self { $(Self::$variant => $message),* }
            }
        }
    };
}

reasons! {
    CredentialMissing "CREDENTIAL_MISSING" Unauthenticated "the call needs a credential: send `authorization: Bearer <token>`";
    TokenInvalid "TOKEN_INVALID" Unauthenticated "the credential is not valid";
    TokenExpired "TOKEN_EXPIRED" Unauthenticated "the token has expired";
    TokenRevoked "TOKEN_REVOKED" Unauthenticated "the token was revoked";
    TokenBlocked "TOKEN_BLOCKED" Unauthenticated "the org's token policy blocks the token";
    AccessTokenInvalid "ACCESS_TOKEN_INVALID" Unauthenticated "the access token is not valid for this API";
    AccessTokenStale "ACCESS_TOKEN_STALE" Unauthenticated "rights changed since the access token was issued: exchange the token again";
    AccountDeactivated "ACCOUNT_DEACTIVATED" Unauthenticated "the account is deactivated or deleted";
    OrgSuspended "ORG_SUSPENDED" Unauthenticated "the org is suspended or deleted";
    LoginFailed "LOGIN_FAILED" Unauthenticated "username and password do not match, or the account cannot sign in";
    PermissionMissing "PERMISSION_MISSING" PermissionDenied "the caller lacks a permission";
    GrantExceedsCaller "GRANT_EXCEEDS_CALLER" PermissionDenied "a grant carries more than the caller holds";
    TargetExceedsCaller "TARGET_EXCEEDS_CALLER" PermissionDenied "the target can do more than the caller may pass on";
    ScopeNotHeld "SCOPE_NOT_HELD" PermissionDenied "a scope that was asked for is not held";
    OriginNotAllowed "ORIGIN_NOT_ALLOWED" PermissionDenied "the publishable token does not work from this origin";
    AddressNotAllowed "ADDRESS_NOT_ALLOWED" PermissionDenied "the credential does not work from this address";
    ClientCertificateNotAllowed "CLIENT_CERTIFICATE_NOT_ALLOWED" PermissionDenied "the credential does not work with this client certificate, or without one";
    PurposeMismatch "PURPOSE_MISMATCH" PermissionDenied "the credential is for another purpose";
    InvitationEmailMismatch "INVITATION_EMAIL_MISMATCH" PermissionDenied "the invitation is for the account whose verified email address it names";
    InvalidField "INVALID_FIELD" InvalidArgument "a field is not valid";
    MalformedRequest "MALFORMED_REQUEST" InvalidArgument "the request is not a message of this RPC";
    InvalidTarget "INVALID_TARGET" InvalidArgument "the audience is not allowed";
    SubjectNotExchangeable "SUBJECT_NOT_EXCHANGEABLE" InvalidArgument "a subject of this kind cannot be exchanged";
    TargetNotServiceAccount "TARGET_NOT_SERVICE_ACCOUNT" InvalidArgument "the account must be a service account";
    RequestIdReused "REQUEST_ID_REUSED" InvalidArgument "the request_id was used before with another request";
    UnsupportedGrantType "UNSUPPORTED_GRANT_TYPE" InvalidArgument "the token endpoint has no such grant";
    UnsupportedTokenType "UNSUPPORTED_TOKEN_TYPE" InvalidArgument "a token of this type cannot be revoked by its text";
    OriginMismatch "ORIGIN_MISMATCH" InvalidArgument "the origin field differs from the connection's own origin header";
    KindIsImmutable "KIND_IS_IMMUTABLE" InvalidArgument "only ConvertAccount changes an account's kind";
    EmailIsImmutable "EMAIL_IS_IMMUTABLE" InvalidArgument "a user's email address is the username, and cannot be changed within the org";
    WideningNotAllowed "WIDENING_NOT_ALLOWED" InvalidArgument "a token can only be narrowed";
    CannotCloneSelf "CANNOT_CLONE_SELF" InvalidArgument "an account cannot clone itself";
    CannotDeactivateSelf "CANNOT_DEACTIVATE_SELF" InvalidArgument "an account cannot deactivate itself";
    CannotDeleteSelf "CANNOT_DELETE_SELF" InvalidArgument "an account cannot delete itself";
    ResourceNotFound "RESOURCE_NOT_FOUND" NotFound "not found";
    ResourceExists "RESOURCE_EXISTS" AlreadyExists "it already exists";
    NameHeldByDeletedAccount "NAME_HELD_BY_DELETED_ACCOUNT" AlreadyExists "the name is held by a deleted account until that is purged";
    RequestReplayed "REQUEST_REPLAYED" AlreadyExists "this request_id was used before; the secret is not returned again";
    UseInvitation "USE_INVITATION" AlreadyExists "the address already has an account in another org: create an invitation";
    LastOwner "LAST_OWNER" FailedPrecondition "the org would be left without an owner";
    ScopeTooWide "SCOPE_TOO_WIDE" FailedPrecondition "the access token would be larger than 4 KiB: ask for fewer scopes";
    LimitReached "LIMIT_REACHED" FailedPrecondition "a limit is reached";
    AccountOwnsTokens "ACCOUNT_OWNS_TOKENS" FailedPrecondition "the account owns active tokens: reassign or revoke them first";
    HomeOrg "HOME_ORG" FailedPrecondition "the org is the account's home: delete the account instead";
    RotationInProgress "ROTATION_IN_PROGRESS" FailedPrecondition "the token has two active secrets: finish the rotation with the new one when no client uses the old one any more, or cancel it";
    ResourceInUse "RESOURCE_IN_USE" FailedPrecondition "it is in use";
    Conflict "CONFLICT" Aborted "a concurrent change got in the way: try again";
    EtagMismatch "ETAG_MISMATCH" Aborted "it was changed since the etag was read";
    CursorExpired "CURSOR_EXPIRED" OutOfRange "the cursor cannot be resumed from: start again without one";
    MessageTooLarge "MESSAGE_TOO_LARGE" ResourceExhausted "the message is larger than the server accepts";
    Overloaded "OVERLOADED" ResourceExhausted "the server is overloaded: try again";
    Throttled "THROTTLED" ResourceExhausted "too many failed attempts: try again later";
    DeadlineExceeded "DEADLINE_EXCEEDED" DeadlineExceeded "the call took longer than its deadline";
    MethodUnknown "METHOD_UNKNOWN" Unimplemented "there is no such RPC";
    CompressionUnsupported "COMPRESSION_UNSUPPORTED" Unimplemented "messages must not be compressed";
    DatabaseUnavailable "DATABASE_UNAVAILABLE" Unavailable "the database is unavailable: try again";
    Internal "INTERNAL" Internal "internal error: the cause is in the server's log under this request id";
}

impl Reason {
    /// Whether it says that a credential, or an attempt to sign in, was refused: what an operator of the
    /// server has to see.
    pub fn refuses_a_credential(self) -> bool {
        matches!(
            self,
            Self::OriginNotAllowed
                | Self::AddressNotAllowed
                | Self::ClientCertificateNotAllowed
                | Self::PurposeMismatch
                | Self::Throttled
        ) || (self.code() == Code::Unauthenticated && self != Self::CredentialMissing)
    }
}

/// One invalid field, identified by its path in the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub field: String,
    pub description: String,
}

/// One obstacle to a call: a missing right, a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Precondition {
    /// The kind of obstacle, such as `PERMISSION`.
    pub kind: &'static str,
    /// Which one of that kind.
    pub subject: String,
    pub description: String,
}

/// Why a call failed. `Display` is safe to send to the caller.
pub struct Error(Box<Parts>);

/// The parts of an [`Error`] that the request layer turns into a status.
pub struct Parts {
    pub reason: Reason,
    pub message: Cow<'static, str>,
    pub violations: Vec<Violation>,
    pub preconditions: Vec<Precondition>,
    /// Machine-readable facts, sent in `ErrorInfo.metadata`.
    pub metadata: Vec<(&'static str, String)>,
    /// What was not found or already exists: its kind and the caller's name for it.
    pub resource: Option<(&'static str, String)>,
    pub retry_after: Option<Duration>,
    /// The credential that is refused, by its public id. Only for the log.
    pub credential: Option<String>,
    /// Only for the log.
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error with the reason's default message.
    pub fn new(reason: Reason) -> Self {
        Self::with_message(reason, reason.message())
    }

    /// An error with its own message, which the caller will see.
    pub fn with_message(reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Parts {
            reason,
            message: message.into(),
            violations: Vec::new(),
            preconditions: Vec::new(),
            metadata: Vec::new(),
            resource: None,
            retry_after: None,
            credential: None,
            source: None,
        }))
    }

    /// `RESOURCE_NOT_FOUND`, naming the resource as the caller did.
    pub fn not_found(kind: &'static str, name: impl fmt::Display) -> Self {
        let mut error = Self::with_message(Reason::ResourceNotFound, format!("{kind} {name} not found"));
        error.0.resource = Some((kind, name.to_string()));
        error
    }

    /// `RESOURCE_EXISTS`, naming the resource as the caller did.
    pub fn exists(kind: &'static str, name: impl fmt::Display) -> Self {
        let mut error = Self::with_message(Reason::ResourceExists, format!("{kind} {name} already exists"));
        error.0.resource = Some((kind, name.to_string()));
        error
    }

    /// An internal fault. The message goes to the log, never to the caller.
    pub fn internal(what: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(Reason::Internal).because(what)
    }

    /// `INVALID_FIELD` with one violation.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        let mut violations = Violations::default();
        violations.add(field, description);
        violations.error()
    }

    /// Adds the cause, which is only logged.
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Adds the preconditions that failed.
    pub fn with_preconditions(mut self, preconditions: impl IntoIterator<Item = Precondition>) -> Self {
        self.0.preconditions.extend(preconditions);
        self
    }

    /// Adds a machine-readable fact.
    pub fn with_metadata(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.0.metadata.push((key, value.into()));
        self
    }

    /// Says which credential is refused, for the log.
    pub fn of_credential(mut self, credential: impl fmt::Display) -> Self {
        self.0.credential = Some(credential.to_string());
        self
    }

    /// Sets the delay after which a retry is worthwhile.
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.0.retry_after = Some(delay);
        self
    }

    /// The reason for the failure.
    pub fn reason(&self) -> Reason {
        self.0.reason
    }

    /// The parts of the error, for the request layer.
    pub fn into_parts(self) -> Parts {
        *self.0
    }
}

impl From<Reason> for Error {
    fn from(reason: Reason) -> Self {
        Self::new(reason)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.reason.name(), self.0.message)?;
        match &self.0.source {
            Some(source) => write!(f, " ({source})"),
            None => Ok(()),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// The most violations of one answer. More are counted, and not listed.
pub const MOST_VIOLATIONS: usize = 100;

/// Collects every violation of a request before refusing it, up to [`MOST_VIOLATIONS`].
#[derive(Debug, Default)]
pub struct Violations {
    listed: Vec<Violation>,
    /// How many there are beside those listed.
    more: usize,
}

impl Violations {
    /// Records that `field` is invalid.
    pub fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        if self.listed.len() < MOST_VIOLATIONS {
            self.listed.push(Violation { field: field.into(), description: description.into() });
        } else {
            self.more += 1;
        }
    }

    /// Returns the value, or records that `field` is invalid.
    pub fn check<T, E: fmt::Display>(&mut self, field: &str, parsed: Result<T, E>) -> Option<T> {
        parsed.map_err(|error| self.add(field, error.to_string())).ok()
    }

    /// Like [`check`](Self::check) for each of at most `limit` values; violations name the index.
    pub fn check_each<T, E: fmt::Display>(
        &mut self,
        field: &str,
        values: &[String],
        limit: usize,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Vec<T> {
        self.each(field, values.iter(), limit, |value| parse(value))
    }

    /// Like [`check_each`](Self::check_each) for values that are not copied.
    pub fn take_each<T, E: fmt::Display>(
        &mut self,
        field: &str,
        values: Vec<String>,
        limit: usize,
        parse: impl Fn(String) -> Result<T, E>,
    ) -> Vec<T> {
        self.each(field, values.into_iter(), limit, parse)
    }

    fn each<V, T, E: fmt::Display>(
        &mut self,
        field: &str,
        values: impl ExactSizeIterator<Item = V>,
        limit: usize,
        parse: impl Fn(V) -> Result<T, E>,
    ) -> Vec<T> {
        let count = values.len();
        if count > limit {
            self.add(field, format!("holds {count} values; at most {limit} are allowed"));
            return Vec::new();
        }
        let checked = values.enumerate().filter_map(|(i, value)| {
            parse(value).map_err(|wrong| self.add(format!("{field}[{i}]"), wrong.to_string())).ok()
        });
        checked.collect()
    }

    /// Adds the violations of the message at `field`.
    pub fn take_in(&mut self, field: &str, inner: Violations) {
        self.more += inner.more;
        for wrong in inner.listed {
            self.add(format!("{field}.{}", wrong.field), wrong.description);
        }
    }

    /// How many were recorded.
    pub fn count(&self) -> usize {
        self.listed.len() + self.more
    }

    /// `Ok` when no violation was recorded.
    pub fn finish(self) -> Result<()> {
        if self.listed.is_empty() { Ok(()) } else { Err(self.error()) }
    }

    /// The values of these fields, if no violation was recorded. A failed check records one.
    ///
    /// # Errors
    /// `INVALID_FIELD`, which lists the recorded violations.
    pub fn all<C: CheckedFields>(self, checked: C) -> Result<C::Values> {
        self.finish()?;
        checked.values().ok_or_else(|| Error::internal("a field was refused without a violation"))
    }

    /// The error that lists the recorded violations.
    pub fn error(self) -> Error {
        let fields: Vec<_> =
            self.listed.iter().map(|v| format!("{}: {}", v.field, v.description)).take(3).collect();
        let unsaid = self.listed.len() + self.more - fields.len();
        let more = if unsaid > 0 { format!("; and {unsaid} more") } else { String::new() };
        let mut error = Error::with_message(Reason::InvalidField, format!("{}{more}", fields.join("; ")));
        error.0.violations = self.listed;
        error
    }
}

/// The checked fields of a request: a tuple of options.
pub trait CheckedFields {
    /// The tuple of the values inside the options.
    type Values;

    /// The values; none if any option is none.
    fn values(self) -> Option<Self::Values>;
}

macro_rules! checked_fields {
    ($($name:ident)+) => {
        impl<$($name),+> CheckedFields for ($(Option<$name>,)+) {
            type Values = ($($name,)+);

            #[expect(non_snake_case, reason = "the names are those of the types")]
            fn values(self) -> Option<Self::Values> {
                let ($($name,)+) = self;
                Some(($($name?,)+))
            }
        }
    };
}

checked_fields!(A);
checked_fields!(A B);
checked_fields!(A B C);
checked_fields!(A B C D);
checked_fields!(A B C D E);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checked_fields_are_given_when_nothing_was_noted() {
        assert_eq!(Violations::default().all((Some(1), Some("a"))).unwrap(), (1, "a"));
        let mut violations = Violations::default();
        let refused = violations.check("name", Err::<(), _>("is required"));
        let error = violations.all((Some(1), refused)).unwrap_err();
        assert_eq!(error.reason(), Reason::InvalidField);
        assert_eq!(error.to_string(), "name: is required");
        // A recorded violation refuses the other fields as well.
        let mut violations = Violations::default();
        violations.add("email", "is required");
        assert_eq!(violations.all((Some(1),)).unwrap_err().reason(), Reason::InvalidField);
        let missing = Violations::default().all((None::<u8>,)).unwrap_err();
        assert_eq!(missing.reason(), Reason::Internal);
    }

    #[test]
    fn violations_beyond_the_most_are_counted_and_not_listed() {
        let mut inner = Violations::default();
        for i in 0..80 {
            inner.add(format!("a[{i}]"), "is wrong");
        }
        let mut violations = Violations::default();
        for i in 0..60 {
            violations.add(format!("b[{i}]"), "is wrong");
        }
        violations.take_in("list", inner);
        violations.add("last", "is wrong");
        let error = violations.error();
        assert!(error.to_string().ends_with("; and 138 more"), "{error}");
        let listed = error.into_parts().violations;
        assert_eq!(listed.len(), MOST_VIOLATIONS);
        assert_eq!(listed[99].field, "list.a[39]");
    }
}
