//! Bad input, each with its exact code and reason.

use countersign::domain::values::ids::TokenId;
use countersign::domain::values::token_string::{TokenString, TokenStringKind};
use countersign::grpc::pb;
use prost_types::{Duration, Timestamp};
use tonic::{Code, Request};
use tonic_types::StatusExt as _;

use crate::harness::{Client, TestServer, by_id, grant, header_bytes, refused, token_for, violated};

/// Strings that are no credential, derived from a good one.
fn bad_tokens(good: &str) -> Vec<(&'static str, String)> {
    let unknown =
        TokenString::new(TokenStringKind::SecretToken, TokenId::from_u128(7), [7; 32]).expose().to_owned();
    let id = TokenString::parse(good).unwrap().id();
    let wrong_secret = TokenString::new(TokenStringKind::SecretToken, id, [7; 32]).expose().to_owned();
    let mut flipped = good.to_owned();
    let last = if flipped.ends_with('0') { '1' } else { '0' };
    flipped.replace_range(82.., &last.to_string());
    vec![
        ("malformed", "csign_sat_x".into()),
        ("of another brand", good.replacen("csign", "acme", 1)),
        ("truncated", good[..60].into()),
        ("one character short", good[..82].into()),
        ("wrong checksum", flipped),
        ("overflowing", format!("csign_sat_{}_{}_zzzzzz", "z".repeat(22), "z".repeat(43))),
        ("of another kind", good.replacen("_sat_", "_pub_", 1)),
        ("unknown id", unknown),
        ("wrong secret", wrong_secret),
        ("1 000 characters", "csign_sat_".repeat(100)),
        ("not ASCII", "csign_sat_ééé".into()),
    ]
}

#[tokio::test]
async fn before_the_secret_matched_every_failure_looks_alike() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let id = org.owner.caller().await.unwrap().credential_id;
    let mut messages = std::collections::BTreeSet::new();
    for round in 0..2 {
        for (what, text) in bad_tokens(org.owner.token()) {
            let request =
                pb::ExchangeTokenRequest { subject_token: Some(text.clone()), ..Default::default() };
            let refusal = server.anonymous().tokens().exchange_token(request).await;
            let refusal = refused(refusal, Code::Unauthenticated, "TOKEN_INVALID");
            assert!(messages.insert(refusal.message().to_owned()) || messages.len() == 1, "{what}");
            if text.is_ascii() {
                refused(server.client(text).caller().await, Code::Unauthenticated, "TOKEN_INVALID");
            }
        }
        if round == 0 {
            // Whether it is revoked makes no difference to a caller without the secret.
            server.operator.tokens().revoke_token(by_id(&org.id, &id)).await.unwrap();
        }
    }
    assert_eq!(messages.len(), 1);
    refused(org.owner.exchange().await, Code::Unauthenticated, "TOKEN_REVOKED");
}

#[tokio::test]
async fn junk_asks_the_database_nothing() {
    let server = TestServer::start().await;
    server.state.close().await;
    let known_shape = ["unknown id", "wrong secret"];
    for (what, text) in bad_tokens(server.operator.token()) {
        if !known_shape.contains(&what) {
            let request = pb::ExchangeTokenRequest { subject_token: Some(text), ..Default::default() };
            let refusal = server.anonymous().tokens().exchange_token(request).await;
            refused(refusal, Code::Unauthenticated, "TOKEN_INVALID");
        }
    }
    refused(server.client("a.b.c").caller().await, Code::Unauthenticated, "ACCESS_TOKEN_INVALID");
}

#[tokio::test]
async fn garbage_in_the_authorization() {
    let server = TestServer::start().await;
    for garbage in ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "rubbish", "Bearer a b", "bearer\trubbish"]
    {
        let mut request = Request::new(pb::GetCallerRequest {});
        request.metadata_mut().insert("authorization", garbage.parse().unwrap());
        let answer = server.anonymous().accounts().get_caller(request).await;
        refused(answer, Code::Unauthenticated, "TOKEN_INVALID");
    }
    // Twice, the second one good.
    let good: tonic::metadata::MetadataValue<_> =
        format!("Bearer {}", server.operator.token()).parse().unwrap();
    let mut request = Request::new(pb::GetCallerRequest {});
    request.metadata_mut().append("authorization", "Bearer x".parse().unwrap());
    request.metadata_mut().append("authorization", good.clone());
    refused(server.anonymous().accounts().get_caller(request).await, Code::Unauthenticated, "TOKEN_INVALID");
    // The scheme is case-insensitive (RFC 9110, section 11.1).
    let mut request = Request::new(pb::GetCallerRequest {});
    let lower = format!("bearer {}", server.operator.token());
    request.metadata_mut().insert("authorization", lower.parse().unwrap());
    server.anonymous().accounts().get_caller(request).await.unwrap();
}

#[tokio::test]
async fn exchanges_that_ask_too_much() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let request = pb::CreateServiceAccountRequest {
        name: "bot".into(),
        grants: vec![grant("invoices.read", "*")],
        ..Default::default()
    };
    let account =
        org.owner.accounts().create_service_account(request).await.unwrap().into_inner().account.unwrap();
    let request = pb::CreateTokenRequest {
        allowed_audiences: vec!["https://a.example".into()],
        ..token_for("", &account.id)
    };
    let bot = server.client(org.owner.tokens().create_token(request).await.unwrap().into_inner().secret);
    let ask = async |request: pb::ExchangeTokenRequest| {
        bot.tokens()
            .exchange_token(pb::ExchangeTokenRequest { subject_token: Some(bot.token().into()), ..request })
            .await
    };
    let scopes = |scopes: &[&str]| pb::ExchangeTokenRequest {
        scopes: scopes.iter().map(|scope| (*scope).into()).collect(),
        audiences: vec!["https://a.example".into()],
        ..Default::default()
    };
    let refusal = refused(
        ask(scopes(&["invoices.read", "invoices.write"])).await,
        Code::PermissionDenied,
        "SCOPE_NOT_HELD",
    );
    assert!(refusal.message().contains("invoices.write") && !refusal.message().contains("invoices.read"));
    let audience = |audiences: &[&str]| pb::ExchangeTokenRequest {
        audiences: audiences.iter().map(|audience| (*audience).into()).collect(),
        ..Default::default()
    };
    ask(audience(&["https://a.example"])).await.unwrap();
    for refused_one in
        [&["https://b.example"][..], &["https://a.example", "https://b.example"], &[&server.endpoint]]
    {
        refused(ask(audience(refused_one)).await, Code::InvalidArgument, "INVALID_TARGET");
    }
    let both = pb::ExchangeTokenRequest {
        subject_token: Some(org.owner.token().into()),
        audiences: vec![server.endpoint.clone(), "https://b.example".into()],
        ..Default::default()
    };
    refused(org.owner.tokens().exchange_token(both).await, Code::InvalidArgument, "INVALID_TARGET");

    let ttl = |seconds, nanos| pb::ExchangeTokenRequest {
        requested_ttl: Some(Duration { seconds, nanos }),
        audiences: vec!["https://a.example".into()],
        ..Default::default()
    };
    for (seconds, nanos) in [
        (0, 0),
        (-1, 0),
        (0, -1),
        (3_600, 1),
        (3_601, 0),
        (i64::MAX, 0),
        (i64::MIN, 0),
        (1, -1),
        (1, i32::MAX),
    ] {
        let refusal = refused(ask(ttl(seconds, nanos)).await, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&refusal), ["requested_ttl"], "{seconds} {nanos}");
    }
    ask(ttl(3_600, 0)).await.unwrap();
    ask(ttl(0, 1)).await.unwrap();

    let wrong = |scopes| pb::ExchangeTokenRequest { scopes, audiences: vec!["a b".into()], ..ttl(0, 0) };
    let refusal = refused(ask(wrong(vec!["-".into()])).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&refusal), ["audiences[0]", "scopes[0]", "requested_ttl"]);
    // A list that is too long is refused before the rest is read.
    let many = vec!["invoices.read".to_owned(); 101];
    let refusal = refused(ask(wrong(many)).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&refusal), ["scopes"]);
}

async fn create(client: &Client, name: &str) -> Result<pb::Account, tonic::Status> {
    let request = pb::CreateServiceAccountRequest { name: name.into(), ..Default::default() };
    Ok(client.accounts().create_service_account(request).await?.into_inner().account.unwrap())
}

#[tokio::test]
async fn names_of_accounts() {
    let server = TestServer::start().await;
    let owner = server.org().await.owner;
    let longest = "x".repeat(63);
    for bad in [
        "",
        " ",
        "my account",
        "a/b",
        "a.b",
        "a@b",
        "-a",
        "_a",
        "x\n",
        "аpple",
        "naïve",
        "ｆｕｌｌ",
        &format!("{longest}x"),
    ] {
        let refusal = refused(create(&owner, bad).await, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&refusal), ["name"], "{bad:?}");
    }
    assert_eq!(create(&owner, &longest).await.unwrap().name, longest);
    let account = create(&owner, "Build_Bot-1").await.unwrap();
    assert_eq!(account.kind(), pb::AccountKind::ServiceAccount);
    assert_eq!(account.state(), pb::AccountState::Active);
    assert!(account.username.starts_with("build_bot-1@") && account.username.ends_with(".127.0.0.1"));
    assert_eq!(account.title, account.username);
    // The same name in another case is the same name.
    refused(create(&owner, "build_bot-1").await, Code::AlreadyExists, "RESOURCE_EXISTS");
    sqlx::query("update accounts set delete_time = now() where name_key = 'build_bot-1'")
        .execute(&server.state.db)
        .await
        .unwrap();
    refused(create(&owner, "build_bot-1").await, Code::AlreadyExists, "NAME_HELD_BY_DELETED_ACCOUNT");
}

#[tokio::test]
async fn fields_of_accounts() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let request = pb::CreateServiceAccountRequest {
        name: "bot".into(),
        profile: Some(pb::Profile {
            display_name: Some("http://evil".into()),
            given_name: Some(String::new()),
            family_name: Some("x\u{202e}y".into()),
            phone_number: Some("12".into()),
            locale: Some("english!".into()),
            zoneinfo: Some("Mars/../x".into()),
        }),
        contact_email: "nobody".into(),
        description: "x".repeat(1_001),
        username: "é@x".into(),
        grants: vec![
            pb::Grant::default(),
            grant("invoices.read", ""),
            grant("no role", "*"),
            grant("tokens.steal", "A"),
        ],
        request_id: "1".into(),
        ..Default::default()
    };
    let refusal = refused(
        org.owner.accounts().create_service_account(request).await,
        Code::InvalidArgument,
        "INVALID_FIELD",
    );
    let wrong = [
        "profile.display_name",
        "profile.given_name",
        "profile.family_name",
        "profile.phone_number",
        "profile.locale",
        "profile.zoneinfo",
        "contact_email",
        "username",
        "description",
        "grants[0].right",
        "grants[0].resource",
        "grants[1].resource",
        "grants[2].right",
        "grants[3].right",
        "grants[3].resource",
        "request_id",
    ];
    // Those that fit into a status, in their order; the others are counted.
    let listed = violated(&refusal);
    assert!(listed.len() > 10 && listed == wrong[..listed.len()], "{listed:?}");
    let omitted = refusal.get_details_error_info().unwrap().metadata.remove("omitted");
    assert_eq!(omitted.map_or(0, |count| count.parse().unwrap()), wrong.len() - listed.len());
    let good = pb::CreateServiceAccountRequest {
        name: "bot".into(),
        profile: Some(pb::Profile {
            display_name: Some("Build bot".into()),
            locale: Some("en".into()),
            ..Default::default()
        }),
        contact_email: "Team@Example.org".into(),
        description: "Builds.\nAnd tests.".into(),
        username: format!("builder@{}", org.slug),
        ..Default::default()
    };
    let account = org
        .owner
        .accounts()
        .create_service_account(good.clone())
        .await
        .unwrap()
        .into_inner()
        .account
        .unwrap();
    assert_eq!((account.title.as_str(), account.contact_email()), ("Build bot", "team@example.org"));
    assert_eq!(account.username, format!("builder@{}", org.slug));
    // Usernames are unique across the deployment and lie under the org's own suffix.
    let again = pb::CreateServiceAccountRequest { name: "other".into(), ..good.clone() };
    refused(org.owner.accounts().create_service_account(again).await, Code::AlreadyExists, "RESOURCE_EXISTS");
    let elsewhere =
        pb::CreateServiceAccountRequest { name: "other".into(), username: "a@example.org".into(), ..good };
    let refusal = org.owner.accounts().create_service_account(elsewhere).await;
    assert_eq!(violated(&refused(refusal, Code::InvalidArgument, "INVALID_FIELD")), ["username"]);
}

#[tokio::test]
async fn ids_of_the_wrong_kind_and_of_nobody() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let accounts = || org.owner.accounts();
    for bad in ["", "x", &org.id, "acct_", "acct_8zzzzzzzzzzzzzzzzzzzzzzzzz"] {
        let get = pb::GetAccountRequest { account_id: bad.into(), ..Default::default() };
        let refusal = refused(accounts().get_account(get).await, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&refusal), ["account_id"]);
    }
    let nobody = "acct_00000000000000000000000000";
    let get = pb::GetAccountRequest { account_id: nobody.into(), ..Default::default() };
    refused(accounts().get_account(get).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    let get = pb::GetAccountRequest { org_id: org.owner_id.clone(), account_id: nobody.into() };
    refused(accounts().get_account(get).await, Code::InvalidArgument, "INVALID_FIELD");
    // Another org's account under our own org, and under theirs.
    let foreign = server.org().await;
    for org_id in ["", &foreign.id] {
        let get = pb::GetAccountRequest { org_id: org_id.into(), account_id: foreign.owner_id.clone() };
        refused(accounts().get_account(get).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    }
    // An org that does not exist, for a caller that may name any.
    let get = pb::GetOrgRequest { org_id: "org_00000000000000000000000000".into() };
    refused(server.operator.orgs().get_org(get).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    let list =
        pb::ListAccountsRequest { org_id: "org_00000000000000000000000000".into(), ..Default::default() };
    refused(server.operator.accounts().list_accounts(list).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    let get = pb::GetTokenRequest { token_id: "tok_00000000000000000000000000".into(), ..Default::default() };
    refused(org.owner.tokens().get_token(get).await, Code::NotFound, "RESOURCE_NOT_FOUND");
}

#[tokio::test]
async fn resources_and_orgs() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let create = async |path: &str| {
        let request = pb::CreateResourceRequest { path: path.into(), ..Default::default() };
        org.owner
            .orgs()
            .create_resource(request)
            .await
            .map(|answer| answer.into_inner().resource.unwrap().path)
    };
    for bad in ["", "*", "/", "a/", "A", "a b", "a/b/c/d/e/f/g/h/i", &"a".repeat(64)] {
        let refusal = refused(create(bad).await, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&refusal), ["path"], "{bad:?}");
    }
    assert_eq!(
        create("subscriptions/yuno/perimeters/emea").await.unwrap(),
        "subscriptions/yuno/perimeters/emea"
    );
    refused(create("subscriptions/yuno").await, Code::AlreadyExists, "RESOURCE_EXISTS");
    refused(create("subscriptions/yuno/perimeters/emea").await, Code::AlreadyExists, "RESOURCE_EXISTS");
    create("subscriptions/yuno2").await.unwrap();
    let list = async |parent: &str| {
        let request = pb::ListResourcesRequest { parent: parent.into(), ..Default::default() };
        let answer = org.owner.orgs().list_resources(request).await.unwrap().into_inner();
        answer.resources.into_iter().map(|resource| resource.path).collect::<Vec<_>>()
    };
    assert_eq!(list("").await.len(), 5);
    assert_eq!(
        list("subscriptions/yuno").await,
        ["subscriptions/yuno", "subscriptions/yuno/perimeters", "subscriptions/yuno/perimeters/emea"]
    );

    let mut request = crate::harness::create_org("taken");
    server.operator.orgs().create_org(request.clone()).await.unwrap();
    refused(server.operator.orgs().create_org(request.clone()).await, Code::AlreadyExists, "RESOURCE_EXISTS");
    // The system's own slug was in use first.
    request.slug = "system".into();
    refused(server.operator.orgs().create_org(request).await, Code::AlreadyExists, "RESOURCE_EXISTS");
}

#[tokio::test]
async fn tokens_that_cannot_be_made() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let create = async |request: pb::CreateTokenRequest| {
        let request =
            pb::CreateTokenRequest { org_id: org.id.clone(), account_id: org.owner_id.clone(), ..request };
        server.operator.tokens().create_token(request).await.map(|answer| answer.into_inner().token.unwrap())
    };
    let empty = pb::CreateTokenRequest::default;
    let ttl = |seconds| Some(pb::create_token_request::Expiration::Ttl(Duration { seconds, nanos: 0 }));
    let end =
        |seconds| Some(pb::create_token_request::Expiration::ExpireTime(Timestamp { seconds, nanos: 0 }));
    let now = server.state.clock.now().unix_timestamp();
    for (request, field) in [
        (pb::CreateTokenRequest { scopes: vec!["tokens.steal".into()], ..empty() }, "scopes[0]"),
        (pb::CreateTokenRequest { scopes: vec!["a.b".into(); 101], ..empty() }, "scopes"),
        (pb::CreateTokenRequest { resources: vec!["A".into()], ..empty() }, "resources[0]"),
        (pb::CreateTokenRequest { resources: vec!["nowhere".into()], ..empty() }, "resources[0]"),
        (pb::CreateTokenRequest { allowed_audiences: vec!["a b".into()], ..empty() }, "allowed_audiences[0]"),
        (pb::CreateTokenRequest { display_name: "x".repeat(101), ..empty() }, "display_name"),
        (pb::CreateTokenRequest { kind: 99, ..empty() }, "kind"),
        (pb::CreateTokenRequest { request_id: "1".into(), ..empty() }, "request_id"),
        (pb::CreateTokenRequest { expiration: ttl(0), ..empty() }, "ttl"),
        (pb::CreateTokenRequest { expiration: ttl(-1), ..empty() }, "ttl"),
        (pb::CreateTokenRequest { expiration: ttl(3_650 * 86_400 + 1), ..empty() }, "ttl"),
        (pb::CreateTokenRequest { expiration: ttl(i64::MAX), ..empty() }, "ttl"),
        (pb::CreateTokenRequest { expiration: end(now - 1), ..empty() }, "expire_time"),
        (pb::CreateTokenRequest { expiration: end(i64::MAX), ..empty() }, "expire_time"),
    ] {
        let refusal = refused(create(request).await, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&refusal), [field]);
    }
    let token = create(pb::CreateTokenRequest { expiration: ttl(3_650 * 86_400), ..empty() }).await.unwrap();
    assert_eq!(token.expire_time.unwrap().seconds - token.create_time.unwrap().seconds, 3_650 * 86_400);
    let token = create(empty()).await.unwrap();
    assert_eq!(token.expire_time.unwrap().seconds - token.create_time.unwrap().seconds, 365 * 86_400);
    assert_eq!((token.kind(), token.state()), (pb::TokenKind::Secret, pb::TokenState::Active));
    assert_eq!(token.secrets.len(), 1);

    // A scope that the account does not hold is a mistake.
    let (bot, _) = server.account(&org.id, "bot", &[("invoices.read", "*")]).await;
    let request =
        pb::CreateTokenRequest { scopes: vec!["invoices.write".into()], ..token_for(&org.id, &bot.id) };
    refused(server.operator.tokens().create_token(request).await, Code::PermissionDenied, "SCOPE_NOT_HELD");
    let request = token_for(&org.id, "acct_00000000000000000000000000");
    refused(server.operator.tokens().create_token(request).await, Code::NotFound, "RESOURCE_NOT_FOUND");
}

/// The first and the last second that `google.protobuf.Timestamp` knows.
const FIRST: i64 = -62_135_596_800;
const LAST: i64 = 253_402_300_799;

#[tokio::test]
async fn times_end_where_the_years_of_four_digits_do() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let token = org.owner.caller().await.unwrap().credential_id;
    let ask = async |at: Timestamp| {
        let time = Some(at);
        let end = pb::create_token_request::Expiration::ExpireTime(at);
        let create = pb::CreateTokenRequest { expiration: Some(end), ..token_for(&org.id, &org.owner_id) };
        let changed = pb::Token { id: token.clone(), expire_time: time, ..Default::default() };
        let update = pb::UpdateTokenRequest { token: Some(changed), ..Default::default() };
        let events = pb::ListEventsRequest::default;
        let tokens = pb::ListTokensRequest::default;
        let list_events = async |request| org.owner.orgs().list_events(request).await.map(drop);
        let list_tokens = async |request| org.owner.tokens().list_tokens(request).await.map(drop);
        [
            ("start_time", list_events(pb::ListEventsRequest { start_time: time, ..events() }).await),
            ("end_time", list_events(pb::ListEventsRequest { end_time: time, ..events() }).await),
            ("idle_since", list_tokens(pb::ListTokensRequest { idle_since: time, ..tokens() }).await),
            ("expires_before", list_tokens(pb::ListTokensRequest { expires_before: time, ..tokens() }).await),
            ("expire_time", org.owner.tokens().create_token(create).await.map(drop)),
            ("token.expire_time", org.owner.tokens().update_token(update).await.map(drop)),
        ]
    };
    for (seconds, nanos) in [(FIRST, 0), (LAST, 999_999_999)] {
        for (field, answer) in ask(Timestamp { seconds, nanos }).await {
            if field.contains("expire_time") {
                // A valid time, but not one at which this token may expire.
                let refusal = answer.unwrap_err();
                assert_eq!(refusal.code(), Code::InvalidArgument, "{field}: {refusal:?}");
                assert!(!refusal.message().contains("9999"), "{field}: {}", refusal.message());
            } else {
                answer.unwrap_or_else(|status| panic!("{field} {seconds}: {status:?}"));
            }
        }
    }
    for (seconds, nanos) in [
        (FIRST - 1, 0),
        (FIRST - 1, 999_999_999),
        (LAST + 1, 0),
        (LAST, 1_000_000_000),
        (0, -1),
        (i64::MIN, 0),
        (i64::MAX, 0),
    ] {
        for (field, answer) in ask(Timestamp { seconds, nanos }).await {
            let refusal = refused(answer, Code::InvalidArgument, "INVALID_FIELD");
            assert_eq!(violated(&refusal), [field], "{seconds} {nanos}");
            assert!(
                refusal.message().contains("0001-01-01T00:00:00Z to 9999-12-31"),
                "{}",
                refusal.message()
            );
        }
    }
}

#[tokio::test]
async fn a_long_refusal_fits_into_the_headers_of_every_client() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (manager, client) = server.account(&org.id, "manager", &[("manager", "*")]).await;
    let path = vec!["x".repeat(63); 7].join("/");
    let grants = (0..100).map(|n| grant(&format!("application_{n}.read"), &path)).collect();
    let request = pb::GrantAccessRequest { account_id: manager.id, grants, ..Default::default() };
    let refusal = client.accounts().grant_access(request).await;
    let refusal = refused(refusal, Code::PermissionDenied, "GRANT_EXCEEDS_CALLER");
    // Below the 8 KiB at which the strictest clients begin to refuse.
    assert!(header_bytes(refusal) < 7_000);
    let names = vec!["tokens.steal".to_owned(); 100];
    let request = pb::ExchangeTokenRequest {
        subject_token: Some(org.owner.token().into()),
        scopes: names.clone(),
        audiences: vec!["a b".into(); 100],
        ..Default::default()
    };
    let refusal =
        refused(org.owner.tokens().exchange_token(request).await, Code::InvalidArgument, "INVALID_FIELD");
    assert!(header_bytes(refusal) < 7_000);
}

#[tokio::test]
async fn violations_name_the_place_in_the_request() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let grants = vec![grant("a.b", "*"), grant("a.b", "*"), grant("a.b", "nowhere")];
    let request = pb::GrantAccessRequest { account_id: org.owner_id.clone(), grants, ..Default::default() };
    let refusal =
        refused(org.owner.accounts().grant_access(request).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&refusal), ["grants[2].resource"]);
    let request = pb::RevokeTokenRequest { reason: 99, ..by_id("", "x") };
    let refusal =
        refused(org.owner.tokens().revoke_token(request).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&refusal), ["token_id", "reason"]);
}

#[tokio::test]
async fn a_token_of_a_person_is_refused() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (person, _) = server.account(&org.id, "person", &[]).await;
    sqlx::query("update accounts set kind = 'USER', name = null, name_key = null where name = 'person'")
        .execute(&server.state.db)
        .await
        .unwrap();
    let refusal = server.operator.tokens().create_token(token_for(&org.id, &person.id)).await;
    refused(refusal, Code::InvalidArgument, "TARGET_NOT_SERVICE_ACCOUNT");
}

#[tokio::test]
async fn ten_thousand_grants_in_one_call() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let grants = vec![grant("invoices.read", "*"); 10_000];
    let request = pb::GrantAccessRequest { account_id: org.owner_id.clone(), grants, ..Default::default() };
    let refusal =
        refused(org.owner.accounts().grant_access(request).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&refusal), ["grants"]);
}
