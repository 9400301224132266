//! The database gone: what is cached goes on for the grace and stops after it, writes
//! are told, and all is well again soon after its return.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign::config::LimitArgs;
use countersign::db::schema;
use countersign::dev::{connect_options, postgres};
use countersign::grpc::pb;
use countersign::keys::seal::MasterKeys;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{Connection as _, PgConnection};
use tonic::Code;

use crate::harness::{Client, Database, LIMITS, Org, TestServer, claims, refused};
use crate::serving::http_get;

const GRACE: Duration = Duration::from_secs(4);

fn limits() -> LimitArgs {
    LimitArgs { outage_grace: GRACE, request_timeout: Duration::from_secs(4), ..LIMITS }
}

/// A server on a PostgreSQL of its own, which may be stopped and killed.
struct Own {
    server: TestServer,
    org: Org,
    bot: Client,
    postgres: Option<postgres::Server>,
    data_dir: std::path::PathBuf,
}

impl Own {
    async fn start(name: &str) -> Self {
        let data_dir = std::env::temp_dir().join(format!("countersign-outage-{}-{name}", std::process::id()));
        let postgres = start_postgres(&data_dir).await;
        let options = connect_options(&postgres, "postgres");
        let mut connection = PgConnection::connect_with(&options).await.unwrap();
        schema::migrate(&mut connection).await.unwrap();
        let unused = Arc::new(Database::create_empty().await);
        let master = MasterKeys::new_file().as_str().into();
        let server = TestServer::on(options, unused, master, None, limits()).await;
        let org = server.org().await;
        let (_, bot) = server.account(&org.id, "bot", &[("x.y", "*")]).await;
        bot.exchange().await.unwrap();
        server.operator.exchange().await.unwrap();
        Self { server, org, bot, postgres: Some(postgres), data_dir }
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

    /// While the database is gone: within the grace and after it.
    async fn live_through(&self) {
        let began = Instant::now();
        while self.server.state.feed.answers() {
            self.bot.exchange().await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
            assert!(began.elapsed() < Duration::from_secs(3), "it is noticed");
        }
        let jwt = claims(&self.bot.exchange().await.unwrap().access_token);
        assert!(jwt["exp"].as_i64().unwrap() - jwt["iat"].as_i64().unwrap() <= 60);
        refused(self.server.operator.exchange().await, Code::Unavailable, "DATABASE_UNAVAILABLE");
        let request = pb::CreateResourceRequest { path: "a".into(), ..Default::default() };
        refused(
            self.org.owner.orgs().create_resource(request).await,
            Code::Unavailable,
            "DATABASE_UNAVAILABLE",
        );
        assert_eq!(http_get(&self.server.endpoint, "/readyz").await.status, 200);
        while self.server.state.feed.staleness() <= GRACE {
            // The grace may end between our look at the clock and the server's.
            let within = self.bot.exchange().await;
            assert!(within.is_ok() || self.server.state.feed.staleness() > GRACE, "{within:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        refused(self.bot.exchange().await, Code::Unavailable, "DATABASE_UNAVAILABLE");
        let request =
            pb::IntrospectTokenRequest { token_text: self.bot.token().into(), ..Default::default() };
        let answer = self.org.owner.tokens().introspect_token(request).await;
        refused(answer, Code::Unavailable, "DATABASE_UNAVAILABLE");
        assert_eq!(http_get(&self.server.endpoint, "/readyz").await.status, 503);
    }

    /// Once it is back, both kinds of work go on within two seconds.
    async fn recover(&self) {
        let back = Instant::now();
        while self.bot.exchange().await.is_err() || self.server.operator.caller().await.is_err() {
            let told = (self.bot.exchange().await.err(), self.server.operator.caller().await.err());
            assert!(back.elapsed() < Duration::from_secs(10), "it does not recover: {told:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let request = pb::CreateResourceRequest { path: "b".into(), ..Default::default() };
        self.org.owner.orgs().create_resource(request).await.unwrap();
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if self.postgres.is_some() {
            // A stopped process would not hear that it is to end.
            self.signal(Signal::SIGCONT);
        }
        if let Some(postgres) = self.postgres.take() {
            postgres.stop_immediately();
        }
        let _ = fs::remove_dir_all(&self.data_dir);
    }
}

async fn start_postgres(data_dir: &std::path::Path) -> postgres::Server {
    let data_dir = data_dir.to_owned();
    let start = move || {
        // Durable: what was acknowledged is to be there after the crash.
        let options = postgres::Options { data_dir: &data_dir, durable: true, progress: &|_| () };
        postgres::Server::start(&options).unwrap()
    };
    tokio::task::spawn_blocking(start).await.unwrap()
}

#[tokio::test]
async fn a_database_that_is_killed() {
    let mut own = Own::start("killed").await;
    let postgres = own.postgres.take().unwrap();
    postgres.stop_immediately();
    drop(postgres);
    own.live_through().await;
    own.postgres = Some(start_postgres(&own.data_dir).await);
    own.recover().await;
}

#[tokio::test]
async fn a_database_that_hangs() {
    let own = Own::start("hangs").await;
    own.signal(Signal::SIGSTOP);
    own.live_through().await;
    own.signal(Signal::SIGCONT);
    own.recover().await;
}
