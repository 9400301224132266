//! The background jobs are supervised: when one dies, its server exits.

use std::sync::Arc;
use std::time::Duration;

use countersign::clock::{Clock, Jitter};
use countersign::commands::dev::connect_options;
use countersign::commands::{bootstrap, keys};
use countersign::config::{AccessLogLevel, SigningAlgorithm, WebUrl};
use countersign::crypto::seal::MasterKeys;
use countersign::db::schema;
use countersign::domain::values::client_address::ClientAddress;
use countersign::flows::access_log::AccessLog;
use countersign::jobs::{AtStop, Job, JobContext, Jobs, Limits, Running, table};
use countersign::mail::EmailDelivery;
use countersign::metrics::{self, Metrics};
use countersign::server;
use countersign::state::{Pools, State};
use sqlx::{Connection as _, PgConnection};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tonic_health::server::health_reporter;

use crate::harness::{
    LIMITS, Proxy, Scratch, SmtpServer, TestServer, http_get, read_keys, start_postgres, until,
};

/// More than there are jobs, so that none waits for another one's.
const CONNECTIONS: u32 = 24;

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

/// A statement over a connection whose network is gone has no end of its own: each round has one.
#[tokio::test]
async fn every_round_ends_where_the_network_is_gone() {
    let scratch = Scratch::new("jobs");
    let postgres = start_postgres(&scratch.path("data")).await;
    let proxy = Proxy::to(&postgres).await;
    let mut direct = PgConnection::connect_with(&connect_options(&postgres, "postgres")).await.unwrap();
    schema::migrate(&mut direct).await.unwrap();
    direct.close().await.unwrap();
    let master = MasterKeys::new_file();
    let state = State::open(
        Pools::open(&proxy.options("postgres"), CONNECTIONS, 1, Default::default()),
        read_keys(&master),
        SigningAlgorithm::EdDsa,
        "https://jobs.example.org".parse().unwrap(),
        LIMITS.credentials(),
        Clock::default(),
    );
    let state = state.await.unwrap();
    // A use that is to be written, and a secret that is to be hashed under another pepper.
    let mut token = String::new();
    let keep = |text: &str| {
        token.push_str(text);
        Ok(())
    };
    bootstrap::bootstrap(&state, "test", bootstrap::TOKEN_LIFETIME, keep).await.unwrap();
    keys::new_pepper(&state.db, &read_keys(&master), &state.clock).await.unwrap();
    state.keyring.reload().await.unwrap();
    let now = state.clock.now();
    let found = state.authenticator.by_secret(&token, ClientAddress::UNKNOWN, now).await.unwrap();
    state.authenticator.record_use(&found, None, now);

    let mut of_feed: Vec<_> = table(Duration::from_millis(50));
    of_feed.iter_mut().for_each(|job| job.period = job.period.min(Duration::from_millis(50)));
    // The reader of the feed finds out, and then the others do not ask any more: it comes last.
    let others: Vec<_> = of_feed.extract_if(.., |job| job.name != "feed_follower").collect();
    let smtp = SmtpServer::start().await;
    let delivery =
        EmailDelivery { mailer: Some(smtp.mailer()), ..EmailDelivery::closed(WebUrl::from(&state.issuer)) };
    let start = |jobs: Vec<Job>| {
        let (stop, stopped) = watch::channel(());
        let rows = Metrics::default();
        let rows = rows.jobs.rows(jobs.iter().map(|job| (job.name, job.period)), state.clock.now());
        let context = JobContext {
            state: state.clone(),
            health: health_reporter().0,
            services: &[],
            delivery: delivery.clone(),
            access_log: Arc::new(AccessLog::new(AccessLogLevel::All, Arc::new([]))),
            figures: (rows.clone(), 0),
            feed_listen: true,
            // So that another one is due.
            signing_key_lifetime: Duration::ZERO,
            jitter: Jitter::default(),
            limits: Limits { short: Duration::from_secs(1), long: Duration::from_secs(1) },
            tls: None,
            stop: stopped,
        };
        (Jobs::start(jobs, &context, stop), rows)
    };
    // Connections that were used a moment ago: what is sent over them is swallowed.
    for db in [&state.pools.main, &state.pools.feed] {
        let mut open = Vec::new();
        for _ in 0..db.max_connections() {
            open.push(db.acquire().await.unwrap());
        }
    }
    proxy.cut();
    // They have nothing to ask the database for here.
    let without = ["health", "reload_certificates", "issuer_keys"];
    for jobs in [others, of_feed] {
        let (_running, rows) = start(jobs);
        until(async || {
            let ended = |job: &metrics::Job| match job.name {
                name if without.contains(&name) => job.successes.get() > 0,
                _ => job.failures.get() > 0,
            };
            rows.iter().all(ended)
        })
        .await;
    }
    drop(proxy);
    tokio::task::spawn_blocking(move || postgres.stop_immediately()).await.unwrap();
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
