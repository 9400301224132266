//! `countersign dev`: everything on one machine, to try it.
//!
//! An embedded PostgreSQL, a first run of the main job, and the server.

mod data_dir;
mod env_file;
mod tour;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use countersign_embedded_postgres::{Options, Server};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use tokio::sync::oneshot;

use super::{bootstrap, issuer as recorded_issuer};
use crate::clock::Clock;
use crate::config::args::DevArgs;
use crate::config::{Issuer, ListenAddress, ServerLimits, WebUrl};
use crate::db::pool::SessionSettings;
use crate::db::schema;
use crate::mail::{EmailDelivery, Mailer, Transport};
use crate::server::{self, Listener};
use crate::state::{Pools, State};
use env_file::EnvFile;

/// The lifetime of the operator token of `dev`.
const TOKEN_LIFETIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);
const DATABASE: &str = "countersign";
/// The sender of the emails of `dev`, which are written to files and never sent.
const MAIL_FROM: &str = "Countersign <no-reply@countersign.example>";

/// Runs until Ctrl-C, or with `--exit` until the tour is done.
pub(super) async fn run(args: DevArgs) -> Result<()> {
    let began = Instant::now();
    // Before everything else, so that a port in use is an error before anything is created.
    let listening = &args.server.listening;
    let listen = &listening.listen;
    let listener = server::bind(listen, None, listening.insecure_listen).await?;
    let endpoint = endpoint(listen, listener.local_addr()?);
    data_dir::prepare(&args.data_dir)?;
    let database = start_database(&args.data_dir).await?;
    let outcome = run_on(&args, &database, listener, endpoint, began).await;
    let stopped = tokio::task::spawn_blocking(move || database.stop()).await?;
    outcome.and(stopped)
}

async fn run_on(
    args: &DevArgs,
    database: &Server,
    listener: Listener,
    endpoint: String,
    began: Instant,
) -> Result<()> {
    let options = open_database(database).await?;
    let master = data_dir::master_keys(&args.data_dir.join("master.key"))?;
    let issuer: Issuer =
        endpoint.parse().map_err(|wrong| anyhow::anyhow!("the issuer {endpoint} {wrong}"))?;
    let limits = ServerLimits::from(args.server.clone());
    let settings =
        SessionSettings { statement_timeout: Some(limits.statement_timeout()), ..Default::default() };
    let pools =
        Pools::open(&options, limits.database_connections, limits.database_load_connections, settings);
    // It owns its database: the port, and with it the issuer, may be another one at each start.
    recorded_issuer::own(&pools.main.pool(), &issuer).await?;
    let state = State::open(
        pools,
        master,
        args.signing.signing_algorithm,
        issuer,
        limits.credentials(),
        Clock::default(),
    )
    .await?;

    let (stop, stopped) = oneshot::channel::<()>();
    let pages_url = args.pages.pages_url.clone().unwrap_or_else(|| WebUrl::from(&state.issuer));
    let transport = Transport::Files(args.data_dir.join("mail"));
    let mailer = Some(Mailer { from: MAIL_FROM.parse()?, transport });
    let delivery = EmailDelivery { pages_url, appearance: args.pages.appearance()?, mailer };
    let mut serving = tokio::spawn(server::run(listener, state.clone(), limits, delivery, async move {
        // Nothing is sent: the sender is dropped to stop the server.
        let _ = stopped.await;
    }));
    let path = args.data_dir.join("dev.env");
    let earlier = EnvFile::read(&path);
    let work = async {
        let operator_token = operator_token(&state, &endpoint, earlier.operator_token.as_deref()).await?;
        let done = tour::run(&endpoint, &operator_token, earlier.service_token.as_deref()).await?;
        let env = EnvFile {
            endpoint: Some(endpoint.clone()),
            operator_token: Some(operator_token),
            org_id: Some(done.org_id.clone()),
            service_token: Some(done.service_token.clone()),
        };
        env.write(&path).with_context(|| format!("writing {}", path.display()))?;
        tour::print(&done, database, began.elapsed())?;
        if !args.exit {
            tour::suggest(&endpoint, &path)?;
            server::asked_to_stop().await;
        }
        anyhow::Ok(())
    };
    let (outcome, served) = tokio::select! {
        outcome = work => {
            drop(stop);
            (outcome, serving.await?)
        }
        // It ends by itself when it cannot go on.
        served = &mut serving => (Ok(()), served?),
    };
    state.close().await;
    outcome.and(served)
}

/// The URL at which clients on this machine reach the server, which is also its issuer.
///
/// Its host is the name that the server was configured to listen on, or `localhost` if it listens on every
/// interface.
fn endpoint(listen: &ListenAddress, bound: SocketAddr) -> String {
    match &listen.host {
        Some(name) if name.parse::<IpAddr>().is_err() && !name.contains('%') => {
            format!("http://{name}:{}", bound.port())
        }
        _ if bound.ip().is_unspecified() => format!("http://localhost:{}", bound.port()),
        _ => format!("http://{bound}"),
    }
}

async fn start_database(data_dir: &Path) -> Result<Server> {
    let data_dir = data_dir.to_owned();
    let start = move || {
        let progress = |line: &str| eprintln!("{line}");
        Server::start(&Options { data_dir: &data_dir, durable: true, progress: &progress })
    };
    tokio::task::spawn_blocking(start).await?
}

/// The options to connect to a database of the private server.
///
/// All are set, so that the driver takes none from the environment.
pub fn connect_options(server: &Server, database: &str) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .socket(server.socket_dir())
        .port(5432)
        .username(server.user())
        .database(database)
        .ssl_mode(sqlx::postgres::PgSslMode::Disable)
        .application_name("countersign")
}

/// Creates and migrates our own database, and returns its options.
async fn open_database(server: &Server) -> Result<PgConnectOptions> {
    let mut maintenance = PgConnection::connect_with(&connect_options(server, "postgres")).await?;
    let exists = sqlx::query_scalar!(
        r#"select exists (select 1 from pg_database where datname = $1) as "there!""#,
        DATABASE
    );
    if !exists.fetch_one(&mut maintenance).await? {
        sqlx::raw_sql("create database countersign").execute(&mut maintenance).await?;
    }
    maintenance.close().await?;
    let options = connect_options(server, DATABASE);
    let mut connection = PgConnection::connect_with(&options).await?;
    schema::migrate(&mut connection).await?;
    connection.close().await?;
    Ok(options)
}

/// The operator's token of an earlier run if it is still valid, else a new one.
async fn operator_token(state: &State, endpoint: &str, earlier: Option<&str>) -> Result<String> {
    if let Some(token) = earlier
        && tour::is_operator(endpoint, token).await?
    {
        return Ok(token.to_owned());
    }
    if let Some(operator) = bootstrap::find_operator(state).await? {
        let token = bootstrap::reissue(state, operator, tour::TOKEN_NAME, TOKEN_LIFETIME).await?;
        return Ok(token.expose().to_owned());
    }
    let mut token = String::new();
    let store = |issued: &str| {
        token.push_str(issued);
        Ok(())
    };
    bootstrap::bootstrap(state, tour::TOKEN_NAME, TOKEN_LIFETIME, store).await?;
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_issuer_is_where_clients_of_this_machine_connect() {
        for (listen, bound, expected) in [
            ("127.0.0.1:0", "127.0.0.1:1", "http://127.0.0.1:1"),
            ("[::1]:1", "[::1]:1", "http://[::1]:1"),
            ("localhost:0", "127.0.0.1:1", "http://localhost:1"),
            ("localhost:0", "[::1]:1", "http://localhost:1"),
            (":0", "[::]:1", "http://localhost:1"),
            ("0.0.0.0:0", "0.0.0.0:1", "http://localhost:1"),
            ("[::]:0", "[::]:1", "http://localhost:1"),
        ] {
            let endpoint = endpoint(&listen.parse().unwrap(), bound.parse().unwrap());
            assert_eq!(endpoint, expected, "{listen}");
            assert!(endpoint.parse::<Issuer>().is_ok(), "{endpoint}");
        }
    }
}
