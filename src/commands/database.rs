//! How commands reach the database.

use anyhow::Result;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};

use crate::config::args::DatabaseArgs;
use crate::db::{pool, schema};
use crate::state::Pools;

/// A connection of its own, to a database that may have no schema yet.
pub(super) async fn connect(args: &DatabaseArgs) -> Result<PgConnection> {
    connect_with(&options(args)?).await
}

/// Pools of the database, after a check that it is there and has our schema.
pub(super) async fn open(args: &DatabaseArgs, connections: u32, load_connections: u32) -> Result<Pools> {
    let options = options(args)?;
    // A connection of its own says why there is none; a pool says only that it waited.
    connect_with(&options).await?.close().await?;
    let pools = Pools::open(&options, connections, load_connections);
    schema::check(&pools.main.pool()).await?;
    Ok(pools)
}

fn options(args: &DatabaseArgs) -> Result<PgConnectOptions> {
    pool::options(args.database_url.expose()).map_err(|wrong| anyhow::anyhow!("--database-url {wrong}"))
}

async fn connect_with(options: &PgConnectOptions) -> Result<PgConnection> {
    // Its `Display` names the cause already.
    let connection = PgConnection::connect_with(options).await;
    connection.map_err(|error| anyhow::anyhow!("the database cannot be reached: {error}"))
}
