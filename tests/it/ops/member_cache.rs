//! What the cache knows of an account in an org without a token: the same as of its
//! tokens, also of a guest, and no longer than it is true.

use std::sync::Arc;

use countersign::domain::access::member::Member;
use countersign::domain::values::client_address::ClientAddress;
use countersign::domain::values::ids::{AccountId, OrgId};
use countersign::domain::values::permissions::Permission;
use countersign::domain::values::resources::Node;
use countersign::error::Reason;
use countersign::grpc::pb;

use crate::harness::{Org, TestServer, grant, rotate_token, until};

/// Whether it holds the permission on the whole org.
fn holds(member: &Member, permission: &str) -> bool {
    member.rights().cover(&Permission::parse(permission).unwrap(), &Node::Org)
}

async fn member(server: &TestServer, org: &Org, account_id: &str) -> Option<Arc<Member>> {
    let (org_id, account_id) = (OrgId::parse(&org.id).unwrap(), AccountId::parse(account_id).unwrap());
    server.state.principals.member(org_id, account_id).await.unwrap()
}

async fn stopped(server: &TestServer, org: &Org, account_id: &str) -> Option<Reason> {
    member(server, org, account_id).await.unwrap().check_active().err()
}

#[tokio::test]
async fn an_account_is_what_its_tokens_say() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.resources(&org.id, &["customers/acme"]).await;
    let role = pb::Role { name: "Clerk".into(), permissions: vec!["a.b".into()], ..Default::default() };
    let request = pb::CreateRoleRequest { org_id: org.id.clone(), role: Some(role), ..Default::default() };
    let role = server.operator.orgs().create_role(request).await.unwrap().into_inner().role.unwrap().id;
    let grants = [("auditor", "*"), ("x.y", "customers/acme"), (role.as_str(), "customers")];
    let (bot, client) = server.account(&org.id, "bot", &grants).await;
    for (id, client) in [(&bot.id, &client), (&org.owner_id, &org.owner)] {
        let by_token = server
            .state
            .authenticator
            .by_string(client.token(), ClientAddress::UNKNOWN, server.state.clock.now())
            .await
            .unwrap()
            .credential;
        assert_eq!(*member(&server, &org, id).await.unwrap(), by_token.account);
    }
    // Again where the feed fell behind on a busy machine: then what is cached is looked up, too.
    until(async || {
        let warm = server.state.principals.looks();
        for _ in 0..3 {
            member(&server, &org, &bot.id).await.unwrap();
        }
        server.state.principals.looks() == warm
    })
    .await;
    // A rotated token does not affect it; a grant does.
    let token_id = client.caller().await.unwrap().credential_id;
    until(async || {
        org.owner.tokens().rotate_token(rotate_token("", &token_id, Some(0))).await.unwrap();
        let warm = server.state.principals.looks();
        member(&server, &org, &bot.id).await.unwrap();
        server.state.principals.looks() == warm
    })
    .await;
    let request = pb::GrantAccessRequest {
        account_id: bot.id.clone(),
        grants: vec![grant("p.q", "*")],
        ..Default::default()
    };
    org.owner.accounts().grant_access(request).await.unwrap();
    assert!(holds(&member(&server, &org, &bot.id).await.unwrap(), "p.q"));
}

#[tokio::test]
async fn many_who_ask_at_once_take_one_look_and_nobody_is_remembered_for_a_moment() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let other = server.org().await;
    let (bot, _) = server.account(&org.id, "bot", &[]).await;
    server.hear_all().await;
    let few = |before: u64| {
        let looks = server.state.principals.looks() - before;
        assert!((1..=5).contains(&looks), "{looks}");
    };
    let before = server.state.principals.looks();
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let state = server.state.clone();
            let org_id = OrgId::parse(&org.id).unwrap();
            let account_id = AccountId::parse(&bot.id).unwrap();
            tokio::spawn(async move { state.principals.member(org_id, account_id).await })
        })
        .collect();
    for call in calls {
        assert!(call.await.unwrap().unwrap().is_some());
    }
    few(before);
    let before = server.state.principals.looks();
    for _ in 0..20 {
        assert!(member(&server, &other, &bot.id).await.is_none(), "no member there");
    }
    few(before);
}

#[tokio::test]
async fn a_guest_is_known_where_it_acts_and_stopped_by_either_side_on_all_nodes() {
    let here = TestServer::start().await;
    let there = here.beside(crate::harness::LIMITS).await;
    let org = here.org().await;
    let guest = here.guest(&org.id, &[("x.y", "*"), ("owner", "*")]).await;
    let found = member(&here, &org, &guest.id).await.unwrap();
    assert_eq!(
        (found.home_org_id.to_string(), &*found.username),
        (guest.org_id.clone(), guest.username.as_str())
    );
    assert_eq!((found.org_id.to_string(), holds(&found, "x.y")), (org.id.clone(), true));
    assert!(found.held.named_by_org().iter().any(|permission| permission.as_str() == "x.y"));
    assert_eq!(stopped(&here, &org, &guest.id).await, None);

    // On the node of the change at once, on the other one as soon as it is notified.
    let both = async |expected: Option<Reason>| {
        assert_eq!(stopped(&here, &org, &guest.id).await, expected);
        there.hear().await;
        assert_eq!(stopped(&there, &org, &guest.id).await, expected);
    };
    both(None).await;
    let operator = &here.operator;
    let (id, reason) = (guest.id.clone(), "test".to_owned());
    let request = pb::DeactivateAccountRequest {
        org_id: guest.org_id.clone(),
        account_id: id.clone(),
        reason: reason.clone(),
    };
    operator.accounts().deactivate_account(request).await.unwrap();
    both(Some(Reason::AccountDeactivated)).await;
    let request = pb::ActivateAccountRequest {
        org_id: guest.org_id.clone(),
        account_id: id.clone(),
        reason: reason.clone(),
    };
    operator.accounts().activate_account(request).await.unwrap();
    both(None).await;
    for org_id in [&guest.org_id, &org.id] {
        let (org_id, reason) = (org_id.clone(), reason.clone());
        let request = pb::SuspendOrgRequest { org_id: org_id.clone(), reason: reason.clone() };
        operator.orgs().suspend_org(request).await.unwrap();
        both(Some(Reason::OrgSuspended)).await;
        operator.orgs().resume_org(pb::ResumeOrgRequest { org_id, reason }).await.unwrap();
        both(None).await;
    }
    let request = pb::RemoveMemberRequest { org_id: org.id.clone(), account_id: id.clone() };
    operator.orgs().remove_member(request).await.unwrap();
    both(Some(Reason::AccountDeactivated)).await;
    assert!(!holds(&member(&here, &org, &guest.id).await.unwrap(), "x.y"));
}
