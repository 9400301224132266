//! The outermost layer, shared by all RPCs. It assigns each call an id, limits the number of
//! calls and their duration, normalises every response, and logs it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State as Shared};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode, header};
use tokio::sync::Semaphore;

use super::access::access;
use super::body::{BodyBuffer, overloaded};
use super::status;
use super::stream::EndingStream;
use super::unread::UnreadResponses;
use crate::client_addr::TrustedProxies;
use crate::connections::{Closing, Room};
use crate::domain::access::request_context::RequestContext;
use crate::error::{Error, Reason, Result};
use crate::flows::request::{EntryPoint, RequestUnderWay};
use crate::state::State;

/// So many responses each client may leave unread, or a quarter of the calls if that is more.
const LEAST_UNREAD: usize = 64;
const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";

/// The limits of a server.
#[derive(Clone, Debug)]
pub struct RequestLimits {
    /// The largest request message, in bytes.
    pub max_message_size: usize,
    /// How many calls are processed at once, streams among them, which are at most half of it; and
    /// how many wait for their message. Further calls are told to retry later.
    pub max_concurrent_requests: usize,
    /// The maximum duration of a call; its own deadline may be shorter.
    pub request_timeout: Duration,
    pub trusted_proxies: Arc<TrustedProxies>,
}

/// The shared state of the layer.
pub struct RequestLayer {
    state: Arc<State>,
    limits: RequestLimits,
    arrivals: BodyBuffer,
    permits: Arc<Semaphore>,
    /// The places of streams: at most half of the permits.
    streams: Arc<Room>,
    unread: Arc<UnreadResponses>,
}

impl RequestLayer {
    pub fn new(state: Arc<State>, limits: RequestLimits) -> Self {
        let calls = limits.max_concurrent_requests;
        let arrivals = BodyBuffer::new(calls, limits.max_message_size);
        let streams = Room::new(calls / 2, usize::MAX);
        let unread = UnreadResponses::new((calls / 4).max(LEAST_UNREAD));
        Self { arrivals, permits: Arc::new(Semaphore::new(calls)), streams, unread, state, limits }
    }

    /// Admits a call once its message has arrived, which the sender may delay.
    async fn admit(&self, request: Request, next: Next) -> Result<Response> {
        let address = address(&request);
        let (head, body) = request.into_parts();
        let mut body = self.arrivals.whole(address, body).await?;
        // Health is answered from memory, and also by a server that is overloaded: it would be taken
        // out of service with all that it does.
        let is_health = head.uri.path() == HEALTH_CHECK;
        let permit = (!is_health).then(|| self.permits.try_acquire());
        let _permit = permit.transpose().map_err(|_| overloaded())?;
        // The permit is given back before the response is read.
        if !is_health && self.unread.too_many(address) {
            return Err(overloaded());
        }
        let message = Body::from(std::mem::take(&mut body.bytes));
        let response = next.run(Request::from_parts(head, message)).await;
        Ok(response.map(|body| self.unread.count(address, body)))
    }

    /// Admits a call that is answered with a stream. Its place holds the permit, until the stream ends
    /// or another one takes the place.
    async fn admit_stream(&self, request: Request, next: Next) -> Result<Response> {
        let (place, gave_way) = self.streams.enter(address(&request), 0);
        let permit = self.permits.clone().try_acquire_owned().map_err(|_| overloaded())?;
        place.hold(permit);
        let closing = request.extensions().get::<Closing>().cloned();
        let response = next.run(request).await;
        let stream = |body| Body::new(EndingStream::new(body, closing, gave_way, place));
        Ok(response.map(stream))
    }
}

/// The layer function.
pub async fn guard(
    Shared(boundary): Shared<Arc<RequestLayer>>,
    mut request: Request,
    next: Next,
) -> Response {
    if !is_grpc(request.headers()) {
        // The client speaks plain HTTP.
        let known = access(request.uri().path()).is_some();
        return if known { StatusCode::UNSUPPORTED_MEDIA_TYPE } else { StatusCode::NOT_FOUND }
            .into_response();
    }
    let call = RequestUnderWay::begin(
        &mut request,
        EntryPoint::Rpc,
        &boundary.limits.trusted_proxies,
        &boundary.state.clock,
    );
    let origin = &call.context;
    let method = request.uri().path().to_owned();
    let streams = is_stream(&method);
    let deadline = deadline(request.headers()).unwrap_or(Duration::MAX).min(boundary.limits.request_timeout);

    let admitted = async {
        if streams { boundary.admit_stream(request, next).await } else { boundary.admit(request, next).await }
    };
    // A stream must only begin in time.
    let response = match tokio::time::timeout(deadline, admitted).await {
        Ok(answer) => answer.unwrap_or_else(|error| failed(error, origin)),
        // The call timed out because the database does not answer.
        Err(_) if !boundary.state.feed.answers() => failed(Reason::DatabaseUnavailable.into(), origin),
        Err(_) => failed(Reason::DeadlineExceeded.into(), origin),
    };
    let mut response = status::normalise(response, origin);
    call.name(&mut response);
    let code = response.headers().get("grpc-status").and_then(|code| code.to_str().ok()).unwrap_or("0");
    tracing::debug!(
        request_id = origin.request_id,
        method,
        code,
        address = origin.address.shown().map(tracing::field::display),
        micros = call.micros(),
        "call"
    );
    response
}

/// Whether an RPC answers with a stream, which has no end to wait for.
pub fn is_stream(path: &str) -> bool {
    path == "/grpc.health.v1.Health/Watch" || path.starts_with("/grpc.reflection.")
}

/// The address that a call comes from, as it was determined.
fn address(request: &Request) -> Option<IpAddr> {
    request.extensions().get::<RequestContext>()?.address.shown()
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.is_some_and(|value| value.starts_with("application/grpc"))
}

fn failed(error: Error, origin: &RequestContext) -> Response {
    status::answer(error, origin).into_http()
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
