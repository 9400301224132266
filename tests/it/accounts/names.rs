//! Names where ids are asked for: the slug of an org, the username of an account, the name of a role.

use countersign::grpc::pb;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::contract::message_bytes;
use crate::contract::proto::{messages, rpcs};
use crate::harness::{TestServer, call_raw, create_org, refused, token_for, violated};

#[tokio::test]
async fn an_org_is_named_by_its_slug() {
    let server = TestServer::start().await;
    let (org, other) = (server.org().await, server.org().await);
    let get = |org_id: &str| pb::GetOrgRequest { org_id: org_id.into() };
    let found = org.owner.orgs().get_org(get(&org.slug)).await.unwrap().into_inner().org.unwrap();
    assert_eq!(found.id, org.id);
    let seen = server.operator.orgs().get_org(get(&other.slug)).await.unwrap().into_inner().org.unwrap();
    assert_eq!(seen.id, other.id);
    // Another org is as one that does not exist, and both are named as the caller did.
    for slug in [other.slug.as_str(), "nosuch-org"] {
        let status = refused(org.owner.orgs().get_org(get(slug)).await, Code::NotFound, "RESOURCE_NOT_FOUND");
        assert_eq!(status.message(), format!("org {slug} not found"));
    }
    let status =
        refused(org.owner.orgs().get_org(get("No_Slug")).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&status), ["org_id"]);
    let suspend = pb::SuspendOrgRequest { org_id: other.slug.clone(), ..Default::default() };
    server.operator.orgs().suspend_org(suspend).await.unwrap();
    let system = pb::SuspendOrgRequest { org_id: "system".into(), ..Default::default() };
    let status =
        refused(server.operator.orgs().suspend_org(system).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&status), ["org_id"]);
}

#[tokio::test]
async fn an_account_is_named_by_its_username() {
    let server = TestServer::start().await;
    let (org, other) = (server.org().await, server.org().await);
    let (bot, client) = server.account(&org.id, "bot", &[]).await;
    let (target, _) = server.account(&org.id, "target", &[]).await;
    let (stranger, _) = server.account(&other.id, "stranger", &[]).await;
    let get =
        |account_id: &str| pb::GetAccountRequest { account_id: account_id.into(), ..Default::default() };
    // Whatever its case; of oneself without a permission.
    let upper = bot.username.to_uppercase();
    for caller in [&org.owner, &client] {
        let found = caller.accounts().get_account(get(&upper)).await.unwrap().into_inner().account.unwrap();
        assert_eq!(found.id, bot.id);
    }
    refused(
        client.accounts().get_account(get(&target.username)).await,
        Code::PermissionDenied,
        "PERMISSION_MISSING",
    );
    // One of another org is as one that is nowhere.
    for username in [stranger.username.as_str(), "nobody@nowhere.example"] {
        let answer = org.owner.accounts().get_account(get(username)).await;
        let status = refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
        assert_eq!(status.message(), format!("account {username} not found"));
    }
    // In a change, in a filter, and for what is moved.
    let token = pb::CreateTokenRequest { account_id: bot.username.clone(), ..token_for(&org.id, "") };
    let made = server.operator.tokens().create_token(token).await.unwrap().into_inner().token.unwrap();
    assert_eq!(made.account_id, bot.id);
    let move_all = pb::ReassignAccountTokensRequest {
        org_id: org.id.clone(),
        from_account_id: bot.username.clone(),
        account_id: target.username.clone(),
        validate_only: true,
        ..Default::default()
    };
    let moved = server.operator.tokens().reassign_account_tokens(move_all).await.unwrap().into_inner();
    assert!(moved.tokens.iter().all(|token| token.account_id == target.id) && !moved.tokens.is_empty());
    let list = pb::ListTokensRequest { account_id: bot.username.clone(), ..Default::default() };
    let listed = org.owner.tokens().list_tokens(list).await.unwrap().into_inner();
    assert!(listed.tokens.iter().any(|token| token.id == made.id));
    let events = |actor_id: &str| pb::ListEventsRequest { actor_id: actor_id.into(), ..Default::default() };
    let own = org.owner.orgs().list_events(events(&bot.username)).await.unwrap().into_inner();
    assert!(own.events.is_empty());
    // The operator is no account of the org: its name finds nothing there.
    let operator = server.operator.caller().await.unwrap().account.unwrap();
    let by_name = org.owner.orgs().list_events(events(&operator.username)).await.unwrap().into_inner();
    let by_id = org.owner.orgs().list_events(events(&operator.id)).await.unwrap().into_inner();
    assert!(by_name.events.is_empty() && !by_id.events.is_empty());
    // Nobody acts on itself by another name.
    let root = org.owner.caller().await.unwrap().account.unwrap();
    let itself = pb::DeactivateAccountRequest { account_id: root.username, ..Default::default() };
    refused(
        org.owner.accounts().deactivate_account(itself).await,
        Code::InvalidArgument,
        "CANNOT_DEACTIVATE_SELF",
    );
}

#[tokio::test]
async fn a_role_is_named_by_its_name() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (bot, _) = server.account(&org.id, "bot", &[]).await;
    let create = |name: &str| pb::CreateRoleRequest {
        role: Some(pb::Role { name: name.into(), permissions: vec!["x.y".into()], ..Default::default() }),
        ..Default::default()
    };
    let role = org.owner.orgs().create_role(create("Billing")).await.unwrap().into_inner().role.unwrap();
    for name in ["role_x", "ROLE_x"] {
        let status =
            refused(org.owner.orgs().create_role(create(name)).await, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&status), ["role.name"], "{name}");
    }
    let give = |right: &str| pb::GrantAccessRequest {
        account_id: bot.id.clone(),
        grants: vec![pb::Grant {
            right: Some(pb::grant::Right::RoleId(right.into())),
            resource: "*".into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let given = org.owner.accounts().grant_access(give("billing")).await.unwrap().into_inner();
    assert_eq!(given.account_grants[0].right, Some(pb::grant::Right::RoleId(role.id.clone())));
    // System roles come first, whatever their case.
    let given = org.owner.accounts().grant_access(give("AUDITOR")).await.unwrap().into_inner();
    assert_eq!(given.account_grants[0].right, Some(pb::grant::Right::RoleId("auditor".into())));
    let status = refused(
        org.owner.accounts().grant_access(give("nosuch")).await,
        Code::InvalidArgument,
        "INVALID_FIELD",
    );
    assert_eq!(violated(&status), ["grants[0].role_id"]);
    let list = pb::ListAccountsRequest { role_id: "Billing".into(), ..Default::default() };
    let holders = org.owner.accounts().list_accounts(list).await.unwrap().into_inner().accounts;
    assert_eq!(holders.iter().map(|account| &account.id).collect::<Vec<_>>(), [&bot.id]);
    let get = |role_id: &str| pb::GetRoleRequest { role_id: role_id.into(), ..Default::default() };
    assert_eq!(
        org.owner.orgs().get_role(get("BILLING")).await.unwrap().into_inner().role.unwrap().id,
        role.id
    );
    refused(org.owner.orgs().get_role(get("nosuch")).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    let take = pb::RevokeAccessRequest {
        account_id: bot.username,
        grants: give("Billing").grants,
        ..Default::default()
    };
    org.owner.accounts().revoke_access(take).await.unwrap();
    let delete = pb::DeleteRoleRequest { role_id: "billing".into(), ..Default::default() };
    org.owner.orgs().delete_role(delete).await.unwrap();
}

#[tokio::test]
async fn a_request_id_is_bound_to_what_a_name_meant() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (bot, _) = server.account(&org.id, "bot", &[]).await;
    let (second, _) = server.account(&org.id, "second", &[]).await;
    let request_id = "0190f3c2-7b2a-7c3e-8d4f-5a6b7c8d9eaf".to_owned();
    let manager = server.client(server.managing_token_of(&org).await);
    let create = |account_id: &str| pb::CreateTokenRequest {
        account_id: account_id.into(),
        request_id: request_id.clone(),
        ..token_for("", "")
    };
    manager.tokens().create_token(create(&bot.username)).await.unwrap();
    // The same account by its id is the same request.
    refused(manager.tokens().create_token(create(&bot.id)).await, Code::AlreadyExists, "REQUEST_REPLAYED");
    // The name means another account now.
    let pool = server.database().pool();
    sqlx::query("delete from usernames where account_id = $1::uuid")
        .bind(uuid(&second.id))
        .execute(&pool)
        .await
        .unwrap();
    sqlx::query("update usernames set account_id = $1::uuid where account_id = $2::uuid")
        .bind(uuid(&second.id))
        .bind(uuid(&bot.id))
        .execute(&pool)
        .await
        .unwrap();
    refused(
        manager.tokens().create_token(create(&bot.username)).await,
        Code::InvalidArgument,
        "REQUEST_ID_REUSED",
    );
}

fn uuid(account_id: &str) -> uuid::Uuid {
    countersign::domain::values::ids::AccountId::parse(account_id).unwrap().uuid()
}

/// By the descriptor: whatever asks for an account, a role or an org takes a name.
#[tokio::test]
async fn every_request_takes_names() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (bot, _) = server.account(&org.id, "bot", &[]).await;
    let role = pb::Role { name: "billing".into(), permissions: vec!["x.y".into()], ..Default::default() };
    let create = pb::CreateRoleRequest { role: Some(role), ..Default::default() };
    org.owner.orgs().create_role(create).await.unwrap();
    let mut taken = 0;
    for rpc in rpcs() {
        let (request, _) = messages(&rpc);
        for field in &request.field {
            let name = match field.name() {
                "account_id" | "from_account_id" | "actor_id" => bot.username.as_str(),
                "role_id" => "billing",
                "org_id" => org.slug.as_str(),
                _ => continue,
            };
            let message = message_bytes::with_text(&[], field.number() as u32, name);
            taken += 1;
            let Err(status) = call_raw(&org.owner, &rpc, message).await else { continue };
            let violations =
                status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
            let refused = violations.iter().any(|violation| violation.field == field.name());
            assert!(!refused, "{rpc} takes no name as {}", field.name());
        }
    }
    assert!(taken > 60, "{taken}");
}

#[tokio::test]
async fn an_operator_names_the_org_of_what_it_changes() {
    let server = TestServer::start().await;
    let operator = &server.operator;
    let create = |org_id: &str| pb::CreateServiceAccountRequest {
        org_id: org_id.into(),
        name: "helper".into(),
        ..Default::default()
    };
    let status = refused(
        operator.accounts().create_service_account(create("")).await,
        Code::InvalidArgument,
        "INVALID_FIELD",
    );
    assert_eq!(violated(&status), ["org_id"]);
    operator.accounts().create_service_account(create("system")).await.unwrap();
    // By whichever right, and whatever stops something.
    let token = pb::CreateTokenRequest::default();
    let status = refused(operator.tokens().create_token(token).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&status), ["org_id"]);
    let own = operator.caller().await.unwrap();
    let stop = pb::RevokeAccountTokensRequest { account_id: own.account.unwrap().id, ..Default::default() };
    refused(operator.tokens().revoke_account_tokens(stop).await, Code::InvalidArgument, "INVALID_FIELD");
    // What reads, what concerns the platform, and what concerns oneself names none.
    operator.accounts().list_accounts(pb::ListAccountsRequest::default()).await.unwrap();
    operator.orgs().create_org(create_org("another")).await.unwrap();
    let revoke = pb::RevokeTokenRequest {
        target: Some(pb::revoke_token_request::Target::TokenId(own.credential_id)),
        ..Default::default()
    };
    // An owner has one org, and need not name it.
    let org = server.org().await;
    org.owner.accounts().create_service_account(create("")).await.unwrap();
    operator.tokens().revoke_token(revoke).await.unwrap();
}
