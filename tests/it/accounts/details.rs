//! Accounts: what they store, and how it changes.

use std::collections::BTreeMap;

use countersign::grpc::pb;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use tonic::{Code, Status};

use crate::harness::{Client, TestServer, create_org, grant, refused, token_for, violated};

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

fn text(text: &str) -> Value {
    value(Kind::StringValue(text.into()))
}

fn object(fields: impl IntoIterator<Item = (&'static str, Value)>) -> Struct {
    Struct { fields: fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect() }
}

fn link(enabled: bool, slug: &str) -> pb::AccountLink {
    pb::AccountLink { enabled, slug: slug.into() }
}

fn links<const N: usize>(links: [(&str, pb::AccountLink); N]) -> BTreeMap<String, pb::AccountLink> {
    links.into_iter().map(|(kind, link)| (kind.to_owned(), link)).collect()
}

async fn bot(client: &Client, name: &str, settings: pb::AccountSettings) -> Result<pb::Account, Status> {
    let request =
        pb::CreateServiceAccountRequest { name: name.into(), settings: Some(settings), ..Default::default() };
    Ok(client.accounts().create_service_account(request).await?.into_inner().account.unwrap())
}

async fn get(client: &Client, account_id: &str) -> pb::Account {
    let request = pb::GetAccountRequest { account_id: account_id.into(), ..Default::default() };
    client.accounts().get_account(request).await.unwrap().into_inner().account.unwrap()
}

#[tokio::test]
async fn service_accounts_start_with_notifications_and_links_off() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let account = bot(&org.owner, "plain", pb::AccountSettings::default()).await.unwrap();
    let expected = pb::AccountSettings {
        email_notifications: Some(false),
        attributes: Some(Struct::default()),
        ..Default::default()
    };
    assert_eq!(account.settings, Some(expected));
    assert!(!account.login_enabled && account.delete_time.is_none());
    assert_eq!(account.state(), pb::AccountState::Active);
}

#[tokio::test]
async fn settings_are_kept_as_given() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let numbers = [0.0, -1.5, 0.1, 1e16, 1e19, 1e300, 5e-324, 9_007_199_254_740_993.0, f64::MAX];
    let numbers = numbers.into_iter().map(|number| value(Kind::NumberValue(number))).collect();
    let given = pb::AccountSettings {
        email_notifications: Some(true),
        links: links([("dropzone", link(false, "")), ("personal_url", link(true, "the-bot"))]),
        attributes: Some(object([
            ("text", text("ñ \"quoted\" \\u0000")),
            ("list", value(Kind::ListValue(ListValue { values: numbers }))),
            ("inner", value(Kind::StructValue(object([("none", value(Kind::NullValue(0)))])))),
            ("yes", value(Kind::BoolValue(true))),
        ])),
    };
    let account = bot(&org.owner, "Build_Bot", given.clone()).await.unwrap();
    // A service account's slug is its name in lower case, where none is given.
    let expected = pb::AccountSettings {
        links: links([("dropzone", link(false, "build_bot")), ("personal_url", link(true, "the-bot"))]),
        ..given
    };
    assert_eq!(account.settings, Some(expected));
    assert_eq!(get(&org.owner, &account.id).await, account);
}

#[tokio::test]
async fn settings_that_are_refused() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let with = |links| pb::AccountSettings { links, ..Default::default() };
    let many = (0..17).map(|n| (format!("kind_{n}"), link(true, "x"))).collect();
    let long_kind = "k".repeat(32);
    let long_slug = "s".repeat(64);
    let keeping = |attributes| pb::AccountSettings { attributes: Some(attributes), ..Default::default() };
    let largest = "x".repeat((16 << 10) - r#"{"k":""}"#.len());
    for (settings, field) in [
        (with(many), "settings.links"),
        (with(links([("Dropzone", link(true, "x"))])), "settings.links"),
        (with(links([("", link(true, "x"))])), "settings.links"),
        (with(links([(long_kind.as_str(), link(true, "x"))])), "settings.links"),
        (with(links([("dropzone", link(true, "Ann"))])), "settings.links[dropzone].slug"),
        (with(links([("dropzone", link(true, "a/b"))])), "settings.links[dropzone].slug"),
        (with(links([("dropzone", link(true, "-a"))])), "settings.links[dropzone].slug"),
        (with(links([("dropzone", link(true, &long_slug))])), "settings.links[dropzone].slug"),
        (keeping(object([("k", text(&format!("{largest}x")))])), "settings.attributes"),
        (keeping(object([("k", value(Kind::NumberValue(f64::NAN)))])), "settings.attributes"),
        (keeping(object([("k", value(Kind::NumberValue(f64::INFINITY)))])), "settings.attributes"),
        (keeping(object([("k", text("a\0b"))])), "settings.attributes"),
        (keeping(object([("k", Value { kind: None })])), "settings.attributes"),
    ] {
        let refusal = refused(bot(&org.owner, "bot", settings).await, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&refusal), [field]);
    }
    let most = (0..16).map(|n| (format!("kind_{n}"), link(true, "x"))).collect();
    bot(&org.owner, "links", with(most)).await.unwrap();
    let kept = bot(&org.owner, "kept", keeping(object([("k", text(&largest))]))).await.unwrap();
    assert_eq!(kept.settings.unwrap().attributes, Some(object([("k", text(&largest))])));
}

#[tokio::test]
async fn attributes_are_as_large_in_the_database_as_they_were_measured() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let numbers =
        [1e308, -1.234_567_890_123_456_7e300, f64::MAX, 1e-300, 5e-324, -0.0, 0.0, 1.0, 1e15, 1e16, 1e-5];
    let with = |numbers: &[f64], filling: usize| {
        let list = numbers.iter().map(|number| value(Kind::NumberValue(*number))).collect();
        let list = value(Kind::ListValue(ListValue { values: list }));
        let attributes = object([("n", list), ("t", text(&"x".repeat(filling)))]);
        pb::AccountSettings { attributes: Some(attributes), ..Default::default() }
    };
    // The database puts a space behind each comma and each colon.
    let size = async |name: &str| {
        let sql = "select octet_length(replace(attributes::text, ' ', '')) from accounts where name = $1";
        sqlx::query_scalar::<_, i32>(sql).bind(name).fetch_one(&server.state.db).await.unwrap() as usize
    };
    bot(&org.owner, "small", with(&numbers, 0)).await.unwrap();
    let longest = (16 << 10) - size("small").await;
    let made = bot(&org.owner, "largest", with(&numbers, longest)).await.unwrap();
    assert_eq!(size("largest").await, 16 << 10);
    assert_eq!(made.settings.as_ref().unwrap().attributes, with(&numbers, longest).attributes);
    assert_eq!(get(&org.owner, &made.id).await, made);
    // One more; what is 6 KB with exponents and 280 KB without; and a list with too many elements.
    for above in [with(&numbers, longest + 1), with(&[1e308; 900], 0), with(&[1.0; 1_001], 0)] {
        let refusal = bot(&org.owner, "above", above).await;
        let refusal = refused(refusal, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&refusal), ["settings.attributes"]);
    }
}

#[tokio::test]
async fn a_slug_is_unique_in_the_org_for_each_kind() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let with = |kind: &str, enabled| pb::AccountSettings {
        links: links([(kind, link(enabled, "taken"))]),
        ..Default::default()
    };
    bot(&org.owner, "first", with("dropzone", false)).await.unwrap();
    bot(&org.owner, "another-kind", with("personal_url", true)).await.unwrap();
    // Switched off, it is stored all the same.
    let refusal = bot(&org.owner, "second", with("dropzone", true)).await;
    let refusal = refused(refusal, Code::AlreadyExists, "RESOURCE_EXISTS");
    assert!(refusal.message().contains("dropzone/taken"), "{}", refusal.message());
    let other = server.org().await;
    bot(&other.owner, "first", with("dropzone", true)).await.unwrap();
}

async fn user(client: &Client, request: pb::CreateUserRequest) -> Result<pb::Account, Status> {
    Ok(client.accounts().create_user(request).await?.into_inner().account.unwrap())
}

fn at(email: &str) -> pb::CreateUserRequest {
    pb::CreateUserRequest { email: email.into(), ..Default::default() }
}

#[tokio::test]
async fn a_user_waits_for_a_password() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let request = pb::CreateUserRequest {
        profile: Some(pb::Profile {
            given_name: Some("Ann".into()),
            family_name: Some("Ruiz".into()),
            ..Default::default()
        }),
        grants: vec![grant("auditor", "*")],
        ..at("Ann.Ruiz@Example.ORG")
    };
    let ann = user(&org.owner, request).await.unwrap();
    assert_eq!((ann.kind(), ann.state()), (pb::AccountKind::User, pb::AccountState::Invited));
    assert_eq!((ann.username.as_str(), ann.name.as_str()), ("ann.ruiz@example.org", ""));
    assert_eq!((ann.title.as_str(), ann.login_enabled), ("Ann Ruiz", false));
    assert_eq!(ann.settings.as_ref().unwrap().email_notifications, Some(true));
    assert_eq!(get(&org.owner, &ann.id).await, ann);
    let filter = Some(pb::list_grants_request::Filter::AccountId(ann.id.clone()));
    let list = pb::ListGrantsRequest { filter, ..Default::default() };
    assert_eq!(org.owner.accounts().list_grants(list).await.unwrap().into_inner().grants.len(), 1);
    let sql = "select type, changes::text from events where $1 = any(resource_ids)";
    let events: Vec<(String, String)> =
        sqlx::query_as(sql).bind(&ann.id).fetch_all(&server.state.db).await.unwrap();
    assert_eq!((events.len(), events[0].0.as_str()), (1, "account.created"));
    for said in ["username", "ann.ruiz@example.org", "profile.given_name", "auditor on *"] {
        assert!(events[0].1.contains(said), "{said} in {}", events[0].1);
    }
    // A password makes the difference.
    let sql = "update accounts set password_time = now() where username = 'ann.ruiz@example.org'";
    sqlx::query(sql).execute(&server.state.db).await.unwrap();
    let active = get(&org.owner, &ann.id).await;
    assert_eq!((active.state(), active.login_enabled), (pb::AccountState::Active, true));

    let stopped = pb::CreateUserRequest { deactivated: true, ..at("bob@example.org") };
    assert_eq!(user(&org.owner, stopped).await.unwrap().state(), pb::AccountState::Deactivated);
}

#[tokio::test]
async fn addresses_that_have_an_account() {
    let server = TestServer::start().await;
    let (org, other) = (server.org().await, server.org().await);
    let ann = user(&org.owner, at("ann@example.org")).await.unwrap();
    let again = user(&org.owner, at("ANN@example.org")).await;
    refused(again, Code::AlreadyExists, "RESOURCE_EXISTS");
    let elsewhere = user(&other.owner, at("ann@Example.org")).await;
    refused(elsewhere, Code::AlreadyExists, "USE_INVITATION");
    let sql = "update accounts set delete_time = now() where username = 'ann@example.org'";
    sqlx::query(sql).execute(&server.state.db).await.unwrap();
    let held = user(&org.owner, at("ann@example.org")).await;
    refused(held, Code::AlreadyExists, "NAME_HELD_BY_DELETED_ACCOUNT");
    let elsewhere = user(&other.owner, at("ann@example.org")).await;
    let elsewhere = refused(elsewhere, Code::AlreadyExists, "USE_INVITATION");
    assert!(!format!("{elsewhere:?}").contains(&ann.id) && !elsewhere.message().contains(&org.slug));
}

#[tokio::test]
async fn one_address_at_once_in_two_orgs_makes_one_user() {
    let server = TestServer::start().await;
    let (org, other) = (server.org().await, server.org().await);
    for n in 0..5 {
        let email = format!("racer-{n}@example.org");
        let (a, b) = tokio::join!(user(&org.owner, at(&email)), user(&other.owner, at(&email)));
        let lost = if a.is_ok() { b } else { a };
        refused(lost, Code::AlreadyExists, "USE_INVITATION");
        let sql = "select count(*) from accounts where username = $1";
        let made: i64 = sqlx::query_scalar(sql).bind(&email).fetch_one(&server.state.db).await.unwrap();
        assert_eq!(made, 1);
    }
}

#[tokio::test]
async fn users_that_are_refused() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let label = "x".repeat(63);
    let of_length = |length: usize| format!("{}@{label}.{label}.{label}.org", "a".repeat(length - 196));
    assert_eq!(of_length(254).len(), 254);
    for bad in [
        "",
        "ann",
        "@example.org",
        "ann@",
        "ann@example..org",
        "añn@example.org",
        "ann@example.org\n",
        "ann ruiz@example.org",
        // The names of service accounts.
        "ann@127.0.0.1",
        "ann@mail.127.0.0.1",
        &format!("root@{}.127.0.0.1", org.slug),
        &format!("root@{}", org.slug),
        &format!("{}@example.org", "a".repeat(65)),
        &of_length(255),
    ] {
        let refusal = refused(user(&org.owner, at(bad)).await, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&refusal), ["email"], "{bad:?}");
    }
    user(&org.owner, at(&of_length(254))).await.unwrap();
    let all = pb::CreateUserRequest {
        request_id: "x".into(),
        profile: Some(pb::Profile { display_name: Some("see http://x".into()), ..Default::default() }),
        grants: vec![grant("a.b", "")],
        ..at("nobody")
    };
    let refusal = refused(user(&org.owner, all).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&refusal), ["email", "profile.display_name", "grants[0].resource", "request_id"]);
    let many = pb::CreateUserRequest { grants: vec![grant("a.b", "*"); 101], ..at("many@example.org") };
    let refusal = refused(user(&org.owner, many).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&refusal), ["grants"]);

    // Nothing is created where one grant cannot be given.
    let (_, manager) = server.account(&org.id, "manager", &[("manager", "*")]).await;
    let grants = vec![grant("auditor", "*"), grant("owner", "*")];
    let exceeds = user(&manager, pb::CreateUserRequest { grants, ..at("new@example.org") }).await;
    refused(exceeds, Code::PermissionDenied, "GRANT_EXCEEDS_CALLER");
    user(&manager, at("new@example.org")).await.unwrap();
}

#[tokio::test]
async fn a_person_has_no_token() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let ann = user(&org.owner, at("ann@example.org")).await.unwrap();
    let refusal = org.owner.tokens().create_token(token_for("", &ann.id)).await;
    refused(refusal, Code::InvalidArgument, "TARGET_NOT_SERVICE_ACCOUNT");
}

#[tokio::test]
async fn a_create_that_is_repeated_is_answered_again() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let request_id = "0190f3c2-7b2a-7c3e-8d4f-5a6b7c8d9eaf".to_owned();
    let request = pb::CreateUserRequest { request_id: request_id.clone(), ..at("ann@example.org") };
    let first = user(&org.owner, request.clone()).await.unwrap();
    assert_eq!(user(&org.owner, request.clone()).await.unwrap(), first);
    let other = pb::CreateUserRequest { deactivated: true, ..request };
    refused(user(&org.owner, other).await, Code::InvalidArgument, "REQUEST_ID_REUSED");
    // The key holds the method; and many links and attributes have one order each time.
    let all: BTreeMap<_, _> = (0..16).map(|n| (format!("kind_{n}"), link(true, "bot"))).collect();
    let attributes = Struct { fields: (0..50).map(|n| (format!("key-{n}"), text("x"))).collect() };
    let request = pb::CreateServiceAccountRequest {
        request_id,
        name: "bot".into(),
        settings: Some(pb::AccountSettings {
            links: all,
            attributes: Some(attributes),
            ..Default::default()
        }),
        ..Default::default()
    };
    let create = async || org.owner.accounts().create_service_account(request.clone()).await;
    assert_eq!(create().await.unwrap().into_inner(), create().await.unwrap().into_inner());
}

#[tokio::test]
async fn an_org_may_begin_with_a_person() {
    use pb::create_org_request::Owner;
    let server = TestServer::start().await;
    let with = |slug: &str, email: &str| pb::CreateOrgRequest {
        owner: Some(Owner::OwnerEmail(email.into())),
        ..create_org(slug)
    };
    let create = async |request| server.operator.orgs().create_org(request).await;
    let made = create(with("people", "Ann@example.org")).await.unwrap().into_inner();
    let (org, ann) = (made.org.unwrap(), made.owner.unwrap());
    assert_eq!((ann.kind(), ann.state()), (pb::AccountKind::User, pb::AccountState::Invited));
    assert_eq!((ann.username.as_str(), ann.org_id.as_str()), ("ann@example.org", org.id.as_str()));
    let filter = Some(pb::list_grants_request::Filter::AccountId(ann.id.clone()));
    let list = pb::ListGrantsRequest { org_id: org.id, filter, ..Default::default() };
    let held = server.operator.accounts().list_grants(list).await.unwrap().into_inner().grants;
    let owner = Some(pb::grant::Right::RoleId("owner".into()));
    assert_eq!((held.len(), held[0].right.clone(), held[0].resource.as_str()), (1, owner, "*"));

    let refusal = create(with("others", "ann@example.org")).await;
    refused(refusal, Code::AlreadyExists, "USE_INVITATION");
    let refusal = create(with("others", "ann@mail.127.0.0.1")).await;
    assert_eq!(violated(&refused(refusal, Code::InvalidArgument, "INVALID_FIELD")), ["owner_email"]);
    let nobody = pb::CreateOrgRequest { owner: None, ..create_org("Others") };
    let refusal = refused(create(nobody).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&refusal), ["slug", "owner"]);
    // Nothing of what was refused is stored.
    create(with("others", "bob@example.org")).await.unwrap();
}

#[tokio::test]
async fn a_link_finds_its_account() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let settings = pb::AccountSettings {
        links: links([("dropzone", link(true, "in-box")), ("personal_url", link(false, "me"))]),
        ..Default::default()
    };
    let account = bot(&org.owner, "Receiver", settings).await.unwrap();
    let ask = async |client: &Client, kind: &str, slug: &str| {
        let request = pb::ResolveLinkRequest { kind: kind.into(), slug: slug.into(), ..Default::default() };
        client.accounts().resolve_link(request).await.map(tonic::Response::into_inner)
    };
    let found = pb::ResolveLinkResponse {
        account_id: account.id.clone(),
        account_kind: pb::AccountKind::ServiceAccount.into(),
        display_name: account.title.clone(),
    };
    // Every member may ask, also with few rights.
    let (_, member) = server.account(&org.id, "member", &[]).await;
    assert_eq!(ask(&member, "dropzone", "in-box").await.unwrap(), found);
    assert_eq!(ask(&member.with_jwt().await, "dropzone", "in-box").await.unwrap(), found);
    let foreign = server.org().await.owner;
    for (client, kind, slug) in [
        (&member, "personal_url", "me"),
        (&member, "dropzone", "me"),
        (&member, "nosuch", "in-box"),
        (&foreign, "dropzone", "in-box"),
    ] {
        refused(ask(client, kind, slug).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    }
    let refusal = refused(ask(&member, "Dropzone", "").await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&refusal), ["kind", "slug"]);
    for stopped in ["deactivate_time", "delete_time"] {
        let set = async |value: &str| {
            let sql = format!("update accounts set {stopped} = {value} where name = 'Receiver'");
            sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&server.state.db).await.unwrap();
        };
        set("now()").await;
        refused(ask(&member, "dropzone", "in-box").await, Code::NotFound, "RESOURCE_NOT_FOUND");
        set("null").await;
    }
    assert_eq!(ask(&member, "dropzone", "in-box").await.unwrap(), found);
}
