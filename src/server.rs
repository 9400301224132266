//! Serves: `run(listener, state, options, office, shutdown)`. Whoever calls owns the port and the stop.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::config::{LimitArgs, WebUrl};
use crate::domain::values::networks::Network;
use crate::grpc::layers::request::Limits;
use crate::grpc::router::{SERVICES, router};
use crate::mail::{PostOffice, deliver};
use crate::state::State;
use crate::state::last_use;
use crate::{http, jobs};

/// How long the last uses of tokens may take to be written when the server ends.
const LAST_WRITE: Duration = Duration::from_secs(5);

/// How long mails that are being sent may take when the server ends.
const LAST_MAIL: Duration = Duration::from_secs(10);

/// Serves gRPC and plain HTTP on one listener until `shutdown` is done; then takes no
/// new calls and lets those under way end, for at most the drain timeout.
pub async fn run(
    listener: TcpListener,
    state: Arc<State>,
    options: LimitArgs,
    office: PostOffice,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let (reporter, health) = tonic_health::server::health_reporter();
    let reporter = jobs::Health { reporter, services: &SERVICES };
    // The keys were just read from the database: it answers.
    reporter.report(true, true).await;
    let trusted_proxies: Vec<_> = options.trusted_proxies.iter().copied().map(Network::from).collect();
    let pages = http::Settings::new(
        trusted_proxies.clone(),
        options.request_timeout,
        [&WebUrl::from(&state.issuer), &office.pages_url],
    );
    let limits = Limits {
        max_message_size: options.max_message_size,
        max_concurrent_requests: options.max_concurrent_requests,
        request_timeout: options.request_timeout,
        trusted_proxies,
    };
    let app = router(&state, limits, health, options.reflection).merge(http::router(state.clone(), pages));
    let jobs = jobs::start(&state, &options, reporter.clone());
    // No job like the others: it ends in its own time, and loses nothing.
    let (writing, ended) = tokio::sync::oneshot::channel();
    let uses = tokio::spawn(last_use::keep(state.clone(), options.last_use_interval, ended));
    // Neither is this: a mail that was handed over is to be noted, or it is sent twice.
    let (sending, ended) = tokio::sync::oneshot::channel();
    let mails =
        office.postman.clone().map(|postman| tokio::spawn(deliver(state.clone(), office, postman, ended)));

    let (stopping, stopped) = tokio::sync::oneshot::channel();
    let draining = state.clone();
    let drain = async move {
        shutdown.await;
        draining.stop();
        // Whoever balances load sees it before the connections go.
        reporter.report(false, false).await;
        let _ = stopping.send(());
    };
    // Said of the listener: what the builder is told counts only for one that it binds itself.
    // With Nagle's algorithm the trailers of each answer wait for the client's acknowledgement.
    let incoming =
        TcpIncoming::from(listener).with_nodelay(Some(true)).with_keepalive(Some(Duration::from_secs(60)));
    let serving = Server::builder()
        .accept_http1(true)
        .http2_max_header_list_size(options.max_header_size)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .max_concurrent_streams(256)
        .add_routes(Routes::from(app))
        .serve_with_incoming_shutdown(incoming, drain);
    let limit = async {
        // The sender goes unsent only when serving itself has ended.
        if stopped.await.is_ok() {
            tokio::time::sleep(options.drain_timeout).await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    let served = tokio::select! {
        done = serving => done,
        () = limit => {
            tracing::warn!("calls were still under way when the drain timeout ended");
            Ok(())
        }
    };
    drop(jobs);
    drop(writing);
    drop(sending);
    if tokio::time::timeout(LAST_WRITE, uses).await.is_err() {
        tracing::warn!("the last uses of tokens could not be written in time");
    }
    if let Some(mails) = mails
        && tokio::time::timeout(LAST_MAIL, mails).await.is_err()
    {
        tracing::warn!("a mail was still being sent: it is sent again, by this server or another one");
    }
    Ok(served?)
}

/// Done when the process is asked to end: SIGTERM, or SIGINT (Ctrl-C).
pub async fn asked_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be waited for; end the process with SIGKILL");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
}
