//! Loads of tokens: those that wait for a connection are read together, and each gets what is its own.

use countersign::clock::random;
use countersign::db::distribution::Engine;
use countersign::db::tokens::principals::{LoadedWith, find};
use countersign::domain::tokens::policy::Ceilings;
use countersign::domain::values::ids::{OrgId, TokenId};
use countersign::domain::values::token_string::{TokenString, TokenStringKind};
use countersign::grpc::pb;
use sqlx::{AssertSqlSafe, Connection as _};
use tokio::task::JoinSet;
use tonic_types::StatusExt as _;
use uuid::Uuid;

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
    let db = server.database().pool();
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

/// In an org of many tokens beside hundreds of small ones, which a plan for all of them has in mind.
#[tokio::test]
async fn a_load_reads_its_own_tokens_alone_however_many_their_org_has() {
    const MANY: i64 = 2_000;
    const LOADED: i64 = 16;
    let server = TestServer::start().await;
    let org = server.org().await;
    let (_, client) = server.account(&org.id, "bot", &[("invoices.read", "*")]).await;
    client.exchange().await.unwrap();
    let org_id = OrgId::parse(&org.id).unwrap();
    let mut taken = server.state.pools.loads.take().await.unwrap();
    let db = &mut *taken;
    // Copies of its token, with other ids.
    let copied = "create temporary table copies as
         select t.token_id as of, gen_random_uuid() as id from tokens t, generate_series(1, $2)
         where t.org_id = $1 and t.token_id = (select max(token_id::text)::uuid from tokens where org_id = $1)";
    sqlx::query(copied).bind(org_id.uuid()).bind(MANY).execute(&mut *db).await.unwrap();
    for (table, column) in
        [("credentials", "credential_id"), ("tokens", "token_id"), ("token_secrets", "token_id")]
    {
        let copy = format!(
            "insert into {table} select (jsonb_populate_record(r, jsonb_build_object('{column}', c.id))).*
             from copies c join {table} r on r.{column} = c.of;
             alter table {table} alter org_id set (n_distinct = 500); analyze {table}"
        );
        sqlx::raw_sql(AssertSqlSafe(copy)).execute(&mut *db).await.unwrap();
    }
    sqlx::raw_sql("set plan_cache_mode = force_generic_plan").execute(&mut *db).await.unwrap();
    let ids: Vec<Uuid> =
        sqlx::query_scalar("select id from copies limit $1").bind(LOADED).fetch_all(&mut *db).await.unwrap();
    let ids: Vec<TokenId> = ids.into_iter().map(TokenId::from).collect();
    let (ceilings, master) = (Ceilings::default(), &server.state.keyring.master);
    let mut tx = db.begin().await.unwrap();
    let rows = "select sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint from pg_stat_xact_user_tables
                where relname in ('credentials', 'tokens', 'token_secrets')";
    let before: i64 = sqlx::query_scalar(rows).fetch_one(&mut *tx).await.unwrap();
    let found =
        find(&mut tx, Engine::Plain, &ids, None, LoadedWith { ceilings: &ceilings, master }).await.unwrap();
    let after: i64 = sqlx::query_scalar(rows).fetch_one(&mut *tx).await.unwrap();
    assert!(found.len() == ids.len() && found.iter().all(|found| matches!(found, Ok(Some(_)))));
    let read = after - before;
    assert!((3 * LOADED..=5 * LOADED).contains(&read), "{read} rows were read");
}
