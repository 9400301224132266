//! One connection, from its first byte to its end.

use std::convert::Infallible;
use std::error::Error;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::activity::{Closing, Ending, Phase};
use super::calls::{Calls, Unpolled};
use super::handshake::{Handshakes, Ready, outcome_of};
use super::settings::Settings;
use super::socket::Socket;
use super::table::Place;
use super::tracked_body::TrackedBody;
use crate::domain::values::client_certificate::ClientCertificate;
use crate::metrics::Handshake;

/// How much an age varies, so that connections that were opened together are not closed together.
const AGE_JITTER: f64 = 0.1;

/// How many calls a connection has at once: as many as a server processes by default, since a client may have
/// one connection for all of its threads.
const MAX_STREAMS: u32 = 1_024;
/// How many calls of a connection may have been reset before they were looked at; then it is closed.
const MAX_PENDING_RESETS: usize = 256;

/// The smallest buffer that the HTTP/1 implementation accepts.
const LEAST_HTTP1_BUFFER: usize = 8 << 10;

const GAVE_WAY: &str = "it gave way to another connection";

/// The connection that a request came on.
#[derive(Clone)]
pub struct Connection {
    /// The other end of it: the client, or a proxy.
    pub(crate) peer: SocketAddr,
    /// The certificate that the client has shown in the handshake of this connection, if any.
    pub(crate) certificate: Option<Arc<ClientCertificate>>,
    closing: Closing,
}

impl Connection {
    /// The origin of a request that came on no connection of this server; its streams end at once.
    pub fn none(peer: SocketAddr) -> Self {
        Self { peer, certificate: None, closing: Closing::begun_already() }
    }

    /// Tells a stream that its connection is being closed.
    pub fn closing(&self) -> Closing {
        self.closing.clone()
    }
}

/// What answers the requests of all connections.
pub trait Service: Send + Sync + 'static {
    /// The body of a response.
    type Body: HttpBody<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static;

    /// Answers a request, which may have been sent by anyone.
    fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        connection: Connection,
    ) -> impl Future<Output = Response<Self::Body>> + Send + 'static;
}

/// What all connections share.
pub(super) struct Shared<S> {
    pub(super) service: Arc<S>,
    pub(super) settings: Settings,
    pub(super) handshakes: Handshakes,
}

/// Answers the requests of a connection until it ends.
pub(super) async fn run<S: Service>(
    socket: TcpStream,
    peer: SocketAddr,
    place: Place,
    shared: Arc<Shared<S>>,
    mut stop: watch::Receiver<bool>,
) {
    let Shared { service: answers, settings, handshakes } = &*shared;
    let (limits, activity) = (settings.limits, place.activity.clone());
    let max_age = settings.jitter.within(limits.max_age, AGE_JITTER);
    let mut gave_way = pin!(activity.gave_way());
    let mut stopped = pin!(async move {
        let _ = stop.wait_for(|stop| *stop).await;
    });
    let socket = Socket::new(socket, activity.clone(), limits.write_timeout);
    let mut ready = match &settings.tls {
        None => Ready::plain(socket),
        // Boxed: it is large, and done before most of a connection's life.
        Some(tls) => {
            let handshake = timeout(limits.first_request_timeout, Box::pin(Ready::tls(socket, tls)));
            let failed = tokio::select! {
                ready = handshake => match ready {
                    Ok(Ok(ready)) => Ok(ready),
                    Ok(Err(error)) => Err((outcome_of(&error), error.to_string())),
                    Err(_) => Err((Handshake::TimedOut, "the client took too long".to_owned())),
                },
                () = &mut gave_way => Err((Handshake::Closed, GAVE_WAY.to_owned())),
                () = &mut stopped => Err((Handshake::Closed, "server stops".to_owned())),
            };
            let counted = &settings.metrics.connections;
            match failed {
                Ok(ready) => {
                    counted.shaken(Handshake::Ok);
                    ready
                }
                Err((outcome, reason)) => {
                    handshakes.failed(outcome, &reason, peer, counted);
                    return;
                }
            }
        }
    };
    let certificate = ready.certificate.map(Arc::new);
    let mut withdrawn = pin!(ready.withdrawn());
    let from = Connection { peer, certificate, closing: activity.closing() };
    let service = service_fn(|request: Request<Incoming>| {
        let exchange = activity.begin(request.version());
        // Boxed: the transport moves the future of a call several times.
        let answer = Box::pin(answers.clone().answer(request, from.clone()));
        async move {
            let response = answer.await;
            Ok::<_, Infallible>(response.map(|body| TrackedBody::new(body, exchange)))
        }
    });
    let calls = Calls::default();
    let _unpolled = Unpolled(calls.clone());
    let http = http(settings, calls.clone());
    let mut connection = pin!(http.serve_connection(TokioIo::new(ready.stream), service));
    let mut timer = pin!(sleep_until(Instant::now() + limits.first_request_timeout));
    let (mut closing, mut gives_way) = (false, false);
    let ended = poll_fn(|context| {
        loop {
            if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                return Poll::Ready(ended.map_err(|error| error.to_string()));
            }
            calls.run(context);
            let mut why = None;
            if !gives_way && gave_way.as_mut().poll(context).is_ready() {
                gives_way = true;
                // A request may have begun since, which is still answered.
                if activity.phase() != Phase::Busy {
                    return Poll::Ready(Err(GAVE_WAY.to_owned()));
                }
                why = Some(GAVE_WAY);
            }
            if !closing && stopped.as_mut().poll(context).is_ready() {
                why = Some("server stops");
            }
            if !closing && withdrawn.as_mut().poll(context).is_ready() {
                why = Some("authorities of client certificates were replaced");
            }
            while why.is_none() {
                let now = Instant::now();
                let (at, ending) = activity.due(now, &limits, max_age, settings.drain_timeout);
                if at <= now {
                    match ending {
                        Ending::Close(reason) => why = Some(reason),
                        Ending::Drop(reason) => return Poll::Ready(Err(reason.to_owned())),
                    }
                    continue;
                }
                // Later is left alone: what is due is asked again when the timer has fired, and it
                // changes with each request.
                if at < timer.deadline() || timer.is_elapsed() {
                    timer.as_mut().reset(at);
                }
                if timer.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
            }
            tracing::debug!(%peer, reason = why, "connection closing");
            closing = true;
            activity.close();
            connection.as_mut().graceful_shutdown();
        }
    })
    .await;
    match ended {
        Ok(()) => tracing::trace!(%peer, "connection closed"),
        Err(reason) => tracing::debug!(%peer, reason, "connection ended"),
    }
}

/// The protocols on the one port, for a connection with these calls.
fn http(settings: &Settings, calls: Calls) -> auto::Builder<Calls> {
    let mut http = auto::Builder::new(calls);
    http.http2()
        .timer(TokioTimer::new())
        .max_header_list_size(settings.max_header_size)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10))
        .max_concurrent_streams(MAX_STREAMS)
        // By default the 20th call that its client gives up before it was begun ends all of its connection.
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS);
    // How long a header may take is limited here (`activity`): the implementation's own limit also
    // counts while nothing is sent between two requests.
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size((settings.max_header_size as usize).max(LEAST_HTTP1_BUFFER));
    http
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::sync::Notify;

    use super::super::table::Table;
    use super::*;
    use crate::clock::Jitter;
    use crate::config::ConnectionLimits;

    const LONG: std::time::Duration = std::time::Duration::from_secs(3_600);

    /// Answers when it is told to.
    struct Waits {
        begins: Arc<Notify>,
        goes_on: Arc<Notify>,
    }

    impl Service for Waits {
        type Body = Body;

        async fn answer(self: Arc<Self>, _: Request<Incoming>, _: Connection) -> Response<Body> {
            self.begins.notify_one();
            self.goes_on.notified().await;
            Response::new("answered".into())
        }
    }

    #[tokio::test]
    async fn a_connection_that_gives_way_answers_the_request_that_has_begun() {
        let limits = ConnectionLimits {
            max: None,
            first_request_timeout: LONG,
            idle_timeout: LONG,
            max_age: LONG,
            write_timeout: LONG,
        };
        let settings = Settings {
            metrics: Arc::default(),
            max: 1,
            limits,
            max_header_size: 16 << 10,
            drain_timeout: LONG,
            tls: None,
            jitter: Jitter::default(),
        };
        let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (begins, goes_on) = (begun.clone(), go_on.clone());
        let service = Arc::new(Waits { begins, goes_on });
        let shared = Arc::new(Shared { service, settings, handshakes: Handshakes::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, peer) = listener.accept().await.unwrap();
        let place = Arc::new(Table::new(1)).enter(peer.ip()).unwrap().place;
        let activity = place.activity.clone();
        let (_stop, stopped) = watch::channel(false);
        let mut running = tokio::spawn(run(socket, peer, place, shared, stopped));
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        begun.notified().await;
        activity.give_way();
        tokio::select! {
            () = activity.closing().begun() => {}
            _ = &mut running => panic!("it did not wait for the request"),
        }
        go_on.notify_one();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("answered"), "{answer}");
        running.await.unwrap();
    }
}
