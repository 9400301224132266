//! Which schema the database has, and whether this binary can live with it.

use std::fmt;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{PgConnection, PgPool};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// Why this binary does not work on this schema.
#[derive(Debug)]
pub enum SchemaError {
    /// There is none yet.
    Missing,
    /// It lacks migrations that this binary has.
    Behind {
        has: i64,
        needs: i64,
    },
    /// It says that binaries this old must not use it.
    TooNew {
        oldest_binary: i64,
        ours: i64,
    },
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
            Self::Database(error) => write!(f, "the schema cannot be read: {error}"),
        }
    }
}

impl std::error::Error for SchemaError {}

/// The newest migration that this binary knows.
pub fn newest() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// Brings the schema up to date. Any number of processes may do this at once: they
/// take turns. Leaves a schema alone that a newer binary has migrated further.
pub async fn migrate(connection: &mut PgConnection) -> Result<(), MigrateError> {
    Migrator { ignore_missing: true, ..clone(&MIGRATIONS) }.run(connection).await
}

/// [`Migrator`] is not `Clone`; its parts are.
fn clone(migrator: &Migrator) -> Migrator {
    Migrator { migrations: migrator.migrations.clone(), ..Migrator::DEFAULT }
}

/// Refuses a schema that this binary cannot live with.
pub async fn check(pool: &PgPool) -> Result<(), SchemaError> {
    let versions = sqlx::query!(
        r#"select max(version) as "version!", max(oldest_binary) as "oldest_binary!" from schema_versions"#
    );
    let row = versions.fetch_one(pool).await.map_err(|error| {
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
    Ok(())
}
