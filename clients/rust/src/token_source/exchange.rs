//! One exchange, by gRPC or by HTTP.

use std::time::{Duration, SystemTime};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine as _};
use http::{HeaderMap, Method, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use tokio::time::timeout;
use tonic::Code;
use tonic::transport::Channel;

use super::{AccessToken, TokenRequest, Transport};
use crate::clock::Clock;
use crate::connect::{Endpoint, HttpRequest};
use crate::credential::{Subject, SubjectKind};
use crate::error::{Error, Result};
use crate::pb;
use crate::pb::token_service_client::TokenServiceClient;

const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// An answer holds a JWT of 4 KiB and little else.
const MOST_BYTES: usize = 64 << 10;

pub(super) enum Exchanger {
    Grpc(Channel),
    Http(Endpoint),
}

impl Exchanger {
    pub(super) fn new(endpoint: Endpoint, transport: Transport) -> Self {
        match transport {
            Transport::Grpc => Self::Grpc(endpoint.channel()),
            Transport::Http => Self::Http(endpoint),
        }
    }

    /// The JWT, and how long it lives from when it was asked for.
    pub(super) async fn exchange(
        &self,
        subject: Subject,
        request: &TokenRequest,
        clock: &Clock,
        within: Duration,
    ) -> Result<(AccessToken, Duration)> {
        match self {
            Self::Grpc(channel) => by_grpc(channel.clone(), subject, request, clock, within).await,
            Self::Http(endpoint) => by_http(endpoint, subject, request, clock, within).await,
        }
    }
}

async fn by_grpc(
    channel: Channel,
    subject: Subject,
    request: &TokenRequest,
    clock: &Clock,
    within: Duration,
) -> Result<(AccessToken, Duration)> {
    let mut call = tonic::Request::new(message(subject, request));
    call.set_timeout(within);
    let answer = timeout(within, async { TokenServiceClient::new(channel).exchange_token(call).await });
    let answer = match answer.await {
        Ok(answer) => answer?.into_inner(),
        Err(_) => return Err(Error::new(Code::DeadlineExceeded, "", "the server did not answer in time")),
    };
    let expires = answer.expire_time.map_or(0, |time| time.seconds);
    let left = Duration::from_secs(u64::try_from(expires - clock.unix()).unwrap_or(0));
    Ok(token(answer.access_token, left, expires))
}

fn message(subject: Subject, request: &TokenRequest) -> pb::ExchangeTokenRequest {
    let (subject_token_type, federation_rule_id) = match subject.kind {
        SubjectKind::Token => (ACCESS_TOKEN, String::new()),
        SubjectKind::Assertion => (JWT, String::new()),
        SubjectKind::Federated { rule_id } => (JWT, rule_id),
    };
    pb::ExchangeTokenRequest {
        subject_token: Some(subject.text),
        subject_token_type: subject_token_type.into(),
        federation_rule_id,
        audiences: request.audiences.clone(),
        scopes: request.scopes.clone(),
        requested_ttl: request.ttl.map(|ttl| prost_types::Duration {
            seconds: i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(ttl.subsec_nanos()).unwrap_or(0),
        }),
        ..Default::default()
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    token_type: String,
    expires_in: u64,
}

#[derive(Deserialize, Default)]
struct ErrorAnswer {
    #[serde(default)]
    error: String,
    #[serde(default)]
    error_description: String,
}

async fn by_http(
    endpoint: &Endpoint,
    subject: Subject,
    request: &TokenRequest,
    clock: &Clock,
    within: Duration,
) -> Result<(AccessToken, Duration)> {
    let mut form = Form::default();
    match &subject.kind {
        SubjectKind::Federated { rule_id } => {
            form.add("grant_type", JWT_BEARER);
            form.add("assertion", &subject.text);
            form.add("federation_rule_id", rule_id);
        }
        kind => {
            form.add("grant_type", TOKEN_EXCHANGE);
            form.add("subject_token", &subject.text);
            let is_token = matches!(kind, SubjectKind::Token);
            form.add("subject_token_type", if is_token { ACCESS_TOKEN } else { JWT });
        }
    }
    for audience in &request.audiences {
        form.add("audience", audience);
    }
    if !request.scopes.is_empty() {
        form.add("scope", &request.scopes.join(" "));
    }
    if let Some(ttl) = request.ttl {
        form.add("requested_ttl", &ttl.as_secs().to_string());
    }
    let call = HttpRequest {
        method: Method::POST,
        path: "/oauth2/token",
        form: Some(form.0),
        most_bytes: MOST_BYTES,
        within,
    };
    let answer = endpoint.send(call).await?;
    if !answer.status.is_success() {
        let body: ErrorAnswer = serde_json::from_slice(&answer.body).unwrap_or_default();
        let reason = answer.headers.get("countersign-reason").and_then(|value| value.to_str().ok());
        // Without the header the description begins with it.
        let reason = reason.or_else(|| first_reason(&body.error_description));
        let message = format!("{} {} {}", answer.status.as_u16(), body.error, body.error_description);
        let retry_after = retry_after(&answer.headers);
        return Err(Error::from_http(answer.status, reason, message.trim().to_owned(), retry_after));
    }
    let good = serde_json::from_slice::<TokenAnswer>(&answer.body)
        .ok()
        .filter(|body| !body.access_token.is_empty() && body.token_type.eq_ignore_ascii_case("bearer"));
    // A proxy's own page, say.
    let Some(body) = good else {
        return Err(
            Error::new(Code::Internal, "INTERNAL", "the answer is none of a token endpoint").retryable(true)
        );
    };
    let expires = clock.unix().saturating_add(i64::try_from(body.expires_in).unwrap_or(i64::MAX));
    Ok(token(body.access_token, Duration::from_secs(body.expires_in), expires))
}

/// With its life by its own claims, which no clock of this machine changes, or else by what the answer says.
fn token(text: String, said: Duration, expires: i64) -> (AccessToken, Duration) {
    #[derive(Deserialize)]
    struct Times {
        exp: i64,
        iat: i64,
    }
    let payload = text.split('.').nth(1).and_then(|part| BASE64URL.decode(part).ok());
    let times = payload.and_then(|payload| serde_json::from_slice::<Times>(&payload).ok());
    let life = times
        .and_then(|times| u64::try_from(times.exp.saturating_sub(times.iat)).ok())
        .map_or(said, Duration::from_secs);
    let expire_time = u64::try_from(expires)
        .ok()
        .and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)))
        .unwrap_or(SystemTime::UNIX_EPOCH);
    (AccessToken { text: text.into(), expire_time }, life.min(Duration::from_secs(86_400)))
}

/// A form of RFC 6749, appendix B.
#[derive(Default)]
struct Form(String);

impl Form {
    fn add(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(name);
        self.0.push('=');
        self.0.extend(utf8_percent_encode(value, NON_ALPHANUMERIC));
    }
}

/// The reason at the beginning of a description: capital letters and underscores.
fn first_reason(description: &str) -> Option<&str> {
    let word = description.split([':', ' ', '.']).next()?;
    let is_reason = word.len() > 3 && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    is_reason.then_some(word)
}

/// In seconds; a date is not read.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_keeps_what_it_is_given() {
        let mut form = Form::default();
        form.add("audience", "https://billing.example?a=1&b=ü +");
        form.add("scope", "a.b c.d");
        assert_eq!(
            form.0,
            "audience=https%3A%2F%2Fbilling%2Eexample%3Fa%3D1%26b%3D%C3%BC%20%2B&scope=a%2Eb%20c%2Ed"
        );
    }

    #[test]
    fn only_the_assertion_of_another_issuer_names_a_rule() {
        let federated = SubjectKind::Federated { rule_id: "fed_1".into() };
        for (kind, expected) in [
            (SubjectKind::Token, (ACCESS_TOKEN, "")),
            (SubjectKind::Assertion, (JWT, "")),
            (federated, (JWT, "fed_1")),
        ] {
            let sent = message(Subject { text: "a.b.c".into(), kind }, &TokenRequest::default());
            assert_eq!((&*sent.subject_token_type, &*sent.federation_rule_id), expected);
            assert_eq!(sent.subject_token.as_deref(), Some("a.b.c"));
        }
    }

    #[test]
    fn the_life_is_that_of_the_claims_whatever_the_clock_of_this_machine() {
        let payload = BASE64URL.encode(r#"{"exp": 1300, "iat": 1000}"#);
        let (_, life) = token(format!("e30.{payload}.x"), Duration::from_secs(7), 1300);
        assert_eq!(life, Duration::from_secs(300));
        let (_, life) = token("opaque".into(), Duration::from_secs(7), 1300);
        assert_eq!(life, Duration::from_secs(7));
        let payload = BASE64URL.encode(r#"{"exp": 1000, "iat": 1300}"#);
        let (_, life) = token(format!("e30.{payload}.x"), Duration::ZERO, 0);
        assert_eq!(life, Duration::ZERO);
    }

    #[test]
    fn a_description_begins_with_the_reason() {
        assert_eq!(first_reason("TOKEN_REVOKED: it was revoked"), Some("TOKEN_REVOKED"));
        assert_eq!(first_reason("The token was revoked"), None);
        assert_eq!(first_reason(""), None);
    }
}
