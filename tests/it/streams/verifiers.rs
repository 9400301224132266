//! `AcknowledgeRevocations`, `ListVerifiers`, and the drill of `RevokeSigningKey`.

use std::time::Duration;

use countersign::grpc::pb;
use tonic::{Code, Status};

use super::Verifier;
use crate::harness::{Client, LIMITS, TestServer, refused, until, violated};

async fn acknowledge(by: &Client, name: &str, cursor: &str, held: &[String]) -> Result<(), Status> {
    let request = pb::AcknowledgeRevocationsRequest {
        verifier_name: name.into(),
        cursor: cursor.into(),
        held_key_ids: held.to_vec(),
    };
    by.tokens().acknowledge_revocations(request).await.map(drop)
}

async fn list(by: &Client) -> Vec<pb::Verifier> {
    let listed = by.tokens().list_verifiers(pb::ListVerifiersRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.total_size, Some(listed.verifiers.len() as i32));
    listed.verifiers
}

async fn drill(by: &Client, kid: &str) -> pb::RevokeSigningKeyResponse {
    let request = pb::RevokeSigningKeyRequest { kid: kid.into(), validate_only: true, ..Default::default() };
    by.tokens().revoke_signing_key(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn what_was_acknowledged_is_listed_on_every_node() {
    let server = TestServer::start().await;
    let other = server.beside(LIMITS).await;
    let (org, foreign) = (server.org().await, server.org().await);
    let (account, by) = server.account(&org.id, "watcher", &[("tokens.introspect", "*")]).await;
    // Who only watches is none.
    let stream = Verifier::watching(&by, &[], "").await;
    assert!(list(&org.owner).await.is_empty());

    acknowledge(&by, "gateway/1", &stream.cursor, &stream.keys).await.unwrap();
    acknowledge(&other.client(by.token()), "gateway/2", "", &[]).await.unwrap();
    for node in [&server, &other] {
        let known = list(&node.client(org.owner.token())).await;
        assert_eq!(
            known.iter().map(|one| &*one.verifier_name).collect::<Vec<_>>(),
            ["gateway/1", "gateway/2"]
        );
        let one = &known[0];
        assert_eq!((&one.account_id, &one.held_key_ids), (&account.id, &stream.keys));
        assert_eq!(one.credential_id, by.caller().await.unwrap().credential_id);
        assert!(one.cursor_lag.unwrap().seconds < 60 && known[1].cursor_lag.is_none());
        assert!(list(&node.client(foreign.owner.token())).await.is_empty());
    }
    // An hour later they are forgotten, and deleted.
    server.state.clock.advance(Duration::from_secs(3_601));
    assert!(list(&org.owner).await.is_empty());
    let now = server.state.clock.now();
    countersign::db::sweep::sweep(&server.state.db, now).await.unwrap();
    let left: i64 =
        sqlx::query_scalar("select count(*) from verifiers").fetch_one(&server.state.db).await.unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_verifier_is_named_and_bounded() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let by = &org.owner;
    for (name, cursor, held, field) in [
        ("", "", vec![], "verifier_name"),
        ("a\u{1b}[0m", "", vec![], "verifier_name"),
        ("a\u{202e}b", "", vec![], "verifier_name"),
        ("a", "", vec!["x".to_owned()], "held_key_ids[0]"),
        ("a", "", vec!["x".repeat(43); 21], "held_key_ids"),
    ] {
        let wrong = acknowledge(by, name, cursor, &held).await;
        let wrong = refused(wrong, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&wrong), [field], "{name:?}");
    }
    refused(acknowledge(by, "a", "made up", &[]).await, Code::OutOfRange, "CURSOR_EXPIRED");
    let foreign = Verifier::watching(&server.org().await.owner, &[], "").await.cursor;
    refused(acknowledge(by, "a", &foreign, &[]).await, Code::OutOfRange, "CURSOR_EXPIRED");
    for n in 0..100 {
        acknowledge(by, &format!("v{n}"), "", &[]).await.unwrap();
    }
    refused(acknowledge(by, "one more", "", &[]).await, Code::FailedPrecondition, "LIMIT_REACHED");
    acknowledge(by, "v7", "", &["x".repeat(43)]).await.unwrap();
    until(async || {
        acknowledge(by, "v7", "", &["x".repeat(43)]).await.unwrap();
        list_all(by).await.iter().any(|one| one.verifier_name == "v7" && one.held_key_ids.len() == 1)
    })
    .await;
}

async fn list_all(by: &Client) -> Vec<pb::Verifier> {
    let request = pb::ListVerifiersRequest { page_size: 200, ..Default::default() };
    by.tokens().list_verifiers(request).await.unwrap().into_inner().verifiers
}

#[tokio::test]
async fn a_drill_names_who_holds_the_key_and_revokes_nothing() {
    let server = TestServer::start().await;
    let operator = &server.operator;
    let org = server.org().await;
    let mut own = Verifier::watching(operator, &[], "").await;
    let kid = own.keys[0].clone();
    assert_eq!(drill(operator, &kid).await.pending_count, 0);
    acknowledge(operator, "ours", &own.cursor, &own.keys).await.unwrap();
    acknowledge(&org.owner, "theirs", "", &own.keys).await.unwrap();
    acknowledge(&org.owner, "without", "", &[]).await.unwrap();
    let before = drill(operator, &kid).await;
    // Those of another org are counted, not named.
    assert_eq!(before.pending_count, 2);
    let named: Vec<_> = before.verifiers_pending.iter().map(|one| &*one.verifier_name).collect();
    assert_eq!(named, ["ours"]);
    assert_eq!(before.signing_key.unwrap().state(), pb::SigningKeyState::Active);
    assert_eq!(drill(operator, &kid).await.signing_key.unwrap().state(), pb::SigningKeyState::Active);
    let unknown =
        pb::RevokeSigningKeyRequest { kid: "x".repeat(43), validate_only: true, ..Default::default() };
    refused(operator.tokens().revoke_signing_key(unknown).await, Code::NotFound, "RESOURCE_NOT_FOUND");

    // In earnest: pending until each has acknowledged a key set without it.
    let request = pb::RevokeSigningKeyRequest { kid: kid.clone(), ..Default::default() };
    let revoked = operator.tokens().revoke_signing_key(request.clone()).await.unwrap().into_inner();
    assert_eq!(revoked.signing_key.unwrap().state(), pb::SigningKeyState::Revoked);
    assert_eq!((revoked.pending_count, revoked.verifiers_pending.len()), (2, 1));
    while own.keys.contains(&kid) {
        own.read().await.unwrap();
    }
    until(async || {
        acknowledge(operator, "ours", &own.cursor, &own.keys).await.unwrap();
        acknowledge(&org.owner, "theirs", "", &own.keys).await.unwrap();
        let again = operator.tokens().revoke_signing_key(request.clone()).await.unwrap().into_inner();
        again.pending_count == 0 && again.verifiers_pending.is_empty()
    })
    .await;
}
