//! One org's calls wait for each other, and not another's for them.

use std::sync::Arc;
use std::task::{Context, Poll};

use countersign::crypto::password_places::Asker;
use countersign::db::events::Actor;
use countersign::domain::access::request_context::{BrowserOrigin, RequestContext, RequestId};
use countersign::domain::access::work::Work;
use countersign::domain::values::client_address::ClientAddress;
use countersign::domain::values::ids::{AccountId, OrgId, SYSTEM_ORG};
use countersign::flows::reading::Reading;
use countersign::grpc::pb;
use countersign::state::State;
use countersign::state::shares::{Group, MAX_WAITING, Member, Place};
use sqlx::{Connection as _, PgConnection, Postgres, Transaction};
use tokio::task::{JoinHandle, JoinSet};
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

use crate::harness::{Client, Org, PASSWORD, TestServer, by_id, grant, refused, token_for, until};

/// A server on which one org's row is held, so that its changes wait, and another org.
struct Held {
    server: TestServer,
    flooding: Org,
    other: Org,
    /// The caller of each flood of calls.
    callers: Vec<Client>,
    account: pb::Account,
    db: PgConnection,
}

impl Held {
    async fn start() -> Self {
        let server = TestServer::start().await;
        let (flooding, other) = (server.org().await, server.org().await);
        let (account, _) = server.account(&flooding.id, "bot", &[]).await;
        let mut callers = vec![flooding.owner.clone()];
        for _ in 0..2 {
            callers.push(server.client(server.managing_token_of(&flooding).await));
        }
        for caller in &callers {
            caller.caller().await.unwrap();
        }
        other.owner.caller().await.unwrap();
        let db = PgConnection::connect_with(&server.database().options()).await.unwrap();
        Self { server, flooding, other, callers, account, db }
    }

    async fn hold(&mut self) -> Transaction<'_, Postgres> {
        let org_id: OrgId = self.flooding.id.parse_org();
        let mut lock = self.db.begin().await.unwrap();
        let query = sqlx::query("select 1 from orgs where org_id = $1 for no key update");
        query.bind(org_id.uuid()).execute(&mut *lock).await.unwrap();
        lock
    }
}

/// A way to read an org's id.
trait ParseOrg {
    fn parse_org(&self) -> OrgId;
}

impl ParseOrg for String {
    fn parse_org(&self) -> OrgId {
        OrgId::parse(self).unwrap()
    }
}

fn grant_access(account: &pb::Account, n: usize) -> pb::GrantAccessRequest {
    let grants = vec![grant(&format!("p{n}.read"), "*")];
    pb::GrantAccessRequest { account_id: account.id.clone(), grants, ..Default::default() }
}

/// Grants by each caller at once.
fn flood(callers: &[Client], account: &pb::Account, each: usize) -> JoinSet<Result<(), Status>> {
    let mut calls = JoinSet::new();
    for (i, caller) in callers.iter().enumerate() {
        for n in 0..each {
            let (caller, request) = (caller.clone(), grant_access(account, i * each + n));
            calls.spawn(async move { caller.accounts().grant_access(request).await.map(drop) });
        }
    }
    calls
}

/// How many sessions of the database wait for a lock.
async fn waiting_for_locks(db: &mut PgConnection) -> i64 {
    let sql = "select count(*) from pg_stat_activity
               where datname = current_database() and wait_event_type = 'Lock'";
    sqlx::query_scalar(sql).fetch_one(db).await.unwrap()
}

#[tokio::test]
async fn one_org_leaves_connections_to_another() {
    let mut held = Held::start().await;
    let shares = held.server.state.shares.clone();
    let group = Group::Org(held.flooding.id.parse_org());
    let (callers, account, other) = (held.callers.clone(), held.account.clone(), held.other.owner.clone());
    let other_id = held.other.owner_id.clone();
    let limit = shares.limit(Work::Changes);
    let mut lock = held.hold().await;

    // One credential leaves half of the share to others of its org.
    let mut by_one = flood(&callers[..1], &account, 20);
    until(async || shares.count(group, Work::Changes) == (limit / 2, 20 - limit / 2)).await;
    let mut by_others = flood(&callers[1..], &account, 20);
    until(async || shares.count(group, Work::Changes).1 > 40).await;
    assert!(shares.count(group, Work::Changes).0 <= limit);
    assert!(waiting_for_locks(&mut lock).await <= limit as i64);
    // Another org reads and changes meanwhile.
    let get = pb::GetAccountRequest { account_id: other_id, ..Default::default() };
    other.accounts().get_account(get).await.unwrap();
    let create = pb::CreateResourceRequest { path: "meanwhile".into(), ..Default::default() };
    other.orgs().create_resource(create).await.unwrap();
    assert!(shares.count(group, Work::Changes).1 > 0, "the flood still waits");

    lock.rollback().await.unwrap();
    // Those that waited are served; one that waited for the row for too long is to try again.
    for calls in [&mut by_one, &mut by_others] {
        while let Some(answer) = calls.join_next().await {
            if let Err(status) = answer.unwrap() {
                assert_eq!(status.code(), Code::Aborted, "{status:?}");
            }
        }
    }
    until(async || shares.count(group, Work::Changes) == (0, 0)).await;
}

#[tokio::test]
async fn what_stops_something_does_not_wait_behind_changes() {
    let mut held = Held::start().await;
    let shares = held.server.state.shares.clone();
    let group = Group::Org(held.flooding.id.parse_org());
    let (callers, account) = (held.callers.clone(), held.account.clone());
    let owner = held.flooding.owner.clone();
    let made = owner.tokens().create_token(token_for("", &account.id)).await.unwrap().into_inner();
    let lock = held.hold().await;
    let mut calls = flood(&callers, &account, 20);
    until(async || shares.count(group, Work::Changes).1 > 40).await;
    // Its own caller is among those that wait.
    owner.tokens().revoke_token(by_id("", &made.token.unwrap().id)).await.unwrap();
    assert!(shares.count(group, Work::Changes).1 > 0, "the flood still waits");
    lock.rollback().await.unwrap();
    calls.shutdown().await;
    // Calls that are given up leave the queue.
    until(async || shares.count(group, Work::Changes) == (0, 0)).await;
}

#[tokio::test]
async fn too_many_that_wait_are_refused_and_told_when_to_retry() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (account, _) = server.account(&org.id, "bot", &[]).await;
    let shares = server.state.shares.clone();
    let group = Group::Org(org.id.parse_org());
    let (free, mut waiting) = (shares.limit(Work::Changes), JoinSet::new());
    for n in 0..(free + MAX_WAITING) as u128 {
        let (shares, member) = (shares.clone(), Member::Account(AccountId::from_u128(n)));
        waiting.spawn(async move {
            let _place = shares.place(group, member, Work::Changes).await.unwrap();
            std::future::pending::<()>().await;
        });
    }
    until(async || shares.count(group, Work::Changes) == (free, MAX_WAITING)).await;
    let refusal = org.owner.accounts().grant_access(grant_access(&account, 1_000)).await;
    let refusal = refused(refusal, Code::ResourceExhausted, "OVERLOADED");
    assert!(refusal.get_details_retry_info().unwrap().retry_delay.is_some());
    waiting.shutdown().await;
    org.owner.accounts().grant_access(grant_access(&account, 1_000)).await.unwrap();
}

#[tokio::test]
async fn reads_of_one_org_leave_connections_to_another() {
    let mut held = Held::start().await;
    let shares = held.server.state.shares.clone();
    let group = Group::Org(held.flooding.id.parse_org());
    let (flooding, other) = (held.flooding.owner.clone(), held.other.owner.clone());
    // All of them are of one credential.
    let limit = (shares.limit(Work::Reads) / 2).max(1);
    // What only the one org reads.
    let mut lock = held.db.begin().await.unwrap();
    sqlx::raw_sql("lock table events in access exclusive mode").execute(&mut *lock).await.unwrap();
    let mut calls = JoinSet::new();
    for _ in 0..40 {
        let caller = flooding.clone();
        calls.spawn(
            async move { caller.orgs().list_events(pb::ListEventsRequest::default()).await.map(drop) },
        );
    }
    until(async || shares.count(group, Work::Reads) == (limit, 40 - limit)).await;
    other.orgs().get_org(pb::GetOrgRequest::default()).await.unwrap();
    assert_eq!(shares.count(group, Work::Reads), (limit, 40 - limit), "they still wait");
    lock.rollback().await.unwrap();
    while let Some(answer) = calls.join_next().await {
        answer.unwrap().unwrap();
    }
}

/// Takes all places of a group for this work.
async fn hold_all(server: &TestServer, group: Group, work: Work) -> Vec<Place> {
    let shares = &server.state.shares;
    let mut held = Vec::new();
    for n in 0..shares.limit(work) as u128 {
        let member = Member::Account(AccountId::from_u128(n));
        held.push(shares.place(group, member, work).await.unwrap());
    }
    held
}

/// Takes all places of a group in which calls read.
async fn hold_reads(server: &TestServer, group: Group) -> Vec<Place> {
    hold_all(server, group, Work::Reads).await
}

/// Not only those that read do: calls that are answered from memory or that change something look something up
/// before.
#[tokio::test]
async fn whatever_a_call_reads_takes_a_place_among_reads() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let bot = server.technical(&org.id, "bot", &[("x.y", "*")]).await;
    let (plain, plain_client) = server.account(&org.id, "plain", &[]).await;
    let request = pb::ListGrantsRequest {
        filter: Some(pb::list_grants_request::Filter::AccountId(bot.id.clone())),
        ..Default::default()
    };
    let grants = org.owner.accounts().list_grants(request).await.unwrap().into_inner().grants;
    plain_client.caller().await.unwrap();
    let shares = server.state.shares.clone();
    let mut calls = JoinSet::new();

    let of_org = Group::Org(org.id.parse_org());
    let held = hold_reads(&server, of_org).await;
    // What stops something does not wait for them.
    let request = pb::RevokeAccessRequest {
        account_id: bot.id.clone(),
        grants: vec![pb::Grant { grant_id: grants[0].grant_id.clone(), ..Default::default() }],
        ..Default::default()
    };
    org.owner.accounts().revoke_access(request).await.unwrap();
    let owner = org.owner.clone();
    calls.spawn(async move {
        let request = pb::CreateServiceAccountRequest { name: "another".into(), ..Default::default() };
        owner.accounts().create_service_account(request).await.map(drop)
    });
    let (owner, id) = (org.owner.clone(), plain.id.clone());
    calls.spawn(async move {
        let reason = "a test".to_owned();
        let request = pb::ImpersonateAccountRequest { account_id: id, reason, ..Default::default() };
        owner.tokens().impersonate_account(request).await.map(drop)
    });
    until(async || shares.count(of_org, Work::Reads).1 == 2).await;

    // Anonymous ones share one group: a login, and what has a code.
    let held_of_strangers = hold_reads(&server, Group::Unauthenticated).await;
    let (anonymous, username) = (server.anonymous(), bot.username.clone());
    calls.spawn(async move {
        let request = pb::LoginRequest { username, password: PASSWORD.into(), ..Default::default() };
        anonymous.tokens().login(request).await.map(drop)
    });
    until(async || shares.count(Group::Unauthenticated, Work::Reads).1 == 1).await;
    // Another org is not kept waiting meanwhile.
    server.org().await.owner.orgs().get_org(pb::GetOrgRequest::default()).await.unwrap();
    assert_eq!(shares.count(of_org, Work::Reads).1, 2);

    drop((held, held_of_strangers));
    while let Some(answer) = calls.join_next().await {
        answer.unwrap().unwrap();
    }
    until(async || shares.count(of_org, Work::Reads) == (0, 0)).await;
}

#[tokio::test]
async fn a_cancelled_call_keeps_its_place_while_its_session_is_busy() {
    let mut held = Held::start().await;
    let org_id = held.flooding.id.parse_org();
    let state = held.server.state.clone();
    let account_id = AccountId::parse(&held.account.id).unwrap();
    let lock = held.hold().await;
    let context = Arc::new(RequestContext {
        address: ClientAddress::UNKNOWN,
        page: BrowserOrigin::None,
        request_id: RequestId::given("cancelled").unwrap(),
        work: Work::Changes,
        ..Default::default()
    });
    let author = Actor::account(account_id, None, &context).in_org(org_id);
    let count = || state.shares.count(Group::Org(org_id), Work::Changes).0;
    let mut cancelled = countersign::flows::transaction::Transaction::begin(&state, author).await.unwrap();
    // However long a busy machine takes to see it wait.
    let unlimited = "set local lock_timeout = 0; set local idle_in_transaction_session_timeout = 0";
    sqlx::raw_sql(unlimited).execute(&mut *cancelled).await.unwrap();
    give_up_waiting(&state, countersign::db::orgs::lock(&mut cancelled, org_id)).await;
    drop(cancelled);
    assert_eq!(count(), 1, "the session still waits");
    lock.rollback().await.unwrap();
    until(async || count() == 0).await;
}

/// Sends a statement, and gives it up while its session waits for a row.
async fn give_up_waiting(state: &State, statement: impl Future) {
    let mut statement = std::pin::pin!(statement);
    let mut observer = state.db.acquire().await.unwrap();
    until(async || {
        let is_pending = |cx: &mut Context<'_>| Poll::Ready(statement.as_mut().poll(cx).is_pending());
        assert!(std::future::poll_fn(is_pending).await);
        waiting_for_locks(&mut observer).await > 0
    })
    .await;
}

/// A read leaves it as a transaction does.
#[tokio::test]
async fn a_cancelled_read_keeps_its_place_while_its_session_is_busy() {
    let mut held = Held::start().await;
    let org_id = held.flooding.id.parse_org();
    let state = held.server.state.clone();
    let (group, member) = (Group::Org(org_id), Member::Account(AccountId::parse(&held.account.id).unwrap()));
    let lock = held.hold().await;
    let mut cancelled = Reading::begin(&state, Work::Changes, (group, member)).await.unwrap();
    let count = || state.shares.count(group, Work::Reads).0;
    let query = sqlx::query("select 1 from orgs where org_id = $1 for share").bind(org_id.uuid());
    give_up_waiting(&state, query.execute(&mut *cancelled)).await;
    drop(cancelled);
    assert_eq!(count(), 1, "the session still waits");
    lock.rollback().await.unwrap();
    until(async || count() == 0).await;
}

/// Also where the caller, or an operator, is the one whose reads take all places.
#[tokio::test]
async fn what_stops_something_does_not_wait_among_reads() {
    let server = TestServer::start().await;
    let (org, other) = (server.org().await, server.org().await);
    let (plain, client) = server.account(&org.id, "plain", &[]).await;
    let made = org.owner.tokens().create_token(token_for("", &plain.id)).await.unwrap().into_inner();
    client.caller().await.unwrap();
    let keys = server.operator.tokens().list_signing_keys(pb::ListSigningKeysRequest::default()).await;
    let kid = keys.unwrap().into_inner().signing_keys[0].kid.clone();

    let _held = hold_reads(&server, Group::Org(org.id.parse_org())).await;
    let _held_of_system = hold_reads(&server, Group::Org(SYSTEM_ORG)).await;
    let _held_of_strangers = hold_reads(&server, Group::Unauthenticated).await;
    // Whose token it is has to be read.
    client.tokens().revoke_token(by_id("", &made.token.unwrap().id)).await.unwrap();
    let suspend = pb::SuspendOrgRequest { org_id: other.slug.clone(), ..Default::default() };
    server.operator.orgs().suspend_org(suspend).await.unwrap();
    let revoke = pb::RevokeSigningKeyRequest { kid: kid.clone(), ..Default::default() };
    let revoked = server.operator.tokens().revoke_signing_key(revoke).await.unwrap().into_inner();
    assert_eq!(revoked.signing_key.unwrap().kid, kid);
    let shares = &server.state.shares;
    assert_eq!(shares.count(Group::Org(SYSTEM_ORG), Work::Reads), (shares.limit(Work::Reads), 0));
}

/// How many attempts to sign in count as failures.
async fn failures(server: &TestServer) -> i64 {
    let sql = "select count(*) from login_buckets where cardinality(failures) > 0";
    sqlx::query_scalar(sql).fetch_one(&server.state.db).await.unwrap()
}

/// A login with the password of the harness, in a task.
fn login(server: &TestServer, username: &str, org_id: &str) -> JoinHandle<Result<pb::LoginResponse, Status>> {
    let (anonymous, username, org_id) = (server.anonymous(), username.to_owned(), org_id.to_owned());
    tokio::spawn(async move {
        let request = pb::LoginRequest { username, password: PASSWORD.into(), org_id };
        anonymous.tokens().login(request).await.map(Response::into_inner)
    })
}

#[tokio::test]
async fn a_login_that_waits_to_read_is_not_counted() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let bot = server.technical(&org.id, "bot", &[]).await;
    let shares = &server.state.shares;
    let held = hold_reads(&server, Group::Unauthenticated).await;
    let waits = login(&server, &bot.username, "");
    until(async || shares.count(Group::Unauthenticated, Work::Reads).1 == 1).await;
    assert_eq!(failures(&server).await, 0);
    // Its deadline passes.
    waits.abort();
    until(async || shares.count(Group::Unauthenticated, Work::Reads).1 == 0).await;
    assert_eq!(failures(&server).await, 0);
    drop(held);
    login(&server, &bot.username, "").await.unwrap().unwrap();
}

/// It would be counted as a failure, or its session would be there without its token.
#[tokio::test]
async fn nothing_is_refused_for_want_of_a_place_to_read_once_the_password_is_right() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let bot = server.technical(&org.id, "bot", &[]).await;
    let places = server.state.passwords.places.clone();
    let all_hashes = places.take(Asker::Stranger(ClientAddress::UNKNOWN), places.all()).await.unwrap();
    let signs_in = login(&server, &bot.username, &org.slug);
    until(async || places.waiting() == 1).await;
    // From now on each read of a stranger is refused.
    let shares = server.state.shares.clone();
    let _held = hold_reads(&server, Group::Unauthenticated).await;
    let mut waiting = JoinSet::new();
    for n in 0..MAX_WAITING as u128 {
        let (shares, member) = (shares.clone(), Member::Account(AccountId::from_u128(1_000 + n)));
        waiting
            .spawn(async move { shares.place(Group::Unauthenticated, member, Work::Reads).await.map(drop) });
    }
    until(async || shares.count(Group::Unauthenticated, Work::Reads).1 == MAX_WAITING).await;
    refused(login(&server, &bot.username, "").await.unwrap(), Code::ResourceExhausted, "OVERLOADED");
    drop(all_hashes);
    let answer = signs_in.await.unwrap().unwrap();
    assert_eq!((answer.account.unwrap().id, answer.orgs.len()), (bot.id, 1));
    assert_eq!(failures(&server).await, 0);
}

#[tokio::test]
async fn a_right_password_is_no_failure_whatever_follows() {
    let server = TestServer::start().await;
    let (org, other) = (server.org().await, server.org().await);
    let bot = server.technical(&org.id, "bot", &[]).await;
    let elsewhere = login(&server, &bot.username, &other.slug).await.unwrap();
    refused(elsewhere, Code::Unauthenticated, "LOGIN_FAILED");
    assert_eq!(failures(&server).await, 0);
    // Its deadline passes while its session waits for a place.
    let of_org = Group::Org(org.id.parse_org());
    let _held = hold_all(&server, of_org, Work::Changes).await;
    let waits = login(&server, &bot.username, "");
    until(async || server.state.shares.count(of_org, Work::Changes).1 == 1).await;
    assert_eq!(failures(&server).await, 1);
    waits.abort();
    until(async || failures(&server).await == 0).await;
}

/// What it reads and counts is in the share of its org.
#[tokio::test]
async fn a_password_is_changed_beside_strangers() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.person(&org.id, "ann@example.org", &[]).await;
    let session = server.session("ann@example.org").await;
    let _reads = hold_reads(&server, Group::Unauthenticated).await;
    let _changes = hold_all(&server, Group::Unauthenticated, Work::Changes).await;
    let request = pb::ChangePasswordRequest {
        current_password: PASSWORD.into(),
        new_password: "another good password".into(),
    };
    session.accounts().change_password(request).await.unwrap();
}
