//! Arguments that say which database is used, and by how many connections.

use clap::Args;
use clap::builder::RangedU64ValueParser;

use crate::config::DatabaseUrl;

/// The database of every command but `dev`.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Database")]
pub(crate) struct DatabaseArgs {
    /// The database: `postgres://user:password@host/name`, with `?sslmode=verify-full` over a
    /// network.
    ///
    /// Better set as a variable: every process of the machine can read flags.
    #[arg(long, env = "COUNTERSIGN_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: DatabaseUrl,
}

/// The connections of a server.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Database")]
pub(crate) struct ConnectionArgs {
    /// The most connections to the database, apart from those of `--database-load-connections`.
    #[arg(
        long,
        env = "COUNTERSIGN_DATABASE_CONNECTIONS",
        default_value_t = 16,
        value_parser = RangedU64ValueParser::<u32>::new().range(1..),
        value_name = "N"
    )]
    pub database_connections: u32,
    /// The most connections to the database for loading credentials that are not cached.
    #[arg(
        long,
        env = "COUNTERSIGN_DATABASE_LOAD_CONNECTIONS",
        default_value_t = 4,
        value_parser = RangedU64ValueParser::<u32>::new().range(1..),
        value_name = "N"
    )]
    pub database_load_connections: u32,
}
