//! `countersign dev`: everything on one machine, to try it.
//!
//! An embedded PostgreSQL, a first run of the main job, and the server.

mod certificates;
mod data_dir;
mod env_file;
mod target;
mod tour;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use countersign_embedded_postgres::{Options, Server};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::{bootstrap, issuer as recorded_issuer};
use crate::clock::Clock;
use crate::config::args::DevArgs;
use crate::config::{Issuer, ListenAddress, ServerLimits, WebUrl};
use crate::db::schema;
use crate::db::session::SessionSettings;
use crate::mail::{EmailDelivery, Mailer, Transport};
use crate::server::{self, Listener};
use crate::state::{Pools, State};
use crate::tls::Tls;
use env_file::{EnvFile, shell_quoted};
use target::Target;

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
    let listener = server::bind(listen, None, listening.insecure_listen || args.tls, "--tls").await?;
    let metrics = server::bind_metrics(args.server.observed.metrics_listen.as_ref()).await?;
    let endpoint = endpoint(listen, listener.local_addr()?, args.tls);
    data_dir::prepare(&args.data_dir)?;
    let clock = Clock::default();
    let (listener, authority) = if args.tls {
        let (authority, settings) =
            certificates::prepare(&args.data_dir, certified_names(listen), clock.now())?;
        (listener.with_tls(Tls::open(settings, clock.clone())?), Some(authority))
    } else {
        (listener, None)
    };
    let target = Target { endpoint, authority };
    let database = start_database(&args.data_dir).await?;
    let outcome = run_on(&args, &database, (listener, metrics), &target, clock, began).await;
    let stopped = tokio::task::spawn_blocking(move || database.stop()).await?;
    outcome.and(stopped)
}

async fn run_on(
    args: &DevArgs,
    database: &Server,
    (listener, metrics): (Listener, Option<TcpListener>),
    target: &Target,
    clock: Clock,
    began: Instant,
) -> Result<()> {
    let endpoint = &target.endpoint;
    let options = open_database(database).await?;
    let master = data_dir::master_keys(&args.data_dir.join("master.key"))?;
    let issuer: Issuer =
        endpoint.parse().map_err(|wrong| anyhow::anyhow!("the issuer {endpoint} {wrong}"))?;
    let mut limits = ServerLimits::from(args.server.clone());
    limits.federation.ceiling = limits.federation.ceiling.with_this_machine();
    let settings = SessionSettings::from(&limits);
    let pools =
        Pools::open(&options, limits.database_connections, limits.database_load_connections, settings);
    // It owns its database: the port, and with it the issuer, may be another one at each start.
    recorded_issuer::own(&pools.main, &issuer).await?;
    let state =
        State::open(pools, master, args.signing.signing_algorithm, issuer, limits.credentials(), clock)
            .await?;

    let (stop, stopped) = oneshot::channel::<()>();
    let pages_url = args.pages.pages_url.clone().unwrap_or_else(|| WebUrl::from(&state.issuer));
    let transport = Transport::Files(args.data_dir.join("mail"));
    let mailer = Some(Mailer { from: MAIL_FROM.parse()?, transport });
    let delivery = EmailDelivery { pages_url, appearance: args.pages.appearance()?, mailer };
    let _metrics = metrics.map(|listener| server::serve_metrics(listener, state.clone())).transpose()?;
    let mut serving = tokio::spawn(server::run(listener, state.clone(), limits, delivery, async move {
        // Nothing is sent: the sender is dropped to stop the server.
        let _ = stopped.await;
    }));
    let path = args.data_dir.join("dev.env");
    let earlier = EnvFile::read(&path);
    let work = async {
        let operator_token = operator_token(&state, target, earlier.operator_token.as_deref()).await?;
        let done = tour::run(target, &operator_token, earlier.service_token.as_deref()).await?;
        let env = EnvFile {
            endpoint: Some(endpoint.clone()),
            ca_file: target.authority.as_ref().map(|authority| shell_quoted(&authority.file)),
            operator_token: Some(operator_token),
            org_id: Some(done.org_id.clone()),
            service_token: Some(done.service_token.clone()),
        };
        env.write(&path).with_context(|| format!("writing {}", path.display()))?;
        tour::print(&done, database, began.elapsed())?;
        if !args.exit {
            // Before it is said that Ctrl-C stops it.
            let asked = server::asked_to_stop();
            tour::suggest(target, &path)?;
            asked.await;
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
fn endpoint(listen: &ListenAddress, bound: SocketAddr, tls: bool) -> String {
    let scheme = if tls { "https" } else { "http" };
    match &listen.host {
        Some(name) if name.parse::<IpAddr>().is_err() && !name.contains('%') => {
            format!("{scheme}://{name}:{}", bound.port())
        }
        _ if bound.ip().is_unspecified() => format!("{scheme}://localhost:{}", bound.port()),
        _ => format!("{scheme}://{bound}"),
    }
}

/// What the server's certificate is for: this machine, and the host that it was told to listen on.
fn certified_names(listen: &ListenAddress) -> Vec<String> {
    let mut names: Vec<_> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    // A zone, as in `fe80::1%eth0`, stands in no certificate.
    let host = listen.host.as_ref().filter(|host| !host.contains('%') && !names.contains(host)).cloned();
    names.extend(host);
    names
}

async fn start_database(data_dir: &Path) -> Result<Server> {
    let data_dir = data_dir.to_owned();
    let start = move || {
        let progress = |line: &str| eprintln!("{line}");
        Server::start(&Options { data_dir: &data_dir, durable: true, settings: &[], progress: &progress })
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
async fn operator_token(state: &State, target: &Target, earlier: Option<&str>) -> Result<String> {
    if let Some(token) = earlier
        && tour::is_operator(target, token).await?
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
            let (listen, bound) = (listen.parse().unwrap(), bound.parse().unwrap());
            let over_tls = endpoint(&listen, bound, true);
            let endpoint = endpoint(&listen, bound, false);
            assert_eq!(over_tls, expected.replace("http:", "https:"));
            assert_eq!(endpoint, expected, "{listen}");
            assert!(endpoint.parse::<Issuer>().is_ok(), "{endpoint}");
        }
    }
}
