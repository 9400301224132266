//! Where tokens work from and what for: kinds, origins, networks, purposes; and the
//! labels they are found by.

use countersign::config::ServerLimits;
use countersign::grpc::pb;
use tonic::{Code, Request, Status};

use crate::harness::{Client, LIMITS, Org, TestServer, by_text, claims, refused, token_for, violated};

const APP: &str = "https://app.example";
const OTHER: &str = "https://other.example";

struct World {
    server: TestServer,
    org: Org,
    /// Holds `invoices.read` and `tokens.introspect`.
    bot: pb::Account,
    bot_client: Client,
}

impl World {
    async fn new() -> Self {
        let server = TestServer::start().await;
        let org = server.org().await;
        let grants = [("invoices.read", "*"), ("tokens.introspect", "*")];
        let (bot, bot_client) = server.account(&org.id, "bot", &grants).await;
        Self { server, org, bot, bot_client }
    }

    fn publishable(&self) -> pb::CreateTokenRequest {
        pb::CreateTokenRequest {
            kind: pb::TokenKind::Publishable.into(),
            scopes: vec!["invoices.read".into()],
            allowed_origins: vec![APP.into(), "http://localhost:3000".into()],
            ..token_for(&self.org.id, &self.bot.id)
        }
    }

    async fn make(&self, request: pb::CreateTokenRequest) -> (pb::Token, Client) {
        let made = self.org.owner.tokens().create_token(request).await.unwrap().into_inner();
        (made.token.unwrap(), self.server.client(made.secret))
    }

    async fn refuse(&self, request: pb::CreateTokenRequest) -> Vec<String> {
        let refusal = self.org.owner.tokens().create_token(request).await;
        violated(&refused(refusal, Code::InvalidArgument, "INVALID_FIELD"))
    }
}

/// An exchange by a page of this origin.
async fn exchange_from(client: &Client, origin: &str) -> Result<pb::ExchangeTokenResponse, Status> {
    let mut request = Request::new(pb::ExchangeTokenRequest {
        subject_token: Some(client.token().into()),
        ..Default::default()
    });
    request.metadata_mut().insert("origin", origin.parse().unwrap());
    Ok(client.tokens().exchange_token(request).await?.into_inner())
}

async fn exchange_told(
    caller: &Client,
    subject: &Client,
    origin: &str,
    client_address: &str,
) -> Result<pb::ExchangeTokenResponse, Status> {
    let request = pb::ExchangeTokenRequest {
        subject_token: Some(subject.token().into()),
        origin: origin.into(),
        client_address: client_address.into(),
        ..Default::default()
    };
    Ok(caller.tokens().exchange_token(request).await?.into_inner())
}

async fn introspect(caller: &Client, request: pb::IntrospectTokenRequest) -> pb::IntrospectTokenResponse {
    caller.tokens().introspect_token(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn a_publishable_token_works_from_its_origins_alone() {
    let world = World::new().await;
    let (token, client) = world.make(world.publishable()).await;
    assert_eq!(token.kind(), pb::TokenKind::Publishable);
    assert_eq!(token.allowed_origins, [APP, "http://localhost:3000"]);
    assert!(client.token().starts_with("csign_pub_"));
    assert!(token.secrets[0].obfuscated.starts_with("csign_pub_"));

    let jwt = exchange_from(&client, APP).await.unwrap();
    assert_eq!(jwt.scopes, ["invoices.read"]);
    assert_eq!(claims(&jwt.access_token)["token_kind"], "PUBLISHABLE");
    exchange_from(&client, "http://localhost:3000").await.unwrap();
    for other in [
        OTHER,
        "null",
        "http://app.example",
        "https://www.app.example",
        "https://app.example:8443",
        "https://app.example.evil.example",
        "junk",
        "",
    ] {
        refused(exchange_from(&client, other).await, Code::PermissionDenied, "ORIGIN_NOT_ALLOWED");
    }
    refused(client.exchange().await, Code::PermissionDenied, "ORIGIN_NOT_ALLOWED");
    // A secret token works from every origin.
    exchange_from(&world.bot_client, OTHER).await.unwrap();
}

#[tokio::test]
async fn what_is_publishable_opens_nothing_of_our_own() {
    let world = World::new().await;
    let (token, client) = world.make(world.publishable()).await;
    refused(client.caller().await, Code::Unauthenticated, "TOKEN_INVALID");
    let jwt = exchange_from(&client, APP).await.unwrap().access_token;
    let by_jwt = world.server.client(jwt.clone());
    refused(by_jwt.caller().await, Code::Unauthenticated, "ACCESS_TOKEN_INVALID");
    let mut from_page = Request::new(pb::GetCallerRequest {});
    from_page.metadata_mut().insert("origin", APP.parse().unwrap());
    // A page may exchange tokens, and nothing else.
    refused(by_jwt.accounts().get_caller(from_page).await, Code::Unimplemented, "METHOD_UNKNOWN");
    // Its string is public, and revokes nothing.
    let refusal = world.server.anonymous().tokens().revoke_token(by_text(client.token())).await;
    assert_eq!(violated(&refused(refusal, Code::InvalidArgument, "INVALID_FIELD")), ["token_text"]);
    exchange_from(&client, APP).await.unwrap();
    // For other services it is introspected as any other.
    let told = |origin: &str| pb::IntrospectTokenRequest {
        token_text: client.token().into(),
        origin: origin.into(),
        ..Default::default()
    };
    assert!(introspect(&world.bot_client, told(APP)).await.active);
    assert!(!introspect(&world.bot_client, told(OTHER)).await.active);
    assert!(!introspect(&world.bot_client, told("")).await.active);
    let of_jwt = |origin: &str| pb::IntrospectTokenRequest {
        token_text: jwt.clone(),
        origin: origin.into(),
        ..Default::default()
    };
    assert!(introspect(&world.bot_client, of_jwt("")).await.active);
    assert!(introspect(&world.bot_client, of_jwt(APP)).await.active);
    assert!(!introspect(&world.bot_client, of_jwt(OTHER)).await.active);
    // Revoked by its id, it is refused from its own origin too.
    world.org.owner.tokens().revoke_token(crate::harness::by_id("", &token.id)).await.unwrap();
    refused(exchange_from(&client, APP).await, Code::Unauthenticated, "TOKEN_REVOKED");
    assert!(!introspect(&world.bot_client, of_jwt(APP)).await.active);
}

#[tokio::test]
async fn each_kind_has_what_it_must_and_nothing_else() {
    let world = World::new().await;
    let publishable = world.publishable();
    let bare = pb::CreateTokenRequest {
        allowed_origins: Vec::new(),
        scopes: Vec::new(),
        may_manage_tokens: true,
        ..publishable.clone()
    };
    assert_eq!(world.refuse(bare).await, ["allowed_origins", "scopes", "may_manage_tokens"]);
    let own = pb::CreateTokenRequest {
        scopes: vec!["invoices.read".into(), "accounts.read".into()],
        ..publishable.clone()
    };
    assert_eq!(world.refuse(own).await, ["scopes[1]"]);
    let wild = pb::CreateTokenRequest {
        allowed_origins: vec!["https://*.example".into(), APP.into(), "null".into()],
        ..publishable.clone()
    };
    assert_eq!(world.refuse(wild).await, ["allowed_origins[0]", "allowed_origins[2]"]);
    let many = pb::CreateTokenRequest {
        allowed_origins: (0..101).map(|n| format!("https://a{n}.example")).collect(),
        ..publishable.clone()
    };
    assert_eq!(world.refuse(many).await, ["allowed_origins"]);
    let secret = pb::CreateTokenRequest { kind: pb::TokenKind::Secret.into(), ..publishable.clone() };
    assert_eq!(world.refuse(secret).await, ["allowed_origins"]);
    let unknown = pb::CreateTokenRequest { kind: 9, ..token_for(&world.org.id, &world.bot.id) };
    assert_eq!(world.refuse(unknown).await, ["kind"]);
    // As a browser writes it, once each.
    let folded = pb::CreateTokenRequest {
        allowed_origins: vec!["HTTPS://App.Example:443".into(), "https://bücher.example".into()],
        ..publishable
    };
    let (token, client) = world.make(folded).await;
    assert_eq!(token.allowed_origins, [APP, "https://xn--bcher-kva.example"]);
    exchange_from(&client, APP).await.unwrap();
}

#[tokio::test]
async fn networks_hold_for_exchanges_and_for_our_own_api() {
    let world = World::new().await;
    let base = token_for(&world.org.id, &world.bot.id);
    let near = pb::CreateTokenRequest {
        allowed_cidrs: vec!["127.0.0.0/8".into(), "::1".into()],
        may_manage_tokens: false,
        ..base.clone()
    };
    let (token, here) = world.make(near).await;
    assert_eq!(token.allowed_cidrs, ["127.0.0.0/8", "::1/128"]);
    here.caller().await.unwrap();
    here.with_jwt().await.caller().await.unwrap();
    let far = pb::CreateTokenRequest { allowed_cidrs: vec!["192.0.2.0/24".into()], ..base.clone() };
    let (_, there) = world.make(far).await;
    refused(there.exchange().await, Code::PermissionDenied, "ADDRESS_NOT_ALLOWED");
    refused(there.caller().await, Code::PermissionDenied, "ADDRESS_NOT_ALLOWED");
    // A trusted caller reports where it was presented; the JWT gives no access to our API from here.
    let jwt = exchange_told(&world.bot_client, &there, "", "192.0.2.9").await.unwrap().access_token;
    let refusal = world.server.client(jwt.clone()).caller().await;
    refused(refusal, Code::PermissionDenied, "ADDRESS_NOT_ALLOWED");
    let refusal = exchange_told(&world.bot_client, &there, "", "192.0.3.9").await;
    refused(refusal, Code::PermissionDenied, "ADDRESS_NOT_ALLOWED");
    exchange_told(&world.bot_client, &there, "", "::ffff:192.0.2.9").await.unwrap();

    let told = |text: &str, address: &str| pb::IntrospectTokenRequest {
        token_text: text.into(),
        client_address: address.into(),
        ..Default::default()
    };
    assert!(introspect(&world.bot_client, told(there.token(), "192.0.2.1")).await.active);
    assert!(!introspect(&world.bot_client, told(there.token(), "192.0.3.1")).await.active);
    assert!(!introspect(&world.bot_client, told(there.token(), "")).await.active, "unknown fails closed");
    assert!(introspect(&world.bot_client, told(&jwt, "")).await.active);
    assert!(!introspect(&world.bot_client, told(&jwt, "192.0.3.1")).await.active);

    let bad = pb::CreateTokenRequest {
        allowed_cidrs: vec!["10.0.0.1/8".into(), "10.0.0.0/8".into(), "any".into()],
        ..base
    };
    assert_eq!(world.refuse(bad).await, ["allowed_cidrs[0]", "allowed_cidrs[2]"]);
}

#[tokio::test]
async fn a_token_never_makes_one_that_works_from_elsewhere() {
    let world = World::new().await;
    let limited = pb::CreateTokenRequest {
        allowed_cidrs: vec!["127.0.0.0/8".into()],
        may_manage_tokens: true,
        ..token_for(&world.org.id, &world.org.owner_id)
    };
    // Only an operator gives `may_manage_tokens`.
    let made = world.server.operator.tokens().create_token(limited).await.unwrap().into_inner();
    let maker = world.server.client(made.secret);
    let ask = async |cidrs: &[&str]| {
        let allowed_cidrs = cidrs.iter().map(|cidr| (*cidr).to_owned()).collect();
        let request = pb::CreateTokenRequest { allowed_cidrs, ..token_for("", &world.bot.id) };
        maker.tokens().create_token(request).await
    };
    ask(&["127.1.0.0/16", "127.0.0.1"]).await.unwrap();
    for wider in [&[][..], &["0.0.0.0/0"], &["127.0.0.0/8", "192.0.2.0/24"], &["::/0"]] {
        refused(ask(wider).await, Code::PermissionDenied, "TARGET_EXCEEDS_CALLER");
    }
}

#[tokio::test]
async fn a_purpose_matches_when_both_sides_name_it_or_neither() {
    let world = World::new().await;
    let scim = pb::CreateTokenRequest { purpose: "SCIM".into(), ..token_for(&world.org.id, &world.bot.id) };
    let (token, client) = world.make(scim.clone()).await;
    assert_eq!(token.purpose, "SCIM");
    let ask = async |client: &Client, purpose: &str| {
        let request = pb::ExchangeTokenRequest {
            subject_token: Some(client.token().into()),
            purpose: purpose.into(),
            ..Default::default()
        };
        client.tokens().exchange_token(request).await.map(tonic::Response::into_inner)
    };
    let jwt = ask(&client, "SCIM").await.unwrap().access_token;
    for (client, purpose) in [(&client, ""), (&client, "ETL"), (&world.bot_client, "SCIM")] {
        refused(ask(client, purpose).await, Code::PermissionDenied, "PURPOSE_MISMATCH");
    }
    // This API is for no purpose.
    refused(client.caller().await, Code::PermissionDenied, "PURPOSE_MISMATCH");
    let by_jwt = world.server.client(jwt.clone());
    refused(by_jwt.caller().await, Code::PermissionDenied, "PURPOSE_MISMATCH");
    for (text, purpose, active) in [
        (client.token(), "SCIM", true),
        (client.token(), "", false),
        (client.token(), "ETL", false),
        (jwt.as_str(), "SCIM", true),
        (jwt.as_str(), "", false),
        (world.bot_client.token(), "", true),
        (world.bot_client.token(), "SCIM", false),
    ] {
        let request = pb::IntrospectTokenRequest {
            token_text: text.into(),
            purpose: purpose.into(),
            ..Default::default()
        };
        assert_eq!(introspect(&world.bot_client, request).await.active, active, "{purpose}");
    }
    for bad in ["scim", "A B", &"A".repeat(33), "SCIM2"] {
        assert_eq!(
            world.refuse(pb::CreateTokenRequest { purpose: bad.into(), ..scim.clone() }).await,
            ["purpose"]
        );
        let violation = refused(ask(&client, bad).await, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&violation), ["purpose"]);
    }
}

#[tokio::test]
async fn only_who_may_verify_is_believed_in_what_they_tell() {
    let world = World::new().await;
    let (_, client) = world.make(world.publishable()).await;
    exchange_told(&world.bot_client, &client, APP, "192.0.2.9").await.unwrap();
    refused(
        exchange_told(&world.bot_client, &client, OTHER, "").await,
        Code::PermissionDenied,
        "ORIGIN_NOT_ALLOWED",
    );
    let (_, member) = world.server.account(&world.org.id, "member", &[("invoices.read", "*")]).await;
    let other = world.server.org().await;
    let garbage = world.server.client("csign_sat_garbage");
    let refusal = exchange_told(&garbage, &client, APP, "192.0.2.9").await;
    refused(refusal, Code::Unauthenticated, "TOKEN_INVALID");
    for nobody in [&member, &other.owner, &world.server.anonymous()] {
        let refusal = exchange_told(nobody, &client, APP, "192.0.2.9").await;
        let refusal = refused(refusal, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&refusal), ["origin", "client_address"]);
    }
    // The subject's own bearer is the same account.
    let own = pb::ExchangeTokenRequest { client_address: "192.0.2.9".into(), ..Default::default() };
    let refusal = world.bot_client.tokens().exchange_token(own).await;
    assert_eq!(violated(&refused(refusal, Code::InvalidArgument, "INVALID_FIELD")), ["client_address"]);
    // Only the header of the connection counts.
    let told = |header: &str, field: &str| {
        let mut request = Request::new(pb::ExchangeTokenRequest {
            subject_token: Some(client.token().into()),
            origin: field.into(),
            ..Default::default()
        });
        request.metadata_mut().insert("origin", header.parse().unwrap());
        request
    };
    let ask =
        async |header: &str, field: &str| world.bot_client.tokens().exchange_token(told(header, field)).await;
    ask(APP, APP).await.unwrap();
    ask(APP, "https://APP.example:443").await.unwrap();
    refused(ask(OTHER, APP).await, Code::InvalidArgument, "ORIGIN_MISMATCH");
    refused(ask("null", APP).await, Code::InvalidArgument, "ORIGIN_MISMATCH");
    refused(ask(OTHER, "").await, Code::PermissionDenied, "ORIGIN_NOT_ALLOWED");
    // Invalid values are named.
    let refusal = exchange_told(&world.bot_client, &client, "https://app.example/", "192.0.2.0/24").await;
    assert_eq!(
        violated(&refused(refusal, Code::InvalidArgument, "INVALID_FIELD")),
        ["origin", "client_address"]
    );
}

#[tokio::test]
async fn labels_are_kept() {
    let world = World::new().await;
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let with = |labels: &[(String, String)]| pb::CreateTokenRequest {
        labels: labels.iter().cloned().collect(),
        ..token_for(&world.org.id, &world.bot.id)
    };
    let good = [label("team", "billing"), label("Env", ""), label("a.b/c_d-e", &"ü".repeat(63))];
    let (token, _) = world.make(with(&good)).await;
    assert_eq!(token.labels, good.iter().cloned().collect());
    let many: Vec<_> = (0..17).map(|n| label(&format!("k{n}"), "")).collect();
    for bad in [
        &many[..],
        &[label("", "x")],
        &[label(&"k".repeat(64), "x")],
        &[label("a b", "x")],
        &[label("k", &"v".repeat(64))],
        &[label("k", "a\nb")],
    ] {
        assert_eq!(world.refuse(with(bad)).await, ["labels"]);
    }
}

#[tokio::test]
async fn validate_only_makes_nothing() {
    let world = World::new().await;
    let count = async || {
        let sql = "select (select count(*) from tokens) + (select count(*) from events) + (select count(*) from credentials)";
        sqlx::query_scalar::<_, i64>(sql).fetch_one(&world.server.state.db).await.unwrap()
    };
    let before = count().await;
    let request = pb::CreateTokenRequest { validate_only: true, ..world.publishable() };
    let answer = world.org.owner.tokens().create_token(request.clone()).await.unwrap().into_inner();
    assert_eq!(answer.secret, "");
    assert_eq!(answer.token.unwrap().allowed_origins.len(), 2);
    assert_eq!(count().await, before);
    let refusal = pb::CreateTokenRequest { scopes: vec!["payroll.read".into()], ..request };
    refused(world.org.owner.tokens().create_token(refusal).await, Code::PermissionDenied, "SCOPE_NOT_HELD");
}

#[tokio::test]
async fn a_trusted_proxy_says_where_a_call_comes_from() {
    for (trusted, works) in [(vec!["127.0.0.1/32".parse().unwrap()], true), (Vec::new(), false)] {
        let server = TestServer::with_limits(ServerLimits { trusted_proxies: trusted, ..LIMITS }).await;
        let org = server.org().await;
        let (bot, _) = server.account(&org.id, "bot", &[]).await;
        let request = pb::CreateTokenRequest {
            allowed_cidrs: vec!["203.0.113.0/24".into()],
            ..token_for(&org.id, &bot.id)
        };
        let made = org.owner.tokens().create_token(request).await.unwrap().into_inner();
        let client = server.client(made.secret);
        let mut request = Request::new(pb::GetCallerRequest {});
        // What is further left is forged; all lines count as one.
        for line in ["203.0.113.200, 198.51.100.1", "203.0.113.7"] {
            request.metadata_mut().append("x-forwarded-for", line.parse().unwrap());
        }
        let outcome = client.accounts().get_caller(request).await;
        if works {
            outcome.unwrap();
        } else {
            refused(outcome, Code::PermissionDenied, "ADDRESS_NOT_ALLOWED");
        }
        let mut request = Request::new(pb::GetCallerRequest {});
        request.metadata_mut().insert("x-forwarded-for", "203.0.113.7, 198.51.100.1".parse().unwrap());
        refused(client.accounts().get_caller(request).await, Code::PermissionDenied, "ADDRESS_NOT_ALLOWED");
    }
}

/// Of a peer that is not trusted nothing is believed: its own address is compared, whatever it
/// claims. A trusted proxy may use either header, and where both are there they must agree.
#[tokio::test]
async fn only_an_address_that_is_certain_is_compared() {
    for (trusted, lines, from_there, from_here) in [
        (false, &[("x-forwarded-for", "203.0.113.7")][..], false, true),
        (false, &[("forwarded", "for=203.0.113.7")], false, true),
        (false, &[("forwarded", "for=unknown")], false, true),
        (true, &[("forwarded", "for=198.51.100.1, for=\"203.0.113.7:4711\";proto=https")], true, false),
        (true, &[("x-forwarded-for", "203.0.113.7"), ("forwarded", "for=203.0.113.7")], true, false),
        (true, &[("x-forwarded-for", "203.0.113.7"), ("forwarded", "for=198.51.100.1")], false, false),
        (true, &[("x-forwarded-for", "198.51.100.1"), ("forwarded", "for=203.0.113.7")], false, false),
        (true, &[("forwarded", "for=_hidden")], false, false),
        (true, &[], false, true),
    ] {
        let trusted_proxies = if trusted { vec!["127.0.0.1/32".parse().unwrap()] } else { Vec::new() };
        let server = TestServer::with_limits(ServerLimits { trusted_proxies, ..LIMITS }).await;
        let org = server.org().await;
        let (bot, _) = server.account(&org.id, "bot", &[]).await;
        for (cidr, works) in [("203.0.113.0/24", from_there), ("127.0.0.0/8", from_here)] {
            let request =
                pb::CreateTokenRequest { allowed_cidrs: vec![cidr.into()], ..token_for(&org.id, &bot.id) };
            let made = org.owner.tokens().create_token(request).await.unwrap().into_inner();
            let mut request = Request::new(pb::GetCallerRequest {});
            for (header, line) in lines {
                request.metadata_mut().append(*header, line.parse().unwrap());
            }
            let outcome = server.client(made.secret).accounts().get_caller(request).await;
            assert_eq!(outcome.is_ok(), works, "{trusted} {lines:?} {cidr}");
        }
    }
}
