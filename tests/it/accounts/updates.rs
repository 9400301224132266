//! `UpdateAccount`: who may change what of an account.

use countersign::grpc::pb;
use prost_types::value::Kind;
use prost_types::{FieldMask, Struct, Value};
use tonic::{Code, Status};

use crate::harness::{Client, TestServer, refused, token_for, violated};

/// Updates what the mask names; without paths, what is set.
async fn update(client: &Client, account: pb::Account, paths: &[&str]) -> Result<pb::Account, Status> {
    let paths: Vec<_> = paths.iter().map(|path| (*path).to_owned()).collect();
    let update_mask = (!paths.is_empty()).then_some(FieldMask { paths });
    let request = pb::UpdateAccountRequest { account: Some(account), update_mask, ..Default::default() };
    Ok(client.accounts().update_account(request).await?.into_inner().account.unwrap())
}

fn of(id: &str) -> pb::Account {
    pb::Account { id: id.into(), ..Default::default() }
}

async fn user(client: &Client, email: &str) -> pb::Account {
    let request = pb::CreateUserRequest { email: email.into(), ..Default::default() };
    client.accounts().create_user(request).await.unwrap().into_inner().account.unwrap()
}

/// The changed fields of the account's updates, oldest first.
async fn events(server: &TestServer, account_id: &str) -> Vec<serde_json::Value> {
    let sql = "select changes::text from events
               where type = 'account.updated' and resource_ids = array[$1] order by event_id";
    let rows: Vec<String> =
        sqlx::query_scalar(sql).bind(account_id).fetch_all(&server.state.db).await.unwrap();
    rows.iter().map(|row| serde_json::from_str(row).unwrap()).collect()
}

fn profile() -> pb::Profile {
    pb::Profile {
        display_name: Some("Build bot".into()),
        given_name: Some("Build".into()),
        family_name: Some("Bot".into()),
        phone_number: Some("+34911234567".into()),
        locale: Some("pt-BR".into()),
        zoneinfo: Some("Europe/Madrid".into()),
    }
}

fn attributes(key: &str, text: &str) -> Struct {
    let value = Value { kind: Some(Kind::StringValue(text.into())) };
    Struct { fields: [(key.to_owned(), value)].into() }
}

fn link(enabled: bool, slug: &str) -> pb::AccountLink {
    pb::AccountLink { enabled, slug: slug.into() }
}

#[tokio::test]
async fn every_field_changes_and_the_event_says_how() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (made, _) = server.account(&org.id, "bot", &[]).await;
    let settings = pb::AccountSettings {
        email_notifications: Some(true),
        links: [("dropzone".to_owned(), link(true, ""))].into(),
        attributes: Some(attributes("team", "secret plans")),
    };
    let wanted = pb::Account {
        name: "Robot".into(),
        profile: Some(profile()),
        contact_email: Some("Team@example.org".into()),
        description: Some("Builds.".into()),
        settings: Some(settings),
        etag: made.etag.clone(),
        ..of(&made.id)
    };
    let after = update(&org.owner, wanted.clone(), &[]).await.unwrap();
    assert_eq!((after.name.as_str(), after.title.as_str()), ("Robot", "Build bot"));
    assert_eq!(after.username, made.username, "the username stays with the account");
    assert_eq!((after.contact_email(), after.description()), ("team@example.org", "Builds."));
    assert_eq!(after.profile, Some(profile()));
    let settings = after.settings.clone().unwrap();
    assert_eq!(settings.links["dropzone"], link(true, "robot"), "the slug is made from the new name");
    assert_eq!(
        (settings.email_notifications, settings.attributes),
        (Some(true), Some(attributes("team", "secret plans")))
    );
    assert!(after.etag != made.etag && after.create_time == made.create_time);

    let said = events(&server, &made.id).await;
    assert_eq!(said.len(), 1);
    let fields: Vec<_> =
        said[0].as_array().unwrap().iter().map(|change| change["field"].as_str().unwrap()).collect();
    assert_eq!(
        fields,
        [
            "name",
            "profile.display_name",
            "profile.given_name",
            "profile.family_name",
            "profile.phone_number",
            "profile.locale",
            "profile.zoneinfo",
            "contact_email",
            "description",
            "settings.email_notifications",
            "settings.links",
            "settings.attributes",
        ]
    );
    assert_eq!(
        (said[0][0]["old_value"].as_str(), said[0][0]["new_value"].as_str()),
        (Some("bot"), Some("Robot"))
    );
    assert!(!said[0].to_string().contains("secret plans"), "attributes are the applications'");
    let title = "select title from memberships where account_id = (select account_id from accounts where name = 'Robot')";
    let title: String = sqlx::query_scalar(title).fetch_one(&server.state.db).await.unwrap();
    assert_eq!(title, "Build bot", "beside the membership it is the same");

    // The same again changes nothing and writes nothing.
    let again = update(&org.owner, pb::Account { etag: String::new(), ..wanted }, &[]).await.unwrap();
    assert_eq!(again, after);
    assert_eq!(events(&server, &made.id).await.len(), 1);
}

#[tokio::test]
async fn what_the_mask_names_and_the_message_lacks_is_cleared() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (made, _) = server.account(&org.id, "bot", &[]).await;
    let full = pb::Account {
        profile: Some(profile()),
        contact_email: Some("team@example.org".into()),
        description: Some("Builds.".into()),
        settings: Some(pb::AccountSettings {
            email_notifications: Some(true),
            links: [("dropzone".to_owned(), link(true, "in")), ("personal_url".to_owned(), link(true, "me"))]
                .into(),
            attributes: Some(attributes("k", "v")),
        }),
        ..of(&made.id)
    };
    update(&org.owner, full.clone(), &[]).await.unwrap();
    // One message deep; the rest is unchanged.
    let one = update(&org.owner, of(&made.id), &["profile.display_name"]).await.unwrap();
    assert_eq!(one.profile, Some(pb::Profile { display_name: None, ..profile() }));
    assert_eq!((one.title.as_str(), one.description()), ("Build Bot", "Builds."));
    // A map is replaced whole.
    let settings = pb::AccountSettings {
        links: [("dropzone".to_owned(), link(false, "in"))].into(),
        ..Default::default()
    };
    let fewer = pb::Account { settings: Some(settings), ..of(&made.id) };
    let fewer = update(&org.owner, fewer, &["settings.links"]).await.unwrap().settings.unwrap();
    assert_eq!(fewer.links, [("dropzone".to_owned(), link(false, "in"))].into());
    assert_eq!((fewer.email_notifications, fewer.attributes), (Some(true), Some(attributes("k", "v"))));
    // Set to nothing is cleared without a mask, too.
    let empty = pb::Account { contact_email: Some(String::new()), ..of(&made.id) };
    let empty = update(&org.owner, empty, &[]).await.unwrap();
    assert_eq!((empty.contact_email.clone(), empty.description()), (None, "Builds."));
    let bare =
        update(&org.owner, of(&made.id), &["profile", "contact_email", "description", "settings"]).await;
    let bare = bare.unwrap();
    assert_eq!(
        pb::Account { update_time: None, etag: String::new(), ..bare },
        pb::Account { update_time: None, etag: String::new(), ..made }
    );
}

#[tokio::test]
async fn the_kind_never_changes() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (made, own) = server.account(&org.id, "bot", &[]).await;
    let as_user = pb::Account { kind: pb::AccountKind::User.into(), ..of(&made.id) };
    for client in [&org.owner, &own, &server.operator] {
        for (account, paths) in [
            (as_user.clone(), &[][..]),
            (pb::Account { kind: 99, ..of(&made.id) }, &[]),
            (pb::Account { profile: Some(profile()), ..as_user.clone() }, &[]),
            (as_user.clone(), &["kind"]),
            (as_user.clone(), &["profile", "kind"]),
            // Also to what it is.
            (made.clone(), &["kind"]),
        ] {
            let org_id = org.id.clone();
            let paths: Vec<_> = paths.iter().map(|path| (*path).to_owned()).collect();
            let update_mask = (!paths.is_empty()).then_some(FieldMask { paths });
            let request = pb::UpdateAccountRequest { org_id, account: Some(account), update_mask };
            let refusal = client.accounts().update_account(request).await;
            refused(refusal, Code::InvalidArgument, "KIND_IS_IMMUTABLE");
        }
    }
    // What was read can be sent back.
    assert_eq!(update(&org.owner, made.clone(), &[]).await.unwrap(), made);
    assert!(events(&server, &made.id).await.is_empty());
}

#[tokio::test]
async fn a_users_address_is_an_operators_to_change() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let ann = user(&org.owner, "ann@example.org").await;
    user(&org.owner, "bob@example.org").await;
    let other = server.org().await;
    user(&other.owner, "eve@example.org").await;
    let to = |email: &str| pb::Account { username: email.into(), ..of(&ann.id) };
    for paths in [&[][..], &["username"]] {
        let refusal = update(&org.owner, to("eva@example.org"), paths).await;
        refused(refusal, Code::InvalidArgument, "EMAIL_IS_IMMUTABLE");
        // To what it is, in whatever case, changes nothing.
        assert_eq!(update(&org.owner, to("Ann@Example.org"), paths).await.unwrap(), ann);
    }
    let operate = async |email: &str| {
        let request = pb::UpdateAccountRequest {
            org_id: org.id.clone(),
            account: Some(to(email)),
            update_mask: Some(FieldMask { paths: vec!["username".into()] }),
        };
        Ok(server.operator.accounts().update_account(request).await?.into_inner().account.unwrap())
    };
    refused::<pb::Account>(operate("bob@example.org").await, Code::AlreadyExists, "RESOURCE_EXISTS");
    refused(operate("eve@example.org").await, Code::AlreadyExists, "USE_INVITATION");
    for wrong in ["", "nobody", &format!("ann@{}.127.0.0.1", org.slug)] {
        let refusal = refused(operate(wrong).await, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&refusal), ["account.username"]);
    }
    let moved = operate("Ann.Ruiz@example.org").await.unwrap();
    assert_eq!(
        (moved.username.as_str(), moved.title.as_str()),
        ("ann.ruiz@example.org", "ann.ruiz@example.org")
    );
    let by_operator = "select operator from events where type = 'account.updated' and org_id = (select org_id from orgs where slug = $1)";
    let by_operator: Vec<bool> =
        sqlx::query_scalar(by_operator).bind(&org.slug).fetch_all(&server.state.db).await.unwrap();
    assert_eq!(by_operator, [true]);
    // The old address is free, the new one in use.
    user(&other.owner, "ann@example.org").await;
    let request = pb::CreateUserRequest { email: "ann.ruiz@example.org".into(), ..Default::default() };
    refused(other.owner.accounts().create_user(request).await, Code::AlreadyExists, "USE_INVITATION");
}

#[tokio::test]
async fn what_a_service_account_is_called() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (made, bot) = server.account(&org.id, "Bot", &[]).await;
    let (_, introspector) = server.account(&org.id, "introspector", &[("tokens.introspect", "*")]).await;
    let (taken, _) = server.account(&org.id, "taken", &[]).await;
    let ann = user(&org.owner, "ann@example.org").await;
    let call = |id: &str, name: &str| pb::Account { name: name.into(), ..of(id) };

    refused(update(&org.owner, call(&made.id, "TAKEN"), &[]).await, Code::AlreadyExists, "RESOURCE_EXISTS");
    let sql = "update accounts set delete_time = now() where name = 'taken'";
    sqlx::query(sql).execute(&server.state.db).await.unwrap();
    let held = update(&org.owner, call(&made.id, "taken"), &[]).await;
    refused(held, Code::AlreadyExists, "NAME_HELD_BY_DELETED_ACCOUNT");
    refused(update(&org.owner, call(&taken.id, "x"), &[]).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    let refusal = update(&org.owner, call(&ann.id, "Ann"), &[]).await;
    assert_eq!(violated(&refused(refusal, Code::InvalidArgument, "INVALID_FIELD")), ["account.name"]);
    // Its own name in another case is no other account's.
    assert_eq!(update(&org.owner, call(&made.id, "BOT"), &[]).await.unwrap().name, "BOT");

    let introspect = async || {
        let request = pb::IntrospectTokenRequest { token_text: bot.token().into(), ..Default::default() };
        introspector.tokens().introspect_token(request).await.unwrap().into_inner().username
    };
    assert_eq!(introspect().await, made.username);
    let username = |text: String| pb::UpdateAccountRequest {
        org_id: org.id.clone(),
        account: Some(pb::Account { username: text, ..of(&made.id) }),
        ..Default::default()
    };
    let own = format!("robot@{}", org.slug);
    for (client, text) in [(&org.owner, own.clone()), (&server.operator, "robot@example.org".into())] {
        let refusal = client.accounts().update_account(username(text)).await;
        assert_eq!(violated(&refused(refusal, Code::InvalidArgument, "INVALID_FIELD")), ["account.username"]);
    }
    server.operator.accounts().update_account(username(own.clone())).await.unwrap();
    assert_eq!(introspect().await, own, "the cache knows at once");
}

#[tokio::test]
async fn what_oneself_may_change() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (made, bot) = server.account(&org.id, "bot", &[]).await;
    let (other, _) = server.account(&org.id, "other", &[]).await;
    let (_, auditor) = server.account(&org.id, "auditor", &[("auditor", "*")]).await;
    let settings = |enabled| pb::AccountSettings {
        email_notifications: Some(enabled),
        links: [("dropzone".to_owned(), link(enabled, "in"))].into(),
        attributes: None,
    };
    let own =
        |enabled| pb::Account { profile: Some(profile()), settings: Some(settings(enabled)), ..of(&made.id) };
    for (client, enabled) in [(bot.clone(), true), (bot.with_jwt().await, false)] {
        let after = update(&client, own(enabled), &[]).await.unwrap();
        assert_eq!(after.settings.unwrap().links["dropzone"].enabled, enabled);
    }
    let kept = pb::AccountSettings { attributes: Some(attributes("k", "v")), ..settings(true) };
    let more = pb::Account {
        name: "robot".into(),
        contact_email: Some("a@example.org".into()),
        description: Some("x".into()),
        settings: Some(kept),
        ..own(true)
    };
    for (client, account, paths) in [
        (&bot, more.clone(), &[][..]),
        (&bot, more.clone(), &["settings"]),
        (&bot, more.clone(), &["settings.attributes"]),
        (&bot, more.clone(), &["profile.locale", "description"]),
        (&bot, more.clone(), &["contact_email"]),
        (&bot, more.clone(), &["name"]),
        (&bot, more.clone(), &["username"]),
        (&bot, pb::Account { id: other.id.clone(), ..own(true) }, &["profile"]),
        (&bot, pb::Account { id: "rubbish".into(), ..own(true) }, &["profile"]),
        (&auditor, own(true), &["profile"]),
    ] {
        refused(update(client, account, paths).await, Code::PermissionDenied, "PERMISSION_MISSING");
    }
    // With the right, all of it; and by oneself, too.
    let (manager, managing) = server.account(&org.id, "manager", &[("manager", "*")]).await;
    update(&managing, more.clone(), &[]).await.unwrap();
    update(&managing, pb::Account { description: Some("me".into()), ..of(&manager.id) }, &[]).await.unwrap();
}

#[tokio::test]
async fn a_narrowed_credential_only_reads_oneself() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.resources(&org.id, &["a"]).await;
    let (made, bot) = server.account(&org.id, "bot", &[("invoices.read", "*"), ("accounts.read", "a")]).await;
    let token = async |scopes: &[&str], resources: &[&str]| {
        let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let request = pb::CreateTokenRequest {
            scopes: list(scopes),
            resources: list(resources),
            ..token_for(&org.id, &made.id)
        };
        let made = server.operator.tokens().create_token(request).await.unwrap().into_inner();
        server.client(made.secret)
    };
    let request = pb::ExchangeTokenRequest {
        subject_token: Some(bot.token().into()),
        scopes: vec!["invoices.read".into()],
        ..Default::default()
    };
    let jwt = bot.tokens().exchange_token(request).await.unwrap().into_inner().access_token;
    let scoped = token(&["invoices.read"], &[]).await;
    for client in [&scoped.with_jwt().await, &scoped, &token(&[], &["a"]).await, &server.client(jwt)] {
        let get = pb::GetAccountRequest { account_id: made.id.clone(), ..Default::default() };
        client.accounts().get_account(get).await.unwrap();
        let change = pb::Account { profile: Some(profile()), ..of(&made.id) };
        refused(update(client, change, &[]).await, Code::PermissionDenied, "PERMISSION_MISSING");
    }
    // A scope that names the right is a right, and no longer one of oneself.
    let (manager, _) = server.account(&org.id, "manager", &[("manager", "*")]).await;
    let request =
        pb::CreateTokenRequest { scopes: vec!["accounts.write".into()], ..token_for(&org.id, &manager.id) };
    let made = server.operator.tokens().create_token(request).await.unwrap().into_inner();
    let change = pb::Account { profile: Some(profile()), ..of(&manager.id) };
    update(&server.client(made.secret), change, &[]).await.unwrap();
}

#[tokio::test]
async fn updates_that_are_refused() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (made, _) = server.account(&org.id, "bot", &[]).await;
    let keep = |settings| pb::Account { settings: Some(settings), ..of(&made.id) };
    let show = |profile| pb::Account { profile: Some(profile), ..of(&made.id) };
    let many = (0..17).map(|n| (format!("kind_{n}"), link(true, "x"))).collect();
    let none = pb::AccountSettings::default;
    let empty = pb::Profile::default;
    let say = |text: &str| Some(text.to_owned());
    for (account, paths, fields) in [
        (of(&org.id), &["name"][..], &["account.id"][..]),
        (of("acct_x"), &["nosuch"], &["account.id", "update_mask"]),
        (of(&made.id), &[], &["update_mask"]),
        (of(&made.id), &["*"], &["update_mask"]),
        (made.clone(), &["etag", "id", "profile.nosuch"], &["update_mask", "update_mask", "update_mask"]),
        (made.clone(), &["state"], &["update_mask"]),
        (of(&made.id), &["name"], &["account.name"]),
        (pb::Account { name: "x".repeat(64), ..of(&made.id) }, &[], &["account.name"]),
        (pb::Account { name: "my bot".into(), ..of(&made.id) }, &[], &["account.name"]),
        (pb::Account { contact_email: say("nobody"), ..of(&made.id) }, &[], &["account.contact_email"]),
        (pb::Account { description: Some("x".repeat(1_001)), ..of(&made.id) }, &[], &["account.description"]),
        (pb::Account { description: say("a\u{7}b"), ..of(&made.id) }, &[], &["account.description"]),
        (
            show(pb::Profile {
                display_name: Some("x".repeat(101)),
                given_name: say("a\nb"),
                family_name: say("http://x"),
                phone_number: say("+1234567890123456"),
                locale: say("not_a_locale"),
                zoneinfo: say("Europe/"),
            }),
            &[],
            &[
                "account.profile.display_name",
                "account.profile.given_name",
                "account.profile.family_name",
                "account.profile.phone_number",
                "account.profile.locale",
                "account.profile.zoneinfo",
            ],
        ),
        // What the mask does not name is not checked.
        (
            show(pb::Profile { display_name: say("\u{202e}"), given_name: say("://"), ..empty() }),
            &["profile.given_name"],
            &["account.profile.given_name"],
        ),
        (keep(pb::AccountSettings { links: many, ..none() }), &[], &["account.settings.links"]),
        (
            keep(pb::AccountSettings { attributes: Some(attributes("k", &"x".repeat(16 << 10))), ..none() }),
            &[],
            &["account.settings.attributes"],
        ),
    ] {
        let refusal = update(&org.owner, account, paths).await;
        assert_eq!(violated(&refused(refusal, Code::InvalidArgument, "INVALID_FIELD")), fields);
    }
    let request = pb::UpdateAccountRequest::default();
    let refusal =
        refused(org.owner.accounts().update_account(request).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&refusal), ["account.id", "update_mask"]);
    let nobody = pb::Account { name: "x".into(), ..of("acct_00000000000000000000000000") };
    refused(update(&org.owner, nobody, &[]).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    let foreign = server.org().await;
    let theirs = pb::Account { name: "x".into(), ..of(&foreign.owner_id) };
    refused(update(&org.owner, theirs, &[]).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    // A user is given no slug.
    let ann = user(&org.owner, "ann@example.org").await;
    let links = [("dropzone".to_owned(), link(true, ""))];
    let bare = pb::AccountSettings { links: links.into(), ..none() };
    let refusal = update(&org.owner, pb::Account { settings: Some(bare), ..of(&ann.id) }, &[]).await;
    let refusal = refused(refusal, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&refusal), ["account.settings.links[dropzone].slug"]);
    assert!(events(&server, &made.id).await.is_empty());
}

#[tokio::test]
async fn an_etag_is_what_the_caller_saw() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (made, _) = server.account(&org.id, "bot", &[]).await;
    let say = |text: &str, etag: &str| pb::Account {
        description: Some(text.into()),
        etag: etag.into(),
        ..of(&made.id)
    };
    for stale in ["0", "2", "x", &format!("{} ", made.etag)] {
        let refusal = update(&org.owner, say("x", stale), &[]).await;
        refused(refusal, Code::Aborted, "ETAG_MISMATCH");
    }
    // Of two at once from the same place, one.
    let (a, b) = tokio::join!(
        update(&org.owner, say("a", &made.etag), &[]),
        update(&org.owner, say("b", &made.etag), &[])
    );
    assert!(a.is_ok() != b.is_ok());
    refused(if a.is_ok() { b } else { a }, Code::Aborted, "ETAG_MISMATCH");
    update(&org.owner, say("c", ""), &[]).await.unwrap();
    assert_eq!(events(&server, &made.id).await.len(), 2);
}

#[tokio::test]
async fn of_two_who_take_a_slug_at_once_one_has_it() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (one, _) = server.account(&org.id, "one", &[]).await;
    let (two, _) = server.account(&org.id, "two", &[]).await;
    for n in 0..5 {
        let take = |id: &str| {
            let links = [("dropzone".to_owned(), link(true, &format!("slug-{n}")))].into();
            let settings = pb::AccountSettings { links, ..Default::default() };
            update(&org.owner, pb::Account { settings: Some(settings), ..of(id) }, &[])
        };
        let (a, b) = tokio::join!(take(&one.id), take(&two.id));
        assert!(a.is_ok() != b.is_ok());
        refused(if a.is_ok() { b } else { a }, Code::AlreadyExists, "RESOURCE_EXISTS");
    }
}
