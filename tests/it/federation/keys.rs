//! The keys of an issuer: how they are fetched, how they turn, and what happens while it is away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use countersign::domain::values::ids::OrgId;
use countersign::grpc::pb;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use tonic::Code;

use super::{World, exchange};
use crate::harness::{Client, LiveIssuer, Manners, Org, Signer, TestServer, claims, reason, refused, until};

/// A JWT of this key, named by this `kid`.
fn by(world: &World, signer: &Signer, kid: &str) -> String {
    signer.sign(&json!({"alg": signer.algorithm(), "kid": kid}), &world.claims(json!({})))
}

/// The events that say that the issuer's keys have changed.
async fn changes_of_keys(world: &World) -> Vec<pb::Event> {
    let request = pb::ListEventsRequest {
        resource_id: world.issuer_id.clone(),
        r#type: "issuer.keys_changed".into(),
        ..Default::default()
    };
    world.org.owner.orgs().list_events(request).await.unwrap().into_inner().events
}

async fn execute(world: &World, sql: &str) {
    sqlx::query(sqlx::AssertSqlSafe(sql.to_owned())).execute(&world.server.state.db).await.unwrap();
}

async fn update_issuer(world: &World, issuer: pb::Issuer, path: &str) {
    let issuer = pb::Issuer { id: world.issuer_id.clone(), ..issuer };
    let update_mask = Some(prost_types::FieldMask { paths: vec![path.into()] });
    let request = pb::UpdateIssuerRequest { issuer: Some(issuer), update_mask, ..Default::default() };
    world.org.owner.orgs().update_issuer(request).await.unwrap();
}

/// How often keys that are looked for again may have been fetched since then: once, and again after each ten seconds that
/// went by, also where the clock of the test stands.
fn more_fetches(began: &Instant) -> std::ops::RangeInclusive<usize> {
    1..=1 + began.elapsed().as_secs() as usize / 10
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
        let (began, fetches) = (Instant::now(), world.live.fetches());
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
        assert!(more_fetches(&began).contains(&(world.live.fetches() - fetches)), "one flight for all");
        let before = done.load(Ordering::Relaxed);
        until(async || done.load(Ordering::Relaxed) > before + 20).await;
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
}

/// As issuers turn them: the next key is published, then signs, and then the former one is gone.
#[tokio::test]
async fn keys_are_replaced_under_load_without_a_refused_exchange() {
    let world = Arc::new(World::new().await);
    let clock = world.server.state.clock.clone();
    let signers: Arc<Vec<_>> = Arc::new((0..4).map(|_| Signer::ed25519()).collect());
    let publish = |kids: &[usize]| {
        let named: Vec<_> = kids.iter().map(|n| (n.to_string(), &signers[*n])).collect();
        let keys: Vec<_> = named.iter().map(|(kid, signer)| (kid.as_str(), *signer)).collect();
        world.live.publish(&keys);
    };
    publish(&[0]);
    let (stop, current) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let done: Arc<Vec<_>> = Arc::new((0..4).map(|_| AtomicUsize::new(0)).collect());
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (world, stop, current, done) = (world.clone(), stop.clone(), current.clone(), done.clone());
            let signers = signers.clone();
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let n = current.load(Ordering::SeqCst);
                    // Longer than the clock is moved while it is under way.
                    let at = world.server.state.clock.now().unix_timestamp();
                    let claims = world.claims(json!({"iat": at, "exp": at + 3_000}));
                    let assertion = signers[n].sign(&json!({"alg": "EdDSA", "kid": n.to_string()}), &claims);
                    world.exchange(&assertion).await.unwrap_or_else(|refusal| panic!("key {n}: {refusal:?}"));
                    done[n].fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    let some_more = async |n: usize| {
        let before = done[n].load(Ordering::Relaxed);
        until(async || {
            assert!(clients.iter().all(|client| !client.is_finished()));
            done[n].load(Ordering::Relaxed) > before + 40
        })
        .await;
    };
    some_more(0).await;
    for next in 1..4 {
        publish(&[next - 1, next]);
        // A change is stored a minute after the one before, so that this one does not hold up the next.
        clock.advance(Duration::from_secs(61));
        some_more(next - 1).await;
        current.store(next, Ordering::SeqCst);
        some_more(next).await;
        until(async || world.get_issuer().await.key_ids.len() == 2).await;
        // Nothing that the former key signed is under way any more.
        publish(&[next]);
        clock.advance(Duration::from_secs(601));
        some_more(next).await;
        until(async || world.get_issuer().await.key_ids == [next.to_string()]).await;
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    // They are few: the load has not asked the issuer.
    assert!(world.live.fetches() <= 1 + 3 * 3, "{}", world.live.fetches());
}

#[tokio::test]
async fn a_flood_of_unknown_keys_costs_one_fetch_in_ten_seconds() {
    let world = World::new().await;
    world.access_token().await;
    for round in 0..3 {
        let (began, fetches) = (Instant::now(), world.live.fetches());
        world.server.state.clock.advance(Duration::from_secs(10));
        for n in 0..30 {
            let unknown = by(&world, &world.signer, &format!("{round}-{n}"));
            refused(world.exchange(&unknown).await, Code::Unauthenticated, "TOKEN_INVALID");
        }
        assert!(more_fetches(&began).contains(&(world.live.fetches() - fetches)), "{}", world.live.fetches());
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
    // The other node does not believe it any more, either, also where it cannot fetch.
    world.live.behave(Manners::Away);
    until(async || {
        let there = exchange(&beside.anonymous(), &world.rule_id, &world.assertion()).await;
        there.is_err()
    })
    .await;
    world.live.behave(Manners::Good);
    world.server.state.clock.advance(Duration::from_secs(11));
    exchange(&beside.anonymous(), &world.rule_id, &by(&world, &successor, "2")).await.unwrap();
    let events = changes_of_keys(&world).await;
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
            world.stores_fetch().await;
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
async fn an_issuer_that_hangs_holds_up_no_call_for_long() {
    let world = World::new().await;
    world.access_token().await;
    world.live.behave(Manners::Hangs);
    let clock = world.server.state.clock.clone();
    // The keys are not old yet: nothing is asked, and nothing waits.
    let asked = world.live.requests().len();
    clock.advance(Duration::from_secs(599));
    world.access_token().await;
    assert_eq!(world.live.requests().len(), asked);
    // Once they are too old, a call waits for 5 s at most.
    clock.advance(Duration::from_secs(3_601));
    refused(world.exchange(&world.assertion()).await, Code::Unauthenticated, "TOKEN_INVALID");
    until(async || world.get_issuer().await.fetch_error == "TIMED_OUT").await;
    world.live.behave(Manners::Good);
    clock.advance(Duration::from_secs(10));
    world.access_token().await;
}

#[tokio::test]
async fn few_calls_wait_for_an_issuer() {
    let world = Arc::new(World::new().await);
    // A fetch lasts five seconds: where so many calls take longer, none of them is exchanged.
    until(async || {
        world.server.state.clock.advance(Duration::from_secs(11));
        world.live.behave(Manners::Waits);
        let calls: Vec<_> = (0..100)
            .map(|_| {
                let (world, assertion) = (world.clone(), world.assertion());
                tokio::spawn(async move { world.exchange(&assertion).await })
            })
            .collect();
        // All but those that wait are refused at once.
        until(async || calls.iter().filter(|call| call.is_finished()).count() >= 100 - 16).await;
        world.live.behave(Manners::Good);
        let mut refused = Vec::new();
        for call in calls {
            refused.extend(call.await.unwrap().err().map(|refusal| reason(&refusal)));
        }
        refused == vec!["OVERLOADED"; 100 - 16]
    })
    .await;
    // Once it answers, there is room.
    world.access_token().await;
}

#[tokio::test]
async fn a_change_that_says_nothing_of_keys_keeps_them() {
    let world = World::new().await;
    world.access_token().await;
    world.live.behave(Manners::Away);
    let asked = world.live.requests().len();
    let longer = pb::Issuer {
        max_assertion_lifetime: Some(prost_types::Duration { seconds: 7_200, nanos: 0 }),
        ..Default::default()
    };
    update_issuer(&world, longer, "max_assertion_lifetime").await;
    // It is away just now.
    world.access_token().await;
    assert_eq!(world.live.requests().len(), asked, "nothing is fetched for it");
    // Other algorithms are other keys.
    let algorithms = pb::Issuer { algorithms: vec!["EdDSA".into()], ..Default::default() };
    update_issuer(&world, algorithms, "algorithms").await;
    refused(world.exchange(&world.assertion()).await, Code::Unauthenticated, "TOKEN_INVALID");
}

#[tokio::test]
async fn an_issuer_that_flaps_writes_once_in_a_minute() {
    let world = World::new().await;
    let clock = world.server.state.clock.clone();
    world.access_token().await;
    until(async || !world.get_issuer().await.key_ids.is_empty()).await;
    let other = Signer::ed25519();
    let mut of_other = None;
    for n in 1..=5 {
        clock.advance(Duration::from_secs(11));
        let (kid, signer) = if n % 2 == 1 { ("2", &other) } else { ("1", &world.signer) };
        world.live.publish(&[(kid, signer)]);
        let issued = world.exchange(&by(&world, signer, kid)).await.unwrap();
        if n == 1 {
            until(async || changes_of_keys(&world).await.len() == 1).await;
        }
        if n == 3 {
            of_other = Some(world.server.client(issued.access_token));
        }
    }
    // There was time to write more.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(changes_of_keys(&world).await.len(), 1);
    let of_other = of_other.unwrap();
    of_other.caller().await.unwrap();
    // The key is there, as it is stored; that it was away in between is still reported.
    clock.advance(Duration::from_secs(20));
    until(async || of_other.caller().await.is_err()).await;
    refused(of_other.caller().await, Code::Unauthenticated, "ACCESS_TOKEN_STALE");
    assert_eq!(changes_of_keys(&world).await.len(), 2);
    assert_eq!(world.get_issuer().await.key_ids, ["2"]);
}

/// Stores the first set of keys, changes what is stored by this statement, and fetches a set with another key. Returns a
/// client with a JWT of the first one, and the other key.
async fn renewed_beside(world: &World, statement: &str) -> (Client, Signer) {
    let jwt = world.server.client(world.access_token().await);
    until(async || !world.get_issuer().await.key_ids.is_empty()).await;
    execute(world, statement).await;
    world.server.state.principals.clear();
    world.access_token().await;
    let successor = Signer::ed25519();
    world.live.publish(&[("2", &successor)]);
    world.server.state.clock.advance(Duration::from_secs(11));
    world.exchange(&by(world, &successor, "2")).await.unwrap();
    (jwt, successor)
}

#[tokio::test]
async fn what_was_fetched_before_what_is_stored_makes_nothing_stale() {
    let world = World::new().await;
    // Another node fetches a minute later than this one, which stores its outcome last. It has seen that.
    let (jwt, _) =
        renewed_beside(&world, "update issuers set fetch_time = fetch_time + interval '1 minute'").await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(changes_of_keys(&world).await.len(), 0);
    assert_eq!(world.get_issuer().await.key_ids, ["1"]);
    jwt.caller().await.unwrap();
}

/// The clock of a node was two hours ahead when it stored what it fetched.
#[tokio::test]
async fn a_fetch_that_is_stored_with_a_time_to_come_holds_up_no_key() {
    let world = World::new().await;
    let (jwt, successor) =
        renewed_beside(&world, "update issuers set fetch_time = fetch_time + interval '2 hours'").await;
    // It is stored, and so is that the former one is gone.
    until(async || world.get_issuer().await.key_ids == ["2"]).await;
    until(async || jwt.caller().await.is_err()).await;
    let now = world.server.state.clock.now().unix_timestamp();
    assert!(world.get_issuer().await.fetch_time.unwrap().seconds <= now);
    // Nor does it hide why the next one failed.
    execute(&world, "update issuers set fetch_time = fetch_time + interval '2 hours'").await;
    world.live.behave(Manners::Away);
    world.server.state.clock.advance(Duration::from_secs(3_601));
    refused(world.exchange(&by(&world, &successor, "2")).await, Code::Unauthenticated, "TOKEN_INVALID");
    until(async || world.get_issuer().await.fetch_error == "CONNECTION_FAILED").await;
}

#[tokio::test]
async fn a_failure_is_written_when_it_is_another_one() {
    let world = World::new().await;
    let clock = world.server.state.clock.clone();
    let written = async || {
        let query = "select xmin::text from issuers";
        sqlx::query_scalar::<_, String>(query).fetch_one(&world.server.state.db).await.unwrap()
    };
    let fails = async |manners: Manners| {
        let asked = world.live.requests().len();
        world.live.behave(manners);
        clock.advance(Duration::from_secs(11));
        refused(world.exchange(&world.assertion()).await, Code::Unauthenticated, "TOKEN_INVALID");
        assert_eq!(world.live.requests().len(), asked + 1, "it is tried");
    };
    fails(Manners::Away).await;
    until(async || world.get_issuer().await.fetch_error == "CONNECTION_FAILED").await;
    let once = written().await;
    for _ in 0..3 {
        fails(Manners::Away).await;
    }
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(written().await, once);
    fails(Manners::Says { status: "500 x", headers: "", body: Vec::new() }).await;
    until(async || world.get_issuer().await.fetch_error == "STATUS_NOT_OK").await;
    let twice = written().await;
    assert_ne!(twice, once);
    // And again after a while, which shows that it still is so.
    clock.advance(Duration::from_secs(600));
    fails(Manners::Says { status: "500 x", headers: "", body: Vec::new() }).await;
    until(async || written().await != twice).await;
}

#[tokio::test]
async fn an_org_that_is_busy_holds_up_the_keys_of_no_other() {
    let world = World::new().await;
    let server = &world.server;
    // Several orgs believe the issuer, each for itself.
    let mut orgs = Vec::new();
    for _ in 0..5 {
        let org = server.org().await;
        super::allow_federation(&org.owner).await;
        let (account, _) = server.account(&org.id, "deployer", &[("invoices.read", "*")]).await;
        let message = pb::Issuer {
            kind: pb::IssuerKind::Oidc.into(),
            issuer: world.live.url.clone(),
            ..Default::default()
        };
        let issuer_id = super::create_issuer(&org.owner, message).await.unwrap();
        let rule_id = super::create_rule(&org.owner, super::rule_for(&issuer_id, &account.id)).await.unwrap();
        orgs.push((org, issuer_id, rule_id));
    }
    let key_ids = async |org: &Org, issuer_id: &str| {
        let request = pb::GetIssuerRequest { issuer_id: issuer_id.into(), ..Default::default() };
        org.owner.orgs().get_issuer(request).await.unwrap().into_inner().issuer.unwrap().key_ids
    };
    for (org, issuer_id, rule_id) in &orgs {
        exchange(&server.anonymous(), rule_id, &world.assertion()).await.unwrap();
        until(async || key_ids(org, issuer_id).await == ["1"]).await;
    }
    let mut round = 1;
    until(async || {
        let successor = Signer::ed25519();
        let former = [round.to_string()];
        round += 1;
        let kid = [round.to_string()];
        world.live.publish(&[(&kid[0], &successor)]);
        // Changes are stored once in a minute.
        server.state.clock.advance(Duration::from_secs(61));
        // All but the last one have something else to do.
        let mut busy = PgConnection::connect_with(&server.database().options()).await.unwrap();
        sqlx::raw_sql("begin").execute(&mut busy).await.unwrap();
        for (org, ..) in &orgs[..4] {
            let query = sqlx::query("select 1 from orgs where org_id = $1 for no key update");
            query.bind(OrgId::parse(&org.id).unwrap().uuid()).execute(&mut busy).await.unwrap();
        }
        for (_, _, rule_id) in &orgs {
            exchange(&server.anonymous(), rule_id, &by(&world, &successor, &kid[0])).await.unwrap();
        }
        let began = Instant::now();
        until(async || key_ids(&orgs[4].0, &orgs[4].1).await == kid).await;
        let took = began.elapsed();
        assert_eq!(key_ids(&orgs[0].0, &orgs[0].1).await, former);
        // What they could not store is not lost.
        sqlx::raw_sql("rollback").execute(&mut busy).await.unwrap();
        for (org, issuer_id, _) in &orgs {
            until(async || key_ids(org, issuer_id).await == kid).await;
        }
        // One after another they would wait for six seconds each, however often it is tried.
        took < Duration::from_secs(10)
    })
    .await;
}

#[tokio::test]
async fn that_too_much_was_fetched_hides_no_failure() {
    let world = World::new().await;
    world.live.behave(Manners::OfAnother);
    let clock = world.server.state.clock.clone();
    // At the beginning of a minute.
    let into = clock.now().unix_timestamp().rem_euclid(60);
    clock.advance(Duration::from_secs(60 - into.unsigned_abs()));
    // Two issuers of one org at one host: each is asked every ten seconds, which is too often for both.
    let second = LiveIssuer::start().await;
    let message =
        pb::Issuer { kind: pb::IssuerKind::Oidc.into(), issuer: second.url.clone(), ..Default::default() };
    let issuer_id = super::create_issuer(&world.org.owner, message).await.unwrap();
    let rule = super::rule_for(&issuer_id, &world.account.id);
    let rule_id = super::create_rule(&world.org.owner, rule).await.unwrap();
    for n in 0..6 {
        let there = exchange(&world.server.anonymous(), &rule_id, &world.assertion()).await;
        refused(there, Code::Unauthenticated, "TOKEN_INVALID");
        refused(world.exchange(&world.assertion()).await, Code::Unauthenticated, "TOKEN_INVALID");
        until(async || world.get_issuer().await.fetch_error == "ISSUER_MISMATCH").await;
        if n < 5 {
            clock.advance(Duration::from_secs(10));
        }
    }
    assert_eq!(world.live.requests().len(), 5, "one was too many: the host is one for both ports");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(world.get_issuer().await.fetch_error, "ISSUER_MISMATCH");
}

#[tokio::test]
async fn a_database_that_was_restored_has_its_own_issuers() {
    let world = World::new().await;
    world.access_token().await;
    assert_eq!(world.live.fetches(), 1);
    until(async || !world.get_issuer().await.key_ids.is_empty()).await;
    execute(&world, "update deployment set system_identifier = 1").await;
    until(async || {
        world.access_token().await;
        world.live.fetches() == 2
    })
    .await;
}

#[tokio::test]
async fn an_issuer_that_was_set_back_has_its_former_keys() {
    let world = World::with_stored_keys().await;
    world.access_token().await;
    execute(&world, "create table kept as select * from issuers").await;
    let of_thief = Signer::ed25519();
    let planted = pb::Issuer { jwks: of_thief.key_set("2"), ..Default::default() };
    update_issuer(&world, planted, "jwks").await;
    world.exchange(&by(&world, &of_thief, "2")).await.unwrap();
    // The backup is restored: the version is the former one again.
    execute(
        &world,
        "update issuers i set jwks = kept.jwks, sealed = kept.sealed, version = kept.version from kept",
    )
    .await;
    world.server.state.principals.clear();
    world.exchange(&world.assertion()).await.unwrap();
    refused(world.exchange(&by(&world, &of_thief, "2")).await, Code::Unauthenticated, "TOKEN_INVALID");
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
    let world = World::with_stored_keys().await;
    assert_eq!(claims(&world.access_token().await)["token_kind"], "FEDERATED");
    let unknown = by(&world, &world.signer, "2");
    refused(world.exchange(&unknown).await, Code::Unauthenticated, "TOKEN_INVALID");
    world.server.state.clock.advance(Duration::from_secs(86_400));
    world.access_token().await;
    assert_eq!((world.live.fetches(), world.live.requests().len()), (0, 0));
    // Other keys take their place at once.
    let successor = Signer::p256();
    let issuer = pb::Issuer { jwks: successor.key_set("2"), ..Default::default() };
    update_issuer(&world, issuer, "jwks").await;
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
