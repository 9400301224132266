//! Connections to the database.

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};

/// How long a call waits for a connection before it is told that there is none.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// Options from a URL, `postgres://user:password@host/database`. The PG* variables of
/// the environment, which the driver reads by itself, are not looked at: what is not
/// in the URL has its default.
///
/// # Errors
/// A sentence that does not show the URL, which may hold a password.
pub fn options(url: &str) -> Result<PgConnectOptions, String> {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err("must begin with postgres://".to_owned());
    }
    match PgConnectOptions::from_str(url) {
        Ok(options) => Ok(options.application_name("countersign")),
        // Of its parser's errors this is the kind that names what is wrong and shows nothing.
        Err(sqlx::Error::Configuration(error)) => Err(format!("cannot be read: {error}")),
        Err(_) => Err("cannot be read".to_owned()),
    }
}

/// A pool that connects when it is first needed.
pub fn lazy(options: PgConnectOptions, max_connections: u32) -> PgPool {
    PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(Duration::from_secs(300))
        .connect_lazy_with(options)
}
