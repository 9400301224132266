//! Loads of tokens: those that wait for a connection are read together, and each gets what is its own.

use countersign::clock::random;
use countersign::db::distribution::Engine;
use countersign::db::tokens::principals::{Found, LoadedWith, find};
use countersign::domain::access::member::Member;
use countersign::domain::tokens::policy::Ceilings;
use countersign::domain::values::client_address::ClientAddress;
use countersign::domain::values::ids::{OrgId, TokenId};
use countersign::domain::values::kinds::TokenKind;
use countersign::domain::values::token_string::{TokenString, TokenStringKind};
use countersign::error::Reason;
use countersign::grpc::pb;
use sqlx::{AssertSqlSafe, Connection as _};
use time::{OffsetDateTime, UtcDateTime};
use tokio::task::JoinSet;
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::harness::{Client, LIMITS, TestServer, by_id, rotate_token, token_for, until};

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

#[tokio::test]
async fn a_load_does_not_wait_for_those_that_were_given_up() {
    const GIVEN_UP: usize = 60;
    let server = TestServer::start().await;
    let org = server.org().await;
    server.account(&org.id, "bot", &[("invoices.read", "*")]).await;
    let db = server.database().pool();
    let query = "select max(token_id::text)::uuid from tokens where org_id = $1";
    let known: Uuid =
        sqlx::query_scalar(query).bind(OrgId::parse(&org.id).unwrap().uuid()).fetch_one(&db).await.unwrap();
    server.state.principals.clear();
    let mut lock = db.begin().await.unwrap();
    sqlx::raw_sql("lock table credentials in access exclusive mode").execute(&mut *lock).await.unwrap();
    let load = |id: TokenId| {
        let principals = server.state.principals.clone();
        async move { principals.credential(id.into(), ClientAddress::UNKNOWN).await.map(|found| found.is_some()) }
    };
    let before = server.state.principals.looks();
    let mut given_up = JoinSet::new();
    for _ in 0..GIVEN_UP {
        given_up.spawn(load(TokenId::from_u128(u128::from_be_bytes(random()))));
    }
    until(async || server.state.principals.looks() >= before + GIVEN_UP as u64).await;
    // All connections are busy with the first of them; the others wait, and end before they are read.
    until(async || server.state.pools.loads.count().1 == LIMITS.database_load_connections as usize).await;
    given_up.shutdown().await;
    let behind = tokio::spawn(load(TokenId::from(known)));
    until(async || server.state.principals.looks() > before + GIVEN_UP as u64).await;
    lock.rollback().await.unwrap();
    assert!(matches!(behind.await.unwrap(), Ok(true)));
}

/// What a load found of a token, as far as it can be compared.
type Seen = (Member, TokenKind, Vec<(i32, Option<OffsetDateTime>)>, bool, bool, UtcDateTime);

fn seen(found: Found) -> Result<Option<Seen>, Reason> {
    let found = found.map_err(|error| error.reason())?;
    Ok(found.map(|found| {
        let secrets = found.secrets.iter().map(|secret| (secret.number, secret.expire_time)).collect();
        (found.account, found.kind, secrets, found.may_manage_tokens, found.revoked, found.last_use)
    }))
}

#[tokio::test]
async fn tokens_are_found_alike_with_and_without_a_cluster() {
    let server = TestServer::start().await;
    let (one, other, damaged) = (server.org().await, server.org().await, server.org().await);
    let (mut ids, mut unknown) = (Vec::new(), Vec::new());
    for org in [&one, &other, &damaged] {
        for name in ["a", "b"] {
            let (account, _) = server.account(&org.id, name, &[("invoices.read", "*")]).await;
            let mut tokens = org.owner.tokens();
            for _ in 0..2 {
                let made = tokens.create_token(token_for(&org.id, &account.id)).await.unwrap().into_inner();
                ids.push(made.token.unwrap().id);
            }
            let [.., rotated, revoked] = &ids[..] else { panic!("two were made") };
            tokens.rotate_token(rotate_token(&org.id, rotated, Some(3_600))).await.unwrap();
            tokens.revoke_token(by_id(&org.id, revoked)).await.unwrap();
        }
        let made = org.owner.tokens().create_token(token_for(&org.id, &org.owner_id)).await.unwrap();
        ids.push(made.into_inner().token.unwrap().id);
        unknown.push(TokenId::from_u128(u128::from_be_bytes(random())));
    }
    let ids: Vec<TokenId> = ids.iter().map(|id| TokenId::parse(id).unwrap()).chain(unknown).collect();
    let db = server.database().pool();
    let policy = "update orgs set token_policy = '{\"allowed_audiences\": 7}' where org_id = $1";
    sqlx::query(policy).bind(OrgId::parse(&damaged.id).unwrap().uuid()).execute(&db).await.unwrap();
    let (ceilings, master) = (Ceilings::default(), &server.state.keyring.master);
    let with = LoadedWith { ceilings: &ceilings, master };
    let mut connection = server.state.pools.loads.take().await.unwrap();
    let place = (OrgId::parse(&one.id).unwrap(), ids[0]);
    for decoy in [None, Some(place)] {
        let mut all = Vec::new();
        for engine in [Engine::Plain, Engine::Distributed] {
            let found = find(&mut connection, engine, &ids, decoy, with).await.unwrap();
            all.push(found.into_iter().map(seen).collect::<Vec<_>>());
        }
        let [plain, distributed] = &all[..] else { panic!("two engines") };
        assert_eq!(plain, distributed);
        for (place, found) in plain.iter().enumerate() {
            match place {
                0..10 => assert!(matches!(found, Ok(Some(_))), "{place}: {found:?}"),
                10..15 => assert_eq!(*found, Err(Reason::Internal)),
                _ => assert_eq!(*found, Ok(None)),
            }
        }
        // The one that was rotated has two secrets; the one after it is revoked.
        let Ok(Some((_, _, secrets, _, false, _))) = &plain[0] else { panic!("{:?}", plain[0]) };
        assert_eq!(secrets.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2]);
        assert!(matches!(plain[1], Ok(Some((.., true, _)))));
    }
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
