//! The feed: each change is written with what it touches, and every node hears of it.

use std::time::{Duration, Instant};

use countersign::config::LimitArgs;
use countersign::db::feed::{self, Cursor, News};
use countersign::grpc::pb;
use sqlx::{Connection as _, PgConnection, PgPool};
use tonic::Code;

use crate::access_matrix::Things;
use crate::harness::{Client, Database, LIMITS, TestServer, by_id, call_raw, grant, refused, token_for};
use crate::proto::rpcs;

/// What only reads.
const READS: [&str; 16] = [
    "AccountService/GetAccount",
    "AccountService/ListAccounts",
    "AccountService/ListGrants",
    "AccountService/ListGrantableAccess",
    "AccountService/ResolveLink",
    "AccountService/GetCaller",
    "OrgService/GetOrg",
    "OrgService/ListOrgs",
    "OrgService/GetRole",
    "OrgService/ListRoles",
    "OrgService/ListResources",
    "TokenService/GetToken",
    "TokenService/ListTokens",
    "TokenService/ExchangeToken",
    "TokenService/IntrospectToken",
    "TokenService/BatchIntrospectTokens",
];

#[tokio::test]
async fn every_rpc_that_changes_something_writes_one_event_and_what_it_touches() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (target, client) = server.account(&org.id, "target", &[]).await;
    let things = Things { server: &server, org: &org, target, target_token: client.token().into() };
    let count = async || {
        let sql = "select (select count(*) from events), count(*), count(*) filter (where cardinality(subjects) > 0) from feed";
        sqlx::query_as::<_, (i64, i64, i64)>(sql).fetch_one(&server.state.db).await.unwrap()
    };
    for rpc in rpcs() {
        let short = rpc.strip_prefix("/countersign.v1.").unwrap();
        let request = things.request(short, "unique-1").await;
        let before = count().await;
        call_raw(&server.operator, &rpc, request).await.unwrap_or_else(|status| panic!("{rpc}: {status:?}"));
        let after = count().await;
        let changes = i64::from(!READS.contains(&short) && short != "TokenService/GetJsonWebKeySet");
        assert_eq!((after.0 - before.0, after.1 - before.1), (changes, changes), "{rpc}");
        // The catalogue is in no cache; a node with something on it is not deleted.
        let touches = if short.ends_with("Resource") { 0 } else { changes };
        assert_eq!(after.2 - before.2, touches, "{rpc} names what it touches");
    }
}

/// Asks until the answer is as wished, for at most `limit`; gives how long it took.
async fn until(limit: Duration, mut ask: impl AsyncFnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !ask().await {
        assert!(began.elapsed() < limit, "not within {limit:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    began.elapsed()
}

#[tokio::test]
async fn the_other_node_follows_with_and_without_notifications() {
    let a = TestServer::start().await;
    let org = a.org().await;
    for feed_listen in [true, false] {
        let b = a.beside(LimitArgs { feed_listen, ..LIMITS }).await;
        let (account, bot) = a.account(&org.id, &format!("bot-{feed_listen}"), &[("x.y", "*")]).await;
        let on_b = b.client(bot.token());
        assert_eq!(on_b.exchange().await.unwrap().scopes, ["x.y"]);
        // A grant is narrowed on the one.
        let grants = vec![grant("x.y", "*")];
        let request =
            pb::RevokeAccessRequest { account_id: account.id.clone(), grants, ..Default::default() };
        org.owner.accounts().revoke_access(request).await.unwrap();
        until(Duration::from_secs(2), async || on_b.exchange().await.unwrap().scopes.is_empty()).await;
        // A token is made, and revoked.
        let made = org.owner.tokens().create_token(token_for("", &account.id)).await;
        let made = made.unwrap().into_inner();
        let on_b = b.client(made.secret);
        on_b.exchange().await.unwrap();
        org.owner.tokens().revoke_token(by_id("", &made.token.unwrap().id)).await.unwrap();
        until(Duration::from_secs(2), async || on_b.exchange().await.is_err()).await;
        refused(on_b.exchange().await, Code::Unauthenticated, "TOKEN_REVOKED");
    }
}

#[tokio::test]
async fn another_database_under_us_drops_what_was_cached() {
    let server = TestServer::start().await;
    let org = server.org().await;
    org.owner.exchange().await.unwrap();
    // What a dump restored into another cluster looks like: it says where it was made.
    sqlx::query("update deployment set system_identifier = 1").execute(&server.state.db).await.unwrap();
    until(Duration::from_secs(5), async || server.state.principals.is_empty()).await;
    let epoch = "select feed_epoch from deployment where system_identifier = (select system_identifier from pg_control_system())";
    assert_eq!(sqlx::query_scalar::<_, i64>(epoch).fetch_one(&server.state.db).await.unwrap(), 2);
    org.owner.exchange().await.unwrap();
}

async fn write(connection: &mut PgConnection, subject: &str) {
    sqlx::query(
        "insert into feed (epoch, xid, seq, org_id, event_id, kind, subjects, create_time)
         values (1, pg_current_xact_id()::text::bigint, 0, gen_random_uuid(), gen_random_uuid(), 'test', array[$1], now())",
    )
    .bind(subject)
    .execute(connection)
    .await
    .unwrap();
}

async fn news(pool: &PgPool, cursor: &mut Cursor) -> Vec<String> {
    match feed::read(pool, cursor).await.unwrap() {
        News::Touched(subjects) => subjects,
        News::AnotherDatabase => panic!("it is the same"),
    }
}

#[tokio::test]
async fn no_change_is_lost_or_held_up_whatever_the_order_of_commits() {
    let database = Database::create().await;
    let pool = database.pool();
    feed::note_system(&pool).await.unwrap();
    let mut cursor = Cursor::default();
    assert!(news(&pool, &mut cursor).await.is_empty());

    // One that stays open, and one in another database of the server.
    let mut idle = PgConnection::connect_with(&database.options()).await.unwrap();
    let mut idle = idle.begin().await.unwrap();
    write(&mut idle, "idle").await;
    let elsewhere = Database::create_empty().await;
    let mut foreign = PgConnection::connect_with(&elsewhere.options()).await.unwrap();
    let mut foreign = foreign.begin().await.unwrap();
    sqlx::query("create table t ()").execute(&mut *foreign).await.unwrap();

    // 32 writers begin in one order and commit in the opposite one, with a look after each.
    let mut connections = Vec::new();
    for _ in 0..32 {
        connections.push(PgConnection::connect_with(&database.options()).await.unwrap());
    }
    let mut open = Vec::new();
    for (n, connection) in connections.iter_mut().enumerate() {
        let mut tx = connection.begin().await.unwrap();
        write(&mut tx, &format!("writer-{n}")).await;
        open.push((n, tx));
    }
    while let Some((n, tx)) = open.pop() {
        assert!(news(&pool, &mut cursor).await.is_empty(), "what is not committed is not told");
        tx.commit().await.unwrap();
        assert_eq!(news(&pool, &mut cursor).await, [format!("writer-{n}")], "at once, and once");
    }
    idle.commit().await.unwrap();
    assert_eq!(news(&pool, &mut cursor).await, ["idle"], "a lower number that commits last");
    foreign.rollback().await.unwrap();
    assert!(news(&pool, &mut cursor).await.is_empty());
}

#[tokio::test]
async fn a_change_counts_on_its_own_node_before_it_is_answered() {
    let server = TestServer::with_limits(LimitArgs { feed_listen: false, ..LIMITS }).await;
    let org = server.org().await;
    for n in 0..10 {
        let (account, bot): (pb::Account, Client) =
            server.account(&org.id, &format!("bot-{n}"), &[("x.y", "*")]).await;
        bot.exchange().await.unwrap();
        let id = bot.caller().await.unwrap().credential_id;
        let taken = vec![grant("x.y", "*")];
        let request = pb::RevokeAccessRequest { account_id: account.id, grants: taken, ..Default::default() };
        org.owner.accounts().revoke_access(request).await.unwrap();
        assert!(bot.exchange().await.unwrap().scopes.is_empty());
        org.owner.tokens().revoke_token(by_id("", &id)).await.unwrap();
        refused(bot.exchange().await, Code::Unauthenticated, "TOKEN_REVOKED");
    }
}
