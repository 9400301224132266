//! Workloads that come with the JWT of another issuer, which is a live server over TLS.

mod bad_input;
mod dev;
mod exchange;
mod explain;
mod keys;
mod oauth;
mod outage;
mod planted;
mod platforms;
mod presented;
mod rights;
mod stops;
mod trial;
mod walk;

use std::time::Duration;

use countersign::config::ServerLimits;
use countersign::grpc::pb;
use serde_json::{Value, json};
use tonic::Status;

use crate::harness::{Client, LiveIssuer, Org, Signer, TestServer, until};

/// A server and an issuer, with a rule by which JWTs of `SUBJECT` act as a service account.
pub struct World {
    pub server: TestServer,
    pub live: LiveIssuer,
    pub signer: Signer,
    pub org: Org,
    pub account: pb::Account,
    pub issuer_id: String,
    pub rule_id: String,
}

pub const SUBJECT: &str = "system:serviceaccount:prod:deployer";
pub const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

impl World {
    /// With an issuer of kind OIDC that signs with Ed25519. The clock only moves when a test advances it.
    pub async fn new() -> Self {
        Self::with(|_| {}, |_| {}).await
    }

    /// The same, with these changes of the issuer and the rule.
    pub async fn with(
        issuer: impl FnOnce(&mut pb::Issuer),
        rule: impl FnOnce(&mut pb::FederationRule),
    ) -> Self {
        let live = LiveIssuer::start().await;
        let limits = live.limits();
        Self::of(live, limits, Signer::ed25519(), issuer, rule).await
    }

    /// With an issuer whose keys are stored with it.
    pub async fn with_stored_keys() -> Self {
        let (live, signer) = (LiveIssuer::start().await, Signer::ed25519());
        let (limits, jwks) = (live.limits(), signer.key_set("1"));
        let stored = |issuer: &mut pb::Issuer| {
            issuer.kind = pb::IssuerKind::Jwks.into();
            issuer.jwks = jwks;
        };
        Self::of(live, limits, signer, stored, |_| {}).await
    }

    pub async fn of(
        live: LiveIssuer,
        limits: ServerLimits,
        signer: Signer,
        issuer: impl FnOnce(&mut pb::Issuer),
        rule: impl FnOnce(&mut pb::FederationRule),
    ) -> Self {
        live.publish(&[("1", &signer)]);
        // So that what was presented is written when a test says so, and not by the job.
        let limits = ServerLimits { last_use_interval: Duration::from_secs(3_600), ..limits };
        let server = TestServer::at_standing_time(limits).await;
        let org = server.org().await;
        allow_federation(&org.owner).await;
        let (account, _) = server.account(&org.id, "deployer", &[("invoices.read", "*")]).await;
        let mut message =
            pb::Issuer { kind: pb::IssuerKind::Oidc.into(), issuer: live.url.clone(), ..Default::default() };
        issuer(&mut message);
        let issuer_id = create_issuer(&org.owner, message).await.unwrap();
        let mut message = rule_for(&issuer_id, &account.id);
        rule(&mut message);
        let rule_id = create_rule(&org.owner, message).await.unwrap();
        Self { server, live, signer, org, account, issuer_id, rule_id }
    }

    /// The claims of a good assertion, with these in place of some; null stands for none.
    pub fn claims(&self, changes: Value) -> Value {
        let at = self.server.state.clock.now().unix_timestamp();
        let claims = json!({
            "iss": self.live.url, "sub": SUBJECT, "aud": self.server.endpoint, "iat": at, "exp": at + 600,
        });
        changed(&claims, &changes)
    }

    /// A JWT with these claims, as the issuer signs it.
    pub fn signed(&self, claims: &Value) -> String {
        let header = json!({"alg": self.signer.algorithm(), "kid": "1", "typ": "JWT"});
        self.signer.sign(&header, claims)
    }

    /// A good assertion.
    pub fn assertion(&self) -> String {
        self.signed(&self.claims(json!({})))
    }

    /// Exchanges an assertion by the rule.
    pub async fn exchange(&self, assertion: &str) -> Result<pb::ExchangeTokenResponse, Status> {
        exchange(&self.server.anonymous(), &self.rule_id, assertion).await
    }

    /// A JWT of ours that the rule gave.
    pub async fn access_token(&self) -> String {
        match self.exchange(&self.assertion()).await {
            Ok(issued) => issued.access_token,
            Err(refusal) => panic!("{refusal:?}; fetch_error: {:?}", self.get_issuer().await.fetch_error),
        }
    }

    /// Changes these fields of the rule.
    pub async fn update_rule(&self, rule: pb::FederationRule, paths: &[&str]) -> Result<(), Status> {
        let rule = pb::FederationRule { id: self.rule_id.clone(), ..rule };
        let update_mask =
            Some(prost_types::FieldMask { paths: paths.iter().map(ToString::to_string).collect() });
        let request = pb::UpdateFederationRuleRequest { rule: Some(rule), update_mask, ..Default::default() };
        self.org.owner.orgs().update_federation_rule(request).await.map(drop)
    }

    pub async fn get_issuer(&self) -> pb::Issuer {
        let request = pb::GetIssuerRequest { issuer_id: self.issuer_id.clone(), ..Default::default() };
        self.org.owner.orgs().get_issuer(request).await.unwrap().into_inner().issuer.unwrap()
    }

    /// Waits until it is stored that keys were fetched at the time that it is now.
    pub async fn stores_fetch(&self) {
        let now = self.server.state.clock.now().unix_timestamp();
        until(async || self.get_issuer().await.fetch_time.is_some_and(|time| time.seconds == now)).await;
    }

    pub async fn get_rule(&self) -> pb::FederationRule {
        let request = pb::GetFederationRuleRequest { rule_id: self.rule_id.clone(), ..Default::default() };
        self.org.owner.orgs().get_federation_rule(request).await.unwrap().into_inner().rule.unwrap()
    }
}

/// An object with these members in place of some; null stands for none.
pub fn changed(claims: &Value, changes: &Value) -> Value {
    let mut claims = claims.clone();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

pub fn rule_for(issuer_id: &str, account_id: &str) -> pb::FederationRule {
    pb::FederationRule {
        issuer_id: issuer_id.into(),
        account_id: account_id.into(),
        audiences: Vec::new(),
        subject_match: Some(pb::federation_rule::SubjectMatch::Subject(SUBJECT.into())),
        ..Default::default()
    }
}

pub async fn allow_federation(owner: &Client) {
    let policy = pb::TokenPolicy { allow_federation: Some(true), ..Default::default() };
    let update_mask = Some(prost_types::FieldMask { paths: vec!["allow_federation".into()] });
    let request = pb::UpdateTokenPolicyRequest { policy: Some(policy), update_mask, ..Default::default() };
    owner.orgs().update_token_policy(request).await.unwrap();
}

pub async fn create_issuer(by: &Client, issuer: pb::Issuer) -> Result<String, Status> {
    let request = pb::CreateIssuerRequest { issuer: Some(issuer), ..Default::default() };
    Ok(by.orgs().create_issuer(request).await?.into_inner().issuer.unwrap().id)
}

/// Creates a rule, which is for the issuer of the server where it names no audience.
pub async fn create_rule(by: &Client, mut rule: pb::FederationRule) -> Result<String, Status> {
    if rule.audiences.is_empty() {
        let caller = by.with_jwt().await;
        let issuer = crate::harness::claims(caller.token())["iss"].as_str().unwrap().to_owned();
        rule.audiences.push(issuer);
    }
    let request = pb::CreateFederationRuleRequest { rule: Some(rule), ..Default::default() };
    Ok(by.orgs().create_federation_rule(request).await?.into_inner().rule.unwrap().id)
}

/// Exchanges an assertion by a rule.
pub async fn exchange(
    by: &Client,
    rule_id: &str,
    assertion: &str,
) -> Result<pb::ExchangeTokenResponse, Status> {
    let request = pb::ExchangeTokenRequest {
        subject_token: Some(assertion.into()),
        subject_token_type: JWT.into(),
        federation_rule_id: rule_id.into(),
        ..Default::default()
    };
    by.tokens().exchange_token(request).await.map(tonic::Response::into_inner)
}
