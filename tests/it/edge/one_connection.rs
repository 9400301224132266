//! Calls that share a connection: those that wait cost the others nothing.

use std::time::Duration;

use countersign::clock::random;
use countersign::domain::values::ids::TokenId;
use countersign::domain::values::token_string::{TokenString, TokenStringKind};
use countersign::grpc::pb;
use tokio::task::JoinSet;
use tonic::Request;

use crate::harness::{TestServer, until};

/// As many as a connection has at once, but for a few.
const HANGING: usize = 250;

fn exchange(token: &str) -> pb::ExchangeTokenRequest {
    pb::ExchangeTokenRequest { subject_token: Some(token.into()), ..Default::default() }
}

#[tokio::test]
async fn calls_that_wait_for_the_database_cost_others_of_their_connection_nothing() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (_, client) = server.account(&org.id, "bot", &[]).await;
    let (_, cold) = server.account(&org.id, "cold", &[]).await;
    client.tokens().exchange_token(exchange(client.token())).await.unwrap();
    // Every load waits for this.
    let mut lock = server.state.db.pool().begin().await.unwrap();
    sqlx::raw_sql("lock table credentials in access exclusive mode").execute(&mut *lock).await.unwrap();
    let before = server.state.principals.looks();
    let mut hanging = JoinSet::new();
    for nth in 0..HANGING {
        let id = TokenId::from_u128(u128::from_be_bytes(random()));
        let token = TokenString::new(TokenStringKind::SecretToken, id, random());
        let mut request = Request::new(exchange(token.expose()));
        if nth % 2 == 0 {
            // It ends while it is loaded, or before.
            request.set_timeout(Duration::from_millis(100));
        }
        let client = client.clone();
        hanging.spawn(async move { client.tokens().exchange_token(request).await });
    }
    until(async || server.state.principals.looks() >= before + HANGING as u64 / 2).await;
    // On the same connection.
    for _ in 0..20 {
        client.tokens().exchange_token(exchange(client.token())).await.unwrap();
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
    for _ in 0..HANGING {
        let client = client.clone();
        warm.spawn(async move { client.tokens().exchange_token(exchange(client.token())).await.is_ok() });
    }
    assert!(warm.join_all().await.into_iter().all(|answered| answered));
}
