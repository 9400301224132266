//! Calls over JSON, as they stand on the wire: no client library is between.

use http::{HeaderMap, Request};
use serde_json::Value;
use tonic::body::Body;
use tower::ServiceExt as _;

use super::Client;

/// The whole answer to a call over JSON.
#[derive(Debug)]
pub struct JsonAnswer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl JsonAnswer {
    /// A header; empty where it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The body.
    pub fn value(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The reason of a refusal, which its header and its details say; none for a success.
    pub fn reason(&self) -> Option<String> {
        if self.status == 200 {
            return None;
        }
        let reasons: Vec<_> =
            self.details("google.rpc.ErrorInfo").map(|info| info["reason"].clone()).collect();
        assert_eq!(reasons, [self.header("countersign-reason")]);
        Some(self.header("countersign-reason").to_owned())
    }

    /// The details of this type, as they are shown to people.
    fn details(&self, name: &'static str) -> impl Iterator<Item = Value> {
        let details = self.value()["details"].as_array().cloned().unwrap_or_default();
        let named = details.into_iter().filter(move |detail| detail["type"] == name);
        named.map(|mut detail| detail["debug"].take())
    }

    /// `200`, or the status and the reason: `400 INVALID_FIELD`; `415` alone where there is none.
    pub fn summary(&self) -> String {
        match self.status {
            200 | 404 | 405 | 415 => self.status.to_string(),
            status => format!("{status} {}", self.reason().unwrap_or_default()),
        }
    }

    /// The fields that a refusal names.
    pub fn violated(&self) -> Vec<String> {
        let bad = self.details("google.rpc.BadRequest");
        let fields = bad.flat_map(|bad| bad["fieldViolations"].as_array().cloned().unwrap_or_default());
        fields.map(|violation| violation["field"].as_str().unwrap().to_owned()).collect()
    }
}

/// Calls the RPC at a path with this body, and the bearer of the client.
pub async fn call_json(client: &Client, path: &str, body: impl Into<Vec<u8>>) -> JsonAnswer {
    request_json(client, "POST", path, &[("content-type", "application/json")], body).await
}

/// The same with another method, and these headers alone beside the bearer.
pub async fn request_json(
    client: &Client,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Vec<u8>>,
) -> JsonAnswer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if let Some(bearer) = &client.bearer {
        request = request.header("authorization", format!("Bearer {bearer}"));
    }
    let body = Body::new(axum::body::Body::from(body.into()));
    let answer = client.channel.clone().oneshot(request.body(body).unwrap()).await.unwrap();
    let (head, body) = answer.into_parts();
    let body = axum::body::to_bytes(axum::body::Body::new(body), usize::MAX).await.unwrap();
    let text = String::from_utf8(body.to_vec()).unwrap();
    JsonAnswer { status: head.status.as_u16(), headers: head.headers, text }
}
