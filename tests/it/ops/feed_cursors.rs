//! The feed read by followers that are notified at once, and by readers that return with a
//! cursor: whatever the order of commits, nothing is lost, repeated, or out of order.

use std::collections::{BTreeSet, HashSet};

use countersign::clock::{Clock, random};
use countersign::db::events::feed;
use countersign::db::events::feed::{FeedPage, Position};
use countersign::db::events::follower::{Follower, News, PAGE};
use countersign::db::sweep;
use countersign::error::Reason;
use countersign::grpc::pb;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use sqlx::{Connection as _, PgConnection};

use crate::harness::{Database, TestServer, http_get, until};

async fn connect(database: &Database) -> PgConnection {
    PgConnection::connect_with(&database.options()).await.unwrap()
}

/// Writes a row as a change does: with the transaction's number, and its index in it.
async fn write(connection: &mut PgConnection, seq: i32, subject: &str) {
    sqlx::query(
        "insert into feed (epoch, xid, seq, org_id, event_id, kind, subjects, create_time)
         values ((select feed_epoch from deployment), pg_current_xact_id()::text::bigint, $1, gen_random_uuid(),
                 gen_random_uuid(), 'test', array[$2], now())",
    )
    .bind(seq)
    .bind(subject)
    .execute(connection)
    .await
    .unwrap();
}

async fn news(follower: &mut Follower, db: &mut PgConnection) -> Vec<String> {
    match follower.read(db).await.unwrap() {
        News::Changes(rows) => rows.into_iter().flat_map(|row| row.subjects).collect(),
        News::AnotherDatabase => panic!("it is the same"),
    }
}

/// Reads on, as a reader that stores the cursor as bytes in between.
async fn resume(db: &mut PgConnection, at: &mut Position, limit: i64) -> Vec<String> {
    let kept = Position::from_bytes(&at.to_bytes()).unwrap();
    let FeedPage::Rows(rows, next) = feed::resume(db, &kept, limit).await.unwrap() else {
        panic!("the cursor is good")
    };
    assert!(rows.len() <= limit as usize);
    *at = next;
    rows.into_iter().flat_map(|row| row.subjects).collect()
}

async fn expired(db: &mut PgConnection, at: &Position) -> bool {
    feed::resume(db, at, 10).await.unwrap() == FeedPage::CursorExpired
}

/// All that was committed, in the order that a cursor is to give.
async fn committed(db: &mut PgConnection) -> Vec<String> {
    let sql = "select subjects[1] from feed order by xid, seq";
    sqlx::query_scalar(sql).fetch_all(db).await.unwrap()
}

#[tokio::test]
async fn thirty_two_writers_an_idle_one_and_one_elsewhere() {
    let database = Database::create().await;
    let mut db = connect(&database).await;
    let mut follower = Follower::begin(&mut db).await.unwrap();
    let mut at = feed::latest(&mut db).await.unwrap();

    let mut early = connect(&database).await;
    let mut early = early.begin().await.unwrap();
    write(&mut early, 0, "before all").await;
    early.commit().await.unwrap();
    let mut given = next(&mut db, &mut at).await;
    // One that writes and remains open, and one in another database of the server.
    let mut idle = connect(&database).await;
    let mut idle = idle.begin().await.unwrap();
    write(&mut idle, 0, "idle").await;
    let elsewhere = Database::create_empty().await;
    let mut foreign = connect(&elsewhere).await;
    let mut foreign = foreign.begin().await.unwrap();
    sqlx::query("create table t ()").execute(&mut *foreign).await.unwrap();

    // In each round 32 begin, all write, and all commit in another order, at once; every fourth
    // rolls back.
    let mut connections = Vec::new();
    for _ in 0..32 {
        connections.push(connect(&database).await);
    }
    let (mut heard, mut expected) = (Vec::new(), HashSet::new());
    for round in 0..20 {
        let mut open = Vec::new();
        for (n, connection) in connections.iter_mut().enumerate() {
            let mut tx = connection.begin().await.unwrap();
            for seq in 0..=(n % 3) as i32 {
                write(&mut tx, seq, &format!("{round}/{n}/{seq}")).await;
            }
            open.push((n, tx));
        }
        open.sort_by_cached_key(|_| u64::from_ne_bytes(random()));
        let end = async |(n, tx): (usize, sqlx::Transaction<'_, sqlx::Postgres>)| {
            if (n + round) % 4 == 0 {
                tx.rollback().await.unwrap();
                return Vec::new();
            }
            tx.commit().await.unwrap();
            (0..=n % 3).map(|seq| format!("{round}/{n}/{seq}")).collect()
        };
        while let (Some(one), other) = (open.pop(), open.pop()) {
            let ended = match other {
                Some(other) => {
                    // Two commit while both readers read.
                    let ends = async { tokio::join!(end(one), end(other)) };
                    let looks =
                        async { (news(&mut follower, &mut db).await, resume(&mut db, &mut at, 3).await) };
                    let ((one, other), (news, rows)) = tokio::join!(ends, looks);
                    heard.extend(news);
                    given.extend(rows);
                    [one, other].concat()
                }
                None => end(one).await,
            };
            expected.extend(ended);
            // What was acknowledged is returned by the next read, whatever is still open.
            heard.extend(news(&mut follower, &mut db).await);
            let known: HashSet<_> = heard.iter().cloned().collect();
            assert!(expected.is_subset(&known), "{:?}", expected.difference(&known));
        }
    }
    assert_eq!(heard.len(), expected.len() + 1, "once, and `before all`");
    given.extend(resume(&mut db, &mut at, 1_000).await);
    assert_eq!(given, ["before all"], "a cursor waits for the oldest transaction");
    assert!(follower.held_back_since().is_some());

    idle.commit().await.unwrap();
    assert_eq!(news(&mut follower, &mut db).await, ["idle"], "a lower number that commits last");
    given.extend(next(&mut db, &mut at).await);
    given.extend(resume(&mut db, &mut at, 1_000).await);
    assert_eq!(given, ["before all", "idle"], "one in another database holds cursors back as well");
    foreign.rollback().await.unwrap();
    let there = committed(&mut db).await;
    until(async || {
        given.extend(resume(&mut db, &mut at, 100).await);
        given.len() >= there.len()
    })
    .await;
    assert_eq!(given, there, "nothing lost, nothing twice, in order");
    assert!(news(&mut follower, &mut db).await.is_empty());
    assert_eq!((follower.settled(), follower.held_back_since()), (at, None));
}

/// What may happen to a feed.
#[derive(Clone, Debug)]
enum Step {
    /// One of the writers begins or goes on, and writes so many rows.
    Write(usize, i32),
    Commit(usize),
    GiveUp(usize),
    /// One of the readers reads at most so many.
    Read(usize, i64),
    Hear,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..5_usize, 1..4).prop_map(|(writer, rows)| Step::Write(writer, rows)),
        3 => (0..5_usize).prop_map(Step::Commit),
        1 => (0..5_usize).prop_map(Step::GiveUp),
        3 => (0..3_usize, 1..5_i64).prop_map(|(reader, limit)| Step::Read(reader, limit)),
        1 => Just(Step::Hear),
    ];
    prop::collection::vec(step, 1..60)
}

/// Carries out the steps in one database after another; returns what went wrong.
async fn carry_out(database: &Database, steps: Vec<Step>) {
    let mut db = connect(database).await;
    sqlx::query("truncate feed").execute(&mut db).await.unwrap();
    let mut follower = Follower::begin(&mut db).await.unwrap();
    let mut readers = vec![(feed::latest(&mut db).await.unwrap(), Vec::new()); 3];
    let mut writers = Vec::new();
    for _ in 0..5 {
        writers.push((connect(database).await, None::<i32>));
    }
    let (mut heard, mut count) = (Vec::new(), 0);
    let end = async |writer: &mut (PgConnection, Option<i32>), how: &'static str| {
        if writer.1.take().is_some() {
            sqlx::raw_sql(how).execute(&mut writer.0).await.unwrap();
        }
    };
    for step in steps {
        match step {
            Step::Write(n, rows) => {
                let (connection, written) = &mut writers[n];
                if written.is_none() {
                    sqlx::raw_sql("begin").execute(&mut *connection).await.unwrap();
                }
                for _ in 0..rows {
                    let seq = written.map_or(0, |written| written + 1);
                    *written = Some(seq);
                    count += 1;
                    write(connection, seq, &count.to_string()).await;
                }
            }
            Step::Commit(n) => end(&mut writers[n], "commit").await,
            Step::GiveUp(n) => end(&mut writers[n], "rollback").await,
            Step::Read(n, limit) => {
                let (at, given) = &mut readers[n];
                given.extend(resume(&mut db, at, limit).await);
            }
            Step::Hear => {
                heard.extend(news(&mut follower, &mut db).await);
                let (heard, there) = (BTreeSet::from_iter(heard.clone()), committed(&mut db).await);
                assert_eq!(heard, BTreeSet::from_iter(there), "all that is committed is heard of");
            }
        }
    }
    for writer in &mut writers {
        end(writer, "commit").await;
    }
    heard.extend(news(&mut follower, &mut db).await);
    let there = committed(&mut db).await;
    // A background process may be in a transaction: the rows it holds back come when it ends.
    until(async || {
        for (at, given) in &mut readers {
            given.extend(resume(&mut db, at, 4).await);
        }
        readers.iter().all(|(_, given)| given.len() >= there.len())
    })
    .await;
    for (_, given) in readers {
        assert_eq!(given, there);
    }
    heard.sort();
    let mut sorted = there;
    sorted.sort();
    assert_eq!(heard, sorted);
}

#[test]
fn any_order_of_writes_commits_and_looks() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let database = runtime.block_on(Database::create());
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 40, max_shrink_iters: 200, ..Default::default() });
    runner
        .run(&steps(), |steps| {
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                runtime.block_on(carry_out(&database, steps));
            }));
            done.map_err(|_| TestCaseError::fail("see the panic above"))
        })
        .unwrap();
}

async fn written(database: &Database, subject: &str) {
    let mut connection = connect(database).await;
    let mut tx = connection.begin().await.unwrap();
    write(&mut tx, 0, subject).await;
    tx.commit().await.unwrap();
}

/// Reads until there is something, which a transaction elsewhere on the server may hold back.
async fn next(db: &mut PgConnection, at: &mut Position) -> Vec<String> {
    let mut rows = Vec::new();
    until(async || {
        rows.extend(resume(db, at, 1).await);
        !rows.is_empty()
    })
    .await;
    rows
}

#[tokio::test]
async fn a_cursor_expires_when_what_comes_after_it_was_swept() {
    let database = Database::create().await;
    let (pool, mut db) = (database.pool(), connect(&database).await);
    let mut follower = Follower::begin(&mut db).await.unwrap();
    let start = feed::latest(&mut db).await.unwrap();
    let mut at = start;
    written(&database, "first").await;
    assert_eq!(next(&mut db, &mut at).await, ["first"]);
    let first = at;
    written(&database, "second").await;
    assert_eq!(next(&mut db, &mut at).await, ["second"]);
    news(&mut follower, &mut db).await;

    // An open transaction's row is old enough; but no reader's cursor can have passed it.
    let mut open = connect(&database).await;
    let mut open = open.begin().await.unwrap();
    write(&mut open, 0, "open").await;
    written(&database, "after it").await;
    let now = Clock::default().now();
    let later = now + time::Duration::hours(24) + time::Duration::minutes(1);
    let rows =
        async || sqlx::query_scalar::<_, i64>("select count(*) from feed").fetch_one(&pool).await.unwrap();
    sweep::sweep(&database.db(), now).await.unwrap();
    assert_eq!(rows().await, 3, "nothing is 24 h old");
    until(async || {
        sweep::sweep(&database.db(), later).await.unwrap();
        rows().await == 1
    })
    .await;

    for lost in [start, first] {
        assert!(expired(&mut db, &lost).await);
    }
    assert_eq!(feed::latest(&mut db).await.unwrap().to_bytes()[..20], at.to_bytes()[..20], "the same place");
    open.commit().await.unwrap();
    assert_eq!(next(&mut db, &mut at).await, ["open"], "who had all that was swept goes on");
    assert_eq!(next(&mut db, &mut at).await, ["after it"]);
    assert_eq!(news(&mut follower, &mut db).await, ["open", "after it"]);
    // A day later all of it is gone: a new reader begins there.
    until(async || {
        sweep::sweep(&database.db(), later).await.unwrap();
        rows().await == 0
    })
    .await;
    assert!(resume(&mut db, &mut at, 10).await.is_empty());
    let mut new = feed::latest(&mut db).await.unwrap();
    assert!(resume(&mut db, &mut new, 10).await.is_empty());
    assert!(news(&mut follower, &mut db).await.is_empty());
    written(&database, "next day").await;
    assert_eq!(next(&mut db, &mut at).await, ["next day"]);
    assert_eq!(next(&mut db, &mut new).await, ["next day"]);
    assert_eq!(news(&mut follower, &mut db).await, ["next day"]);
}

#[tokio::test]
async fn a_cursor_of_another_epoch_expires() {
    let database = Database::create().await;
    let mut db = connect(&database).await;
    let mut follower = Follower::begin(&mut db).await.unwrap();
    let mut at = feed::latest(&mut db).await.unwrap();
    written(&database, "first").await;
    next(&mut db, &mut at).await;
    assert_eq!(news(&mut follower, &mut db).await, ["first"]);

    // Many report the reset at once, and one takes effect.
    let mut others = Vec::new();
    for _ in 0..4 {
        others.push(connect(&database).await);
    }
    let [a, b, c, d] = others.as_mut_slice() else { unreachable!() };
    let (a, b, c, d) = tokio::join!(
        feed::raise_epoch(a, Some(1)),
        feed::raise_epoch(b, Some(1)),
        feed::raise_epoch(c, Some(1)),
        feed::raise_epoch(d, Some(1)),
    );
    assert_eq!([a, b, c, d].map(Result::unwrap), [2; 4]);
    assert_eq!(feed::raise_epoch(&mut db, None).await.unwrap(), 3);
    assert!(expired(&mut db, &at).await);
    assert_eq!(follower.read(&mut db).await.unwrap(), News::AnotherDatabase);
    assert!(news(&mut follower, &mut db).await.is_empty(), "it is told once");

    // What is written from now on belongs to the new one.
    let mut at = feed::latest(&mut db).await.unwrap();
    written(&database, "second").await;
    assert_eq!(news(&mut follower, &mut db).await, ["second"]);
    assert_eq!(next(&mut db, &mut at).await, ["second"]);
}

#[tokio::test]
async fn a_new_epoch_begins_when_writers_of_the_former_one_have_ended() {
    let database = Database::create().await;
    let mut db = connect(&database).await;
    let mut writer = connect(&database).await;
    let mut open = writer.begin().await.unwrap();
    write(&mut open, 0, "former").await;
    // The wait is short: the next writer queues behind it.
    let refused = feed::raise_epoch(&mut db, None).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::Conflict, "{refused:?}");
    open.commit().await.unwrap();
    assert_eq!(feed::raise_epoch(&mut db, None).await.unwrap(), 2);
    written(&database, "new").await;
    let rows: Vec<(i64, String)> =
        sqlx::query_as("select epoch, subjects[1] from feed order by xid").fetch_all(&mut db).await.unwrap();
    assert_eq!(rows, [(1, "former".to_owned()), (2, "new".to_owned())]);
}

#[tokio::test]
async fn a_database_that_was_set_back_begins_a_new_epoch() {
    let database = Database::create().await;
    let mut db = connect(&database).await;
    let mut follower = Follower::begin(&mut db).await.unwrap();
    let mut at = feed::latest(&mut db).await.unwrap();
    for subject in ["kept", "lost"] {
        written(&database, subject).await;
        next(&mut db, &mut at).await;
        assert_eq!(news(&mut follower, &mut db).await, [subject]);
    }
    // In the same cluster, so that only the feed itself shows it. Then the same number is
    // given to another row.
    for sql in ["delete from feed where subjects = '{lost}'", "update feed set event_id = gen_random_uuid()"]
    {
        sqlx::query(sql).execute(&mut db).await.unwrap();
        assert!(expired(&mut db, &at).await);
        assert_eq!(follower.read(&mut db).await.unwrap(), News::AnotherDatabase);
        assert!(news(&mut follower, &mut db).await.is_empty());
        at = feed::latest(&mut db).await.unwrap();
        written(&database, "after").await;
        next(&mut db, &mut at).await;
        assert_eq!(news(&mut follower, &mut db).await, ["after"]);
    }
    let epoch = "select feed_epoch from deployment";
    assert_eq!(sqlx::query_scalar::<_, i64>(epoch).fetch_one(&mut db).await.unwrap(), 3);
}

#[tokio::test]
async fn health_shows_how_long_cursors_are_held_back() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let lag = async || {
        let body = http_get(&server.endpoint, "/readyz").await.body;
        let value = |name: &str| -> f64 {
            body.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().parse().unwrap()
        };
        assert!(body.starts_with("ready\n"), "{body}");
        assert!(value("feed_heard_seconds_ago") < 60.0);
        value("feed_cursor_lag_seconds")
    };
    // By hand: a transaction of the server's own would not stay open.
    let mut open = server.state.db.acquire().await.unwrap();
    sqlx::raw_sql("begin; select pg_current_xact_id()").execute(&mut *open).await.unwrap();
    let path = pb::CreateResourceRequest { path: "a".into(), ..Default::default() };
    org.owner.orgs().create_resource(path).await.unwrap();
    until(async || lag().await > 0.1).await;
    // Exchanges are not affected.
    org.owner.exchange().await.unwrap();
    sqlx::raw_sql("rollback").execute(&mut *open).await.unwrap();
    until(async || lag().await == 0.0).await;
}

/// Writes so many rows of one transaction.
async fn write_many(database: &Database, rows: usize) {
    let sql = "insert into feed (epoch, xid, seq, org_id, event_id, kind, subjects, create_time)
               select (select feed_epoch from deployment), pg_current_xact_id()::text::bigint, n,
                      gen_random_uuid(), gen_random_uuid(), 'test', array[n::text], now()
               from generate_series(1, $1) n";
    sqlx::query(sql).bind(rows as i32).execute(&mut connect(database).await).await.unwrap();
}

#[tokio::test]
async fn rows_above_an_open_transaction_are_read_once_and_by_pages() {
    let database = Database::create().await;
    let mut db = connect(&database).await;
    let (mut follower, at) = (Follower::begin(&mut db).await.unwrap(), feed::latest(&mut db).await.unwrap());
    let (mut open, mut older) = (connect(&database).await, connect(&database).await);
    for connection in [&mut open, &mut older] {
        sqlx::raw_sql("begin; select pg_current_xact_id()").execute(connection).await.unwrap();
    }
    let rows = 5 * PAGE / 2;
    write_many(&database, rows).await;
    // A page at a time, each once.
    let mut heard = Vec::new();
    for page in 1..=3 {
        let new = news(&mut follower, &mut db).await;
        assert!(new.len() <= PAGE, "{}", new.len());
        heard.extend(new);
        assert_eq!(follower.is_behind(), page < 3);
    }
    assert_eq!(BTreeSet::from_iter(heard.iter()).len(), rows);
    assert_eq!(heard.len(), rows);
    // They are not settled, and are not read again all the same: they would fill pages.
    assert_eq!(follower.settled(), at);
    assert!(follower.held_back_since().is_some());
    assert!(news(&mut follower, &mut db).await.is_empty());
    assert!(!follower.is_behind());
    // What is committed below them and above them is.
    write(&mut older, 0, "below").await;
    sqlx::raw_sql("commit").execute(&mut older).await.unwrap();
    written(&database, "above").await;
    assert_eq!(news(&mut follower, &mut db).await, ["below", "above"]);
    // In another session it is unknown whether the database crashed meanwhile, in which case
    // numbers are given out again: all that is not settled is read once more.
    let mut other = connect(&database).await;
    let mut again = 0;
    loop {
        again += news(&mut follower, &mut other).await.len();
        if !follower.is_behind() {
            break;
        }
    }
    assert_eq!(again, rows + 2);
    assert!(news(&mut follower, &mut other).await.is_empty());
    sqlx::raw_sql("rollback").execute(&mut open).await.unwrap();
    until(async || news(&mut follower, &mut other).await.is_empty() && follower.held_back_since().is_none())
        .await;
    assert_ne!(follower.settled(), at);
}

#[tokio::test]
async fn a_server_follows_the_feed_under_an_open_transaction() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (account, bot) = server.account(&org.id, "bot", &[("x.y", "*")]).await;
    let beside = server.beside(crate::harness::LIMITS).await;
    let mut open = connect(server.database()).await;
    sqlx::raw_sql("begin; select pg_current_xact_id()").execute(&mut open).await.unwrap();
    // As many as filled each look once, which then took too long, and never ended.
    write_many(server.database(), 300_000).await;
    // Both keep up, and hear of what is changed above it.
    server.hear().await;
    let there = beside.client(bot.token());
    assert_eq!(there.exchange().await.unwrap().scopes, ["x.y"]);
    let grants = vec![crate::harness::grant("x.y", "*")];
    let request = pb::RevokeAccessRequest { account_id: account.id, grants, ..Default::default() };
    org.owner.accounts().revoke_access(request).await.unwrap();
    until(async || there.exchange().await.unwrap().scopes.is_empty()).await;
    beside.hear().await;
    assert!(server.state.feed.answers() && beside.state.feed.answers());
    // And recover by themselves once it has ended.
    sqlx::raw_sql("rollback").execute(&mut open).await.unwrap();
    until(async || beside.state.feed.cursor_lag().is_zero()).await;
    assert!(beside.state.feed.answers());
}

/// However large the feed is, a session plans the statement of a look a few times, and not at each: planning costs the
/// database three times as much as the look.
#[tokio::test]
async fn a_look_at_a_large_feed_is_not_planned_each_time() {
    const LOOKS: i64 = 30;
    let database = Database::create().await;
    write_many(&database, 30_000).await;
    sqlx::raw_sql("analyze feed").execute(&mut connect(&database).await).await.unwrap();
    let mut db = connect(&database).await;
    let mut follower = Follower::begin(&mut db).await.unwrap();
    for _ in 0..LOOKS {
        // Under a transaction of another test the rows are new.
        news(&mut follower, &mut db).await;
    }
    let sql =
        "select custom_plans from pg_prepared_statements where statement like 'select d.feed_epoch%f.xid%'";
    let planned: i64 = sqlx::query_scalar(sql).fetch_one(&mut db).await.unwrap();
    assert!(planned < LOOKS / 2, "{planned} times");
}
