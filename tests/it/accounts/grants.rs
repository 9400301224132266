//! No account passes on what it does not hold; a right holds on its node and below.

use countersign::grpc::pb;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::{Client, TestServer, by_id, grant, refused};

async fn give(client: &Client, account_id: &str, grants: &[(&str, &str)]) -> Result<Vec<pb::Grant>, Status> {
    let grants = grants.iter().map(|(right, resource)| grant(right, resource)).collect();
    let request = pb::GrantAccessRequest { account_id: account_id.into(), grants, ..Default::default() };
    Ok(client.accounts().grant_access(request).await?.into_inner().account_grants)
}

async fn take(client: &Client, account_id: &str, grants: Vec<pb::Grant>) -> Result<Vec<pb::Grant>, Status> {
    let request = pb::RevokeAccessRequest { account_id: account_id.into(), grants, ..Default::default() };
    Ok(client.accounts().revoke_access(request).await?.into_inner().account_grants)
}

async fn create(client: &Client, name: &str, grants: &[(&str, &str)]) -> Result<(), Status> {
    let grants = grants.iter().map(|(right, resource)| grant(right, resource)).collect();
    let request = pb::CreateServiceAccountRequest { name: name.into(), grants, ..Default::default() };
    client.accounts().create_service_account(request).await.map(|_| ())
}

#[tokio::test]
async fn nobody_passes_on_what_they_do_not_hold() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.resources(&org.id, &["subscriptions/yuno/perimeters/emea", "subscriptions/yuno2"]).await;
    let (target, _) = server.account(&org.id, "target", &[]).await;
    let yuno = &[("manager", "subscriptions/yuno"), ("invoices.read", "subscriptions/yuno")];
    let (_, local) = server.account(&org.id, "local", yuno).await;
    let (_, manager) = server.account(&org.id, "manager", &[("manager", "*"), ("invoices.read", "*")]).await;
    let exceeds = "GRANT_EXCEEDS_CALLER";
    for (who, right, on) in [
        (&manager, "owner", "*"),
        (&manager, "owner", "subscriptions/yuno"),
        (&manager, "orgs.write", "*"),
        (&manager, "accounts.impersonate", "*"),
        (&manager, "invoices.write", "*"),
        (&manager, "platform.accounts", "*"),
        (&org.owner, "platform.accounts", "*"),
        (&org.owner, "platform.keys", "subscriptions/yuno"),
        (&local, "owner", "subscriptions/yuno"),
        (&local, "invoices.write", "subscriptions/yuno"),
    ] {
        let refusal = refused(give(who, &target.id, &[(right, on)]).await, Code::PermissionDenied, exceeds);
        assert!(!refusal.get_details_precondition_failure().unwrap().violations.is_empty());
        if std::ptr::eq(who, &manager) || std::ptr::eq(who, &org.owner) {
            refused(create(who, "new", &[(right, on)]).await, Code::PermissionDenied, exceeds);
        }
    }
    // Outside its own nodes the caller has no right to write at all, `yuno2` included.
    for on in ["*", "subscriptions", "subscriptions/yuno2"] {
        refused(
            give(&local, &target.id, &[("invoices.read", on)]).await,
            Code::PermissionDenied,
            "PERMISSION_MISSING",
        );
    }
    refused(create(&local, "new", &[]).await, Code::PermissionDenied, "PERMISSION_MISSING");

    give(&local, &target.id, &[("invoices.read", "subscriptions/yuno/perimeters/emea")]).await.unwrap();
    give(&manager, &target.id, &[("invoices.read", "subscriptions/yuno2"), ("manager", "*")]).await.unwrap();
    // An owner gives a right that nothing names yet.
    let all =
        give(&org.owner, &target.id, &[("shipments.plan", "*"), ("owner", "subscriptions")]).await.unwrap();
    assert_eq!(all.len(), 2, "those that the call names");
    assert!(all.iter().all(|grant| grant.account_id == target.id && grant.grant_id.starts_with("grant_")));
}

#[tokio::test]
async fn all_or_nothing() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (target, _) = server.account(&org.id, "target", &[]).await;
    let (_, manager) = server.account(&org.id, "manager", &[("manager", "*")]).await;
    let both = [("auditor", "*"), ("owner", "*")];
    refused(give(&manager, &target.id, &both).await, Code::PermissionDenied, "GRANT_EXCEEDS_CALLER");
    refused(
        give(&org.owner, &target.id, &[("auditor", "*"), ("a.b", "nowhere")]).await,
        Code::InvalidArgument,
        "INVALID_FIELD",
    );
    refused(create(&manager, "half", &both).await, Code::PermissionDenied, "GRANT_EXCEEDS_CALLER");
    let names =
        org.owner.accounts().list_accounts(pb::ListAccountsRequest::default()).await.unwrap().into_inner();
    assert!(names.accounts.iter().all(|account| account.name != "half"));
    assert_eq!(give(&org.owner, &target.id, &[("auditor", "*")]).await.unwrap().len(), 1);
    // One that is not there refuses all, and nothing changes.
    let taken = vec![grant("auditor", "*"), grant("manager", "*")];
    refused(take(&org.owner, &target.id, taken).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    assert_eq!(give(&org.owner, &target.id, &[("auditor", "*")]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn giving_what_is_held_changes_nothing() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (target, _) = server.account(&org.id, "target", &[]).await;
    let first = give(&org.owner, &target.id, &[("auditor", "*")]).await.unwrap();
    let count = "select count(*) from events";
    let before: i64 = sqlx::query_scalar(count).fetch_one(&server.state.db).await.unwrap();
    assert_eq!(give(&org.owner, &target.id, &[("auditor", "*"), ("auditor", "*")]).await.unwrap(), first);
    let after: i64 = sqlx::query_scalar(count).fetch_one(&server.state.db).await.unwrap();
    assert_eq!(before, after);
}

#[tokio::test]
async fn grants_are_taken_by_id_or_by_what_they_are() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.resources(&org.id, &["a"]).await;
    let (target, _) =
        server.account(&org.id, "target", &[("auditor", "*"), ("auditor", "a"), ("x.y", "a")]).await;
    let list = async |filter| {
        let request = pb::ListGrantsRequest { filter: Some(filter), ..Default::default() };
        org.owner.accounts().list_grants(request).await.unwrap().into_inner().grants
    };
    use pb::list_grants_request::Filter;
    let all = list(Filter::AccountId(target.id.clone())).await;
    assert_eq!(all.len(), 3);
    assert_eq!(list(Filter::RoleId("auditor".into())).await.len(), 2);
    assert_eq!(list(Filter::Resource("a".into())).await.len(), 2);
    assert_eq!(list(Filter::Resource("*".into())).await.len(), 2, "the owner's and the auditor's");
    let whole = all.iter().find(|grant| grant.resource == "*").unwrap();
    let by_id = pb::Grant { grant_id: whole.grant_id.clone(), ..Default::default() };
    assert_eq!(take(&org.owner, &target.id, vec![by_id.clone()]).await.unwrap(), std::slice::from_ref(whole));
    refused(take(&org.owner, &target.id, vec![by_id]).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    // The answer has what the call names, in its order, each once.
    let named = vec![grant("x.y", "a"), grant("auditor", "a"), grant("x.y", "a")];
    let taken = take(&org.owner, &target.id, named).await.unwrap();
    let rights: Vec<_> = taken.iter().map(|grant| grant.right.clone().unwrap()).collect();
    let permission = |text: &str| pb::grant::Right::Permission(text.into());
    assert_eq!(rights, [permission("x.y"), pb::grant::Right::RoleId("auditor".into())]);
    let given = give(&org.owner, &target.id, &[("z.z", "*"), ("a.b", "a"), ("z.z", "*")]).await.unwrap();
    let again = give(&org.owner, &target.id, &[("a.b", "a"), ("z.z", "*")]).await.unwrap();
    assert_eq!(again, [given[1].clone(), given[0].clone()], "held already, in the order of this call");
    let refusal = take(&org.owner, &target.id, vec![pb::Grant::default()]).await;
    refused(refusal, Code::InvalidArgument, "INVALID_FIELD");
    refused(take(&org.owner, &target.id, vec![]).await, Code::InvalidArgument, "INVALID_FIELD");
}

#[tokio::test]
async fn what_a_deleted_account_holds_is_shown_and_taken() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.resources(&org.id, &["a"]).await;
    let (gone, client) =
        server.account(&org.id, "gone", &[("owner", "*"), ("auditor", "a"), ("x.y", "*")]).await;
    let token = client.caller().await.unwrap().credential_id;
    org.owner.tokens().revoke_token(by_id("", &token)).await.unwrap();
    let request = pb::DeleteAccountRequest { account_id: gone.id.clone(), ..Default::default() };
    org.owner.accounts().delete_account(request).await.unwrap();
    let held = async || {
        let filter = Some(pb::list_grants_request::Filter::AccountId(gone.id.clone()));
        let request = pb::ListGrantsRequest { filter, ..Default::default() };
        org.owner.accounts().list_grants(request).await.unwrap().into_inner().grants.len()
    };
    assert_eq!(held().await, 3);
    refused(give(&org.owner, &gone.id, &[("x.y", "a")]).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    // A deleted one counts as an owner all the same, except for callers that cover it.
    let (_, manager) = server.account(&org.id, "manager", &[("manager", "*")]).await;
    let refusal = take(&manager, &gone.id, vec![grant("x.y", "*")]).await;
    refused(refusal, Code::PermissionDenied, "TARGET_EXCEEDS_CALLER");
    let refusal = take(&org.owner, &org.owner_id, vec![grant("owner", "*")]).await;
    refused(refusal, Code::FailedPrecondition, "LAST_OWNER");
    take(&org.owner, &gone.id, vec![grant("auditor", "a")]).await.unwrap();
    let request = pb::DeleteResourceRequest { path: "a".into(), ..Default::default() };
    org.owner.orgs().delete_resource(request).await.unwrap();
    assert_eq!(take(&org.owner, &gone.id, vec![grant("owner", "*")]).await.unwrap().len(), 1);
    assert_eq!(held().await, 1);
    // It comes back with what is left.
    let request = pb::UndeleteAccountRequest { account_id: gone.id.clone(), ..Default::default() };
    org.owner.accounts().undelete_account(request).await.unwrap();
    assert_eq!(held().await, 1);
}

#[tokio::test]
async fn an_org_keeps_an_owner() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (second, _) = server.account(&org.id, "second", &[]).await;
    let ownership = || vec![grant("owner", "*")];
    refused(take(&org.owner, &org.owner_id, ownership()).await, Code::FailedPrecondition, "LAST_OWNER");
    give(&org.owner, &second.id, &[("owner", "*")]).await.unwrap();
    // An owner that is not active is none.
    let db = &server.state.db;
    sqlx::query("update accounts set deactivate_time = now() where name = 'second'")
        .execute(db)
        .await
        .unwrap();
    refused(take(&org.owner, &org.owner_id, ownership()).await, Code::FailedPrecondition, "LAST_OWNER");
    sqlx::query("update accounts set deactivate_time = null").execute(db).await.unwrap();
    take(&org.owner, &org.owner_id, ownership()).await.unwrap();
    // A manager does not change an owner.
    let (_, manager) = server.account(&org.id, "manager", &[("manager", "*")]).await;
    refused(take(&manager, &second.id, ownership()).await, Code::PermissionDenied, "TARGET_EXCEEDS_CALLER");
    // The last operator cannot lose what makes it one.
    let operator = server.operator.caller().await.unwrap().account.unwrap().id;
    let platform = vec![grant("platform.accounts", "*")];
    refused(take(&server.operator, &operator, platform).await, Code::FailedPrecondition, "LAST_OWNER");
}

#[tokio::test]
async fn an_operator_acts_in_any_org_and_is_marked() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (target, _) = server.account(&org.id, "target", &[]).await;
    let events: Vec<(String, bool, bool)> = sqlx::query_as(
        "select type, operator, actor_id is not null from events where org_id = (select org_id from slugs where slug = $1)
         order by event_id",
    )
    .bind(&org.slug)
    .fetch_all(&server.state.db)
    .await
    .unwrap();
    assert_eq!(events[0], ("org.created".into(), true, true));
    assert!(events.iter().all(|(_, operator, actor)| *operator && *actor));
    give(&org.owner, &target.id, &[("auditor", "*")]).await.unwrap();
    let marked: bool = sqlx::query_scalar("select operator from events where type = 'access.granted'")
        .fetch_one(&server.state.db)
        .await
        .unwrap();
    assert!(!marked);
}

#[tokio::test]
async fn every_change_writes_one_event_and_one_feed_row_and_no_secret() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.resources(&org.id, &["a/b"]).await;
    let (target, client) = server.account(&org.id, "target", &[("auditor", "a")]).await;
    give(&org.owner, &target.id, &[("x.y", "a/b")]).await.unwrap();
    take(&org.owner, &target.id, vec![grant("x.y", "a/b")]).await.unwrap();
    let id = client.caller().await.unwrap().credential_id;
    org.owner.tokens().revoke_token(crate::harness::by_id("", &id)).await.unwrap();
    type Row = (String, i64, String, Option<String>, Option<String>, Vec<String>);
    let rows: Vec<Row> = sqlx::query_as(
        "select e.type, count(f.*), e.changes::text, e.address, e.request_id, e.resource_ids
         from events e left join feed f on f.org_id = e.org_id and f.event_id = e.event_id
         where e.operator or e.actor_id is not null
         group by e.org_id, e.event_id order by e.event_id",
    )
    .fetch_all(&server.state.db)
    .await
    .unwrap();
    let kinds: Vec<_> = rows.iter().map(|row| row.0.as_str()).collect();
    assert_eq!(
        kinds,
        [
            "org.created",
            "token.created",
            "resource.created",
            "account.created",
            "token.created",
            "access.granted",
            "access.revoked",
            "token.revoked"
        ]
    );
    for (kind, feed, changes, address, request_id, resources) in rows {
        assert_eq!(feed, 1, "{kind}");
        assert_eq!(address.as_deref(), Some("127.0.0.1"), "{kind}");
        assert!(request_id.is_some() && !resources.is_empty() && changes.contains("field"), "{kind}");
        for secret in [client.token(), org.owner.token(), server.operator.token()] {
            assert!(!changes.contains(secret.split('_').nth(3).unwrap()), "{kind}");
        }
    }
    let unknown: i64 = sqlx::query_scalar(
        "select count(*) from feed where cardinality(subjects) = 0 and kind <> 'resource.created'",
    )
    .fetch_one(&server.state.db)
    .await
    .unwrap();
    assert_eq!(unknown, 0, "a change says what it touches");
}

#[tokio::test]
async fn a_role_here_and_another_there() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let yuno = "subscriptions/yuno";
    let (emea, apac) = ("subscriptions/yuno/perimeters/emea", "subscriptions/yuno/perimeters/apac");
    server.resources(&org.id, &[emea, apac, "subscriptions/yuno2/perimeters/emea"]).await;
    let (target, _) = server.account(&org.id, "target", &[]).await;
    let (account, client) =
        server.account(&org.id, "bot", &[("manager", emea), ("auditor", apac), ("x.y", yuno)]).await;
    // The same by its token, by a JWT, and by what the JWT says of it.
    let jwt = client.exchange().await.unwrap().access_token;
    let details = crate::harness::claims(&jwt)["authorization_details"].clone();
    let paths: Vec<_> =
        details.as_array().unwrap().iter().map(|one| one["identifier"].as_str().unwrap()).collect();
    assert_eq!(paths, [yuno, apac, emea]);
    let rename = async |client: &Client, path: &str, name: &str| {
        let resource =
            pb::Resource { path: path.into(), display_name: Some(name.into()), ..Default::default() };
        let request = pb::UpdateResourceRequest { resource: Some(resource), ..Default::default() };
        client.orgs().update_resource(request).await.map(|_| ())
    };
    for (client, name) in [(&client, "by token"), (&client.with_jwt().await, "by jwt")] {
        rename(client, emea, name).await.unwrap();
        give(client, &target.id, &[("auditor", emea), ("x.y", emea)]).await.unwrap();
        let read = |parent: &str| pb::ListResourcesRequest { parent: parent.into(), ..Default::default() };
        client.orgs().list_resources(read(apac)).await.unwrap();
        client.orgs().list_resources(read(emea)).await.unwrap();
        let missing = "PERMISSION_MISSING";
        for elsewhere in [apac, yuno, "subscriptions/yuno2", "subscriptions/yuno2/perimeters/emea"] {
            refused(rename(client, elsewhere, name).await, Code::PermissionDenied, missing);
            let refusal = give(client, &target.id, &[("auditor", elsewhere)]).await;
            refused(refusal, Code::PermissionDenied, missing);
        }
        for elsewhere in [yuno, "subscriptions/yuno2", "subscriptions/yuno2/perimeters/emea"] {
            let refusal = client.orgs().list_resources(read(elsewhere)).await;
            refused(refusal, Code::PermissionDenied, missing);
        }
    }
    // The right that is lost is lost on the next call, by whatever credential; the other stays.
    let before = client.with_jwt().await;
    take(&org.owner, &account.id, vec![grant("manager", emea)]).await.unwrap();
    refused(rename(&before, emea, "late").await, Code::Unauthenticated, "ACCESS_TOKEN_STALE");
    for client in [&client, &client.with_jwt().await] {
        refused(rename(client, emea, "late").await, Code::PermissionDenied, "PERMISSION_MISSING");
        let read = pb::ListResourcesRequest { parent: apac.into(), ..Default::default() };
        client.orgs().list_resources(read).await.unwrap();
    }
}

#[tokio::test]
async fn a_jwt_is_never_more_than_the_rights_of_now() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (account, client) = server.account(&org.id, "bot", &[("auditor", "*"), ("x.y", "*")]).await;
    let before = client.with_jwt().await;
    let read = pb::ListAccountsRequest::default;
    before.accounts().list_accounts(read()).await.unwrap();
    take(&org.owner, &account.id, vec![grant("auditor", "*")]).await.unwrap();
    // Its scope still says `accounts.read`.
    let scope = crate::harness::claims(before.token())["scope"].as_str().unwrap().to_owned();
    assert!(scope.contains("accounts.read"));
    refused(before.accounts().list_accounts(read()).await, Code::Unauthenticated, "ACCESS_TOKEN_STALE");
    refused(before.caller().await, Code::Unauthenticated, "ACCESS_TOKEN_STALE");
    // Given again, the old one remains stale; a new one works.
    give(&org.owner, &account.id, &[("auditor", "*")]).await.unwrap();
    refused(before.caller().await, Code::Unauthenticated, "ACCESS_TOKEN_STALE");
    let after = client.with_jwt().await;
    after.accounts().list_accounts(read()).await.unwrap();
    // What is gained later does not widen a JWT that asked for less.
    let request = pb::ExchangeTokenRequest {
        subject_token: Some(client.token().into()),
        scopes: vec!["x.y".into()],
        ..Default::default()
    };
    let narrow = client.tokens().exchange_token(request).await.unwrap().into_inner().access_token;
    let narrow = server.client(narrow);
    give(&org.owner, &account.id, &[("manager", "*")]).await.unwrap();
    refused(narrow.accounts().list_accounts(read()).await, Code::PermissionDenied, "PERMISSION_MISSING");
}

#[tokio::test]
async fn what_is_wrong_with_grants_is_named() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (target, _) = server.account(&org.id, "target", &[]).await;
    let deep = "a/b/c/d/e/f/g/h/i";
    let refusal = give(
        &org.owner,
        &target.id,
        &[("x.y", ""), ("x.y", deep), ("accounts.frobnicate", "*"), ("role_1", "*"), ("x.y", "*")],
    )
    .await;
    let refusal = refused(refusal, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(
        crate::harness::violated(&refusal),
        ["grants[0].resource", "grants[1].resource", "grants[2].right", "grants[3].right"]
    );
    for on in ["", deep] {
        let refusal = create(&org.owner, "new", &[("x.y", on)]).await;
        let refusal = refused(refusal, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(crate::harness::violated(&refusal), ["grants[0].resource"]);
        let refusal = take(&org.owner, &target.id, vec![grant("x.y", on)]).await;
        refused(refusal, Code::InvalidArgument, "INVALID_FIELD");
    }
    // One hundred at most, in every call that accepts some; ten thousand are refused unread.
    let many: Vec<(&str, &str)> = vec![("x.y", "*"); 10_000];
    for refusal in [
        give(&org.owner, &target.id, &many).await.map(|_| ()),
        give(&org.owner, &target.id, &many[..101]).await.map(|_| ()),
        create(&org.owner, "new", &many).await,
        create(&org.owner, "new", &many[..101]).await,
        take(&org.owner, &target.id, vec![grant("x.y", "*"); 10_000]).await.map(|_| ()),
        take(&org.owner, &target.id, vec![grant("x.y", "*"); 101]).await.map(|_| ()),
    ] {
        let refusal = refused(refusal, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(crate::harness::violated(&refusal), ["grants"]);
    }
    let hundred: Vec<String> = (0..100).map(|n| format!("x.y{n}")).collect();
    let hundred: Vec<_> = hundred.iter().map(|right| (right.as_str(), "*")).collect();
    assert_eq!(give(&org.owner, &target.id, &hundred).await.unwrap().len(), 100);
}
