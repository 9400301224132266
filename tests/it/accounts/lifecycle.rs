//! Deactivate, activate, delete, undelete, purge: what each disables, restores and refuses.

use std::time::Duration;

use countersign::domain::limits::Limit;
use countersign::grpc::pb;
use countersign::jobs::purge;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::{Client, Org, TestServer, by_id, grant, header_bytes, refused, token_for, violated};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// One of the four, by its name in the events.
async fn step(client: &Client, step: &str, account_id: &str) -> Result<pb::Account, Status> {
    let (org_id, account_id) = (client.org_id().await, account_id.to_owned());
    let mut accounts = client.accounts();
    let account = match step {
        "activated" => {
            let request = pb::ActivateAccountRequest { org_id, account_id, ..Default::default() };
            accounts.activate_account(request).await?.into_inner().account
        }
        "deactivated" => {
            let request = pb::DeactivateAccountRequest { org_id, account_id, ..Default::default() };
            accounts.deactivate_account(request).await?.into_inner().account
        }
        "deleted" => {
            let request = pb::DeleteAccountRequest { org_id, account_id, ..Default::default() };
            accounts.delete_account(request).await?.into_inner().account
        }
        "undeleted" => {
            let request = pb::UndeleteAccountRequest { org_id, account_id };
            accounts.undelete_account(request).await?.into_inner().account
        }
        other => panic!("{other} is no step"),
    };
    Ok(account.unwrap())
}

const STEPS: [&str; 4] = ["activated", "deactivated", "deleted", "undeleted"];

async fn get(client: &Client, account_id: &str) -> Result<pb::Account, Status> {
    let request = pb::GetAccountRequest { account_id: account_id.into(), ..Default::default() };
    Ok(client.accounts().get_account(request).await?.into_inner().account.unwrap())
}

async fn create(client: &Client, name: &str, grants: &[(&str, &str)]) -> Result<pb::Account, Status> {
    let grants = grants.iter().map(|(right, resource)| grant(right, resource)).collect();
    let request = pb::CreateServiceAccountRequest { name: name.into(), grants, ..Default::default() };
    Ok(client.accounts().create_service_account(request).await?.into_inner().account.unwrap())
}

async fn introspect(client: &Client, token_text: &str) -> bool {
    let request = pb::IntrospectTokenRequest { token_text: token_text.into(), ..Default::default() };
    client.tokens().introspect_token(request).await.unwrap().into_inner().active
}

/// The events of accounts in the org, oldest first, and how many feed rows they have.
async fn events(server: &TestServer, org: &Org) -> Vec<String> {
    let sql = "select e.type from events e join feed f on f.org_id = e.org_id and f.event_id = e.event_id
               where e.org_id = (select org_id from slugs where slug = $1) and e.type like 'account.%'
               order by e.event_id";
    sqlx::query_scalar(sql).bind(&org.slug).fetch_all(&server.state.db).await.unwrap()
}

/// Revokes the active tokens of an account.
async fn revoke_all(client: &Client, account_id: &str) {
    let list = pb::ListTokensRequest { account_id: account_id.into(), ..Default::default() };
    for token in client.tokens().list_tokens(list).await.unwrap().into_inner().tokens {
        client.tokens().revoke_token(by_id("", &token.id)).await.unwrap();
    }
}

#[tokio::test]
async fn deactivating_stops_everything_at_once_and_activating_brings_tokens_back() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (bot, client) = server.account(&org.id, "bot", &[("auditor", "*")]).await;
    let with_jwt = client.with_jwt().await;
    get(&with_jwt, &org.owner_id).await.unwrap();
    assert!(introspect(&org.owner, client.token()).await && introspect(&org.owner, with_jwt.token()).await);

    let request = pb::DeactivateAccountRequest {
        account_id: bot.id.clone(),
        reason: "left the project".into(),
        ..Default::default()
    };
    let stopped =
        org.owner.accounts().deactivate_account(request).await.unwrap().into_inner().account.unwrap();
    assert_eq!(stopped.state(), pb::AccountState::Deactivated);
    assert_ne!(stopped.etag, bot.etag);
    assert_eq!(get(&org.owner, &bot.id).await.unwrap(), stopped);
    refused(client.caller().await, Code::Unauthenticated, "ACCOUNT_DEACTIVATED");
    refused(client.exchange().await, Code::Unauthenticated, "ACCOUNT_DEACTIVATED");
    refused(with_jwt.caller().await, Code::Unauthenticated, "ACCOUNT_DEACTIVATED");
    assert!(!introspect(&org.owner, client.token()).await);
    assert!(!introspect(&org.owner, with_jwt.token()).await);

    let started = step(&org.owner, "activated", &bot.id).await.unwrap();
    assert_eq!(started.state(), pb::AccountState::Active);
    client.caller().await.unwrap();
    client.exchange().await.unwrap();
    // A JWT from before does not become valid again.
    refused(with_jwt.caller().await, Code::Unauthenticated, "ACCESS_TOKEN_STALE");
    assert!(!introspect(&org.owner, with_jwt.token()).await);
    client.with_jwt().await.caller().await.unwrap();

    let sql = "select changes::text from events where type = 'account.deactivated'";
    let changes: String = sqlx::query_scalar(sql).fetch_one(&server.state.db).await.unwrap();
    assert!(changes.contains("deactivate_time") && changes.contains("left the project"), "{changes}");
}

#[tokio::test]
async fn a_step_that_was_taken_changes_nothing() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let bot = create(&org.owner, "bot", &[]).await.unwrap();
    let mut expected = vec!["account.created".to_owned()];
    for taken in ["deactivated", "activated", "deleted", "undeleted"] {
        let first = step(&org.owner, taken, &bot.id).await.unwrap();
        assert_eq!(step(&org.owner, taken, &bot.id).await.unwrap(), first, "{taken}");
        expected.push(format!("account.{taken}"));
        assert_eq!(events(&server, &org).await, expected);
    }
    // Nor does the reverse of a step that was not.
    let before = get(&org.owner, &bot.id).await.unwrap();
    for not_needed in ["activated", "undeleted"] {
        assert_eq!(step(&org.owner, not_needed, &bot.id).await.unwrap(), before, "{not_needed}");
    }
    assert_eq!(events(&server, &org).await, expected);
}

#[tokio::test]
async fn an_account_that_owns_live_tokens_is_not_deleted() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (bot, client) = server.account(&org.id, "bot", &[]).await;
    let made = server.operator.tokens().create_token(token_for(&org.id, &bot.id)).await.unwrap().into_inner();
    let ids = [client.caller().await.unwrap().credential_id, made.token.unwrap().id];
    let refusal =
        refused(step(&org.owner, "deleted", &bot.id).await, Code::FailedPrecondition, "ACCOUNT_OWNS_TOKENS");
    let listed = refusal.get_details_precondition_failure().unwrap().violations;
    assert_eq!(listed.iter().map(|token| token.subject.as_str()).collect::<Vec<_>>(), ids);
    assert!(listed.iter().all(|token| token.r#type == "TOKEN"));
    client.caller().await.unwrap();
    // One that is revoked is not active, nor is one that has expired.
    org.owner.tokens().revoke_token(by_id("", &ids[0])).await.unwrap();
    let left =
        refused(step(&org.owner, "deleted", &bot.id).await, Code::FailedPrecondition, "ACCOUNT_OWNS_TOKENS");
    assert_eq!(left.get_details_precondition_failure().unwrap().violations.len(), 1);
    server.state.clock.advance(366 * DAY);
    let owner = server.client(server.managing_token_of(&org).await);
    step(&owner, "deleted", &bot.id).await.unwrap();
}

#[tokio::test]
async fn a_hundred_live_tokens_are_named_each() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let bot = create(&org.owner, "bot", &[]).await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..Limit::ACTIVE_TOKENS_OF_ACCOUNT.most {
        let made = server.operator.tokens().create_token(token_for(&org.id, &bot.id)).await.unwrap();
        ids.push(made.into_inner().token.unwrap().id);
    }
    let refusal =
        refused(step(&org.owner, "deleted", &bot.id).await, Code::FailedPrecondition, "ACCOUNT_OWNS_TOKENS");
    assert!(refusal.message().contains("(100 in all)"), "{}", refusal.message());
    let listed = refusal.get_details_precondition_failure().unwrap().violations;
    assert!(listed.iter().all(|token| token.r#type == "TOKEN"));
    // The description of the first stands for all.
    assert_eq!((listed[0].description.as_str(), listed[1].description.as_str()), ("is live", ""));
    // As many as a proxy passes; the others are counted.
    let listed: Vec<_> = listed.into_iter().map(|token| token.subject).collect();
    assert!(listed.len() > 20 && ids.starts_with(&listed), "{}", listed.len());
    let omitted = &refusal.get_details_error_info().unwrap().metadata["omitted"];
    assert_eq!(omitted.parse::<usize>().unwrap() + listed.len(), 100);
    assert!(header_bytes(refusal) < 3_500);
}

#[tokio::test]
async fn a_deleted_account_keeps_its_names_and_comes_back_as_it_was() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let bot = create(&org.owner, "bot", &[("auditor", "*")]).await.unwrap();
    step(&org.owner, "deactivated", &bot.id).await.unwrap();
    let deleted = step(&org.owner, "deleted", &bot.id).await.unwrap();
    assert_eq!(deleted.state(), pb::AccountState::Deleted);
    assert!(deleted.delete_time.is_some());
    // Callers that may read accounts see it, and no one grants it anything.
    assert_eq!(get(&org.owner, &bot.id).await.unwrap(), deleted);
    let gone = "RESOURCE_NOT_FOUND";
    for stopped in ["activated", "deactivated"] {
        refused(step(&org.owner, stopped, &bot.id).await, Code::NotFound, gone);
    }
    let grants = vec![grant("auditor", "*")];
    let give = pb::GrantAccessRequest { account_id: bot.id.clone(), grants, ..Default::default() };
    refused(org.owner.accounts().grant_access(give).await, Code::NotFound, gone);
    let token = server.operator.tokens().create_token(token_for(&org.id, &bot.id)).await;
    refused(token, Code::NotFound, gone);
    let taken = create(&org.owner, "BOT", &[]).await;
    refused(taken, Code::AlreadyExists, "NAME_HELD_BY_DELETED_ACCOUNT");
    // Undeleted on the last day: deactivated still, with its grants.
    server.state.clock.advance(30 * DAY - Duration::from_secs(60));
    assert_eq!(purge(&server.state).await.unwrap(), 0);
    let owner = server.client(server.managing_token_of(&org).await);
    let back = step(&owner, "undeleted", &bot.id).await.unwrap();
    assert_eq!((back.state(), back.delete_time), (pb::AccountState::Deactivated, None));
    assert_eq!(step(&owner, "activated", &bot.id).await.unwrap().state(), pb::AccountState::Active);
    let filter = Some(pb::list_grants_request::Filter::AccountId(bot.id.clone()));
    let list = pb::ListGrantsRequest { filter, ..Default::default() };
    assert_eq!(owner.accounts().list_grants(list).await.unwrap().into_inner().grants.len(), 1);
    // Names are in use as those of an active account again.
    refused(create(&owner, "bot", &[]).await, Code::AlreadyExists, "RESOURCE_EXISTS");
}

#[tokio::test]
async fn after_thirty_days_it_is_purged_with_all_that_hangs_on_it() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (bot, _) = server.account(&org.id, "bot", &[("auditor", "*"), ("x.y", "*")]).await;
    let other = create(&org.owner, "other", &[]).await.unwrap();
    let settings = pb::AccountSettings {
        links: [("dropzone".to_owned(), pb::AccountLink { enabled: true, slug: "files".into() })].into(),
        ..Default::default()
    };
    let linked = pb::CreateServiceAccountRequest {
        name: "linked".into(),
        settings: Some(settings),
        ..Default::default()
    };
    let linked = org
        .owner
        .accounts()
        .create_service_account(linked.clone())
        .await
        .unwrap()
        .into_inner()
        .account
        .unwrap();
    revoke_all(&org.owner, &bot.id).await;
    for id in [&bot.id, &linked.id] {
        step(&org.owner, "deleted", id).await.unwrap();
    }
    server.state.clock.advance(30 * DAY);
    let owner = server.client(server.managing_token_of(&org).await);
    // Due, it cannot be undeleted any more, swept or not.
    refused(step(&owner, "undeleted", &bot.id).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    refused(step(&owner, "deleted", &bot.id).await, Code::NotFound, "RESOURCE_NOT_FOUND");

    // Two nodes at once purge each once.
    let beside = server.beside(crate::harness::LIMITS).await;
    beside.state.clock.advance(30 * DAY);
    let (a, b) = tokio::join!(purge(&server.state), purge(&beside.state));
    let (a, b) = (a.unwrap(), b.unwrap());
    // The servers' own jobs may have been first.
    assert!(a + b <= 2, "{a} + {b}");
    assert_eq!(purge(&server.state).await.unwrap(), 0);
    let events = events(&server, &org).await;
    assert_eq!(events.iter().filter(|kind| *kind == "account.purged").count(), 2);
    let sql = "select actor_id is null and not operator and resource_ids @> array[$1] from events
               where type = 'account.purged' and resource_ids @> array[$1]";
    let by_nobody: bool = sqlx::query_scalar(sql).bind(&bot.id).fetch_one(&server.state.db).await.unwrap();
    assert!(by_nobody);
    for id in [&bot.id, &linked.id] {
        refused(get(&owner, id).await, Code::NotFound, "RESOURCE_NOT_FOUND");
        let uuid = countersign::domain::values::ids::AccountId::parse(id).unwrap().uuid();
        for table in [
            "accounts",
            "usernames",
            "memberships",
            "account_orgs",
            "account_links",
            "grants",
            "tokens",
            "credentials",
        ] {
            let sql = format!("select count(*) from {table} where account_id = $1");
            let left: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
                .bind(uuid)
                .fetch_one(&server.state.db)
                .await
                .unwrap();
            assert_eq!(left, 0, "{table}");
        }
    }
    let secrets = "select count(*) from token_secrets s where not exists (
                       select 1 from tokens t where t.org_id = s.org_id and t.token_id = s.token_id)";
    let left: i64 = sqlx::query_scalar(secrets).fetch_one(&server.state.db).await.unwrap();
    assert_eq!(left, 0);
    // Its names are free, and only its names.
    create(&owner, "bot", &[]).await.unwrap();
    refused(create(&owner, "other", &[]).await, Code::AlreadyExists, "RESOURCE_EXISTS");
    assert_eq!(get(&owner, &other.id).await.unwrap().state(), pb::AccountState::Active);
}

#[tokio::test]
async fn nobody_deactivates_or_deletes_their_own_account() {
    let server = TestServer::start().await;
    let org = server.org().await;
    // Not even with another owner beside.
    create(&org.owner, "second", &[("owner", "*")]).await.unwrap();
    let operator = server.operator.caller().await.unwrap().account.unwrap().id;
    for (client, id) in [(&org.owner, &org.owner_id), (&server.operator, &operator)] {
        let refusal = step(client, "deactivated", id).await;
        refused(refusal, Code::InvalidArgument, "CANNOT_DEACTIVATE_SELF");
        refused(step(client, "deleted", id).await, Code::InvalidArgument, "CANNOT_DELETE_SELF");
    }
    step(&org.owner, "activated", &org.owner_id).await.unwrap();
}

#[tokio::test]
async fn nobody_revives_what_exceeds_them_or_stops_an_owner_below_it() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (_, manager) = server.account(&org.id, "manager", &[("manager", "*")]).await;
    let owner = create(&org.owner, "second", &[("owner", "*")]).await.unwrap();
    let app = create(&org.owner, "app", &[("invoices.write", "*")]).await.unwrap();
    let peer = create(&org.owner, "peer", &[("auditor", "*")]).await.unwrap();
    let exceeds = "TARGET_EXCEEDS_CALLER";
    for stop in ["deactivated", "deleted"] {
        let revive = if stop == "deleted" { "undeleted" } else { "activated" };
        refused(step(&manager, stop, &owner.id).await, Code::PermissionDenied, exceeds);
        // What is no owner may be deactivated by callers that may write accounts, and is activated
        // only by those who can do what it can.
        step(&manager, stop, &app.id).await.unwrap();
        let refusal = refused(step(&manager, revive, &app.id).await, Code::PermissionDenied, exceeds);
        let missing = refusal.get_details_precondition_failure().unwrap().violations;
        assert_eq!(missing.len(), 1);
        assert_eq!(missing[0].subject, "invoices.write on *");
        step(&org.owner, revive, &app.id).await.unwrap();
        // Nor does it learn that there is nothing to do.
        refused(step(&manager, revive, &app.id).await, Code::PermissionDenied, exceeds);
        step(&manager, stop, &peer.id).await.unwrap();
        step(&manager, revive, &peer.id).await.unwrap();
    }
}

#[tokio::test]
async fn an_org_keeps_an_owner_on_each_of_these_paths() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let operator = &server.operator;
    let as_operator = async |name: &str, id: &str| -> Result<(), Status> {
        let (org_id, account_id) = (org.id.clone(), id.to_owned());
        if name == "deleted" {
            operator
                .accounts()
                .delete_account(pb::DeleteAccountRequest { org_id, account_id, ..Default::default() })
                .await?;
        } else {
            let request = pb::DeactivateAccountRequest { org_id, account_id, ..Default::default() };
            operator.accounts().deactivate_account(request).await?;
        }
        Ok(())
    };
    let second = create(&org.owner, "second", &[("owner", "*")]).await.unwrap();
    revoke_all(&org.owner, &second.id).await;
    // An owner who is deactivated, or only invited, does not replace an active one.
    as_operator("deactivated", &second.id).await.unwrap();
    let last = "LAST_OWNER";
    refused(as_operator("deactivated", &org.owner_id).await, Code::FailedPrecondition, last);
    let db = &server.state.db;
    let root = countersign::domain::values::ids::AccountId::parse(&org.owner_id).unwrap().uuid();
    let other = countersign::domain::values::ids::AccountId::parse(&second.id).unwrap().uuid();
    let user = "update accounts set kind = 'USER', name = null, name_key = null, deactivate_time = null
                where account_id = $1";
    sqlx::query(user).bind(other).execute(db).await.unwrap();
    refused(as_operator("deactivated", &org.owner_id).await, Code::FailedPrecondition, last);
    // Where none is active, the last who is invited remains.
    sqlx::query("update tokens set revoke_time = now(), revoke_reason = 'SUPERSEDED' where account_id = $1")
        .bind(root)
        .execute(db)
        .await
        .unwrap();
    sqlx::query(user).bind(root).execute(db).await.unwrap();
    as_operator("deleted", &org.owner_id).await.unwrap();
    for path in ["deactivated", "deleted"] {
        refused(as_operator(path, &second.id).await, Code::FailedPrecondition, last);
    }
    let revoke = pb::RevokeAccessRequest {
        org_id: org.id.clone(),
        account_id: second.id.clone(),
        grants: vec![grant("owner", "*")],
    };
    refused(operator.accounts().revoke_access(revoke.clone()).await, Code::FailedPrecondition, last);
    // With a password it is active.
    sqlx::query("update accounts set password_time = now() where account_id = $1")
        .bind(other)
        .execute(db)
        .await
        .unwrap();
    refused(operator.accounts().revoke_access(revoke).await, Code::FailedPrecondition, last);
}

#[tokio::test]
async fn bad_input_of_the_steps() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let bot = create(&org.owner, "bot", &[]).await.unwrap();
    for taken in STEPS {
        for wrong in ["", &org.id, "acct_", "bot"] {
            let refusal =
                refused(step(&org.owner, taken, wrong).await, Code::InvalidArgument, "INVALID_FIELD");
            assert_eq!(violated(&refusal), ["account_id"], "{taken} {wrong}");
        }
        let unknown = countersign::domain::values::ids::AccountId::from_u128(7).to_string();
        refused(step(&org.owner, taken, &unknown).await, Code::NotFound, "RESOURCE_NOT_FOUND");
        // The id of another org's account is one that does not exist.
        let other = server.org().await;
        refused(step(&org.owner, taken, &other.owner_id).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    }
    let reason = "é".repeat(1_001);
    let request =
        pb::DeactivateAccountRequest { account_id: "x".into(), reason: reason.clone(), ..Default::default() };
    let refusal = refused(
        org.owner.accounts().deactivate_account(request).await,
        Code::InvalidArgument,
        "INVALID_FIELD",
    );
    assert_eq!(violated(&refusal), ["account_id", "reason"]);
    let request = pb::ActivateAccountRequest { account_id: bot.id.clone(), reason, ..Default::default() };
    let refusal =
        refused(org.owner.accounts().activate_account(request).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&refusal), ["reason"]);
    // The right is checked before the fields.
    let (_, member) = server.account(&org.id, "member", &[]).await;
    for taken in STEPS {
        refused(step(&member, taken, "x").await, Code::PermissionDenied, "PERMISSION_MISSING");
    }
}
