//! Arguments that say which database is used, and by how many connections.

use std::path::PathBuf;

use clap::Args;
use clap::builder::RangedU64ValueParser;

use crate::config::{DatabaseUrl, secret_file};

/// The database of every command but `dev`.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Database")]
pub(crate) struct DatabaseArgs {
    /// The database: `postgres://user:password@host/name`, with `?sslmode=verify-full` over a
    /// network.
    ///
    /// `sslrootcert` names a file with the authority that signed the server's certificate; `sslcert` and
    /// `sslkey` the files of a client certificate, where the database wants one. Better set as a variable: every process of the machine can read flags.
    #[arg(
        long,
        env = "COUNTERSIGN_DATABASE_URL",
        hide_env_values = true,
        required_unless_present = "database_url_file",
        conflicts_with = "database_url_file",
        value_name = "URL"
    )]
    database_url: Option<DatabaseUrl>,
    /// A file with that URL, instead of it. One that others can read is refused: `chmod 600`.
    #[arg(long, env = "COUNTERSIGN_DATABASE_URL_FILE", value_name = "FILE")]
    database_url_file: Option<PathBuf>,
}

impl DatabaseArgs {
    /// The URL, and the flag that names it.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub(crate) fn url(&self) -> anyhow::Result<(DatabaseUrl, &'static str)> {
        const FILE: &str = "--database-url-file";
        match (&self.database_url, &self.database_url_file) {
            (Some(url), _) => Ok((url.clone(), "--database-url")),
            (None, Some(file)) => Ok((secret_file::line(FILE, file)?.to_string().into(), FILE)),
            (None, None) => anyhow::bail!("--database-url or {FILE} is required"),
        }
    }
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
