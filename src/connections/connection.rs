//! One connection, from its first byte to its end.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tonic::transport::server::TcpConnectInfo;
use tower::Service as _;

use super::activity::{Ending, Phase};
use super::settings::Settings;
use super::socket::Socket;
use super::table::Place;
use super::tracked_body::TrackedBody;

/// How much an age varies, so that connections that were opened together are not closed together.
const AGE_JITTER: f64 = 0.1;

/// What all connections share.
pub(super) struct Shared {
    pub(super) app: Router,
    pub(super) http: auto::Builder<TokioExecutor>,
    pub(super) settings: Settings,
}

/// Answers the requests of a connection until it ends.
pub(super) async fn run(
    socket: TcpStream,
    peer: SocketAddr,
    place: Place,
    shared: Arc<Shared>,
    mut stop: watch::Receiver<bool>,
) {
    let Shared { app, http, settings } = &*shared;
    let (limits, activity) = (settings.limits, place.activity.clone());
    let max_age = settings.jitter.within(limits.max_age, AGE_JITTER);
    let info = TcpConnectInfo { local_addr: socket.local_addr().ok(), remote_addr: Some(peer) };
    let service = service_fn(|request: Request<Incoming>| {
        let exchange = activity.begin(request.version());
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(info.clone());
        request.extensions_mut().insert(activity.closing());
        let answering = app.clone().call(request);
        let write_timeout = limits.write_timeout;
        async move {
            let Ok(response) = answering.await;
            Ok::<_, Infallible>(response.map(|body| TrackedBody::new(body, exchange, write_timeout)))
        }
    });
    let socket = TokioIo::new(Socket::new(socket, activity.clone(), limits.write_timeout));
    let mut connection = pin!(http.serve_connection(socket, service));
    let mut gave_way = pin!(activity.gave_way());
    let mut stopped = pin!(async move {
        let _ = stop.wait_for(|stop| *stop).await;
    });
    let mut timer = pin!(sleep_until(Instant::now() + limits.first_request_timeout));
    let (mut closing, mut gives_way) = (false, false);
    let ended = poll_fn(|context| {
        loop {
            if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                return Poll::Ready(ended.map_err(|error| error.to_string()));
            }
            let mut why = None;
            if !gives_way && gave_way.as_mut().poll(context).is_ready() {
                const REASON: &str = "it gave way to another connection";
                gives_way = true;
                // A request may have begun since, which is still answered.
                if activity.phase() != Phase::Busy {
                    return Poll::Ready(Err(REASON.to_owned()));
                }
                why = Some(REASON);
            }
            if !closing && stopped.as_mut().poll(context).is_ready() {
                why = Some("server stops");
            }
            while why.is_none() {
                let (at, ending) = activity.due(&limits, max_age, settings.drain_timeout);
                if at <= Instant::now() {
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

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::sync::Notify;

    use super::super::table::Table;
    use super::*;
    use crate::clock::Jitter;
    use crate::config::ConnectionLimits;

    const LONG: std::time::Duration = std::time::Duration::from_secs(3_600);

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
            max: 1,
            limits,
            max_header_size: 16 << 10,
            drain_timeout: LONG,
            jitter: Jitter::default(),
        };
        let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (begins, goes_on) = (begun.clone(), go_on.clone());
        let handler = get(async move || {
            begins.notify_one();
            goes_on.notified().await;
            "answered"
        });
        let app = Router::new().route("/", handler);
        let shared = Arc::new(Shared { app, http: super::super::http(&settings), settings });
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
