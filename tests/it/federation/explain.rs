//! `ExplainToken` reports of an assertion what the exchange would, check by check, to callers with `federation.read`.

use std::time::Duration;

use countersign::grpc::pb;
use countersign::grpc::pb::explain_token_request::Target;
use serde_json::json;
use tonic::Code;

use super::{World, changed};
use crate::harness::{Client, Manners, Signer, reason, refused, until};

const NOT_MADE: &str = "not made";

fn request(world: &World, assertion: &str) -> pb::ExplainTokenRequest {
    pb::ExplainTokenRequest {
        target: Some(Target::Assertion(assertion.into())),
        federation_rule_id: world.rule_id.clone(),
        client_address: "127.0.0.1".into(),
        ..Default::default()
    }
}

async fn explain(by: &Client, request: pb::ExplainTokenRequest) -> Vec<(String, String)> {
    let checks = by.tokens().explain_token(request).await.unwrap().into_inner().checks;
    // One that neither passed nor says why was not made.
    let outcome = |check: pb::TokenCheck| match (check.passed, check.reason.is_empty()) {
        (true, passed) => (check.name, if passed { String::new() } else { "both".into() }),
        (false, true) => (check.name, NOT_MADE.into()),
        (false, false) => (check.name, check.reason),
    };
    checks.into_iter().map(outcome).collect()
}

fn first_failed(checks: &[(String, String)]) -> Option<(&str, &str)> {
    let is_failure = |reason: &str| !reason.is_empty() && reason != NOT_MADE;
    checks.iter().find(|(_, reason)| is_failure(reason)).map(|(name, reason)| (&**name, &**reason))
}

fn not_made(checks: &[(String, String)]) -> Vec<&str> {
    checks.iter().filter(|(_, reason)| reason == NOT_MADE).map(|(name, _)| &**name).collect()
}

#[tokio::test]
async fn an_assertion_is_explained_as_it_is_exchanged() {
    let world = World::with(
        |issuer| issuer.single_use_jti = Some(true),
        |rule| {
            rule.claims = vec![pb::ClaimMatch {
                path: vec!["kubernetes.io".into(), "namespace".into()],
                values: vec!["prod".into()],
                ..Default::default()
            }];
        },
    )
    .await;
    let claims = world.claims(json!({"jti": "1", "kubernetes.io": {"namespace": "prod"}}));
    let with = |changes: serde_json::Value| world.signed(&changed(&claims, &changes));
    let good = with(json!({"jti": "good"}));
    // Nothing is fetched for it.
    let checks = explain(&world.org.owner, request(&world, &good)).await;
    assert_eq!((first_failed(&checks), world.live.fetches()), (None, 0));
    // It says so, and goes on with what needs no key.
    assert_eq!(not_made(&checks), ["key", "signature"]);
    let checks = explain(&world.org.owner, request(&world, &with(json!({"sub": "another"})))).await;
    assert_eq!(first_failed(&checks), Some(("subject", "TOKEN_INVALID")));
    assert_eq!(not_made(&checks), ["key", "signature"]);
    world.exchange(&with(json!({"jti": "first"}))).await.unwrap();

    let names = [
        "shape",
        "algorithm",
        "key",
        "signature",
        "issuer",
        "aud",
        "time",
        "replay",
        "subject",
        "claims/kubernetes.io/namespace",
        "rule",
        "revoked",
        "org",
        "account",
        "expiry",
        "policy",
        "purpose",
        "network",
        "certificate",
        "origin",
        "audience",
        "scopes",
    ];
    for _ in 0..2 {
        let checks = explain(&world.org.owner, request(&world, &good)).await;
        let explained: Vec<_> = checks.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!((explained.as_slice(), first_failed(&checks)), (&names[..], None));
    }
    world.exchange(&good).await.unwrap();
    let at = world.server.state.clock.now().unix_timestamp();
    let other = Signer::ed25519();
    let by_other = other.sign(&json!({"alg": "EdDSA", "kid": "1"}), &world.claims(json!({})));
    let by_unknown = world.signer.sign(&json!({"alg": "EdDSA", "kid": "2"}), &world.claims(json!({})));
    let es384 = world.signer.sign(&json!({"alg": "ES384", "kid": "1"}), &world.claims(json!({})));
    for (assertion, expected) in [
        ("junk".to_owned(), "shape"),
        (world.signer.sign(&json!({"alg": "none"}), &world.claims(json!({}))), "algorithm"),
        (es384, "algorithm"),
        (by_unknown, "key"),
        (by_other, "signature"),
        (with(json!({"iss": "https://other.example"})), "issuer"),
        (with(json!({"aud": "https://other.example"})), "aud"),
        (with(json!({"exp": at})), "time"),
        (good.clone(), "replay"),
        (with(json!({"jti": ""})), "replay"),
        (with(json!({"sub": "another"})), "subject"),
        (with(json!({"kubernetes.io": {"namespace": "staging"}})), "claims/kubernetes.io/namespace"),
    ] {
        // Before: a key that is unknown is looked for again after ten seconds.
        assert_eq!(reason(&world.exchange(&assertion).await.unwrap_err()), "TOKEN_INVALID");
        let checks = explain(&world.org.owner, request(&world, &assertion)).await;
        assert_eq!(first_failed(&checks), Some((expected, "TOKEN_INVALID")), "{checks:?}");
        let without = if expected == "key" { &["signature"][..] } else { &[] };
        if expected != "algorithm" {
            assert_eq!(not_made(&checks), without, "{checks:?}");
        }
    }
    // What fails beside the assertion is said with its own reason.
    let fresh = with(json!({"jti": "fresh"}));
    let disabled = pb::FederationRule { disabled: Some(true), ..Default::default() };
    world.update_rule(disabled, &["disabled"]).await.unwrap();
    let checks = explain(&world.org.owner, request(&world, &fresh)).await;
    assert_eq!(first_failed(&checks), Some(("rule", "TOKEN_INVALID")));
    let enabled = pb::FederationRule { disabled: Some(false), ..Default::default() };
    world.update_rule(enabled, &["disabled"]).await.unwrap();
    let off = pb::TokenPolicy { allow_federation: Some(false), ..Default::default() };
    let update_mask = Some(prost_types::FieldMask { paths: vec!["allow_federation".into()] });
    let change = pb::UpdateTokenPolicyRequest { policy: Some(off), update_mask, ..Default::default() };
    world.org.owner.orgs().update_token_policy(change).await.unwrap();
    let checks = explain(&world.org.owner, request(&world, &fresh)).await;
    assert_eq!(first_failed(&checks), Some(("policy", "TOKEN_BLOCKED")));
}

/// What an exchange would wait for is not said to fail, nor is it said to wait where it would not.
#[tokio::test]
async fn an_assertion_is_explained_as_it_is_exchanged_while_keys_turn() {
    let world = World::new().await;
    let by_unknown = || world.signer.sign(&json!({"alg": "EdDSA", "kid": "2"}), &world.claims(json!({})));
    let explained = async |assertion: String| {
        let checks = explain(&world.org.owner, request(&world, &assertion)).await;
        let made: Vec<_> = not_made(&checks).into_iter().map(str::to_owned).collect();
        (first_failed(&checks).map(|(name, _)| name.to_owned()), made)
    };
    let waits = || (None, vec!["key".to_owned(), "signature".to_owned()]);
    let has_none = || (Some("key".to_owned()), vec!["signature".to_owned()]);
    // The last fetch failed, and is not made again for ten seconds.
    world.live.behave(Manners::Away);
    until(async || {
        world.server.state.clock.advance(Duration::from_secs(10));
        refused(world.exchange(&world.assertion()).await, Code::Unauthenticated, "TOKEN_INVALID");
        explained(world.assertion()).await == has_none()
    })
    .await;
    world.server.state.clock.advance(Duration::from_secs(10));
    assert_eq!(explained(world.assertion()).await, waits());
    world.live.behave(Manners::Good);
    world.access_token().await;
    assert_eq!(explained(world.assertion()).await, (None, vec![]));
    // A fetch is in progress, for five seconds at most.
    until(async || {
        world.server.state.clock.advance(Duration::from_secs(10));
        world.live.behave(Manners::Waits);
        let seen = world.live.requests().len();
        let unknown = by_unknown();
        let (exchanged, meanwhile) = tokio::join!(world.exchange(&unknown), async {
            until(async || world.live.requests().len() > seen).await;
            let meanwhile = explained(by_unknown()).await;
            assert_eq!(explained(world.assertion()).await, (None, vec![]));
            world.live.behave(Manners::Good);
            meanwhile
        });
        refused(exchanged, Code::Unauthenticated, "TOKEN_INVALID");
        meanwhile == waits()
    })
    .await;
    // They are so old that an exchange waits for others.
    world.server.state.clock.advance(Duration::from_secs(601));
    assert_eq!(explained(world.assertion()).await, waits());
    world.access_token().await;
    assert_eq!(explained(world.assertion()).await, (None, vec![]));
}

#[tokio::test]
async fn who_may_have_an_assertion_explained() {
    let world = World::new().await;
    let good = world.assertion();
    world.exchange(&good).await.unwrap();
    let (_, reader) = world.server.account(&world.org.id, "reader", &[("federation.read", "*")]).await;
    assert_eq!(first_failed(&explain(&reader, request(&world, &good)).await), None);
    let (_, other) = world.server.account(&world.org.id, "other", &[("tokens.read", "*")]).await;
    let denied = other.tokens().explain_token(request(&world, &good)).await;
    refused(denied, Code::PermissionDenied, "PERMISSION_MISSING");
    // Of a token it is the other permission.
    let of_token = pb::ExplainTokenRequest {
        target: Some(Target::TokenText(world.org.owner.token().into())),
        ..Default::default()
    };
    other.tokens().explain_token(of_token.clone()).await.unwrap();
    refused(reader.tokens().explain_token(of_token).await, Code::PermissionDenied, "PERMISSION_MISSING");
    let request_of = |federation_rule_id: &str| pb::ExplainTokenRequest {
        federation_rule_id: federation_rule_id.into(),
        ..request(&world, &good)
    };
    let unknown = reader.tokens().explain_token(request_of("fed_01h455vb4pex5vsknk084sn02q")).await;
    refused(unknown, Code::NotFound, "RESOURCE_NOT_FOUND");
    // A rule of another org is none.
    let stranger = world.server.org().await;
    let elsewhere = stranger.owner.tokens().explain_token(request(&world, &good)).await;
    refused(elsewhere, Code::NotFound, "RESOURCE_NOT_FOUND");
    let without =
        pb::ExplainTokenRequest { target: Some(Target::TokenText("x".into())), ..request(&world, &good) };
    refused(reader.tokens().explain_token(without).await, Code::InvalidArgument, "INVALID_FIELD");
}
