//! `countersign dev`: everything on one machine, for trying out. An embedded
//! PostgreSQL, a first run of the main job, and the server.

pub mod env_file;
pub mod tour;

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, io};

use anyhow::{Context as _, Result};
use countersign_embedded_postgres::{Options, Server};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::bootstrap;
use crate::clock::Clock;
use crate::config::{DevArgs, Issuer, WebUrl};
use crate::crypto::seal::MasterKeys;
use crate::db::schema;
use crate::mail::{PostOffice, Postman, Transport};
use crate::server;
use crate::state::{Pools, State};
use env_file::EnvFile;

/// The name of the tokens that `dev` makes for itself.
const TOKEN_NAME: &str = "dev";
/// How long the operator token of `dev` lives.
const TOKEN_LIFE: Duration = Duration::from_secs(365 * 24 * 60 * 60);
const DATABASE: &str = "countersign";
/// Who the mails of `dev` are from, which nobody receives.
const MAIL_FROM: &str = "Countersign <no-reply@countersign.example>";

/// Runs until Ctrl-C, or until the tour is done when the caller wants no more.
pub async fn run(args: DevArgs) -> Result<()> {
    let began = Instant::now();
    // First of all, so that a port in use is found before anything is made.
    let listener = listen(args.listen).await?;
    let address = listener.local_addr()?;
    prepare(&args.data_dir)?;
    let database = start_database(&args.data_dir).await?;
    let outcome = run_on(&args, &database, listener, address, began).await;
    let stopped = tokio::task::spawn_blocking(move || database.stop()).await?;
    outcome.and(stopped)
}

async fn run_on(
    args: &DevArgs,
    database: &Server,
    listener: TcpListener,
    address: SocketAddr,
    began: Instant,
) -> Result<()> {
    let endpoint = endpoint(address);
    let options = open_database(database).await?;
    let master = master_keys(&args.data_dir.join("master.key"))?;
    let issuer: Issuer =
        endpoint.parse().map_err(|wrong| anyhow::anyhow!("the issuer {endpoint} {wrong}"))?;
    let state = State::open(
        Pools::open(&options, args.limits.database_connections, args.limits.database_load_connections),
        master,
        args.signing.signing_algorithm,
        issuer,
        args.limits.bounds(),
        Clock::default(),
    )
    .await?;

    let (stop, stopped) = oneshot::channel::<()>();
    let pages_url = args.pages.pages_url.clone().unwrap_or_else(|| WebUrl::from(&state.issuer));
    let transport = Transport::Files(args.data_dir.join("mail"));
    let office = PostOffice { pages_url, postman: Some(Postman { from: MAIL_FROM.parse()?, transport }) };
    let serving =
        tokio::spawn(server::run(listener, state.clone(), args.limits.clone(), office, async move {
            // Nobody sends: the other end being dropped is the sign.
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
        tour::tell(&done, database, began.elapsed())?;
        if !args.exit {
            tour::suggest(&endpoint, &path)?;
            server::asked_to_stop().await;
        }
        anyhow::Ok(())
    };
    let outcome = work.await;
    drop(stop);
    let served = serving.await?;
    state.close().await;
    outcome.and(served)
}

/// Binds, or says in words why not.
pub async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))
}

/// Where clients on this machine reach an address; a wildcard is reached through loopback.
fn endpoint(address: SocketAddr) -> String {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        std::net::IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
        std::net::IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
    };
    format!("http://{}", SocketAddr::new(ip, address.port()))
}

/// Makes the data directory, which no version control shall take.
fn prepare(data_dir: &Path) -> Result<()> {
    let make = || -> io::Result<()> {
        // Others may pass through, so that PostgreSQL's own user reaches its files; what is secret is 0600.
        fs::DirBuilder::new().recursive(true).mode(0o711).create(data_dir)?;
        let ignore = data_dir.join(".gitignore");
        if ignore.exists() { Ok(()) } else { fs::write(ignore, "*\n") }
    };
    make().with_context(|| format!("making the data directory {}", data_dir.display()))
}

async fn start_database(data_dir: &Path) -> Result<Server> {
    let data_dir = data_dir.to_owned();
    let start = move || {
        let progress = |line: &str| eprintln!("{line}");
        Server::start(&Options { data_dir: &data_dir, durable: true, progress: &progress })
    };
    tokio::task::spawn_blocking(start).await?
}

/// Options for a database of the private server. Everything is set, so that nothing of
/// the environment is left to the driver.
pub fn connect_options(server: &Server, database: &str) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .socket(server.socket_dir())
        .port(5432)
        .username(server.user())
        .database(database)
        .ssl_mode(sqlx::postgres::PgSslMode::Disable)
        .application_name("countersign")
}

/// Options for our own database, made and migrated.
async fn open_database(server: &Server) -> Result<PgConnectOptions> {
    let mut maintenance = PgConnection::connect_with(&connect_options(server, "postgres")).await?;
    let there = sqlx::query_scalar!(
        r#"select exists (select 1 from pg_database where datname = $1) as "there!""#,
        DATABASE
    );
    if !there.fetch_one(&mut maintenance).await? {
        sqlx::raw_sql("create database countersign").execute(&mut maintenance).await?;
    }
    maintenance.close().await?;
    let options = connect_options(server, DATABASE);
    let mut connection = PgConnection::connect_with(&options).await?;
    schema::migrate(&mut connection).await?;
    connection.close().await?;
    Ok(options)
}

/// The master keys of this data directory, made at its first start.
fn master_keys(path: &Path) -> Result<MasterKeys> {
    if !path.exists() {
        write_private(path, &MasterKeys::new_file())
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(MasterKeys::read(path)?)
}

/// Writes a file that only its owner may read, whole or not at all.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = Path::new(&name);
    match fs::remove_file(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(new, path)
}

/// The operator's token of an earlier run if it still works, else a new one.
async fn operator_token(state: &State, endpoint: &str, earlier: Option<&str>) -> Result<String> {
    if let Some(token) = earlier
        && tour::is_operator(endpoint, token).await?
    {
        return Ok(token.to_owned());
    }
    if let Some(operator) = bootstrap::find_operator(state).await? {
        let text = bootstrap::reissue(state, operator, TOKEN_NAME, TOKEN_LIFE).await?;
        return Ok(text.expose().to_owned());
    }
    let mut token = String::new();
    let keep = |text: &str| {
        token.push_str(text);
        Ok(())
    };
    bootstrap::bootstrap(state, TOKEN_NAME, TOKEN_LIFE, keep).await?;
    Ok(token)
}
