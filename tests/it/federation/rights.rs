//! What the JWT of a rule may do: everything that its account may, but nothing that yields another credential.

use countersign::grpc::pb;
use tonic::Code;

use super::{World, create_issuer, create_rule, rule_for};
use crate::harness::{grant, reason, refused, token_for, until};

#[tokio::test]
async fn a_jwt_of_a_rule_makes_no_credential() {
    let world = World::new().await;
    let owner = pb::GrantAccessRequest {
        account_id: world.account.id.clone(),
        grants: vec![grant("owner", "*")],
        ..Default::default()
    };
    world.org.owner.accounts().grant_access(owner).await.unwrap();
    let (target, _) = world.server.account(&world.org.id, "target", &[]).await;
    let by = world.server.client(world.access_token().await);
    // What makes no credential works.
    let request = pb::CreateServiceAccountRequest { name: "made".into(), ..Default::default() };
    let made = by.accounts().create_service_account(request).await.unwrap().into_inner().account.unwrap();
    let denied = "PERMISSION_MISSING";
    for account_id in [&world.account.id, &target.id, &made.id] {
        let token = token_for(&world.org.id, account_id);
        refused(by.tokens().create_token(token).await, Code::PermissionDenied, denied);
        let request = pb::ImpersonateAccountRequest {
            account_id: account_id.clone(),
            reason: "to see".into(),
            ..Default::default()
        };
        if *account_id != world.account.id {
            refused(by.tokens().impersonate_account(request).await, Code::PermissionDenied, denied);
        }
        let rule = pb::FederationRule {
            audiences: vec![world.server.endpoint.clone()],
            ..rule_for(&world.issuer_id, account_id)
        };
        refused(create_rule(&by, rule).await, Code::PermissionDenied, denied);
    }
    let issuer = pb::Issuer {
        kind: pb::IssuerKind::Oidc.into(),
        issuer: "https://localhost:1".into(),
        ..Default::default()
    };
    refused(create_issuer(&by, issuer).await, Code::PermissionDenied, denied);
    let issuer = pb::Issuer { id: world.issuer_id.clone(), shared: Some(true), ..Default::default() };
    let request = pb::UpdateIssuerRequest { issuer: Some(issuer), ..Default::default() };
    refused(by.orgs().update_issuer(request).await, Code::PermissionDenied, denied);
    let rule = pb::FederationRule { id: world.rule_id.clone(), disabled: Some(false), ..Default::default() };
    let request = pb::UpdateFederationRuleRequest { rule: Some(rule), ..Default::default() };
    refused(by.orgs().update_federation_rule(request).await, Code::PermissionDenied, denied);
    let request = pb::CreateServiceAccountRequest {
        name: "technical".into(),
        username: String::new(),
        password: "correct horse battery staple 7".into(),
        ..Default::default()
    };
    refused(by.accounts().create_service_account(request).await, Code::PermissionDenied, denied);
    let request = pb::CreateUserRequest { email: "a@example.com".into(), ..Default::default() };
    refused(by.accounts().create_user(request).await, Code::PermissionDenied, denied);
    let request = pb::CreateInvitationRequest { email: "b@example.com".into(), ..Default::default() };
    refused(by.orgs().create_invitation(request).await, Code::PermissionDenied, denied);
    // It is no subject of another exchange.
    let again = pb::ExchangeTokenRequest { subject_token: Some(by.token().into()), ..Default::default() };
    refused(by.tokens().exchange_token(again).await, Code::InvalidArgument, "SUBJECT_NOT_EXCHANGEABLE");
}

#[tokio::test]
async fn a_call_that_waited_does_not_act_by_a_rule_that_changed() {
    let world = World::new().await;
    let owner = pb::GrantAccessRequest {
        account_id: world.account.id.clone(),
        grants: vec![grant("accounts.write", "*")],
        ..Default::default()
    };
    world.org.owner.accounts().grant_access(owner).await.unwrap();
    let by = world.server.client(world.access_token().await);
    // As if it had authenticated before the change, which this node has not seen.
    by.caller().await.unwrap();
    let uuid = countersign::domain::values::ids::RuleId::parse(&world.rule_id).unwrap().uuid();
    let change = "update federation_rules set version = version + 1 where rule_id = $1";
    sqlx::query(change).bind(uuid).execute(&world.server.state.db).await.unwrap();
    let request = || pb::CreateServiceAccountRequest { name: "made".into(), ..Default::default() };
    let refusal = by.accounts().create_service_account(request()).await;
    refused(refusal, Code::Unauthenticated, "ACCESS_TOKEN_STALE");
    // Where the feed of changes is late, as on a busy machine, the node looks at the rule again, and says so.
    until(async || {
        for change in [
            "update federation_rules set disabled = false, version = version - 1 where rule_id = $1",
            "update federation_rules set disabled = true, version = version + 1 where rule_id = $1",
        ] {
            sqlx::query(change).bind(uuid).execute(&world.server.state.db).await.unwrap();
            if change.contains("false") {
                world.server.state.principals.clear();
                by.caller().await.unwrap();
            }
        }
        let refusal = by.accounts().create_service_account(request()).await.unwrap_err();
        assert!(["TOKEN_REVOKED", "ACCESS_TOKEN_STALE"].contains(&&*reason(&refusal)), "{refusal:?}");
        reason(&refusal) == "TOKEN_REVOKED"
    })
    .await;
}
