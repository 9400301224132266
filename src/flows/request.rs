//! What every request has, over gRPC and on a page: an id, an origin, and a duration.

use std::borrow::Cow;
use std::time::Instant;

use http::{HeaderMap, HeaderName, HeaderValue, Response, header};

use crate::client_addr::TrustedProxies;
use crate::clock::Clock;
use crate::connections::Connection;
use crate::domain::access::request_context::{BrowserOrigin, RequestContext, RequestId};
use crate::domain::values::client_address::ClientAddress;
use crate::domain::values::trace_parent::TraceParent;
use crate::domain::values::web_origin::WebOrigin;

/// The longest path of a log line, in characters.
const MAX_LOGGED_PATH: usize = 128;
/// What every browser sends of its own requests (Fetch Metadata).
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
/// In a response (W3C Trace Context, level 3): the trace that the call was recorded in.
const TRACE_RESPONSE: HeaderName = HeaderName::from_static("traceresponse");

/// The entry point that received a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryPoint {
    /// A program may name its call, and a browser sends the origin of the calling page.
    Rpc,
    /// A browser presents the page to a person.
    Page,
}

/// A request in progress.
pub struct RequestUnderWay {
    pub context: RequestContext,
    pub began: Instant,
}

impl RequestUnderWay {
    /// Assigns a request id, and records where the request comes from, behind trusted proxies.
    pub fn begin(
        method: Cow<'static, str>,
        headers: &HeaderMap,
        connection: Option<&Connection>,
        entry: EntryPoint,
        proxies: &TrustedProxies,
        clock: &Clock,
    ) -> Self {
        let began = Instant::now();
        let (page, given_id) = match entry {
            EntryPoint::Rpc => (browser_origin(headers), given_id(headers)),
            EntryPoint::Page => (BrowserOrigin::None, None),
        };
        let address = connection.map(|connection| proxies.client(connection, headers));
        let context = RequestContext {
            address: address.unwrap_or(ClientAddress::UNKNOWN),
            certificate: connection
                .filter(|connection| {
                    connection.certificate.is_some()
                        && entry == EntryPoint::Rpc
                        && !is_of_a_page(headers)
                        && !proxies.speaks_for_another(connection, headers)
                })
                .and_then(|connection| connection.certificate.clone()),
            page,
            request_id: given_id.unwrap_or_else(|| RequestId::new(clock.new_id())),
            work: Default::default(),
            method,
            trace: trace_parent(headers),
            facts: Default::default(),
        };
        Self { context, began }
    }
}

/// Adds the id of its request to a response, and the trace that it belongs to.
pub fn name_response<B>(context: &RequestContext, response: &mut Response<B>) {
    if let Ok(id) = HeaderValue::from_str(&context.request_id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    if let Some(trace) = context.trace
        && let Ok(trace) = HeaderValue::from_str(&trace.to_string())
    {
        response.headers_mut().insert(TRACE_RESPONSE, trace);
    }
}

/// The path of a request as far as it is logged: an unknown one may be long.
pub fn logged_path(path: &str) -> Cow<'static, str> {
    let end = path.char_indices().nth(MAX_LOGGED_PATH).map_or(path.len(), |(end, _)| end);
    Cow::Owned(path[..end].to_owned())
}

/// The trace that the client names. More than one is none.
fn trace_parent(headers: &HeaderMap) -> Option<TraceParent> {
    let mut values = headers.get_all(TRACE_PARENT).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => TraceParent::parse(value.to_str().ok()?),
        _ => None,
    }
}

/// Whether a browser says that a page of another site makes the request.
pub fn is_cross_site(headers: &HeaderMap) -> bool {
    headers.get(FETCH_SITE).is_some_and(|site| site == "cross-site")
}

/// Whether a page makes the request. A browser sends its certificate along whatever page asks, so that the
/// certificate says nothing about the page.
fn is_of_a_page(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN) || headers.contains_key(FETCH_SITE)
}

/// The origin of the page that a browser calls for. More than one is treated as untrusted.
pub fn browser_origin(headers: &HeaderMap) -> BrowserOrigin {
    let mut values = headers.get_all(header::ORIGIN).iter();
    match (values.next(), values.next()) {
        (None, _) => BrowserOrigin::None,
        (Some(value), None) => {
            let origin = value.to_str().ok().and_then(|text| WebOrigin::parse(text).ok());
            origin.map_or(BrowserOrigin::Other, BrowserOrigin::Web)
        }
        _ => BrowserOrigin::Other,
    }
}

/// The client's own id of the request, if it is safe to log.
fn given_id(headers: &HeaderMap) -> Option<RequestId> {
    headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).and_then(RequestId::given)
}
