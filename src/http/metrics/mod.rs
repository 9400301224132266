//! `/metrics`, and the probes, on a port of their own.
//!
//! Nothing here waits for the database, and nothing that answers calls waits for this: a scrape reads
//! counters, and what is in memory. Its answer is complete before it is sent, over a connection for each
//! request, so that a client that reads slowly holds up itself alone.

mod exposition;
mod families;
mod writer;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State as Shared;
use axum::response::IntoResponse;
use axum::routing::get;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderValue, StatusCode};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::{alive, ready};
use crate::state::State;

pub use exposition::exposition;

/// The most connections at a time; the oldest one gives way to another.
const MAX_CONNECTIONS: usize = 16;
/// How long a connection may take in all.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long nothing is accepted after the system refused to.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// Serves the metrics of this state, until it is dropped.
pub async fn serve(listener: TcpListener, state: Arc<State>) {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .fallback(|| async { StatusCode::NOT_FOUND })
        .with_state(state);
    let mut connections = JoinSet::new();
    let mut order = VecDeque::<AbortHandle>::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let Ok((socket, _)) = accepted else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        order.retain(|connection| !connection.is_finished());
        if order.len() >= MAX_CONNECTIONS
            && let Some(oldest) = order.pop_front()
        {
            oldest.abort();
        }
        order.push_back(connections.spawn(answer(socket, router.clone())));
    }
}

/// Answers one request.
async fn answer(socket: TcpStream, router: Router) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(CONNECTION_TIMEOUT).keep_alive(false);
    let connection = http.serve_connection(TokioIo::new(socket), TowerToHyperService::new(router));
    // A client that is slow, or gone, is no event of this server.
    let _ = timeout(CONNECTION_TIMEOUT, connection).await;
}

async fn metrics(Shared(state): Shared<Arc<State>>) -> impl IntoResponse {
    const NO_SNIFF: (HeaderName, HeaderValue) =
        (http::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    ([(CONTENT_TYPE, OPEN_METRICS), NO_SNIFF], exposition(state))
}
