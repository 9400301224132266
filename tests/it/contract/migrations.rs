//! The schema: from nothing to head, each constraint named, each rule of tables that
//! can be sharded kept.

use std::fs;
use std::path::Path;

use countersign::db::distribution::{Class, TABLES, class};
use countersign::db::schema;
use countersign::db::schema::SchemaError;
use sqlx::{Connection as _, PgConnection, PgPool};

use crate::harness::Database;

async fn names(pool: &PgPool, sql: &'static str) -> Vec<String> {
    sqlx::query_scalar(sql).fetch_all(pool).await.unwrap()
}

#[tokio::test]
async fn from_empty_to_head_and_again() {
    let database = Database::create_empty().await;
    let pool = database.pool();
    assert!(matches!(schema::check(&database.db()).await, Err(SchemaError::Missing)));
    for _ in 0..2 {
        let mut connection = PgConnection::connect_with(&database.options()).await.unwrap();
        schema::migrate(&mut connection).await.unwrap();
        schema::check(&database.db()).await.unwrap();
    }
    let recorded: i64 =
        sqlx::query_scalar("select count(*) from schema_versions").fetch_one(&pool).await.unwrap();
    let applied: i64 =
        sqlx::query_scalar("select count(*) from _sqlx_migrations").fetch_one(&pool).await.unwrap();
    assert_eq!(recorded, applied, "each migration records the oldest binary that can live with it");
    assert_eq!(applied, schema::versions().count() as i64);
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
    schema::check(&database.db()).await.unwrap();
}

#[tokio::test]
async fn a_schema_that_does_not_fit_is_refused_in_words() {
    let database = Database::create().await;
    let pool = database.pool();
    sqlx::query("insert into schema_versions values (1000, 2)").execute(&pool).await.unwrap();
    schema::check(&database.db()).await.expect("a newer schema that old binaries can live with");
    sqlx::query("update schema_versions set oldest_binary = 999 where version = 1000")
        .execute(&pool)
        .await
        .unwrap();
    let refused = schema::check(&database.db()).await.unwrap_err();
    assert!(refused.to_string().contains("this binary is too old"), "{refused}");
    sqlx::query("delete from schema_versions where version > 1").execute(&pool).await.unwrap();
    let refused = schema::check(&database.db()).await.unwrap_err();
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
async fn every_table_is_in_the_registry_once() {
    let database = Database::create().await;
    let query = "select relname::text from pg_class
                 where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') order by 1";
    let mut registered: Vec<_> = TABLES.iter().map(|(table, _)| (*table).to_owned()).collect();
    registered.sort();
    assert_eq!(names(&database.pool(), query).await, registered);
}

/// A shard enforces only what includes the column by which its table is distributed.
#[tokio::test]
async fn the_keys_of_distributed_tables_hold_their_column() {
    let database = Database::create().await;
    let pool = database.pool();
    let keys: Vec<(String, String, Vec<String>)> = sqlx::query_as(
        "select c.relname::text, i.relname::text,
                array(select a.attname::text from unnest(x.indkey) with ordinality as k (number, place)
                      join pg_attribute a on a.attrelid = c.oid and a.attnum = k.number order by k.place)
         from pg_index x
         join pg_class c on c.oid = x.indrelid join pg_class i on i.oid = x.indexrelid
         where x.indisunique and c.relnamespace = 'public'::regnamespace",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    for (table, index, columns) in keys {
        let class = class(&table).unwrap();
        // For the org it is the first, so that an org's rows stand together.
        let good = match class {
            Class::Org => columns[0] == "org_id",
            Class::Lookup(column) => columns[0] == column,
            Class::Local => true,
        };
        assert!(good, "{index} of {table}: {columns:?}");
    }
    let references: Vec<(String, String, String, String, String)> = sqlx::query_as(
        "select k.conname::text, k.conrelid::regclass::text, k.confrelid::regclass::text,
                a.attname::text, f.attname::text
         from pg_constraint k
         join pg_attribute a on a.attrelid = k.conrelid and a.attnum = k.conkey[1]
         join pg_attribute f on f.attrelid = k.confrelid and f.attnum = k.confkey[1]
         where k.contype = 'f' and k.connamespace = 'public'::regnamespace",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert!(references.len() > 8);
    for (name, from, to, column, referenced) in references {
        assert_eq!([class(&from), class(&to)], [Some(Class::Org); 2], "{name}");
        assert_eq!([column, referenced], ["org_id"; 2], "{name}");
    }
}

/// Adds columns in the statement of its constraint: it runs before anything is distributed, and a migration that
/// databases have is not changed.
const BEFORE_THE_RULE: &str = "0010_rotation_and_last_use.sql";

/// The number of a shard is cut off the name of a constraint; and a statement that adds one adds nothing
/// else, which a distributed table would refuse.
#[tokio::test]
async fn constraints_suit_a_sharded_engine() {
    let database = Database::create().await;
    let numbered = "select conname::text from pg_constraint
                    where connamespace = 'public'::regnamespace and conname ~ '_[0-9]+$'";
    assert_eq!(names(&database.pool(), numbered).await, [""; 0]);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut found = 0;
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.ends_with(BEFORE_THE_RULE) {
            continue;
        }
        let sql = fs::read_to_string(&path).unwrap();
        let sql: String =
            sql.lines().filter(|line| !line.trim_start().starts_with("--")).collect::<Vec<_>>().join("\n");
        for statement in sql.split(';') {
            let actions = statement.matches("add constraint").count();
            found += actions;
            let alone = actions == 0
                || actions == 1
                    && statement.matches(" add ").count() + statement.matches("\nadd ").count() == 1
                    && !statement.contains("drop ")
                    && !statement.contains("alter column");
            assert!(alone, "{}: {statement}", path.display());
        }
    }
    assert!(found > 8);
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
