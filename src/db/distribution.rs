//! How the tables are distributed where the database is a cluster of Citus: which table is what, `countersign
//! migrate`'s part in it, and the check of `countersign serve`.
//!
//! `docs/operate/scale.md` says when that pays. Without the extension, or without a worker, nothing here does
//! anything. The statements about the engine's own catalog are checked when they run: it does not exist on
//! plain PostgreSQL.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::sqlstate;

/// How the rows of a table are spread over the workers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Class {
    /// By `org_id`, in one group: the rows of an org, in all of these tables, are on one worker.
    Org,
    /// By this column, which is looked up before the org is known. In a group of its own.
    Lookup(&'static str),
    /// Not at all: it is small, or all nodes drain it. On the coordinator.
    Local,
}

impl Class {
    /// The distribution column.
    pub fn column(self) -> Option<&'static str> {
        match self {
            Self::Org => Some("org_id"),
            Self::Lookup(column) => Some(column),
            Self::Local => None,
        }
    }
}

/// Every table of the schema, in the order in which they are distributed: `orgs` begins the group of its kind.
pub const TABLES: &[(&str, Class)] = &[
    ("orgs", Class::Org),
    ("accounts", Class::Org),
    ("memberships", Class::Org),
    ("roles", Class::Org),
    ("resources", Class::Org),
    ("grants", Class::Org),
    ("tokens", Class::Org),
    ("token_secrets", Class::Org),
    ("requests", Class::Org),
    ("events", Class::Org),
    ("event_resources", Class::Org),
    ("named_permissions", Class::Org),
    ("account_links", Class::Org),
    ("passwords", Class::Org),
    ("sessions", Class::Org),
    ("invitations", Class::Org),
    ("verifiers", Class::Org),
    ("issuers", Class::Org),
    ("federation_rules", Class::Org),
    ("presentations", Class::Org),
    ("credentials", Class::Lookup("credential_id")),
    ("usernames", Class::Lookup("username")),
    ("slugs", Class::Lookup("slug")),
    ("account_orgs", Class::Lookup("account_id")),
    ("token_keys", Class::Lookup("thumbprint")),
    ("used_assertions", Class::Lookup("signer_id")),
    ("_sqlx_migrations", Class::Local),
    ("schema_versions", Class::Local),
    ("deployment", Class::Local),
    ("peppers", Class::Local),
    ("signing_keys", Class::Local),
    ("feed", Class::Local),
    ("feed_sweeps", Class::Local),
    ("outbox", Class::Local),
    ("email_budgets", Class::Local),
    ("codes", Class::Local),
    ("reset_requests", Class::Local),
    ("login_buckets", Class::Local),
    ("token_origins", Class::Local),
];

/// The table whose group all tables of [`Class::Org`] are in.
const FIRST: &str = "orgs";
/// The lock of `countersign migrate` while it distributes: two of them take turns.
const LOCK: i64 = 0x636f_756e_7465_7273;

/// Whether the database is a cluster.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Engine {
    /// One PostgreSQL server.
    Plain,
    /// Citus with at least one worker.
    Distributed,
}

/// Why the tables cannot be distributed, or are not as this binary needs them.
#[derive(Debug)]
pub enum DistributionError {
    /// A table is in the schema and not in [`TABLES`].
    Unknown(String),
    /// A table is not distributed as [`TABLES`] says.
    Differs {
        table: String,
        found: String,
        needed: String,
    },
    /// Only the owner of the database can run this statement, which is left to do.
    NotOwner(String),
    Database(sqlx::Error),
}

impl fmt::Display for DistributionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(table) => write!(
                f,
                "the database is a cluster, and this binary does not know how to distribute the table {table}"
            ),
            Self::Differs { table, found, needed } => write!(
                f,
                "the database is a cluster in which the table {table} is {found}, and this binary needs it {needed}: \
                 run `countersign migrate`"
            ),
            Self::NotOwner(statement) => write!(
                f,
                "the tables are distributed; the owner of the database has to run once: {statement}"
            ),
            Self::Database(error) => {
                write!(f, "the distribution of the tables cannot be read: {}", sqlstate::text(error))
            }
        }
    }
}

impl std::error::Error for DistributionError {}

impl From<sqlx::Error> for DistributionError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

/// Finds out whether the database is a cluster: it has the extension, and a worker that takes shards.
pub async fn engine(db: &mut PgConnection) -> Result<Engine, sqlx::Error> {
    let installed =
        sqlx::query_scalar!(r#"select exists (select 1 from pg_extension where extname = 'citus') as "is!""#);
    if !installed.fetch_one(&mut *db).await? {
        return Ok(Engine::Plain);
    }
    let workers = sqlx::query_scalar::<_, bool>(
        "select exists (select 1 from pg_dist_node
                        where noderole = 'primary' and isactive and shouldhaveshards and groupid <> 0)",
    );
    Ok(if workers.fetch_one(db).await? { Engine::Distributed } else { Engine::Plain })
}

/// Checks that a cluster's tables are distributed as [`TABLES`] says.
///
/// # Errors
/// [`DistributionError::Differs`] names the first table that is not.
pub async fn check(db: &mut PgConnection) -> Result<(), DistributionError> {
    if engine(&mut *db).await? == Engine::Plain {
        return Ok(());
    }
    let tables = tables(&mut *db).await?;
    compare(&spread(db).await?, &tables)
}

/// Whether some table is distributed already.
pub async fn is_begun(db: &mut PgConnection) -> Result<bool, DistributionError> {
    Ok(engine(&mut *db).await? == Engine::Distributed && !spread(db).await?.is_empty())
}

/// Distributes the tables of a cluster that are not distributed yet, with the rows in them, in one
/// transaction. Returns their names.
///
/// Takes seconds, in which nothing else can write. May be repeated, and run by many at once.
///
/// # Errors
/// If a table is unknown, or distributed otherwise. Then nothing is changed.
pub async fn distribute(db: &mut PgConnection) -> Result<Vec<&'static str>, DistributionError> {
    if engine(&mut *db).await? == Engine::Plain {
        return Ok(Vec::new());
    }
    sqlx::query("select pg_advisory_lock($1)").bind(LOCK).execute(&mut *db).await?;
    let outcome = distribute_locked(&mut *db).await;
    sqlx::query("select pg_advisory_unlock($1)").bind(LOCK).execute(db).await?;
    outcome
}

async fn distribute_locked(db: &mut PgConnection) -> Result<Vec<&'static str>, DistributionError> {
    let mut tx = db.begin().await?;
    let tables = tables(&mut tx).await?;
    if let Some(table) = tables.iter().find(|table| class(table).is_none()) {
        return Err(DistributionError::Unknown(table.clone()));
    }
    let spread_before = spread(&mut tx).await?;
    let missing: Vec<(&str, &str)> = TABLES
        .iter()
        .filter(|(table, _)| tables.contains(*table) && !spread_before.contains_key(*table))
        .filter_map(|(table, class)| Some((*table, class.column()?)))
        .collect();
    if !missing.is_empty() {
        let keys = foreign_keys(&mut tx, &missing).await?;
        for key in &keys {
            execute(&mut tx, key.dropped()).await?;
        }
        for (table, column) in &missing {
            let group = match class(table) {
                Some(Class::Org) if *table != FIRST => FIRST,
                _ => "none",
            };
            sqlx::query("select create_distributed_table($1::regclass, $2, colocate_with => $3)")
                .bind(table)
                .bind(column)
                .bind(group)
                .execute(&mut *tx)
                .await?;
        }
        for key in &keys {
            execute(&mut tx, key.added()).await?;
        }
    }
    compare(&spread(&mut tx).await?, &tables)?;
    tx.commit().await?;
    // What was in a table before is still on the coordinator, unseen. Also when an earlier run was broken off here.
    for (table, class) in TABLES.iter().filter(|(table, _)| tables.contains(*table)) {
        if *class == Class::Local {
            continue;
        }
        let left = "select pg_relation_size($1::regclass) > 0";
        let left: bool = sqlx::query_scalar(left).bind(table).fetch_one(&mut *db).await?;
        if left {
            sqlx::query("select truncate_local_data_after_distributing_table($1::regclass)")
                .bind(table)
                .execute(&mut *db)
                .await?;
        }
    }
    propagate_settings(db).await?;
    Ok(missing.into_iter().map(|(table, _)| table).collect())
}

/// Makes `set local lock_timeout` reach the workers, for all sessions of this database.
async fn propagate_settings(db: &mut PgConnection) -> Result<(), DistributionError> {
    let is_set = "select exists (
                      select 1 from pg_db_role_setting s join pg_database d on d.oid = s.setdatabase
                      where d.datname = current_database() and s.setrole = 0
                        and 'citus.propagate_set_commands=local' = any(s.setconfig))";
    if sqlx::query_scalar::<_, bool>(is_set).fetch_one(&mut *db).await? {
        return Ok(());
    }
    let setting = "select format('alter database %I set citus.propagate_set_commands = %L',
                                 current_database(), 'local')";
    let setting: String = sqlx::query_scalar(setting).fetch_one(&mut *db).await?;
    execute(db, setting.clone()).await.map_err(|error| {
        let code = error.as_database_error().and_then(|error| error.code().map(|code| code.into_owned()));
        // Insufficient privilege.
        if code.as_deref() == Some("42501") { DistributionError::NotOwner(setting) } else { error.into() }
    })
}

/// A table's class; none if the table is unknown.
pub fn class(table: &str) -> Option<Class> {
    TABLES.iter().find(|(known, _)| *known == table).map(|(_, class)| *class)
}

async fn tables(db: &mut PgConnection) -> Result<BTreeSet<String>, sqlx::Error> {
    let query = sqlx::query_scalar!(
        r#"select relname::text as "table!" from pg_class
           where relnamespace = current_schema()::regnamespace and relkind in ('r', 'p')"#
    );
    Ok(query.fetch_all(db).await?.into_iter().collect())
}

/// How a table is distributed now: its column, and the number of its group.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Spread {
    column: Option<String>,
    group: i32,
}

/// What the engine says of each table that is not local.
async fn spread(db: &mut PgConnection) -> Result<BTreeMap<String, Spread>, sqlx::Error> {
    let query = sqlx::query_as::<_, (String, Option<String>, i32)>(
        "select c.relname::text, column_to_column_name(p.logicalrelid, p.partkey), p.colocationid::integer
         from pg_dist_partition p join pg_class c on c.oid = p.logicalrelid
         where c.relnamespace = current_schema()::regnamespace",
    );
    let rows = query.fetch_all(db).await?;
    Ok(rows.into_iter().map(|(table, column, group)| (table, Spread { column, group })).collect())
}

/// Refuses a table of the schema that is distributed otherwise than [`TABLES`] says.
fn compare(found: &BTreeMap<String, Spread>, tables: &BTreeSet<String>) -> Result<(), DistributionError> {
    let first = found.get(FIRST).map(|spread| spread.group);
    let differs = |table: &str, found: Option<&Spread>, needed: Class| DistributionError::Differs {
        table: table.to_owned(),
        found: match found {
            None => "on the coordinator alone".to_owned(),
            Some(Spread { column: None, .. }) => "copied to every worker".to_owned(),
            Some(Spread { column: Some(column), group }) => {
                format!("distributed by {column} in group {group}")
            }
        },
        needed: match needed {
            Class::Org => format!("distributed by org_id in the group of {FIRST}"),
            Class::Lookup(column) => format!("distributed by {column} in a group of its own"),
            Class::Local => "on the coordinator alone".to_owned(),
        },
    };
    for (table, class) in TABLES.iter().filter(|(table, _)| tables.contains(*table)) {
        let spread = found.get(*table);
        let is_as_needed = match (class, spread) {
            (Class::Local, None) => true,
            (Class::Local, Some(_)) | (_, None) => false,
            (class, Some(spread)) => {
                let others = || found.iter().filter(|(other, _)| *other != table);
                spread.column.as_deref() == class.column()
                    && match class {
                        Class::Org => Some(spread.group) == first,
                        _ => others().all(|(_, other)| other.group != spread.group),
                    }
            }
        };
        if !is_as_needed {
            return Err(differs(table, spread, *class));
        }
    }
    Ok(())
}

/// A foreign key, to be dropped and added again.
#[derive(Debug)]
struct ForeignKey {
    /// All three as they stand in a statement, quoted where they have to be.
    table: String,
    name: String,
    definition: String,
}

impl ForeignKey {
    fn dropped(&self) -> String {
        format!("alter table {} drop constraint {}", self.table, self.name)
    }

    fn added(&self) -> String {
        format!("alter table {} add constraint {} {}", self.table, self.name, self.definition)
    }
}

/// The foreign keys of these tables and to them.
///
/// There is no order of distribution in which none of them is in the way.
async fn foreign_keys(
    db: &mut PgConnection,
    tables: &[(&str, &str)],
) -> Result<Vec<ForeignKey>, sqlx::Error> {
    let tables: Vec<String> = tables.iter().map(|(table, _)| (*table).to_owned()).collect();
    let query = sqlx::query_as!(
        ForeignKey,
        r#"select k.conrelid::regclass::text as "table!", quote_ident(k.conname) as "name!",
                  pg_get_constraintdef(k.oid) as "definition!"
           from pg_constraint k
           join pg_class c on c.oid = k.conrelid join pg_class r on r.oid = k.confrelid
           where k.contype = 'f' and c.relnamespace = current_schema()::regnamespace
             and (c.relname = any($1) or r.relname = any($1))
           order by 1, 2"#,
        &tables
    );
    query.fetch_all(db).await
}

/// Executes a statement that is made of names out of the catalog, quoted by the database itself.
async fn execute(db: &mut PgConnection, statement: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(db).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn as_needed() -> BTreeMap<String, Spread> {
        let distributed = TABLES.iter().filter_map(|(table, class)| Some((table, class, class.column()?)));
        let spread = distributed.enumerate().map(|(number, (table, class, column))| {
            let group = if *class == Class::Org { 1 } else { 10 + number as i32 };
            ((*table).to_owned(), Spread { column: Some(column.to_owned()), group })
        });
        spread.collect()
    }

    fn all() -> BTreeSet<String> {
        TABLES.iter().map(|(table, _)| (*table).to_owned()).collect()
    }

    #[test]
    fn what_is_distributed_otherwise_is_named() {
        compare(&as_needed(), &all()).unwrap();
        let spread = |column: Option<&str>, group| Spread { column: column.map(str::to_owned), group };
        for (table, found, says) in [
            ("tokens", None, "the table tokens is on the coordinator alone"),
            ("orgs", Some(spread(None, 1)), "the table orgs is copied to every worker"),
            ("tokens", Some(spread(Some("org_id"), 2)), "distributed by org_id in group 2"),
            ("tokens", Some(spread(Some("token_id"), 1)), "distributed by token_id in group 1"),
            ("slugs", Some(spread(Some("org_id"), 1_000)), "needs it distributed by slug"),
            ("usernames", Some(spread(Some("username"), 1)), "in a group of its own"),
            ("feed", Some(spread(Some("org_id"), 1)), "needs it on the coordinator alone"),
        ] {
            let mut other = as_needed();
            match found {
                Some(found) => other.insert(table.to_owned(), found),
                None => other.remove(table),
            };
            let refused = compare(&other, &all()).unwrap_err().to_string();
            assert!(refused.contains(says) && refused.contains("countersign migrate"), "{says:?}: {refused}");
        }
    }

    #[test]
    fn a_table_that_is_not_there_yet_is_not_missed() {
        let mut before = as_needed();
        before.remove("invitations");
        let mut tables = all();
        assert!(compare(&before, &tables).is_err());
        tables.remove("invitations");
        compare(&before, &tables).unwrap();
    }

    #[test]
    fn a_key_is_dropped_and_added_as_it_was() {
        let key = ForeignKey {
            table: "grants".to_owned(),
            name: "grants_role_fk".to_owned(),
            definition: "FOREIGN KEY (org_id, role_id) REFERENCES roles(org_id, role_id)".to_owned(),
        };
        assert_eq!(key.dropped(), "alter table grants drop constraint grants_role_fk");
        assert_eq!(
            key.added(),
            "alter table grants add constraint grants_role_fk FOREIGN KEY (org_id, role_id) REFERENCES roles(org_id, role_id)"
        );
    }
}
