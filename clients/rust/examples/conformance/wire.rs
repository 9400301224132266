//! The JSON of the protocol, and what it is in the library.

use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use countersign_client::pb::revocation::Subject;
use countersign_client::pb::watch_revocations_response::Item;
use countersign_client::{Credential, Endpoint, Error, Orgs, pb};
use serde_json::{Map, Value, json};
use tonic::{Code, Status};

/// What ends a request.
pub(crate) enum Fault {
    Library(Error),
    Driver(String),
    NotSupported,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Library(error)
    }
}

pub(crate) type Answer = Result<Value, Fault>;

pub(crate) fn fault(message: impl Into<String>) -> Fault {
    Fault::Driver(message.into())
}

/// The members of a request.
pub(crate) struct Ask<'a>(pub(crate) &'a Map<String, Value>);

impl<'a> Ask<'a> {
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| !value.is_null())
    }

    pub(crate) fn opt(&self, name: &str) -> Option<&'a str> {
        self.0.get(name).and_then(Value::as_str)
    }

    pub(crate) fn text(&self, name: &str) -> Result<&'a str, Fault> {
        self.opt(name).ok_or_else(|| fault(format!("{name} is missing")))
    }

    pub(crate) fn texts(&self, name: &str) -> Vec<String> {
        let all = self.0.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        all.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    pub(crate) fn number(&self, name: &str) -> Option<f64> {
        self.0.get(name).and_then(Value::as_f64)
    }

    pub(crate) fn seconds(&self, name: &str) -> Option<Duration> {
        self.number(name).map(duration)
    }

    pub(crate) fn object(&self, name: &str) -> Option<Ask<'a>> {
        self.0.get(name).and_then(Value::as_object).map(Ask)
    }

    pub(crate) fn orgs(&self) -> Orgs {
        if self.has("orgs") { Orgs::Only(self.texts("orgs")) } else { Orgs::Any }
    }

    pub(crate) fn endpoint(&self) -> Result<Endpoint, Fault> {
        let url = self.text("endpoint")?;
        Ok(match self.opt("ca_file") {
            Some(file) => Endpoint::with_ca_file(url, file)?,
            None => Endpoint::new(url)?,
        })
    }

    pub(crate) fn credential(&self) -> Result<Credential, Fault> {
        let given = self.object("credential").ok_or_else(|| fault("credential is missing"))?;
        Ok(if let Some(secret) = given.opt("secret") {
            Credential::secret(secret)
        } else if let Some(path) = given.opt("token_file") {
            Credential::token_file(path)
        } else if let Some(path) = given.opt("key_file") {
            Credential::key_file(given.text("token_id")?, path)
        } else if let Some(path) = given.opt("assertion_file") {
            Credential::assertion_file(path, given.text("rule_id")?)
        } else {
            return Err(fault("the credential is of no kind"));
        })
    }
}

pub(crate) fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// What a stream brings: an item, or its end.
pub(crate) enum Fed {
    Item(Item),
    Cut(Error),
}

pub(crate) fn fed(item: &Value) -> Result<Fed, Fault> {
    let item = item.as_object().map(Ask).ok_or_else(|| fault("an item is no object"))?;
    if let Some(set) = item.object("key_set") {
        let keys = set.0.get("keys").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let keys = keys.iter().filter_map(Value::as_object).map(|key| jwk(&Ask(key))).collect();
        return Ok(Fed::Item(Item::KeySet(pb::KeySet { keys, max_age: None })));
    }
    if let Some(revocation) = item.object("revocation") {
        return Ok(Fed::Item(Item::Revocation(self::revocation(&revocation))));
    }
    if let Some(checkpoint) = item.object("checkpoint") {
        return Ok(Fed::Item(Item::Checkpoint(pb::Checkpoint {
            cursor: checkpoint.opt("cursor").unwrap_or_default().into(),
            time: checkpoint.number("time").map(timestamp),
            lag: checkpoint.number("lag").map(|lag| prost_types::Duration {
                seconds: lag.trunc() as i64,
                nanos: (lag.fract() * 1e9) as i32,
            }),
        })));
    }
    let cut = item.object("cut").ok_or_else(|| fault("an item is of no kind"))?;
    let code = code_of(cut.opt("code").unwrap_or_default());
    let mut status = Status::new(code, "the stream ended");
    if let Some(reason) = cut.opt("reason") {
        let reason = reason.parse().map_err(|_| fault("the reason is no header"))?;
        status.metadata_mut().insert("countersign-reason", reason);
    }
    Ok(Fed::Cut(Error::from(status)))
}

fn timestamp(seconds: f64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: seconds.floor() as i64, nanos: (seconds.fract().abs() * 1e9) as i32 }
}

fn jwk(key: &Ask<'_>) -> pb::JsonWebKey {
    let text = |name| key.opt(name).unwrap_or_default().to_owned();
    pb::JsonWebKey {
        kty: text("kty"),
        kid: text("kid"),
        r#use: text("use"),
        alg: text("alg"),
        crv: text("crv"),
        x: text("x"),
        y: text("y"),
        n: text("n"),
        e: text("e"),
    }
}

fn revocation(given: &Ask<'_>) -> pb::Revocation {
    let text = |name| given.opt(name).map(str::to_owned);
    let secret = given.object("secret").map(|secret| pb::RevokedSecret {
        token_id: secret.opt("token_id").unwrap_or_default().into(),
        number: secret.number("number").unwrap_or_default() as i32,
    });
    let org = given.0.get("org").and_then(Value::as_bool);
    let subject = None
        .or(text("token_id").map(Subject::TokenId))
        .or(secret.map(Subject::Secret))
        .or(text("session_id").map(Subject::SessionId))
        .or(text("rule_id").map(Subject::RuleId))
        .or(text("account_id").map(Subject::AccountId))
        .or(org.map(Subject::Org))
        .or(text("key_id").map(Subject::KeyId));
    let reason = given.opt("reason").map(|reason| format!("ERROR_REASON_{reason}"));
    let reason = reason.and_then(|name| pb::ErrorReason::from_str_name(&name)).unwrap_or_default();
    pb::Revocation {
        org_id: text("org_id").unwrap_or_default(),
        subject,
        min_version: given.number("min_version").unwrap_or_default() as i64,
        reason: reason.into(),
        expire_time: given.number("expire_time").map(timestamp),
    }
}

const CODES: [(&str, Code); 17] = [
    ("OK", Code::Ok),
    ("CANCELLED", Code::Cancelled),
    ("UNKNOWN", Code::Unknown),
    ("INVALID_ARGUMENT", Code::InvalidArgument),
    ("DEADLINE_EXCEEDED", Code::DeadlineExceeded),
    ("NOT_FOUND", Code::NotFound),
    ("ALREADY_EXISTS", Code::AlreadyExists),
    ("PERMISSION_DENIED", Code::PermissionDenied),
    ("RESOURCE_EXHAUSTED", Code::ResourceExhausted),
    ("FAILED_PRECONDITION", Code::FailedPrecondition),
    ("ABORTED", Code::Aborted),
    ("OUT_OF_RANGE", Code::OutOfRange),
    ("UNIMPLEMENTED", Code::Unimplemented),
    ("INTERNAL", Code::Internal),
    ("UNAVAILABLE", Code::Unavailable),
    ("DATA_LOSS", Code::DataLoss),
    ("UNAUTHENTICATED", Code::Unauthenticated),
];

fn code_of(name: &str) -> Code {
    CODES.iter().find(|(known, _)| *known == name).map_or(Code::Unknown, |(_, code)| *code)
}

pub(crate) fn code_name(code: Code) -> &'static str {
    CODES.iter().find(|(_, known)| *known == code).map_or("UNKNOWN", |(name, _)| name)
}

/// The status of a call, from the bytes of its details.
pub(crate) fn status(ask: &Ask<'_>) -> Result<Error, Fault> {
    let code = Code::from_i32(ask.number("code").unwrap_or_default() as i32);
    let details = BASE64_STANDARD.decode(ask.opt("details").unwrap_or_default());
    let details = details.map_err(|_| fault("the details are no base64"))?;
    Ok(Error::from(Status::with_details(code, ask.opt("message").unwrap_or_default(), details.into())))
}

/// What an error type shows.
pub(crate) fn shown(error: &Error) -> Value {
    let violations: Vec<_> = error
        .field_violations()
        .iter()
        .map(|violation| json!({ "field": violation.field, "description": violation.description }))
        .collect();
    json!({
        "reason": error.reason(),
        "code": code_name(error.code()),
        "check": error.check(),
        "retryable": error.is_retryable(),
        "retry_after": error.retry_after().map(|wait| wait.as_secs_f64()),
        "message": error.message(),
        "metadata": error.metadata(),
        "violations": violations,
        "request_id": error.request_id(),
    })
}
