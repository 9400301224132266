//! Calls that share a connection: those that wait cost the others nothing.

use std::time::Duration;

use countersign::clock::random;
use countersign::config::WebUrl;
use countersign::domain::values::ids::TokenId;
use countersign::domain::values::token_string::{TokenString, TokenStringKind};
use countersign::grpc::pb;
use countersign::mail::EmailDelivery;
use countersign::server::run_with_jobs;
use prost_types::FieldMask;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::{LIMITS, TestServer, connect, refused, token_for, until};

/// As many as a connection has at once, but for a few.
const HANGING: usize = 999;
/// Fewer than a client may leave unread, which a busy machine does not read at once.
const WARM: usize = 200;

fn exchange(token: &str) -> pb::ExchangeTokenRequest {
    pb::ExchangeTokenRequest { subject_token: Some(token.into()), ..Default::default() }
}

#[tokio::test]
async fn calls_that_wait_for_the_database_cost_others_of_their_connection_nothing() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (_, client) = server.account(&org.id, "bot", &[]).await;
    let (_, cold) = server.account(&org.id, "cold", &[]).await;
    // What was changed before drops nothing of what is cached then.
    server.hear_all().await;
    client.tokens().exchange_token(exchange(client.token())).await.unwrap();
    // Every load waits for this.
    let mut lock = server.database().pool().begin().await.unwrap();
    sqlx::raw_sql("lock table credentials in access exclusive mode").execute(&mut *lock).await.unwrap();
    let before = server.state.principals.looks();
    let mut hanging = JoinSet::new();
    for nth in 0..HANGING {
        let id = TokenId::from_u128(u128::from_be_bytes(random()));
        let token = TokenString::new(TokenStringKind::SecretToken, id, random());
        let mut request = Request::new(exchange(token.expose()));
        if nth % 10 == 0 {
            // It ends while it is loaded, or before.
            request.set_timeout(Duration::from_millis(100));
        }
        let client = client.clone();
        hanging.spawn(async move { client.tokens().exchange_token(request).await });
    }
    // Of these, 256 wait for the database at once. Others are refused, or come when some have ended.
    until(async || server.state.principals.looks() >= before + 250).await;
    // On the same connection.
    for _ in 0..20 {
        // Again where the feed fell behind on a busy machine: then what is cached is looked up, too.
        until(async || client.tokens().exchange_token(exchange(client.token())).await.is_ok()).await;
    }
    // Their client gives them up while they hang.
    hanging.abort_all();
    lock.rollback().await.unwrap();
    while let Some(answer) = hanging.join_next().await {
        assert!(answer.is_err() || answer.is_ok_and(|answer| answer.is_err()));
    }
    // Neither a permit nor a connection of the database is lost.
    until(async || server.state.pools.loads.count().1 == 0).await;
    until(async || cold.tokens().exchange_token(exchange(cold.token())).await.is_ok()).await;
    let mut warm = JoinSet::new();
    for _ in 0..WARM {
        let client = client.clone();
        warm.spawn(async move { client.tokens().exchange_token(exchange(client.token())).await.is_ok() });
    }
    assert!(warm.join_all().await.into_iter().all(|answered| answered));
}

/// 9999-12-31 23:58: the last minutes that there are. What ends later cannot be worked out.
const END: i64 = 253_402_300_680;

#[tokio::test]
async fn a_call_that_panics_is_answered_and_costs_no_other_of_its_connection() {
    let server = TestServer::at_standing_time(LIMITS).await;
    let org = server.org().await;
    let policy = pb::TokenPolicy { allow_endless: Some(true), ..Default::default() };
    let update_mask = Some(FieldMask { paths: vec!["allow_endless".into()] });
    let request = pb::UpdateTokenPolicyRequest {
        org_id: org.id.clone(),
        policy: Some(policy),
        update_mask,
        ..Default::default()
    };
    org.owner.orgs().update_token_policy(request).await.unwrap();
    let (account, _) = server.account(&org.id, "bot", &[]).await;
    let expiration = Some(pb::create_token_request::Expiration::NeverExpires(true));
    let request = pb::CreateTokenRequest { expiration, ..token_for(&org.id, &account.id) };
    let token = server.operator.tokens().create_token(request).await.unwrap().into_inner().secret;
    // A server without jobs, which have ends to work out as well.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (state, (stop, stopped)) = (server.state.clone(), oneshot::channel::<()>());
    let delivery = EmailDelivery::closed(WebUrl::from(&state.issuer));
    let stopped = Box::pin(async move { drop(stopped.await) });
    let serving = tokio::spawn(run_with_jobs(listener, state, LIMITS, delivery, Vec::new(), stopped));
    let client = connect(&endpoint, &token).await;
    client.exchange().await.unwrap();

    let mut health = HealthClient::new(client.channel.clone());
    let mut watched = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert!(watched.message().await.unwrap().is_some());
    let left = END - server.state.clock.now().unix_timestamp();
    server.state.clock.advance(Duration::from_secs(left as u64));
    for _ in 0..3 {
        let refusal = refused(client.exchange().await, Code::Internal, "INTERNAL");
        assert!(!refusal.message().contains("panic"), "{refusal:?}");
        // The stream that is open and the next calls of the connection go on.
        client.tokens().get_json_web_key_set(pb::GetJsonWebKeySetRequest {}).await.unwrap();
    }
    let is_open = tokio::select! {
        biased;
        _ = watched.message() => false,
        () = std::future::ready(()) => true,
    };
    assert!(is_open, "the stream ended");
    stop.send(()).unwrap();
    // The server says so at its end: nothing ended the stream before.
    while let Ok(Some(_)) = watched.message().await {}
    serving.await.unwrap().unwrap();
}
