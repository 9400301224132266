//! The outermost layer of all RPCs alike: names each call, bounds how many there are and how
//! long they take, gives every answer its form, and logs it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Request, State as Shared};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::access::access;
use super::body::BodyBuffer;
use super::status;
use crate::client_addr;
use crate::domain::access::request_context::{BrowserOrigin, RequestContext};
use crate::domain::values::networks::Network;
use crate::domain::values::web_origin::WebOrigin;
use crate::error::{Error, Reason, Result};
use crate::state::State;

const REQUEST_ID: &str = "x-request-id";

/// What a server accepts.
#[derive(Clone, Debug)]
pub struct RequestLimits {
    /// The largest request message, in bytes.
    pub max_message_size: usize,
    /// Calls that are worked on at once, and calls that wait for their message; more are told
    /// to come back.
    pub max_concurrent_requests: usize,
    /// The longest that a call may take; its own deadline may be shorter.
    pub request_timeout: Duration,
    /// Whose `x-forwarded-for` is believed.
    pub trusted_proxies: Vec<Network>,
}

/// The shared part of the layer.
pub struct RequestLayer {
    state: Arc<State>,
    limits: RequestLimits,
    arrivals: BodyBuffer,
    permits: Semaphore,
}

impl RequestLayer {
    pub fn new(state: Arc<State>, limits: RequestLimits) -> Self {
        let calls = limits.max_concurrent_requests;
        let arrivals = BodyBuffer::new(calls, limits.max_message_size);
        Self { arrivals, permits: Semaphore::new(calls), state, limits }
    }

    /// Lets a call in when its message is there, whose sender may hold it back.
    async fn admit(&self, request: Request, next: Next) -> Result<Response> {
        let (head, body) = request.into_parts();
        let body = self.arrivals.whole(body).await?;
        let _permit = self.permits.try_acquire().map_err(|_| overloaded())?;
        Ok(next.run(Request::from_parts(head, Body::from(body))).await)
    }
}

/// The layer.
pub async fn guard(
    Shared(boundary): Shared<Arc<RequestLayer>>,
    mut request: Request,
    next: Next,
) -> Response {
    if !is_grpc(request.headers()) {
        // Somebody speaks plain HTTP to us.
        let known = access(request.uri().path()).is_some();
        return if known { StatusCode::UNSUPPORTED_MEDIA_TYPE } else { StatusCode::NOT_FOUND }
            .into_response();
    }
    let started = Instant::now();
    let origin = RequestContext {
        address: client_addr::address(&request, &boundary.limits.trusted_proxies),
        page: page(request.headers()),
        request_id: request_id(request.headers(), &boundary.state),
    };
    let method = request.uri().path().to_owned();
    // A stream has no end to wait for: only its connection bounds it.
    let streams = method.starts_with("/grpc.");
    let deadline = deadline(request.headers()).unwrap_or(Duration::MAX).min(boundary.limits.request_timeout);
    request.extensions_mut().insert(origin.clone());

    let response = if streams {
        next.run(request).await
    } else {
        match tokio::time::timeout(deadline, boundary.admit(request, next)).await {
            Ok(answer) => answer.unwrap_or_else(|error| failed(error, &origin)),
            // A database that hangs is why a call took so long.
            Err(_) if !boundary.state.feed.answers() => failed(Reason::DatabaseUnavailable.into(), &origin),
            Err(_) => failed(Reason::DeadlineExceeded.into(), &origin),
        }
    };
    let mut response = status::normalise(response, &origin);
    if let Ok(id) = HeaderValue::from_str(&origin.request_id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    let code = response.headers().get("grpc-status").and_then(|code| code.to_str().ok()).unwrap_or("0");
    tracing::debug!(
        request_id = origin.request_id,
        method,
        code,
        address = origin.address.map(tracing::field::display),
        micros = started.elapsed().as_micros() as u64,
        "call"
    );
    response
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.is_some_and(|value| value.starts_with("application/grpc"))
}

pub(super) fn overloaded() -> Error {
    Error::new(Reason::Overloaded).retry_after(Duration::from_secs(1))
}

fn failed(error: Error, origin: &RequestContext) -> Response {
    status::answer(error, origin).into_http()
}

/// The page that a browser says it calls for. More than one is none that can be believed.
pub(super) fn page(headers: &HeaderMap) -> BrowserOrigin {
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

/// The caller's own id of the call where it is one that may stand in a log; else a new one.
fn request_id(headers: &HeaderMap, state: &State) -> String {
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let good = |id: &&str| {
        (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    given.filter(good).map_or_else(|| state.clock.new_id::<Uuid>().to_string(), str::to_owned)
}

/// `grpc-timeout` (gRPC over HTTP/2): at most 8 digits and a unit.
fn deadline(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(value * 3_600)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines() {
        let parse = |text: &str| {
            deadline(&HeaderMap::from_iter([("grpc-timeout".parse().unwrap(), text.parse().unwrap())]))
        };
        assert_eq!(parse("10m"), Some(Duration::from_millis(10)));
        assert_eq!(parse("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        for bad in ["", "m", "10", "-1S", "123456789S", "1.5S", "10x"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
