//! Connections of commands to the database.

use anyhow::Result;
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;

use crate::config::args::DatabaseArgs;
use crate::db::session::SessionSettings;
use crate::db::{pool, pooler, schema};
use crate::state::Pools;

/// Opens a single connection, to a database that may have no schema yet.
pub(super) async fn connect(args: &DatabaseArgs) -> Result<PgConnection> {
    let options = options(args)?;
    let shared = pooler::probe(&options).await?;
    let mut connection = pooler::connect(&options).await?;
    if !shared {
        sqlx::raw_sql("set statement_timeout = 0").execute(&mut connection).await?;
    }
    Ok(connection)
}

/// Opens the pools of a command, which a person watches: its statements have no time limit.
pub(super) async fn open(args: &DatabaseArgs, connections: u32, load_connections: u32) -> Result<Pools> {
    open_with(args, connections, load_connections, SessionSettings::default()).await
}

/// Opens pools of connections, after a check that the database is reachable, keeps prepared
/// statements, and has our schema.
pub(super) async fn open_with(
    args: &DatabaseArgs,
    connections: u32,
    load_connections: u32,
    settings: SessionSettings,
) -> Result<Pools> {
    let options = options(args)?;
    // The error of a single connection names its cause; that of a pool says only that it timed out.
    let shared = pooler::probe(&options).await?;
    let settings = SessionSettings { shared, ..settings };
    let pools = Pools::open(&options, connections, load_connections, settings);
    schema::check(&pools.main).await?;
    Ok(pools)
}

/// Which database it is, without the user and the password.
pub(super) fn shown(args: &DatabaseArgs) -> Result<String> {
    let options = options(args)?;
    let name = options.get_database().unwrap_or(options.get_username());
    Ok(match options.get_socket() {
        Some(directory) => format!("{}/{name}", directory.display()),
        None => format!("{}:{}/{name}", options.get_host(), options.get_port()),
    })
}

fn options(args: &DatabaseArgs) -> Result<PgConnectOptions> {
    let (url, flag) = args.url()?;
    pool::options(url.expose()).map_err(|wrong| anyhow::anyhow!("{flag} {wrong}"))
}
