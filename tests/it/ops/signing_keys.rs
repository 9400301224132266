//! The lifecycle of signing keys: by schedule, by RPC, on many nodes.

use std::sync::Arc;
use std::time::Duration;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine as _};
use countersign::commands::bootstrap;
use countersign::config::{ServerLimits, SigningAlgorithm};
use countersign::crypto::key_pair::NewKey;
use countersign::crypto::seal::SealPurpose;
use countersign::db::keys::KeysError;
use countersign::flows::signing_key_rotation;
use countersign::grpc::pb;
use countersign::state::{Pools, State};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
use serde_json::Value;
use tonic::Code;

use crate::harness::{
    Client, Database, LIMITS, TestServer, http_get, master_keys, read_keys, refused, until, violated,
};

/// As the harness starts its servers.
const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3_600);
const PUBLISHED_BEFORE: Duration = Duration::from_secs(600);
const RETIRING_FOR: Duration = Duration::from_secs(3_900);

/// The operator with a token that outlives every key of a test.
async fn lasting_operator(server: &TestServer) -> Client {
    let operator = bootstrap::find_operator(&server.state).await.unwrap().unwrap();
    let life = Duration::from_secs(365 * 24 * 3_600);
    let text = bootstrap::reissue(&server.state, operator, "lasting", life).await.unwrap();
    server.client(text.expose())
}

async fn jwks(server: &TestServer) -> JwkSet {
    serde_json::from_str(&http_get(&server.endpoint, "/.well-known/jwks.json").await.body).unwrap()
}

fn kids(keys: &JwkSet) -> Vec<String> {
    keys.keys.iter().map(|key| key.common.key_id.clone().unwrap()).collect()
}

fn kid_of(jwt: &str) -> String {
    decode_header(jwt).unwrap().kid.unwrap()
}

/// Verifies as an outside service does with the key set that it has fetched, at the tests' own time.
fn verifies(keys: &JwkSet, jwt: &str) -> bool {
    let header = decode_header(jwt).unwrap();
    let Some(key) = keys.find(&header.kid.unwrap()) else { return false };
    let mut validation = Validation::new(header.alg);
    validation.validate_aud = false;
    validation.validate_exp = false;
    decode::<Value>(jwt, &DecodingKey::from_jwk(key).unwrap(), &validation).is_ok()
}

async fn jwt(client: &Client) -> String {
    client.exchange().await.unwrap().access_token
}

/// The events about keys, oldest first: type, whether they have an actor, kids.
async fn events(server: &TestServer) -> Vec<(String, bool, Vec<String>)> {
    let query = "select type, actor_id is not null, resource_ids from events
                 where type like 'signing_key.%' order by event_id";
    sqlx::query_as(query).fetch_all(&server.state.db).await.unwrap()
}

async fn rows(server: &TestServer) -> Vec<(String, String)> {
    let query = "select kid, state from signing_keys order by create_time, kid";
    sqlx::query_as(query).fetch_all(&server.state.db).await.unwrap()
}

async fn rotate(client: &Client, activate_now: bool) -> pb::SigningKey {
    let request = pb::RotateSigningKeyRequest { activate_now };
    client.tokens().rotate_signing_key(request).await.unwrap().into_inner().signing_key.unwrap()
}

fn revocation(kid: &str) -> pb::RevokeSigningKeyRequest {
    pb::RevokeSigningKeyRequest {
        kid: kid.into(),
        reason: pb::RevokeReason::KeyCompromise.into(),
        ..Default::default()
    }
}

async fn revoke(client: &Client, kid: &str) -> pb::SigningKey {
    let answer = client.tokens().revoke_signing_key(revocation(kid)).await.unwrap();
    answer.into_inner().signing_key.unwrap()
}

async fn is_active(client: &Client, jwt: &str) -> bool {
    let request = pb::IntrospectTokenRequest { token_text: jwt.into(), ..Default::default() };
    client.tokens().introspect_token(request).await.unwrap().into_inner().active
}

/// What is sealed of a key.
async fn record(server: &TestServer, kid: &str) -> Value {
    let query = sqlx::query_scalar::<_, Vec<u8>>("select sealed from signing_keys where kid = $1").bind(kid);
    let sealed = query.fetch_one(&server.state.db).await.unwrap();
    serde_json::from_slice(&server.state.keyring.master.open(SealPurpose::SigningKey, kid, &sealed).unwrap())
        .unwrap()
}

#[tokio::test]
async fn a_key_is_replaced_by_itself_and_no_verifier_notices() {
    let a = TestServer::start().await;
    let b = a.beside(ServerLimits { feed_listen: false, ..LIMITS }).await;
    let operator = lasting_operator(&a).await;
    let clock = a.state.clock.clone();
    let first_jwt = jwt(&operator).await;
    let first = kid_of(&first_jwt);
    let start = jwks(&a).await;
    assert_eq!(kids(&start), [first.as_str()]);
    assert!(verifies(&start, &first_jwt));

    // Before it expires the successor is published, on both nodes, and does not sign.
    clock.advance(LIFETIME - PUBLISHED_BEFORE);
    for node in [&a, &b] {
        until(async || kids(&jwks(node).await).len() == 2).await;
    }
    let before = jwks(&a).await;
    assert_eq!(kids(&jwks(&b).await), kids(&before));
    let second = kids(&before).into_iter().find(|kid| *kid != first).unwrap();
    clock.advance(PUBLISHED_BEFORE - Duration::from_secs(60));
    let old_jwt = jwt(&operator).await;
    assert_eq!(kid_of(&old_jwt), first);

    // Then it signs, and a verifier that fetched the key set before verifies what it signs.
    clock.advance(Duration::from_secs(60));
    for node in [&a, &b] {
        let client = node.client(operator.token());
        until(async || kid_of(&jwt(&client).await) == second).await;
        assert!(verifies(&before, &jwt(&client).await));
        // What the first one signed is good on every node.
        assert!(verifies(&jwks(node).await, &old_jwt));
        node.client(old_jwt.clone()).caller().await.unwrap();
        assert!(is_active(&client, &old_jwt).await);
    }
    // Its private part is gone.
    assert!(record(&a, &first).await["private"].is_null());
    assert!(record(&a, &second).await["private"].is_string());

    // When all that it signed has expired, it is gone.
    clock.advance(RETIRING_FOR);
    for node in [&a, &b] {
        until(async || kids(&jwks(node).await) == [second.as_str()]).await;
    }
    assert_eq!(rows(&a).await, [(second.clone(), "ACTIVE".to_owned())]);
    let told = events(&a).await;
    assert_eq!(
        told,
        [
            ("signing_key.created".to_owned(), false, vec![second.clone()]),
            ("signing_key.activated".to_owned(), false, vec![second, first.clone()]),
            ("signing_key.retired".to_owned(), false, vec![first]),
        ]
    );
}

#[tokio::test]
async fn ten_nodes_at_once_do_each_thing_once() {
    let server = TestServer::start().await;
    let mut nodes = Vec::new();
    for _ in 0..10 {
        let pools = Pools::open(&server.database().options(), 2, 1, Default::default());
        let (master, issuer) = (read_keys(server.master_key_file()), server.state.issuer.clone());
        let clock = server.state.clock.clone();
        let state = State::open(pools, master, SigningAlgorithm::EdDsa, issuer, LIMITS.credentials(), clock);
        nodes.push(state.await.unwrap());
    }
    let all = async || {
        let turns: Vec<_> = nodes
            .iter()
            .cloned()
            .map(|node| {
                tokio::spawn(async move {
                    signing_key_rotation::rotate_signing_keys(&node, LIFETIME.try_into().unwrap()).await
                })
            })
            .collect();
        for turn in turns {
            turn.await.unwrap().unwrap();
        }
    };
    let states = async || rows(&server).await.into_iter().map(|(_, state)| state).collect::<Vec<_>>();
    all().await;
    assert_eq!(states().await, ["ACTIVE"]);
    // The server itself is the eleventh.
    server.state.clock.advance(LIFETIME - PUBLISHED_BEFORE);
    all().await;
    assert_eq!(states().await, ["ACTIVE", "NEXT"]);
    server.state.clock.advance(PUBLISHED_BEFORE);
    all().await;
    assert_eq!(states().await, ["RETIRING", "ACTIVE"]);
    server.state.clock.advance(RETIRING_FOR);
    all().await;
    assert_eq!(states().await, ["ACTIVE"]);
    let told: Vec<_> = events(&server).await.into_iter().map(|(kind, ..)| kind).collect();
    assert_eq!(told, ["signing_key.created", "signing_key.activated", "signing_key.retired"]);
    // Each knows what the last one knows.
    for node in &nodes {
        node.keyring.reload().await.unwrap();
        assert_eq!(node.keyring.signer.jwks_json(), nodes[0].keyring.signer.jwks_json());
        node.close().await;
    }
}

#[tokio::test]
async fn nothing_is_asked_of_the_database_while_nothing_is_due() {
    let server = TestServer::start().await;
    let lifetime = LIFETIME.try_into().unwrap();
    server.state.db.close().await;
    signing_key_rotation::rotate_signing_keys(&server.state, lifetime).await.unwrap();
    server.state.clock.advance(LIFETIME);
    signing_key_rotation::rotate_signing_keys(&server.state, lifetime).await.unwrap_err();
}

#[tokio::test]
async fn before_bootstrap_no_key_turns() {
    let database = Database::create().await;
    let pools = Pools::open(&database.options(), 2, 1, Default::default());
    let issuer = "https://id.example".parse().unwrap();
    let clock = countersign::clock::Clock::default();
    let open =
        State::open(pools, master_keys(), SigningAlgorithm::EdDsa, issuer, LIMITS.credentials(), clock);
    let state = open.await.unwrap();
    state.clock.advance(2 * LIFETIME);
    signing_key_rotation::rotate_signing_keys(&state, LIFETIME.try_into().unwrap()).await.unwrap();
    assert_eq!(state.keyring.signer.key_times().len(), 1);
    state.close().await;
}

#[tokio::test]
async fn a_rotation_by_rpc_is_published_first_and_happens_once() {
    let server = TestServer::start().await;
    let operator = lasting_operator(&server).await;
    let first = kid_of(&jwt(&operator).await);
    let next = rotate(&operator, false).await;
    assert_eq!((next.state(), next.algorithm.as_str()), (pb::SigningKeyState::Next, "EdDSA"));
    assert!(next.activate_time.is_none() && next.create_time.is_some());
    assert_eq!(kids(&jwks(&server).await), [first.as_str(), next.kid.as_str()]);
    assert_eq!(rotate(&operator, false).await, next, "it is under way already");
    assert_eq!(kid_of(&jwt(&operator).await), first);
    let before = jwks(&server).await;
    server.state.clock.advance(PUBLISHED_BEFORE);
    until(async || kid_of(&jwt(&operator).await) == next.kid).await;
    assert!(verifies(&before, &jwt(&operator).await));

    let listed = operator.tokens().list_signing_keys(pb::ListSigningKeysRequest::default()).await;
    let listed = listed.unwrap().into_inner();
    let states: Vec<_> = listed.signing_keys.iter().map(|key| (key.kid.clone(), key.state())).collect();
    assert_eq!(states, [(first, pb::SigningKeyState::Retiring), (next.kid, pb::SigningKeyState::Active)]);
    assert!(listed.signing_keys[0].retire_time.is_some() && listed.signing_keys[1].activate_time.is_some());
    assert_eq!((listed.total_size, listed.next_page_token.as_str()), (Some(2), ""));
    let told: Vec<_> = events(&server).await.into_iter().map(|(kind, by, _)| (kind, by)).collect();
    assert_eq!(told, [("signing_key.created".to_owned(), true), ("signing_key.activated".to_owned(), false)]);
}

#[tokio::test]
async fn a_rotation_at_once_leaves_what_was_signed_good() {
    let a = TestServer::start().await;
    let b = a.beside(ServerLimits { feed_listen: false, ..LIMITS }).await;
    let operator = lasting_operator(&a).await;
    let old_jwt = jwt(&operator).await;
    let (first, first_record) = (kid_of(&old_jwt), record(&a, &kid_of(&old_jwt)).await);
    assert!(first_record["private"].is_string());
    // Without a next key one is created; with one, that one signs.
    let second = rotate(&operator, true).await;
    assert_eq!(second.state(), pb::SigningKeyState::Active);
    let next = rotate(&operator, false).await;
    let third = rotate(&operator, true).await;
    assert_eq!((&third.kid, third.state()), (&next.kid, pb::SigningKeyState::Active));
    assert_eq!(kid_of(&jwt(&operator).await), third.kid);
    assert_eq!(
        rows(&a).await,
        [(&first, "RETIRING"), (&second.kid, "RETIRING"), (&third.kid, "ACTIVE")]
            .map(|(kid, state)| (kid.clone(), state.to_owned()))
    );
    assert!(record(&a, &first).await["private"].is_null());
    // A JWT of the first key is good on both nodes, and so is one of the third, at once: the
    // other node looks up a key that it was not notified of.
    for text in [&old_jwt, &jwt(&operator).await] {
        for node in [&a, &b] {
            node.client(text.clone()).caller().await.unwrap();
            assert!(is_active(&node.client(operator.token()), text).await);
            assert!(verifies(&jwks(node).await, text));
        }
    }
    let told = events(&a).await;
    let ids = |kids: &[&String]| kids.iter().map(|kid| (*kid).clone()).collect::<Vec<_>>();
    assert_eq!(
        told,
        [
            ("signing_key.activated".to_owned(), true, ids(&[&second.kid, &first])),
            ("signing_key.created".to_owned(), true, ids(&[&third.kid])),
            ("signing_key.activated".to_owned(), true, ids(&[&third.kid, &second.kid])),
        ]
    );
}

#[tokio::test]
async fn a_revoked_key_is_refused_at_once_and_another_one_signs() {
    let a = TestServer::start().await;
    let b = a.beside(LIMITS).await;
    let operator = lasting_operator(&a).await;
    let on_b = b.client(operator.token());
    let old_jwt = jwt(&operator).await;
    let active = kid_of(&old_jwt);
    let next = rotate(&operator, false).await;
    b.client(old_jwt.clone()).caller().await.unwrap();

    let revoked = revoke(&operator, &active).await;
    assert_eq!(revoked.state(), pb::SigningKeyState::Revoked);
    assert_eq!(revoked.revoke_reason(), pb::RevokeReason::KeyCompromise);
    assert!(revoked.revoke_time.is_some());
    // Here from the answer on, there as soon as it is notified.
    refused(a.client(old_jwt.clone()).caller().await, Code::Unauthenticated, "ACCESS_TOKEN_INVALID");
    assert!(!is_active(&operator, &old_jwt).await);
    assert!(!kids(&jwks(&a).await).contains(&active));
    until(async || b.client(old_jwt.clone()).caller().await.is_err()).await;
    refused(b.client(old_jwt.clone()).caller().await, Code::Unauthenticated, "ACCESS_TOKEN_INVALID");
    assert!(!is_active(&on_b, &old_jwt).await);
    assert!(!kids(&jwks(&b).await).contains(&active));
    // Nothing of the pair is stored.
    let sealed: Vec<u8> = sqlx::query_scalar("select sealed from signing_keys where kid = $1")
        .bind(&active)
        .fetch_one(&a.state.db)
        .await
        .unwrap();
    assert!(sealed.is_empty());

    // A fresh one signs: not the next one, which may have leaked together with the active key.
    let fresh = kid_of(&jwt(&operator).await);
    assert!(fresh != active && fresh != next.kid);
    assert_eq!(kid_of(&jwt(&on_b).await), fresh);
    b.client(jwt(&operator).await).caller().await.unwrap();
    let states: Vec<_> = rows(&a).await.into_iter().map(|(_, state)| state).collect();
    assert_eq!(states, ["REVOKED", "NEXT", "ACTIVE"]);

    // Again changes nothing; a next and a retiring one are revoked as well.
    assert_eq!(revoke(&operator, &active).await, revoked);
    assert_eq!(revoke(&operator, &next.kid).await.state(), pb::SigningKeyState::Revoked);
    let retiring_jwt = jwt(&operator).await;
    rotate(&operator, true).await;
    a.client(retiring_jwt.clone()).caller().await.unwrap();
    revoke(&operator, &fresh).await;
    refused(a.client(retiring_jwt).caller().await, Code::Unauthenticated, "ACCESS_TOKEN_INVALID");
    let told: Vec<_> = events(&a).await.into_iter().map(|(kind, ..)| kind).collect();
    let kinds = ["created", "revoked", "revoked", "activated", "revoked"];
    assert_eq!(told, kinds.map(|kind| format!("signing_key.{kind}")));
    let changes: Value = sqlx::query_scalar(
        "select changes from events where type = 'signing_key.revoked' order by event_id limit 1",
    )
    .fetch_one(&a.state.db)
    .await
    .unwrap();
    let changed = |field: &str, old: Option<&str>, new: &str| serde_json::json!({ "field": field, "old_value": old, "new_value": new });
    assert_eq!(
        changes,
        serde_json::json!([
            changed("state", Some("SIGNING_KEY_STATE_ACTIVE"), "SIGNING_KEY_STATE_REVOKED"),
            changed("revoke_reason", None, "REVOKE_REASON_KEY_COMPROMISE"),
            changed("active_kid", Some(&active), &fresh),
        ])
    );
}

#[tokio::test]
async fn wrong_requests_are_refused_in_full() {
    let server = TestServer::start().await;
    let operator = &server.operator;
    for kid in ["", "short", &"x".repeat(44), &"!".repeat(43), &"é".repeat(22)] {
        let request = pb::RevokeSigningKeyRequest { kid: kid.into(), reason: 99, ..Default::default() };
        let status = operator.tokens().revoke_signing_key(request).await;
        let status = refused(status, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&status), ["kid", "reason"]);
    }
    let unknown = operator.tokens().revoke_signing_key(revocation(&"x".repeat(43))).await;
    refused(unknown, Code::NotFound, "RESOURCE_NOT_FOUND");
    let list = |page_size, page_token: &str| {
        let request = pb::ListSigningKeysRequest { page_size, page_token: page_token.into() };
        let mut tokens = operator.tokens();
        async move { tokens.list_signing_keys(request).await.map(|answer| answer.into_inner()) }
    };
    let status = refused(list(-1, "junk").await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&status), ["page_size", "page_token"]);
    assert!(events(&server).await.is_empty(), "a refusal is no change");

    // Pages, one key each.
    rotate(operator, true).await;
    rotate(operator, false).await;
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let page = list(1, &token).await.unwrap();
        assert_eq!((page.signing_keys.len(), page.total_size), (1, Some(3)));
        seen.extend(page.signing_keys.into_iter().map(|key| key.kid));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, rows(&server).await.into_iter().map(|(kid, _)| kid).collect::<Vec<_>>());
}

#[tokio::test]
async fn another_algorithm_comes_with_the_next_key() {
    let a = TestServer::start().await;
    for (algorithm, before) in [(SigningAlgorithm::Rs256, "EdDSA"), (SigningAlgorithm::Es256, "RS256")] {
        let b = a.beside_signing_with(LIMITS, algorithm).await;
        let operator = b.client(lasting_operator(&b).await.token());
        assert_eq!(decode_header(&jwt(&operator).await).unwrap().alg, before.parse().unwrap());
        let old_jwt = jwt(&operator).await;
        let next = rotate(&operator, false).await;
        assert_eq!(next.algorithm, algorithm.name());
        rotate(&operator, true).await;
        let new_jwt = jwt(&operator).await;
        assert_eq!(decode_header(&new_jwt).unwrap().alg, algorithm.name().parse().unwrap());
        // The node that is set to another algorithm signs with the active key, too.
        let on_a = a.client(operator.token());
        until(async || kid_of(&jwt(&on_a).await) == next.kid).await;
        for text in [old_jwt, new_jwt] {
            assert!(verifies(&jwks(&a).await, &text));
            a.client(text.clone()).caller().await.unwrap();
            b.client(text).caller().await.unwrap();
        }
    }
}

#[tokio::test]
async fn strangers_kids_make_a_node_look_once_a_second() {
    let server = TestServer::start().await;
    let key = NewKey::generate(&master_keys(), SigningAlgorithm::EdDsa).unwrap();
    let good = jwt(&server.operator).await;
    let (_, rest) = good.split_once('.').unwrap();
    let (before, began) = (server.state.keyring.reloads(), std::time::Instant::now());
    for number in 0..50 {
        let kid = format!("{number:02}{}", &key.kid[2..]);
        let header = BASE64URL.encode(format!(r#"{{"typ":"at+jwt","alg":"EdDSA","kid":"{kid}"}}"#));
        let forged = server.client(format!("{header}.{rest}"));
        refused(forged.caller().await, Code::Unauthenticated, "ACCESS_TOKEN_INVALID");
    }
    let looks = server.state.keyring.reloads() - before;
    assert!(looks >= 1 && looks <= 1 + began.elapsed().as_secs() + 1, "{looks} looks");
}

#[tokio::test]
async fn a_planted_key_is_not_published_and_stops_nobody() {
    let server = TestServer::start().await;
    let theirs = master_keys();
    for state in ["NEXT", "RETIRING"] {
        let planted = NewKey::generate(&theirs, SigningAlgorithm::EdDsa).unwrap();
        let plant = "insert into signing_keys (kid, state, algorithm, sealed, create_time, retire_time)
                     values ($1, $2, 'EdDSA', $3, now() - interval '1 hour', now())";
        let query = sqlx::query(plant).bind(&planted.kid).bind(state).bind(&planted.sealed);
        query.execute(&server.state.db).await.unwrap();
    }
    let active = kid_of(&jwt(&server.operator).await);
    server.state.keyring.reload().await.unwrap();
    assert_eq!(kids(&jwks(&server).await), [active.as_str()]);
    assert_eq!(http_get(&server.endpoint, "/readyz").await.status, 200);
    // It never becomes our next key, however long it is there.
    server.state.clock.advance(PUBLISHED_BEFORE);
    signing_key_rotation::rotate_signing_keys(&server.state, LIFETIME.try_into().unwrap()).await.unwrap();
    assert_eq!(kid_of(&jwt(&server.operator).await), active);
    // A server that starts reports what it found, and the operator removes it.
    let again = State::open(
        Pools::open(&server.database().options(), 1, 1, Default::default()),
        read_keys(server.master_key_file()),
        SigningAlgorithm::EdDsa,
        server.state.issuer.clone(),
        LIMITS.credentials(),
        server.state.clock.clone(),
    );
    let refusal = again.await.err().unwrap();
    assert!(matches!(&refusal, KeysError::Unopenable(rows) if rows.len() == 2), "{refusal}");
    for (kid, _) in rows(&server).await.into_iter().filter(|(kid, _)| *kid != active) {
        assert!(refusal.to_string().contains(&format!("signing key {kid}")), "{refusal}");
        revoke(&server.operator, &kid).await;
    }
    server.beside(LIMITS).await.operator.caller().await.unwrap();
    // The active row itself, sealed under a foreign master key: no node loads it.
    let planted = NewKey::generate(&theirs, SigningAlgorithm::EdDsa).unwrap();
    sqlx::query("update signing_keys set kid = $1, sealed = $2 where state = 'ACTIVE'")
        .bind(&planted.kid)
        .bind(&planted.sealed)
        .execute(&server.state.db)
        .await
        .unwrap();
    assert!(matches!(server.state.keyring.reload().await, Err(KeysError::SigningKeys(_))));
    assert_eq!(kids(&jwks(&server).await), [active.as_str()]);
    assert_eq!(http_get(&server.endpoint, "/readyz").await.status, 503);
}

#[tokio::test]
async fn readings_at_once_keep_what_was_read_last() {
    let server = TestServer::start().await;
    let operator = lasting_operator(&server).await;
    let reading = Arc::clone(&server.state);
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = stop.clone();
    // Others read all the time: from the answer on, none of them restores the earlier state.
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (state, stopped) = (reading.clone(), stopped.clone());
            tokio::spawn(async move {
                while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
                    state.keyring.reload().await.unwrap();
                }
            })
        })
        .collect();
    for _ in 0..20 {
        let old_jwt = jwt(&operator).await;
        revoke(&operator, &kid_of(&old_jwt)).await;
        for _ in 0..5 {
            assert!(server.client(old_jwt.clone()).caller().await.is_err());
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }
}
