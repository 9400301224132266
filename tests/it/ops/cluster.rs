//! A cluster, as far as Countersign asks its catalog.
//!
//! The engine is in no package registry, so that its catalog stands here as views and functions in front of
//! PostgreSQL's own: they show what `migrate` and `serve` ask and do, not what the engine does.

use std::process::Command;
use std::time::Duration;

use countersign::db::distribution::{Class, TABLES};
use countersign::db::events::feed::CHANNEL;
use countersign::grpc::pb;
use serde_json::Value;
use sqlx::PgPool;
use sqlx::postgres::PgListener;

use crate::harness::{
    Database, LIMITS, Scratch, TestServer, bootstrap, by_id, countersign, fails, serve, start, succeeds,
    token_for, until,
};

/// Before `pg_catalog` in the search path. Like the engine, it distributes no table whose foreign keys are there.
const CATALOG: &str = "
    create schema engine;
    create table engine.partition (logicalrelid regclass primary key, partkey text, colocationid integer);
    create table engine.refused (logicalrelid regclass);
    create sequence engine.groups;
    create view pg_extension as select 'citus'::name as extname;
    create view pg_dist_node as
        select 'primary'::text as noderole, true as isactive, true as shouldhaveshards, 1 as groupid;
    create view pg_dist_partition as select * from engine.partition;
    create function column_to_column_name(regclass, text) returns text language sql return $2;
    create function truncate_local_data_after_distributing_table(regclass) returns void
    language plpgsql as $$ begin end $$;
    create function create_distributed_table(relation regclass, key text, colocate_with text) returns void
    language plpgsql as $$
    begin
        if exists (select 1 from pg_constraint where contype = 'f' and relation in (conrelid, confrelid))
           or exists (select 1 from engine.refused where logicalrelid = relation) then
            raise exception 'cannot distribute %', relation;
        end if;
        insert into engine.partition values (relation, key, case colocate_with
            when 'none' then nextval('engine.groups')
            else (select colocationid from engine.partition where logicalrelid = colocate_with::regclass) end);
    end $$;";

struct Cluster {
    scratch: Scratch,
    database: Database,
    pool: PgPool,
}

impl Cluster {
    /// One whose tables are not distributed yet.
    async fn new(name: &str) -> Self {
        let database = Database::create().await;
        build(&database).await;
        let pool = database.pool();
        Self { scratch: Scratch::new(name), database, pool }
    }

    fn migrate(&self) -> Command {
        let mut command = countersign();
        command.arg("migrate").env("COUNTERSIGN_DATABASE_URL", self.database.url());
        command
    }

    async fn execute(&self, sql: &'static str) {
        sqlx::raw_sql(sql).execute(&self.pool).await.unwrap();
    }

    /// All foreign keys, with their tables.
    async fn keys(&self) -> Vec<String> {
        let query = "select conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid)
                     from pg_constraint where contype = 'f' and connamespace = 'public'::regnamespace order by 1";
        sqlx::query_scalar(query).fetch_all(&self.pool).await.unwrap()
    }

    async fn distributed(&self) -> i64 {
        let count = sqlx::query_scalar("select count(*) from engine.partition");
        count.fetch_one(&self.pool).await.unwrap()
    }
}

async fn build(database: &Database) {
    let pool = database.pool();
    sqlx::raw_sql(CATALOG).execute(&pool).await.unwrap();
    let first = "do $$ begin
        execute format('alter database %I set search_path = public, pg_catalog', current_database());
    end $$";
    sqlx::raw_sql(first).execute(&pool).await.unwrap();
    pool.close().await;
}

#[tokio::test]
async fn migrate_distributes_and_serve_refuses_what_is_not() {
    let cluster = Cluster::new("cluster").await;
    let key = cluster.scratch.master_key();
    let keys = cluster.keys().await;
    assert!(keys.len() > 8);
    fails(&mut serve(&cluster.database, &key), "the table orgs is on the coordinator alone");

    let said = succeeds(&mut cluster.migrate());
    assert!(said.contains("distributed over the workers: orgs, accounts, memberships, "), "{said}");
    assert_eq!(cluster.distributed().await, 26);
    assert_eq!(cluster.keys().await, keys);
    let setting = "select 'citus.propagate_set_commands=local' = any(setconfig) from pg_db_role_setting s
                   join pg_database d on d.oid = s.setdatabase where d.datname = current_database()";
    assert!(sqlx::query_scalar::<_, bool>(setting).fetch_one(&cluster.pool).await.unwrap());
    assert!(!succeeds(&mut cluster.migrate()).contains("distributed"), "there is nothing left to do");

    // It serves, and what was distributed otherwise is named.
    bootstrap(&cluster.scratch, &cluster.database, &key);
    drop(start(&mut serve(&cluster.database, &key)));
    cluster
        .execute("update engine.partition set partkey = 'token_id' where logicalrelid = 'tokens'::regclass")
        .await;
    fails(&mut serve(&cluster.database, &key), "the table tokens is distributed by token_id in group ");
    fails(&mut cluster.migrate(), "the table tokens is distributed by token_id in group ");
}

#[tokio::test]
async fn a_table_that_is_new_is_distributed_beside_the_others() {
    let cluster = Cluster::new("cluster-grown").await;
    let keys = cluster.keys().await;
    succeeds(&mut cluster.migrate());
    cluster.execute("delete from engine.partition where logicalrelid = 'invitations'::regclass").await;
    let said = succeeds(&mut cluster.migrate());
    assert!(said.contains("distributed over the workers: invitations\n"), "{said}");
    assert_eq!(cluster.keys().await, keys);
    cluster.execute("create table stray (x integer)").await;
    fails(&mut cluster.migrate(), "does not know how to distribute the table stray");
    // A newer binary made it, and distributed it: this one leaves all as it is.
    cluster.execute("insert into schema_versions values (1000, 2)").await;
    succeeds(&mut cluster.migrate());
}

#[tokio::test]
async fn what_fails_in_the_middle_changes_nothing() {
    let cluster = Cluster::new("cluster-failed").await;
    let keys = cluster.keys().await;
    cluster.execute("insert into engine.refused values ('slugs')").await;
    fails(&mut cluster.migrate(), "cannot distribute slugs");
    assert_eq!((cluster.distributed().await, cluster.keys().await), (0, keys.clone()));
    cluster.execute("delete from engine.refused").await;
    // Of many at once one distributes.
    let running: Vec<_> = (0..3)
        .map(|_| cluster.migrate().stdout(std::process::Stdio::piped()).spawn().unwrap())
        .map(|child| std::thread::spawn(move || child.wait_with_output().unwrap()))
        .collect();
    let outputs: Vec<_> = running.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(outputs.iter().all(|output| output.status.success()), "{outputs:?}");
    let said =
        |output: &std::process::Output| String::from_utf8_lossy(&output.stdout).contains("distributed");
    assert_eq!(outputs.iter().filter(|output| said(output)).count(), 1);
    assert_eq!((cluster.distributed().await, cluster.keys().await), (26, keys));
}

/// Another node, for which the database is a cluster.
async fn node_of_a_cluster(server: &TestServer) -> TestServer {
    build(server.database()).await;
    let pool = server.database().pool();
    // All tables, as `migrate` would say it.
    for (number, (table, class)) in (1..).zip(TABLES) {
        let Some(column) = class.column() else { continue };
        let group = if *class == Class::Org { 0 } else { number };
        let insert = "insert into engine.partition values ($1::regclass, $2, $3)";
        sqlx::query(insert).bind(table).bind(column).bind::<i32>(group).execute(&pool).await.unwrap();
    }
    server.beside(LIMITS).await
}

#[tokio::test]
async fn a_change_is_written_alike_with_and_without_a_cluster() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (bot, _) = server.account(&org.id, "bot", &[]).await;
    let node = node_of_a_cluster(&server).await;
    let pool = server.database().pool();
    let mut listener = PgListener::connect_with(&pool).await.unwrap();
    let mut written = Vec::new();
    for node in [&server, &node] {
        let made = org.owner.tokens().create_token(token_for(&org.id, &bot.id)).await.unwrap().into_inner();
        let token_id = made.token.unwrap().id;
        listener.listen(CHANNEL).await.unwrap();
        node.operator.tokens().revoke_token(by_id(&org.id, &token_id)).await.unwrap();
        let woken = tokio::time::timeout(Duration::from_secs(60), listener.recv()).await;
        assert_eq!(woken.expect("nobody is woken").unwrap().channel(), CHANNEL);
        listener.unlisten(CHANNEL).await.unwrap();
        // What differs between two such changes is left out.
        let query = "select to_jsonb(e) - '{event_id,create_time,request_id}'::text[] as event,
                            to_jsonb(f) - '{event_id,create_time,xid}'::text[] as feed,
                            f.create_time = e.create_time and f.xid > 0 as alike,
                            (select jsonb_agg(to_jsonb(r) - 'event_id' - 'create_time' order by r.resource_id)
                             from event_resources r
                             where r.event_id = e.event_id and r.create_time = e.create_time) as resources
                     from events e join feed f on f.event_id = e.event_id and f.org_id = e.org_id
                     where e.type = 'token.revoked' order by e.create_time desc limit 1";
        let row: (Value, Value, bool, Value) = sqlx::query_as(query).fetch_one(&pool).await.unwrap();
        assert!(row.2);
        let texts = [row.0, row.1, row.3].map(|value| value.to_string().replace(&token_id, "TOKEN"));
        assert!(texts.iter().all(|text| text.contains("TOKEN")), "{texts:?}");
        written.push(texts);
    }
    assert_eq!(written[0], written[1]);
}

#[tokio::test]
async fn an_invalidation_is_repeated() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (bot, _) = server.account(&org.id, "bot", &[]).await;
    let made = org.owner.tokens().create_token(token_for(&org.id, &bot.id)).await.unwrap().into_inner();
    let node = node_of_a_cluster(&server).await;
    let client = node.client(made.secret);
    client.exchange().await.unwrap();
    let loads = node.state.principals.looks();
    let token = pb::Token {
        id: made.token.unwrap().id,
        org_id: org.id.clone(),
        display_name: "changed".into(),
        ..Default::default()
    };
    let request = pb::UpdateTokenRequest { token: Some(token), ..Default::default() };
    org.owner.tokens().update_token(request).await.unwrap();
    // Once as soon as the feed says so, and once more.
    for more in [1, 2] {
        until(async || {
            client.exchange().await.unwrap();
            node.state.principals.looks() >= loads + more
        })
        .await;
    }
}
