//! CORS: which pages a browser lets send requests and read responses. Those of origins that an active
//! publishable token names, over gRPC-Web and JSON. It grants no rights: the token that a page presents still
//! decides what it gets.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};

use super::access::serves_pages;
use super::reply::Reply;
use crate::domain::access::request_context::BrowserOrigin;
use crate::flows::request::browser_origin;
use crate::grpc::door::Door;
use crate::state::State;

/// The headers that a page may send besides the message.
const REQUEST_HEADERS: &str = "content-type, x-grpc-web, x-user-agent, grpc-timeout, connect-protocol-version, connect-timeout-ms, \
     x-request-id, traceparent";
/// The headers that a page may read besides the message.
const RESPONSE_HEADERS: &str = "grpc-status, grpc-message, grpc-status-details-bin, countersign-reason, retry-after, www-authenticate, \
     x-request-id";
/// How long a browser may cache a preflight response, in seconds. For that time it may still send
/// requests from pages of an origin that no token names any more. It does not let those pages
/// read the response.
const MAX_AGE: &str = "600";
/// Whether this is a preflight request for an RPC that pages may call.
pub fn is_preflight<B>(request: &Request<B>) -> bool {
    request.method() == Method::OPTIONS
        && serves_pages(request.uri().path())
        && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Answers a browser's preflight request. It presents no token, so the answer uses only what is
/// already loaded, and reveals only which origins may send requests.
pub fn preflight(door: &Door, headers: &HeaderMap) -> Response<Reply> {
    let mut response = Response::new(Reply::default());
    let answer = response.headers_mut();
    // A refusal depends on the origin as well.
    let vary = "origin, access-control-request-method, access-control-request-headers";
    answer.insert(VARY, HeaderValue::from_static(vary));
    let Some(origin) = reader(door.state(), headers) else {
        *response.status_mut() = StatusCode::FORBIDDEN;
        return response;
    };
    answer.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
    answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(REQUEST_HEADERS));
    answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
    answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// The page that may have made a call.
pub(super) struct Page {
    /// Whether pages may make this call at all.
    is_served: bool,
    /// The origin of the page, if it may read the response.
    reader: Option<HeaderValue>,
}

impl Page {
    /// That of a call.
    pub(super) fn of<B>(door: &Door, request: &Request<B>) -> Self {
        let is_served = serves_pages(request.uri().path());
        Self { is_served, reader: if is_served { reader(door.state(), request.headers()) } else { None } }
    }

    /// Lets the page read the response.
    pub(super) fn allow(self, response: &mut HeaderMap) {
        if self.is_served {
            // Also where there is no page: a cache would give this response to one.
            response.append(VARY, HeaderValue::from_static("origin"));
        }
        if let Some(origin) = self.reader {
            response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            response.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(RESPONSE_HEADERS));
        }
    }
}

/// The origin of the calling page, if it may read the response.
fn reader(state: &State, headers: &HeaderMap) -> Option<HeaderValue> {
    let BrowserOrigin::Web(origin) = browser_origin(headers) else { return None };
    let live = state.cors_origins.are_active(&origin, state.clock.now());
    live.then(|| HeaderValue::from_str(origin.as_str()).ok()).flatten()
}
