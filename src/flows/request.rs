//! What every request has, over gRPC and on a page: an id, an origin, and a duration.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use uuid::Uuid;

use crate::client_addr::TrustedProxies;
use crate::clock::Clock;
use crate::connections::Connection;
use crate::domain::access::request_context::{BrowserOrigin, RequestContext};
use crate::domain::values::client_address::ClientAddress;
use crate::domain::values::web_origin::WebOrigin;

/// The longest path of a log line, in characters.
const MAX_LOGGED_PATH: usize = 128;
/// What every browser sends of its own requests (Fetch Metadata).
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

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
    began: Instant,
}

impl RequestUnderWay {
    /// Assigns a request id, and records where the request comes from, behind trusted proxies.
    pub fn begin(
        path: &str,
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
                .and_then(|connection| connection.certificate.clone())
                .filter(|_| entry == EntryPoint::Rpc && !is_of_a_page(headers)),
            page,
            request_id: given_id.unwrap_or_else(|| clock.new_id::<Uuid>().to_string()),
            work: Default::default(),
            method: logged_path(path),
            caller: None,
        };
        Self { context, began }
    }

    /// Adds the request id to the response.
    pub fn name<B>(&self, response: &mut Response<B>) {
        if let Ok(id) = HeaderValue::from_str(&self.context.request_id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
    }

    /// How long it has taken, in microseconds.
    pub fn micros(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }
}

/// The path of a request as far as it is logged: an unknown one may be long.
fn logged_path(path: &str) -> Arc<str> {
    let end = path.char_indices().nth(MAX_LOGGED_PATH).map_or(path.len(), |(end, _)| end);
    path[..end].into()
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
fn given_id(headers: &HeaderMap) -> Option<String> {
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let good = |id: &&str| {
        (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    given.filter(good).map(str::to_owned)
}
