//! Serves: `bind(address)`, then `run(listener, state, options, delivery, shutdown)`. The caller
//! owns the port and the shutdown.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use ::http::header::CONTENT_TYPE;
use ::http::{Request, Response};
use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use nix::errno::Errno;
use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic_health::server::HealthReporter;
use tower::Service as _;

use crate::client_addr::TrustedProxies;
use crate::clock::Jitter;
use crate::config::{ListenAddress, ServerLimits, WebUrl};
use crate::connections::{self, Connection};
use crate::db::pool::FEED_CONNECTIONS;
use crate::domain::values::networks::Network;
use crate::flows::access_log::AccessLog;
use crate::grpc::door::{Door, Protocol, RequestLimits, SERVICES};
use crate::grpc::layers::grpc_web::{self, Encoding};
use crate::grpc::layers::media_type::media_type;
use crate::grpc::layers::reply::Reply;
use crate::grpc::layers::{connect, cors};
use crate::grpc::{json, oauth, rpcs};
use crate::http;
use crate::jobs::{Job, JobContext, Jobs, Limits, health, table};
use crate::mail::EmailDelivery;
use crate::metrics::Metrics;
use crate::state::State;
use crate::tls::Tls;

/// How many connections may wait to be accepted; tokio's own value.
const BACKLOG: i32 = 1_024;

/// A running server. Boxed here, so that callers that await it do not compile it once more.
pub type Serving = Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;

/// The future that stops a server.
type Shutdown = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What stops a server.
struct Stop {
    asked: Shutdown,
    /// Polled once the server was asked: it ends the shutdown delay.
    asked_again: Shutdown,
}

/// A bound port, and the TLS that it speaks.
pub struct Listener {
    socket: TcpListener,
    tls: Option<Arc<Tls>>,
}

impl Listener {
    /// The same port, which speaks TLS, and nothing else.
    pub fn with_tls(self, tls: Arc<Tls>) -> Self {
        Self { tls: Some(tls), ..self }
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

impl From<TcpListener> for Listener {
    fn from(socket: TcpListener) -> Self {
        Self { socket, tls: None }
    }
}

/// Listens on the first of the addresses of a host that allows it; without a host on every
/// interface. `tls_options` is what the command calls its options for TLS.
///
/// # Errors
/// A name without an address, or the error of the last address. Without TLS also an address that other
/// machines reach, unless that was allowed.
pub(crate) async fn bind(
    address: &ListenAddress,
    tls: Option<Arc<Tls>>,
    insecure: bool,
    tls_options: &str,
) -> anyhow::Result<Listener> {
    let socket = bind_socket(address).await?;
    let reachable = !socket.local_addr()?.ip().to_canonical().is_loopback();
    anyhow::ensure!(
        tls.is_some() || insecure || !reachable,
        "--listen {address}: without TLS, tokens would be readable on the network: use {tls_options}, an \
         address of this machine itself such as 127.0.0.1, or --insecure-listen behind a proxy that ends TLS"
    );
    Ok(Listener { socket, tls })
}

async fn bind_socket(address: &ListenAddress) -> anyhow::Result<TcpListener> {
    let bound = match &address.host {
        Some(host) => TcpListener::bind((host.as_str(), address.port)).await,
        None => match bind_both_families(address.port) {
            // This machine has no IPv6. Any other failure would also occur with IPv4.
            Err(error) if is_without_ipv6(&error) => {
                TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port)).await
            }
            bound => bound,
        },
    };
    bound.with_context(|| format!("listening on {address}"))
}

/// Listens on the address for metrics, if there is one.
///
/// # Errors
/// A name without an address, or the error of the last address.
pub(crate) async fn bind_metrics(address: Option<&ListenAddress>) -> anyhow::Result<Option<TcpListener>> {
    match address {
        Some(address) => bind_socket(address).await.context("metrics").map(Some),
        None => Ok(None),
    }
}

/// Listens on `[::]` for IPv4 as well, whatever the system's default is.
fn bind_both_families(port: u16) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
    socket.set_only_v6(false)?;
    // A restarted server does not wait for the connections of the previous one. The standard
    // library sets it, too.
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

fn is_without_ipv6(error: &io::Error) -> bool {
    let known = [Errno::EAFNOSUPPORT, Errno::EADDRNOTAVAIL].map(|errno| errno as i32);
    error.raw_os_error().is_some_and(|code| known.contains(&code))
}

/// Serves gRPC and plain HTTP on one listener until `shutdown` is done.
///
/// Then it says that it is not ready, and goes on for the shutdown delay. After that it accepts no new
/// calls and lets those in progress finish, for at most the drain timeout. When a job dies it stops
/// without the delay.
///
/// # Errors
/// When the listener fails, or a job died.
pub fn run(
    listener: impl Into<Listener>,
    state: Arc<State>,
    options: ServerLimits,
    delivery: EmailDelivery,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Serving {
    let jobs = table(options.last_use_interval);
    run_with_jobs(listener, state, options, delivery, jobs, Box::pin(shutdown))
}

/// Serves as [`run`] does until the process was asked to stop; asked again, it does not wait for the
/// shutdown delay.
///
/// # Errors
/// The errors of [`run`].
pub(crate) fn run_until_signalled(
    listener: Listener,
    state: Arc<State>,
    options: ServerLimits,
    delivery: EmailDelivery,
    asked: impl Future<Output = ()> + Send + 'static,
) -> Serving {
    let jobs = table(options.last_use_interval);
    // It listens once it is polled: the first signal is not the second one.
    let asked_again = Box::pin(async { asked_to_stop().await });
    let stop = Stop { asked: Box::pin(asked), asked_again };
    Box::pin(serve(listener, state, options, delivery, jobs, stop))
}

/// Serves as [`run`] does, with these jobs instead of those of the table.
///
/// # Errors
/// The errors of [`run`].
pub fn run_with_jobs(
    listener: impl Into<Listener>,
    state: Arc<State>,
    options: ServerLimits,
    delivery: EmailDelivery,
    jobs: Vec<Job>,
    shutdown: Shutdown,
) -> Serving {
    let stop = Stop { asked: shutdown, asked_again: Box::pin(std::future::pending()) };
    Box::pin(serve(listener.into(), state, options, delivery, jobs, stop))
}

/// Serves the metrics of a server on an address of their own, until what is returned is dropped.
///
/// # Errors
/// When the listener has no address any more.
pub fn serve_metrics(listener: TcpListener, state: Arc<State>) -> anyhow::Result<JoinSet<()>> {
    let address = listener.local_addr()?;
    if address.ip().is_loopback() {
        tracing::info!(%address, "metrics served");
    } else {
        tracing::warn!(%address, "metrics served to other machines: every client that reaches the address reads them");
    }
    let mut serving = JoinSet::new();
    serving.spawn(http::metrics::serve(listener, state));
    Ok(serving)
}

async fn serve(
    listener: Listener,
    state: Arc<State>,
    options: ServerLimits,
    delivery: EmailDelivery,
    jobs: Vec<Job>,
    stop: Stop,
) -> anyhow::Result<()> {
    let reporter = HealthReporter::new();
    // The keys were just loaded from the database: it answers.
    health::report(&reporter, &SERVICES, true, true).await;
    let networks = options.trusted_proxies.iter().copied().map(Network::from).collect();
    let trusted_proxies = Arc::new(TrustedProxies::new(networks));
    let rows = state.metrics.rpcs.rows(rpcs::paths(options.reflection));
    let access_log = Arc::new(AccessLog::new(options.access_log, rows));
    let pages = http::PageSettings::new(
        trusted_proxies.clone(),
        options.request_timeout,
        options.max_concurrent_requests,
        [&WebUrl::from(&state.issuer), &delivery.pages_url],
        delivery.appearance.clone(),
        access_log.clone(),
    );
    let limits = RequestLimits {
        max_message_size: options.max_message_size,
        max_concurrent_requests: options.max_concurrent_requests,
        request_timeout: options.request_timeout,
        trusted_proxies,
    };
    let app = App {
        issuer: state.keyring.signer.issuer().to_owned(),
        door: Door::new(state.clone(), limits, reporter.clone(), options.reflection, access_log.clone()),
        http: http::router(
            state.clone(),
            pages,
            listener.tls.as_ref().is_some_and(|tls| tls.takes_certificates()),
        ),
    };
    if let Some(tls) = listener.tls.clone() {
        let times = move || [tls.expires_soon_from(), tls.expires()];
        state.metrics.connections.read_certificate_with(times);
    }
    let (stop_jobs, jobs_stop) = watch::channel(());
    state.metrics.set_signing_key_lifetime(options.signing_key_lifetime);
    let figures = jobs.iter().map(|job| (job.name, job.period));
    let figures = (state.metrics.jobs.rows(figures, state.clock.now()), 0);
    let context = JobContext {
        state: state.clone(),
        health: reporter.clone(),
        services: &SERVICES,
        delivery,
        access_log,
        figures,
        feed_listen: options.feed_listen,
        signing_key_lifetime: options.signing_key_lifetime,
        jitter: Jitter::default(),
        limits: Limits::default(),
        tls: listener.tls.clone(),
        stop: jobs_stop,
    };
    let mut jobs = Jobs::start(jobs, &context, stop_jobs);

    let (stop_serving, stopped) = watch::channel(false);
    let Listener { socket, tls } = listener;
    let settings = settings(&options, tls, &state.metrics);
    let mut serving = Box::pin(connections::serve(socket, Arc::new(app), settings, stopped));
    // Polled throughout: connections are accepted until they are told to close.
    let mut died = None;
    tokio::select! {
        () = &mut serving => {}
        () = stop.asked => {}
        job = jobs.died() => died = Some(job),
    }
    state.lifecycle.stop();
    // Load balancers see it before the connections are closed.
    health::report(&reporter, &SERVICES, false, false).await;
    if died.is_none() && !options.shutdown_delay.is_zero() {
        tracing::info!(delay = ?options.shutdown_delay, "not ready: load balancers are given time to notice");
        tokio::select! {
            () = &mut serving => {}
            () = tokio::time::sleep(options.shutdown_delay) => {}
            () = stop.asked_again => {}
            job = jobs.died() => died = Some(job),
        }
    }
    stop_serving.send_replace(true);
    if tokio::time::timeout(options.drain_timeout, serving).await.is_err() {
        tracing::warn!("drain timed out: calls were still under way");
    }
    // After the last call: its use of a token is written, and its message is sent.
    let jobs_ended = jobs.stop().await;
    if let Some(died) = died {
        return Err(died.into());
    }
    jobs_ended?;
    Ok(())
}

/// What answers on the one port: calls by gRPC, gRPC-Web or JSON, and plain HTTP.
struct App {
    /// Whose endpoints of OAuth 2.0 these are.
    issuer: String,
    door: Door,
    http: Router,
}

impl connections::Service for App {
    type Body = Reply;

    async fn answer(self: Arc<Self>, request: Request<Incoming>, connection: Connection) -> Response<Reply> {
        // What most requests have, without a copy.
        if request.headers().get(CONTENT_TYPE).is_some_and(|value| value == "application/grpc") {
            return self.door.answer(request, &connection, Protocol::Grpc).await;
        }
        if let Some(path) = oauth::path(&self.issuer, request.uri().path()) {
            return match oauth::endpoint(request.method(), path, request.headers()) {
                Ok(endpoint) => self.door.answer(request, &connection, Protocol::OAuth(endpoint)).await,
                Err(refusal) => {
                    let from = self.door.address_of(request.headers(), &connection);
                    self.door.answer_plainly(from, std::future::ready(*refusal)).await
                }
            };
        }
        if cors::is_preflight(&request) {
            return cors::preflight(&self.door, request.headers());
        }
        let media_type = media_type(request.headers(), CONTENT_TYPE);
        if media_type == "application/grpc" || media_type == "application/grpc+proto" {
            return self.door.answer(request, &connection, Protocol::Grpc).await;
        }
        if let Some(encoding) = Encoding::of(&media_type) {
            return Box::pin(grpc_web::answer(&self.door, request, &connection, encoding)).await;
        }
        let path = request.uri().path();
        if media_type == json::MEDIA_TYPE && connect::is_of_rpcs(path) {
            return Box::pin(connect::answer(&self.door, request, &connection)).await;
        }
        if media_type.starts_with("application/grpc") || self.door.knows(path) {
            return connect::refusal(request.method());
        }
        let mut asked = request.map(Body::new);
        asked.extensions_mut().insert(connection.clone());
        let from = self.door.address_of(asked.headers(), &connection);
        let answer = async {
            let Ok(response) = self.http.clone().call(asked).await;
            response
        };
        self.door.answer_plainly(from, answer).await
    }
}

/// What the connections of a server may do.
fn settings(options: &ServerLimits, tls: Option<Arc<Tls>>, metrics: &Arc<Metrics>) -> connections::Settings {
    let database = options.database_connections + options.database_load_connections + FEED_CONNECTIONS;
    let (open_files, database) = (countersign_os::descriptors::limit(), u64::from(database));
    let max = options.connections.max.unwrap_or_else(|| connections::default_max(open_files, database));
    if max as u64 > open_files.saturating_sub(database + connections::OTHER_DESCRIPTORS) {
        tracing::warn!(
            max_connections = max,
            open_files,
            "open files limited to fewer than connections need"
        );
    }
    connections::Settings {
        max,
        limits: options.connections,
        max_header_size: options.max_header_size,
        drain_timeout: options.drain_timeout,
        tls,
        jitter: Jitter::default(),
        metrics: metrics.clone(),
    }
}

/// Done when the process is asked to stop: SIGTERM, or SIGINT (Ctrl-C). What it is sent counts from this call on, and
/// not only once the future is polled.
pub fn asked_to_stop() -> impl Future<Output = ()> + Send + 'static {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async {
        let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
            tracing::error!("signal handlers not installed: end the process with SIGKILL");
            return std::future::pending().await;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("shutdown requested");
    }
}
