//! Issuers with stored keys, and federation rules for them.

use countersign::grpc::pb;
use pb::federation_rule::SubjectMatch;

use super::TestServer;

/// The key set of an issuer whose private key is not needed (RFC 8037, appendix A.2).
pub const KEY_SET: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"one","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

/// Lets federation rules of an org work.
pub async fn allow_federation(server: &TestServer, org_id: &str) {
    let policy = pb::TokenPolicy { allow_federation: Some(true), ..Default::default() };
    let request = pb::UpdateTokenPolicyRequest {
        org_id: org_id.to_owned(),
        policy: Some(policy),
        ..Default::default()
    };
    server.operator.orgs().update_token_policy(request).await.unwrap();
}

/// An issuer with stored keys on this machine, which the ceiling of the tests admits.
pub fn issuer_of(path: &str) -> pb::Issuer {
    pb::Issuer {
        kind: pb::IssuerKind::Jwks.into(),
        issuer: format!("https://localhost:8443/{path}"),
        jwks: KEY_SET.to_owned(),
        ..Default::default()
    }
}

/// A rule by which the subject `workload` of this issuer acts as this account.
pub fn rule_for(issuer_id: &str, account_id: &str) -> pb::FederationRule {
    pb::FederationRule {
        issuer_id: issuer_id.to_owned(),
        account_id: account_id.to_owned(),
        audiences: vec!["https://id.example".to_owned()],
        subject_match: Some(SubjectMatch::Subject("workload".to_owned())),
        ..Default::default()
    }
}

/// Creates the issuer in the org, whose policy allows it then.
pub async fn issuer(server: &TestServer, org_id: &str, path: &str) -> pb::Issuer {
    allow_federation(server, org_id).await;
    let request = pb::CreateIssuerRequest {
        org_id: org_id.to_owned(),
        issuer: Some(issuer_of(path)),
        ..Default::default()
    };
    server.operator.orgs().create_issuer(request).await.unwrap().into_inner().issuer.unwrap()
}

/// Creates a rule for an issuer of the org.
pub async fn rule(server: &TestServer, org_id: &str, rule: pb::FederationRule) -> pb::FederationRule {
    let request =
        pb::CreateFederationRuleRequest { org_id: org_id.to_owned(), rule: Some(rule), ..Default::default() };
    server.operator.orgs().create_federation_rule(request).await.unwrap().into_inner().rule.unwrap()
}
