//! The assertions of tokens of kind `KEY`: what they must be, and that each works once.

use std::time::Duration;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine as _};
use countersign::crypto::password_places::{Asker, Place, Places};
use countersign::db::sweep::sweep;
use countersign::domain::values::client_address::{ClientAddress, ForwardedHeaders};
use countersign::domain::values::ids::{OrgId, TokenId};
use countersign::error::Reason;
use countersign::grpc::pb;
use countersign::grpc::pb::explain_token_request::Target;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tonic::{Code, Status};

use crate::harness::{
    LIMITS, Org, Signer, TestServer, assertion_claims, by_id, key_for, of_assertion, refused, token_for,
    until,
};

/// A server with a token of kind `KEY`.
struct World {
    server: TestServer,
    org: Org,
    account: pb::Account,
    signer: Signer,
    token_id: String,
}

impl World {
    async fn new() -> Self {
        let server = TestServer::at_standing_time(LIMITS).await;
        let org = server.org().await;
        let (account, _) = server.account(&org.id, "bot", &[("x.y", "*")]).await;
        let signer = Signer::ed25519();
        let token_id = server.key_token(&org.id, &account.id, &signer).await.id;
        Self { server, org, account, signer, token_id }
    }

    /// The claims of a good assertion, with these in place of some; null stands for none.
    fn claims(&self, changes: &Value) -> Value {
        let mut claims = assertion_claims(&self.server, &self.token_id);
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
                value => claims[name] = value.clone(),
            }
        }
        claims
    }

    fn assertion(&self) -> String {
        self.signer.assertion(&self.server, &self.token_id)
    }

    async fn exchange(&self, assertion: &str) -> Result<String, Status> {
        self.server.anonymous().exchange_assertion(assertion).await
    }
}

#[tokio::test]
async fn an_assertion_that_is_not_in_order_is_refused() {
    let world = World::new().await;
    let (signer, issuer) = (&world.signer, world.server.state.issuer.to_string());
    let now = world.server.state.clock.now().unix_timestamp();
    let rsa = Signer::rsa(aws_lc_rs::rsa::KeySize::Rsa2048, "RS256").await;
    let good = json!({"alg": "EdDSA", "typ": "JWT"});
    let plain = world.claims(&json!({}));
    let mut bad = vec![
        ("a list of one", signer.sign(&good, &world.claims(&json!({"aud": [issuer]})))),
        ("a list", signer.sign(&good, &world.claims(&json!({"aud": [issuer, "https://b.example"]})))),
        ("an endpoint", signer.sign(&good, &world.claims(&json!({"aud": format!("{issuer}/oauth2/token")})))),
        ("no aud", signer.sign(&good, &world.claims(&json!({"aud": null})))),
        ("expired", signer.sign(&good, &world.claims(&json!({"exp": now})))),
        ("too old", signer.sign(&good, &world.claims(&json!({"iat": now - 301, "exp": now + 600})))),
        ("without iat, too long", signer.sign(&good, &world.claims(&json!({"iat": null, "exp": now + 301})))),
        ("iat ahead", signer.sign(&good, &world.claims(&json!({"iat": now + 61, "exp": now + 120})))),
        ("nbf ahead", signer.sign(&good, &world.claims(&json!({"nbf": now + 61})))),
        ("no exp", signer.sign(&good, &world.claims(&json!({"exp": null})))),
        ("exp no integer", signer.sign(&good, &world.claims(&json!({"exp": (now + 60) as f64})))),
        ("no jti", signer.sign(&good, &world.claims(&json!({"jti": null})))),
        ("iss of another", signer.sign(&good, &world.claims(&json!({"iss": world.account.id})))),
        ("sub of another", signer.sign(&good, &world.claims(&json!({"sub": world.account.id})))),
        ("typ at+jwt", signer.sign(&json!({"alg": "EdDSA", "typ": "at+jwt"}), &plain)),
        ("typ of a logout", signer.sign(&json!({"alg": "EdDSA", "typ": "logout+jwt"}), &plain)),
        ("crit", signer.sign(&json!({"alg": "EdDSA", "crit": ["b64"], "b64": false}), &plain)),
        ("a key of its own", signer.sign(&json!({"alg": "EdDSA", "jwk": signer.jwk()}), &plain)),
        ("another kid", signer.sign(&json!({"alg": "EdDSA", "kid": Signer::p256().thumbprint()}), &plain)),
        ("another algorithm", signer.sign(&json!({"alg": "ES256"}), &plain)),
        ("no algorithm", signer.sign(&json!({"typ": "JWT"}), &plain)),
        ("a key of no token", Signer::ed25519().sign(&good, &plain)),
        ("another kind of key", Signer::p256().sign(&json!({"alg": "ES256"}), &plain)),
        ("an RSA key", rsa.sign(&json!({"alg": "RS256"}), &plain)),
        (
            "doubled claims",
            signer.sign_text(&good.to_string(), &plain.to_string().replacen('{', r#"{"jti":"x","#, 1)),
        ),
        (
            "doubled within",
            signer
                .sign_text(&good.to_string(), &plain.to_string().replacen('{', r#"{"a":{"b":1,"b":1},"#, 1)),
        ),
        ("doubled header", signer.sign_text(r#"{"alg":"none","alg":"EdDSA"}"#, &plain.to_string())),
        ("no object", signer.sign_text(&good.to_string(), "[]")),
        ("too deep", signer.sign(&good, &world.claims(&json!({"a": nested(33)})))),
        ("too long", signer.sign(&good, &world.claims(&json!({"a": "a".repeat(16 << 10)})))),
    ];
    let parts =
        |header: &str| format!("{}.{}.", BASE64URL.encode(header), BASE64URL.encode(plain.to_string()));
    bad.push(("none", parts(r#"{"alg":"none"}"#)));
    // A MAC with what is public as its secret.
    for secret in [signer.jwk().to_string(), signer.jwk()["x"].as_str().unwrap().to_owned()] {
        let message = parts(r#"{"alg":"HS256"}"#);
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
        let mac = aws_lc_rs::hmac::sign(&key, message.trim_end_matches('.').as_bytes());
        bad.push(("a MAC", message + &BASE64URL.encode(mac)));
    }
    let whole = signer.sign(&good, &plain);
    bad.push(("two parts", whole.rsplit_once('.').unwrap().0.to_owned()));
    bad.push(("four parts", format!("{whole}.x")));
    bad.push(("another signature", whole.clone()[..whole.len() - 8].to_owned() + "AAAAAAAA"));
    for (what, assertion) in &bad {
        let refusal = world.exchange(assertion).await.expect_err(what);
        assert_eq!(
            (crate::harness::reason(&refusal).as_str(), refusal.code()),
            ("TOKEN_INVALID", Code::Unauthenticated),
            "{what}"
        );
    }
    // Those that a developer meets are named.
    for (what, says) in
        [("a list of one", "aud"), ("an endpoint", "aud"), ("no jti", "jti"), ("expired", "expired")]
    {
        let (_, assertion) = bad.iter().find(|(known, _)| *known == what).unwrap();
        let refusal = world.exchange(assertion).await.unwrap_err();
        assert!(refusal.message().contains(says), "{what}: {}", refusal.message());
    }
    // None of them has spent the jti that many of them have.
    world.exchange(&whole).await.unwrap();
    // What is not followed does no harm, and at the edges it works.
    for (header, changes) in [
        (json!({"alg": "EdDSA", "jku": "https://a.example", "x5u": "https://a.example"}), json!({})),
        (json!({"alg": "EdDSA"}), json!({"iat": now - 299, "exp": now + 1_000_000})),
        (json!({"alg": "EdDSA"}), json!({"iat": now + 60, "exp": now + 1_000_000})),
        (json!({"alg": "EdDSA"}), json!({"iat": null, "exp": now + 300})),
        (json!({"alg": "EdDSA"}), json!({"a": nested(30), "b": "b".repeat(11 << 10)})),
    ] {
        world.exchange(&signer.sign(&header, &world.claims(&changes))).await.unwrap();
    }
}

/// Lists within each other.
fn nested(levels: usize) -> Value {
    (1..levels).fold(json!([]), |inner, _| json!([inner]))
}

#[tokio::test]
async fn the_true_reason_is_for_the_holder_of_the_key() {
    let world = World::new().await;
    let (server, org) = (&world.server, &world.org);
    let thief = Signer::ed25519();
    let check = async |expected: &str| {
        let answer = world.exchange(&world.assertion()).await;
        refused(answer, Code::Unauthenticated, expected);
        let answer = world.exchange(&thief.assertion(server, &world.token_id)).await;
        refused(answer, Code::Unauthenticated, "TOKEN_INVALID");
    };
    let unknown = TokenId::from_u128(1).to_string();
    refused(
        world.exchange(&world.signer.assertion(server, &unknown)).await,
        Code::Unauthenticated,
        "TOKEN_INVALID",
    );
    // The key of one token signs for no other, also not for one that has a secret.
    let secret = server.operator.tokens().create_token(token_for(&org.id, &world.account.id)).await.unwrap();
    let secret = secret.into_inner().token.unwrap().id;
    let other = server.key_token(&org.id, &world.account.id, &Signer::p256()).await.id;
    for id in [&secret, &other] {
        refused(
            world.exchange(&world.signer.assertion(server, id)).await,
            Code::Unauthenticated,
            "TOKEN_INVALID",
        );
    }

    let account = |account_id: &str| pb::DeactivateAccountRequest {
        org_id: org.id.clone(),
        account_id: account_id.into(),
        ..Default::default()
    };
    server.operator.accounts().deactivate_account(account(&world.account.id)).await.unwrap();
    check("ACCOUNT_DEACTIVATED").await;
    let request = pb::ActivateAccountRequest {
        org_id: org.id.clone(),
        account_id: world.account.id.clone(),
        ..Default::default()
    };
    server.operator.accounts().activate_account(request).await.unwrap();
    world.exchange(&world.assertion()).await.unwrap();
    // A policy for secret tokens holds for keys.
    let policy = pb::TokenPolicy {
        max_secret_lifetime: Some(prost_types::Duration { seconds: 3_600, nanos: 0 }),
        ..Default::default()
    };
    let request = pb::UpdateTokenPolicyRequest {
        org_id: org.id.clone(),
        policy: Some(policy),
        update_mask: Some(prost_types::FieldMask { paths: vec!["max_secret_lifetime".into()] }),
        ..Default::default()
    };
    server.operator.orgs().update_token_policy(request).await.unwrap();
    check("TOKEN_BLOCKED").await;
    let request = pb::SuspendOrgRequest { org_id: org.id.clone(), reason: "test".into() };
    server.operator.orgs().suspend_org(request).await.unwrap();
    check("ORG_SUSPENDED").await;
    server.operator.tokens().revoke_token(by_id(&org.id, &world.token_id)).await.unwrap();
    check("TOKEN_REVOKED").await;
}

#[tokio::test]
async fn a_token_that_has_expired_says_so_to_its_holder() {
    let world = World::new().await;
    let signer = Signer::p256();
    let ttl = prost_types::Duration { seconds: 60, nanos: 0 };
    let request = pb::CreateTokenRequest {
        expiration: Some(pb::create_token_request::Expiration::Ttl(ttl)),
        ..key_for(&world.org.id, &world.account.id, &signer)
    };
    let made = world.server.operator.tokens().create_token(request).await.unwrap().into_inner();
    let id = made.token.unwrap().id;
    world.exchange(&signer.assertion(&world.server, &id)).await.unwrap();
    world.server.state.clock.advance(Duration::from_secs(61));
    let answer = world.exchange(&signer.assertion(&world.server, &id)).await;
    refused(answer, Code::Unauthenticated, "TOKEN_EXPIRED");
}

#[tokio::test]
async fn an_assertion_works_once_on_all_nodes() {
    let world = World::new().await;
    let other = world.server.beside(LIMITS).await;
    let assertion = world.assertion();
    world.exchange(&assertion).await.unwrap();
    for node in [&world.server, &other] {
        let answer = node.anonymous().exchange_assertion(&assertion).await;
        let refusal = refused(answer, Code::Unauthenticated, "TOKEN_INVALID");
        assert!(refusal.message().contains("used before"), "{}", refusal.message());
    }
    // It is the jti that is used, whatever else is in it.
    let claims = assertion_claims(&world.server, &world.token_id);
    let again = |header: Value| world.signer.sign(&header, &claims);
    other.anonymous().exchange_assertion(&again(json!({"alg": "EdDSA"}))).await.unwrap();
    let answer = world.exchange(&again(json!({"alg": "EdDSA", "typ": "JWT"}))).await;
    refused(answer, Code::Unauthenticated, "TOKEN_INVALID");
    // That of another token is another one.
    let signer = Signer::p256();
    let second = world.server.key_token(&world.org.id, &world.account.id, &signer).await.id;
    let mut claims = claims;
    (claims["iss"], claims["sub"]) = (json!(second), json!(second));
    world.exchange(&signer.sign(&json!({"alg": "ES256"}), &claims)).await.unwrap();

    let (assertion, mut calls) = (world.assertion(), tokio::task::JoinSet::new());
    for node in [&world.server, &other].repeat(8) {
        let (client, assertion) = (node.anonymous(), assertion.clone());
        calls.spawn(async move { client.exchange_assertion(&assertion).await });
    }
    let outcomes = calls.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    for refusal in outcomes.into_iter().filter(Result::is_err) {
        refused(refusal, Code::Unauthenticated, "TOKEN_INVALID");
    }
}

/// It is spent last: what is refused for another reason may be asked again.
#[tokio::test]
async fn an_exchange_that_is_refused_spends_nothing() {
    let world = World::new().await;
    let assertion = world.assertion();
    let exchange = async |request: pb::ExchangeTokenRequest| {
        world.server.anonymous().tokens().exchange_token(request).await.map(|answer| answer.into_inner())
    };
    world.server.hear_all().await;
    let request = of_assertion(&assertion);
    let asked = |scopes: &str| pb::ExchangeTokenRequest { scopes: vec![scopes.into()], ..request.clone() };
    refused(exchange(asked("x.z")).await, Code::PermissionDenied, "SCOPE_NOT_HELD");
    refused(exchange(asked("-")).await, Code::InvalidArgument, "INVALID_FIELD");
    let purpose = pb::ExchangeTokenRequest { purpose: "SCIM".into(), ..request.clone() };
    refused(exchange(purpose).await, Code::PermissionDenied, "PURPOSE_MISMATCH");
    let elsewhere = pb::ExchangeTokenRequest { org_id: world.server.org().await.id, ..request.clone() };
    refused(exchange(elsewhere).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    assert_eq!(kept(&world).await, 0);
    // What it had is cached by now: the exchange itself takes one row, and loads nothing.
    let looks = world.server.state.principals.looks();
    let answer = exchange(asked("x.y")).await.unwrap();
    crate::harness::watch(&answer.access_token);
    assert_eq!(answer.scopes, ["x.y"]);
    assert_eq!((kept(&world).await, world.server.state.principals.looks()), (1, looks));
}

async fn kept(world: &World) -> i64 {
    let pool = world.server.database().pool();
    sqlx::query_scalar("select count(*) from used_assertions").fetch_one(&pool).await.unwrap()
}

#[tokio::test]
async fn a_token_with_too_many_assertions_waits_alone() {
    let world = World::new().await;
    let signer = Signer::p256();
    let other = world.server.key_token(&world.org.id, &world.account.id, &signer).await.id;
    let now = world.server.state.clock.now();
    let fill = "insert into used_assertions (signer_id, jti_hash, keep_until)
                select $1, sha256(n::text::bytea), $2 from generate_series(1, 10000) as n";
    let id = TokenId::parse(&world.token_id).unwrap().uuid();
    let pool = world.server.database().pool();
    sqlx::query(fill).bind(id).bind(now + Duration::from_secs(30)).execute(&pool).await.unwrap();
    let assertion = world.assertion();
    let refusal = refused(world.exchange(&assertion).await, Code::ResourceExhausted, "THROTTLED");
    assert!(refusal.message().contains("assertions"), "{}", refusal.message());
    world.exchange(&signer.assertion(&world.server, &other)).await.unwrap();
    // Once they have expired it is taken, which nothing has spent.
    world.server.state.clock.advance(Duration::from_secs(31));
    world.exchange(&assertion).await.unwrap();
}

#[tokio::test]
async fn uses_are_swept_once_they_have_expired_by_every_clock() {
    let world = World::new().await;
    let assertion = world.assertion();
    world.exchange(&assertion).await.unwrap();
    let db = &world.server.state.db;
    // It is good for 60 s, and kept for 120 s more.
    for (seconds, left) in [(61, 1), (118, 1), (1, 0)] {
        world.server.state.clock.advance(Duration::from_secs(seconds));
        sweep(db, world.server.state.clock.now()).await.unwrap();
        assert_eq!(kept(&world).await, left, "after {seconds} s more");
        refused(world.exchange(&assertion).await, Code::Unauthenticated, "TOKEN_INVALID");
    }
}

#[tokio::test]
async fn an_assertion_is_explained_and_not_spent() {
    let world = World::new().await;
    let explain = async |assertion: &str| {
        let request = pb::ExplainTokenRequest {
            target: Some(Target::Assertion(assertion.into())),
            ..Default::default()
        };
        let checks = world.org.owner.tokens().explain_token(request).await.unwrap().into_inner().checks;
        checks.into_iter().map(|check| (check.name, check.reason)).collect::<Vec<_>>()
    };
    let failed = |checks: &[(String, String)]| {
        checks.iter().filter(|(_, reason)| !reason.is_empty()).cloned().collect::<Vec<_>>()
    };
    let assertion = world.assertion();
    let checks = explain(&assertion).await;
    let names: Vec<_> = checks.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names[..9],
        ["shape", "header", "subject", "aud", "time", "jti", "known", "signature", "revoked"]
    );
    assert_eq!(failed(&checks), []);
    let header = json!({"alg": "EdDSA"});
    for (text, name) in [
        ("a.b.c".to_owned(), "shape"),
        (world.signer.sign(&json!({"alg": "none"}), &world.claims(&json!({}))), "header"),
        (world.signer.sign(&header, &world.claims(&json!({"sub": "me"}))), "subject"),
        (world.signer.sign(&header, &world.claims(&json!({"aud": ["a"]}))), "aud"),
        (world.signer.sign(&header, &world.claims(&json!({"exp": 1}))), "time"),
        (world.signer.sign(&header, &world.claims(&json!({"jti": null}))), "jti"),
        (world.signer.assertion(&world.server, &TokenId::from_u128(1).to_string()), "known"),
        (Signer::ed25519().assertion(&world.server, &world.token_id), "signature"),
    ] {
        let checks = explain(&text).await;
        let first = failed(&checks).into_iter().next().unwrap();
        assert_eq!(first, (name.to_owned(), "TOKEN_INVALID".to_owned()), "{checks:?}");
        assert!(name == "signature" || checks.last().unwrap().0 == name, "nothing follows: {checks:?}");
    }
    // To those who may not read the token it does not exist.
    let foreign = world.server.org().await;
    let request =
        pb::ExplainTokenRequest { target: Some(Target::Assertion(assertion.clone())), ..Default::default() };
    let checks = foreign.owner.tokens().explain_token(request).await.unwrap().into_inner().checks;
    assert_eq!((checks.last().unwrap().name.as_str(), checks.last().unwrap().passed), ("known", false));
    world.exchange(&assertion).await.unwrap();
    // By its id it is explained too.
    let target = Some(Target::TokenId(world.token_id.clone()));
    let request = pb::ExplainTokenRequest { target, ..Default::default() };
    let checks = world.org.owner.tokens().explain_token(request).await.unwrap().into_inner().checks;
    assert!(checks.iter().all(|check| check.passed) && checks[0].name == "revoked");
}

/// Takes places for slow signatures until one more has to wait, and lets as many wait as may.
pub async fn fill(places: &Places, asker: Asker) -> (Vec<Place>, JoinSet<()>) {
    let (mut held, mut waiting) = (Vec::new(), JoinSet::new());
    loop {
        let (mine, before) = (places.clone(), places.free());
        let taking = tokio::spawn(async move { mine.take(asker, 1).await.unwrap() });
        until(async || taking.is_finished() || places.waiting() > 0).await;
        if places.free() == before {
            // It goes on waiting, as the first of them.
            waiting.spawn(async move { drop(taking.await) });
            break;
        }
        held.push(taking.await.unwrap());
    }
    while places.have_room(asker) {
        let (mine, before) = (places.clone(), places.waiting());
        waiting.spawn(async move { drop(mine.take(asker, 1).await) });
        until(async || places.waiting() > before).await;
    }
    (held, waiting)
}

#[tokio::test]
async fn slow_signatures_take_turns_by_org_and_strangers_have_their_own() {
    let world = World::new().await;
    let server = &world.server;
    let slow = Signer::rsa(aws_lc_rs::rsa::KeySize::Rsa4096, "PS256").await;
    let token_id = server.key_token(&world.org.id, &world.account.id, &slow).await.id;
    let other = server.org().await;
    let (account, _) = server.account(&other.id, "bot", &[("x.y", "*")]).await;
    let other_slow = Signer::rsa(aws_lc_rs::rsa::KeySize::Rsa4096, "PS256").await;
    let other_id = server.key_token(&other.id, &account.id, &other_slow).await.id;
    world.exchange(&slow.assertion(server, &token_id)).await.unwrap();
    let places = server.state.authenticator.slow_signatures();
    let org = Asker::Known(OrgId::parse(&world.org.id).unwrap());
    let (mut held, _waiting) = fill(places, org).await;
    // Too many of one org wait, which is refused more of them; another one is next.
    let refusal = world.exchange(&slow.assertion(server, &token_id)).await;
    refused(refusal, Code::ResourceExhausted, "OVERLOADED");
    let (anonymous, assertion) = (server.anonymous(), other_slow.assertion(server, &other_id));
    let before = places.waiting();
    let exchange = tokio::spawn(async move { anonymous.exchange_assertion(&assertion).await });
    until(async || places.waiting() > before).await;
    held.pop();
    exchange.await.unwrap().unwrap();
    // A caller that names a token which does not exist has the part of strangers.
    let nowhere = slow.assertion(server, &TokenId::from_u128(7).to_string());
    refused(world.exchange(&nowhere).await, Code::Unauthenticated, "TOKEN_INVALID");
    let here = ClientAddress::of_request([127, 0, 0, 1].into(), &ForwardedHeaders::default(), &[]);
    let (_held, _strangers) = fill(places, Asker::Stranger(here)).await;
    refused(world.exchange(&nowhere).await, Code::ResourceExhausted, "OVERLOADED");
    // From an address with too many failures nothing is verified for it, and the answer is the same as for a token.
    for _ in 0..=101 {
        let _ = server.state.principals.refuse(here, Reason::TokenInvalid);
    }
    refused(world.exchange(&nowhere).await, Code::ResourceExhausted, "THROTTLED");
}
