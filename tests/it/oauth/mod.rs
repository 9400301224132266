//! OAuth 2.0 over HTTP, as a client sees it that knows the RFCs alone.

mod bad_input;
mod clients;
mod introspection;
mod keys;
mod matrix;
mod metadata;
mod revocation;
mod token;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use countersign::domain::values::token_string::TokenString;
use serde_json::Value;

use crate::harness::{self, Client, TestServer};

const CLIENT_CREDENTIALS: &str = "client_credentials";
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

const TOKEN: &str = "/oauth2/token";
const INTROSPECT: &str = "/oauth2/introspect";
const REVOKE: &str = "/oauth2/revoke";

type Pairs<'a> = &'a [(&'a str, &'a str)];

/// An answer of an endpoint.
struct Answer {
    http: harness::Answer,
    body: Value,
}

impl Answer {
    /// `200`, or the status and the error: `400 invalid_grant`.
    fn outcome(&self) -> String {
        match self.body["error"].as_str() {
            Some(error) => format!("{} {error}", self.http.status),
            None => self.http.status.to_string(),
        }
    }

    /// The outcome, and the reason of the RPC.
    fn refused(&self) -> String {
        format!("{} {}", self.outcome(), self.http.header("countersign-reason").unwrap_or("-"))
    }

    fn text(&self, field: &str) -> &str {
        self.body[field].as_str().unwrap_or_else(|| panic!("no {field} in {}", self.body))
    }

    /// The claims of the access token.
    fn claims(&self) -> Value {
        harness::claims(self.text("access_token"))
    }
}

/// Posts these parameters.
async fn post(server: &TestServer, path: &str, headers: Pairs<'_>, parameters: Pairs<'_>) -> Answer {
    let body: Vec<_> =
        parameters.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
    post_text(server, path, headers, &body.join("&")).await
}

/// Posts this body, with the content type of a form unless another one is given.
async fn post_text(server: &TestServer, path: &str, headers: Pairs<'_>, body: &str) -> Answer {
    let form = ("content-type", "application/x-www-form-urlencoded");
    let is_typed = headers.iter().any(|(name, _)| *name == "content-type");
    let headers = headers.iter().chain((!is_typed).then_some(&form));
    let lines: String = headers.map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{lines}\r\n{body}"
    );
    let http = harness::http(&server.endpoint, &request).await;
    let body = if http.body.is_empty() { Value::Null } else { serde_json::from_str(&http.body).unwrap() };
    Answer { http, body }
}

/// As a form is encoded: all but letters and digits in percent.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => char::from(byte).to_string(),
        b' ' => "+".to_owned(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// The id of a client's token.
fn id(client: &Client) -> String {
    TokenString::parse(client.token()).unwrap().id().to_string()
}

/// The header with which a client authenticates by Basic.
fn basic(client: &Client) -> String {
    basic_of(&id(client), client.token())
}

fn basic_of(id: &str, secret: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{}:{}", encoded(id), encoded(secret))))
}
