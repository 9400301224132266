//! The background jobs are supervised: when one dies, its server exits.

use std::time::Duration;

use countersign::clock::Clock;
use countersign::config::{SigningAlgorithm, WebUrl};
use countersign::db::within;
use countersign::error::Result;
use countersign::jobs::{AtStop, Job, JobContext, Running, table};
use countersign::mail::EmailDelivery;
use countersign::server;
use countersign::state::{Pools, State};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::harness::http_get;
use crate::harness::{LIMITS, TestServer, read_keys};

/// Serves with one more job, makes it die when the server is ready, and returns why the server
/// exited.
async fn dies_of(run: fn(JobContext, Duration) -> Running, let_die: &Notify) -> String {
    let beside = TestServer::start().await;
    let state = State::open(
        Pools::open(&beside.database().options(), 4, 1, Default::default()),
        read_keys(beside.master_key_file()),
        SigningAlgorithm::EdDsa,
        beside.state.issuer.clone(),
        LIMITS.credentials(),
        Clock::default(),
    );
    let state = state.await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let mut jobs = table(LIMITS.last_use_interval);
    jobs.push(Job { name: "added", period: Duration::from_secs(1), run, at_stop: AtStop::Abort });
    let delivery = EmailDelivery::closed(WebUrl::from(&state.issuer));
    let shutdown = Box::pin(std::future::pending());
    let serving =
        tokio::spawn(server::run_with_jobs(listener, state.clone(), LIMITS, delivery, jobs, shutdown));
    assert_eq!(http_get(&endpoint, "/readyz").await.status, 200);
    let_die.notify_one();
    let ended = serving.await.unwrap().unwrap_err();
    assert!(!state.lifecycle.is_ready());
    state.close().await;
    ended.to_string()
}

#[tokio::test]
async fn a_job_that_panics_ends_the_server() {
    static DIE: Notify = Notify::const_new();
    let run = |_: JobContext, _: Duration| -> Running {
        Box::pin(async {
            DIE.notified().await;
            panic!("nothing left to do");
        })
    };
    assert_eq!(dies_of(run, &DIE).await, "job added panicked: nothing left to do");
}

/// A statement over a connection whose network is gone has no end of its own.
#[tokio::test]
async fn a_round_that_hangs_ends_and_is_retried() {
    static DIE: Notify = Notify::const_new();
    let run = |_: JobContext, _: Duration| -> Running {
        Box::pin(async move {
            const SECOND: Duration = Duration::from_secs(1);
            let hung = within(SECOND, std::future::pending::<Result<()>>()).await.unwrap_err();
            let next = within(SECOND, async { Ok(2) }).await.unwrap();
            DIE.notified().await;
            panic!("{:?}, then {next}", hung.reason());
        })
    };
    assert_eq!(dies_of(run, &DIE).await, "job added panicked: DatabaseUnavailable, then 2");
}

#[tokio::test]
async fn a_job_that_returns_early_ends_the_server() {
    static DIE: Notify = Notify::const_new();
    let run = |_: JobContext, _: Duration| -> Running { Box::pin(DIE.notified()) };
    assert_eq!(dies_of(run, &DIE).await, "job added ended early");
}

#[tokio::test]
async fn a_server_that_is_asked_to_stop_ends_without_an_error() {
    let mut server = TestServer::start().await;
    server.shut_down();
    server.serving.take().unwrap().await.unwrap().unwrap();
    assert!(server.state.lifecycle.is_stopping() && !server.state.lifecycle.is_ready());
}
