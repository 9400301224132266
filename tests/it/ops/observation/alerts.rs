//! Each alert's condition is made on a real server, and the metric that the alert asks for moves.
//!
//! That the expression of the alert then fires is tested with `promtool` (`deploy/observability/alerts-test.yaml`).

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use countersign::config::{ClientAuth, ConnectionLimits, ServerLimits};
use countersign::crypto::password_places::Asker;
use countersign::domain::access::work::Work;
use countersign::domain::values::client_address::{ClientAddress, ForwardedHeaders};
use countersign::domain::values::ids::{OrgId, TokenId};
use countersign::grpc::pb;
use countersign::state::shares::{Group, MAX_WAITING, Member};
use sqlx::{Connection as _, PgConnection};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::Code;

use crate::harness::{
    LIMITS, Manner, Metrics, PASSWORD, SmtpServer, TestServer, TlsFiles, refused, token_for, until,
};

/// The alerts whose condition was seen.
type Seen = Vec<&'static str>;

#[tokio::test]
async fn the_condition_of_each_alert_moves_its_metric() {
    let mut seen = BTreeSet::new();
    seen.extend(Box::pin(stopping()).await);
    seen.extend(Box::pin(outage()).await);
    seen.extend(Box::pin(held_back()).await);
    seen.extend(Box::pin(full_pool()).await);
    seen.extend(Box::pin(full_share()).await);
    seen.extend(Box::pin(slow()).await);
    seen.extend(Box::pin(failing()).await);
    seen.extend(Box::pin(guessing()).await);
    seen.extend(Box::pin(busy_passwords()).await);
    seen.extend(Box::pin(mail()).await);
    seen.extend(Box::pin(other_master_keys()).await);
    seen.extend(Box::pin(expiring_certificate()).await);
    seen.extend(Box::pin(full_of_connections()).await);
    seen.extend(Box::pin(small_cache()).await);
    let alerts = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/observability/alerts.yaml");
    let alerts = fs::read_to_string(alerts).unwrap();
    let alerts: BTreeSet<&str> =
        alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert_eq!(seen, alerts);
}

async fn connect(server: &TestServer) -> PgConnection {
    PgConnection::connect_with(&server.database().options()).await.unwrap()
}

async fn stopping() -> Seen {
    let mut server = TestServer::start().await;
    let metrics = Metrics::of(&server).await;
    server.shut_down();
    until(async || metrics.value("countersign_ready", &[]).await == 0.0).await;
    let address = metrics.endpoint.strip_prefix("http://").unwrap().to_owned();
    drop(metrics);
    until(async || TcpStream::connect(&address).await.is_err()).await;
    vec!["CountersignNotReady", "CountersignDown"]
}

/// The database does not answer: nothing is heard, no key is rotated, and jobs fail.
async fn outage() -> Seen {
    let server = TestServer::at_standing_time(LIMITS).await;
    let metrics = Metrics::of(&server).await;
    assert_eq!(metrics.value("countersign_database_up", &[]).await, 1.0);
    server.state.pools.close().await;
    until(async || metrics.value("countersign_database_up", &[]).await == 0.0).await;
    until(async || metrics.value("countersign_feed_age_seconds", &[]).await > 2.0).await;
    server.state.clock.advance(LIMITS.signing_key_lifetime + Duration::from_hours(1));
    let scrape = metrics.scrape().await;
    let age = scrape.value("countersign_signing_key_age_seconds", &[("state", "active")]);
    let lifetime = scrape.value("countersign_signing_key_lifetime_seconds", &[]);
    assert!(age > lifetime + 900.0, "{age} {lifetime}");
    assert_eq!(scrape.value("countersign_signing_keys", &[("state", "next")]), 0.0);
    let now = server.state.clock.now().unix_timestamp() as f64;
    let purge = [("name", "purge")];
    let late = now - scrape.value("countersign_job_last_success_timestamp_seconds", &purge);
    assert!(late > 3.0 * scrape.value("countersign_job_period_seconds", &purge) + 300.0, "{late}");
    let failed = [("name", "feed_follower"), ("outcome", "failure")];
    assert!(scrape.value("countersign_job_runs_total", &failed) > 0.0);
    vec![
        "CountersignDatabaseDown",
        "CountersignFeedBehind",
        "CountersignSigningKeyOverdue",
        "CountersignJobLate",
    ]
}

async fn held_back() -> Seen {
    let server = TestServer::start().await;
    let metrics = Metrics::of(&server).await;
    let mut other = connect(&server).await;
    let mut open = other.begin().await.unwrap();
    sqlx::query("select pg_current_xact_id()").execute(&mut *open).await.unwrap();
    server.org().await;
    until(async || metrics.value("countersign_feed_cursor_lag_seconds", &[]).await > 0.0).await;
    drop(open);
    vec!["CountersignFeedHeldBack"]
}

async fn full_pool() -> Seen {
    let server = TestServer::start().await;
    let metrics = Metrics::of(&server).await;
    let mut held = Vec::new();
    until(async || {
        held.extend(server.state.db.acquire().await.ok());
        let scrape = metrics.scrape().await;
        let used = scrape.value("countersign_database_connections", &[("pool", "main"), ("state", "used")]);
        used >= 0.95 * scrape.value("countersign_database_connections_limit", &[("pool", "main")])
    })
    .await;
    vec!["CountersignPoolFull"]
}

/// One tenant floods.
async fn full_share() -> Seen {
    let server = TestServer::start().await;
    let metrics = Metrics::of(&server).await;
    let org = server.org().await;
    let credential = org.owner.caller().await.unwrap().credential_id;
    let (group, member) = (
        Group::Org(OrgId::parse(&org.id).unwrap()),
        Member::Credential(TokenId::parse(&credential).unwrap().into()),
    );
    let mut held = Vec::new();
    // A member has half of the share at most.
    let other = Member::at(None);
    for nth in 0..server.state.shares.limit(Work::Reads) {
        let holder = if nth % 2 == 0 { member } else { other };
        held.push(server.state.shares.place(group, holder, Work::Reads).await.unwrap());
    }
    let mut waiting = JoinSet::new();
    for _ in 0..MAX_WAITING {
        let shares = server.state.shares.clone();
        waiting.spawn(async move { shares.place(group, member, Work::Reads).await.map(drop) });
    }
    let reads = [("work", "reads")];
    until(async || metrics.value("countersign_share_waiting", &reads).await == MAX_WAITING as f64).await;
    refused(org.owner.caller().await, Code::ResourceExhausted, "OVERLOADED");
    let scrape = metrics.scrape().await;
    assert_eq!(scrape.value("countersign_share_refused_total", &reads), 1.0);
    assert!(scrape.value("countersign_rpc_errors_total", &[("reason", "OVERLOADED")]) >= 1.0);
    drop(held);
    while let Some(place) = waiting.join_next().await {
        place.unwrap().unwrap();
    }
    until(async || metrics.value("countersign_share_waiting", &reads).await == 0.0).await;
    vec!["CountersignShareFull", "CountersignOverloaded"]
}

async fn slow() -> Seen {
    let server = TestServer::start().await;
    let metrics = Metrics::of(&server).await;
    let org = server.org().await;
    let token = server.managing_token(&org.id, &org.owner_id).await;
    let exchange = [("method", "countersign.v1.TokenService/ExchangeToken")];
    let mut other = connect(&server).await;
    let mut locked = other.begin().await.unwrap();
    sqlx::query("lock table credentials in access exclusive mode").execute(&mut *locked).await.unwrap();
    let client = server.client(token);
    let slow = tokio::spawn(async move { client.exchange().await });
    let loads = [("pool", "loads"), ("state", "used")];
    until(async || metrics.value("countersign_database_connections", &loads).await >= 1.0).await;
    drop(locked);
    let _ = slow.await.unwrap();
    let scrape = metrics.scrape().await;
    assert_eq!(scrape.value("countersign_rpc_duration_seconds_count", &exchange), 1.0);
    assert!(scrape.value("countersign_rpc_duration_seconds_sum", &exchange) > 0.0);
    vec!["CountersignSlowExchanges"]
}

async fn failing() -> Seen {
    let server = TestServer::start().await;
    let metrics = Metrics::of(&server).await;
    server.operator.caller().await.unwrap();
    // What a query names is missing.
    let rename = "alter table orgs rename column slug to slug_gone";
    sqlx::query(rename).execute(&mut connect(&server).await).await.unwrap();
    let failed = [("method", "countersign.v1.OrgService/ListOrgs"), ("reason", "DATABASE_UNAVAILABLE")];
    until(async || {
        server.operator.orgs().list_orgs(pb::ListOrgsRequest::default()).await.unwrap_err();
        metrics.value("countersign_rpc_errors_total", &failed).await >= 1.0
    })
    .await;
    vec!["CountersignFailing"]
}

async fn guessing() -> Seen {
    let server = TestServer::start().await;
    let metrics = Metrics::of(&server).await;
    let org = server.org().await;
    let account = server.person(&org.id, "person@example.com", &[]).await;
    server.give_password(&account, PASSWORD).await;
    for _ in 0..8 {
        let _ = server.login("person@example.com", "wrong", None).await;
    }
    let scrape = metrics.scrape().await;
    assert!(scrape.value("countersign_password_attempts_total", &[("outcome", "wrong")]) >= 5.0);
    assert!(scrape.value("countersign_throttled_total", &[("what", "logins")]) >= 1.0);
    // Too many within the time in which they are counted.
    until(async || {
        let mut guesses = JoinSet::new();
        for _ in 0..200 {
            let guess = server.client("guess");
            guesses.spawn(async move { guess.exchange().await });
        }
        guesses.join_all().await;
        metrics.value("countersign_throttled_total", &[("what", "credentials")]).await >= 1.0
    })
    .await;
    assert!(metrics.value("countersign_rpc_errors_total", &[("reason", "TOKEN_INVALID")]).await >= 100.0);
    vec!["CountersignLoginAttack", "CountersignCredentialGuessing"]
}

async fn busy_passwords() -> Seen {
    let server = TestServer::start().await;
    let metrics = Metrics::of(&server).await;
    let places = &server.state.passwords.places;
    let stranger = Asker::Stranger(ClientAddress::of_request(
        "127.0.0.1".parse().unwrap(),
        &ForwardedHeaders::default(),
        &[],
    ));
    let mut waiting = JoinSet::new();
    let mut taken = Vec::new();
    until(async || {
        let place = places.clone();
        waiting.spawn(async move { place.take(stranger, 1).await });
        // Those that have a place keep it.
        while let Some(place) = waiting.try_join_next() {
            taken.push(place.unwrap().unwrap());
        }
        !places.have_room(stranger)
    })
    .await;
    let part = [("part", "strangers")];
    assert!(metrics.value("countersign_password_waiting", &part).await >= 1.0);
    assert!(metrics.value("countersign_password_places_used", &[]).await >= 1.0);
    let login = server.login("person@example.com", PASSWORD, None).await;
    refused(login, Code::ResourceExhausted, "OVERLOADED");
    assert_eq!(metrics.value("countersign_password_shed_total", &part).await, 1.0);
    vec!["CountersignPasswordsShed"]
}

async fn mail() -> Seen {
    let smtp = SmtpServer::start().await;
    let server = TestServer::with_mail(&smtp, LIMITS).await;
    let metrics = Metrics::of(&server).await;
    let org = server.org().await;
    let emails =
        async |outcome: &str| metrics.value("countersign_emails_total", &[("outcome", outcome)]).await;
    smtp.behave(Manner::Refuse("451 4.7.1 come back later\r\n"));
    server.user(&org, "later@example.com").await;
    until(async || emails("postponed").await >= 1.0).await;
    assert_eq!(emails("sent").await, 0.0);
    // Put off, it is not overdue until its time has come.
    let overdue = async |after: Duration| {
        let at = server.state.clock.now() + after;
        countersign::db::outbox::count_queue(&server.state.db, at).await.unwrap()[1].overdue_seconds
    };
    let put_off = "update outbox set next_time = next_time + interval '1 hour' where attempts > 0";
    sqlx::query(put_off).execute(&mut connect(&server).await).await.unwrap();
    assert_eq!(overdue(Duration::ZERO).await, Some(0.0));
    assert!(overdue(Duration::from_hours(2)).await.unwrap() > 900.0);
    // The queue is read now and then.
    let retried = [("state", "retried")];
    until(async || metrics.value("countersign_email_queue", &retried).await >= 1.0).await;
    smtp.behave(Manner::Refuse("550 5.1.1 no such mailbox\r\n"));
    server.user(&org, "never@example.com").await;
    until(async || emails("given_up").await >= 1.0).await;
    let given_up = [("state", "given_up")];
    until(async || metrics.value("countersign_email_queue", &given_up).await >= 1.0).await;
    vec!["CountersignMailDown", "CountersignMailGivenUp"]
}

async fn other_master_keys() -> Seen {
    let server = TestServer::start().await;
    let metrics = Metrics::of(&server).await;
    assert_eq!(metrics.value("countersign_keys_open", &[]).await, 1.0);
    let damage = "update signing_keys set sealed = decode('00', 'hex') where state = 'ACTIVE'";
    sqlx::query(damage).execute(&mut connect(&server).await).await.unwrap();
    server.state.keyring.reload().await.unwrap_err();
    assert_eq!(metrics.value("countersign_keys_open", &[]).await, 0.0);
    vec!["CountersignKeysDoNotOpen"]
}

async fn expiring_certificate() -> Seen {
    let files = TlsFiles::new("tls-expires");
    let server = TestServer::over_tls(&files, ClientAuth::None, None, LIMITS).await;
    let metrics = Metrics::of(&server).await;
    let scrape = metrics.scrape().await;
    let warning = scrape.value("countersign_tls_certificate_warning_timestamp_seconds", &[]);
    let expiry = scrape.value("countersign_tls_certificate_expiry_timestamp_seconds", &[]);
    let now = server.state.clock.now().unix_timestamp() as f64;
    assert!(now < warning && warning < expiry, "{now} {warning} {expiry}");
    vec!["CountersignCertificateExpires"]
}

async fn full_of_connections() -> Seen {
    let connections = ConnectionLimits { max: Some(3), ..LIMITS.connections };
    let server = TestServer::with_limits(ServerLimits { connections, ..LIMITS }).await;
    let metrics = Metrics::of(&server).await;
    let address = server.endpoint.strip_prefix("http://").unwrap();
    let mut open = Vec::new();
    until(async || {
        open.extend(TcpStream::connect(address).await.ok());
        metrics.value("countersign_connections_shed_total", &[("why", "gave_way")]).await >= 1.0
    })
    .await;
    let scrape = metrics.scrape().await;
    let limit = scrape.value("countersign_connections_limit", &[]);
    assert_eq!((scrape.value("countersign_connections", &[]), limit), (3.0, 3.0));
    vec!["CountersignConnectionsFull"]
}

async fn small_cache() -> Seen {
    let server = TestServer::with_limits(ServerLimits { cache_size: 32 << 10, ..LIMITS }).await;
    let metrics = Metrics::of(&server).await;
    let org = server.org().await;
    until(async || {
        let token = server.operator.tokens().create_token(token_for(&org.id, &org.owner_id)).await.unwrap();
        server.client(token.into_inner().secret).exchange().await.unwrap();
        metrics.value("countersign_cache_evictions_total", &[]).await >= 1.0
    })
    .await;
    let scrape = metrics.scrape().await;
    assert!(scrape.value("countersign_cache_loads_total", &[("outcome", "found")]) > 1.0);
    assert!(scrape.value("countersign_cache_size_bytes", &[]) <= (32 << 10) as f64);
    vec!["CountersignCacheTooSmall"]
}
