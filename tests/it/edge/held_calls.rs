//! Calls whose messages are held back: rights revoked meanwhile no longer count,
//! and such calls use up no capacity of others.

use countersign::grpc::pb;
use prost::Message as _;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::{Client, LIMITS, Org, TestServer, by_id, call_held, grant, refused, until};

const CREATE: &str = "/countersign.v1.AccountService/CreateServiceAccount";

/// How a manager loses its rights, and the reason of the refusal.
#[derive(Clone, Copy, Debug)]
enum Stop {
    Deactivate,
    TakeRole,
    RevokeToken,
    SuspendOrg,
}

impl Stop {
    async fn of(self, server: &TestServer, org: &Org, account_id: &str, manager: &Client) -> &'static str {
        let (org_id, account_id) = (org.id.clone(), account_id.to_owned());
        match self {
            Self::Deactivate => {
                let request = pb::DeactivateAccountRequest { org_id, account_id, reason: "left".into() };
                server.operator.accounts().deactivate_account(request).await.unwrap();
                "ACCOUNT_DEACTIVATED"
            }
            Self::TakeRole => {
                let grants = vec![grant("manager", "*")];
                let request = pb::RevokeAccessRequest { org_id, account_id, grants };
                server.operator.accounts().revoke_access(request).await.unwrap();
                "PERMISSION_MISSING"
            }
            Self::RevokeToken => {
                let id = manager.caller().await.unwrap().credential_id;
                server.operator.tokens().revoke_token(by_id(&org_id, &id)).await.unwrap();
                "TOKEN_REVOKED"
            }
            Self::SuspendOrg => {
                let request = pb::SuspendOrgRequest { org_id, reason: "unpaid".into() };
                server.operator.orgs().suspend_org(request).await.unwrap();
                "ORG_SUSPENDED"
            }
        }
    }
}

#[tokio::test]
async fn a_call_that_is_held_open_acts_with_the_rights_of_its_message() {
    let server = TestServer::start().await;
    for stop in [Stop::Deactivate, Stop::TakeRole, Stop::RevokeToken, Stop::SuspendOrg] {
        let org = server.org().await;
        let (account, manager) = server.account(&org.id, "manager", &[("manager", "*")]).await;
        let (message, answer) = call_held(&manager, CREATE);
        // The call that follows it on the same connection is answered.
        manager.caller().await.unwrap();
        let expected = stop.of(&server, &org, &account.id, &manager).await;
        let request = pb::CreateServiceAccountRequest { name: "late".into(), ..Default::default() };
        message.send(request.encode_to_vec().into()).await.unwrap();
        drop(message);
        let code =
            if expected == "PERMISSION_MISSING" { Code::PermissionDenied } else { Code::Unauthenticated };
        refused(answer.await.unwrap(), code, expected);
        let made = "select count(*) from accounts where name = 'late'";
        let made: i64 = sqlx::query_scalar(made).fetch_one(&server.state.db).await.unwrap();
        assert_eq!(made, 0, "{stop:?}");
    }
    // One that lost nothing goes on.
    let org = server.org().await;
    let (message, answer) = call_held(&org.owner, CREATE);
    server.org().await;
    let request = pb::CreateServiceAccountRequest { name: "late".into(), ..Default::default() };
    message.send(request.encode_to_vec().into()).await.unwrap();
    drop(message);
    answer.await.unwrap().unwrap();
}

#[tokio::test]
async fn calls_without_a_message_take_no_place_from_others() {
    let limits = countersign::config::ServerLimits { max_concurrent_requests: 4, ..LIMITS };
    let server = TestServer::with_limits(limits).await;
    let anybody = Client { bearer: None, ..server.operator.clone() };
    let held: Vec<_> = (0..20).map(|_| call_held(&anybody, CREATE)).collect();
    let given_up = || held.iter().filter(|(_, answer)| answer.is_finished()).count();
    until(async || given_up() >= 16).await;
    for _ in 0..50 {
        server.operator.caller().await.unwrap();
    }
    for (message, answer) in held {
        if answer.is_finished() {
            let refusal = refused(answer.await.unwrap(), Code::ResourceExhausted, "OVERLOADED");
            assert!(refusal.get_details_retry_info().unwrap().retry_delay.is_some());
        } else {
            drop(message);
            assert!(answer.await.unwrap().is_err());
        }
    }
}
