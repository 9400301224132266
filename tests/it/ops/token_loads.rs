//! Loads of tokens that wait for a connection are read together: each gets what is its own.

use countersign::clock::random;
use countersign::domain::values::ids::{OrgId, TokenId};
use countersign::domain::values::token_string::{TokenString, TokenStringKind};
use countersign::grpc::pb;
use tokio::task::JoinSet;
use tonic_types::StatusExt as _;

use crate::harness::{Client, TestServer, until};

/// More than two connections read at once.
const EACH: usize = 10;

/// Who an exchange is for, or why it was refused.
async fn exchanged(client: &Client, token: String) -> Result<Vec<String>, String> {
    let request = pb::ExchangeTokenRequest { subject_token: Some(token), ..Default::default() };
    match client.tokens().exchange_token(request).await {
        Ok(answer) => Ok(answer.into_inner().scopes),
        Err(status) => {
            Err(status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default())
        }
    }
}

#[tokio::test]
async fn loads_that_wait_get_their_own_whatever_the_others_get() {
    let server = TestServer::start().await;
    let (one, other, damaged) = (server.org().await, server.org().await, server.org().await);
    let mut asked = Vec::new();
    for n in 0..EACH {
        for (org, permission) in [(&one, format!("one.n{n}")), (&other, format!("other.n{n}"))] {
            let (_, client) = server.account(&org.id, &format!("bot{n}"), &[(&permission, "*")]).await;
            asked.push((client.token().to_owned(), Ok(vec![permission])));
        }
        let (_, client) = server.account(&damaged.id, &format!("bot{n}"), &[]).await;
        asked.push((client.token().to_owned(), Err("INTERNAL".to_owned())));
        let unknown = TokenId::from_u128(u128::from_be_bytes(random()));
        let unknown = TokenString::new(TokenStringKind::SecretToken, unknown, random());
        asked.push((unknown.expose().to_owned(), Err("TOKEN_INVALID".to_owned())));
    }
    // What the org allows of tokens cannot be read any more.
    let policy = "update orgs set token_policy = '{\"allowed_audiences\": 7}' where org_id = $1";
    let db = server.state.db.pool();
    sqlx::query(policy).bind(OrgId::parse(&damaged.id).unwrap().uuid()).execute(&db).await.unwrap();
    server.state.principals.clear();
    // Without a credential of its own, which would be loaded first.
    let client = server.anonymous();
    // All wait for the same lock, on as many connections as there are.
    let mut lock = db.begin().await.unwrap();
    sqlx::raw_sql("lock table credentials in access exclusive mode").execute(&mut *lock).await.unwrap();
    let before = server.state.principals.looks();
    let mut calls = JoinSet::new();
    for (token, expected) in asked.clone() {
        let client = client.clone();
        calls.spawn(async move { (exchanged(&client, token).await, expected) });
    }
    until(async || server.state.principals.looks() >= before + asked.len() as u64).await;
    lock.rollback().await.unwrap();
    while let Some(call) = calls.join_next().await {
        let (answer, expected) = call.unwrap();
        // On a busy machine the lock may have lasted longer than a load may.
        if answer != Err("DATABASE_UNAVAILABLE".to_owned()) {
            assert_eq!(answer, expected);
        }
    }
    // And each by itself.
    for (token, expected) in asked {
        until(async || exchanged(&client, token.clone()).await != Err("DATABASE_UNAVAILABLE".to_owned()))
            .await;
        assert_eq!(exchanged(&client, token).await, expected);
    }
    until(async || server.state.pools.loads.count().1 == 0).await;
}
