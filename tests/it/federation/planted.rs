//! A row that was written past the API makes no rule and no issuer, also not by a later change through the API.

use countersign::domain::values::ids::{IssuerId, RuleId};
use countersign::grpc::pb;
use serde_json::json;
use tonic::Code;

use super::{SUBJECT, World, create_issuer, create_rule, rule_for};
use crate::harness::{Signer, refused};

/// Writes a column of the row with this id, past the API.
async fn plant(world: &World, table: &str, column: &str, id: uuid::Uuid, value: &str) {
    let key = table.trim_start_matches("federation_").trim_end_matches('s');
    let sql = format!("update {table} set {column} = $1 where {key}_id = $2");
    let written = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(value).bind(id);
    assert_eq!(written.execute(&world.server.state.db).await.unwrap().rows_affected(), 1);
    world.server.state.principals.clear();
}

#[tokio::test]
async fn a_planted_key_is_not_sealed_by_a_change_of_the_name() {
    let world = World::with_stored_keys().await;
    world.access_token().await;
    let mine = Signer::ed25519();
    let uuid = IssuerId::parse(&world.issuer_id).unwrap().uuid();
    let stored: String = sqlx::query_scalar("select jwks from issuers where issuer_id = $1")
        .bind(uuid)
        .fetch_one(&world.server.state.db)
        .await
        .unwrap();
    plant(&world, "issuers", "jwks", uuid, &mine.key_set("1")).await;
    let by_mine = || mine.sign(&json!({"alg": "EdDSA", "kid": "1"}), &world.claims(json!({})));
    refused(world.exchange(&by_mine()).await, Code::Unauthenticated, "TOKEN_INVALID");
    let update = async |issuer: pb::Issuer| {
        let issuer = pb::Issuer { id: world.issuer_id.clone(), ..issuer };
        let request = pb::UpdateIssuerRequest { issuer: Some(issuer), ..Default::default() };
        world.org.owner.orgs().update_issuer(request).await
    };
    let named = || pb::Issuer { display_name: Some("Ours".into()), ..Default::default() };
    for change in [named(), pb::Issuer { shared: Some(true), ..Default::default() }] {
        refused(update(change).await, Code::Internal, "INTERNAL");
    }
    // Nor by a change of its rule.
    let renamed = pb::FederationRule { display_name: Some("Ours".into()), ..Default::default() };
    refused(world.update_rule(renamed, &["display_name"]).await, Code::Internal, "INTERNAL");
    refused(world.exchange(&by_mine()).await, Code::Unauthenticated, "TOKEN_INVALID");
    plant(&world, "issuers", "jwks", uuid, &stored).await;
    update(named()).await.unwrap();
    world.access_token().await;
}

#[tokio::test]
async fn a_planted_rule_is_shown_as_blocked_and_can_only_be_stopped() {
    let world = World::with_stored_keys().await;
    let uuid = RuleId::parse(&world.rule_id).unwrap().uuid();
    assert_eq!(world.get_rule().await.state(), pb::TokenState::Active);
    plant(&world, "federation_rules", "subject", uuid, "mallory").await;
    assert_eq!(world.get_rule().await.state(), pb::TokenState::Blocked);
    let request = pb::ListFederationRulesRequest::default();
    let listed = world.org.owner.orgs().list_federation_rules(request).await.unwrap().into_inner().rules;
    assert_eq!((listed.len(), listed[0].state()), (1, pb::TokenState::Blocked));
    let mallory = || world.signed(&world.claims(json!({"sub": "mallory"})));
    refused(world.exchange(&mallory()).await, Code::Unauthenticated, "TOKEN_INVALID");
    let disabled = |disabled| pb::FederationRule { disabled: Some(disabled), ..Default::default() };
    let renamed = pb::FederationRule { display_name: Some("Ours".into()), ..Default::default() };
    refused(world.update_rule(renamed.clone(), &["display_name"]).await, Code::Internal, "INTERNAL");
    world.update_rule(disabled(true), &["disabled"]).await.unwrap();
    refused(world.update_rule(disabled(false), &["disabled"]).await, Code::Internal, "INTERNAL");
    // As it was before it is ours again: whether it is disabled is not sealed.
    plant(&world, "federation_rules", "subject", uuid, SUBJECT).await;
    world.update_rule(disabled(false), &["disabled"]).await.unwrap();
    world.update_rule(renamed, &["display_name"]).await.unwrap();
    world.access_token().await;
    plant(&world, "federation_rules", "subject", uuid, "mallory").await;
    let request = pb::DeleteFederationRuleRequest { rule_id: world.rule_id.clone(), ..Default::default() };
    world.org.owner.orgs().delete_federation_rule(request).await.unwrap();
}

/// A row that cannot be read is one that opens nothing: the others are listed, and the policy is changed.
#[tokio::test]
async fn a_row_that_cannot_be_read_holds_up_nothing() {
    let world = World::with_stored_keys().await;
    let other = pb::Issuer {
        kind: pb::IssuerKind::Jwks.into(),
        issuer: format!("{}/other", world.live.url),
        jwks: Signer::p256().key_set("1"),
        ..Default::default()
    };
    let other = create_issuer(&world.org.owner, other).await.unwrap();
    let of_other = create_rule(&world.org.owner, rule_for(&other, &world.account.id)).await.unwrap();
    let uuid = IssuerId::parse(&other).unwrap().uuid();
    for (column, value) in [("jwks", "no set of keys"), ("issuer", "no issuer")] {
        plant(&world, "issuers", column, uuid, value).await;
        let request = pb::ListFederationRulesRequest::default();
        let rules = world.org.owner.orgs().list_federation_rules(request).await.unwrap().into_inner().rules;
        let states: Vec<_> = rules.iter().map(|rule| (rule.id == of_other, rule.state())).collect();
        assert_eq!(states, [(false, pb::TokenState::Active), (true, pb::TokenState::Blocked)]);
        let request = pb::GetFederationRuleRequest { rule_id: of_other.clone(), ..Default::default() };
        let rule = world.org.owner.orgs().get_federation_rule(request).await.unwrap().into_inner().rule;
        assert_eq!(rule.unwrap().state(), pb::TokenState::Blocked);
        let request = pb::ListIssuersRequest::default();
        let issuers = world.org.owner.orgs().list_issuers(request).await.unwrap().into_inner().issuers;
        assert_eq!(issuers.len(), 2);
        let policy = pb::TokenPolicy { allow_federation: Some(true), ..Default::default() };
        let request = pb::UpdateTokenPolicyRequest { policy: Some(policy), ..Default::default() };
        world.org.owner.orgs().update_token_policy(request).await.unwrap();
        world.access_token().await;
    }
    let policy = pb::TokenPolicy { allow_federation: Some(false), ..Default::default() };
    let request = pb::UpdateTokenPolicyRequest { policy: Some(policy), ..Default::default() };
    let tightened = world.org.owner.orgs().update_token_policy(request).await.unwrap().into_inner();
    assert_eq!(tightened.affected_rule_count, Some(1));
    refused(world.exchange(&world.assertion()).await, Code::Unauthenticated, "TOKEN_BLOCKED");
}
