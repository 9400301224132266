//! A caller without the right to make a call makes no other call wait: it is refused before anything
//! is locked.

use countersign::grpc::pb;
use prost::Message as _;
use sqlx::Executor as _;
use sqlx::postgres::PgPoolOptions;

use super::access_matrix::{KINDS, Things, callers, outcome, rows};
use crate::contract::proto::rpcs;
use crate::harness::{LIMITS, TestServer, call_raw, grant, token_for};

/// Nothing but reading is possible in these until the transaction ends.
const LOCK: &str = "lock table orgs, accounts, account_orgs, memberships, grants, roles, resources, tokens,
                    credentials, invitations, passwords, outbox in exclusive mode";

/// For lack of a right, or because the caller may not know that it is there.
const REFUSALS: [&str; 2] = ["PERMISSION_MISSING", "RESOURCE_NOT_FOUND"];

#[tokio::test]
async fn a_caller_without_the_right_waits_for_no_lock() {
    let server = TestServer::at_standing_time(LIMITS).await;
    let org = server.org().await;
    server.resources(&org.id, &["a", "b"]).await;
    let (target, _) = server.account(&org.id, "target", &[("x.y", "a")]).await;
    let request = pb::CreateTokenRequest { display_name: "kept".into(), ..token_for(&org.id, &target.id) };
    let target_token = server.operator.tokens().create_token(request).await.unwrap().into_inner().secret;
    let filter = Some(pb::list_grants_request::Filter::AccountId(target.id.clone()));
    let list = pb::ListGrantsRequest { org_id: org.id.clone(), filter, ..Default::default() };
    let grant_id =
        server.operator.accounts().list_grants(list).await.unwrap().into_inner().grants[0].grant_id.clone();
    let account_id = target.id.clone();
    let things = Things::new(&server, &org, target, target_token);
    let callers = callers(&server, &org).await;
    let (_, local) = server.account(&org.id, "local", &[("manager", "b")]).await;

    let mut calls = Vec::new();
    for (number, rpc) in rpcs().into_iter().enumerate() {
        let short = rpc.strip_prefix("/countersign.v1.").unwrap();
        let row = rows()[short];
        if row.iter().any(|expected| REFUSALS.contains(expected)) {
            let request = things.request(short, &format!("unique-{number}")).await;
            calls.push((rpc.clone(), row, request));
        }
    }
    assert!(calls.len() > 50, "{}", calls.len());
    let by_id = |grant_id: &str| pb::RevokeAccessRequest {
        org_id: org.id.clone(),
        account_id: account_id.clone(),
        grants: vec![pb::Grant { grant_id: grant_id.into(), ..Default::default() }],
    };
    // Each is loaded before: that is not what is asked here. What was changed before that drops nothing of it.
    server.hear_all().await;
    local.caller().await.unwrap();
    for caller in &callers {
        let _ = caller.caller().await;
    }

    let pool =
        PgPoolOptions::new().max_connections(1).connect_with(server.database().options()).await.unwrap();
    let mut tx = pool.begin().await.unwrap();
    tx.execute(LOCK).await.unwrap();
    // One that waits does so until its time is over, and then has another answer.
    let mut wrong = Vec::new();
    for (rpc, row, request) in &calls {
        for (i, kind) in KINDS.iter().enumerate().filter(|(i, _)| REFUSALS.contains(&row[*i])) {
            let got = outcome(call_raw(&callers[i], rpc, request.clone()).await);
            if got != row[i] {
                wrong.push(format!("{rpc} by {kind}: {got}, not {}", row[i]));
            }
        }
    }
    // What names something by its id: whether the caller may change it is known once it is read.
    let revoke = "/countersign.v1.AccountService/RevokeAccess";
    for id in [grant_id.as_str(), "grant_00000000000000000000000009"] {
        for (name, caller, expected) in [
            ("local", &local, "RESOURCE_NOT_FOUND"),
            ("visitor", &callers[KINDS.len() - 1], "PERMISSION_MISSING"),
        ] {
            let got = outcome(call_raw(caller, revoke, by_id(id).encode_to_vec()).await);
            if got != expected {
                wrong.push(format!("{revoke} of {id} by {name}: {got}, not {expected}"));
            }
        }
    }
    let give = pb::GrantAccessRequest {
        org_id: org.id.clone(),
        account_id: account_id.clone(),
        grants: vec![grant("x.y", "a")],
    };
    let got =
        outcome(call_raw(&local, "/countersign.v1.AccountService/GrantAccess", give.encode_to_vec()).await);
    assert_eq!(got, "PERMISSION_MISSING");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    tx.rollback().await.unwrap();
    pool.close().await;
}
