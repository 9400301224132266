//! The answers of RPCs as those of the endpoints: JSON.

use axum::body::Bytes;
use http::{Response, StatusCode};
use serde::Serialize;

use super::json::json;
use crate::domain::oauth::Endpoint;
use crate::error::{Error, Result};
use crate::grpc::layers::body::MESSAGE_HEAD;
use crate::grpc::layers::reply::Reply;
use crate::grpc::layers::unread::Unread;
use crate::grpc::pb;
use crate::grpc::service::decode;

/// RFC 6749, section 5.1, and RFC 8693, section 2.2.1.
#[derive(Serialize)]
struct Issued<'a> {
    access_token: &'a str,
    issued_token_type: &'a str,
    token_type: &'a str,
    expires_in: i64,
    scope: String,
}

/// RFC 7662, section 2.2. What is not active says nothing else.
#[derive(Serialize)]
struct Introspected<'a> {
    active: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(flatten)]
    about: Option<About<'a>>,
}

#[derive(Serialize)]
struct About<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    scope: &'a str,
    client_id: &'a str,
    username: &'a str,
    token_type: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    exp: i64,
    iat: i64,
    nbf: i64,
    sub: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    aud: &'a [String],
    iss: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    jti: &'a str,
    org_id: &'a str,
    account_kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<Act<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    authorization_details: Vec<Detail<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cnf: Option<Confirmation<'a>>,
    /// In seconds.
    max_cache_ttl: i64,
}

#[derive(Serialize)]
struct Act<'a> {
    sub: &'a str,
}

#[derive(Serialize)]
struct Detail<'a> {
    r#type: &'a str,
    identifier: &'a str,
    actions: &'a [String],
}

#[derive(Serialize)]
struct Confirmation<'a> {
    #[serde(rename = "x5t#S256")]
    x5t_s256: &'a str,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// The answer of an endpoint to the answer of its RPC, with its prefix, at a time in whole seconds.
///
/// # Errors
/// `INTERNAL` for what is no answer of the RPC.
pub(in crate::grpc) fn answer(
    endpoint: Endpoint,
    answer: &[u8],
    now: i64,
    unread: Unread,
) -> Result<Response<Reply>> {
    let message = answer.get(MESSAGE_HEAD..).unwrap_or_default();
    let body = match endpoint {
        Endpoint::Token => issued(&decode(message)?, now)?,
        Endpoint::Introspect => introspected(&decode(message)?)?,
        Endpoint::Revoke => Vec::new(),
    };
    Ok(json(StatusCode::OK, Reply::bytes(Bytes::from(body), Some(unread))))
}

fn issued(answer: &pb::ExchangeTokenResponse, now: i64) -> Result<Vec<u8>> {
    let end = answer.expire_time.map_or(now, |time| time.seconds);
    written(&Issued {
        access_token: &answer.access_token,
        issued_token_type: &answer.issued_token_type,
        token_type: &answer.token_type,
        expires_in: end - now,
        scope: answer.scopes.join(" "),
    })
}

fn introspected(answer: &pb::IntrospectTokenResponse) -> Result<Vec<u8>> {
    let about = || About {
        scope: &answer.scope,
        client_id: &answer.client_id,
        username: &answer.username,
        token_type: &answer.token_type,
        exp: answer.exp,
        iat: answer.iat,
        nbf: answer.nbf,
        sub: &answer.sub,
        aud: &answer.aud,
        iss: &answer.iss,
        jti: &answer.jti,
        org_id: &answer.org_id,
        account_kind: answer.account_kind().as_str_name().trim_start_matches("ACCOUNT_KIND_"),
        act: answer.act.as_ref().map(|act| Act { sub: &act.sub }),
        authorization_details: answer.authorization_details.iter().map(detail).collect(),
        cnf: answer.cnf.as_ref().map(|cnf| Confirmation { x5t_s256: &cnf.x5t_s256 }),
        max_cache_ttl: answer.max_cache_ttl.map_or(0, |ttl| ttl.seconds),
    };
    written(&Introspected { active: answer.active, about: answer.active.then(about) })
}

fn detail(detail: &pb::AuthorizationDetail) -> Detail<'_> {
    Detail { r#type: &detail.r#type, identifier: &detail.identifier, actions: &detail.actions }
}

fn written(answer: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(answer).map_err(Error::internal)
}
