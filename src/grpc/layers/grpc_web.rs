//! gRPC-Web, which browser pages speak, and CORS. CORS tells a browser which pages may send
//! requests and read responses: those of origins that an active publishable token names. CORS
//! grants no rights: the token that a page presents still decides what it gets.

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

use crate::domain::access::request_context::BrowserOrigin;
use crate::flows::request::browser_origin;
use crate::state::State;

/// The RPCs that pages may call. All others are for programs.
const RPCS: [&str; 2] =
    ["/countersign.v1.TokenService/ExchangeToken", "/countersign.v1.TokenService/GetJsonWebKeySet"];

/// The headers that a page may send besides the message.
const REQUEST_HEADERS: &str = "content-type, x-grpc-web, x-user-agent, grpc-timeout, x-request-id";
/// The headers that a page may read besides the message.
const RESPONSE_HEADERS: &str = "grpc-status, grpc-message, grpc-status-details-bin, x-request-id";
/// How long a browser may cache a preflight response, in seconds. For that time it may still send
/// requests from pages of an origin that no token names any more. It does not let those pages
/// read the response.
const MAX_AGE: &str = "600";
/// The headers of a refusal that belong into its last frame.
const TRAILERS: [&str; 3] = ["grpc-status", "grpc-message", "grpc-status-details-bin"];
/// The first byte of the frame that contains the trailers.
const TRAILERS_FRAME: u8 = 0x80;

/// Marks a call that came over gRPC-Web.
#[derive(Clone, Copy)]
pub struct OverWeb;

/// Whether pages may call this RPC.
pub fn serves(path: &str) -> bool {
    RPCS.contains(&path)
}

/// The layer: answers preflight requests, and translates the requests of pages.
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
    /// Claims to be gRPC-Web, but carries something other than protobuf.
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

/// Answers a browser's preflight request. It presents no token, so the answer uses only what is
/// already loaded, and reveals only which origins may send requests.
fn preflight(state: &State, headers: &HeaderMap) -> Response {
    // A refusal depends on the origin as well.
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

/// The origin of the calling page, if it may read the response.
fn reader(state: &State, headers: &HeaderMap) -> Option<HeaderValue> {
    let BrowserOrigin::Web(origin) = browser_origin(headers) else { return None };
    let live = state.cors_origins.are_active(&origin, state.clock.now());
    live.then(|| HeaderValue::from_str(origin.as_str()).ok()).flatten()
}

/// Moves the status of a refusal into the last frame of the body. A refusal has it only in
/// headers, but pages expect every status in that frame.
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
    // The size limits of a status keep it far below 4 GiB.
    frame.extend_from_slice(&(block.len() as u32).to_be_bytes());
    frame.append(&mut block);
    *response.body_mut() = if as_text { BASE64_STANDARD.encode(frame).into() } else { frame.into() };
    response
}
