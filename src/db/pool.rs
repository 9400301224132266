//! Connections to the database.

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};

/// How long a call waits for a connection before it is told that there is none.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// Options from a URL, `postgres://user:password@host/database`. The PG* variables of
/// the environment, which the driver reads by itself, are not looked at: what is not
/// in the URL has its default.
pub fn options(url: &str) -> Result<PgConnectOptions, sqlx::Error> {
    Ok(PgConnectOptions::from_str(url)?.application_name("countersign"))
}

/// A pool that connects when it is first needed.
pub fn lazy(options: PgConnectOptions, max_connections: u32) -> PgPool {
    PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(Duration::from_secs(300))
        .connect_lazy_with(options)
}
