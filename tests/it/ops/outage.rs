//! The database is down: what is cached works for the grace and fails after it, writes
//! are refused, and everything works again soon after its return.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign::commands::dev::connect_options;
use countersign::config::{DatabaseAnswers, ServerLimits};
use countersign::crypto::seal::MasterKeys;
use countersign::db::schema;
use countersign::domain::access::member::Member;
use countersign::domain::values::ids::{AccountId, OrgId, TokenId};
use countersign::domain::values::token_string::{TokenString, TokenStringKind};
use countersign::error::{Reason, Result};
use countersign::grpc::pb;
use countersign::state::State;
use countersign_embedded_postgres as postgres;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{Connection as _, PgConnection};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::{
    Client, Database, LIMITS, Org, PASSWORD, PATIENCE, Proxy, Signer, TestServer, claims, http_get, reason,
    refused, start_postgres, until,
};

/// Longer than the calls within it take.
const GRACE: Duration = Duration::from_secs(15);
fn limits() -> ServerLimits {
    // A call that hangs is answered while the database is still down, with that as the reason.
    ServerLimits {
        outage_grace: GRACE,
        request_timeout: Duration::from_secs(12),
        database_answers: DatabaseAnswers::SOON,
        ..LIMITS
    }
}

/// A server on a PostgreSQL of its own, which may be shut down and killed, and whose connection may
/// be cut.
struct Own {
    server: TestServer,
    org: Org,
    bot: Client,
    /// A token with this key, which no assertion can be exchanged for meanwhile, and a JWT of before.
    key: (Signer, String),
    key_jwt: String,
    /// A person, and a JWT of the session: neither outlives an outage.
    session: Client,
    session_jwt: Client,
    /// The owner's, as another service account.
    impersonation: String,
    postgres: Option<postgres::Server>,
    proxy: Proxy,
    data_dir: PathBuf,
}

impl Own {
    async fn start(name: &str) -> Self {
        let data_dir = std::env::temp_dir().join(format!("countersign-outage-{}-{name}", std::process::id()));
        let postgres = start_postgres(&data_dir).await;
        let proxy = Proxy::to(&postgres).await;
        let mut connection = PgConnection::connect_with(&proxy.options("postgres")).await.unwrap();
        schema::migrate(&mut connection).await.unwrap();
        let unused = Arc::new(Database::create_empty().await);
        let master = MasterKeys::new_file().as_str().into();
        // Straight to the socket, as `dev` has it, where the way is not to be cut.
        let cut = name == "unreachable";
        let options = if cut { proxy.options("postgres") } else { connect_options(&postgres, "postgres") };
        let server = TestServer::on(options, unused, master, None, limits()).await;
        let org = server.org().await;
        let (_, bot) = server.account(&org.id, "bot", &[("x.y", "*")]).await;
        server.hear_all().await;
        bot.exchange().await.unwrap();
        server.operator.exchange().await.unwrap();
        let signer = Signer::ed25519();
        let key = server.key_token(&org.id, &org.owner_id, &signer).await.id;
        server.hear_all().await;
        let assertion = signer.assertion(&server, &key);
        let key_jwt = server.anonymous().exchange_assertion(&assertion).await.unwrap();
        server.person(&org.id, "ann@example.org", &[]).await;
        let session = server.session("ann@example.org").await;
        let session_jwt = session.with_jwt().await;
        session_jwt.caller().await.unwrap();
        let (target, _) = server.account(&org.id, "target", &[]).await;
        let impersonation = org.owner.impersonate(&target.id).await.unwrap();
        let own = Self {
            server,
            org,
            bot,
            key: (signer, key),
            key_jwt,
            session,
            session_jwt,
            impersonation,
            postgres: Some(postgres),
            proxy,
            data_dir,
        };
        own.owner().await.unwrap();
        own
    }

    /// What the cache holds of the owner without a token.
    async fn owner(&self) -> Result<Option<Arc<Member>>> {
        let org_id = OrgId::parse(&self.org.id).unwrap();
        let account_id = AccountId::parse(&self.org.owner_id).unwrap();
        let state = &self.server.state;
        state.principals.member(org_id, account_id).await
    }

    /// The processes of the database, its head first.
    fn processes(&self) -> Vec<Pid> {
        let head = self.postgres.as_ref().unwrap().pid();
        let mut found = vec![Pid::from_raw(head as i32)];
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
            let parent = stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().to_owned();
            if parent == head.to_string() {
                found.push(Pid::from_raw(entry.file_name().to_str().unwrap().parse().unwrap()));
            }
        }
        found
    }

    fn signal(&self, signal: Signal) {
        for process in self.processes() {
            let _ = kill(process, signal);
        }
    }

    /// What works until the grace is over, which may be while the call is under way.
    #[track_caller]
    fn within_the_grace<T>(&self, answer: Result<T, Status>) -> Option<T> {
        let over = self.server.state.feed.staleness() > GRACE;
        answer.inspect_err(|status| assert!(over, "{status:?}")).ok()
    }

    /// While the database is down: within the grace and after it.
    async fn live_through(&self) {
        let began = Instant::now();
        while self.server.state.feed.answers() {
            self.within_the_grace(self.bot.exchange().await);
            tokio::time::sleep(Duration::from_millis(5)).await;
            assert!(began.elapsed() < PATIENCE, "it is noticed");
        }
        if let Some(answer) = self.within_the_grace(self.bot.exchange().await) {
            let jwt = claims(&answer.access_token);
            assert!(jwt["exp"].as_i64().unwrap() - jwt["iat"].as_i64().unwrap() <= 60);
        }
        refused(self.server.operator.exchange().await, Code::Unavailable, "DATABASE_UNAVAILABLE");
        for signed_in in [&self.session, &self.session_jwt] {
            refused(signed_in.caller().await, Code::Unavailable, "DATABASE_UNAVAILABLE");
        }
        refused(self.session.exchange().await, Code::Unavailable, "DATABASE_UNAVAILABLE");
        // Nothing could say that an assertion was not used before.
        let (signer, id) = &self.key;
        let assertion = signer.assertion(&self.server, id);
        let exchanged = self.server.anonymous().exchange_assertion(&assertion).await;
        refused(exchanged, Code::Unavailable, "DATABASE_UNAVAILABLE");
        let login = self.server.login("ann@example.org", PASSWORD, None).await;
        refused(login, Code::Unavailable, "DATABASE_UNAVAILABLE");
        let introspect = async |jwt: &str| {
            let request = pb::IntrospectTokenRequest { token_text: jwt.into(), ..Default::default() };
            self.org.owner.tokens().introspect_token(request).await
        };
        if let Some(own) = self.within_the_grace(self.bot.exchange().await)
            && let Some(seen) = self.within_the_grace(introspect(&own.access_token).await)
        {
            assert!(seen.into_inner().active);
        }
        if let Some(seen) = self.within_the_grace(introspect(&self.key_jwt).await) {
            assert!(seen.into_inner().active);
        }
        refused(introspect(&self.impersonation).await, Code::Unavailable, "DATABASE_UNAVAILABLE");
        let error = self.owner().await.expect_err("only tokens outlive an outage");
        assert_eq!(error.reason(), Reason::DatabaseUnavailable);
        let request = pb::CreateResourceRequest { path: "a".into(), ..Default::default() };
        refused(
            self.org.owner.orgs().create_resource(request).await,
            Code::Unavailable,
            "DATABASE_UNAVAILABLE",
        );
        self.health("countersign.v1.OrgService", ServingStatus::NotServing).await;
        let (ready, tokens) = (
            http_get(&self.server.endpoint, "/readyz").await.status,
            self.health_now("countersign.v1.TokenService").await,
        );
        assert!(
            (ready, tokens) == (200, ServingStatus::Serving) || self.server.state.feed.staleness() > GRACE,
            "{ready} {tokens:?}"
        );
        while self.server.state.feed.staleness() <= GRACE {
            self.within_the_grace(self.bot.exchange().await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        refused(self.bot.exchange().await, Code::Unavailable, "DATABASE_UNAVAILABLE");
        let request =
            pb::IntrospectTokenRequest { token_text: self.bot.token().into(), ..Default::default() };
        let answer = self.org.owner.tokens().introspect_token(request).await;
        refused(answer, Code::Unavailable, "DATABASE_UNAVAILABLE");
        assert_eq!(http_get(&self.server.endpoint, "/readyz").await.status, 503);
        self.health("countersign.v1.TokenService", ServingStatus::NotServing).await;
        self.health("", ServingStatus::NotServing).await;
    }

    /// Once it is back, both kinds of work go on, and health reports so.
    async fn recover(&self) {
        let back = Instant::now();
        let mut tries = 0;
        let write = async |path: String| {
            let request = pb::CreateResourceRequest { path, ..Default::default() };
            self.org.owner.orgs().create_resource(request).await
        };
        loop {
            tries += 1;
            let written = write(format!("back-{tries}")).await;
            let told =
                (self.bot.exchange().await.err(), self.server.operator.caller().await.err(), written.err());
            if let (None, None, None) = told {
                break;
            }
            assert!(back.elapsed() < PATIENCE, "it does not recover: {told:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for service in ["", "countersign.v1.OrgService", "countersign.v1.TokenService"] {
            self.health(service, ServingStatus::Serving).await;
        }
        assert_eq!(http_get(&self.server.endpoint, "/readyz").await.status, 200);
        // All is well: as many at once as there are connections, and none waits for a dead one.
        let at_once: Vec<_> = (0..2 * LIMITS.database_connections)
            .map(|n| {
                let orgs = self.org.owner.orgs();
                let request = pb::CreateResourceRequest { path: format!("all-{n}"), ..Default::default() };
                tokio::spawn(async move { { orgs }.create_resource(request).await })
            })
            .collect();
        for call in at_once {
            call.await.unwrap().unwrap();
        }
    }

    async fn health_now(&self, service: &str) -> ServingStatus {
        let request = HealthCheckRequest { service: service.into() };
        let mut client = HealthClient::new(self.server.operator.channel.clone());
        client.check(request).await.unwrap().into_inner().status()
    }

    /// Waits until health reports so: it checks ten times a second.
    async fn health(&self, service: &str, status: ServingStatus) {
        until(async || self.health_now(service).await == status).await;
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if self.postgres.is_some() {
            // A suspended process would not receive the signal to end.
            self.signal(Signal::SIGCONT);
        }
        if let Some(postgres) = self.postgres.take() {
            postgres.stop_immediately();
        }
        let _ = fs::remove_dir_all(&self.data_dir);
    }
}

/// Callers that go on calling before the outage, during it, and after it.
struct Load {
    stop: watch::Sender<bool>,
    callers: JoinSet<u32>,
}

impl Load {
    fn start(own: &Own) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut callers = JoinSet::new();
        for _ in 0..4 {
            callers.spawn(exchange_on(own.server.state.clone(), own.bot.clone(), stopped.clone()));
        }
        for n in 0..2 {
            callers.spawn(write_on(own.org.owner.clone(), n, stopped.clone()));
            callers.spawn(miss_on(own.server.anonymous(), n, stopped.clone()));
        }
        Self { stop, callers }
    }

    /// Each caller has done its work, and got no unexpected answer.
    async fn end(mut self) {
        self.stop.send_replace(true);
        while let Some(calls) = self.callers.join_next().await {
            assert!(calls.unwrap() > 3);
        }
    }
}

/// What is cached works within the grace, whatever is under way, and fails after it.
async fn exchange_on(state: Arc<State>, bot: Client, stopped: watch::Receiver<bool>) -> u32 {
    let mut calls = 0;
    while !*stopped.borrow() {
        let (stale, answers) = (state.feed.staleness(), state.feed.answers());
        let answer = bot.exchange().await;
        let still = (state.feed.staleness(), state.feed.answers());
        if still.0 <= GRACE && stale <= GRACE {
            assert!(answer.is_ok(), "{stale:?} {still:?} {answer:?}");
        } else if stale > GRACE && !answers && !still.1 {
            refused(answer, Code::Unavailable, "DATABASE_UNAVAILABLE");
        }
        calls += 1;
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    calls
}

/// A write succeeds, or is refused because the database is not there; it never just hangs.
async fn write_on(owner: Client, n: u32, stopped: watch::Receiver<bool>) -> u32 {
    let mut calls = 0;
    while !*stopped.borrow() {
        calls += 1;
        let path = format!("written-{n}-{calls}");
        let request = pb::CreateResourceRequest { path, ..Default::default() };
        if let Err(status) = owner.orgs().create_resource(request).await {
            refused::<()>(Err(status), Code::Unavailable, "DATABASE_UNAVAILABLE");
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    calls
}

/// So is a lookup of what is not cached.
async fn miss_on(anonymous: Client, n: u32, stopped: watch::Receiver<bool>) -> u32 {
    let mut calls = 0;
    while !*stopped.borrow() {
        calls += 1;
        let id = TokenId::from_u128(u128::from(n) << 64 | u128::from(calls));
        let text = TokenString::new(TokenStringKind::SecretToken, id, [7; 32]);
        let request =
            pb::ExchangeTokenRequest { subject_token: Some(text.expose().into()), ..Default::default() };
        let status = anonymous.tokens().exchange_token(request).await.unwrap_err();
        let told = reason(&status);
        let fits = ["TOKEN_INVALID", "THROTTLED", "DATABASE_UNAVAILABLE"].contains(&told.as_str());
        assert!(fits, "{status:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    calls
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_killed() {
    let mut own = Own::start("killed").await;
    let load = Load::start(&own);
    let postgres = own.postgres.take().unwrap();
    postgres.stop_immediately();
    drop(postgres);
    own.live_through().await;
    own.postgres = Some(start_postgres(&own.data_dir).await);
    own.recover().await;
    load.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_hangs() {
    let own = Own::start("hangs").await;
    let load = Load::start(&own);
    own.signal(Signal::SIGSTOP);
    own.live_through().await;
    own.signal(Signal::SIGCONT);
    own.recover().await;
    load.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_cannot_be_reached() {
    let own = Own::start("unreachable").await;
    let load = Load::start(&own);
    own.proxy.cut();
    own.live_through().await;
    own.proxy.mend();
    own.recover().await;
    load.end().await;
    // Woken again, too: the listening connection is as dead as the rest.
    let listening = "select count(*) from pg_stat_activity where query like 'LISTEN%' and state = 'idle'";
    let direct = connect_options(own.postgres.as_ref().unwrap(), "postgres");
    let mut direct = PgConnection::connect_with(&direct).await.unwrap();
    let query = async || sqlx::query_scalar::<_, i64>(listening).fetch_one(&mut direct).await.unwrap();
    let mut query = query;
    until(async || query().await >= 1).await;
}
