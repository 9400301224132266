//! `WatchEvents`: each event of one org once, in order, also after a cut.

use std::collections::BTreeSet;

use countersign::config::ServerLimits;
use countersign::grpc::pb;
use countersign::grpc::pb::watch_events_response::Item;
use sqlx::{Connection as _, PgConnection};
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};

use crate::harness::{Client, LIMITS, Org, PATIENCE, TestServer, by_id, reason, refused, until, violated};

struct Log {
    items: Streaming<pb::WatchEventsResponse>,
    cursor: String,
    events: Vec<pb::Event>,
}

impl Log {
    async fn open(by: &Client, request: pb::WatchEventsRequest) -> Result<Self, Status> {
        let items = by.orgs().watch_events(request).await?.into_inner();
        let mut log = Self { items, cursor: String::new(), events: Vec::new() };
        log.checkpoint().await?;
        Ok(log)
    }

    async fn read(&mut self) -> Result<Option<Item>, Status> {
        let read = timeout(PATIENCE, self.items.message()).await.expect("the stream says nothing")?;
        let item = read.and_then(|answer| answer.item);
        match &item {
            Some(Item::Event(event)) => self.events.push(event.clone()),
            Some(Item::Checkpoint(checkpoint)) => self.cursor.clone_from(&checkpoint.cursor),
            None => {}
        }
        Ok(item)
    }

    async fn checkpoint(&mut self) -> Result<(), Status> {
        while !matches!(self.read().await?, Some(Item::Checkpoint(_))) {}
        Ok(())
    }

    /// Reads until it has so many events.
    async fn has(&mut self, count: usize) {
        while self.events.len() < count {
            assert!(self.read().await.unwrap().is_some(), "the stream ended");
        }
    }

    fn ids(&self) -> Vec<&str> {
        self.events.iter().map(|event| &*event.id).collect()
    }
}

fn after(cursor: &str) -> pb::WatchEventsRequest {
    pb::WatchEventsRequest { cursor: cursor.into(), ..Default::default() }
}

/// Makes an event: a resource.
async fn make(org: &Org, path: &str) {
    let request = pb::CreateResourceRequest { path: path.into(), ..Default::default() };
    org.owner.orgs().create_resource(request).await.unwrap();
}

/// Waits until all that was committed is settled: another transaction of the database server may hold it back.
async fn settle(server: &TestServer) {
    let sql =
        "select coalesce(max(xid), 0) < pg_snapshot_xmin(pg_current_snapshot())::text::bigint from feed";
    until(async || sqlx::query_scalar(sql).fetch_one(&server.state.db).await.unwrap()).await;
}

/// The ids of the org's events, oldest first.
async fn listed(org: &Org) -> Vec<String> {
    let request = pb::ListEventsRequest { page_size: 200, ..Default::default() };
    let mut events = org.owner.orgs().list_events(request).await.unwrap().into_inner().events;
    events.reverse();
    events.into_iter().map(|event| event.id).collect()
}

#[tokio::test]
async fn each_event_comes_once_and_in_order_also_after_a_cut() {
    let server = TestServer::start().await;
    let other = server.beside(ServerLimits { feed_listen: false, ..LIMITS }).await;
    let (org, foreign) = (server.org().await, server.org().await);
    let before = listed(&org).await;
    settle(&server).await;
    let mut log = Log::open(&org.owner, Default::default()).await.unwrap();
    let start = log.cursor.clone();
    let mut seen: Vec<pb::Event> = Vec::new();
    for round in 0..4 {
        for n in 0..3 {
            make(&org, &format!("a{round}-{n}")).await;
            make(&foreign, &format!("b{round}-{n}")).await;
        }
        log.has(3).await;
        log.checkpoint().await.unwrap();
        seen.append(&mut log.events);
        // What happens while it is away.
        let cursor = log.cursor.clone();
        drop(log);
        make(&org, &format!("away{round}")).await;
        let node = if round % 2 == 0 { other.client(org.owner.token()) } else { org.owner.clone() };
        log = Log::open(&node, after(&cursor)).await.unwrap();
        log.has(1).await;
        seen.append(&mut log.events);
    }
    let ids: Vec<_> = seen.iter().map(|event| event.id.clone()).collect();
    let all = listed(&org).await;
    let expected: Vec<_> = all.iter().filter(|id| !before.contains(id)).cloned().collect();
    assert_eq!(ids, expected);
    assert!(seen.iter().all(|event| event.org_id == org.id && event.r#type == "resource.created"));
    // From the start once more, on a node that has read none of it.
    let third = server.beside(LIMITS).await;
    let mut again = Log::open(&third.client(org.owner.token()), after(&start)).await.unwrap();
    again.has(expected.len()).await;
    again.checkpoint().await.unwrap();
    assert_eq!(again.ids(), expected);
}

#[tokio::test]
async fn types_are_chosen_and_belong_to_the_cursor() {
    let server = TestServer::start().await;
    let org = server.org().await;
    settle(&server).await;
    let types = vec!["token.revoked".to_owned(), "token.created".to_owned()];
    let request = pb::WatchEventsRequest { types: types.clone(), ..Default::default() };
    let mut log = Log::open(&org.owner, request.clone()).await.unwrap();
    make(&org, "a").await;
    let token = server.managing_token(&org.id, &org.owner_id).await;
    let id = server.client(token).caller().await.unwrap().credential_id;
    org.owner.tokens().revoke_token(by_id("", &id)).await.unwrap();
    log.has(2).await;
    let kinds: Vec<_> = log.events.iter().map(|event| &*event.r#type).collect();
    assert_eq!(kinds, ["token.created", "token.revoked"]);
    log.checkpoint().await.unwrap();
    // The same set in another order.
    let turned = pb::WatchEventsRequest { types: types.into_iter().rev().collect(), ..after(&log.cursor) };
    Log::open(&org.owner, turned).await.unwrap();
    refused(Log::open(&org.owner, after(&log.cursor)).await.map(drop), Code::OutOfRange, "CURSOR_EXPIRED");
    let unknown = pb::WatchEventsRequest { types: vec!["token.eaten".into()], ..Default::default() };
    let wrong =
        refused(Log::open(&org.owner, unknown).await.map(drop), Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&wrong), ["types[0]"]);
}

#[tokio::test]
async fn an_open_transaction_holds_events_back_and_loses_none() {
    let server = TestServer::start().await;
    let org = server.org().await;
    settle(&server).await;
    let mut log = Log::open(&org.owner, Default::default()).await.unwrap();
    let mut open = PgConnection::connect_with(&server.database().options()).await.unwrap();
    let mut open = open.begin().await.unwrap();
    sqlx::query("select pg_current_xact_id()").execute(&mut *open).await.unwrap();
    make(&org, "a").await;
    make(&org, "b").await;
    log.checkpoint().await.unwrap();
    log.checkpoint().await.unwrap();
    assert!(log.events.is_empty());
    let cursor = log.cursor.clone();
    open.rollback().await.unwrap();
    log.has(2).await;
    let mut resumed = Log::open(&org.owner, after(&cursor)).await.unwrap();
    resumed.has(2).await;
    assert_eq!(resumed.ids(), log.ids());
    assert_eq!(log.ids().into_iter().collect::<BTreeSet<_>>().len(), 2);
}

#[tokio::test]
async fn another_orgs_log_is_not_there_and_a_right_that_goes_ends_the_stream() {
    let server = TestServer::start().await;
    let (org, other) = (server.org().await, server.org().await);
    let request = pb::WatchEventsRequest { org_id: other.id.clone(), ..Default::default() };
    refused(Log::open(&org.owner, request.clone()).await.map(drop), Code::NotFound, "RESOURCE_NOT_FOUND");
    // An operator reads it, and a cursor of it is of no use elsewhere.
    let cursor = Log::open(&server.operator, request).await.unwrap().cursor;
    Log::open(&other.owner, after(&cursor)).await.unwrap();
    refused(Log::open(&org.owner, after(&cursor)).await.map(drop), Code::OutOfRange, "CURSOR_EXPIRED");

    let (account, by) = server.account(&org.id, "auditor", &[("auditor", "*")]).await;
    let mut log = Log::open(&by, Default::default()).await.unwrap();
    let request = pb::DeactivateAccountRequest { account_id: account.id, ..Default::default() };
    org.owner.accounts().deactivate_account(request).await.unwrap();
    let end = loop {
        match log.read().await {
            Ok(item) => assert!(item.is_some(), "an end without an error"),
            Err(status) => break status,
        }
    };
    assert_eq!((end.code(), reason(&end).as_str()), (Code::Unauthenticated, "ACCOUNT_DEACTIVATED"));
}
