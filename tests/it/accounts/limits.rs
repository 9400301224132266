//! How many grants, roles, resources and tokens there may be: on every path, and for two calls at once.

use countersign::domain::values::ids::{AccountId, OrgId};
use countersign::grpc::pb;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::{Client, TestServer, grant, refused, token_for};

async fn give(client: &Client, account_id: &str, permissions: &[&str]) -> Result<Vec<pb::Grant>, Status> {
    let grants = permissions.iter().map(|permission| grant(permission, "*")).collect();
    let request = pb::GrantAccessRequest { account_id: account_id.into(), grants, ..Default::default() };
    Ok(client.accounts().grant_access(request).await?.into_inner().account_grants)
}

/// Grants an account so many permissions, as if by many calls.
async fn fill_grants(server: &TestServer, account_id: &str, count: i32) {
    let fill = "insert into grants (org_id, grant_id, account_id, right_id, create_time)
                select a.org_id, gen_random_uuid(), a.account_id, 'filler.n' || n, now()
                from accounts a, generate_series(1, $2) n where a.account_id = $1";
    let account = AccountId::parse(account_id).unwrap().uuid();
    sqlx::query(fill).bind(account).bind(count).execute(&server.state.db).await.unwrap();
}

fn at_limit<T: std::fmt::Debug>(outcome: Result<T, Status>, subject: &str) {
    let refusal = refused(outcome, Code::FailedPrecondition, "LIMIT_REACHED");
    let details = refusal.get_details_precondition_failure().unwrap();
    assert_eq!(
        (details.violations[0].r#type.as_str(), details.violations[0].subject.as_str()),
        ("LIMIT", subject)
    );
}

#[tokio::test]
async fn an_account_has_a_thousand_grants_at_most() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (bot, client) = server.account(&org.id, "bot", &[]).await;
    fill_grants(&server, &bot.id, 998).await;
    let subject = "grants of one account in an org";
    at_limit(give(&org.owner, &bot.id, &["a.a", "a.b", "a.c"]).await, subject);
    // Of two calls at once, one finds what the other has written.
    give(&org.owner, &bot.id, &["a.a"]).await.unwrap();
    let (one, two) = tokio::join!(give(&org.owner, &bot.id, &["a.b"]), give(&org.owner, &bot.id, &["a.c"]));
    assert_eq!(u8::from(one.is_ok()) + u8::from(two.is_ok()), 1);
    at_limit(if one.is_ok() { two } else { one }, subject);
    // What is held already takes no more room. Another account has its own limit.
    give(&org.owner, &bot.id, &["a.a"]).await.unwrap();
    let (other, _) = server.account(&org.id, "other", &[]).await;
    give(&org.owner, &other.id, &["a.a"]).await.unwrap();
    // The account can be used, cloned and freed of some.
    server.state.principals.clear();
    assert_eq!(client.caller().await.unwrap().permissions.len(), 1_000);
    let request = pb::CloneAccountRequest {
        account_id: bot.id.clone(),
        name: "clone".into(),
        excluded_grants: vec![grant("a.a", "*")],
        ..Default::default()
    };
    let clone = org.owner.accounts().clone_account(request).await.unwrap().into_inner().account.unwrap();
    give(&org.owner, &clone.id, &["a.a"]).await.unwrap();
    at_limit(give(&org.owner, &clone.id, &["a.d"]).await, subject);
    let taken = pb::RevokeAccessRequest {
        account_id: bot.id.clone(),
        grants: vec![grant("a.a", "*")],
        ..Default::default()
    };
    org.owner.accounts().revoke_access(taken).await.unwrap();
    give(&org.owner, &bot.id, &["a.d"]).await.unwrap();
}

#[tokio::test]
async fn an_org_has_ten_thousand_resources_at_most_those_above_included() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let fill = "insert into resources (org_id, path, revision, create_time, update_time)
                select $1, 'filler' || n, 1, now(), now() from generate_series(1, 9997) n";
    let org_id = OrgId::parse(&org.id).unwrap().uuid();
    sqlx::query(fill).bind(org_id).execute(&server.state.db).await.unwrap();
    let create = async |path: &str| {
        let request = pb::CreateResourceRequest { path: path.into(), ..Default::default() };
        org.owner.orgs().create_resource(request).await.map(|_| ())
    };
    let subject = "resources of one org";
    at_limit(create("a/b/c/d").await, subject);
    // Nothing of it was created.
    create("a/b").await.unwrap();
    let (one, two) = tokio::join!(create("a/c"), create("a/d"));
    assert_eq!(u8::from(one.is_ok()) + u8::from(two.is_ok()), 1);
    at_limit(if one.is_ok() { two } else { one }, subject);
    let delete = pb::DeleteResourceRequest { path: "filler1".into(), ..Default::default() };
    org.owner.orgs().delete_resource(delete).await.unwrap();
    create("b").await.unwrap();
}

#[tokio::test]
async fn two_calls_at_once_take_the_last_place_once() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (bot, _) = server.account(&org.id, "bot", &[]).await;
    for _ in 0..98 {
        server.operator.tokens().create_token(token_for(&org.id, &bot.id)).await.unwrap();
    }
    let make = async || server.operator.tokens().create_token(token_for(&org.id, &bot.id)).await.map(|_| ());
    let (one, two) = tokio::join!(make(), make());
    assert_eq!(u8::from(one.is_ok()) + u8::from(two.is_ok()), 1, "the account has one already");
    at_limit(if one.is_ok() { two } else { one }, "active tokens of one account");

    let fill = "insert into roles (org_id, role_id, name, name_key, permissions, account_kinds, revision, create_time, update_time)
                select $1, gen_random_uuid(), 'r' || n, 'r' || n, array['x.y'], '{}', 1, now(), now() from generate_series(1, 999) n";
    let org_id = OrgId::parse(&org.id).unwrap().uuid();
    sqlx::query(fill).bind(org_id).execute(&server.state.db).await.unwrap();
    let make = async |name: &str| {
        let role = pb::Role { name: name.into(), permissions: vec!["x.y".into()], ..Default::default() };
        let request = pb::CreateRoleRequest { role: Some(role), ..Default::default() };
        org.owner.orgs().create_role(request).await.map(|_| ())
    };
    let (one, two) = tokio::join!(make("one"), make("two"));
    assert_eq!(u8::from(one.is_ok()) + u8::from(two.is_ok()), 1);
    at_limit(if one.is_ok() { two } else { one }, "roles of one org");
}

/// The attack: five calls give an account one role of many permissions on hundreds of resources.
#[tokio::test]
async fn a_thousand_grants_of_a_thousand_permissions_are_loaded_and_used() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let permissions: Vec<String> = (0..1_000).map(|n| format!("noun{n}.read")).collect();
    let role = |permissions: Vec<String>| pb::CreateRoleRequest {
        role: Some(pb::Role { name: "Clerk".into(), permissions, ..Default::default() }),
        ..Default::default()
    };
    let more = permissions.iter().cloned().chain(["one.more".into()]).collect();
    at_limit(org.owner.orgs().create_role(role(more)).await, "permissions of one role");
    let role = org.owner.orgs().create_role(role(permissions)).await.unwrap().into_inner().role.unwrap();
    let org_id = OrgId::parse(&org.id).unwrap().uuid();
    let fill = "insert into resources (org_id, path, revision, create_time, update_time)
                select $1, 'r' || n, 1, now(), now() from generate_series(1, 1000) n";
    sqlx::query(fill).bind(org_id).execute(&server.state.db).await.unwrap();
    let (bot, client) = server.account(&org.id, "bot", &[("accounts.read", "r1")]).await;
    for part in 0..10 {
        let on = (100 * part + 1..=100 * part + 100).filter(|n| *n != 1_000);
        let grants: Vec<_> = on.map(|n| grant(&role.id, &format!("r{n}"))).collect();
        let named = grants.len();
        let request = pb::GrantAccessRequest { account_id: bot.id.clone(), grants, ..Default::default() };
        let given = org.owner.accounts().grant_access(request).await.unwrap().into_inner().account_grants;
        assert_eq!(given.len(), named, "those that the call names, and not all of the account's");
        assert_eq!(given[0].resource, format!("r{}", 100 * part + 1));
    }
    // It is loaded once, and takes the memory of its grants and of the role, not of each pair of them.
    server.hear_all().await;
    client.caller().await.unwrap();
    let looks = server.state.principals.looks();
    assert!(server.state.principals.weight() < 4 << 20, "{}", server.state.principals.weight());
    for _ in 0..3 {
        assert!(client.caller().await.unwrap().permissions.is_empty());
    }
    assert_eq!(server.state.principals.looks(), looks);
    refused(client.exchange().await, Code::FailedPrecondition, "SCOPE_TOO_WIDE");
    let filter = Some(pb::list_grants_request::Filter::Resource("r1".into()));
    let list = pb::ListGrantsRequest { filter, ..Default::default() };
    assert_eq!(client.accounts().list_grants(list).await.unwrap().into_inner().grants.len(), 2);
    // What the other one lacks is counted, and not all listed.
    let (_, manager) = server.account(&org.id, "manager", &[("manager", "*")]).await;
    let request = pb::CloneAccountRequest { account_id: bot.id, name: "clone".into(), ..Default::default() };
    let clone = manager.accounts().clone_account(request).await.unwrap().into_inner();
    assert_eq!(clone.dropped_grants.len(), 999);
}
