//! The lifecycle of an org, its name, and who is a member of it.

use countersign::domain::values::ids::{AccountId, OrgId, SYSTEM_ORG};
use countersign::grpc::layers::access::{Access, row};
use countersign::grpc::pb;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::contract::proto::rpcs;
use crate::harness::{
    Client, LIMITS, Org, TestServer, by_id, by_text, call_raw, grant, reason, refused, token_for, until,
    violated,
};

async fn suspend(by: &Client, org_id: &str, reason: &str) -> Result<pb::Org, Status> {
    let request = pb::SuspendOrgRequest { org_id: org_id.into(), reason: reason.into() };
    Ok(by.orgs().suspend_org(request).await?.into_inner().org.unwrap())
}

async fn resume(by: &Client, org_id: &str) -> Result<pb::Org, Status> {
    let request = pb::ResumeOrgRequest { org_id: org_id.into(), reason: String::new() };
    Ok(by.orgs().resume_org(request).await?.into_inner().org.unwrap())
}

async fn delete(by: &Client, org_id: &str) -> Result<pb::Org, Status> {
    let request = pb::DeleteOrgRequest { org_id: org_id.into(), ..Default::default() };
    Ok(by.orgs().delete_org(request).await?.into_inner().org.unwrap())
}

async fn undelete(by: &Client, org_id: &str) -> Result<pb::Org, Status> {
    let request = pb::UndeleteOrgRequest { org_id: org_id.into(), reason: String::new() };
    Ok(by.orgs().undelete_org(request).await?.into_inner().org.unwrap())
}

async fn get(by: &Client, org_id: &str) -> Result<pb::Org, Status> {
    Ok(by.orgs().get_org(pb::GetOrgRequest { org_id: org_id.into() }).await?.into_inner().org.unwrap())
}

async fn events(by: &Client, org_id: &str) -> Vec<pb::Event> {
    let request = pb::ListEventsRequest { org_id: org_id.into(), page_size: 200, ..Default::default() };
    by.orgs().list_events(request).await.unwrap().into_inner().events
}

#[tokio::test]
async fn a_stopped_org_is_stopped_on_every_rpc_at_once() {
    let server = TestServer::start().await;
    let other_node = server.beside(LIMITS).await;
    for by_deletion in [false, true] {
        let org = server.org().await;
        let (bot, token) = server.account(&org.id, "bot", &[("manager", "*")]).await;
        let jwt = token.with_jwt().await;
        // Cached on both nodes.
        let there = other_node.client(token.token());
        token.caller().await.unwrap();
        there.caller().await.unwrap();
        let operator = &server.operator;
        let stopped = if by_deletion {
            delete(operator, &org.id).await.unwrap()
        } else {
            suspend(operator, &org.id, "unpaid").await.unwrap()
        };
        let state = if by_deletion { pb::OrgState::Deleted } else { pb::OrgState::Suspended };
        assert_eq!(stopped.state(), state);

        for rpc in rpcs().iter().filter(|rpc| !matches!(row(rpc), Some((Access::Open, _)))) {
            for client in [&token, &jwt, &org.owner] {
                let status = call_raw(client, rpc, Vec::new()).await.unwrap_err();
                assert_eq!(
                    (reason(&status).as_str(), status.code()),
                    ("ORG_SUSPENDED", Code::Unauthenticated),
                    "{rpc}"
                );
            }
        }
        refused(token.exchange().await, Code::Unauthenticated, "ORG_SUSPENDED");
        let id = jwt_id(&jwt);
        refused(token.tokens().revoke_token(by_id("", &id)).await, Code::Unauthenticated, "ORG_SUSPENDED");
        let ask = pb::IntrospectTokenRequest { token_text: token.token().into(), ..Default::default() };
        assert!(!operator.tokens().introspect_token(ask).await.unwrap().into_inner().active);
        // The other node is notified.
        until(async || there.caller().await.is_err()).await;
        refused(there.exchange().await, Code::Unauthenticated, "ORG_SUSPENDED");

        // Operators still act in it.
        let made = pb::CreateServiceAccountRequest {
            org_id: org.id.clone(),
            name: "meanwhile".into(),
            ..Default::default()
        };
        operator.accounts().create_service_account(made).await.unwrap();
        let secret =
            operator.tokens().create_token(token_for(&org.id, &bot.id)).await.unwrap().into_inner().secret;
        refused(server.client(secret).caller().await, Code::Unauthenticated, "ORG_SUSPENDED");
        assert_eq!(get(operator, &org.id).await.unwrap().state(), state);
        let list = pb::ListOrgsRequest { page_size: 200, ..Default::default() };
        let listed = operator.orgs().list_orgs(list).await.unwrap().into_inner().orgs;
        assert_eq!(listed.iter().find(|listed| listed.id == org.id).unwrap().state(), state);

        // Tokens work again, JWTs exchanged from them before do not.
        if by_deletion {
            undelete(operator, &org.id).await.unwrap();
        } else {
            resume(operator, &org.id).await.unwrap();
        }
        token.caller().await.unwrap();
        refused(jwt.caller().await, Code::Unauthenticated, "ACCESS_TOKEN_STALE");
        token.with_jwt().await.caller().await.unwrap();
        until(async || there.caller().await.is_ok()).await;
        // A caller with a token string may revoke it, in a suspended org too.
        suspend(operator, &org.id, "").await.unwrap();
        server.anonymous().tokens().revoke_token(by_text(token.token())).await.unwrap();
        refused(token.exchange().await, Code::Unauthenticated, "TOKEN_REVOKED");
    }
}

fn jwt_id(jwt: &Client) -> String {
    crate::harness::claims(jwt.token())["client_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn suspended_and_deleted_are_two_things() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let operator = &server.operator;
    let fresh = get(operator, &org.id).await.unwrap();
    assert_eq!((fresh.state(), fresh.delete_time), (pb::OrgState::Active, None));

    let suspended = suspend(operator, &org.id, "unpaid since May").await.unwrap();
    assert_ne!(suspended.etag, fresh.etag);
    let deleted = delete(operator, &org.id).await.unwrap();
    assert!(deleted.state() == pb::OrgState::Deleted && deleted.delete_time.is_some());
    // A state set already is no change, and writes no event.
    assert_eq!(suspend(operator, &org.id, "again").await.unwrap(), deleted);
    assert_eq!(delete(operator, &org.id).await.unwrap(), deleted);
    let back = undelete(operator, &org.id).await.unwrap();
    assert_eq!((back.state(), back.delete_time), (pb::OrgState::Suspended, None));
    assert_eq!(undelete(operator, &org.id).await.unwrap(), back);
    let active = resume(operator, &org.id).await.unwrap();
    assert_eq!(active.state(), pb::OrgState::Active);
    assert_eq!(resume(operator, &org.id).await.unwrap(), active);
    org.owner.caller().await.unwrap();

    let log: Vec<_> =
        events(&org.owner, "").await.into_iter().filter(|event| event.r#type.starts_with("org.")).collect();
    let kinds: Vec<_> = log.iter().map(|event| event.r#type.as_str()).collect();
    assert_eq!(kinds, ["org.resumed", "org.undeleted", "org.deleted", "org.suspended", "org.created"]);
    let suspension = &log[3];
    assert!(suspension.operator && suspension.resource_ids == [org.id.clone()]);
    let fields: Vec<_> = suspension.changes.iter().map(|change| change.field.as_str()).collect();
    assert_eq!(fields, ["suspend_time", "reason"]);
    assert_eq!(suspension.changes[1].new_value.as_deref(), Some("unpaid since May"));
    assert!(suspension.changes[0].old_value.is_none() && suspension.changes[0].new_value.is_some());
    assert!(log[0].changes[0].new_value.is_none() && log[0].changes[0].old_value.is_some());
    // A slug is never assigned again.
    delete(operator, &org.id).await.unwrap();
    let taken = operator.orgs().create_org(crate::harness::create_org(&org.slug)).await;
    refused(taken, Code::AlreadyExists, "RESOURCE_EXISTS");
}

#[tokio::test]
async fn what_cannot_be_stopped_is_told() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let operator = &server.operator;
    let system = SYSTEM_ORG.to_string();
    let account = org.id.replace("org_", "acct_");
    for org_id in [system.as_str(), "", "non sense", account.as_str()] {
        let answers = [
            suspend(operator, org_id, "").await,
            resume(operator, org_id).await,
            delete(operator, org_id).await,
            undelete(operator, org_id).await,
        ];
        for answer in answers {
            assert_eq!(
                violated(&refused(answer, Code::InvalidArgument, "INVALID_FIELD")),
                ["org_id"],
                "{org_id}"
            );
        }
    }
    let unknown = OrgId::from_u128(7).to_string();
    for answer in [
        suspend(operator, &unknown, "").await,
        resume(operator, &unknown).await,
        delete(operator, &unknown).await,
        undelete(operator, &unknown).await,
    ] {
        refused(answer, Code::NotFound, "RESOURCE_NOT_FOUND");
    }
    let both = suspend(operator, "", &"x".repeat(1_001)).await;
    assert_eq!(violated(&refused(both, Code::InvalidArgument, "INVALID_FIELD")), ["org_id", "reason"]);
    suspend(operator, &org.id, &"x".repeat(1_000)).await.unwrap();
    resume(operator, &org.id).await.unwrap();

    // `platform.orgs` is required, and nothing more.
    let (_, steward) = server.account(&system, "steward", &[("platform.orgs", "*")]).await;
    suspend(&steward, &org.id, "").await.unwrap();
    resume(&steward, &org.id).await.unwrap();
    refused(get(&steward, &org.id).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    let (_, registrar) = server.account(&system, "registrar", &[("platform.accounts", "*")]).await;
    refused(suspend(&registrar, &org.id, "").await, Code::PermissionDenied, "PERMISSION_MISSING");
    // Rights come first: without them a caller does not learn what is wrong with the request.
    refused(suspend(&org.owner, "nonsense", "").await, Code::PermissionDenied, "PERMISSION_MISSING");
}

async fn update(by: &Client, org: pb::Org, paths: &[&str]) -> Result<pb::Org, Status> {
    let mask = prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() };
    let update_mask = (!paths.is_empty()).then_some(mask);
    let request = pb::UpdateOrgRequest { org: Some(org), update_mask };
    Ok(by.orgs().update_org(request).await?.into_inner().org.unwrap())
}

#[tokio::test]
async fn an_org_changes_its_name_and_nothing_else() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let before = get(&org.owner, "").await.unwrap();
    let named = |name: &str| pb::Org { display_name: name.into(), ..Default::default() };
    let renamed =
        update(&org.owner, pb::Org { etag: before.etag.clone(), ..named("Acme") }, &[]).await.unwrap();
    assert_eq!((renamed.display_name.as_str(), renamed.slug.as_str()), ("Acme", org.slug.as_str()));
    assert_ne!(renamed.etag, before.etag);
    let stale = update(&org.owner, pb::Org { etag: before.etag.clone(), ..named("Other") }, &[]).await;
    refused(stale, Code::Aborted, "ETAG_MISMATCH");
    // What was read may be sent back whole, and changes nothing.
    let count = events(&org.owner, "").await.len();
    assert_eq!(update(&org.owner, renamed.clone(), &[]).await.unwrap(), renamed);
    assert_eq!(update(&org.owner, named("Acme"), &["display_name"]).await.unwrap(), renamed);
    assert_eq!(events(&org.owner, "").await.len(), count);
    // With a mask, what it does not name is not checked.
    let masked = pb::Org { slug: "another".into(), ..named("Acme & Sons") };
    let renamed = update(&org.owner, masked, &["display_name"]).await.unwrap();
    assert_eq!(renamed.slug, org.slug);
    let newest = &events(&org.owner, "").await[0];
    assert_eq!((newest.r#type.as_str(), newest.operator), ("org.updated", false));
    let change = &newest.changes[0];
    assert_eq!(
        (change.field.as_str(), change.old_value.as_deref(), change.new_value.as_deref()),
        ("display_name", Some("Acme"), Some("Acme & Sons"))
    );

    let cases: Vec<(pb::Org, &[&str], &[&str])> = vec![
        (pb::Org { slug: "another".into(), ..named("x") }, &[], &["org.slug"]),
        (pb::Org { slug: "another".into(), ..named("x") }, &["slug"], &["update_mask"]),
        (pb::Org { slug: "another".into(), ..Default::default() }, &[], &["org.slug", "update_mask"]),
        (named("x"), &["*"], &["update_mask"]),
        (named("x"), &["state", "display_name.x"], &["update_mask", "update_mask"]),
        (pb::Org::default(), &[], &["update_mask"]),
        (pb::Org::default(), &["display_name"], &["org.display_name"]),
        (named(&"x".repeat(101)), &[], &["org.display_name"]),
        (named("see https://x"), &[], &["org.display_name"]),
        (pb::Org { id: org.owner_id.clone(), ..named("x") }, &[], &["org.id"]),
    ];
    for (new, paths, fields) in cases {
        let refusal = refused(update(&org.owner, new, paths).await, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&refusal), fields);
    }
    update(&org.owner, named(&"x".repeat(100)), &[]).await.unwrap();
    let elsewhere = pb::Org { id: server.org().await.id, ..named("Mine") };
    refused(update(&org.owner, elsewhere.clone(), &[]).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    let by_operator = update(&server.operator, elsewhere.clone(), &[]).await.unwrap();
    assert_eq!((by_operator.id, by_operator.display_name.as_str()), (elsewhere.id, "Mine"));
}

async fn members(by: &Client) -> Vec<pb::Member> {
    by.orgs().list_members(pb::ListMembersRequest::default()).await.unwrap().into_inner().members
}

async fn remove(by: &Client, account_id: &str) -> Result<(), Status> {
    let request = pb::RemoveMemberRequest { account_id: account_id.into(), ..Default::default() };
    by.orgs().remove_member(request).await.map(|_| ())
}

async fn sql(server: &TestServer, text: &'static str, org: &Org, account_id: &str) {
    let query = sqlx::query(text).bind(OrgId::parse(&org.id).unwrap().uuid());
    let done =
        query.bind(AccountId::parse(account_id).unwrap().uuid()).execute(&server.state.db).await.unwrap();
    assert!(done.rows_affected() > 0, "{text}");
}

/// A token of the guest's, which there is no RPC for yet.
const TOKEN: &str = "insert into tokens (org_id, token_id, account_id, kind, scopes, resources, allowed_audiences,
         may_manage_tokens, revision, create_time, expire_time)
     values ($1, gen_random_uuid(), $2, 'SECRET', '{}', '{}', '{}', false, 1, now(), now() + interval '1 day')";

#[tokio::test]
async fn members_are_the_orgs_own_and_its_guests() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (bot, _) = server.account(&org.id, "bot", &[]).await;
    let guest = server.guest(&org.id, &[("x.y", "*"), ("auditor", "*")]).await;
    let listed = members(&org.owner).await;
    let ids: Vec<_> = listed.iter().map(|member| member.account_id.as_str()).collect();
    assert_eq!(ids, [&org.owner_id, &bot.id, &guest.id]);
    assert!(listed.iter().all(|member| member.org_id == org.id));
    assert_eq!((listed[1].kind(), &listed[1].home_org_id), (pb::AccountKind::ServiceAccount, &org.id));
    assert_eq!((listed[1].title.as_str(), listed[1].create_time), (bot.username.as_str(), bot.create_time));
    assert_eq!((listed[2].kind(), &listed[2].home_org_id), (pb::AccountKind::User, &guest.org_id));
    assert_eq!(listed[2].title, guest.title);
    // A deleted account is no longer a member.
    sql(
        &server,
        "update accounts set delete_time = now() where org_id = $1 and account_id = $2",
        &org,
        &bot.id,
    )
    .await;
    assert_eq!(members(&org.owner).await.len(), 2);

    remove(&org.owner, &guest.id).await.unwrap();
    assert_eq!(members(&org.owner).await.len(), 1);
    let filter = Some(pb::list_grants_request::Filter::RoleId("auditor".into()));
    let list = pb::ListGrantsRequest { filter, ..Default::default() };
    assert_eq!(org.owner.accounts().list_grants(list).await.unwrap().into_inner().grants, []);
    let listed: i64 = sqlx::query_scalar("select count(*) from account_orgs where account_id = $1")
        .bind(AccountId::parse(&guest.id).unwrap().uuid())
        .fetch_one(&server.state.db)
        .await
        .unwrap();
    assert_eq!(listed, 1, "its home alone");
    let event = &events(&org.owner, "").await[0];
    assert_eq!(event.r#type, "member.removed");
    assert_eq!((event.resource_ids.len(), &event.resource_ids[0]), (3, &guest.id));
    let mut lost: Vec<_> = event.changes.iter().filter_map(|change| change.old_value.as_deref()).collect();
    lost.sort_unstable();
    assert_eq!(lost, ["auditor on *", guest.org_id.as_str(), "x.y on *"]);
    refused(remove(&org.owner, &guest.id).await, Code::NotFound, "RESOURCE_NOT_FOUND");
}

#[tokio::test]
async fn who_may_not_be_removed_stays() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (bot, _) = server.account(&org.id, "bot", &[]).await;
    let (_, manager) = server.account(&org.id, "manager", &[("manager", "*")]).await;
    refused(remove(&org.owner, &bot.id).await, Code::FailedPrecondition, "HOME_ORG");
    refused(remove(&org.owner, &org.owner_id).await, Code::FailedPrecondition, "HOME_ORG");
    for wrong in ["", "nonsense", org.id.as_str()] {
        let refusal = refused(remove(&org.owner, wrong).await, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&refusal), ["account_id"]);
    }
    // An account of another org that is no member here is not found.
    let elsewhere = server.org().await.owner_id;
    refused(remove(&org.owner, &elsewhere).await, Code::NotFound, "RESOURCE_NOT_FOUND");

    let guest = server.guest(&org.id, &[]).await;
    sql(&server, TOKEN, &org, &guest.id).await;
    let refusal =
        refused(remove(&org.owner, &guest.id).await, Code::FailedPrecondition, "ACCOUNT_OWNS_TOKENS");
    let listed = refusal.get_details_precondition_failure().unwrap().violations;
    assert!(listed.len() == 1 && listed[0].subject.starts_with("tok_") && listed[0].r#type == "TOKEN");
    let revoke = by_id("", &listed[0].subject);
    org.owner.tokens().revoke_token(revoke.clone()).await.unwrap();
    remove(&manager, &guest.id).await.unwrap();
    // What belonged to the membership is still there for those who read it.
    let get = pb::GetTokenRequest { token_id: listed[0].subject.clone(), ..Default::default() };
    let token = org.owner.tokens().get_token(get).await.unwrap().into_inner().token.unwrap();
    assert_eq!(token.state(), pb::TokenState::Revoked);
    org.owner.tokens().revoke_token(revoke).await.unwrap();

    // Owners are removed by those who cover them, and the last one by no caller.
    let owner = server.guest(&org.id, &[("owner", "*")]).await;
    refused(remove(&manager, &owner.id).await, Code::PermissionDenied, "TARGET_EXCEEDS_CALLER");
    let disown = "delete from grants where org_id = $1 and account_id = $2 and right_id = 'owner'";
    sql(&server, disown, &org, &org.owner_id).await;
    let request = pb::RemoveMemberRequest { org_id: org.id.clone(), account_id: owner.id.clone() };
    let last = server.operator.orgs().remove_member(request.clone()).await;
    refused(last, Code::FailedPrecondition, "LAST_OWNER");
    let grants = vec![grant("owner", "*")];
    let give = pb::GrantAccessRequest { org_id: org.id.clone(), account_id: org.owner_id.clone(), grants };
    server.operator.accounts().grant_access(give).await.unwrap();
    server.operator.orgs().remove_member(request).await.unwrap();
}

#[tokio::test]
async fn of_many_at_once_one_counts() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let etag = get(&org.owner, "").await.unwrap().etag;
    let renames = (0..8).map(|n| {
        let (owner, etag) = (org.owner.clone(), etag.clone());
        tokio::spawn(async move {
            update(&owner, pb::Org { display_name: format!("Name {n}"), etag, ..Default::default() }, &[])
                .await
        })
    });
    let mut won = 0;
    for rename in renames.collect::<Vec<_>>() {
        match rename.await.unwrap() {
            Ok(_) => won += 1,
            lost => drop(refused(lost, Code::Aborted, "ETAG_MISMATCH")),
        }
    }
    assert_eq!(won, 1);
    let suspensions = (0..8).map(|_| {
        let (operator, org_id) = (server.operator.clone(), org.id.clone());
        tokio::spawn(async move { suspend(&operator, &org_id, "at once").await })
    });
    for suspension in suspensions.collect::<Vec<_>>() {
        assert_eq!(suspension.await.unwrap().unwrap().state(), pb::OrgState::Suspended);
    }
    let log = events(&server.operator, &org.id).await;
    let count = |kind: &str| log.iter().filter(|event| event.r#type == kind).count();
    assert_eq!((count("org.updated"), count("org.suspended")), (1, 1));
}
