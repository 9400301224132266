//! `ConvertAccount`: the one way in which an account's kind changes.

use std::collections::BTreeMap;

use countersign::domain::values::ids::{AccountId, GrantId, OrgId};
use countersign::grpc::pb;
use pb::convert_account_request::Identity;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::{Client, Org, TestServer, by_id, grant, refused, token_for, violated};

fn to_user(org: &Org, account_id: &str, email: &str) -> pb::ConvertAccountRequest {
    pb::ConvertAccountRequest {
        org_id: org.id.clone(),
        account_id: account_id.into(),
        kind: pb::AccountKind::User.into(),
        reason: "it was a person all along".into(),
        identity: Some(Identity::Email(email.into())),
    }
}

fn to_service_account(org: &Org, account_id: &str, name: &str) -> pb::ConvertAccountRequest {
    pb::ConvertAccountRequest {
        kind: pb::AccountKind::ServiceAccount.into(),
        identity: Some(Identity::Name(name.into())),
        ..to_user(org, account_id, "")
    }
}

async fn convert(client: &Client, request: pb::ConvertAccountRequest) -> Result<pb::Account, Status> {
    Ok(client.accounts().convert_account(request).await?.into_inner().account.unwrap())
}

async fn create(client: &Client, name: &str, settings: pb::AccountSettings) -> pb::Account {
    let request = pb::CreateServiceAccountRequest {
        name: name.into(),
        grants: vec![grant("invoices.read", "*")],
        settings: Some(settings),
        ..Default::default()
    };
    client.accounts().create_service_account(request).await.unwrap().into_inner().account.unwrap()
}

async fn invite(client: &Client, email: &str) -> pb::Account {
    let request = pb::CreateUserRequest {
        email: email.into(),
        grants: vec![grant("invoices.read", "*")],
        ..Default::default()
    };
    client.accounts().create_user(request).await.unwrap().into_inner().account.unwrap()
}

async fn held(client: &Client, org: &Org, account_id: &str) -> usize {
    let filter = Some(pb::list_grants_request::Filter::AccountId(account_id.into()));
    let list = pb::ListGrantsRequest { org_id: org.id.clone(), filter, ..Default::default() };
    client.accounts().list_grants(list).await.unwrap().into_inner().grants.len()
}

async fn version(server: &TestServer, account_id: &str) -> i64 {
    let sql = "select version from memberships where account_id = $1 and remove_time is null";
    let id = AccountId::parse(account_id).unwrap().uuid();
    sqlx::query_scalar(sql).bind(id).fetch_one(&server.state.db).await.unwrap()
}

/// The changed fields of the events of this type about the account, with their old and new values.
async fn event(
    server: &TestServer,
    kind: &str,
    id: &str,
) -> BTreeMap<String, (Option<String>, Option<String>)> {
    let sql = "select operator, changes::text from events where type = $1 and resource_ids[1] = $2";
    let rows: Vec<(bool, String)> =
        sqlx::query_as(sql).bind(kind).bind(id).fetch_all(&server.state.db).await.unwrap();
    assert_eq!(rows.len(), 1, "{kind}");
    assert!(rows[0].0, "marked as an operator's");
    let changes: Vec<serde_json::Value> = serde_json::from_str(&rows[0].1).unwrap();
    let text = |change: &serde_json::Value, key: &str| change[key].as_str().map(str::to_owned);
    let entry = |change: &serde_json::Value| {
        (text(change, "field").unwrap(), (text(change, "old_value"), text(change, "new_value")))
    };
    changes.iter().map(entry).collect()
}

#[tokio::test]
async fn a_workload_becomes_a_person() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let link = pb::AccountLink { enabled: true, slug: "in".into() };
    let settings = pb::AccountSettings {
        email_notifications: Some(false),
        links: [("dropzone".to_owned(), link.clone())].into(),
        ..Default::default()
    };
    let bot = create(&org.owner, "bot", settings).await;
    let before = version(&server, &bot.id).await;
    let ann = convert(&server.operator, to_user(&org, &bot.id, "Ann@example.org")).await.unwrap();
    assert_eq!((ann.kind(), ann.state()), (pb::AccountKind::User, pb::AccountState::Invited));
    assert_eq!(
        (ann.id.as_str(), ann.name.as_str(), ann.username.as_str()),
        (bot.id.as_str(), "", "ann@example.org")
    );
    let settings = ann.settings.clone().unwrap();
    assert_eq!(settings.email_notifications, Some(true), "what a user starts with");
    assert_eq!(settings.links["dropzone"], pb::AccountLink { enabled: false, ..link });
    assert_eq!(held(&org.owner, &org, &bot.id).await, 1, "its grants stay");
    assert!(version(&server, &bot.id).await > before, "access tokens from before are stale");
    let said = event(&server, "account.converted", &bot.id).await;
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(said["kind"], (text("ACCOUNT_KIND_SERVICE_ACCOUNT"), text("ACCOUNT_KIND_USER")));
    assert_eq!(said["name"], (text("bot"), None));
    assert_eq!(said["username"], (text(&bot.username), text("ann@example.org")));
    assert_eq!(said["reason"].1, text("it was a person all along"));
    // The names that it had are free.
    assert_eq!(create(&org.owner, "Bot", pb::AccountSettings::default()).await.username, bot.username);
}

#[tokio::test]
async fn a_person_becomes_a_workload_and_is_a_guest_nowhere() {
    let server = TestServer::start().await;
    let (org, host, other) = (server.org().await, server.org().await, server.org().await);
    let ann = invite(&org.owner, "ann@example.org").await;
    let bob = invite(&org.owner, "bob@example.org").await;
    let db = &server.state.db;
    let uuid = |id: &str| AccountId::parse(id).unwrap().uuid();
    sqlx::query("update accounts set password_time = now() where kind = 'USER'").execute(db).await.unwrap();
    // Both are guests elsewhere, with a right there.
    for (account, host) in [(&ann, &host), (&ann, &other), (&bob, &host)] {
        let at = OrgId::parse(&host.id).unwrap().uuid();
        for sql in [
            "insert into memberships (org_id, account_id, home_org_id, title, version, create_time)
             select $1, account_id, org_id, username, 1, create_time from accounts where account_id = $2 and $3::uuid is not null",
            "insert into account_orgs (org_id, account_id) select $1, $2 where $3::uuid is not null",
            "insert into grants (org_id, account_id, grant_id, right_id, create_time) values ($1, $2, $3, 'auditor', now())",
        ] {
            let grant_id: GrantId = server.state.clock.new_id();
            sqlx::query(sql).bind(at).bind(uuid(&account.id)).bind(grant_id.uuid()).execute(db).await.unwrap();
        }
    }
    let bot = convert(&server.operator, to_service_account(&org, &ann.id, "Ann-Bot")).await.unwrap();
    assert_eq!((bot.kind(), bot.state()), (pb::AccountKind::ServiceAccount, pb::AccountState::Active));
    assert_eq!(
        (bot.name.as_str(), bot.username.clone()),
        ("Ann-Bot", format!("ann-bot@{}.127.0.0.1", org.slug))
    );
    assert!(!bot.login_enabled, "the password is gone");
    assert_eq!(bot.settings.as_ref().unwrap().email_notifications, Some(false));
    let said = event(&server, "account.converted", &ann.id).await;
    assert!(said["password_time"].0.is_some() && said["password_time"].1.is_none());
    let places = "select count(*) from memberships where account_id = $1 and remove_time is null";
    let listed = "select count(*) from account_orgs where account_id = $1";
    let grants = "select count(*) from grants where account_id = $1";
    for (sql, of_ann, of_bob) in [(places, 1, 2), (listed, 1, 2), (grants, 1, 2)] {
        for (account, expected) in [(&ann, of_ann), (&bob, of_bob)] {
            let found: i64 = sqlx::query_scalar(sql).bind(uuid(&account.id)).fetch_one(db).await.unwrap();
            assert_eq!(found, expected, "{sql}");
        }
    }
    // The logs of the orgs that it left say so.
    let sql = "select o.slug, e.changes::text from events e join orgs o on o.org_id = e.org_id
               where e.type = 'member.removed' and e.operator and e.resource_ids[1] = $1";
    let left: Vec<(String, String)> = sqlx::query_as(sql).bind(&ann.id).fetch_all(db).await.unwrap();
    let slugs: std::collections::BTreeSet<_> = left.iter().map(|(slug, _)| slug).collect();
    assert_eq!(slugs, [&host.slug, &other.slug].into());
    assert!(left.iter().all(|(_, changes)| changes.contains("auditor on *")));

    // It works as one: with a token, and with the grants that it had at home.
    let made = org.owner.tokens().create_token(token_for("", &bot.id)).await.unwrap().into_inner();
    assert_eq!(server.client(made.secret).exchange().await.unwrap().scopes, ["invoices.read"]);
}

#[tokio::test]
async fn live_tokens_and_the_last_owner_stay_what_they_are() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let request = to_user(&org, &org.owner_id, "root@example.org");
    let list = pb::ListTokensRequest {
        org_id: org.id.clone(),
        account_id: org.owner_id.clone(),
        ..Default::default()
    };
    let tokens = server.operator.tokens().list_tokens(list).await.unwrap().into_inner().tokens;
    let refusal = convert(&server.operator, request.clone()).await;
    let refusal = refused(refusal, Code::FailedPrecondition, "ACCOUNT_OWNS_TOKENS");
    let named = refusal.get_details_precondition_failure().unwrap().violations;
    assert_eq!(
        named.iter().map(|it| &it.subject).collect::<Vec<_>>(),
        tokens.iter().map(|it| &it.id).collect::<Vec<_>>()
    );
    for token in &tokens {
        server.operator.tokens().revoke_token(by_id(&org.id, &token.id)).await.unwrap();
    }
    // A person who has no password yet is no active owner.
    refused(convert(&server.operator, request.clone()).await, Code::FailedPrecondition, "LAST_OWNER");
    let (_, second) = server.account(&org.id, "second", &[("owner", "*")]).await;
    convert(&server.operator, request).await.unwrap();
    // Converted back, it leaves the org's active owners as they were.
    let back = convert(&server.operator, to_service_account(&org, &org.owner_id, "root")).await.unwrap();
    assert_eq!(back.state(), pb::AccountState::Active);
    assert_eq!(held(&second, &org, &org.owner_id).await, 1);
}

#[tokio::test]
async fn conversions_that_are_refused() {
    let server = TestServer::start().await;
    let (org, other) = (server.org().await, server.org().await);
    let bot = create(&org.owner, "bot", pb::AccountSettings::default()).await;
    create(&org.owner, "taken", pb::AccountSettings::default()).await;
    let ann = invite(&org.owner, "ann@example.org").await;
    let eve = invite(&other.owner, "eve@example.org").await;
    let good = to_user(&org, &bot.id, "new@example.org");
    let back = to_service_account(&org, &ann.id, "ann");
    for client in [&org.owner, &other.owner] {
        refused(convert(client, good.clone()).await, Code::PermissionDenied, "PERMISSION_MISSING");
    }
    let email = |text: &str| Some(Identity::Email(text.into()));
    let name = |text: &str| Some(Identity::Name(text.into()));
    let user = i32::from(pb::AccountKind::User);
    for (request, fields) in [
        (pb::ConvertAccountRequest { account_id: org.id.clone(), ..good.clone() }, &["account_id"][..]),
        (pb::ConvertAccountRequest { kind: 0, ..good.clone() }, &["kind"]),
        (pb::ConvertAccountRequest { kind: 99, ..good.clone() }, &["kind"]),
        (pb::ConvertAccountRequest { reason: String::new(), ..good.clone() }, &["reason"]),
        (pb::ConvertAccountRequest { reason: "x".repeat(1_001), ..good.clone() }, &["reason"]),
        (pb::ConvertAccountRequest { identity: None, ..good.clone() }, &["email"]),
        (pb::ConvertAccountRequest { identity: name("ann"), ..good.clone() }, &["email"]),
        (pb::ConvertAccountRequest { identity: email("nobody"), ..good.clone() }, &["email"]),
        (pb::ConvertAccountRequest { identity: email(&bot.username), ..good.clone() }, &["email"]),
        (pb::ConvertAccountRequest { identity: None, ..back.clone() }, &["name"]),
        (pb::ConvertAccountRequest { identity: email("a@example.org"), ..back.clone() }, &["name"]),
        (pb::ConvertAccountRequest { identity: name("my bot"), ..back.clone() }, &["name"]),
        (
            pb::ConvertAccountRequest { org_id: org.id.clone(), ..Default::default() },
            &["account_id", "kind", "reason"],
        ),
        // What it is already.
        (
            pb::ConvertAccountRequest { kind: user, identity: email("a@example.org"), ..back.clone() },
            &["kind"],
        ),
        (to_service_account(&org, &bot.id, "robot"), &["kind"]),
    ] {
        let refusal =
            refused(convert(&server.operator, request).await, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&refusal), fields);
    }
    for (request, code, reason) in [
        (to_user(&org, &bot.id, "ann@example.org"), Code::AlreadyExists, "RESOURCE_EXISTS"),
        (to_user(&org, &bot.id, "eve@example.org"), Code::AlreadyExists, "USE_INVITATION"),
        (to_service_account(&org, &ann.id, "Taken"), Code::AlreadyExists, "RESOURCE_EXISTS"),
        (to_user(&org, &eve.id, "new@example.org"), Code::NotFound, "RESOURCE_NOT_FOUND"),
        (
            to_user(&org, "acct_00000000000000000000000000", "new@example.org"),
            Code::NotFound,
            "RESOURCE_NOT_FOUND",
        ),
    ] {
        refused(convert(&server.operator, request).await, code, reason);
    }
    // Nothing of it left a trace.
    let get = pb::GetAccountRequest { account_id: bot.id.clone(), ..Default::default() };
    assert_eq!(org.owner.accounts().get_account(get).await.unwrap().into_inner().account.unwrap(), bot);
    let sql = "select count(*) from events where type = 'account.converted'";
    assert_eq!(sqlx::query_scalar::<_, i64>(sql).fetch_one(&server.state.db).await.unwrap(), 0);
}

/// The reader of an account's mailbox acts as the account: among operators not all hold all.
#[tokio::test]
async fn nobody_takes_over_an_operator_who_can_do_more() {
    let server = TestServer::start().await;
    let system = server.operator.caller().await.unwrap().account.unwrap().org_id;
    let rights = [("platform.accounts", "*"), ("accounts.write", "*"), ("accounts.read", "*")];
    let (_, registrar) = server.account(&system, "registrar", &rights).await;
    let create = async |name: &str, grants: Vec<pb::Grant>| {
        let request = pb::CreateServiceAccountRequest {
            org_id: system.clone(),
            name: name.into(),
            grants,
            ..Default::default()
        };
        server
            .operator
            .accounts()
            .create_service_account(request)
            .await
            .unwrap()
            .into_inner()
            .account
            .unwrap()
    };
    let keeper = create("keeper", vec![grant("platform.keys", "*")]).await;
    let clerk = create("clerk", vec![grant("accounts.read", "*")]).await;
    let to_user = |account_id: &str, email: &str| pb::ConvertAccountRequest {
        org_id: system.clone(),
        account_id: account_id.into(),
        kind: pb::AccountKind::User.into(),
        reason: "a person".into(),
        identity: Some(Identity::Email(email.into())),
    };
    let refusal = convert(&registrar, to_user(&keeper.id, "mallory@example.org")).await;
    refused(refusal, Code::PermissionDenied, "TARGET_EXCEEDS_CALLER");
    convert(&registrar, to_user(&clerk.id, "clerk@example.org")).await.unwrap();

    let invited = async |email: &str, right: &str| {
        let request = pb::CreateUserRequest {
            org_id: system.clone(),
            email: email.into(),
            grants: vec![grant(right, "*")],
            ..Default::default()
        };
        server.operator.accounts().create_user(request).await.unwrap().into_inner().account.unwrap()
    };
    let rename = async |account: pb::Account, username: &str| {
        let request = pb::UpdateAccountRequest {
            org_id: system.clone(),
            account: Some(pb::Account { username: username.into(), ..account }),
            update_mask: Some(prost_types::FieldMask { paths: vec!["username".into()] }),
        };
        registrar.accounts().update_account(request).await
    };
    let keeper = invited("keeper@example.org", "platform.keys").await;
    let refusal = rename(keeper.clone(), "mallory@example.org").await;
    refused(refusal, Code::PermissionDenied, "TARGET_EXCEEDS_CALLER");
    let get = pb::GetAccountRequest { account_id: keeper.id.clone(), ..Default::default() };
    let now = server.operator.accounts().get_account(get).await.unwrap().into_inner().account.unwrap();
    assert_eq!(now, keeper);
    rename(invited("reader@example.org", "accounts.read").await, "reader@example.net").await.unwrap();
}

#[tokio::test]
async fn a_role_for_the_other_kind_does_not_stay() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let bot = create(&org.owner, "bot", pb::AccountSettings::default()).await;
    let mut ids = Vec::new();
    for (name, kinds) in [("bots", vec![pb::AccountKind::ServiceAccount.into()]), ("all", Vec::new())] {
        let role = pb::Role {
            name: name.into(),
            permissions: vec!["invoices.write".into()],
            account_kinds: kinds,
            ..Default::default()
        };
        let request = pb::CreateRoleRequest { role: Some(role), ..Default::default() };
        ids.push(org.owner.orgs().create_role(request).await.unwrap().into_inner().role.unwrap().id);
    }
    let grants = ids.iter().map(|id| grant(id, "*")).collect();
    let give = pb::GrantAccessRequest { account_id: bot.id.clone(), grants, ..Default::default() };
    org.owner.accounts().grant_access(give).await.unwrap();
    assert_eq!(held(&org.owner, &org, &bot.id).await, 3);
    convert(&server.operator, to_user(&org, &bot.id, "ann@example.org")).await.unwrap();
    assert_eq!(held(&org.owner, &org, &bot.id).await, 2);
    let said = event(&server, "account.converted", &bot.id).await;
    assert_eq!(said["grants"], (Some(format!("{} on *", ids[0])), None));
}

#[tokio::test]
async fn the_kind_outlives_deletion() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let bot = create(&org.owner, "bot", pb::AccountSettings::default()).await;
    let ann = invite(&org.owner, "ann@example.org").await;
    for account in [bot, ann] {
        let delete = pb::DeleteAccountRequest { account_id: account.id.clone(), ..Default::default() };
        org.owner.accounts().delete_account(delete).await.unwrap();
        let request = match account.kind() {
            pb::AccountKind::User => to_service_account(&org, &account.id, "ann"),
            _ => to_user(&org, &account.id, "bot@example.org"),
        };
        refused(convert(&server.operator, request).await, Code::NotFound, "RESOURCE_NOT_FOUND");
        let undelete = pb::UndeleteAccountRequest { account_id: account.id.clone(), ..Default::default() };
        let back = org.owner.accounts().undelete_account(undelete).await.unwrap().into_inner();
        let back = back.account.unwrap();
        assert_eq!(
            (back.kind(), back.state(), back.username),
            (account.kind(), account.state(), account.username)
        );
    }
}
