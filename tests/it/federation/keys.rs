//! The keys of an issuer: how they are fetched, how they turn, and what happens while it is away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use countersign::grpc::pb;
use serde_json::json;
use tonic::Code;

use super::{World, exchange};
use crate::harness::{LiveIssuer, Manners, Signer, TestServer, claims, refused, until};

/// A JWT of this key, named by this `kid`.
fn by(world: &World, signer: &Signer, kid: &str) -> String {
    signer.sign(&json!({"alg": signer.algorithm(), "kid": kid}), &world.claims(json!({})))
}

#[tokio::test]
async fn keys_turn_under_load_without_a_refused_exchange() {
    let world = Arc::new(World::new().await);
    world.access_token().await;
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    // Published before it signs, as issuers do, and after the last fetch was long enough ago.
    let next = Arc::new(Signer::p256());
    let newest = Arc::new(Signer::ed25519());
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (world, stop, done) = (world.clone(), stop.clone(), done.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    world.exchange(&world.assertion()).await.unwrap();
                    done.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for (kid, signer) in [("2", next.clone()), ("3", newest.clone())] {
        world.server.state.clock.advance(Duration::from_secs(11));
        let fetches = world.live.fetches();
        world.live.publish(&[("1", &world.signer), (kid, &signer)]);
        let at_once: Vec<_> = (0..16)
            .map(|_| {
                let (world, assertion) = (world.clone(), by(&world, &signer, kid));
                tokio::spawn(async move { world.exchange(&assertion).await })
            })
            .collect();
        for exchanged in at_once {
            exchanged.await.unwrap().unwrap();
        }
        assert_eq!(world.live.fetches(), fetches + 1, "one flight for all");
        let before = done.load(Ordering::Relaxed);
        until(async || done.load(Ordering::Relaxed) > before + 20).await;
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
}

#[tokio::test]
async fn a_flood_of_unknown_keys_costs_one_fetch_in_ten_seconds() {
    let world = World::new().await;
    world.access_token().await;
    for round in 1..4 {
        world.server.state.clock.advance(Duration::from_secs(10));
        for n in 0..30 {
            let unknown = by(&world, &world.signer, &format!("{round}-{n}"));
            refused(world.exchange(&unknown).await, Code::Unauthenticated, "TOKEN_INVALID");
        }
        assert_eq!(world.live.fetches(), 1 + round);
        world.exchange(&world.assertion()).await.unwrap();
    }
}

#[tokio::test]
async fn a_key_that_is_gone_is_gone_and_so_is_what_it_vouched_for() {
    let world = World::new().await;
    let beside = world.server.beside(world.live.limits()).await;
    let jwt = world.server.client(world.access_token().await);
    jwt.caller().await.unwrap();
    until(async || !world.get_issuer().await.key_ids.is_empty()).await;
    exchange(&beside.anonymous(), &world.rule_id, &world.assertion()).await.unwrap();
    let successor = Signer::ed25519();
    world.live.publish(&[("2", &successor)]);
    world.server.state.clock.advance(Duration::from_secs(11));
    world.exchange(&by(&world, &successor, "2")).await.unwrap();
    refused(world.exchange(&world.assertion()).await, Code::Unauthenticated, "TOKEN_INVALID");
    // Once that is stored.
    until(async || jwt.caller().await.is_err()).await;
    refused(jwt.caller().await, Code::Unauthenticated, "ACCESS_TOKEN_STALE");
    assert_eq!(world.get_issuer().await.key_ids, ["2"]);
    // The other node fetches as well, ten seconds after it did the last time.
    until(async || {
        let there = exchange(&beside.anonymous(), &world.rule_id, &world.assertion()).await;
        there.is_err()
    })
    .await;
    exchange(&beside.anonymous(), &world.rule_id, &by(&world, &successor, "2")).await.unwrap();
    let request = pb::ListEventsRequest {
        resource_id: world.issuer_id.clone(),
        r#type: "issuer.keys_changed".into(),
        ..Default::default()
    };
    let events = world.org.owner.orgs().list_events(request).await.unwrap().into_inner().events;
    assert_eq!(events.len(), 1);
    let changes: Vec<_> = events[0]
        .changes
        .iter()
        .map(|change| (change.old_value.as_deref(), change.new_value.as_deref()))
        .collect();
    assert_eq!(changes, [(Some(&*world.signer.thumbprint()), None), (None, Some(&*successor.thumbprint()))]);
}

#[tokio::test]
async fn an_issuer_may_be_away_for_an_hour() {
    let world = World::new().await;
    let clock = world.server.state.clock.clone();
    world.access_token().await;
    for away in [Manners::Away, Manners::Says { status: "500 x", headers: "", body: Vec::new() }] {
        world.live.behave(away);
        for _ in 0..11 {
            clock.advance(Duration::from_secs(300));
            world.exchange(&world.assertion()).await.unwrap();
        }
        until(async || !world.get_issuer().await.fetch_error.is_empty()).await;
        // An hour after the last success the keys serve no more.
        clock.advance(Duration::from_secs(301));
        refused(world.exchange(&world.assertion()).await, Code::Unauthenticated, "TOKEN_INVALID");
        world.live.behave(Manners::Good);
        clock.advance(Duration::from_secs(10));
        world.exchange(&world.assertion()).await.unwrap();
        until(async || world.get_issuer().await.fetch_error.is_empty()).await;
    }
}

#[tokio::test]
async fn keys_are_fetched_again_as_often_as_their_issuer_asks() {
    let world = World::new().await;
    world.live.cache_control("max-age=90");
    world.access_token().await;
    let clock = world.server.state.clock.clone();
    for (seconds, more) in [(80, 0), (11, 1), (89, 0), (2, 1)] {
        let fetches = world.live.fetches();
        clock.advance(Duration::from_secs(seconds));
        world.access_token().await;
        if more == 1 {
            // Once it is stored, the keys are known as well.
            let now = clock.now().unix_timestamp();
            until(async || world.get_issuer().await.fetch_time.unwrap().seconds == now).await;
        }
        assert_eq!(world.live.fetches(), fetches + more);
    }
}

#[tokio::test]
async fn what_an_issuer_says_is_taken_as_it_should_be_or_not_at_all() {
    let own = |world: &World| {
        let jwks = world.server.state.keyring.signer.jwks();
        serde_json::to_value(jwks).unwrap().as_array().unwrap().clone()
    };
    let says = |status, headers, body: Vec<u8>| Manners::Says { status, headers, body };
    let many: Vec<_> = (0..10_000).map(|_| json!({"kty": "x"})).collect();
    let world = World::new().await;
    let clock = world.server.state.clock.clone();
    let elsewhere = "location: https://localhost:1/\r\n";
    let url = world.live.url.clone();
    for (manners, error) in [
        (Manners::Away, "CONNECTION_FAILED"),
        (Manners::OfAnother, "ISSUER_MISMATCH"),
        (says("302 Found", elsewhere, Vec::new()), "REDIRECTED"),
        (says("301 Moved", elsewhere, Vec::new()), "REDIRECTED"),
        (says("404 Not Found", "", Vec::new()), "STATUS_NOT_OK"),
        (says("204 No Content", "", Vec::new()), "STATUS_NOT_OK"),
        (says("200 OK", "content-encoding: gzip\r\n", Vec::new()), "ENCODED"),
        (says("200 OK", "", b"<html>".to_vec()), "MALFORMED"),
        (says("200 OK", "", vec![b' '; 10 << 20]), "TOO_LARGE"),
        (Manners::KeysAt(url.replace("https", "http")), "JWKS_URI_NOT_ALLOWED"),
        (Manners::KeysAt("https://127.0.0.1/jwks".into()), "JWKS_URI_NOT_ALLOWED"),
        (Manners::KeysAt("https://169.254.169.254/latest".into()), "JWKS_URI_NOT_ALLOWED"),
        (Manners::KeysAt("https://user@localhost/jwks".into()), "JWKS_URI_NOT_ALLOWED"),
        (Manners::KeysAt("https://localhost:1/jwks".into()), "CONNECTION_FAILED"),
    ] {
        world.live.behave(manners.clone());
        // A minute later, since a host is asked ten times in one.
        clock.advance(Duration::from_secs(61));
        refused(world.exchange(&world.assertion()).await, Code::Unauthenticated, "TOKEN_INVALID");
        until(async || world.get_issuer().await.fetch_error == error).await;
    }
    world.live.behave(Manners::Good);
    for (keys, error) in [(many, "TOO_MANY_KEYS"), (own(&world), "OWN_KEY")] {
        world.live.publish_jwks(keys);
        clock.advance(Duration::from_secs(61));
        refused(world.exchange(&world.assertion()).await, Code::Unauthenticated, "TOKEN_INVALID");
        until(async || world.get_issuer().await.fetch_error == error).await;
    }
    let large = vec![json!({"kty": "x", "x": "x".repeat(300_000)})];
    world.live.publish_jwks(large);
    clock.advance(Duration::from_secs(61));
    refused(world.exchange(&world.assertion()).await, Code::Unauthenticated, "TOKEN_INVALID");
    until(async || world.get_issuer().await.fetch_error == "TOO_LARGE").await;
    world.live.publish(&[("1", &world.signer)]);
    clock.advance(Duration::from_secs(61));
    world.exchange(&world.assertion()).await.unwrap();
    // It was asked as a program asks that takes nothing but JSON.
    for head in world.live.requests() {
        let lower = head.to_lowercase();
        assert!(
            lower.contains("accept-encoding: identity") && lower.contains("accept: application/json"),
            "{head}"
        );
        assert!(!lower.contains("authorization") && !lower.contains("cookie"), "{head}");
    }
}

#[tokio::test]
async fn an_issuer_that_hangs_holds_up_nobody_for_long() {
    let world = World::new().await;
    world.access_token().await;
    world.live.behave(Manners::Hangs);
    let clock = world.server.state.clock.clone();
    // The keys are not old yet: nothing waits.
    clock.advance(Duration::from_secs(599));
    world.access_token().await;
    // Once they are too old, a call waits for 5 s at most.
    clock.advance(Duration::from_secs(3_601));
    refused(world.exchange(&world.assertion()).await, Code::Unauthenticated, "TOKEN_INVALID");
    until(async || world.get_issuer().await.fetch_error == "TIMED_OUT").await;
    world.live.behave(Manners::Good);
    clock.advance(Duration::from_secs(10));
    world.access_token().await;
}

#[tokio::test]
async fn an_issuer_whose_certificate_is_not_trusted_is_none() {
    let live = LiveIssuer::start().await;
    let stranger = LiveIssuer::start().await;
    // Another authority, and a deployment that admits none.
    let world = World::of(live, stranger.limits(), Signer::ed25519(), |_| {}, |_| {}).await;
    refused(world.exchange(&world.assertion()).await, Code::Unauthenticated, "TOKEN_INVALID");
    until(async || world.get_issuer().await.fetch_error == "TLS_FAILED").await;
    assert_eq!(world.live.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn keys_that_are_inline_are_fetched_from_nowhere() {
    let signer = Signer::ed25519();
    let mut jwk = signer.jwk();
    jwk["kid"] = json!("1");
    let jwks = json!({"keys": [jwk]}).to_string();
    let live = LiveIssuer::start().await;
    let limits = live.limits();
    let change = |issuer: &mut pb::Issuer| {
        issuer.kind = pb::IssuerKind::Jwks.into();
        issuer.jwks = jwks;
    };
    let world = World::of(live, limits, signer, change, |_| {}).await;
    assert_eq!(claims(&world.access_token().await)["token_kind"], "FEDERATED");
    let unknown = by(&world, &world.signer, "2");
    refused(world.exchange(&unknown).await, Code::Unauthenticated, "TOKEN_INVALID");
    world.server.state.clock.advance(Duration::from_secs(86_400));
    world.access_token().await;
    assert_eq!((world.live.fetches(), world.live.requests().len()), (0, 0));
    // Other keys take their place at once.
    let successor = Signer::p256();
    let mut jwk = successor.jwk();
    jwk["kid"] = json!("2");
    let issuer = pb::Issuer {
        id: world.issuer_id.clone(),
        jwks: json!({"keys": [jwk]}).to_string(),
        ..Default::default()
    };
    let update_mask = Some(prost_types::FieldMask { paths: vec!["jwks".into()] });
    let request = pb::UpdateIssuerRequest { issuer: Some(issuer), update_mask, ..Default::default() };
    world.org.owner.orgs().update_issuer(request).await.unwrap();
    refused(world.exchange(&world.assertion()).await, Code::Unauthenticated, "TOKEN_INVALID");
    world.exchange(&by(&world, &successor, "2")).await.unwrap();
}

#[tokio::test]
async fn a_row_that_others_wrote_opens_nothing() {
    let world = World::new().await;
    let jwt = world.server.client(world.access_token().await);
    let tampered: [(&str, &str, &str); 5] = [
        ("federation_rules", "subject", "'system:serviceaccount:prod:attacker'"),
        ("federation_rules", "audiences", "'{https://evil.example}'"),
        ("federation_rules", "scopes", "'{invoices.read}'"),
        ("issuers", "issuer", "'https://localhost:1'"),
        ("issuers", "max_assertion_lifetime", "86400"),
    ];
    for (table, column, value) in tampered {
        let server: &TestServer = &world.server;
        let keep = format!("create table kept as select * from {table}");
        sqlx::query(sqlx::AssertSqlSafe(keep)).execute(&server.state.db).await.unwrap();
        let change = format!("update {table} set {column} = {value}");
        sqlx::query(sqlx::AssertSqlSafe(change)).execute(&server.state.db).await.unwrap();
        server.state.principals.clear();
        refused(world.exchange(&world.assertion()).await, Code::Unauthenticated, "TOKEN_INVALID");
        refused(jwt.caller().await, Code::Unauthenticated, "ACCESS_TOKEN_STALE");
        let back = format!("update {table} t set {column} = kept.{column} from kept");
        sqlx::query(sqlx::AssertSqlSafe(back)).execute(&server.state.db).await.unwrap();
        sqlx::query("drop table kept").execute(&server.state.db).await.unwrap();
        server.state.principals.clear();
        world.exchange(&world.assertion()).await.unwrap();
        jwt.caller().await.unwrap();
    }
}
