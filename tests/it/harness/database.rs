//! A database for each test, copied from a template that is migrated once.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, OnceLock};

use countersign::clock::random;
use countersign::commands::dev::connect_options;
use countersign::db::pool::{self, Db};
use countersign::db::schema;
use countersign::db::session::SessionSettings;
use countersign_embedded_postgres as postgres;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};

use super::secrets::search_too;

/// Names the server that the tests use, as a user who may create databases there. Without it they
/// start one of their own. `DATABASE_URL` is only for the macros of sqlx.
const GIVEN: &str = "COUNTERSIGN_TEST_DATABASE_URL";

/// The server of this run, where none is given.
fn private_server() -> &'static postgres::Server {
    postgres::test_server::for_tests()
}

fn given_server() -> Option<String> {
    std::env::var(GIVEN).ok().filter(|url| !url.is_empty())
}

/// Options for a database of the server that the tests run on.
pub fn options(database: &str) -> PgConnectOptions {
    match given_server() {
        Some(url) => pool::options(&url).expect(GIVEN).database(database),
        None => connect_options(private_server(), database),
    }
}

async fn maintenance() -> PgConnection {
    let options = match given_server() {
        Some(url) => pool::options(&url).expect(GIVEN),
        None => options("postgres"),
    };
    PgConnection::connect_with(&options).await.unwrap()
}

/// What the names of this run's databases begin with, on a server that other runs may use too.
fn run_name() -> &'static str {
    static NAME: LazyLock<String> =
        LazyLock::new(|| format!("countersign_test_{:016x}", u64::from_ne_bytes(random())));
    &NAME
}

/// The template, created for the first test that needs it.
fn template() -> &'static str {
    static TEMPLATE: OnceLock<String> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let name = run_name().to_owned();
        let make = async |name: &str| {
            create(name, None).await;
            let mut connection = PgConnection::connect_with(&options(name)).await.unwrap();
            schema::migrate(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        };
        // A runtime of its own: the one of the test that comes first ends with that test.
        std::thread::scope(|scope| {
            let make = || tokio::runtime::Runtime::new().unwrap().block_on(make(&name));
            scope.spawn(make).join().unwrap();
        });
        if given_server().is_some() {
            countersign_os::at_exit(drop_template).unwrap();
        }
        name
    })
}

/// A given server is left as it was found.
extern "C" fn drop_template() {
    drop_database(template());
}

fn drop_database(name: &str) {
    let sql = format!("drop database {name} with (force)");
    let drop = async {
        let mut connection = maintenance().await;
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    };
    outside(drop);
}

/// Runs what a test's own runtime can no longer wait for.
fn outside<T: Send>(work: impl Future<Output = T> + Send) -> T {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work)
    };
    std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}

/// All events as one string, if there are any.
async fn events(name: &str) -> Result<Option<String>, sqlx::Error> {
    let mut connection = PgConnection::connect_with(&options(name)).await?;
    let there = sqlx::query_scalar::<_, bool>("select to_regclass('events') is not null");
    if !there.fetch_one(&mut connection).await? {
        return Ok(None);
    }
    let all = sqlx::query_scalar("select string_agg(e::text, E'\\n') from events e");
    let all = all.fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(all)
}

async fn create(name: &str, template: Option<&str>) {
    let template = template.map(|template| format!("template {template}")).unwrap_or_default();
    // Less work than through the log. It demands checkpoints, which a server that others use is spared.
    let strategy = if given_server().is_some() { "" } else { "strategy file_copy" };
    let sql = format!("create database {name} {template} {strategy}");
    let mut connection = maintenance().await;
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// A database for this test only.
pub struct Database {
    name: String,
}

impl Database {
    /// A migrated one.
    pub async fn create() -> Self {
        let name = Self::new_name();
        create(&name, Some(template())).await;
        Self { name }
    }

    /// One without a schema.
    pub async fn create_empty() -> Self {
        let name = Self::new_name();
        create(&name, None).await;
        Self { name }
    }

    fn new_name() -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        format!("{}_{}", run_name(), COUNT.fetch_add(1, Ordering::Relaxed))
    }

    pub fn options(&self) -> PgConnectOptions {
        options(&self.name)
    }

    /// Connections of the test to it.
    pub fn pool(&self) -> PgPool {
        PgPoolOptions::new().max_connections(3).connect_lazy_with(self.options())
    }

    /// Connections of the product to it.
    pub fn db(&self) -> Db {
        Db::lazy(self.options(), 3, SessionSettings::default())
    }

    /// Its name on the server.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The `--database-url` of it.
    pub fn url(&self) -> String {
        match given_server() {
            Some(url) => {
                let (base, query) =
                    url.split_once('?').map_or((url.as_str(), ""), |(base, query)| (base, query));
                let (server, _) = base.rsplit_once('/').unwrap_or_else(|| panic!("{GIVEN} names a database"));
                format!("{server}/{}?{query}", self.name)
            }
            None => {
                let server = private_server();
                let socket = server.socket_dir().display().to_string().replace('/', "%2F");
                format!("postgres://{}@localhost/{}?host={socket}", server.user(), self.name)
            }
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        match outside(events(&self.name)) {
            Ok(text) => search_too(text.unwrap_or_default().as_bytes()),
            // The failure of a test must not be hidden by another one.
            Err(error) => assert!(std::thread::panicking(), "the events of {}: {error}", self.name),
        }
        // On the private server, too: files that are removed soon never reach the disk. Hundreds of databases
        // would, and their removal would take minutes where the disk discards freed blocks.
        drop_database(&self.name);
    }
}

/// A PostgreSQL of its own, on the files of this directory.
pub async fn start_postgres(data_dir: &Path) -> postgres::Server {
    let data_dir = data_dir.to_owned();
    let start = move || {
        // Durable: what was acknowledged must be there after the crash.
        let options =
            postgres::Options { data_dir: &data_dir, durable: true, settings: &[], progress: &|_| () };
        postgres::Server::start(&options).unwrap()
    };
    tokio::task::spawn_blocking(start).await.unwrap()
}
