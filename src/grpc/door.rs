//! The front door: the way of every call, from its headers to its response.
//!
//! It assigns each call an id, limits the number of calls and their duration, reads the message,
//! authenticates the caller, runs the handler, and logs the outcome. Whatever refuses a call, its
//! refusal gets its form here.

use std::borrow::Cow;
use std::future::poll_fn;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use axum::BoxError;
use axum::body::{Body, Bytes, HttpBody};
use foldhash::HashMap;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use hyper::body::Buf as _;
use tokio::sync::Semaphore;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_server::{Health as _, HealthServer};
use tonic_health::server::HealthReporter;
use tonic_reflection::pb::{v1, v1alpha};
use tower::ServiceExt as _;
use tracing::Instrument as _;

use super::health::HealthOf;
use super::layers::auth::{Call, Presented, read_place};
use super::layers::body::{BodyBuffer, MESSAGE_HEAD, overloaded};
use super::layers::deadline::{connect_deadline, deadline};
use super::layers::reply::Reply;
use super::layers::status;
use super::layers::stream::{EndingStream, Source};
use super::layers::unread::{Unread, UnreadResponses};
use super::reflection::Reflection;
use super::rpcs::{self, Kind, Rpc, Stream};
use super::service::{GRPC_ENCODING, Handler, IDENTITY, StreamHandler, decode, encode, message};
use super::wire::bounds::Bounds;
use super::{health, json, oauth, reflection};
use crate::client_addr::TrustedProxies;
use crate::clock::{Clock, Jitter, PerPeriod};
use crate::connections::{Client, Connection, Room};
use crate::domain::access::request_context::{BrowserOrigin, RequestContext};
use crate::domain::access::work::Work;
use crate::domain::oauth::Endpoint;
use crate::error::{Error, Parts as ErrorParts, Reason, Result};
use crate::flows::access_log::{AccessLog, Subject};
use crate::flows::request::{EntryPoint, RequestUnderWay, is_cross_site, logged_path, name_response};
use crate::metrics::Meter;
use crate::state::State;
use crate::telemetry::spans;

/// The names of the services, for health checks.
pub const SERVICES: [&str; 3] =
    ["countersign.v1.AccountService", "countersign.v1.OrgService", "countersign.v1.TokenService"];

/// What part of the calls streams of either kind may be: one of so many.
const STREAMS: usize = 4;

/// So many responses each client may leave unread, or a quarter of the calls if that is more.
const LEAST_UNREAD: usize = 64;

/// How long a client waits for a refusal that tells it to retry later, where there are many: this long, up to half of it
/// shorter or longer, so that those which came together do not come back together.
const REFUSAL_DELAY: Duration = Duration::from_millis(100);
const REFUSAL_JITTER: f64 = 0.5;
/// How many such refusals are not delayed in so many milliseconds: 500 of a second, and not all of them at its beginning.
const UNDELAYED: u64 = 5;
const UNDELAYED_MILLIS: u128 = 10;

/// Before each half of the translation of an answer of more bytes other calls have their turn.
const LONG_ANSWER: usize = 4 << 10;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

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

/// What a call speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Grpc,
    /// gRPC-Web, translated.
    GrpcWeb,
    /// The Connect protocol with JSON, translated.
    Json,
    /// OAuth 2.0 over HTTP, at this endpoint.
    OAuth(Endpoint),
}

/// All RPCs, and what their calls share.
pub struct Door {
    state: Arc<State>,
    limits: RequestLimits,
    rpcs: HashMap<&'static str, Rpc>,
    bodies: BodyBuffer,
    permits: Arc<Semaphore>,
    /// The places of streams that anyone may open: at most a quarter of the permits.
    streams: Arc<Room>,
    /// Those of streams of callers, as many. Their orgs share them.
    watches: Arc<Room>,
    unread: Arc<UnreadResponses>,
    /// The places of refusals that are delayed.
    refusals: Semaphore,
    refused: PerPeriod,
    began: Instant,
    health: Arc<HealthOf>,
    reflection: Reflection,
    access_log: Arc<AccessLog>,
}

/// A call that runs. Dropped before its answer, it is one that its client gave up.
struct Running<'a> {
    meter: Meter<'a>,
    row: usize,
    context: &'a RequestContext,
    log: &'a AccessLog,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(took) = self.meter.unanswered_for() {
            self.log.record_given_up(self.row, self.context, took);
        }
    }
}

impl Door {
    /// The door of a server. With `describes_itself` it answers reflection. The log has a row for each of
    /// [`rpcs::paths`].
    pub fn new(
        state: Arc<State>,
        limits: RequestLimits,
        reporter: HealthReporter,
        describes_itself: bool,
        access_log: Arc<AccessLog>,
    ) -> Self {
        let calls = limits.max_concurrent_requests;
        let permits = Arc::new(Semaphore::new(calls));
        state.metrics.rpcs.run_within(&permits, calls);
        Self {
            rpcs: rpcs::table(describes_itself),
            bodies: BodyBuffer::new(calls, limits.max_message_size),
            permits,
            streams: Room::new((calls / STREAMS).max(1), usize::MAX),
            watches: Room::new((calls / STREAMS).max(1), usize::MAX),
            unread: UnreadResponses::new((calls / 4).max(LEAST_UNREAD)),
            refusals: Semaphore::new(calls),
            refused: PerPeriod::default(),
            began: Instant::now(),
            health: Arc::new(HealthOf::new(reporter)),
            reflection: Reflection::new(),
            access_log,
            state,
            limits,
        }
    }

    /// The state of the server.
    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// Whether there is an RPC at this path.
    pub fn knows(&self, path: &str) -> bool {
        self.rpcs.contains_key(path)
    }

    /// The answer to a call that is refused. In gRPC its headers are all of it.
    fn refusal(&self, protocol: Protocol, parts: &ErrorParts, context: &RequestContext) -> Response<Reply> {
        let unread = || self.unread.count_one_more(context.address.shown());
        match protocol {
            Protocol::Grpc => refusal(parts, context),
            Protocol::GrpcWeb => refusal(parts, context).map(|_| Reply::refusal(Bytes::new(), unread())),
            Protocol::Json => json::refusal(parts, context, self.state.keyring.signer.issuer(), unread()),
            Protocol::OAuth(endpoint) => oauth::refusal(endpoint, parts, unread()),
        }
    }

    /// The address that a request comes from.
    pub fn address_of(&self, headers: &HeaderMap, connection: &Connection) -> Option<IpAddr> {
        self.limits.trusted_proxies.client(connection, headers).shown()
    }

    /// The answer to a request of plain HTTP from an address, which is not made for a client that must read others
    /// first.
    pub async fn answer_plainly(
        &self,
        from: Option<IpAddr>,
        answer: impl Future<Output = Response<Body>>,
    ) -> Response<Reply> {
        let Some(unread) = self.unread.count_one_more(from) else {
            let mut response = Response::new(Reply::default());
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
            return response;
        };
        answer.await.map(|body| Reply::http(body, unread))
    }

    /// What answers a call at this path, and its row in the metrics: none for an unknown path.
    fn find(&self, path: &str, protocol: Protocol) -> Option<(&Rpc, usize)> {
        match protocol {
            Protocol::Grpc | Protocol::GrpcWeb | Protocol::Json => {
                self.rpcs.get(path).map(|rpc| (rpc, rpc.row))
            }
            Protocol::OAuth(endpoint) => {
                let rpc = self.rpcs.get(oauth::rpc(endpoint))?;
                Some((rpc, self.rpcs.len() + 1 + endpoint as usize))
            }
        }
    }

    /// Answers a call.
    pub async fn answer<B>(
        &self,
        request: Request<B>,
        connection: &Connection,
        protocol: Protocol,
    ) -> Response<Reply>
    where
        B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
    {
        let (head, body) = request.into_parts();
        let (rpc, row) = self.find(head.uri.path(), protocol).unzip();
        let method = match protocol {
            Protocol::OAuth(endpoint) => Some(endpoint.path()),
            _ => rpc.map(|rpc| rpc.path),
        };
        let RequestUnderWay { mut context, began } = RequestUnderWay::begin(
            method.map_or_else(|| logged_path(head.uri.path()), Cow::Borrowed),
            &head.headers,
            Some(connection),
            EntryPoint::Rpc,
            &self.limits.trusted_proxies,
            &self.state.clock,
        );
        let (span, trace) = spans::of_call(&context.method, context.trace);
        context.trace = trace;
        let row = row.unwrap_or(0);
        context.work = rpc.map_or(Work::default(), |rpc| rpc.work);
        let context = &Arc::new(context);
        let meter = Meter::new(&self.access_log.rpcs()[row], began);
        let mut running = Running { meter, row, context, log: &self.access_log };
        let deadline = match protocol {
            Protocol::Json => connect_deadline(&head.headers),
            _ => deadline(&head.headers),
        };
        let deadline = deadline.unwrap_or(Duration::MAX).min(self.limits.request_timeout);
        let mut answered = pin!(
            async {
                // A call that has no time left does nothing.
                if deadline.is_zero() {
                    return Err(Reason::DeadlineExceeded.into());
                }
                match rpc {
                    Some(rpc) if !rpc.serves_pages && is_of_a_page(protocol, &head.headers, context) => {
                        let message = "this RPC is not served to pages in browsers";
                        Err(Error::with_message(Reason::MethodUnknown, message))
                    }
                    Some(Rpc { kind: Kind::Stream(_) | Kind::Watch(..), .. })
                        if protocol == Protocol::Json =>
                    {
                        Err(Error::with_message(
                            Reason::MethodUnknown,
                            "an RPC that streams is not served as JSON",
                        ))
                    }
                    Some(Rpc { kind: Kind::Stream(stream), .. }) => {
                        Box::pin(self.stream(
                            (*stream, row),
                            Request::from_parts(head, Body::new(body)),
                            connection,
                            context,
                        ))
                        .await
                    }
                    Some(rpc @ Rpc { kind: Kind::Watch(handler, bounds), .. }) => {
                        let answers = (rpc, *handler, bounds);
                        Box::pin(self.watch(answers, (&head, body), row, connection, context)).await
                    }
                    Some(rpc) => self.unary(rpc, &head, body, context, protocol).await,
                    None => Err(Reason::MethodUnknown.into()),
                }
            }
            .instrument(span.clone())
        );
        // A call that panics costs its connection nothing.
        let answered = poll_fn(|task| {
            let polled = catch_unwind(AssertUnwindSafe(|| answered.as_mut().poll(task)));
            polled.unwrap_or_else(|_| Poll::Ready(Err(panicked())))
        });
        // A stream must only begin in time.
        let ends = tokio::time::Instant::from_std(began) + deadline;
        let answered = match tokio::time::timeout_at(ends, answered).await {
            Ok(answered) => answered,
            // The call timed out because the database does not answer.
            Err(_) if !self.state.feed.answers() => Err(Reason::DatabaseUnavailable.into()),
            Err(_) => Err(Reason::DeadlineExceeded.into()),
        };
        let (mut response, failure) = match answered {
            Ok(response) => (response, None),
            Err(error) => {
                if matches!(error.reason(), Reason::Overloaded | Reason::Throttled) {
                    self.delay_refusal().await;
                }
                let parts = error.into_parts();
                (self.refusal(protocol, &parts, context), Some(parts))
            }
        };
        name_response(context, &mut response);
        let ended = failure.as_ref().map(|parts| parts.reason);
        spans::end_call(&span, ended.map_or("OK", |reason| reason.code().name()), ended.map(Reason::name));
        let took = running.meter.end(ended);
        self.access_log.record(Subject::Rpc(row), context, failure.as_ref(), Some(took));
        response
    }

    /// Delays the refusal of a client that is told to retry later, where there are many: clients that
    /// retry at once would keep the server busy with refusals. Beyond as many as there are permits, none
    /// is delayed.
    async fn delay_refusal(&self) {
        let period = self.began.elapsed().as_millis() / UNDELAYED_MILLIS;
        if self.refused.is_more_than(UNDELAYED, period as u64)
            && let Ok(_place) = self.refusals.try_acquire()
        {
            tokio::time::sleep(Jitter::default().within(REFUSAL_DELAY, REFUSAL_JITTER)).await;
        }
    }

    /// Performs a call with one message, once that has arrived, which the sender may delay.
    async fn unary<B>(
        &self,
        rpc: &Rpc,
        head: &Parts,
        body: B,
        context: &Arc<RequestContext>,
        protocol: Protocol,
    ) -> Result<Response<Reply>>
    where
        B: HttpBody<Data = Bytes> + Unpin,
    {
        let address = context.address.shown();
        let is_framed = matches!(protocol, Protocol::Grpc | Protocol::GrpcWeb);
        let most = if matches!(protocol, Protocol::OAuth(_)) { oauth::MAX_BODY } else { usize::MAX };
        let mut body = self.bodies.whole_within(address, body, is_framed, most).await?;
        let (handler, bounds) = match &rpc.kind {
            Kind::Unary(handler, bounds) => (handler, bounds),
            Kind::HealthCheck | Kind::Stream(_) | Kind::Watch(..) => {
                let message = message_of(protocol, rpc, head, std::mem::take(&mut body.bytes))?;
                let unread = self.unread.count_one_more(address).ok_or_else(overloaded)?;
                let mut answer = self.check_health(&message).await?;
                if protocol == Protocol::Json {
                    answer = json::written(&json::answer(rpc.path, &answer)?)?.into();
                }
                return Ok(success(protocol, answer, unread));
            }
        };
        let _permit = self.permits.try_acquire().map_err(|_| overloaded())?;
        // The permit is given back before the response is read.
        if self.unread.too_many(address) {
            return Err(overloaded());
        }
        if let Protocol::OAuth(endpoint) = protocol {
            // Boxed, so that the other calls are not as large as these.
            let answered = async {
                let request = oauth::translate(endpoint, head, &body.bytes, context)?;
                let call = request.call(rpc.access, &self.state, context).await?;
                let message = request.message.clone();
                let translation = Translation::OAuth(endpoint);
                let answer = self.perform(*handler, bounds, call, message, translation).await;
                let answer = answer.map_err(|error| request.refused(error))?;
                Ok(oauth::answer(answer, self.unread.count(address)))
            };
            return Box::pin(answered).await;
        }
        let presented = Presented::of(&head.headers);
        let call = Call::authenticate_for(rpc.access, &self.state, presented, context).await?;
        let message = message_of(protocol, rpc, head, std::mem::take(&mut body.bytes))?;
        let translation = match protocol {
            Protocol::Json => Translation::Json(rpc.path),
            _ => Translation::None,
        };
        let answer = self.perform(*handler, bounds, call, message, translation).await?;
        Ok(success(protocol, answer, self.unread.count(address)))
    }

    /// Runs the handler of a call, and writes its answer as its client reads it.
    async fn perform(
        &self,
        handler: Handler,
        bounds: &Bounds,
        call: Call,
        message: Bytes,
        translation: Translation,
    ) -> Result<Bytes> {
        let place = read_place(&self.state, &call).await?;
        bounds.check(&message)?;
        let Some(place) = place else {
            let answer = handler(&self.state, &call, &message).await?;
            return translation.of(answer, &self.state.clock).await;
        };
        let state = self.state.clone();
        // A task of its own, which goes on where the client has gone: the connection to the database is
        // busy until the statement ends, and so is the place. It covers the translation as well, which keeps a
        // core as busy as the statement keeps the database.
        let reads = async move {
            let answer = handler(&state, &call, &message).await?;
            let answer = translation.of(answer, &state.clock).await;
            drop(place);
            answer
        };
        tokio::spawn(reads.in_current_span()).await.map_err(|_| panicked())?
    }

    async fn check_health(&self, message: &[u8]) -> Result<Bytes> {
        if message.len() > health::MAX_REQUEST {
            return Err(Reason::MessageTooLarge.into());
        }
        let request: HealthCheckRequest = decode(message)?;
        let answer = self.health.check(tonic::Request::new(request)).await;
        let answer = answer.map_err(|_| Error::with_message(Reason::ResourceNotFound, "no such service"))?;
        Ok(encode(answer.get_ref()))
    }

    /// Begins a stream of ours, once its one message has arrived. Its place holds the permit, as that of the
    /// framework's streams does. It is taken last: a caller that is refused takes it from no other.
    async fn watch<B>(
        &self,
        (rpc, handler, bounds): (&Rpc, StreamHandler, &Bounds),
        (head, body): (&Parts, B),
        row: usize,
        connection: &Connection,
        context: &Arc<RequestContext>,
    ) -> Result<Response<Reply>>
    where
        B: HttpBody<Data = Bytes> + Unpin,
    {
        let address = context.address.shown();
        let mut body = self.bodies.whole(address, body, true).await?;
        let permit = self.permits.clone().try_acquire_owned().map_err(|_| overloaded())?;
        let presented = Presented::of(&head.headers);
        let call = Call::authenticate_for(rpc.access, &self.state, presented, context).await?;
        let message = message_of(Protocol::Grpc, rpc, head, std::mem::take(&mut body.bytes))?;
        bounds.check(&message)?;
        let frames = handler(&self.state, &call, &message).await?;
        let (place, gave_way) = self.watches.enter(Client::Org(call.caller()?.home()), 0);
        place.hold(permit);
        let (closing, place, context) = (connection.closing(), (place, gave_way), context.clone());
        let log = (self.access_log.clone(), row);
        let stream = EndingStream::new(Source::Ours(frames), closing, place, context, log, false);
        let mut response = Response::new(Reply::stream(stream));
        response.headers_mut().insert(CONTENT_TYPE, GRPC);
        Ok(response)
    }

    /// Begins a stream of the framework's. Its place holds the permit, until the stream ends or another one takes
    /// the place.
    async fn stream(
        &self,
        (stream, row): (Stream, usize),
        mut request: Request<Body>,
        connection: &Connection,
        context: &Arc<RequestContext>,
    ) -> Result<Response<Reply>> {
        let (place, gave_way) = self.streams.enter(context.address.shown(), 0);
        let permit = self.permits.clone().try_acquire_owned().map_err(|_| overloaded())?;
        place.hold(permit);
        // A message that is not compressed is read, whatever the client would like to send.
        let encoding = request.headers_mut().remove(GRPC_ENCODING);
        let encoded = encoding.is_some_and(|encoding| encoding != IDENTITY);
        let reflection = self.reflection.clone();
        let Ok(response) = match stream {
            Stream::HealthWatch => {
                let server = HealthServer::from_arc(self.health.clone());
                server.max_decoding_message_size(health::MAX_REQUEST).oneshot(request).await
            }
            Stream::ReflectionV1 => {
                let server = v1::server_reflection_server::ServerReflectionServer::new(reflection);
                server.max_decoding_message_size(reflection::MAX_REQUEST).oneshot(request).await
            }
            Stream::ReflectionV1Alpha => {
                let server = v1alpha::server_reflection_server::ServerReflectionServer::new(reflection);
                server.max_decoding_message_size(reflection::MAX_REQUEST).oneshot(request).await
            }
        };
        if let Some(error) = status::error_of_framework(response.headers(), encoded) {
            return Err(error);
        }
        let mut response = response;
        if encoded {
            response.headers_mut().insert(GRPC_ACCEPT_ENCODING, IDENTITY);
        }
        let (closing, place, context) = (connection.closing(), (place, gave_way), context.clone());
        let log = (self.access_log.clone(), row);
        let stream = |body| {
            let source = Source::Framework(body);
            Reply::stream(EndingStream::new(source, closing, place, context, log, encoded))
        };
        Ok(response.map(stream))
    }
}

/// Whether a page in a browser makes a call, over whichever protocol. The endpoints of OAuth 2.0 have their
/// own rule. What such a call presents is never the certificate of its connection ([`RequestUnderWay`]).
fn is_of_a_page(protocol: Protocol, headers: &HeaderMap, context: &RequestContext) -> bool {
    match protocol {
        Protocol::GrpcWeb => true,
        Protocol::Grpc | Protocol::Json => {
            !matches!(context.page, BrowserOrigin::None) || is_cross_site(headers)
        }
        Protocol::OAuth(_) => false,
    }
}

/// The encoded message of a call that is no request of OAuth 2.0.
fn message_of(protocol: Protocol, rpc: &Rpc, head: &Parts, mut body: Bytes) -> Result<Bytes> {
    if protocol == Protocol::Json {
        return json::request(rpc.path, &head.headers, &body);
    }
    message(&body, &head.headers)?;
    body.advance(MESSAGE_HEAD);
    Ok(body)
}

/// What is made of the message of an answer, with its prefix, before it is sent.
#[derive(Clone, Copy)]
enum Translation {
    None,
    /// JSON, as the RPC at this path answers.
    Json(&'static str),
    /// What an endpoint says.
    OAuth(Endpoint),
}

impl Translation {
    async fn of(self, answer: Bytes, clock: &Clock) -> Result<Bytes> {
        let others_turn = async || {
            if answer.len() > LONG_ANSWER {
                tokio::task::yield_now().await;
            }
        };
        match self {
            Self::None => Ok(answer),
            Self::Json(path) => {
                others_turn().await;
                let message = json::answer(path, &answer)?;
                others_turn().await;
                json::written(&message).map(Bytes::from)
            }
            Self::OAuth(endpoint) => oauth::translated(endpoint, &answer, clock.now().unix_timestamp()),
        }
    }
}

/// The answer to such a call, translated.
fn success(protocol: Protocol, answer: Bytes, unread: Unread) -> Response<Reply> {
    if protocol == Protocol::Json {
        return json::response(answer, unread);
    }
    let mut response = Response::new(Reply::message(answer, unread));
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}

fn refusal(parts: &ErrorParts, context: &RequestContext) -> Response<Reply> {
    let mut response: Response<Reply> = status::answer(parts, context).into_http();
    if parts.reason == Reason::CompressionUnsupported {
        // The specification of gRPC over HTTP/2: which encodings would be understood.
        response.headers_mut().insert(GRPC_ACCEPT_ENCODING, IDENTITY);
    }
    response
}

/// The error of a call whose code panicked. The panic itself is logged where it happens.
fn panicked() -> Error {
    Error::internal("the call panicked")
}
