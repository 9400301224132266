//! A real server on port 0 with a database of its own, and real clients.

mod database;
pub mod federation;
mod http;
mod issuer;
mod json;
mod keys;
mod log;
mod metrics;
mod people;
mod process;
mod protos;
mod proxy;
mod raw;
mod secrets;
mod smtp;
mod tls;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use countersign::clock::Clock;
use countersign::commands::bootstrap;
use countersign::config::{
    AccessLogLevel, Appearance, ClientAuth, ConnectionLimits, DatabaseAnswers, FederationSettings,
    PasswordHashing, ServerLimits, SigningAlgorithm, TokenLimits, WebUrl,
};
use countersign::crypto::seal::MasterKeys;
use countersign::db::keys::sealed::Sealed;
use countersign::db::pool::Db;
use countersign::db::session::SessionSettings;
use countersign::domain::federation::ceiling::Ceiling;
use countersign::grpc::pb;
use countersign::jobs::table;
use countersign::mail::{EmailDelivery, Mailer};
use countersign::server::{self, Listener};
use countersign::state::{Pools, State};
use pb::account_service_client::AccountServiceClient;
use pb::org_service_client::OrgServiceClient;
use pb::token_service_client::TokenServiceClient;
use sqlx::postgres::PgConnectOptions;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

pub use database::{Database, start_postgres};
pub use http::{Answer, http, http_get};
pub use issuer::{LiveIssuer, Manners};
pub use json::{call_json, request_json};
pub use keys::{Signer, assertion_claims, key_for, of_assertion};
pub use log::{connect, lines, logging};
pub use metrics::{Metrics, Scrape};
pub use people::{PASSWORD, accept, invite, sign_up};
pub use process::{
    Running, Scratch, bootstrap, countersign, fails, output, read_token, serve, serve_on, start, succeeds,
    variables, write_private,
};
pub use protos::{files, is_stream};
pub use proxy::Proxy;
pub use raw::{call_held, call_named, call_raw};
pub use secrets::{hides_secrets, search_too, watch, watch_master_keys};
pub use smtp::{Manner, Security, SmtpServer, certificate};
pub use tls::{Authority, Pair, TlsFiles, get, self_signed, shake};

/// The time after which a waiting test fails. Working code takes far less, however busy the
/// machine is: tests check the order of things, and never how soon they happen.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// What a server of the tests accepts.
pub const LIMITS: ServerLimits = ServerLimits {
    database_connections: 16,
    database_load_connections: 2,
    feed_listen: true,
    cache_size: 16 << 20,
    cache_max_age: Duration::from_secs(600),
    signing_key_lifetime: Duration::from_secs(30 * 24 * 3_600),
    outage_grace: Duration::from_secs(60),
    // A busy machine may hold the database up for longer than a server waits for it.
    database_answers: DatabaseAnswers {
        connection: Duration::from_secs(20),
        poll: Duration::from_secs(20),
        load: Duration::from_secs(20),
        keys: Duration::from_secs(20),
        silence: Duration::from_secs(60),
    },
    last_use_interval: Duration::from_secs(30),
    max_message_size: 1 << 20,
    max_header_size: 16 << 10,
    max_concurrent_requests: 1_024,
    request_timeout: PATIENCE,
    drain_timeout: Duration::from_secs(30),
    shutdown_delay: Duration::ZERO,
    connections: ConnectionLimits {
        max: None,
        // A busy machine may take long for what takes no time.
        first_request_timeout: PATIENCE,
        idle_timeout: PATIENCE,
        max_age: Duration::from_secs(3_600),
        write_timeout: PATIENCE,
    },
    // Cheap: what hashing costs is tested beside it.
    passwords: PasswordHashing { hash_memory_kib: 64, hash_passes: 1, memory_mib: 2 },
    trusted_proxies: Vec::new(),
    tokens: TokenLimits::WIDEST,
    reflection: true,
    access_log: AccessLogLevel::All,
    federation: FederationSettings { ceiling: Ceiling::THIS_MACHINE, networks: Vec::new(), ca: None },
};

/// A running server.
pub struct TestServer {
    pub endpoint: String,
    pub state: Arc<State>,
    pub operator: Client,
    database: Arc<Database>,
    master: Arc<str>,
    channel: Channel,
    stop: Option<oneshot::Sender<()>>,
    pub serving: Option<JoinHandle<anyhow::Result<()>>>,
}

/// The settings that a node starts with.
struct Start<'a> {
    operator: Option<&'a str>,
    /// Default: its own endpoint.
    issuer: Option<String>,
    clock: Clock,
    algorithm: SigningAlgorithm,
    /// None: emails wait.
    mailer: Option<Mailer>,
    appearance: Appearance,
    /// The TLS of its port, with the certificate of the harness's own client.
    tls: Option<OverTls<'a>>,
}

/// A server over TLS, and how the harness reaches it.
struct OverTls<'a> {
    files: &'a TlsFiles,
    client_auth: ClientAuth,
    certificate: Option<&'a Pair>,
}

impl Default for Start<'_> {
    fn default() -> Self {
        let algorithm = SigningAlgorithm::EdDsa;
        Self {
            operator: None,
            issuer: None,
            clock: Clock::default(),
            algorithm,
            mailer: None,
            appearance: Appearance::default(),
            tls: None,
        }
    }
}

impl TestServer {
    pub async fn start() -> Self {
        Self::with_limits(LIMITS).await
    }

    pub async fn with_limits(limits: ServerLimits) -> Self {
        Self::fresh(limits, SigningAlgorithm::EdDsa).await
    }

    /// A server whose first key signs with this algorithm.
    pub async fn signing_with(algorithm: SigningAlgorithm) -> Self {
        Self::fresh(LIMITS, algorithm).await
    }

    /// A server that delivers emails to this mail server.
    pub async fn with_mail(smtp: &SmtpServer, limits: ServerLimits) -> Self {
        let database = Arc::new(Database::create().await);
        let options = database.options();
        let master = MasterKeys::new_file().as_str().into();
        let start = Start { mailer: Some(smtp.mailer()), ..Start::default() };
        Self::node(options, database, master, start, limits).await
    }

    /// A server over TLS, whose clock only moves when a test advances it. The harness's own client has
    /// this certificate.
    pub async fn over_tls(
        files: &TlsFiles,
        client_auth: ClientAuth,
        certificate: Option<&Pair>,
        limits: ServerLimits,
    ) -> Self {
        let database = Arc::new(Database::create().await);
        let options = database.options();
        let master = MasterKeys::new_file().as_str().into();
        let tls = Some(OverTls { files, client_auth, certificate });
        let start = Start { tls, clock: Clock::standing(), ..Start::default() };
        Self::node(options, database, master, start, limits).await
    }

    /// A server whose pages look like this.
    pub async fn with_appearance(appearance: Appearance) -> Self {
        let database = Arc::new(Database::create().await);
        let options = database.options();
        let master = MasterKeys::new_file().as_str().into();
        let start = Start { appearance, ..Start::default() };
        Self::node(options, database, master, start, LIMITS).await
    }

    /// Another node on the same database that delivers emails to this mail server.
    pub async fn beside_with_mail(&self, smtp: &SmtpServer) -> Self {
        self.beside_with_postman(smtp.mailer()).await
    }

    /// The same with a mailer of the test's own.
    pub async fn beside_with_postman(&self, mailer: Mailer) -> Self {
        self.sending(self.master.clone(), mailer).await
    }

    /// The same with this master key file.
    pub async fn with_master_keys_and_mail(&self, master: &str, smtp: &SmtpServer) -> Self {
        self.sending(master.into(), smtp.mailer()).await
    }

    async fn sending(&self, master: Arc<str>, mailer: Mailer) -> Self {
        let start = Start {
            operator: Some(self.operator.token()),
            issuer: Some(self.state.issuer.to_string()),
            clock: self.state.clock.clone(),
            mailer: Some(mailer),
            ..Start::default()
        };
        Self::node(self.database.options(), self.database.clone(), master, start, LIMITS).await
    }

    /// Shuts this node down, and waits until it has exited.
    pub async fn stop(mut self) {
        self.shut_down();
        if let Some(serving) = self.serving.take() {
            serving.await.unwrap().unwrap();
        }
    }

    /// A server whose clock only moves when a test advances it.
    pub async fn at_standing_time(limits: ServerLimits) -> Self {
        let database = Arc::new(Database::create().await);
        let options = database.options();
        let master = MasterKeys::new_file().as_str().into();
        let start = Start { clock: Clock::standing(), ..Start::default() };
        Self::node(options, database, master, start, limits).await
    }

    async fn fresh(limits: ServerLimits, algorithm: SigningAlgorithm) -> Self {
        let database = Arc::new(Database::create().await);
        let options = database.options();
        let master = MasterKeys::new_file().as_str().into();
        Self::node(options, database, master, Start { algorithm, ..Start::default() }, limits).await
    }

    /// Another node on the same database: the same issuer, and the same time.
    pub async fn beside(&self, limits: ServerLimits) -> Self {
        self.beside_signing_with(limits, SigningAlgorithm::EdDsa).await
    }

    /// Another node on the same database, on a machine with a clock of its own.
    pub async fn beside_with_own_clock(&self, limits: ServerLimits) -> Self {
        let start = Start {
            operator: Some(self.operator.token()),
            issuer: Some(self.state.issuer.to_string()),
            clock: self.state.clock.apart(),
            ..Start::default()
        };
        Self::node(self.database.options(), self.database.clone(), self.master.clone(), start, limits).await
    }

    /// Another node that creates keys of this algorithm.
    pub async fn beside_signing_with(&self, limits: ServerLimits, algorithm: SigningAlgorithm) -> Self {
        self.with_master_keys(&self.master, limits, algorithm).await
    }

    /// Another node with this master key file.
    pub async fn with_master_keys(
        &self,
        master: &str,
        limits: ServerLimits,
        algorithm: SigningAlgorithm,
    ) -> Self {
        let start = Start {
            operator: Some(self.operator.token()),
            issuer: Some(self.state.issuer.to_string()),
            clock: self.state.clock.clone(),
            algorithm,
            ..Start::default()
        };
        Self::node(self.database.options(), self.database.clone(), master.into(), start, limits).await
    }

    /// The contents of its master key file.
    pub fn master_key_file(&self) -> &str {
        &self.master
    }

    /// Its database, for other uses.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// A node on a migrated database; `operator` is the token of its operator if it has one.
    pub async fn on(
        options: PgConnectOptions,
        database: Arc<Database>,
        master: Arc<str>,
        operator: Option<&str>,
        limits: ServerLimits,
    ) -> Self {
        Self::node(options, database, master, Start { operator, ..Start::default() }, limits).await
    }

    async fn node(
        options: PgConnectOptions,
        database: Arc<Database>,
        master: Arc<str>,
        start: Start<'_>,
        limits: ServerLimits,
    ) -> Self {
        let Start { operator, issuer, clock, algorithm, mailer, appearance, tls } = start;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let endpoint = format!("{scheme}://{}", listener.local_addr().unwrap());
        let settings = SessionSettings::from(&limits);
        let (connections, loading) = (limits.database_connections, limits.database_load_connections);
        let mut pools = Pools::open(&options, connections, loading, settings);
        // Its statements may take as long as it waits for them, and a little longer.
        pools.loads = Db::lazy(options, loading, settings.at_most(2 * limits.database_answers.load));
        let state = State::open(
            pools,
            read_keys(&master),
            algorithm,
            issuer.as_deref().unwrap_or(&endpoint).parse().unwrap(),
            limits.credentials(),
            clock.clone(),
        )
        .await
        .unwrap();
        let mut token = operator.unwrap_or_default().to_owned();
        if operator.is_none() {
            let keep = |text: &str| {
                token.push_str(text);
                Ok(())
            };
            bootstrap::bootstrap(&state, "test", bootstrap::TOKEN_LIFETIME, keep).await.unwrap();
        }
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            let _ = stopped.await;
        };
        let delivery = EmailDelivery { pages_url: WebUrl::from(&state.issuer), appearance, mailer };
        let listener = match &tls {
            None => Listener::from(listener),
            Some(tls) => Listener::from(listener).with_tls(tls.files.open(tls.client_auth.clone(), clock)),
        };
        let mut jobs = table(limits.last_use_interval);
        for job in jobs.iter_mut().filter(|job| job.name == "reload_certificates") {
            job.period = Duration::from_millis(10);
        }
        let running =
            server::run_with_jobs(listener, state.clone(), limits, delivery, jobs, Box::pin(shutdown));
        let serving = tokio::spawn(running);
        let channel = match &tls {
            None => Endpoint::from_shared(endpoint.clone()).unwrap().connect().await.unwrap(),
            Some(tls) => tls.files.channel(&endpoint, tls.certificate).await.unwrap(),
        };
        secrets::watch(&token);
        secrets::watch_master_keys(&master);
        let operator = Client { channel: channel.clone(), bearer: Some(token) };
        Self {
            endpoint,
            state,
            operator,
            database,
            master,
            channel,
            stop: Some(stop),
            serving: Some(serving),
        }
    }

    /// A client with this bearer.
    pub fn client(&self, bearer: impl Into<String>) -> Client {
        let bearer = bearer.into();
        secrets::watch(&bearer);
        Client { channel: self.channel.clone(), bearer: Some(bearer) }
    }

    /// A client without any.
    pub fn anonymous(&self) -> Client {
        Client { channel: self.channel.clone(), bearer: None }
    }

    /// Waits until this node was notified of everything that was committed before.
    pub async fn hear(&self) {
        let now = Instant::now();
        until(async || self.state.feed.last_seen() >= now).await;
    }

    /// Waits until this node was notified of everything that was committed before, and is not notified of it again:
    /// whatever it has cached by then stays. A follower whose session was replaced reads a second time what an older
    /// transaction of the database server holds back, which may be another test's. Not for tests that hold one open.
    pub async fn hear_all(&self) {
        self.hear().await;
        until(async || self.state.feed.cursor_lag().is_zero()).await;
    }

    /// Asks the server to shut down.
    pub fn shut_down(&mut self) {
        self.stop.take();
    }

    /// A new org with its owner, who has a token that may manage tokens.
    pub async fn org(&self) -> Org {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let slug = format!("org-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let made = once_available(async || self.operator.orgs().create_org(create_org(&slug)).await).await;
        let (id, owner) = (made.org.unwrap().id, made.owner.unwrap());
        let token = self.managing_token(&id, &owner.id).await;
        Org { id, slug, owner_id: owner.id, owner: self.client(token) }
    }

    /// A token, created by the operator, that may manage tokens.
    pub async fn managing_token(&self, org_id: &str, account_id: &str) -> String {
        let request = pb::CreateTokenRequest { may_manage_tokens: true, ..token_for(org_id, account_id) };
        let created = async || self.operator.tokens().create_token(request.clone()).await;
        once_available(created).await.secret
    }

    /// A fresh token of the org's owner, whose first token may be older: created by an
    /// operator whose token is fresh too.
    pub async fn managing_token_of(&self, org: &Org) -> String {
        let request = pb::CreateTokenRequest { may_manage_tokens: true, ..token_for(&org.id, &org.owner_id) };
        let operator = self.fresh_operator().await;
        once_available(async || operator.tokens().create_token(request.clone()).await).await.secret
    }

    /// The operator with a token of today.
    pub async fn fresh_operator(&self) -> Client {
        let operator = bootstrap::find_operator(&self.state).await.unwrap().unwrap();
        let text =
            bootstrap::reissue(&self.state, operator, "later", bootstrap::TOKEN_LIFETIME).await.unwrap();
        self.client(text.expose())
    }

    /// A service account with these grants, created by the operator, and a managing token.
    pub async fn account(&self, org_id: &str, name: &str, grants: &[(&str, &str)]) -> (pb::Account, Client) {
        let request = pb::CreateServiceAccountRequest {
            org_id: org_id.into(),
            name: name.into(),
            grants: grants.iter().map(|(right, resource)| grant(right, resource)).collect(),
            ..Default::default()
        };
        let created = async || self.operator.accounts().create_service_account(request.clone()).await;
        let account = once_available(created).await.account.unwrap();
        let token = self.managing_token(org_id, &account.id).await;
        (account, self.client(token))
    }

    /// A new user of the org, invited by its owner.
    pub async fn user(&self, org: &Org, email: &str) -> pb::Account {
        let request = pb::CreateUserRequest { email: email.into(), ..Default::default() };
        let created = async || org.owner.accounts().create_user(request.clone()).await;
        once_available(created).await.account.unwrap()
    }

    /// The code of the newest email to this address that waits in the outbox.
    pub async fn code_for(&self, address: &str) -> Option<String> {
        let query = "select mail_id::text, sealed from outbox
                     where recipient = $1 and sealed is not null order by mail_id desc limit 1";
        let found: Option<(String, Vec<u8>)> =
            sqlx::query_as(query).bind(address).fetch_optional(&self.state.db).await.unwrap();
        let (id, sealed) = found?;
        let code = self.state.keyring.master.open(Sealed::Outbox.purpose(), &id, &sealed).unwrap();
        let code = String::from_utf8(code.to_vec()).unwrap();
        secrets::watch(&code);
        Some(code)
    }

    /// Creates nodes of the org's catalogue.
    pub async fn resources(&self, org_id: &str, paths: &[&str]) {
        for path in paths {
            let request = pb::CreateResourceRequest {
                org_id: org_id.into(),
                path: (*path).into(),
                ..Default::default()
            };
            once_available(async || self.operator.orgs().create_resource(request.clone()).await).await;
        }
    }
}

/// The answer of the first call that reaches the database: on a busy machine a server that has just started
/// may miss the time limit of its first polls, and says that the database is unavailable until the next one.
async fn once_available<T>(mut call: impl AsyncFnMut() -> Result<tonic::Response<T>, Status>) -> T {
    let mut answer = None;
    until(async || match call().await {
        Err(status) if reason(&status) == "DATABASE_UNAVAILABLE" => false,
        outcome => {
            answer = Some(outcome.unwrap().into_inner());
            true
        }
    })
    .await;
    answer.unwrap()
}

/// Asks until the answer is yes.
pub async fn until(mut ask: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !ask().await {
        assert!(began.elapsed() < PATIENCE, "it does not happen");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// An org of a test.
pub struct Org {
    pub id: String,
    pub slug: String,
    pub owner_id: String,
    pub owner: Client,
}

/// A client of all three services with one credential.
#[derive(Clone, Debug)]
pub struct Client {
    pub channel: Channel,
    pub bearer: Option<String>,
}

type Bearing = InterceptedService<Channel, Bearer>;

impl Client {
    pub fn accounts(&self) -> AccountServiceClient<Bearing> {
        AccountServiceClient::with_interceptor(self.channel.clone(), Bearer(self.bearer.clone()))
    }

    pub fn orgs(&self) -> OrgServiceClient<Bearing> {
        OrgServiceClient::with_interceptor(self.channel.clone(), Bearer(self.bearer.clone()))
    }

    pub fn tokens(&self) -> TokenServiceClient<Bearing> {
        TokenServiceClient::with_interceptor(self.channel.clone(), Bearer(self.bearer.clone()))
    }

    /// The token string.
    pub fn token(&self) -> &str {
        self.bearer.as_deref().unwrap()
    }

    /// Exchanges the client's token for everything it holds.
    pub async fn exchange(&self) -> Result<pb::ExchangeTokenResponse, Status> {
        let request =
            pb::ExchangeTokenRequest { subject_token: Some(self.token().into()), ..Default::default() };
        let answer = self.tokens().exchange_token(request).await?.into_inner();
        secrets::watch(&answer.access_token);
        Ok(answer)
    }

    /// The same caller with a JWT instead of its token.
    pub async fn with_jwt(&self) -> Client {
        let jwt = self.exchange().await.unwrap().access_token;
        Client { channel: self.channel.clone(), bearer: Some(jwt) }
    }

    /// The JWT with which the caller acts as this account.
    pub async fn impersonate(&self, account_id: &str) -> Result<String, Status> {
        let request = pb::ImpersonateAccountRequest {
            org_id: self.org_id().await,
            account_id: account_id.into(),
            reason: "to look after it".into(),
            ..Default::default()
        };
        let jwt = self.tokens().impersonate_account(request).await?.into_inner().access_token;
        secrets::watch(&jwt);
        Ok(jwt)
    }

    /// The caller as this account.
    pub async fn impersonating(&self, account_id: &str) -> Client {
        let jwt = self.impersonate(account_id).await.unwrap();
        Client { channel: self.channel.clone(), bearer: Some(jwt) }
    }

    /// The org that the credential acts in, which an operator has to name; empty where it is refused.
    pub async fn org_id(&self) -> String {
        let org = self.caller().await.ok().and_then(|caller| caller.org);
        org.map(|org| org.id).unwrap_or_default()
    }

    pub async fn caller(&self) -> Result<pb::GetCallerResponse, Status> {
        Ok(self.accounts().get_caller(pb::GetCallerRequest {}).await?.into_inner())
    }
}

/// Adds the bearer to each call.
#[derive(Clone)]
pub struct Bearer(pub Option<String>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(bearer) = &self.0 {
            let value: MetadataValue<_> = format!("Bearer {bearer}").parse().unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

pub fn create_org(slug: &str) -> pb::CreateOrgRequest {
    pb::CreateOrgRequest {
        slug: slug.into(),
        display_name: slug.into(),
        owner: Some(pb::create_org_request::Owner::OwnerServiceAccountName("root".into())),
        ..Default::default()
    }
}

/// A grant of a role (no dot) or a permission (a dot).
pub fn grant(right: &str, resource: &str) -> pb::Grant {
    let right = if right.contains('.') {
        pb::grant::Right::Permission(right.into())
    } else {
        pb::grant::Right::RoleId(right.into())
    };
    pb::Grant { right: Some(right), resource: resource.into(), ..Default::default() }
}

pub fn token_for(org_id: &str, account_id: &str) -> pb::CreateTokenRequest {
    pb::CreateTokenRequest { org_id: org_id.into(), account_id: account_id.into(), ..Default::default() }
}

/// A rotation with an overlap of so many seconds.
pub fn rotate_token(org_id: &str, token_id: &str, overlap: Option<i64>) -> pb::RotateTokenRequest {
    pb::RotateTokenRequest {
        org_id: org_id.into(),
        token_id: token_id.into(),
        overlap: overlap.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
        ..Default::default()
    }
}

pub fn by_id(org_id: &str, token_id: &str) -> pb::RevokeTokenRequest {
    pb::RevokeTokenRequest {
        org_id: org_id.into(),
        target: Some(pb::revoke_token_request::Target::TokenId(token_id.into())),
        ..Default::default()
    }
}

pub fn by_text(text: &str) -> pb::RevokeTokenRequest {
    let target = Some(pb::revoke_token_request::Target::TokenText(text.into()));
    pb::RevokeTokenRequest { target, ..Default::default() }
}

/// The claims of a JWT, unverified.
pub fn claims(jwt: &str) -> serde_json::Value {
    use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
    let body = jwt.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(body).unwrap()).unwrap()
}

/// The reason of a refusal, which must have the right form and contain nothing internal.
#[track_caller]
pub fn reason(status: &Status) -> String {
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"));
    assert_eq!(info.domain, "countersign");
    assert!(status.get_details_request_info().is_some(), "no request id: {status:?}");
    let shown = format!("{} {:?}", status.message(), status.get_error_details()).to_lowercase();
    secrets::hides_secrets(&format!("{status:?}"));
    for internal in [
        "select ",
        "insert ",
        "update ",
        "sqlx",
        "constraint",
        "_pk",
        "src/",
        "/tmp",
        "panicked",
        "prost",
        "hyper",
    ] {
        assert!(!shown.contains(internal), "{internal:?} in {shown}");
    }
    info.reason
}

/// What the refusal took in headers, as clients that bound them count (RFC 9113, section 6.5.2).
pub fn header_bytes(refusal: Status) -> usize {
    let headers = refusal.into_http::<()>().into_parts().0.headers;
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
}

/// Demands a refusal with this code and reason.
#[track_caller]
pub fn refused<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, expected: &str) -> Status {
    let status = result.expect_err("the call should have been refused");
    assert_eq!((reason(&status).as_str(), status.code()), (expected, code), "{}", status.message());
    status
}

/// The fields that a `BadRequest` names.
#[track_caller]
pub fn violated(status: &Status) -> Vec<String> {
    let bad = status.get_details_bad_request().expect("a BadRequest");
    bad.field_violations.into_iter().map(|violation| violation.field).collect()
}

/// A fresh master key.
pub fn master_keys() -> MasterKeys {
    read_keys(&MasterKeys::new_file())
}

/// The master keys of a file with these contents.
pub fn read_keys(text: &str) -> MasterKeys {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("countersign-it-{}-{count}.key", std::process::id()));
    write_private(&path, text);
    let keys = MasterKeys::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    keys
}
