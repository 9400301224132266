//! The answers of RPCs as those of the endpoints: JSON.

use std::io::Write as _;

use axum::body::Bytes;
use http::{Response, StatusCode};
use prost::Message as _;
use prost::encoding::{decode_key, decode_varint};
use prost_types::Timestamp;
use serde::Serialize;

use super::json::json;
use crate::domain::oauth::Endpoint;
use crate::error::{Error, Result};
use crate::grpc::layers::body::MESSAGE_HEAD;
use crate::grpc::layers::reply::Reply;
use crate::grpc::layers::unread::Unread;
use crate::grpc::pb;
use crate::grpc::service::decode;

/// The names of all members, in bytes, with what stands around them.
const MEMBERS: usize = 256;

/// RFC 6749, section 5.1, and RFC 8693, section 2.2.1: what is said of an exchange, borrowed from the message
/// that answers it, which is not decoded into texts of its own.
#[derive(Default)]
struct Issued<'a> {
    access_token: &'a str,
    issued_token_type: &'a str,
    token_type: &'a str,
    expire_time: i64,
    scopes: Vec<&'a str>,
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
pub(in crate::grpc) fn translated(endpoint: Endpoint, answer: &[u8], now: i64) -> Result<Bytes> {
    let message = answer.get(MESSAGE_HEAD..).unwrap_or_default();
    let body = match endpoint {
        Endpoint::Token => {
            let issued = Issued::read(message).ok_or_else(|| Error::internal("no answer to an exchange"))?;
            issued.write(now, message.len() + MEMBERS)
        }
        Endpoint::Introspect => introspected(&decode(message)?, message.len() + MEMBERS)?,
        Endpoint::Revoke => Vec::new(),
    };
    Ok(Bytes::from(body))
}

/// The response with such an answer.
pub(in crate::grpc) fn answer(body: Bytes, unread: Unread) -> Response<Reply> {
    json(StatusCode::OK, Reply::bytes(body, unread))
}

impl<'a> Issued<'a> {
    /// Reads an `ExchangeTokenResponse`, as its handler encodes it.
    fn read(mut message: &'a [u8]) -> Option<Self> {
        let mut issued = Self::default();
        while !message.is_empty() {
            let (number, _) = decode_key(&mut message).ok()?;
            let length = usize::try_from(decode_varint(&mut message).ok()?).ok()?;
            let (field, rest) = message.split_at_checked(length)?;
            message = rest;
            let text = || std::str::from_utf8(field).ok();
            match number {
                1 => issued.access_token = text()?,
                2 => issued.issued_token_type = text()?,
                3 => issued.token_type = text()?,
                4 => issued.expire_time = Timestamp::decode(field).ok()?.seconds,
                5 => issued.scopes.push(text()?),
                _ => return None,
            }
        }
        Some(issued)
    }

    /// As JSON, at a time in whole seconds. None of the texts has a character that JSON escapes: they are a
    /// JWT, constants and permissions.
    fn write(&self, now: i64, length: usize) -> Vec<u8> {
        let mut json = Vec::with_capacity(length);
        let texts = [
            ("{\"access_token\":\"", self.access_token),
            ("\",\"issued_token_type\":\"", self.issued_token_type),
            ("\",\"token_type\":\"", self.token_type),
        ];
        for (before, text) in texts {
            json.extend_from_slice(before.as_bytes());
            json.extend_from_slice(text.as_bytes());
        }
        // Writing into memory does not fail.
        let _ = write!(json, "\",\"expires_in\":{},\"scope\":\"", self.expire_time - now);
        for (nth, scope) in self.scopes.iter().enumerate() {
            if nth > 0 {
                json.push(b' ');
            }
            json.extend_from_slice(scope.as_bytes());
        }
        json.extend_from_slice(b"\"}");
        json
    }
}

fn introspected(answer: &pb::IntrospectTokenResponse, length: usize) -> Result<Vec<u8>> {
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
    written(&Introspected { active: answer.active, about: answer.active.then(about) }, length)
}

fn detail(detail: &pb::AuthorizationDetail) -> Detail<'_> {
    Detail { r#type: &detail.r#type, identifier: &detail.identifier, actions: &detail.actions }
}

/// Written into a buffer of about this length, so that it does not grow several times.
fn written(answer: &impl Serialize, length: usize) -> Result<Vec<u8>> {
    let mut written = Vec::with_capacity(length);
    serde_json::to_writer(&mut written, answer).map_err(Error::internal)?;
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exchange_is_read_and_written_without_copies() {
        for scopes in [vec![], vec!["a.b".to_owned()], vec!["a.b".to_owned(), "c.d".to_owned()]] {
            let message = pb::ExchangeTokenResponse {
                access_token: "a.b.c".repeat(200),
                issued_token_type: "urn:x".into(),
                token_type: "Bearer".into(),
                expire_time: Some(Timestamp { seconds: 1_795_000_300, nanos: 0 }),
                scopes: scopes.clone(),
            };
            let encoded = message.encode_to_vec();
            let written = Issued::read(&encoded).unwrap().write(1_795_000_000, 0);
            let expected = serde_json::json!({
                "access_token": message.access_token,
                "issued_token_type": "urn:x",
                "token_type": "Bearer",
                "expires_in": 300,
                "scope": scopes.join(" "),
            });
            assert_eq!(serde_json::from_slice::<serde_json::Value>(&written).unwrap(), expected);
            // Nothing else is taken for one.
            assert!(Issued::read(&encoded[..encoded.len() / 2]).is_none());
        }
        assert!(Issued::read(&[0x32, 0]).is_none());
    }
}
