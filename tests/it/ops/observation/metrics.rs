//! What the metrics count, and that no text of a request becomes a label.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use countersign::config::ServerLimits;
use countersign::grpc::pb;
use countersign::jobs::table;
use sqlx::{Connection as _, PgConnection};
use tokio::task::JoinSet;
use tonic::Code;

use crate::harness::{
    Client, LIMITS, Metrics, PASSWORD, Scrape, SmtpServer, TestServer, call_named, call_raw, http, http_get,
    refused, until,
};

const EXCHANGE_PATH: &str = "/countersign.v1.TokenService/ExchangeToken";
const EXCHANGE: [(&str, &str); 1] = [("method", "countersign.v1.TokenService/ExchangeToken")];

#[tokio::test]
async fn calls_are_counted_by_method_and_reason() {
    let server = TestServer::start().await;
    let metrics = Metrics::of(&server).await;
    let count = async || metrics.value("countersign_rpc_duration_seconds_count", &EXCHANGE).await;
    let before = count().await;
    for _ in 0..3 {
        server.operator.exchange().await.unwrap();
    }
    refused(server.client("guess").exchange().await, Code::Unauthenticated, "TOKEN_INVALID");
    let scrape = metrics.scrape().await;
    assert_eq!(scrape.value("countersign_rpc_duration_seconds_count", &EXCHANGE), before + 4.0);
    let infinite = [EXCHANGE[0], ("le", "+Inf")];
    assert_eq!(scrape.value("countersign_rpc_duration_seconds_bucket", &infinite), before + 4.0);
    let reason = [EXCHANGE[0], ("code", "UNAUTHENTICATED"), ("reason", "TOKEN_INVALID")];
    assert_eq!(scrape.value("countersign_rpc_errors_total", &reason), 1.0);
    assert_eq!(scrape.value("countersign_exchanges_total", &[("credential", "SECRET")]), before + 3.0);
    // Found in memory, but for the first time, and where nothing was heard of the feed for a while.
    let loads = scrape.value("countersign_cache_loads_total", &[("outcome", "found")]);
    assert!(loads >= 1.0 && scrape.value("countersign_cache_hits_total", &[]) + loads >= 3.0);
    assert!(scrape.value("countersign_cache_entries", &[]) >= 1.0);
}

/// Also those outside the pools, which poll the feed and listen to it.
#[tokio::test]
async fn the_connections_that_the_database_sees_are_those_that_are_counted() {
    let server = TestServer::start().await;
    let metrics = Metrics::of(&server).await;
    let mut observer = PgConnection::connect_with(&server.database().options()).await.unwrap();
    let seen = "select count(*) from pg_stat_activity
                where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()";
    let count = |scrape: &Scrape, pool: &str| {
        let of =
            |state| scrape.value("countersign_database_connections", &[("pool", pool), ("state", state)]);
        of("idle") + of("used")
    };
    // One may be opened or closed between the two.
    until(async || {
        let scrape = metrics.scrape().await;
        let seen: i64 = sqlx::query_scalar(seen).fetch_one(&mut observer).await.unwrap();
        let of_feed = count(&scrape, "feed");
        assert!(of_feed <= scrape.value("countersign_database_connections_limit", &[("pool", "feed")]));
        of_feed >= 2.0 && count(&scrape, "main") + count(&scrape, "loads") + of_feed == seen as f64
    })
    .await;
}

/// A client that goes before it is answered is counted, and no answer is.
#[tokio::test]
async fn abandoned_calls_are_counted() {
    const LIST: [(&str, &str); 1] = [("method", "countersign.v1.OrgService/ListOrgs")];
    let server = TestServer::start().await;
    let metrics = Metrics::of(&server).await;
    // What was changed before drops nothing of what is cached then.
    server.hear_all().await;
    server.operator.caller().await.unwrap();
    // No list is answered meanwhile.
    let mut other = PgConnection::connect_with(&server.database().options()).await.unwrap();
    let mut lock = other.begin().await.unwrap();
    sqlx::query("lock table orgs in access exclusive mode").execute(&mut *lock).await.unwrap();
    // Each gives up the call before it: one of them has begun by then.
    let mut calls = JoinSet::new();
    until(async || {
        calls.abort_all();
        let operator = server.operator.clone();
        calls.spawn(async move { operator.orgs().list_orgs(pb::ListOrgsRequest::default()).await });
        metrics.value("countersign_rpc_abandoned_total", &LIST).await >= 1.0
    })
    .await;
    assert_eq!(metrics.value("countersign_rpc_duration_seconds_count", &LIST).await, 0.0);
}

fn series(scrape: &Scrape) -> BTreeSet<(String, BTreeMap<String, String>)> {
    scrape.samples.iter().map(|(name, labels, _)| (name.clone(), labels.clone())).collect()
}

/// A flood of what no server knows adds no series, and leaves no trace of its words.
#[tokio::test]
async fn no_text_of_a_request_becomes_a_label() {
    let server = TestServer::start().await;
    let metrics = Metrics::of(&server).await;
    let flood = async |word: &str| {
        let named = format!("/countersign.v1.TokenService/{word}");
        let _ = call_named(&server.operator, &named, &[], word).await;
        let _ = call_named(&server.operator, &format!("/{word}.v1.Service/Call"), &[], word).await;
        let _ = call_named(&server.operator, EXCHANGE_PATH, word.as_bytes(), word).await;
        let _ = server.client(word).exchange().await;
        let _ = server.operator.orgs().get_org(pb::GetOrgRequest { org_id: word.into() }).await;
        let _ = http_get(&server.endpoint, &format!("/{word}?{word}={word}")).await;
        let _ = metrics.get(&format!("/{word}")).await;
        let request = format!(
            "POST /{word} HTTP/1.1\r\nhost: {word}\r\nuser-agent: {word}\r\ntraceparent: {word}\r\n\
             grpc-timeout: {word}\r\n{word}: {word}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        );
        let _ = http(&server.endpoint, &request).await;
    };
    flood("aardvark").await;
    let before = metrics.scrape().await;
    for n in 0..100 {
        flood(&format!("zyzzyva{n}")).await;
    }
    let answer = metrics.get("/metrics").await;
    assert!(!answer.body.contains("zyzzyva") && !answer.body.contains("aardvark"));
    let after = metrics.scrape().await;
    let new: Vec<_> = series(&after).difference(&series(&before)).cloned().collect();
    assert!(new.is_empty(), "{new:?}");
    let unknown = [("method", "unknown"), ("reason", "METHOD_UNKNOWN")];
    assert_eq!(after.value("countersign_rpc_errors_total", &unknown), 202.0);
}

/// All that a server does once, so that each family has samples.
async fn everything(server: &TestServer, smtp: &SmtpServer) {
    let _ = server.client("guess").exchange().await;
    let org = server.org().await;
    let account = server.person(&org.id, "person@example.com", &[]).await;
    server.give_password(&account, PASSWORD).await;
    let _ = server.login("person@example.com", "wrong", None).await;
    let _ = server.session("person@example.com").await;
    http_get(&server.endpoint, "/").await;
    let _ = call_raw(&server.operator, "/nothing", Vec::new()).await;
    let request = pb::RequestPasswordResetRequest { email: "person@example.com".into() };
    server.anonymous().accounts().request_password_reset(request).await.unwrap();
    smtp.has_had(1).await;
}

/// `docs/reference/metrics.md` lists what `/metrics` serves: names, types, labels.
#[tokio::test]
async fn the_reference_lists_the_metrics() {
    let smtp = SmtpServer::start().await;
    let server = TestServer::with_mail(&smtp, LIMITS).await;
    let metrics = Metrics::of(&server).await;
    everything(&server, &smtp).await;
    server.state.metrics.rpcs.all()[0].abandoned.one();
    // The queue is read by a job.
    let queue = |(name, ..): &(String, _, f64)| name == "countersign_email_queue";
    until(async || metrics.scrape().await.samples.iter().any(queue)).await;
    let served = metrics.scrape().await;
    let served: BTreeMap<_, _> = served
        .families
        .iter()
        .map(|(name, family)| {
            let suffix = match family.kind.as_str() {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            assert!(name.starts_with("countersign_"), "{name}");
            (format!("{name}{suffix}"), (family.kind.clone(), family.labels.clone()))
        })
        .collect();
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/metrics.md")).unwrap();
    let mut listed = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("| `countersign_")) {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, meaning] = cells[..] else { panic!("{line}") };
        let labels = labels.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        assert!(meaning.len() > 10, "{line}");
        let name = name.trim_matches('`').to_owned();
        assert!(listed.insert(name, (kind.to_owned(), labels)).is_none(), "{line}");
    }
    for (name, family) in &served {
        assert_eq!(listed.get(name), Some(family), "what docs/reference/metrics.md says of {name}");
    }
    assert_eq!(listed.keys().collect::<Vec<_>>(), served.keys().collect::<Vec<_>>());
}

/// Each job of the table says when it has succeeded: one that does not would be late for ever.
#[tokio::test]
async fn every_job_says_that_it_succeeded() {
    let smtp = SmtpServer::start().await;
    let limits = ServerLimits { last_use_interval: Duration::from_secs(1), ..LIMITS };
    let server = TestServer::with_mail(&smtp, limits).await;
    let metrics = Metrics::of(&server).await;
    for job in table(LIMITS.last_use_interval) {
        let success = [("name", job.name), ("outcome", "success")];
        until(async || metrics.value("countersign_job_runs_total", &success).await > 0.0).await;
        let last =
            metrics.value("countersign_job_last_success_timestamp_seconds", &[("name", job.name)]).await;
        assert!(last > 0.0, "{}", job.name);
    }
}

/// A client with another connection.
#[tokio::test]
async fn connections_are_counted_while_they_are_open() {
    let server = TestServer::start().await;
    let metrics = Metrics::of(&server).await;
    let open = async || metrics.value("countersign_connections", &[]).await;
    let before = open().await;
    let endpoint = tonic::transport::Endpoint::from_shared(server.endpoint.clone()).unwrap();
    let other = Client { channel: endpoint.connect().await.unwrap(), bearer: None };
    let _ = other.caller().await;
    assert_eq!(open().await, before + 1.0);
    drop(other);
    until(async || open().await == before).await;
    assert!(metrics.value("countersign_connections_limit", &[]).await > 1.0);
}
