//! A dump that is restored into another server, under nodes that run.

use std::sync::Arc;

use countersign::commands::dev::connect_options;
use countersign::config::ServerLimits;
use countersign::crypto::seal::MasterKeys;
use countersign::db::events::feed;
use countersign::db::events::feed::FeedPage;
use countersign::db::schema;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio_stream::StreamExt as _;
use tonic::Code;

use crate::harness::{
    Database, LIMITS, Proxy, Scratch, TestServer, by_id, reason, refused, start_postgres, token_for, until,
};

/// What `pg_dump --data-only --disable-triggers` into a migrated database does, where that program
/// may be missing: a copy of PostgreSQL that is fetched has only the server's programs.
async fn dump_and_restore(from: &mut PgConnection, to: &mut PgConnection) {
    schema::migrate(to).await.unwrap();
    let tables = "select relname::text from pg_class
                  where relnamespace = 'public'::regnamespace and relkind = 'r' and relname <> '_sqlx_migrations'";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut *from).await.unwrap();
    let mut snapshot = from.begin().await.unwrap();
    sqlx::query("set transaction isolation level repeatable read").execute(&mut *snapshot).await.unwrap();
    sqlx::query("set session_replication_role = replica").execute(&mut *to).await.unwrap();
    let truncate = format!("truncate {}", tables.join(", "));
    sqlx::raw_sql(AssertSqlSafe(truncate)).execute(&mut *to).await.unwrap();
    for table in &tables {
        let mut rows = Vec::new();
        let mut out = snapshot.copy_out_raw(&format!("copy {table} to stdout")).await.unwrap();
        while let Some(part) = out.next().await {
            rows.extend_from_slice(&part.unwrap());
        }
        drop(out);
        let mut into = to.copy_in_raw(&format!("copy {table} from stdin")).await.unwrap();
        into.send(rows).await.unwrap();
        into.finish().await.unwrap();
    }
}

#[tokio::test]
async fn a_dump_restored_into_a_fresh_server_drops_what_was_cached() {
    let scratch = Scratch::new("restore");
    let (old, new) = (start_postgres(&scratch.path("old")).await, start_postgres(&scratch.path("new")).await);
    let mut from = PgConnection::connect_with(&connect_options(&old, "postgres")).await.unwrap();
    let mut to = PgConnection::connect_with(&connect_options(&new, "postgres")).await.unwrap();
    schema::migrate(&mut from).await.unwrap();

    let proxy = Proxy::to(&old).await;
    let unused = Arc::new(Database::create_empty().await);
    let master: Arc<str> = MasterKeys::new_file().as_str().into();
    let node = |operator, limits| {
        TestServer::on(proxy.options("postgres"), unused.clone(), master.clone(), operator, limits)
    };
    let one = node(None, LIMITS).await;
    let other = node(Some(one.operator.token()), ServerLimits { feed_listen: false, ..LIMITS }).await;
    let org = one.org().await;
    let (account, bot) = one.account(&org.id, "bot", &[("x.y", "*")]).await;
    let stolen =
        one.operator.tokens().create_token(token_for(&org.id, &account.id)).await.unwrap().into_inner();

    dump_and_restore(&mut from, &mut to).await;
    // After the dump: one token is created, another is revoked.
    let late =
        one.operator.tokens().create_token(token_for(&org.id, &account.id)).await.unwrap().into_inner();
    org.owner.tokens().revoke_token(by_id("", &stolen.token.unwrap().id)).await.unwrap();
    for node in [&one, &other] {
        for text in [bot.token(), &late.secret] {
            node.client(text).exchange().await.unwrap();
        }
        until(async || node.client(&stolen.secret).exchange().await.is_err()).await;
    }
    let at = feed::latest(&mut from).await.unwrap();
    assert_ne!(feed::resume(&mut from, &at, 10).await.unwrap(), FeedPage::CursorExpired);

    proxy.lead_to(&new);
    for node in [&one, &other] {
        let late = node.client(&late.secret);
        // For a moment the connections are gone, and the answers say so.
        until(async || late.exchange().await.is_err_and(|status| reason(&status) == "TOKEN_INVALID")).await;
    }
    for node in [&one, &other] {
        // As it was at the time of the dump.
        node.client(&stolen.secret).exchange().await.unwrap();
        node.client(bot.token()).exchange().await.unwrap();
        // And it goes on from there.
        let made = node.operator.tokens().create_token(token_for(&org.id, &account.id)).await.unwrap();
        let made = made.into_inner();
        for hears in [&one, &other] {
            hears.client(&made.secret).exchange().await.unwrap();
        }
        org.owner.tokens().revoke_token(by_id("", &made.token.unwrap().id)).await.unwrap();
        for hears in [&one, &other] {
            let client = hears.client(&made.secret);
            until(async || client.exchange().await.is_err()).await;
            refused(client.exchange().await, Code::Unauthenticated, "TOKEN_REVOKED");
        }
    }
    let epoch = "select feed_epoch from deployment";
    let epoch: i64 = sqlx::query_scalar(epoch).fetch_one(&mut to).await.unwrap();
    assert_eq!(epoch, 2, "both saw it, and raised it once");
    assert_eq!(feed::resume(&mut to, &at, 10).await.unwrap(), FeedPage::CursorExpired);
    drop((one, other));
    for server in [old, new] {
        tokio::task::spawn_blocking(move || server.stop_immediately()).await.unwrap();
    }
}
