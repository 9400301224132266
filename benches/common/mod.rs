//! What the benches have in common: a private PostgreSQL, servers, clients and statistics.
//!
//! The servers are child processes of the release binary.
#![allow(dead_code, unreachable_pub, reason = "no bench uses all of it, and nothing imports a bench")]

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Read as _, Write as _, stdout};
use std::ops::Deref;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use countersign::commands::dev::connect_options;
use countersign::crypto::seal::MasterKeys;
use countersign::grpc::pb;
use countersign_embedded_postgres as postgres;
use countersign_os as os;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pb::account_service_client::AccountServiceClient;
use pb::org_service_client::OrgServiceClient;
use pb::token_service_client::TokenServiceClient;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// The issuer of all JWTs; it is never resolved.
pub const ISSUER: &str = "https://id.example";
/// The audience of the JWTs.
pub const AUDIENCE: &str = "https://billing.example";

/// Prints a line, and flushes it, so that a long set-up does not look like a hang.
pub fn progress(line: impl Display) {
    println!("{line}");
    let _ = stdout().flush();
}

/// The value of `--name VALUE`, or the default. `cargo bench` adds `--bench`.
pub fn option<T: std::str::FromStr>(name: &str, default: T) -> Result<T> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    if arguments.next().is_none() {
        return Ok(default);
    }
    let value = arguments.next().with_context(|| format!("{name} needs a value"))?;
    value.parse().map_err(|_| anyhow!("{name} {value}: invalid value"))
}

/// Refuses options that the bench does not have.
pub fn only_options(known: &[&str]) -> Result<()> {
    for argument in std::env::args().skip(1).filter(|argument| argument.starts_with("--")) {
        let is_known = argument == "--bench" || known.contains(&argument.as_str());
        ensure!(is_known, "{argument}: unknown option; the options are {}", known.join(" N, ") + " N");
    }
    Ok(())
}

/// The core of the server, and the one of everything else, if there are two.
#[derive(Clone, Copy, Debug)]
pub struct Cores {
    pub server: usize,
    pub others: usize,
}

impl Cores {
    /// Finds the first two cores that this process may use.
    pub fn find() -> Option<Self> {
        let allowed = sched_getaffinity(Pid::from_raw(0)).ok()?;
        let mut free = (0..CpuSet::count()).filter(|&core| allowed.is_set(core).unwrap_or(false));
        Some(Self { server: free.next()?, others: free.next()? })
    }
}

/// Pins the calling thread, and what it starts afterwards, to one core.
pub fn pin(core: Option<usize>) -> Result<()> {
    let Some(core) = core else { return Ok(()) };
    let mut set = CpuSet::new();
    set.set(core)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// A temporary directory, which is removed when this is dropped.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A migrated database with an operator, on a private PostgreSQL server that exits with this process.
pub struct Deployment {
    scratch: Arc<Scratch>,
    database: &'static str,
    pub operator: String,
    pub server: &'static postgres::Server,
}

impl Deployment {
    /// Creates it as in production: `create database`, `migrate`, `bootstrap`.
    pub async fn make() -> Result<Self> {
        os::forget_pg_environment();
        progress("starting a private PostgreSQL");
        let server = postgres::test_server::for_tests();
        let scratch = std::env::temp_dir().join(format!("countersign-bench-{}", std::process::id()));
        std::fs::create_dir_all(&scratch)?;
        Self::create(server, Arc::new(Scratch(scratch)), "countersign").await
    }

    /// Creates another one, in a database of its own beside this.
    pub async fn another(&self, database: &'static str) -> Result<Self> {
        Self::create(self.server, self.scratch.clone(), database).await
    }

    async fn create(
        server: &'static postgres::Server,
        scratch: Arc<Scratch>,
        database: &'static str,
    ) -> Result<Self> {
        let mut maintenance = PgConnection::connect_with(&connect_options(server, "postgres")).await?;
        let create = format!("create database {database}");
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut maintenance).await?;
        maintenance.close().await?;

        let mut deployment = Self { scratch, database, operator: String::new(), server };
        // The servers take no file that others can read.
        let mut key =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(deployment.master_key())?;
        key.write_all(MasterKeys::new_file().as_bytes())?;
        progress("migrate, bootstrap");
        deployment.run(countersign("migrate"))?;
        let token = deployment.file(&format!("{database}.operator.token"));
        let mut bootstrap = countersign("bootstrap");
        bootstrap.arg("--output").arg(&token);
        deployment.run(bootstrap)?;
        std::fs::read_to_string(&token)?.trim().clone_into(&mut deployment.operator);
        Ok(deployment)
    }

    fn run(&self, mut command: Command) -> Result<()> {
        let output = self.configure(&mut command).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    fn configure<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let socket = self.server.socket_dir().display().to_string().replace('/', "%2F");
        let url = format!("postgres://{}@localhost/{}?host={socket}", self.server.user(), self.database);
        command
            .env("COUNTERSIGN_DATABASE_URL", url)
            .env("COUNTERSIGN_ISSUER", ISSUER)
            .env("COUNTERSIGN_MASTER_KEY_FILE", self.master_key())
    }

    fn master_key(&self) -> PathBuf {
        self.file(&format!("{}.master.key", self.database))
    }

    /// The path of a file that is deleted with the deployment.
    pub fn file(&self, name: &str) -> PathBuf {
        self.scratch.0.join(name)
    }

    /// The keys that seal the secrets of the database.
    pub fn master_keys(&self) -> Result<MasterKeys> {
        Ok(MasterKeys::read(&self.master_key())?)
    }

    /// The options to connect to the database.
    pub fn options(&self) -> PgConnectOptions {
        connect_options(self.server, self.database)
    }

    /// Opens connections of the bench to the database.
    pub fn pool(&self, connections: u32) -> PgPool {
        PgPoolOptions::new().max_connections(connections).connect_lazy_with(self.options())
    }

    /// Starts `serve` with these flags, and waits until it is ready.
    pub fn serve(&self, flags: &[&str]) -> Result<Served> {
        let mut command = countersign("serve");
        command.args(["--listen", "127.0.0.1:0", "--log-format", "json", "--reflection", "false"]);
        self.configure(command.args(flags));
        Served::start(&mut command)
    }
}

/// A command of the product's binary, without its variables of the environment.
pub fn countersign(subcommand: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"COUNTERSIGN_") {
            command.env_remove(name);
        }
    }
    command.arg(subcommand);
    command
}

/// A server in its own process, which exits when this is dropped, and with this process.
pub struct Served {
    child: Child,
    /// `127.0.0.1:PORT`.
    pub address: String,
    /// The time from its start until it was ready.
    pub took: Duration,
}

impl Served {
    /// Starts it and reads standard error until a line of JSON says `ready` and the address.
    ///
    /// The calling thread must outlive it.
    pub fn start(command: &mut Command) -> Result<Self> {
        os::child::die_with_parent(command, Signal::SIGKILL);
        let began = Instant::now();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let stderr = child.stderr.take().context("no standard error")?;
        let mut served = Self { child, address: String::new(), took: Duration::ZERO };
        let mut log = BufReader::new(stderr);
        let mut line = String::new();
        while !line.contains("\"ready\"") {
            line.clear();
            ensure!(log.read_line(&mut line)? > 0, "the server ended before it was ready");
        }
        served.took = began.elapsed();
        let ready: serde_json::Value = serde_json::from_str(&line)?;
        ready["address"].as_str().context("no address")?.clone_into(&mut served.address);
        // What it logs later is printed: it should log nothing.
        std::thread::spawn(move || {
            for line in log.by_ref().lines().map_while(Result::ok) {
                if !line.contains("\"INFO\"") {
                    eprintln!("{line}");
                }
            }
        });
        Ok(served)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its resident memory, in KB.
    pub fn resident_kb(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse()?)
    }

    /// Connects a client with this credential.
    pub async fn client(&self, bearer: &str) -> Result<Client> {
        Client::connect(&self.address, bearer).await
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.pid().cast_signed()), Signal::SIGTERM);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(3) {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An interceptor that adds the credential to each call.
#[derive(Clone)]
pub struct Bearer(MetadataValue<tonic::metadata::Ascii>);

impl Bearer {
    fn new(token: &str) -> Result<Self> {
        Ok(Self(format!("Bearer {token}").parse()?))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// A client of all three services with one credential.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
    bearer: Bearer,
}

type Bearing = InterceptedService<Channel, Bearer>;

impl Client {
    /// Connects to `HOST:PORT`. Its tasks run on the current runtime.
    pub async fn connect(address: &str, bearer: &str) -> Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
        Ok(Self { channel: endpoint.connect().await?, bearer: Bearer::new(bearer)? })
    }

    /// A client on the same connection, with another credential.
    pub fn with(&self, bearer: &str) -> Result<Self> {
        Ok(Self { channel: self.channel.clone(), bearer: Bearer::new(bearer)? })
    }

    /// The body of the answer to a call of the RPC at this path, in JSON.
    pub async fn json(&self, path: &str, message: String) -> Result<Vec<u8>> {
        let request = http::Request::post(path).header("content-type", "application/json");
        let mut request = request.body(tonic::body::Body::new(axum::body::Body::from(message)))?;
        request.headers_mut().insert("authorization", self.bearer.0.to_str()?.parse()?);
        let answer = tower::ServiceExt::oneshot(self.channel.clone(), request).await?;
        Ok(axum::body::to_bytes(axum::body::Body::new(answer.into_body()), usize::MAX).await?.to_vec())
    }

    pub fn accounts(&self) -> AccountServiceClient<Bearing> {
        AccountServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    pub fn orgs(&self) -> OrgServiceClient<Bearing> {
        OrgServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    pub fn tokens(&self) -> TokenServiceClient<Bearing> {
        TokenServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    /// Creates an org with one resource, and returns its id.
    pub async fn make_org(&self, slug: &str, resource: &str) -> Result<String> {
        let request = pb::CreateOrgRequest {
            slug: slug.into(),
            display_name: slug.into(),
            owner: Some(pb::create_org_request::Owner::OwnerServiceAccountName("root".into())),
            ..Default::default()
        };
        let org = self.orgs().create_org(request).await?.into_inner().org.context("no org")?.id;
        let request =
            pb::CreateResourceRequest { org_id: org.clone(), path: resource.into(), ..Default::default() };
        self.orgs().create_resource(request).await?;
        Ok(org)
    }

    /// Creates a service account with these grants of permissions, and returns its id.
    pub async fn make_account(&self, org_id: &str, name: &str, grants: &[(&str, &str)]) -> Result<String> {
        let request = pb::CreateServiceAccountRequest {
            org_id: org_id.into(),
            name: name.into(),
            grants: grants.iter().map(|(permission, resource)| grant(permission, resource)).collect(),
            ..Default::default()
        };
        let created = self.accounts().create_service_account(request).await?.into_inner();
        Ok(created.account.context("no account")?.id)
    }

    /// Creates a token, and returns its id and its token string.
    pub async fn make_token(&self, org_id: &str, account_id: &str) -> Result<(String, String)> {
        let request = pb::CreateTokenRequest {
            org_id: org_id.into(),
            account_id: account_id.into(),
            // Giving a password asks for it.
            may_manage_tokens: true,
            ..Default::default()
        };
        let created = self.tokens().create_token(request).await?.into_inner();
        Ok((created.token.context("no token")?.id, created.secret))
    }
}

/// A grant of a permission.
pub fn grant(permission: &str, resource: &str) -> pb::Grant {
    let right = Some(pb::grant::Right::Permission(permission.into()));
    pb::Grant { right, resource: resource.into(), ..Default::default() }
}

/// Sorted numbers.
#[derive(Clone, Debug)]
pub struct Sorted(Vec<f64>);

impl FromIterator<f64> for Sorted {
    fn from_iter<I: IntoIterator<Item = f64>>(numbers: I) -> Self {
        let mut numbers: Vec<f64> = numbers.into_iter().collect();
        numbers.sort_by(f64::total_cmp);
        Self(numbers)
    }
}

impl Deref for Sorted {
    type Target = [f64];

    fn deref(&self) -> &[f64] {
        &self.0
    }
}

impl Sorted {
    /// The smallest number that this share of all numbers does not exceed.
    pub fn quantile(&self, share: f64) -> f64 {
        let rank = (share * self.len() as f64).ceil() as usize;
        self.get(rank.clamp(1, self.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
    }

    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    pub fn max(&self) -> f64 {
        self.quantile(1.0)
    }

    /// Formats as `median (min–max)`.
    pub fn show(&self, digits: usize) -> String {
        let (median, min, max) = (self.median(), self.quantile(0.0), self.max());
        format!("{median:.digits$} ({min:.digits$}–{max:.digits$})")
    }
}

/// The path of this binary.
pub fn own_path() -> Result<PathBuf> {
    std::env::current_exe().context("our own path")
}
