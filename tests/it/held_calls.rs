//! A call that is opened, and whose message is held back: what was taken away meanwhile is gone.

use std::time::Duration;

use countersign::grpc::pb;
use prost::Message as _;
use tonic::Code;

use crate::feed::until;
use crate::harness::{Client, Org, TestServer, by_id, call_held, grant, refused};

const CREATE: &str = "/countersign.v1.AccountService/CreateServiceAccount";

/// What stops a manager, and the reason that it gives.
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
        countersign::last_use::flush(&server.state).await.unwrap();
        let (message, answer) = call_held(&manager, CREATE);
        // It was let in.
        until(Duration::from_secs(10), async || !server.state.uses.is_empty()).await;
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
    // One that nothing was taken from goes on.
    let org = server.org().await;
    let (message, answer) = call_held(&org.owner, CREATE);
    server.org().await;
    let request = pb::CreateServiceAccountRequest { name: "late".into(), ..Default::default() };
    message.send(request.encode_to_vec().into()).await.unwrap();
    drop(message);
    answer.await.unwrap().unwrap();
}
