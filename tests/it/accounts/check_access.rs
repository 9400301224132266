//! `CheckAccess`, grants by permission, permissions that are named for the first time, and what owners imply.

use countersign::grpc::pb;
use tonic::Code;

use crate::harness::{TestServer, claims, grant, refused, token_for};

fn check(account_id: &str, checks: &[(&str, &str)]) -> pb::CheckAccessRequest {
    let check = |(permission, resource): &(&str, &str)| pb::AccessCheck {
        permission: (*permission).into(),
        resource: (*resource).into(),
    };
    pb::CheckAccessRequest {
        account_id: account_id.into(),
        checks: checks.iter().map(check).collect(),
        ..Default::default()
    }
}

#[tokio::test]
async fn what_an_account_may_do_and_through_which_grants() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.resources(&org.id, &["customers/acme"]).await;
    let grants = [("invoices.read", "customers"), ("auditor", "*"), ("invoices.read", "customers/acme")];
    let (bot, client) = server.account(&org.id, "bot", &grants).await;
    let asked = [
        ("invoices.read", "customers/acme"),
        ("invoices.read", "customers/no/such/node"),
        ("invoices.read", "*"),
        ("invoices.write", "customers"),
        ("tokens.read", "anything"),
        ("tokens.write", "*"),
    ];
    let answer = org.owner.accounts().check_access(check(&bot.username, &asked)).await.unwrap().into_inner();
    let allowed: Vec<_> = answer.results.iter().map(|result| result.allowed).collect();
    assert_eq!(allowed, [true, true, false, false, true, false]);
    let through: Vec<_> = answer.results.iter().map(|result| result.grant_ids.len()).collect();
    assert_eq!(through, [2, 1, 0, 0, 1, 0]);
    // Oneself needs no permission, and a narrowed credential answers what it holds.
    let own = client.accounts().check_access(check(&bot.id, &asked)).await.unwrap().into_inner();
    assert_eq!(own.results, answer.results);
    let narrow = pb::CreateTokenRequest {
        scopes: vec!["invoices.read".into()],
        resources: vec!["customers/acme".into()],
        ..token_for(&org.id, &bot.id)
    };
    let narrow = server.operator.tokens().create_token(narrow).await.unwrap().into_inner().secret;
    crate::harness::watch(&narrow);
    let own =
        server.client(narrow).accounts().check_access(check(&bot.id, &asked)).await.unwrap().into_inner();
    let allowed: Vec<_> = own.results.iter().map(|result| result.allowed).collect();
    assert_eq!(allowed, [true, false, false, false, false, false]);

    let (_, plain) = server.account(&org.id, "plain", &[]).await;
    refused(
        plain.accounts().check_access(check(&bot.id, &asked)).await,
        Code::PermissionDenied,
        "PERMISSION_MISSING",
    );
    for wrong in [check(&bot.id, &[]), check(&bot.id, &[("x", "*")]), check(&bot.id, &[("x.y", "")])] {
        refused(org.owner.accounts().check_access(wrong).await, Code::InvalidArgument, "INVALID_FIELD");
    }
}

#[tokio::test]
async fn grants_by_permission() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let role =
        pb::Role { name: "billing".into(), permissions: vec!["invoices.read".into()], ..Default::default() };
    let create = pb::CreateRoleRequest { role: Some(role), ..Default::default() };
    let role = org.owner.orgs().create_role(create).await.unwrap().into_inner().role.unwrap();
    server.resources(&org.id, &["a"]).await;
    let (named, _) =
        server.account(&org.id, "named", &[("invoices.read", "a"), ("invoices.write", "*")]).await;
    let (by_role, _) = server.account(&org.id, "by-role", &[(&role.id, "*")]).await;
    let list = |permission: &str| pb::ListGrantsRequest {
        filter: Some(pb::list_grants_request::Filter::Permission(permission.into())),
        ..Default::default()
    };
    let found = org.owner.accounts().list_grants(list("invoices.read")).await.unwrap().into_inner();
    let mut holders: Vec<_> = found.grants.iter().map(|grant| grant.account_id.clone()).collect();
    holders.sort();
    // The owner has every permission of applications.
    let mut expected = vec![org.owner_id.clone(), named.id, by_role.id];
    expected.sort();
    assert_eq!((holders, found.total_size), (expected, Some(3)));
    let own = org.owner.accounts().list_grants(list("tokens.write")).await.unwrap().into_inner();
    assert_eq!(own.grants.len(), 1);
}

#[tokio::test]
async fn a_permission_is_seen_for_the_first_time_once() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (bot, _) = server.account(&org.id, "bot", &[("invoices.read", "*")]).await;
    let give = |rights: &[&str]| pb::GrantAccessRequest {
        account_id: bot.id.clone(),
        grants: rights.iter().map(|right| grant(right, "*")).collect(),
        ..Default::default()
    };
    let first = async |rights: &[&str]| {
        let answer = org.owner.accounts().grant_access(give(rights)).await.unwrap().into_inner();
        answer.first_seen_permissions
    };
    let none: [&str; 0] = [];
    assert_eq!(first(&["invoices.read", "invoces.read", "tokens.read", "auditor"]).await, ["invoces.read"]);
    assert_eq!(first(&["invoces.read"]).await, none);
    // By roles, tokens and invitations as well; and what is only tried is not named.
    let role = pb::Role {
        name: "r".into(),
        permissions: vec!["a.b".into(), "invoces.read".into(), "roles.read".into()],
        ..Default::default()
    };
    let role = pb::CreateRoleRequest { role: Some(role), ..Default::default() };
    let made = org.owner.orgs().create_role(role).await.unwrap().into_inner();
    assert_eq!(made.first_seen_permissions, ["a.b"]);
    let update = pb::UpdateRoleRequest {
        role: Some(pb::Role {
            id: "r".into(),
            permissions: vec!["a.b".into(), "a.c".into()],
            ..Default::default()
        }),
        ..Default::default()
    };
    let updated = org.owner.orgs().update_role(update).await.unwrap().into_inner();
    assert_eq!(updated.first_seen_permissions, ["a.c"]);
    let root = server.client(server.managing_token_of(&org).await);
    let token = |validate_only| pb::CreateTokenRequest {
        scopes: vec!["t.u".into(), "a.b".into()],
        validate_only,
        ..token_for("", &org.owner_id)
    };
    for validate_only in [true, false] {
        let made = root.tokens().create_token(token(validate_only)).await.unwrap().into_inner();
        crate::harness::watch(&made.secret);
        assert_eq!(made.first_seen_permissions, ["t.u"]);
    }
    let again = root.tokens().create_token(token(true)).await.unwrap().into_inner();
    assert_eq!(again.first_seen_permissions, none);
    let invitation = pb::CreateInvitationRequest {
        grants: vec![grant("i.j", "*")],
        email: "new@example.org".into(),
        ..Default::default()
    };
    let invited = org.owner.orgs().create_invitation(invitation).await.unwrap().into_inner();
    assert_eq!(invited.first_seen_permissions, ["i.j"]);
    assert_eq!(first(&["i.j", "t.u", "a.c"]).await, none);
}

/// Each answer of what grants has the field, by the descriptor.
#[test]
fn whatever_grants_says_what_is_named_for_the_first_time() {
    use crate::contract::proto::{messages, rpcs};
    for rpc in rpcs() {
        let (request, answer) = messages(&rpc);
        let names = ["grants", "role", "scopes"];
        let grants = request.field.iter().any(|field| names.contains(&field.name()));
        let asks_only = ["RevokeAccess", "ExchangeToken", "ExplainToken"].iter().any(|it| rpc.ends_with(it));
        let says = answer.field.iter().any(|field| field.name() == "first_seen_permissions");
        assert!(!grants || asks_only || says, "{rpc} grants, and does not say what is new");
    }
}

#[tokio::test]
async fn an_owner_of_many_permissions_exchanges_and_asks_for_what_ownership_implies() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (bot, _) = server.account(&org.id, "bot", &[]).await;
    let names: Vec<_> = (0..200).map(|n| format!("application{n:03}.{}", "v".repeat(20))).collect();
    for part in names.chunks(100) {
        let grants = part.iter().map(|name| grant(name, "*")).collect();
        let request = pb::GrantAccessRequest { account_id: bot.id.clone(), grants, ..Default::default() };
        org.owner.accounts().grant_access(request).await.unwrap();
    }
    let jwt = org.owner.exchange().await.unwrap();
    assert!(!jwt.scopes.contains(&names[0]) && jwt.scopes.contains(&"orgs.write".to_owned()));
    assert!(claims(&jwt.access_token)["roles"].as_array().unwrap().contains(&"owner".into()));
    let ask = pb::ExchangeTokenRequest { scopes: vec![names[0].clone()], ..Default::default() };
    let asked = org.owner.tokens().exchange_token(ask).await.unwrap().into_inner();
    assert_eq!(asked.scopes, [names[0].clone()]);
    // One that is granted to the owner by name is listed.
    let own = pb::GrantAccessRequest {
        org_id: org.id.clone(),
        account_id: org.owner_id.clone(),
        grants: vec![grant(&names[7], "*")],
    };
    server.operator.accounts().grant_access(own).await.unwrap();
    assert!(org.owner.exchange().await.unwrap().scopes.contains(&names[7]));
    // A JWT without a scope has no claim for it.
    let (_, plain) = server.account(&org.id, "plain", &[]).await;
    let jwt = plain.exchange().await.unwrap().access_token;
    assert_eq!(claims(&jwt).get("scope"), None);
    plain.with_jwt().await.caller().await.unwrap();
}
