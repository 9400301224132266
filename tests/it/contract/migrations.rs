//! The schema: from nothing to head, each constraint named, each rule of tables that
//! can be sharded kept.

use countersign::db::schema;
use countersign::db::schema::SchemaError;
use sqlx::{Connection as _, PgConnection, PgPool};

use crate::harness::Database;

/// Tables without an org: keyed by what is queried first, or small and read everywhere.
const GLOBAL: &[&str] = &[
    "_sqlx_migrations",
    "schema_versions",
    "deployment",
    "peppers",
    "signing_keys",
    "slugs",
    "usernames",
    "credentials",
    "login_buckets",
    "token_origins",
    "account_orgs",
    "feed",
    "feed_sweeps",
    "login_buckets",
    "outbox",
    "codes",
    "reset_requests",
];

async fn names(pool: &PgPool, sql: &'static str) -> Vec<String> {
    sqlx::query_scalar(sql).fetch_all(pool).await.unwrap()
}

#[tokio::test]
async fn from_empty_to_head_and_again() {
    let database = Database::create_empty().await;
    let pool = database.pool();
    assert!(matches!(schema::check(&pool).await, Err(SchemaError::Missing)));
    for _ in 0..2 {
        let mut connection = PgConnection::connect_with(&database.options()).await.unwrap();
        schema::migrate(&mut connection).await.unwrap();
        schema::check(&pool).await.unwrap();
    }
    let recorded: i64 =
        sqlx::query_scalar("select count(*) from schema_versions").fetch_one(&pool).await.unwrap();
    let applied: i64 =
        sqlx::query_scalar("select count(*) from _sqlx_migrations").fetch_one(&pool).await.unwrap();
    assert_eq!(recorded, applied, "each migration records the oldest binary that can live with it");
    assert_eq!(applied, schema::newest());
}

#[tokio::test]
async fn many_at_once_leave_one_schema() {
    let database = Database::create_empty().await;
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                let migrate = async {
                    let mut connection = PgConnection::connect_with(&database.options()).await.unwrap();
                    schema::migrate(&mut connection).await.unwrap();
                };
                tokio::runtime::Runtime::new().unwrap().block_on(migrate);
            });
        }
    });
    schema::check(&database.pool()).await.unwrap();
}

#[tokio::test]
async fn a_schema_that_does_not_fit_is_refused_in_words() {
    let database = Database::create().await;
    let pool = database.pool();
    sqlx::query("insert into schema_versions values (1000, 2)").execute(&pool).await.unwrap();
    schema::check(&pool).await.expect("a newer schema that old binaries can live with");
    sqlx::query("update schema_versions set oldest_binary = 999 where version = 1000")
        .execute(&pool)
        .await
        .unwrap();
    let refused = schema::check(&pool).await.unwrap_err();
    assert!(refused.to_string().contains("this binary is too old"), "{refused}");
    sqlx::query("delete from schema_versions where version > 1").execute(&pool).await.unwrap();
    let refused = schema::check(&pool).await.unwrap_err();
    assert!(refused.to_string().contains("countersign migrate"), "{refused}");
}

#[tokio::test]
async fn every_table_is_explained_and_every_constraint_named() {
    let database = Database::create().await;
    let pool = database.pool();
    let unexplained = names(
        &pool,
        "select relname::text from pg_class
         where relnamespace = 'public'::regnamespace and relkind = 'r' and relname <> '_sqlx_migrations'
           and obj_description(oid, 'pg_class') is null",
    )
    .await;
    assert_eq!(unexplained, [""; 0]);
    // The suffixes of the names that PostgreSQL generates.
    let unnamed = names(
        &pool,
        "select conname::text from pg_constraint
         where connamespace = 'public'::regnamespace and conrelid <> '_sqlx_migrations'::regclass and contype <> 'n'
           and conname ~ '_(pkey|key|fkey|check|excl)[0-9]*$'",
    )
    .await;
    // A column may be called something_key.
    assert_eq!(unnamed, ["accounts_name_key"]);
}

#[tokio::test]
async fn tenant_tables_begin_with_the_org() {
    let database = Database::create().await;
    let pool = database.pool();
    let keys: Vec<(String, String, String)> = sqlx::query_as(
        "select c.relname::text, i.relname::text, a.attname::text
         from pg_index x
         join pg_class c on c.oid = x.indrelid join pg_class i on i.oid = x.indexrelid
         join pg_attribute a on a.attrelid = c.oid and a.attnum = x.indkey[0]
         where x.indisunique and c.relnamespace = 'public'::regnamespace",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    for (table, index, first) in keys {
        assert!(
            GLOBAL.contains(&table.as_str()) || first == "org_id",
            "{index} of {table} begins with {first}"
        );
    }
    let references: Vec<(String, String)> = sqlx::query_as(
        "select k.conname::text, a.attname::text
         from pg_constraint k join pg_attribute a on a.attrelid = k.conrelid and a.attnum = k.conkey[1]
         where k.contype = 'f' and k.connamespace = 'public'::regnamespace",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert!(references.len() > 8);
    for (name, first) in references {
        assert_eq!(first, "org_id", "{name}");
    }
}

#[tokio::test]
async fn every_foreign_key_has_its_index() {
    let database = Database::create().await;
    let pool = database.pool();
    let bare = names(
        &pool,
        "select k.conname::text from pg_constraint k
         where k.contype = 'f' and k.connamespace = 'public'::regnamespace and not exists (
             select 1 from pg_index x
             where x.indrelid = k.conrelid
               and (string_to_array(x.indkey::text, ' ')::int2[])[1:cardinality(k.conkey)] @> k.conkey)",
    )
    .await;
    assert_eq!(bare, [""; 0]);
}

#[tokio::test]
async fn compared_text_has_one_order_everywhere() {
    let database = Database::create().await;
    let pool = database.pool();
    let indexed = names(
        &pool,
        "select distinct c.relname || '.' || a.attname
         from pg_index x
         join pg_class c on c.oid = x.indrelid
         join pg_attribute a on a.attrelid = c.oid and a.attnum = any(x.indkey)
         join pg_collation l on l.oid = a.attcollation
         where c.relnamespace = 'public'::regnamespace and c.relname <> '_sqlx_migrations' and l.collname <> 'C'",
    )
    .await;
    assert_eq!(indexed, [""; 0]);
}

#[tokio::test]
async fn nothing_hangs_on_what_cannot_be_sharded() {
    let database = Database::create().await;
    let pool = database.pool();
    let sql = "select relname::text from pg_class where relnamespace = 'public'::regnamespace and relkind = 'S'
               union all select tgname::text from pg_trigger where not tgisinternal
               union all select typname::text from pg_type where typnamespace = 'public'::regnamespace and typtype = 'e'
               union all select extname::text from pg_extension where extname <> 'plpgsql'";
    assert_eq!(names(&pool, sql).await, [""; 0]);
}
