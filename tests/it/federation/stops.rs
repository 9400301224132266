//! What stops a rule, or keeps it from working: what the deployment and the org decide, and what becomes of the account
//! and of the org.

use std::sync::Arc;
use std::time::Duration;

use countersign::config::{FederationSettings, ServerLimits};
use countersign::domain::federation::ceiling::{Ceiling, CeilingEntry};
use countersign::grpc::pb;
use serde_json::json;
use sqlx::Connection as _;
use tokio::task::JoinHandle;
use tonic::{Code, Status};

use super::{World, create_issuer, create_rule, exchange, rule_for};
use crate::harness::{LIMITS, Manners, Signer, TestServer, by_id, claims, reason, refused, until};

fn admitting(ceiling: Ceiling) -> ServerLimits {
    ServerLimits { federation: FederationSettings { ceiling, ..FederationSettings::OFF }, ..LIMITS }
}

async fn set_policy(world: &World, policy: pb::TokenPolicy, path: &str) {
    let update_mask = Some(prost_types::FieldMask { paths: vec![path.into()] });
    let request = pb::UpdateTokenPolicyRequest { policy: Some(policy), update_mask, ..Default::default() };
    world.org.owner.orgs().update_token_policy(request).await.unwrap();
}

#[tokio::test]
async fn an_issuer_that_the_deployment_admits_no_more_is_none() {
    for world in [World::new().await, World::with_stored_keys().await] {
        let jwt = world.access_token().await;
        world.server.client(jwt.clone()).caller().await.unwrap();
        let fetched = world.get_issuer().await.kind() == pb::IssuerKind::Oidc;
        let other = CeilingEntry::parse("https://other.example").unwrap();
        for ceiling in [Ceiling::OFF, Ceiling::new(vec![other])] {
            // The servers start again, one after the other.
            let later = world.server.beside(admitting(ceiling)).await;
            let refusal = exchange(&later.anonymous(), &world.rule_id, &world.assertion()).await;
            // Its keys are fetched no more; stored ones say that the policy is at fault.
            let expected = if fetched { "TOKEN_INVALID" } else { "TOKEN_BLOCKED" };
            assert_eq!(reason(&refusal.unwrap_err()), expected);
            assert_eq!(reason(&later.client(jwt.clone()).caller().await.unwrap_err()), "TOKEN_BLOCKED");
        }
        if fetched {
            assert_eq!(world.live.fetches(), 1);
        }
        world.access_token().await;
    }
}

#[tokio::test]
async fn an_issuer_that_the_org_allows_no_more_is_none() {
    let world = World::new().await;
    let jwt = world.server.client(world.access_token().await);
    let allowed = |issuers: &[&str]| pb::TokenPolicy {
        allowed_issuers: issuers.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    let url = world.live.url.clone();
    for other in ["https://other.example", &format!("{url}/"), &url.replace("localhost", "localhost.example")]
    {
        // It may be one that the deployment does not admit.
        let other =
            other.rsplit_once(':').filter(|(host, _)| host.ends_with("example")).map_or(other, |it| it.0);
        set_policy(&world, allowed(&[other]), "allowed_issuers").await;
        refused(world.exchange(&world.assertion()).await, Code::Unauthenticated, "TOKEN_BLOCKED");
        refused(jwt.caller().await, Code::Unauthenticated, "TOKEN_BLOCKED");
    }
    set_policy(&world, allowed(&["https://other.example", &url]), "allowed_issuers").await;
    world.access_token().await;
    set_policy(&world, allowed(&[]), "allowed_issuers").await;
    world.access_token().await;
}

#[tokio::test]
async fn what_becomes_of_the_account_and_the_org_becomes_of_the_rule() {
    let world = World::new().await;
    let jwt = world.server.client(world.access_token().await);
    // An account with a rule that is enabled is not deleted.
    let delete = || pb::DeleteAccountRequest { account_id: world.account.id.clone(), ..Default::default() };
    let refusal = world.org.owner.accounts().delete_account(delete()).await.unwrap_err();
    assert_eq!(reason(&refusal), "ACCOUNT_OWNS_TOKENS");
    let list = pb::ListTokensRequest { account_id: world.account.id.clone(), ..Default::default() };
    for token in world.org.owner.tokens().list_tokens(list).await.unwrap().into_inner().tokens {
        world.org.owner.tokens().revoke_token(by_id(&world.org.id, &token.id)).await.unwrap();
    }
    let refusal = world.org.owner.accounts().delete_account(delete()).await.unwrap_err();
    assert_eq!(reason(&refusal), "ACCOUNT_OWNS_TOKENS", "for its rule");
    let disabled = |disabled| pb::FederationRule { disabled: Some(disabled), ..Default::default() };
    world.update_rule(disabled(true), &["disabled"]).await.unwrap();
    world.org.owner.accounts().delete_account(delete()).await.unwrap();
    refused(world.exchange(&world.assertion()).await, Code::Unauthenticated, "TOKEN_INVALID");
    // Nor does it act for an account that is gone, whatever the rule says.
    let enabled = world.update_rule(disabled(false), &["disabled"]).await;
    let said = enabled.as_ref().map_or_else(reason, |()| "OK".to_owned());
    let after = world.exchange(&world.assertion()).await.map(drop);
    assert!(after.is_err(), "enabled: {said}");
    assert!(
        ["TOKEN_INVALID", "ACCOUNT_DELETED", "ACCOUNT_DEACTIVATED"].contains(&&*reason(&after.unwrap_err()))
    );
    jwt.caller().await.unwrap_err();
    let back = pb::UndeleteAccountRequest { account_id: world.account.id.clone(), ..Default::default() };
    world.org.owner.accounts().undelete_account(back).await.unwrap();
    world.update_rule(disabled(false), &["disabled"]).await.unwrap();
    world.access_token().await;
    // The row was written as deleted by others than this server.
    let uuid = countersign::domain::values::ids::AccountId::parse(&world.account.id).unwrap().uuid();
    let gone = "update accounts set delete_time = create_time where account_id = $1";
    sqlx::query(gone).bind(uuid).execute(&world.server.state.db).await.unwrap();
    world.server.state.principals.clear();
    let refusal = world.exchange(&world.assertion()).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unauthenticated, "{refusal:?}");
    let back = "update accounts set delete_time = null where account_id = $1";
    sqlx::query(back).bind(uuid).execute(&world.server.state.db).await.unwrap();
    world.server.state.principals.clear();
    let jwt = world.server.client(world.access_token().await);

    let suspend = pb::SuspendOrgRequest { org_id: world.org.id.clone(), reason: "unpaid".into() };
    world.server.operator.orgs().suspend_org(suspend).await.unwrap();
    refused(world.exchange(&world.assertion()).await, Code::Unauthenticated, "ORG_SUSPENDED");
    jwt.caller().await.unwrap_err();
    let wrong = world.signed(&world.claims(json!({"sub": "another"})));
    refused(world.exchange(&wrong).await, Code::Unauthenticated, "TOKEN_INVALID");
    let resume = pb::ResumeOrgRequest { org_id: world.org.id.clone(), reason: "paid".into() };
    world.server.operator.orgs().resume_org(resume).await.unwrap();
    world.access_token().await;

    let request = pb::DeleteFederationRuleRequest { rule_id: world.rule_id.clone(), ..Default::default() };
    world.org.owner.orgs().delete_federation_rule(request).await.unwrap();
    refused(world.exchange(&world.assertion()).await, Code::Unauthenticated, "TOKEN_INVALID");
}

/// What stops a rule does not wait behind changes of its org, and is not undone by what waited.
#[tokio::test]
async fn a_rule_is_disabled_while_its_org_is_locked() {
    let world = World::new().await;
    let jwt = world.server.client(world.access_token().await);
    jwt.caller().await.unwrap();
    let mut held = sqlx::PgConnection::connect_with(&world.server.database().options()).await.unwrap();
    sqlx::raw_sql("begin").execute(&mut held).await.unwrap();
    let org_id = countersign::domain::values::ids::OrgId::parse(&world.org.id).unwrap().uuid();
    let lock = "select 1 from orgs where org_id = $1 for no key update";
    sqlx::query(lock).bind(org_id).execute(&mut held).await.unwrap();
    let disabled = pb::FederationRule { disabled: Some(true), ..Default::default() };
    let disabling = world.update_rule(disabled, &["disabled"]);
    tokio::time::timeout(crate::harness::PATIENCE, disabling).await.expect("it waits").unwrap();
    assert_eq!(world.get_rule().await.disabled, Some(true));
    refused(world.exchange(&world.assertion()).await, Code::Unauthenticated, "TOKEN_INVALID");
    refused(jwt.caller().await, Code::Unauthenticated, "ACCESS_TOKEN_STALE");
    sqlx::raw_sql("rollback").execute(&mut held).await.unwrap();
    // Done again it changes nothing.
    let before = world.get_rule().await.etag;
    let disabled = pb::FederationRule { disabled: Some(true), ..Default::default() };
    world.update_rule(disabled, &["disabled"]).await.unwrap();
    assert_eq!(world.get_rule().await.etag, before);
}

/// Begins an exchange that waits for the issuer, which is away for as long as it is not told to answer.
async fn waiting(
    world: &Arc<World>,
    assertion: String,
) -> JoinHandle<Result<pb::ExchangeTokenResponse, Status>> {
    let seen = world.live.requests().len();
    world.live.behave(Manners::Waits);
    let exchange = tokio::spawn({
        let world = world.clone();
        async move { world.exchange(&assertion).await }
    });
    until(async || world.live.requests().len() > seen).await;
    exchange
}

/// A call that waits for the keys of an issuer acts by the rule as it is once they are there.
#[tokio::test]
async fn a_rule_that_is_disabled_while_a_call_waits_for_keys_gives_nothing() {
    let world = Arc::new(World::new().await);
    let exchange = waiting(&world, world.assertion()).await;
    let disabled = |disabled| pb::FederationRule { disabled: Some(disabled), ..Default::default() };
    world.update_rule(disabled(true), &["disabled"]).await.unwrap();
    world.live.behave(Manners::Good);
    refused(exchange.await.unwrap(), Code::Unauthenticated, "TOKEN_INVALID");
    world.update_rule(disabled(false), &["disabled"]).await.unwrap();
    world.server.state.clock.advance(Duration::from_secs(11));
    world.access_token().await;
    // One that is narrowed meanwhile gives what it has then. Where that takes too long the call goes on before.
    let mut version = 3;
    until(async || {
        world.server.state.clock.advance(Duration::from_secs(601));
        let exchange = waiting(&world, world.assertion()).await;
        let longest = prost_types::Duration { seconds: 100 + version, nanos: 0 };
        let lifetime = pb::FederationRule { access_token_lifetime: Some(longest), ..Default::default() };
        world.update_rule(lifetime, &["access_token_lifetime"]).await.unwrap();
        version += 1;
        world.live.behave(Manners::Good);
        let issued = exchange.await.unwrap().unwrap();
        let is_narrowed = claims(&issued.access_token)["rule_ver"] == version;
        if is_narrowed {
            world.server.client(issued.access_token).caller().await.unwrap();
        }
        is_narrowed
    })
    .await;
}

/// The same where nothing comes of it, and the keys of before still serve.
#[tokio::test]
async fn a_call_that_waited_in_vain_acts_by_what_is_true_then() {
    let world = Arc::new(World::new().await);
    world.access_token().await;
    let clock = &world.server.state.clock;
    let at = |exp: i64| world.signed(&world.claims(json!({"exp": clock.now().unix_timestamp() + exp})));
    let good_again = async || {
        world.live.behave(Manners::Good);
        clock.advance(Duration::from_secs(601));
        world.access_token().await;
        world.stores_fetch().await;
        clock.advance(Duration::from_secs(601));
    };
    clock.advance(Duration::from_secs(601));
    // It expires while the call waits.
    let exchange = waiting(&world, at(60)).await;
    clock.advance(Duration::from_secs(61));
    world.live.behave(Manners::Away);
    refused(exchange.await.unwrap(), Code::Unauthenticated, "TOKEN_INVALID");
    good_again().await;
    // One that does not is exchanged with the keys of before.
    let exchange = waiting(&world, at(600)).await;
    world.live.behave(Manners::Away);
    exchange.await.unwrap().unwrap();
    good_again().await;
    let exchange = waiting(&world, at(600)).await;
    let disabled = pb::FederationRule { disabled: Some(true), ..Default::default() };
    world.update_rule(disabled, &["disabled"]).await.unwrap();
    world.live.behave(Manners::Away);
    refused(exchange.await.unwrap(), Code::Unauthenticated, "TOKEN_INVALID");
}

/// Ids of another org are none, wherever they stand.
#[tokio::test]
async fn issuers_and_rules_of_another_org_are_none() {
    let world = World::new().await;
    let other = world.server.org().await;
    super::allow_federation(&other.owner).await;
    let (account, _) = world.server.account(&other.id, "deployer", &[]).await;
    let not_found = |result: Result<(), Status>| {
        refused(result, Code::NotFound, "RESOURCE_NOT_FOUND");
    };
    let theirs = create_rule(&other.owner, rule_for(&world.issuer_id, &account.id)).await;
    not_found(theirs.map(drop));
    let issuer = pb::Issuer {
        kind: pb::IssuerKind::Oidc.into(),
        issuer: world.live.url.clone(),
        ..Default::default()
    };
    let issuer_id = create_issuer(&other.owner, issuer).await.unwrap();
    let theirs = create_rule(&other.owner, rule_for(&issuer_id, &world.account.id)).await;
    not_found(theirs.map(drop));
    let rule = pb::FederationRule { id: world.rule_id.clone(), disabled: Some(true), ..Default::default() };
    let request = pb::UpdateFederationRuleRequest { rule: Some(rule), ..Default::default() };
    not_found(other.owner.orgs().update_federation_rule(request).await.map(drop));
    let issuer = pb::Issuer { id: world.issuer_id.clone(), shared: Some(true), ..Default::default() };
    let request = pb::UpdateIssuerRequest { issuer: Some(issuer), ..Default::default() };
    not_found(other.owner.orgs().update_issuer(request).await.map(drop));
    let request = pb::ListPresentationsRequest { rule_id: world.rule_id.clone(), ..Default::default() };
    not_found(other.owner.orgs().list_presentations(request).await.map(drop));
    // What one org finds out of an issuer counts for that one: the same `jti` works once in each.
    let own = create_rule(&other.owner, rule_for(&issuer_id, &account.id)).await.unwrap();
    let assertion = world.assertion();
    world.exchange(&assertion).await.unwrap();
    exchange(&world.server.anonymous(), &own, &assertion).await.unwrap();
    assert_eq!(world.live.fetches(), 2);
    world.live.publish(&[("2", &Signer::ed25519())]);
    world.server.state.clock.advance(Duration::from_secs(3_601));
    refused(world.exchange(&world.assertion()).await, Code::Unauthenticated, "TOKEN_INVALID");
    until(async || world.get_issuer().await.key_ids == ["2"]).await;
    let server: &TestServer = &world.server;
    let listed = server.operator.orgs();
    let request = pb::GetIssuerRequest { org_id: other.id.clone(), issuer_id };
    let theirs = { listed }.get_issuer(request).await.unwrap().into_inner().issuer.unwrap();
    assert_eq!(theirs.key_ids, ["1"]);
}
