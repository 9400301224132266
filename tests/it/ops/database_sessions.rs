//! Sessions of the database that cannot go on: they are not handed out again, callers are told that
//! the database is unavailable, and everything works again without a restart.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use countersign::config::ServerLimits;
use countersign::crypto::seal::MasterKeys;
use countersign::db::pool::Db;
use countersign::db::session::SessionSettings;
use countersign::grpc::pb;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tonic::{Code, Status};
use tracing_subscriber::layer::{self, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::harness::{Client, Database, LIMITS, TestServer, http_get, reason, refused, until};

/// A server whose database may be taken from it, with a user who may do that.
struct Taken {
    server: TestServer,
    owner: Client,
    admin: PgConnection,
    /// Its database, and its user.
    name: String,
    role: String,
}

/// Statements by which the user of the server gets what it needs.
const RIGHTS: &str = "grant usage on schema public to ROLE;
    grant select, insert, update, delete on all tables in schema public to ROLE";

impl Taken {
    /// With these limits, as a user of its own: the owner of a database cannot be locked out of it.
    async fn start(name: &str, limits: ServerLimits) -> Self {
        let database = Arc::new(Database::create().await);
        let options = database.options();
        let role = format!("{}_{name}", options.get_database().unwrap());
        let mut admin = connect(&options.clone().database("postgres")).await;
        run(&mut admin, &format!("create role {role} login")).await;
        run(&mut connect(&options).await, &RIGHTS.replace("ROLE", &role)).await;
        let master = MasterKeys::new_file().as_str().into();
        let server =
            TestServer::on(options.clone().username(&role), database.clone(), master, None, limits).await;
        let owner = server.org().await.owner;
        Self { server, owner, admin, name: options.get_database().unwrap().to_owned(), role }
    }

    /// Ends all sessions of the server.
    async fn end_sessions(&mut self) {
        let sql =
            format!("select pg_terminate_backend(pid) from pg_stat_activity where usename = '{}'", self.role);
        run(&mut self.admin, &sql).await;
    }

    async fn change(&self, n: usize) -> Result<(), Status> {
        let request = pb::CreateResourceRequest { path: format!("p{n}"), ..Default::default() };
        self.owner.orgs().create_resource(request).await.map(drop)
    }

    async fn read(&self) -> Result<(), Status> {
        self.owner.orgs().get_org(pb::GetOrgRequest::default()).await.map(drop)
    }

    /// Reads, and whether a change is refused; what is refused says that the database is unavailable.
    async fn refuses(&self) -> bool {
        if let Err(status) = self.read().await {
            assert_eq!(reason(&status), "DATABASE_UNAVAILABLE");
        }
        match self.change(0).await {
            Err(status) if reason(&status) == "RESOURCE_EXISTS" => false,
            Err(status) => {
                assert_eq!((reason(&status).as_str(), status.code()), UNAVAILABLE);
                true
            }
            Ok(()) => false,
        }
    }

    async fn is_unavailable(&self) {
        until(async || self.refuses().await).await;
    }

    /// Ends all sessions where none can begin, until a change is refused. One that was beginning is seen late.
    async fn is_locked_out(&mut self) {
        until(async || {
            self.end_sessions().await;
            self.refuses().await
        })
        .await;
    }

    /// Renames a database, once no session is in it.
    async fn rename(&mut self, from: &str, to: &str) {
        let sql = format!("alter database {from} rename to {to}");
        until(async || {
            self.end_sessions().await;
            match sqlx::raw_sql(AssertSqlSafe(sql.clone())).execute(&mut self.admin).await {
                Ok(_) => true,
                Err(error) => {
                    let code = error.as_database_error().and_then(|error| error.code()).unwrap();
                    assert_eq!(code, "55006", "it is in use: {error}");
                    false
                }
            }
        })
        .await;
    }

    /// Waits until a change succeeds.
    async fn changes(&self, n: usize) {
        until(async || match self.change(n).await {
            Ok(()) => true,
            Err(status) => {
                assert_eq!((reason(&status).as_str(), status.code()), UNAVAILABLE);
                false
            }
        })
        .await;
    }

    /// Waits until a change succeeds, and the server knows that the outage is over: from then on all succeed.
    async fn recovers(&self, first: usize) {
        self.changes(first).await;
        // A poll that began before it may still fail.
        let began = Instant::now();
        until(async || self.server.state.feed.last_seen() > began).await;
        self.all_succeed(first + 1).await;
    }

    /// Changes and reads, over all connections.
    async fn all_succeed(&self, first: usize) {
        let many = (0..20).map(async |n| self.change(first + n).await);
        let many = at_once(many).await;
        assert!(many.iter().all(Result::is_ok), "{many:?}");
        self.read().await.unwrap();
    }
}

const UNAVAILABLE: (&str, Code) = ("DATABASE_UNAVAILABLE", Code::Unavailable);

/// All at once.
async fn at_once<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut futures: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    poll_fn(|context| {
        let mut all = true;
        for (future, output) in &mut futures {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    Poll::Ready(done) => *output = Some(done),
                    Poll::Pending => all = false,
                }
            }
        }
        if all { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    futures.into_iter().filter_map(|(_, output)| output).collect()
}

async fn connect(options: &PgConnectOptions) -> PgConnection {
    PgConnection::connect_with(options).await.unwrap()
}

async fn run(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.unwrap();
}

#[tokio::test]
async fn a_read_only_database_is_not_ready_and_recovers() {
    let limits = ServerLimits { outage_grace: Duration::ZERO, ..LIMITS };
    let mut taken = Taken::start("demoted", limits).await;
    let name = taken.name.clone();
    run(&mut taken.admin, &format!("alter database {name} set default_transaction_read_only = on")).await;
    // As after a failover: the sessions end, and new ones are on what cannot be written.
    taken.end_sessions().await;
    taken.is_unavailable().await;
    until(async || http_get(&taken.server.endpoint, "/readyz").await.status == 503).await;
    run(&mut taken.admin, &format!("alter database {name} reset default_transaction_read_only")).await;
    taken.recovers(1).await;
    assert_eq!(http_get(&taken.server.endpoint, "/readyz").await.status, 200);
}

#[tokio::test]
async fn one_read_only_session_is_enough_to_find_it_out() {
    let limits = ServerLimits { outage_grace: Duration::ZERO, ..LIMITS };
    let mut taken = Taken::start("halfway", limits).await;
    let name = taken.name.clone();
    run(&mut taken.admin, &format!("alter database {name} set default_transaction_read_only = on")).await;
    // Only what handlers use: the session that follows the feed was opened before, and can write.
    taken.server.state.pools.main.renew();
    taken.is_unavailable().await;
    until(async || http_get(&taken.server.endpoint, "/readyz").await.status == 503).await;
    run(&mut taken.admin, &format!("alter database {name} reset default_transaction_read_only")).await;
    taken.recovers(1).await;
}

#[tokio::test]
async fn ended_sessions_cost_no_change() {
    let mut taken = Taken::start("ended", LIMITS).await;
    for round in 0..3 {
        let some = at_once((0..8).map(async |n| taken.change(100 * round + n).await)).await;
        assert!(some.iter().all(Result::is_ok), "{some:?}");
        taken.end_sessions().await;
        // The outage is over before it is noticed, or is noticed for a moment.
        taken.changes(100 * round + 50).await;
        taken.all_succeed(100 * round + 51).await;
    }
}

#[tokio::test]
async fn what_is_taken_from_the_user_makes_the_database_unavailable() {
    let mut taken = Taken::start("taken", LIMITS).await;
    let (name, role) = (taken.name.clone(), taken.role.clone());
    // Logins are refused as they are for a wrong password: class 28.
    run(&mut taken.admin, &format!("alter role {role} nologin")).await;
    taken.is_locked_out().await;
    run(&mut taken.admin, &format!("alter role {role} login")).await;
    taken.recovers(1_000).await;

    run(&mut taken.admin, &format!("revoke connect on database {name} from public")).await;
    taken.is_locked_out().await;
    run(&mut taken.admin, &format!("grant connect on database {name} to public")).await;
    taken.recovers(2_000).await;

    run(&mut taken.admin, &format!("alter database {name} allow_connections false")).await;
    taken.is_locked_out().await;
    let moved = format!("{name}_moved");
    taken.rename(&name, &moved).await;
    taken.is_unavailable().await;
    taken.rename(&moved, &name).await;
    run(&mut taken.admin, &format!("alter database {name} allow_connections true")).await;
    taken.recovers(3_000).await;

    let mut inside = connect(&taken.server.database().options()).await;
    for table in ["events", "feed", "resources"] {
        run(&mut inside, &format!("revoke insert on {table} from {role}")).await;
        let refusal = taken.change(4_000).await;
        refused(refusal, Code::Unavailable, "DATABASE_UNAVAILABLE");
        run(&mut inside, &format!("grant insert on {table} to {role}")).await;
    }
    taken.recovers(5_000).await;
}

#[tokio::test]
async fn statements_that_are_gone_or_outdated_are_prepared_again() {
    let taken = Taken::start("stale", LIMITS).await;
    taken.recovers(1).await;
    // As a pooler does that gives the session to others.
    let mut all = Vec::new();
    for _ in 0..LIMITS.database_connections {
        all.push(taken.server.state.db.acquire().await.unwrap());
    }
    for connection in &mut all {
        run(connection, "deallocate all").await;
    }
    drop(all);
    taken.change(100).await.unwrap();
    taken.recovers(101).await;
    // As a migration does under a server that runs.
    let mut inside = connect(&taken.server.database().options()).await;
    run(&mut inside, "alter table resources alter column display_name type varchar(300)").await;
    taken.change(200).await.unwrap();
    taken.recovers(201).await;
}

#[tokio::test]
async fn a_statement_ends_before_the_call_does() {
    let limits = ServerLimits { request_timeout: Duration::from_secs(5), ..LIMITS };
    let server = TestServer::with_limits(limits).await;
    let org = server.org().await;
    let mut db = connect(&server.database().options()).await;
    let mut lock = db.begin().await.unwrap();
    run(&mut lock, "lock table resources in access exclusive mode").await;
    // Loaded before: what authenticates a call has a time limit of its own.
    org.owner.caller().await.unwrap();
    let list = org.owner.orgs().list_resources(pb::ListResourcesRequest::default()).await;
    refused(list, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    // It gave up by itself: its connection is free while the lock is still held.
    let waits = "select count(*) from pg_stat_activity
                 where datname = current_database() and wait_event_type = 'Lock'";
    until(async || sqlx::query_scalar::<_, i64>(waits).fetch_one(&mut *lock).await.unwrap() == 0).await;
    lock.rollback().await.unwrap();
}

#[tokio::test]
async fn a_call_that_is_cancelled_while_it_begins_leaves_no_transaction_open() {
    let server = TestServer::start().await;
    let options = server.database().options();
    let mut other = connect(&options).await;
    run(&mut other, "create table probes (polls int)").await;
    let db = Db::lazy(options, 1, SessionSettings::default());
    for polls in 1..10 {
        // Cancelled at each point at which it waits: for the connection, and for the answer to BEGIN.
        cancelled_after(polls, db.begin()).await;
        let insert = format!("insert into probes values ({polls})");
        sqlx::query(AssertSqlSafe(insert)).execute(&db).await.unwrap();
        let seen: Vec<i32> = sqlx::query_scalar("select polls from probes order by polls")
            .fetch_all(&mut other)
            .await
            .unwrap();
        assert_eq!(seen, (1..=polls).collect::<Vec<_>>(), "not committed: the session was in a transaction");
    }
}

/// Drops a future after it was polled so often, unless it ends before.
async fn cancelled_after(polls: i32, future: impl Future) {
    let mut future = Box::pin(future);
    let mut left = polls;
    poll_fn(|task| match future.as_mut().poll(task) {
        Poll::Pending if left > 1 => {
            left -= 1;
            Poll::Pending
        }
        _ => Poll::Ready(()),
    })
    .await;
}

#[tokio::test]
async fn a_transaction_that_is_cancelled_is_done_as_a_whole_or_not_at_all() {
    let server = TestServer::start().await;
    let notices = Notices::default();
    let _counted = tracing_subscriber::registry().with(notices.clone()).set_default();
    let options = server.database().options();
    let mut other = connect(&options).await;
    run(&mut other, "create table probes (polls int)").await;
    let db = Db::lazy(options, 1, SessionSettings::default());
    let insert = sqlx::query("insert into probes values ($1)").bind(0).execute(&db).await.unwrap();
    assert_eq!(insert.rows_affected(), 1, "it is prepared");
    let mut done = 0;
    for polls in 1.. {
        // Cancelled at each point at which it waits: for BEGIN, a statement that fails or does not, a savepoint, and
        // COMMIT.
        let changes = async {
            let mut tx = db.begin().await?;
            sqlx::query("insert into probes values ($1)").bind(polls).execute(&mut *tx).await?;
            let mut savepoint = tx.begin().await?;
            sqlx::query("select pg_sleep(0.01)").execute(&mut *savepoint).await?;
            savepoint.commit().await?;
            sqlx::query("insert into probes values ($1)").bind(polls).execute(&mut *tx).await?;
            tx.commit().await
        };
        cancelled_after(polls, changes).await;
        // Nothing is begun before this statement, on the only connection.
        sqlx::query("insert into probes values ($1)").bind(-polls).execute(&db).await.unwrap();
        let counted = "select (select count(*) from probes where polls = $1),
                              (select count(*) from probes where polls = -$1)";
        let (both, after): (i64, i64) =
            sqlx::query_as(counted).bind(polls).fetch_one(&mut other).await.unwrap();
        assert_eq!(after, 1, "after {polls} polls: not committed");
        assert!(both == 0 || both == 2, "after {polls} polls: {both} of two changes");
        done += both;
        // A busy machine may take more of them.
        if polls > 10 && done > 0 {
            break;
        }
        assert!(polls < 1_000, "none comes to its end");
    }
    assert_eq!(notices.0.load(Ordering::Relaxed), 0, "the log says what is expected of a cancelled one");
}

/// Counts what the database remarks on, which is logged.
#[derive(Clone, Default)]
struct Notices(Arc<AtomicU64>);

impl<S: tracing::Subscriber> Layer<S> for Notices {
    fn on_event(&self, event: &tracing::Event<'_>, _: layer::Context<'_, S>) {
        if event.metadata().target() == "sqlx::postgres::notice" {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[tokio::test]
async fn what_is_done_gives_its_connection_back_at_once() {
    let server = TestServer::start().await;
    let db = Db::lazy(server.database().options(), 1, SessionSettings::default());
    let idle_after_each = async || {
        let mut connection = db.acquire().await.unwrap();
        sqlx::query("select 1").execute(&mut *connection).await.unwrap();
        assert_eq!(db.count(), (0, 1));
        drop(connection);
        let mut idle = vec![db.count()];
        db.begin().await.unwrap().commit().await.unwrap();
        idle.push(db.count());
        db.begin().await.unwrap().rollback().await.unwrap();
        idle.push(db.count());
        let mut connection = db.acquire().await.unwrap();
        connection.begin().await.unwrap().commit().await.unwrap();
        drop(connection);
        idle.push(db.count());
        sqlx::query("select 1").fetch_optional(&db).await.unwrap();
        idle.push(db.count());
        sqlx::query("select 1").fetch_all(&db).await.unwrap();
        idle.push(db.count());
        idle == [(1, 0); 6]
    };
    // More than once: where another test of this process finds a session that is lost, all are closed.
    until(idle_after_each).await;
    // What its drop rolls back is given back once the database has answered.
    until(async || {
        drop(db.begin().await.unwrap());
        assert_eq!(db.count(), (0, 1));
        until(async || db.count().1 == 0).await;
        db.count() == (1, 0)
    })
    .await;
    // So is one over which a statement fails that its caller has left.
    until(async || {
        let mut connection = db.acquire().await.unwrap();
        let fails = sqlx::raw_sql("select pg_sleep(0.01); select 1 / 0").execute(&mut *connection);
        cancelled_after(1, fails).await;
        drop(connection);
        assert_eq!(db.count(), (0, 1));
        until(async || db.count().1 == 0).await;
        db.count() == (1, 0)
    })
    .await;
}

#[tokio::test]
async fn dropped_connections_hold_no_place() {
    let server = TestServer::start().await;
    let db = Db::lazy(server.database().options(), 1, SessionSettings::default());
    let pid = "select pg_backend_pid()";
    let mut held = db.acquire().await.unwrap();
    let first: i32 = sqlx::query_scalar(pid).fetch_one(&mut *held).await.unwrap();
    let mut waits = tokio::spawn({
        let db = db.clone();
        async move { sqlx::query_scalar::<_, i32>(pid).fetch_one(&db).await.unwrap() }
    });
    // It waits for the only place.
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut waits).await.is_err());
    db.renew();
    assert_ne!(first, waits.await.unwrap());
    // What is under way may end, and its connection is not used again.
    sqlx::query("select 1").execute(&mut *held).await.unwrap();
    assert!(held.is_dropped());
    drop(held);
    assert_ne!(sqlx::query_scalar::<_, i32>(pid).fetch_one(&db).await.unwrap(), first);
    let held = db.acquire().await.unwrap();
    db.close().await;
    assert!(matches!(db.acquire().await, Err(sqlx::Error::PoolClosed)));
    drop(held);
    assert_eq!(db.count().0, 0);
}
