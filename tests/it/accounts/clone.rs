//! `CloneAccount`: what the clone gets, what is dropped, and what a preview says.

use countersign::grpc::pb;
use prost_types::{Struct, Value, value};
use tonic::{Code, Status};

use crate::harness::{Client, TestServer, grant, refused, violated};

async fn clone(
    client: &Client,
    request: pb::CloneAccountRequest,
) -> Result<pb::CloneAccountResponse, Status> {
    Ok(client.accounts().clone_account(request).await?.into_inner())
}

fn of(account: &pb::Account, name: &str) -> pb::CloneAccountRequest {
    pb::CloneAccountRequest { account_id: account.id.clone(), name: name.into(), ..Default::default() }
}

/// The grants of an account, each as right and resource, sorted.
async fn grants(client: &Client, account_id: &str) -> Vec<String> {
    let filter = Some(pb::list_grants_request::Filter::AccountId(account_id.into()));
    let list = pb::ListGrantsRequest { filter, ..Default::default() };
    shown(&client.accounts().list_grants(list).await.unwrap().into_inner().grants)
}

fn shown(grants: &[pb::Grant]) -> Vec<String> {
    let right = |grant: &pb::Grant| match grant.right.as_ref().unwrap() {
        pb::grant::Right::RoleId(role) => role.clone(),
        pb::grant::Right::Permission(permission) => permission.clone(),
    };
    let mut shown: Vec<_> =
        grants.iter().map(|grant| format!("{} on {}", right(grant), grant.resource)).collect();
    shown.sort();
    shown
}

async fn count(server: &TestServer, table: &str) -> i64 {
    let sql = format!("select count(*) from {table}");
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&server.state.db).await.unwrap()
}

#[tokio::test]
async fn a_clone_gets_what_the_caller_may_pass_on() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.resources(&org.id, &["a/b"]).await;
    let all = [("auditor", "*"), ("owner", "a"), ("invoices.read", "a/b"), ("invoices.write", "*")];
    let (source, client) = server.account(&org.id, "source", &all).await;
    // An owner passes on everything.
    let made = clone(&org.owner, of(&source, "twin")).await.unwrap();
    let twin = made.account.unwrap();
    assert_eq!(
        (twin.name.as_str(), twin.kind(), twin.state()),
        ("twin", source.kind(), pb::AccountState::Active)
    );
    assert!(made.dropped_grants.is_empty());
    let every = ["auditor on *", "invoices.read on a/b", "invoices.write on *", "owner on a"];
    assert_eq!(grants(&org.owner, &twin.id).await, every);
    // A manager does not: what it may not pass on is dropped and named, and the account is created all the same.
    let (_, manager) = server.account(&org.id, "manager", &[("manager", "*"), ("invoices.read", "a")]).await;
    let made = clone(&manager, of(&source, "less")).await.unwrap();
    assert_eq!(shown(&made.dropped_grants), ["invoices.write on *", "owner on a"]);
    let less = made.account.unwrap();
    assert_eq!(grants(&org.owner, &less.id).await, ["auditor on *", "invoices.read on a/b"]);
    // What is omitted is neither: by what it is, and by its id.
    let by_id = made.dropped_grants.iter().find(|grant| grant.resource == "a").unwrap().grant_id.clone();
    let excluded_grants = vec![grant("auditor", "*"), pb::Grant { grant_id: by_id, ..Default::default() }];
    let request = pb::CloneAccountRequest { excluded_grants, ..of(&source, "least") };
    let made = clone(&manager, request).await.unwrap();
    assert_eq!(shown(&made.dropped_grants), ["invoices.write on *"]);
    assert_eq!(grants(&org.owner, &made.account.unwrap().id).await, ["invoices.read on a/b"]);
    // The source is as it was, and its tokens are its own.
    assert_eq!(grants(&org.owner, &source.id).await, every);
    let list = pb::ListTokensRequest { account_id: twin.id, ..Default::default() };
    assert_eq!(org.owner.tokens().list_tokens(list).await.unwrap().into_inner().tokens.len(), 0);
    client.caller().await.unwrap();
}

#[tokio::test]
async fn a_clone_has_settings_of_its_source_and_names_of_its_own() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let attribute = Value { kind: Some(value::Kind::StringValue("north".into())) };
    let link = |enabled, slug: &str| pb::AccountLink { enabled, slug: slug.into() };
    let settings = pb::AccountSettings {
        email_notifications: Some(true),
        links: [("dropzone".to_owned(), link(true, "files")), ("personal_url".to_owned(), link(false, "me"))]
            .into(),
        attributes: Some(Struct { fields: [("site".to_owned(), attribute)].into() }),
    };
    let request = pb::CreateServiceAccountRequest {
        name: "source".into(),
        profile: Some(pb::Profile { display_name: Some("The Source".into()), ..Default::default() }),
        contact_email: "ops@example.org".into(),
        description: "the first".into(),
        settings: Some(settings),
        ..Default::default()
    };
    let source =
        org.owner.accounts().create_service_account(request).await.unwrap().into_inner().account.unwrap();
    let profile = Some(pb::Profile { locale: Some("pt-BR".into()), ..Default::default() });
    let request =
        pb::CloneAccountRequest { profile: profile.clone(), deactivated: true, ..of(&source, "Twin") };
    let twin = clone(&org.owner, request).await.unwrap().account.unwrap();
    assert_eq!(twin.state(), pb::AccountState::Deactivated);
    assert_eq!(twin.profile, profile);
    assert!(twin.username.starts_with("twin@") && twin.title == twin.username && !twin.login_enabled);
    assert_eq!((twin.contact_email(), twin.description()), ("", ""));
    let settings = twin.settings.unwrap();
    assert_eq!(settings.email_notifications, Some(true));
    assert_eq!(settings.links, [("dropzone".to_owned(), link(true, "twin"))].into());
    assert_eq!(settings.attributes.unwrap_or_default().fields.len(), 0);
    let sql = "select changes::text from events where type = 'account.created' and $1 = any(resource_ids)
               and resource_ids[1] = $2";
    let changes: String =
        sqlx::query_scalar(sql).bind(&source.id).bind(&twin.id).fetch_one(&server.state.db).await.unwrap();
    assert!(changes.contains("cloned_from") && changes.contains(&source.id), "{changes}");
    // A password is not cloned.
    sqlx::query("update accounts set password_time = create_time where username = $1")
        .bind(&source.username)
        .execute(&server.state.db)
        .await
        .unwrap();
    let third = clone(&org.owner, of(&source, "third")).await.unwrap().account.unwrap();
    assert!(!third.login_enabled);
}

#[tokio::test]
async fn the_kind_is_the_sources() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let request = pb::CreateUserRequest {
        email: "ann@example.org".into(),
        grants: vec![grant("auditor", "*")],
        ..Default::default()
    };
    let ann = org.owner.accounts().create_user(request).await.unwrap().into_inner().account.unwrap();
    let (bot, _) = server.account(&org.id, "bot", &[]).await;
    let for_user = |email: &str| pb::CloneAccountRequest { email: email.into(), ..of(&ann, "") };
    let bob = clone(&org.owner, for_user("Bob@example.org")).await.unwrap().account.unwrap();
    assert_eq!((bob.kind(), bob.state()), (pb::AccountKind::User, pb::AccountState::Invited));
    assert_eq!((bob.username.as_str(), bob.name.as_str()), ("bob@example.org", ""));
    assert_eq!(grants(&org.owner, &bob.id).await, ["auditor on *"]);
    let for_bot = pb::CloneAccountRequest { email: "carol@example.org".into(), ..of(&bot, "") };
    for wrong in [of(&ann, "a-name"), for_bot] {
        let refusal = refused(clone(&org.owner, wrong).await, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&refusal), ["name", "email"]);
    }
    let refusal = clone(&org.owner, for_user("bot@localhost")).await;
    assert_eq!(violated(&refused(refusal, Code::InvalidArgument, "INVALID_FIELD")), ["email"]);
    refused(clone(&org.owner, for_user("bob@example.org")).await, Code::AlreadyExists, "RESOURCE_EXISTS");
}

#[tokio::test]
async fn a_preview_says_what_would_come_of_it_and_changes_nothing() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (source, _) = server.account(&org.id, "source", &[("auditor", "*"), ("x.y", "*")]).await;
    let (_, manager) = server.account(&org.id, "manager", &[("manager", "*")]).await;
    let tables = ["accounts", "usernames", "memberships", "grants", "events", "feed", "requests"];
    let mut before = Vec::new();
    for table in tables {
        before.push(count(&server, table).await);
    }
    let request = pb::CloneAccountRequest {
        validate_only: true,
        request_id: "0190f3c2-7b2a-7c3e-8d4f-5a6b7c8d9eaf".into(),
        ..of(&source, "twin")
    };
    let preview = clone(&manager, request.clone()).await.unwrap();
    assert_eq!(clone(&manager, request.clone()).await.unwrap(), preview);
    let taken = pb::CloneAccountRequest { name: "MANAGER".into(), ..request.clone() };
    refused(clone(&manager, taken).await, Code::AlreadyExists, "RESOURCE_EXISTS");
    for (table, rows) in tables.into_iter().zip(before) {
        assert_eq!(count(&server, table).await, rows, "{table}");
    }
    // The real call answers the same, and has the request_id for itself.
    let real = pb::CloneAccountRequest { validate_only: false, ..request };
    let made = clone(&manager, real.clone()).await.unwrap();
    assert_eq!(clone(&manager, real).await.unwrap(), made, "a replay answers as the first call did");
    let account = made.account.clone().unwrap();
    let bare = pb::Account {
        id: String::new(),
        etag: String::new(),
        create_time: None,
        update_time: None,
        ..account.clone()
    };
    assert_eq!(preview.account, Some(bare));
    assert_eq!(preview.dropped_grants, made.dropped_grants);
    assert_eq!(shown(&made.dropped_grants), ["x.y on *"]);
    assert_eq!(grants(&org.owner, &account.id).await, ["auditor on *"]);
}

#[tokio::test]
async fn clones_that_are_refused() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (bot, bot_client) = server.account(&org.id, "bot", &[("accounts.write", "*")]).await;
    let (reader, reading) =
        server.account(&org.id, "reader", &[("accounts.write", "*"), ("accounts.read", "*")]).await;
    // Both rights are needed, before anything else is checked.
    let junk = pb::CloneAccountRequest { account_id: "x".into(), ..Default::default() };
    refused(clone(&bot_client, junk.clone()).await, Code::PermissionDenied, "PERMISSION_MISSING");
    refused(clone(&reading, of(&reader, "me")).await, Code::InvalidArgument, "CANNOT_CLONE_SELF");
    let refusal = pb::CloneAccountRequest {
        email: "also@example.org".into(),
        profile: Some(pb::Profile { locale: Some("x".into()), ..Default::default() }),
        excluded_grants: vec![pb::Grant { grant_id: "x".into(), ..Default::default() }, pb::Grant::default()],
        request_id: "x".into(),
        name: "my account".into(),
        ..junk.clone()
    };
    let refusal = refused(clone(&reading, refusal).await, Code::InvalidArgument, "INVALID_FIELD");
    let fields = [
        "account_id",
        "name",
        "email",
        "profile.locale",
        "excluded_grants[0].grant_id",
        "excluded_grants[1].right",
        "excluded_grants[1].resource",
        "request_id",
    ];
    assert_eq!(violated(&refusal), fields);
    let refusal = refused(clone(&reading, junk).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&refusal), ["account_id", "name"]);
    let many = pb::CloneAccountRequest { excluded_grants: vec![grant("x.y", "*"); 101], ..of(&bot, "new") };
    let refusal = refused(clone(&reading, many).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&refusal), ["excluded_grants"]);
    let absent = pb::CloneAccountRequest { excluded_grants: vec![grant("x.y", "*")], ..of(&bot, "new") };
    refused(clone(&reading, absent).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    refused(clone(&reading, of(&bot, "Reader")).await, Code::AlreadyExists, "RESOURCE_EXISTS");
    let other = server.org().await;
    let (foreign, _) = server.account(&other.id, "foreign", &[]).await;
    refused(clone(&reading, of(&foreign, "new")).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    // A deleted account is no source, and its name is held.
    let tokens = pb::ListTokensRequest { account_id: bot.id.clone(), ..Default::default() };
    for token in org.owner.tokens().list_tokens(tokens).await.unwrap().into_inner().tokens {
        org.owner.tokens().revoke_token(crate::harness::by_id("", &token.id)).await.unwrap();
    }
    let delete = pb::DeleteAccountRequest { account_id: bot.id.clone(), ..Default::default() };
    org.owner.accounts().delete_account(delete).await.unwrap();
    refused(clone(&reading, of(&bot, "new")).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    let (last, _) = server.account(&org.id, "last", &[]).await;
    refused(clone(&reading, of(&last, "bot")).await, Code::AlreadyExists, "NAME_HELD_BY_DELETED_ACCOUNT");
}
