//! The audit log as it is read.

use std::time::Duration;

use countersign::db::sweep::sweep;
use countersign::grpc::pb;
use prost_types::Timestamp;
use tonic::{Code, Status};

use crate::harness::{Client, TestServer, refused, violated};

/// Reads the log.
pub async fn list(by: &Client, request: pb::ListEventsRequest) -> Result<Vec<pb::Event>, Status> {
    Ok(by.orgs().list_events(request).await?.into_inner().events)
}

/// The new value of a field according to an event.
pub fn became(event: &pb::Event, field: &str) -> Option<String> {
    event.changes.iter().find(|change| change.field == field)?.new_value.clone()
}

fn kinds(events: &[pb::Event]) -> Vec<&str> {
    events.iter().map(|event| event.r#type.as_str()).collect()
}

#[tokio::test]
async fn the_log_is_read_newest_first_and_by_what_is_asked() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.resources(&org.id, &["a/b"]).await;
    let middle = server.state.clock.now();
    let (bot, manager) = server.account(&org.id, "bot", &[("manager", "*")]).await;
    let request = pb::CreateServiceAccountRequest { name: "other".into(), ..Default::default() };
    let other =
        manager.accounts().create_service_account(request).await.unwrap().into_inner().account.unwrap();

    let all = list(&org.owner, pb::ListEventsRequest::default()).await.unwrap();
    assert_eq!(
        kinds(&all),
        [
            "account.created",
            "token.created",
            "account.created",
            "resource.created",
            "token.created",
            "org.created"
        ]
    );
    let newest = &all[0];
    assert!(newest.id.starts_with("evt_") && newest.org_id == org.id);
    assert_eq!((newest.actor_id.as_str(), newest.operator), (bot.id.as_str(), false));
    assert_eq!((newest.address.as_str(), newest.impersonator_id.as_str()), ("127.0.0.1", ""));
    assert!(!newest.request_id.is_empty() && newest.create_time.is_some());
    assert_eq!(newest.resource_ids, [other.id.as_str()]);
    let operator_id = server.operator.caller().await.unwrap().account.unwrap().id;
    assert!(all[1..].iter().all(|event| event.operator && event.actor_id == operator_id));
    let same: Vec<_> = newest.changes.iter().filter(|change| change.field == "name").collect();
    assert_eq!((same.len(), same[0].new_value.as_deref()), (1, Some("other")));

    let ask = async |request: pb::ListEventsRequest| list(&org.owner, request).await.unwrap();
    let any = pb::ListEventsRequest::default;
    let by_manager = || pb::ListEventsRequest { actor_id: bot.id.clone(), ..any() };
    assert_eq!(ask(by_manager()).await, all[..1]);
    assert_eq!(ask(pb::ListEventsRequest { actor_id: operator_id.clone(), ..any() }).await, all[1..]);
    let of_type = |kind: &str| pb::ListEventsRequest { r#type: kind.into(), ..any() };
    assert_eq!(ask(of_type("token.created")).await, [all[1].clone(), all[4].clone()]);
    assert_eq!(ask(of_type("token.revoked")).await, []);
    let touching = |id: &str| pb::ListEventsRequest { resource_id: id.into(), ..any() };
    assert_eq!(ask(touching("a/b")).await, [all[3].clone()]);
    assert_eq!(ask(touching("a")).await, [all[3].clone()], "what was made above it");
    assert_eq!(ask(touching(&bot.id)).await, [all[2].clone()]);
    assert_eq!(ask(touching("nothing")).await, []);
    // All of it together.
    let together = pb::ListEventsRequest {
        resource_id: other.id.clone(),
        r#type: "account.created".into(),
        ..by_manager()
    };
    assert_eq!(ask(together.clone()).await, all[..1]);
    assert_eq!(ask(pb::ListEventsRequest { r#type: "account.deleted".into(), ..together.clone() }).await, []);
    assert_eq!(ask(pb::ListEventsRequest { actor_id: operator_id.clone(), ..together }).await, []);
    let by_operator = pb::ListEventsRequest { r#type: "org.created".into(), actor_id: operator_id, ..any() };
    assert_eq!(ask(by_operator).await, all[5..]);

    let middle = Timestamp { seconds: middle.unix_timestamp(), nanos: middle.nanosecond() as i32 };
    assert_eq!(ask(pb::ListEventsRequest { start_time: Some(middle), ..any() }).await, all[..3]);
    assert_eq!(ask(pb::ListEventsRequest { end_time: Some(middle), ..any() }).await, all[3..]);
    // From a time on, and before a time.
    let [first, last] = [all[3].create_time, all[1].create_time];
    let between = |mut request: pb::ListEventsRequest| {
        (request.start_time, request.end_time) = (first, last);
        request
    };
    assert_eq!(ask(between(any())).await, all[2..4]);
    assert_eq!(ask(between(touching(&bot.id))).await, [all[2].clone()]);
    assert_eq!(ask(between(of_type("account.created"))).await, [all[2].clone()]);
    assert_eq!(ask(between(by_manager())).await, []);

    // The pages of a filter are the filter's.
    let page =
        |page_token: String| pb::ListEventsRequest { page_size: 1, page_token, ..of_type("account.created") };
    let first = org.owner.orgs().list_events(page(String::new())).await.unwrap().into_inner();
    assert_eq!((first.total_size, &first.events[..]), (Some(2), &all[..1]));
    let second = org.owner.orgs().list_events(page(first.next_page_token)).await.unwrap().into_inner();
    assert_eq!((second.events, second.next_page_token.as_str()), (vec![all[2].clone()], ""));
}

#[tokio::test]
async fn what_no_event_could_have_is_refused() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let at = |seconds: i64| Some(Timestamp { seconds, nanos: 0 });
    let any = pb::ListEventsRequest::default;
    let cases = [
        (pb::ListEventsRequest { actor_id: org.id.clone(), ..any() }, "actor_id"),
        (pb::ListEventsRequest { resource_id: "a b".into(), ..any() }, "resource_id"),
        (pb::ListEventsRequest { resource_id: "a".repeat(513), ..any() }, "resource_id"),
        (pb::ListEventsRequest { r#type: "token".into(), ..any() }, "type"),
        (pb::ListEventsRequest { r#type: "Token.Revoked".into(), ..any() }, "type"),
        // Well-formed, and of no event: it would match nothing, without a word.
        (pb::ListEventsRequest { r#type: "token.revoke".into(), ..any() }, "type"),
        (pb::ListEventsRequest { r#type: "invoice.paid".into(), ..any() }, "type"),
        (pb::ListEventsRequest { r#type: format!("{}.x", "a".repeat(32)), ..any() }, "type"),
        (pb::ListEventsRequest { start_time: at(i64::MAX), ..any() }, "start_time"),
        (pb::ListEventsRequest { end_time: at(i64::MIN), ..any() }, "end_time"),
        (pb::ListEventsRequest { start_time: at(5), end_time: at(5), ..any() }, "end_time"),
        (pb::ListEventsRequest { start_time: at(6), end_time: at(5), ..any() }, "end_time"),
    ];
    for (request, field) in cases {
        let refusal = refused(list(&org.owner, request).await, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&refusal), [field]);
    }
    let many = pb::ListEventsRequest { actor_id: "x".into(), r#type: "x".into(), ..any() };
    let refusal = refused(list(&org.owner, many).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&refusal), ["actor_id", "type"]);
    list(&org.owner, pb::ListEventsRequest { resource_id: "a".repeat(512), ..any() }).await.unwrap();
    list(&org.owner, pb::ListEventsRequest { start_time: at(-5_000_000_000), ..any() }).await.unwrap();
}

#[tokio::test]
async fn events_are_kept_four_hundred_days() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let db = &server.state.db;
    let counted = async || {
        let sql = "select (select count(*) from events), (select count(*) from event_resources)";
        sqlx::query_as::<_, (i64, i64)>(sql).fetch_one(db).await.unwrap()
    };
    let before = counted().await;
    assert!(before.0 > 0 && before.1 >= before.0);
    let day = Duration::from_secs(24 * 3_600);
    server.state.clock.advance(399 * day);
    sweep(db, server.state.clock.now()).await.unwrap();
    assert_eq!(counted().await, before);
    let owner = server.client(server.managing_token_of(&org).await);
    let left = list(&owner, pb::ListEventsRequest::default()).await.unwrap().len();
    server.state.clock.advance(day + Duration::from_secs(60));
    sweep(db, server.state.clock.now()).await.unwrap();
    let owner = server.client(server.managing_token_of(&org).await);
    // The owner's two later tokens; the events before them are gone.
    assert_eq!(list(&owner, pb::ListEventsRequest::default()).await.unwrap().len(), 2);
    assert_eq!(left, 3);
    assert!(counted().await.0 < before.0 + 4);
}
