//! Accounts: what they keep, and how it changes.

use std::collections::BTreeMap;

use countersign::grpc::pb;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use tonic::{Code, Status};

use crate::harness::{Client, TestServer, refused, violated};

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
    let numbers = [0.0, -1.5, 0.1, 1e16, 1e19, 1e300, 5e-324, 9_007_199_254_740_993.0];
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
async fn a_slug_is_unique_in_the_org_for_each_kind() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let with = |kind: &str, enabled| pb::AccountSettings {
        links: links([(kind, link(enabled, "taken"))]),
        ..Default::default()
    };
    bot(&org.owner, "first", with("dropzone", false)).await.unwrap();
    bot(&org.owner, "another-kind", with("personal_url", true)).await.unwrap();
    // Switched off, it is held all the same.
    let refusal = bot(&org.owner, "second", with("dropzone", true)).await;
    let refusal = refused(refusal, Code::AlreadyExists, "RESOURCE_EXISTS");
    assert!(refusal.message().contains("dropzone/taken"), "{}", refusal.message());
    let other = server.org().await;
    bot(&other.owner, "first", with("dropzone", true)).await.unwrap();
}
