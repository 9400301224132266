//! The token endpoint: client credentials and token exchange.

use countersign::grpc::pb;
use serde_json::json;
use tonic::Code;

use super::{ACCESS_TOKEN, CLIENT_CREDENTIALS, TOKEN, TOKEN_EXCHANGE, basic, id, post};
use crate::harness::{Client, Org, TestServer, claims, refused, token_for};

struct World {
    server: TestServer,
    org: Org,
    account: pb::Account,
    bot: Client,
}

impl World {
    /// A service account that holds permissions of Countersign and of applications.
    async fn new() -> Self {
        let server = TestServer::start().await;
        let org = server.org().await;
        server.resources(&org.id, &["customers/acme"]).await;
        let grants = [
            ("auditor", "*"),
            ("invoices.read", "*"),
            ("invoices.write", "customers/acme"),
            ("tokens.read", "*"),
        ];
        let (account, bot) = server.account(&org.id, "bot", &grants).await;
        Self { server, org, account, bot }
    }

    /// Another token of the account.
    async fn token(&self, request: pb::CreateTokenRequest) -> Client {
        let base = token_for(&self.org.id, &self.account.id);
        let request = pb::CreateTokenRequest { org_id: base.org_id, account_id: base.account_id, ..request };
        let made = self.org.owner.tokens().create_token(request).await.unwrap().into_inner();
        self.server.client(made.secret)
    }

    fn template(&self) -> pb::CreateTokenRequest {
        token_for(&self.org.id, &self.account.id)
    }
}

#[tokio::test]
async fn a_client_gets_an_access_token_of_its_own() {
    let world = World::new().await;
    let (World { server, bot, account, .. }, secret) = (&world, world.bot.token());
    let id = id(bot);
    let asked = [
        ("grant_type", CLIENT_CREDENTIALS),
        ("scope", "invoices.read  tokens.read"),
        ("audience", "billing"),
    ];
    let by_basic = post(server, TOKEN, &[("authorization", &basic(bot))], &asked).await;
    let in_body = [&asked[..], &[("client_id", &id), ("client_secret", secret)]].concat();
    let by_post = post(server, TOKEN, &[], &in_body).await;
    for answer in [by_basic, by_post] {
        assert_eq!(answer.outcome(), "200", "{}", answer.body);
        assert_eq!(answer.http.header("content-type"), Some("application/json"));
        assert_eq!(answer.http.header("cache-control"), Some("no-store"));
        assert_eq!(answer.http.header("pragma"), Some("no-cache"));
        assert!(answer.http.header("x-request-id").is_some());
        assert!(answer.http.header("access-control-allow-origin").is_none());
        let members: Vec<_> = answer.body.as_object().unwrap().keys().cloned().collect();
        assert_eq!(members, ["access_token", "expires_in", "issued_token_type", "scope", "token_type"]);
        assert_eq!((answer.text("token_type"), answer.text("issued_token_type")), ("Bearer", ACCESS_TOKEN));
        assert_eq!(
            (answer.text("scope"), &answer.body["expires_in"]),
            ("invoices.read tokens.read", &json!(300))
        );
        let claims = answer.claims();
        assert_eq!((&claims["sub"], &claims["client_id"]), (&json!(account.id), &json!(id)));
        assert_eq!((&claims["aud"], &claims["iss"]), (&json!("billing"), &json!(server.endpoint)));
    }
}

#[tokio::test]
async fn what_is_left_out_follows_from_the_token() {
    let world = World::new().await;
    let grant = [("grant_type", CLIENT_CREDENTIALS)];
    // For the issuer it carries the permissions of applications, and ours only where they are named.
    let header = basic(&world.bot);
    let header = [("authorization", header.as_str())];
    let answer = post(&world.server, TOKEN, &header, &grant).await;
    let issuer = world.server.endpoint.as_str();
    let own = answer.claims();
    assert_eq!(
        (&own["aud"], &own["scope"], own.get("roles")),
        (&json!(issuer), &json!("invoices.read"), None)
    );
    assert_eq!(own["authorization_details"].as_array().unwrap().len(), 1);
    assert_eq!(answer.text("scope"), "invoices.read");
    let bearer = world.server.client(answer.text("access_token"));
    let list = pb::ListTokensRequest { org_id: world.org.id.clone(), ..Default::default() };
    refused(bearer.tokens().list_tokens(list.clone()).await, Code::PermissionDenied, "PERMISSION_MISSING");
    let named = [&grant[..], &[("scope", "tokens.read")]].concat();
    let answer = post(&world.server, TOKEN, &header, &named).await;
    let bearer = world.server.client(answer.text("access_token"));
    bearer.tokens().list_tokens(list).await.unwrap();

    // The only audience of a token, and then all that it holds; of two, none follows.
    for (audiences, outcome) in [(&["billing"][..], "200"), (&["billing", "shop"], "400 invalid_target")] {
        let allowed_audiences = audiences.iter().map(|audience| (*audience).to_owned()).collect();
        let bot = world.token(pb::CreateTokenRequest { allowed_audiences, ..world.template() }).await;
        let answer = post(&world.server, TOKEN, &[("authorization", &basic(&bot))], &grant).await;
        assert_eq!(answer.outcome(), outcome, "{}", answer.body);
        if outcome == "200" {
            assert_eq!(answer.claims()["aud"], "billing");
            assert!(answer.text("scope").contains("tokens.read"), "{}", answer.body);
        }
    }
    // The RPC goes on without these rules.
    let rpc = claims(&world.bot.exchange().await.unwrap().access_token);
    assert!(rpc["scope"].as_str().unwrap().contains("tokens.read"), "{rpc}");
}

#[tokio::test]
async fn a_token_is_exchanged_by_whoever_presents_it() {
    let world = World::new().await;
    let server = &world.server;
    let (_, speaker) = server.account(&world.org.id, "gateway", &[("tokens.introspect", "*")]).await;
    let exchange = [
        ("grant_type", TOKEN_EXCHANGE),
        ("subject_token", world.bot.token()),
        ("subject_token_type", ACCESS_TOKEN),
        ("requested_token_type", ACCESS_TOKEN),
        ("resource", "https://billing.example/"),
        ("audience", "shop"),
        ("scope", "invoices.read"),
        ("requested_ttl", "60"),
    ];
    let (own, id, speakers) = (basic(&world.bot), id(&world.bot), basic(&speaker));
    let named = [&exchange[..], &[("client_id", &id)]].concat();
    let told = [&exchange[..], &[("client_address", "192.0.2.7")]].concat();
    for (header, parameters, outcome) in [
        (None, &exchange[..], "200"),
        // The token names itself, which proves nothing.
        (None, &named, "200"),
        (Some(&own), &exchange, "200"),
        (Some(&speakers), &exchange, "200"),
        // Only a client that may introspect says where the subject comes from.
        (Some(&speakers), &told, "200"),
        (Some(&own), &told, "400 invalid_request"),
        (None, &told, "400 invalid_request"),
    ] {
        let header: Vec<_> = header.into_iter().map(|value| ("authorization", value.as_str())).collect();
        let now = || server.state.clock.now().unix_timestamp();
        let before = now();
        let answer = post(server, TOKEN, &header, parameters).await;
        assert_eq!(answer.outcome(), outcome, "{header:?} {}", answer.body);
        if outcome == "200" {
            let claims = answer.claims();
            assert_eq!((&claims["sub"], &claims["client_id"]), (&json!(world.account.id), &json!(id)));
            assert_eq!(claims["aud"], json!(["shop", "https://billing.example/"]));
            assert_eq!(claims.get("act"), None);
            let [exp, iat] = ["exp", "iat"].map(|name| claims[name].as_i64().unwrap());
            assert_eq!(exp - iat, 60);
            // It is worked out after the JWT was issued.
            let left = exp - now()..=exp - before;
            assert!(left.contains(&answer.body["expires_in"].as_i64().unwrap()), "{}", answer.body);
        }
    }
}

#[tokio::test]
async fn a_session_is_a_subject_and_no_client() {
    let world = World::new().await;
    let server = &world.server;
    server.person(&world.org.id, "someone@example.org", &[("invoices.read", "*")]).await;
    let session = server.session("someone@example.org").await;
    let exchange = [
        ("grant_type", TOKEN_EXCHANGE),
        ("subject_token", session.token()),
        ("subject_token_type", ACCESS_TOKEN),
        ("org_id", &world.org.id),
    ];
    let answer = post(server, TOKEN, &[], &exchange).await;
    assert_eq!((answer.outcome().as_str(), &answer.claims()["token_kind"]), ("200", &json!("SESSION")));
    let header = basic(&session);
    let answer =
        post(server, TOKEN, &[("authorization", &header)], &[("grant_type", CLIENT_CREDENTIALS)]).await;
    assert_eq!(answer.refused(), "401 invalid_client TOKEN_INVALID");
}

#[tokio::test]
async fn a_page_exchanges_a_publishable_token_and_does_nothing_else() {
    const APP: &str = "https://app.example";
    let world = World::new().await;
    let request = pb::CreateTokenRequest {
        kind: pb::TokenKind::Publishable.into(),
        scopes: vec!["invoices.read".into()],
        allowed_origins: vec![APP.into()],
        ..world.template()
    };
    let published = world.token(request).await;
    let exchange = |subject| {
        [("grant_type", TOKEN_EXCHANGE), ("subject_token", subject), ("subject_token_type", ACCESS_TOKEN)]
    };
    let (page, other) = (("origin", APP), ("origin", "https://other.example"));
    let (cross, same) = (("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-origin"));
    let own = basic(&world.bot);
    let own = ("authorization", own.as_str());
    let credentials = [("grant_type", CLIENT_CREDENTIALS)];
    for (path, headers, parameters, outcome) in [
        (TOKEN, &[page][..], &exchange(published.token())[..], "200"),
        (TOKEN, &[page, cross], &exchange(published.token()), "200"),
        (TOKEN, &[other], &exchange(published.token()), "400 invalid_grant ORIGIN_NOT_ALLOWED"),
        (TOKEN, &[], &exchange(published.token()), "400 invalid_grant ORIGIN_NOT_ALLOWED"),
        (TOKEN, &[page], &exchange(world.bot.token()), "400 invalid_request MALFORMED_REQUEST"),
        (TOKEN, &[cross], &exchange(world.bot.token()), "400 invalid_request MALFORMED_REQUEST"),
        (TOKEN, &[page, own], &exchange(published.token()), "400 invalid_request MALFORMED_REQUEST"),
        (TOKEN, &[page, own], &credentials, "400 invalid_request MALFORMED_REQUEST"),
        (TOKEN, &[same, own], &credentials, "200"),
        (super::INTROSPECT, &[page, own], &[("token", "x")], "400 invalid_request MALFORMED_REQUEST"),
        (super::REVOKE, &[page], &[("token", "x")], "400 invalid_request MALFORMED_REQUEST"),
        (super::REVOKE, &[cross], &[("token", "x")], "400 invalid_request MALFORMED_REQUEST"),
    ] {
        let answer = post(&world.server, path, headers, parameters).await;
        let got = if answer.http.status == 200 { answer.outcome() } else { answer.refused() };
        assert_eq!(got, outcome, "{path} {headers:?} {parameters:?}");
        assert!(answer.http.header("access-control-allow-origin").is_none(), "{path}");
    }
}

#[tokio::test]
async fn a_caller_that_fails_is_refused_beside_a_good_subject() {
    let world = World::new().await;
    let (_, gone) = world.server.account(&world.org.id, "gone", &[]).await;
    gone.tokens().revoke_token(crate::harness::by_text(gone.token())).await.unwrap();
    let exchange = [
        ("grant_type", TOKEN_EXCHANGE),
        ("subject_token", world.bot.token()),
        ("subject_token_type", ACCESS_TOKEN),
    ];
    let answer = post(&world.server, TOKEN, &[("authorization", &basic(&gone))], &exchange).await;
    assert_eq!(answer.refused(), "401 invalid_client TOKEN_REVOKED");
    assert!(answer.http.header("www-authenticate").unwrap().starts_with("Basic "));
    // The subject is refused as one.
    let exchange = [
        ("grant_type", TOKEN_EXCHANGE),
        ("subject_token", gone.token()),
        ("subject_token_type", ACCESS_TOKEN),
    ];
    let answer = post(&world.server, TOKEN, &[("authorization", &basic(&world.bot))], &exchange).await;
    assert_eq!(answer.refused(), "400 invalid_grant TOKEN_REVOKED");
    assert!(answer.http.header("www-authenticate").is_none());
    // And over gRPC.
    for (caller, reason) in [(gone, "TOKEN_REVOKED"), (world.server.client("rubbish"), "TOKEN_INVALID")] {
        let subject_token = Some(world.bot.token().to_owned());
        let request = pb::ExchangeTokenRequest { subject_token, ..Default::default() };
        refused(caller.tokens().exchange_token(request).await, Code::Unauthenticated, reason);
    }
}
