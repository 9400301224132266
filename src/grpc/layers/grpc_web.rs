//! gRPC-Web, which pages in browsers speak, and CORS, by which a browser is told who may
//! ask and read: the pages of origins that some live publishable token names. CORS is no
//! authority: what a page gets is still decided by the token that it shows.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State as Shared};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, CONTENT_TYPE, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use tonic_web::GrpcWebLayer;
use tower::{Layer as _, Service as _, service_fn};

use super::request::page;
use crate::domain::access::request_context::BrowserOrigin;
use crate::state::State;

/// What pages may call. Everything else is for programs.
const RPCS: [&str; 2] =
    ["/countersign.v1.TokenService/ExchangeToken", "/countersign.v1.TokenService/GetJsonWebKeySet"];

/// What a page may send beside the message.
const REQUEST_HEADERS: &str = "content-type, x-grpc-web, x-user-agent, grpc-timeout, x-request-id";
/// What a page may read beside the message.
const RESPONSE_HEADERS: &str = "grpc-status, grpc-message, grpc-status-details-bin, x-request-id";
/// How long a browser need not ask again, in seconds: so long it may go on sending what a
/// page of an origin wants that no token names any more. It lets no page read the answer.
const MAX_AGE: &str = "600";
/// What stands in the headers of a refusal, and belongs into its last frame.
const TRAILERS: [&str; 3] = ["grpc-status", "grpc-message", "grpc-status-details-bin"];
/// The first byte of the frame that holds the trailers.
const TRAILERS_FRAME: u8 = 0x80;

/// Marks a call that came over gRPC-Web.
#[derive(Clone, Copy)]
pub struct OverWeb;

/// Whether pages may call this RPC.
pub fn serves(path: &str) -> bool {
    RPCS.contains(&path)
}

/// The layer: answers browsers that ask beforehand, and translates what pages send.
pub async fn translate(Shared(state): Shared<Arc<State>>, mut request: Request, next: Next) -> Response {
    let served = serves(request.uri().path());
    if served && is_preflight(&request) {
        return preflight(&state, request.headers());
    }
    match Kind::of(request.headers()) {
        Kind::NotWeb => return next.run(request).await,
        Kind::Unknown => return StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response(),
        Kind::Web => request.extensions_mut().insert(OverWeb),
    };
    let reader = if served { reader(&state, request.headers()) } else { None };
    let inner = service_fn(move |request: http::Request<tonic::body::Body>| {
        let next = next.clone();
        async move { Ok::<_, Infallible>(next.run(request.map(Body::new)).await) }
    });
    let Ok(response) = GrpcWebLayer::new().layer(inner).call(request).await;
    let mut response = framed(response.map(Body::new));
    let headers = response.headers_mut();
    if served {
        headers.append(VARY, HeaderValue::from_static("origin"));
    }
    if let Some(origin) = reader {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(RESPONSE_HEADERS));
    }
    response
}

enum Kind {
    NotWeb,
    Web,
    /// Calls itself gRPC-Web, and carries something else than protobuf.
    Unknown,
}

impl Kind {
    fn of(headers: &HeaderMap) -> Self {
        match headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes) {
            b"application/grpc-web"
            | b"application/grpc-web+proto"
            | b"application/grpc-web-text"
            | b"application/grpc-web-text+proto" => Self::Web,
            other if other.starts_with(b"application/grpc-web") => Self::Unknown,
            _ => Self::NotWeb,
        }
    }
}

fn is_preflight(request: &Request) -> bool {
    request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// What a browser asks before it sends what a page wants to. It shows no token, so this
/// is answered from what is known anyway, and tells no more than whose pages may ask.
fn preflight(state: &State, headers: &HeaderMap) -> Response {
    // What is refused depends on the origin as well.
    let vary = [(VARY, "origin, access-control-request-method, access-control-request-headers")];
    let Some(origin) = reader(state, headers) else {
        return (StatusCode::FORBIDDEN, vary).into_response();
    };
    let allowed = [
        (ACCESS_CONTROL_ALLOW_METHODS, "POST"),
        (ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS),
        (ACCESS_CONTROL_MAX_AGE, MAX_AGE),
    ];
    (StatusCode::NO_CONTENT, vary, allowed, [(ACCESS_CONTROL_ALLOW_ORIGIN, origin)]).into_response()
}

/// The origin of the calling page, where it may read the answer.
fn reader(state: &State, headers: &HeaderMap) -> Option<HeaderValue> {
    let BrowserOrigin::Web(origin) = page(headers) else { return None };
    let live = state.cors_origins.are_active(&origin, state.clock.now());
    live.then(|| HeaderValue::from_str(origin.as_str()).ok()).flatten()
}

/// Puts the status of a refusal, which comes in headers alone, where a page looks for
/// every status: into the last frame of the body.
fn framed(mut response: Response) -> Response {
    let headers = response.headers_mut();
    if !headers.contains_key(TRAILERS[0]) {
        return response;
    }
    let mut block = Vec::new();
    for name in TRAILERS.map(HeaderName::from_static) {
        if let Some(value) = headers.remove(&name) {
            block.extend_from_slice(name.as_str().as_bytes());
            block.push(b':');
            block.extend_from_slice(value.as_bytes());
            block.extend_from_slice(b"\r\n");
        }
    }
    let as_text = headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc-web-text"));
    let mut frame = vec![TRAILERS_FRAME];
    // The limits of a status keep it far below 4 GiB.
    frame.extend_from_slice(&(block.len() as u32).to_be_bytes());
    frame.append(&mut block);
    *response.body_mut() = if as_text { BASE64_STANDARD.encode(frame).into() } else { frame.into() };
    response
}
