//! The exchange of a JWT of another issuer by a rule, and what becomes of what it gives.

use std::time::Duration;

use aws_lc_rs::rsa::KeySize;
use countersign::crypto::password_places::Asker;
use countersign::domain::values::client_address::{ClientAddress, ForwardedHeaders};
use countersign::error::Reason;
use countersign::grpc::pb;
use serde_json::json;
use tonic::Code;

use super::{JWT, SUBJECT, World, create_issuer, create_rule, exchange, rule_for};
use crate::harness::{LiveIssuer, Signer, by_id, claims, refused, until};
use crate::tokens::assertions::fill;

#[tokio::test]
async fn a_workload_comes_without_a_secret() {
    for signer in [Signer::ed25519(), Signer::p256(), Signer::rsa(KeySize::Rsa2048, "RS256").await] {
        let live = LiveIssuer::start().await;
        let limits = live.limits();
        let world = World::of(live, limits, signer, |_| {}, |_| {}).await;
        let issued = world.exchange(&world.assertion()).await.unwrap();
        assert_eq!(issued.scopes, ["invoices.read"]);
        let read = claims(&issued.access_token);
        assert_eq!(read["sub"], world.account.id);
        assert_eq!((&read["client_id"], &read["token_kind"]), (&json!(world.rule_id), &json!("FEDERATED")));
        assert_eq!((&read["rule_ver"], read.get("secret")), (&json!(1), None));
        assert_eq!(read["aud"], world.server.endpoint);

        let client = world.server.client(issued.access_token.clone());
        let caller = client.caller().await.unwrap();
        assert_eq!(caller.account.unwrap().id, world.account.id);
        assert_eq!(caller.credential_id, world.rule_id);
        let request = pb::IntrospectTokenRequest { token_text: issued.access_token, ..Default::default() };
        let inspected = world.org.owner.tokens().introspect_token(request).await.unwrap().into_inner();
        assert!(inspected.active);
        assert_eq!((inspected.client_id, inspected.sub), (world.rule_id.clone(), world.account.id.clone()));

        world.server.state.last_uses.flush().await.unwrap();
        assert_eq!(world.get_rule().await.r#use.unwrap().count, 1);
        let issuer = world.get_issuer().await;
        assert_eq!(issuer.fetch_error, "");
    }
}

#[tokio::test]
async fn a_warm_exchange_asks_no_database_and_no_issuer() {
    let world = World::new().await;
    world.access_token().await;
    // What is known is loaded again where the feed of changes is late, as on a busy machine.
    until(async || {
        let looks = world.server.state.principals.looks();
        for _ in 0..20 {
            world.access_token().await;
        }
        world.server.state.principals.looks() == looks
    })
    .await;
    assert_eq!(world.live.fetches(), 1);
}

#[tokio::test]
async fn a_jwt_lives_no_longer_than_its_rule_says_and_holds_no_more() {
    let world = World::with(
        |_| {},
        |rule| {
            rule.access_token_lifetime = Some(prost_types::Duration { seconds: 60, nanos: 0 });
            rule.scopes = vec!["invoices.read".into()];
            rule.allowed_audiences = vec!["https://billing.example".into()];
        },
    )
    .await;
    let request = |audiences: &[&str], scopes: &[&str]| pb::ExchangeTokenRequest {
        subject_token: Some(world.assertion()),
        subject_token_type: JWT.into(),
        federation_rule_id: world.rule_id.clone(),
        audiences: audiences.iter().map(ToString::to_string).collect(),
        scopes: scopes.iter().map(ToString::to_string).collect(),
        requested_ttl: Some(prost_types::Duration { seconds: 3_600, nanos: 0 }),
        ..Default::default()
    };
    let exchange = async |request| world.server.anonymous().tokens().exchange_token(request).await;
    let issued = exchange(request(&["https://billing.example"], &[])).await.unwrap().into_inner();
    let read = claims(&issued.access_token);
    assert_eq!(read["exp"].as_i64().unwrap() - read["iat"].as_i64().unwrap(), 60);
    assert_eq!(read["scope"], "invoices.read");
    let other = exchange(request(&["https://other.example"], &[])).await;
    refused(other, Code::InvalidArgument, "INVALID_TARGET");
    refused(exchange(request(&[], &[])).await, Code::InvalidArgument, "INVALID_TARGET");
    let more = exchange(request(&["https://billing.example"], &["invoices.write"])).await;
    refused(more, Code::PermissionDenied, "SCOPE_NOT_HELD");
}

#[tokio::test]
async fn what_becomes_of_a_rule_becomes_of_its_jwts() {
    let world = World::new().await;
    let jwt = world.server.client(world.access_token().await);
    jwt.caller().await.unwrap();
    let disabled = |disabled| pb::FederationRule { disabled: Some(disabled), ..Default::default() };

    // A rule that is disabled is one that does not exist.
    world.update_rule(disabled(true), &["disabled"]).await.unwrap();
    refused(world.exchange(&world.assertion()).await, Code::Unauthenticated, "TOKEN_INVALID");
    refused(jwt.caller().await, Code::Unauthenticated, "ACCESS_TOKEN_STALE");
    world.update_rule(disabled(false), &["disabled"]).await.unwrap();
    refused(jwt.caller().await, Code::Unauthenticated, "ACCESS_TOKEN_STALE");
    let jwt = world.server.client(world.access_token().await);
    jwt.caller().await.unwrap();
    assert_eq!(claims(jwt.token())["rule_ver"], 3);

    // A change makes its JWTs stale, and the next one is for the new rule.
    let networks = pb::FederationRule { allowed_cidrs: vec!["192.0.2.0/24".into()], ..Default::default() };
    world.update_rule(networks, &["allowed_cidrs"]).await.unwrap();
    refused(jwt.caller().await, Code::Unauthenticated, "ACCESS_TOKEN_STALE");
    refused(world.exchange(&world.assertion()).await, Code::PermissionDenied, "ADDRESS_NOT_ALLOWED");
    let networks = pb::FederationRule { allowed_cidrs: vec!["127.0.0.0/8".into()], ..Default::default() };
    world.update_rule(networks, &["allowed_cidrs"]).await.unwrap();
    let jwt = world.server.client(world.access_token().await);
    jwt.caller().await.unwrap();

    // So does a change of its issuer.
    let issuer = pb::Issuer {
        id: world.issuer_id.clone(),
        max_assertion_lifetime: Some(prost_types::Duration { seconds: 1_200, nanos: 0 }),
        ..Default::default()
    };
    let update_mask = Some(prost_types::FieldMask { paths: vec!["max_assertion_lifetime".into()] });
    let request = pb::UpdateIssuerRequest { issuer: Some(issuer), update_mask, ..Default::default() };
    world.org.owner.orgs().update_issuer(request).await.unwrap();
    refused(jwt.caller().await, Code::Unauthenticated, "ACCESS_TOKEN_STALE");
    let jwt = world.server.client(world.access_token().await);

    // The account and the policy of the org stop it, with their reasons, once all checks of the rule have passed.
    let request = pb::DeactivateAccountRequest { account_id: world.account.id.clone(), ..Default::default() };
    world.org.owner.accounts().deactivate_account(request).await.unwrap();
    refused(world.exchange(&world.assertion()).await, Code::Unauthenticated, "ACCOUNT_DEACTIVATED");
    let wrong = world.signed(&world.claims(json!({"sub": "another"})));
    refused(world.exchange(&wrong).await, Code::Unauthenticated, "TOKEN_INVALID");
    refused(jwt.caller().await, Code::Unauthenticated, "ACCOUNT_DEACTIVATED");
    let request = pb::ActivateAccountRequest { account_id: world.account.id.clone(), ..Default::default() };
    world.org.owner.accounts().activate_account(request).await.unwrap();
    let policy = pb::TokenPolicy { allow_federation: Some(false), ..Default::default() };
    let update_mask = Some(prost_types::FieldMask { paths: vec!["allow_federation".into()] });
    let request = pb::UpdateTokenPolicyRequest { policy: Some(policy), update_mask, ..Default::default() };
    world.org.owner.orgs().update_token_policy(request).await.unwrap();
    refused(world.exchange(&world.assertion()).await, Code::Unauthenticated, "TOKEN_BLOCKED");
    super::allow_federation(&world.org.owner).await;
    let jwt = world.server.client(world.access_token().await);

    // Revoking is final.
    world.org.owner.tokens().revoke_token(by_id(&world.org.id, &world.rule_id)).await.unwrap();
    refused(world.exchange(&world.assertion()).await, Code::Unauthenticated, "TOKEN_REVOKED");
    refused(world.exchange(&wrong).await, Code::Unauthenticated, "TOKEN_INVALID");
    refused(jwt.caller().await, Code::Unauthenticated, "TOKEN_REVOKED");
}

#[tokio::test]
async fn a_rule_expires() {
    let world = World::new().await;
    let end = world.server.state.clock.now() + Duration::from_secs(3_600);
    let end = prost_types::Timestamp { seconds: end.unix_timestamp(), nanos: 0 };
    let expiring = pb::FederationRule { expire_time: Some(end), ..Default::default() };
    world.update_rule(expiring, &["expire_time"]).await.unwrap();
    world.server.state.clock.advance(Duration::from_secs(3_500));
    let issued = world.exchange(&world.assertion()).await.unwrap();
    assert!(claims(&issued.access_token)["exp"].as_i64().unwrap() <= end.seconds);
    world.server.state.clock.advance(Duration::from_secs(101));
    refused(world.exchange(&world.assertion()).await, Code::Unauthenticated, "TOKEN_EXPIRED");
}

#[tokio::test]
async fn a_rule_is_named_and_never_searched() {
    let world = World::new().await;
    let assertion = world.assertion();
    // Another org trusts the same issuer and subject.
    let other = world.server.org().await;
    super::allow_federation(&other.owner).await;
    let (account, _) = world.server.account(&other.id, "deployer", &[]).await;
    let issuer = pb::Issuer {
        kind: pb::IssuerKind::Oidc.into(),
        issuer: world.live.url.clone(),
        ..Default::default()
    };
    let issuer_id = create_issuer(&other.owner, issuer).await.unwrap();
    let elsewhere = create_rule(&other.owner, rule_for(&issuer_id, &account.id)).await.unwrap();
    let read = |issued: pb::ExchangeTokenResponse| claims(&issued.access_token);
    let anonymous = world.server.anonymous();
    assert_eq!(read(exchange(&anonymous, &world.rule_id, &assertion).await.unwrap())["org"], world.org.id);
    assert_eq!(read(exchange(&anonymous, &elsewhere, &assertion).await.unwrap())["org"], other.id);
    // A rule of another org than the one that is named.
    let request = |rule_id: &str, org_id: &str| pb::ExchangeTokenRequest {
        subject_token: Some(assertion.clone()),
        subject_token_type: JWT.into(),
        federation_rule_id: rule_id.into(),
        org_id: org_id.into(),
        ..Default::default()
    };
    let of_other = anonymous.tokens().exchange_token(request(&elsewhere, &world.org.id)).await;
    refused(of_other, Code::NotFound, "RESOURCE_NOT_FOUND");
    // One that does not exist, and credentials that are no rules.
    let unknown = "fed_01h455vb4pex5vsknk084sn02q";
    refused(exchange(&anonymous, unknown, &assertion).await, Code::Unauthenticated, "TOKEN_INVALID");
    for id in [world.issuer_id.as_str(), "tok_01h455vb4pex5vsknk084sn02q", "fed_", "deployer"] {
        refused(exchange(&anonymous, id, &assertion).await, Code::InvalidArgument, "INVALID_FIELD");
    }
    // Without a rule it is read as the assertion of a key, which it is not.
    let without = exchange(&anonymous, "", &assertion).await;
    refused(without, Code::Unauthenticated, "TOKEN_INVALID");
    // It is never the bearer, nor of another type.
    let bearer = world.server.client(assertion.clone());
    let request = pb::ExchangeTokenRequest {
        subject_token_type: JWT.into(),
        federation_rule_id: world.rule_id.clone(),
        ..Default::default()
    };
    let status = refused(
        bearer.tokens().exchange_token(request.clone()).await,
        Code::InvalidArgument,
        "INVALID_FIELD",
    );
    assert_eq!(crate::harness::violated(&status), ["subject_token"]);
    let of_another_type = pb::ExchangeTokenRequest {
        subject_token: Some(assertion.clone()),
        subject_token_type: String::new(),
        ..request
    };
    let status = refused(
        anonymous.tokens().exchange_token(of_another_type).await,
        Code::InvalidArgument,
        "INVALID_FIELD",
    );
    assert_eq!(crate::harness::violated(&status), ["subject_token_type"]);
}

/// Also from an address with too many failures.
#[tokio::test]
async fn a_rule_that_does_not_exist_has_a_signature_verified_as_one_that_does() {
    let world = World::new().await;
    let server = &world.server;
    let es384 = world.signer.sign(&json!({"alg": "ES384", "kid": "1"}), &world.claims(json!({})));
    let rule = pb::FederationRule {
        audiences: vec![server.endpoint.clone()],
        disabled: Some(true),
        ..rule_for(&world.issuer_id, &world.account.id)
    };
    let disabled = create_rule(&world.org.owner, rule).await.unwrap();
    let here = ClientAddress::of_request([127, 0, 0, 1].into(), &ForwardedHeaders::default(), &[]);
    let places = server.state.authenticator.slow_signatures();
    let (_held, _waiting) = fill(places, Asker::Stranger(here)).await;
    for _ in 0..=101 {
        let _ = server.state.principals.refuse(here, Reason::TokenInvalid);
    }
    for rule_id in ["fed_01h455vb4pex5vsknk084sn02q", &disabled, &world.rule_id] {
        let refusal = exchange(&server.anonymous(), rule_id, &es384).await;
        refused(refusal, Code::ResourceExhausted, "OVERLOADED");
    }
}

#[tokio::test]
async fn an_assertion_works_once_where_its_issuer_says_so() {
    let world = World::with(|issuer| issuer.single_use_jti = Some(true), |_| {}).await;
    let beside = world.server.beside(world.live.limits()).await;
    let with = |jti: &str| world.signed(&world.claims(json!({"jti": jti})));
    let one = with("one");
    world.exchange(&one).await.unwrap();
    refused(world.exchange(&one).await, Code::Unauthenticated, "TOKEN_INVALID");
    let there = exchange(&beside.anonymous(), &world.rule_id, &one).await;
    refused(there, Code::Unauthenticated, "TOKEN_INVALID");
    // Another JWT with the same `jti` is the same one.
    let again = world.signed(&world.claims(json!({"jti": "one", "other": 1})));
    refused(world.exchange(&again).await, Code::Unauthenticated, "TOKEN_INVALID");
    exchange(&beside.anonymous(), &world.rule_id, &with("two")).await.unwrap();
    refused(world.exchange(&with("two")).await, Code::Unauthenticated, "TOKEN_INVALID");
    refused(world.exchange(&world.assertion()).await, Code::Unauthenticated, "TOKEN_INVALID");
    // One that is refused for something else is not used.
    let three = with("three");
    let request = pb::ExchangeTokenRequest {
        subject_token: Some(three.clone()),
        subject_token_type: JWT.into(),
        federation_rule_id: world.rule_id.clone(),
        scopes: vec!["invoices.write".into()],
        ..Default::default()
    };
    let wide = world.server.anonymous().tokens().exchange_token(request).await;
    refused(wide, Code::PermissionDenied, "SCOPE_NOT_HELD");
    world.exchange(&three).await.unwrap();
    // What one rule uses up is not what another one of the issuer has.
    let rule = pb::FederationRule {
        audiences: vec![world.server.endpoint.clone()],
        ..rule_for(&world.issuer_id, &world.account.id)
    };
    let other = create_rule(&world.org.owner, rule).await.unwrap();
    let fill = "insert into used_assertions (signer_id, jti_hash, keep_until, rule_id)
                select i.issuer_id, decode(lpad(to_hex(n), 64, '0'), 'hex'), $1, $2
                from issuers i, generate_series(1, 10000) n";
    let uuid = countersign::domain::values::ids::RuleId::parse(&world.rule_id).unwrap().uuid();
    sqlx::query(fill)
        .bind(world.server.state.clock.now() + Duration::from_secs(600))
        .bind(uuid)
        .execute(&world.server.state.db)
        .await
        .unwrap();
    refused(world.exchange(&with("four")).await, Code::ResourceExhausted, "THROTTLED");
    exchange(&world.server.anonymous(), &other, &with("five")).await.unwrap();
}

#[tokio::test]
async fn what_was_presented_is_counted_by_subject() {
    let world = World::with(
        |_| {},
        |rule| {
            rule.claims = vec![pb::ClaimMatch {
                path: vec!["ref".into()],
                values: vec!["main".into()],
                ..Default::default()
            }];
        },
    )
    .await;
    let with = |changes| world.signed(&world.claims(changes));
    for _ in 0..3 {
        world.exchange(&with(json!({"ref": "main", "run": 5, "long": "x".repeat(300)}))).await.unwrap();
    }
    world.exchange(&with(json!({"ref": "topic"}))).await.unwrap_err();
    world
        .exchange(&with(json!({"ref": "main", "sub": "system:serviceaccount:prod:other"})))
        .await
        .unwrap_err();
    world.exchange(&with(json!({"ref": "main", "iss": "https://other.example"}))).await.unwrap_err();
    world
        .exchange(&Signer::ed25519().sign(&json!({"alg": "EdDSA", "kid": "1"}), &world.claims(json!({}))))
        .await
        .unwrap_err();
    world.server.state.presentations.flush().await.unwrap();
    world.exchange(&with(json!({"ref": "main", "run": 5}))).await.unwrap();
    world.server.state.presentations.flush().await.unwrap();

    let request = pb::ListPresentationsRequest { rule_id: world.rule_id.clone(), ..Default::default() };
    let listed = world.org.owner.orgs().list_presentations(request).await.unwrap().into_inner().presentations;
    let rows: Vec<_> = listed
        .iter()
        .map(|one| (one.subject.as_str(), one.failed_check.as_str(), one.claims.as_str(), one.count))
        .collect();
    assert_eq!(
        rows,
        [
            ("", "issuer", "", 1),
            ("", "signature", "", 1),
            (SUBJECT, "", r#"{"ref":"main"}"#, 4),
            (SUBJECT, "claims/ref", r#"{"ref":"topic"}"#, 1),
            ("system:serviceaccount:prod:other", "subject", r#"{"ref":"main"}"#, 1),
        ]
    );
}
