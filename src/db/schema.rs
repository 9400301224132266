//! The version of the schema of the database, and whether this binary is compatible with it.

use std::fmt;

use sqlx::PgConnection;
use sqlx::migrate::{MigrateError, Migrator};

use super::distribution::{self, DistributionError};
use super::pool::Db;
use super::sqlstate;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// Why this binary cannot use the schema.
#[derive(Debug)]
pub enum SchemaError {
    /// The database has no schema yet.
    Missing,
    /// The schema lacks migrations that this binary has.
    Behind {
        has: i64,
        needs: i64,
    },
    /// The schema says that binaries as old as this one must not use it.
    TooNew {
        oldest_binary: i64,
        ours: i64,
    },
    /// The database is a cluster whose tables are not distributed as this binary needs them.
    Distribution(DistributionError),
    Database(sqlx::Error),
}

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("the database has no schema yet: run `countersign migrate`"),
            Self::Behind { has, needs } => {
                write!(
                    f,
                    "the database is at migration {has} and this binary needs {needs}: run `countersign migrate`"
                )
            }
            Self::TooNew { oldest_binary, ours } => write!(
                f,
                "this binary is too old for the database: it knows migrations up to {ours}, and the schema requires {oldest_binary}"
            ),
            Self::Distribution(error) => error.fmt(f),
            Self::Database(error) => write!(f, "the schema cannot be read: {}", sqlstate::text(error)),
        }
    }
}

impl std::error::Error for SchemaError {}

/// The newest migration that this binary knows.
pub fn newest() -> i64 {
    versions().max().unwrap_or(0)
}

/// Brings the schema up to date.
///
/// Any number of processes may do this at once: they take turns. A schema that a newer binary has
/// migrated further stays as it is.
pub async fn migrate(connection: &mut PgConnection) -> Result<(), MigrateError> {
    migrate_to(connection, newest()).await
}

/// Brings the schema to this version, if it is older.
pub async fn migrate_to(connection: &mut PgConnection, version: i64) -> Result<(), MigrateError> {
    let migrations = MIGRATIONS.iter().filter(|migration| migration.version <= version).cloned().collect();
    Migrator { migrations, ignore_missing: true, ..Migrator::DEFAULT }.run(connection).await
}

/// The versions of all migrations, in order.
pub fn versions() -> impl Iterator<Item = i64> {
    MIGRATIONS.iter().map(|migration| migration.version)
}

/// The version of the schema. A newer binary may have migrated it further than this one can.
pub async fn version(connection: &mut PgConnection) -> sqlx::Result<i64> {
    let version = sqlx::query_scalar!(r#"select max(version) as "version!" from schema_versions"#);
    version.fetch_one(connection).await
}

/// Refuses a schema that is not compatible with this binary.
pub async fn check(db: &Db) -> Result<(), SchemaError> {
    let versions = sqlx::query!(
        r#"select max(version) as "version!", max(oldest_binary) as "oldest_binary!" from schema_versions"#
    );
    let row = versions.fetch_one(db).await.map_err(|error| {
        let code = error.as_database_error().and_then(|error| error.code().map(|code| code.into_owned()));
        // Undefined table.
        if code.as_deref() == Some("42P01") { SchemaError::Missing } else { SchemaError::Database(error) }
    })?;
    let ours = newest();
    if row.oldest_binary > ours {
        return Err(SchemaError::TooNew { oldest_binary: row.oldest_binary, ours });
    }
    if row.version < ours {
        return Err(SchemaError::Behind { has: row.version, needs: ours });
    }
    let mut connection = db.acquire().await.map_err(SchemaError::Database)?;
    distribution::check(&mut connection).await.map_err(SchemaError::Distribution)
}
