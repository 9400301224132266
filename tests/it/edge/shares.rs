//! One org's calls wait for each other, and not another's for them.

use std::sync::Arc;

use countersign::db::events::Actor;
use countersign::domain::access::request_context::{BrowserOrigin, RequestContext, RequestId};
use countersign::domain::access::work::Work;
use countersign::domain::values::client_address::ClientAddress;
use countersign::domain::values::ids::{AccountId, OrgId};
use countersign::grpc::pb;
use countersign::state::shares::{Group, MAX_WAITING, Member, Place};
use sqlx::{Connection as _, PgConnection, Postgres, Transaction};
use tokio::task::JoinSet;
use tonic::{Code, Status};
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

/// Takes all places of a group in which calls read.
async fn hold_reads(server: &TestServer, group: Group) -> Vec<Place> {
    let shares = &server.state.shares;
    let mut held = Vec::new();
    for n in 0..shares.limit(Work::Reads) as u128 {
        let member = Member::Account(AccountId::from_u128(n));
        held.push(shares.place(group, member, Work::Reads).await.unwrap());
    }
    held
}

/// Not only those that read do: calls that are answered from memory, that change or that stop something look
/// something up before.
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
    let (owner, id, grant_id) = (org.owner.clone(), bot.id.clone(), grants[0].grant_id.clone());
    calls.spawn(async move {
        let request = pb::RevokeAccessRequest {
            account_id: id,
            grants: vec![pb::Grant { grant_id, ..Default::default() }],
            ..Default::default()
        };
        owner.accounts().revoke_access(request).await.map(drop)
    });
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
    until(async || shares.count(of_org, Work::Reads).1 == 3).await;

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
    assert_eq!(shares.count(of_org, Work::Reads).1, 3);

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
    {
        // The statement is sent, and waits for the row.
        let mut waits = std::pin::pin!(countersign::db::orgs::lock(&mut cancelled, org_id));
        let mut observer = state.db.acquire().await.unwrap();
        until(async || {
            assert!(
                std::future::poll_fn(|cx| std::task::Poll::Ready(waits.as_mut().poll(cx).is_pending())).await
            );
            waiting_for_locks(&mut observer).await > 0
        })
        .await;
    }
    drop(cancelled);
    assert_eq!(count(), 1, "the session still waits");
    lock.rollback().await.unwrap();
    until(async || count() == 0).await;
}
