//! Each RPC that changes something, with JWTs made before: what this API refuses after it is what a verifier refuses
//! that has heard the stream alone, and nothing else.

use std::collections::BTreeSet;
use std::time::Duration;

use countersign::domain::access::work::Work;
use countersign::grpc::layers::access::row;
use countersign::grpc::pb;

use serde_json::json;

use super::Verifier;
use crate::contract::proto::rpcs;
use crate::federation;
use crate::harness::{
    Client, Org, PASSWORD, Signer, TestServer, by_id, grant, reason, rotate_token, token_for,
};

/// What ends no JWT: it makes, widens, renames, or ends what no JWT is made from.
const ENDS_NOTHING: &[&str] = &[
    "AccountService/ActivateAccount",
    "AccountService/CloneAccount",
    "AccountService/CreateServiceAccount",
    "AccountService/CreateUser",
    "AccountService/GrantAccess",
    "AccountService/RequestPasswordReset",
    "AccountService/UndeleteAccount",
    "AccountService/UpdateAccount",
    "OrgService/AcceptInvitation",
    "OrgService/CreateFederationRule",
    "OrgService/CreateInvitation",
    "OrgService/CreateIssuer",
    "OrgService/CreateOrg",
    "OrgService/CreateResource",
    "OrgService/CreateRole",
    // One that a rule names is not deleted.
    "OrgService/DeleteIssuer",
    "OrgService/DeleteResource",
    "OrgService/DeleteRole",
    "OrgService/ResendInvitation",
    "OrgService/RevokeInvitation",
    "OrgService/UndeleteOrg",
    "OrgService/UpdateOrg",
    "OrgService/UpdateResource",
    "TokenService/CreateToken",
    "TokenService/ImpersonateAccount",
    "TokenService/Login",
    "TokenService/RotateSigningKey",
];

/// What ends JWTs, and whose: each is refused afterwards, and no other.
const ENDS: &[(&str, &str, &[&str])] = &[
    ("AccountService/DeactivateAccount", "", &["bot", "owner as bot", "operator as bot"]),
    ("AccountService/DeleteAccount", "", &["technical"]),
    ("AccountService/ConvertAccount", "", &["technical"]),
    ("AccountService/ChangePassword", "", &["technical"]),
    ("AccountService/SetPassword", "", &["technical"]),
    ("AccountService/RevokeAccess", "", &["bot", "owner as bot", "operator as bot"]),
    ("AccountService/ResetPassword", "", &["guest"]),
    ("OrgService/UpdateTokenPolicy", "", ALL_BUT_OPERATORS),
    ("OrgService/SuspendOrg", "", ALL),
    ("OrgService/SuspendOrg", "of the guest's home", &["guest"]),
    ("OrgService/ResumeOrg", "", ALL),
    ("OrgService/DeleteOrg", "", ALL),
    ("OrgService/UpdateRole", "", ALL_BUT_OPERATORS),
    ("OrgService/RemoveMember", "", &["guest"]),
    ("OrgService/UpdateIssuer", "of a name", &[]),
    ("OrgService/UpdateIssuer", "", &["workload"]),
    ("OrgService/UpdateFederationRule", "of a name", &[]),
    ("OrgService/UpdateFederationRule", "that disables it", &["workload"]),
    ("OrgService/DeleteFederationRule", "", &["workload"]),
    ("TokenService/Logout", "", &["technical"]),
    ("TokenService/Logout", "of the guest", &["guest"]),
    ("TokenService/RevokeAccountSessions", "", &["technical"]),
    ("TokenService/RevokeAccountSessions", "of the guest, at home", &["guest"]),
    ("TokenService/RotateToken", "without overlap", &["bot"]),
    ("TokenService/RotateToken", "with an overlap", &[]),
    ("TokenService/RotateToken", "with an overlap that is over", &["bot"]),
    ("TokenService/FinishRotation", "", &["bot"]),
    ("TokenService/CancelRotation", "", &[]),
    ("TokenService/CancelRotation", "before a short overlap is over", &[]),
    ("TokenService/UpdateToken", "of a name", &[]),
    ("TokenService/UpdateToken", "with fewer scopes", &["bot", "owner as bot", "operator as bot"]),
    ("TokenService/UpdateToken", "with a shorter life", &[]),
    ("TokenService/UpdateToken", "with a shorter life that is over", &["bot"]),
    ("TokenService/UpdateToken", "of the token that gave a password: its life is over", &["tied"]),
    ("TokenService/RevokeToken", "", &["bot"]),
    ("TokenService/RevokeToken", "of the token that gave a password", &["tied"]),
    ("TokenService/RevokeToken", "of the operator", &["operator as bot"]),
    ("TokenService/RevokeToken", "of a rule", &["workload"]),
    ("TokenService/RevokeAccountTokens", "", &["bot"]),
    ("TokenService/RevokeAccountTokens", "of a workload", &["workload"]),
    ("TokenService/ReassignToken", "", &["bot", "owner as bot", "operator as bot"]),
    ("TokenService/ReassignAccountTokens", "", &["bot", "owner as bot", "operator as bot"]),
    ("TokenService/ReportLeakedToken", "", &["bot"]),
    ("TokenService/RevokeSigningKey", "", ALL),
];

const ALL: &[&str] =
    &["bot", "owner", "technical", "tied", "guest", "workload", "owner as bot", "operator as bot"];
const ALL_BUT_OPERATORS: &[&str] = ALL;

/// An org with a JWT of each kind.
struct World<'a> {
    server: &'a TestServer,
    org: Org,
    bot: pb::Account,
    bot_token: (String, Client),
    technical: (pb::Account, Client),
    guest: (pb::Account, Client),
    /// The token that gave another technical user its password.
    giver: String,
    operator: Client,
    role_id: String,
    /// What the rule of a workload acts as, its issuer and the rule.
    deployer: pb::Account,
    issuer_id: String,
    rule_id: String,
    jwts: Vec<(&'static str, Client)>,
}

impl<'a> World<'a> {
    async fn new(server: &'a TestServer) -> Self {
        let org = server.org().await;
        let role = pb::Role {
            name: "reader".into(),
            permissions: vec!["accounts.read".into(), "tokens.read".into()],
            ..Default::default()
        };
        let role = pb::CreateRoleRequest { role: Some(role), ..Default::default() };
        let role_id = org.owner.orgs().create_role(role).await.unwrap().into_inner().role.unwrap().id;
        let (bot, client) =
            server.account(&org.id, "bot", &[("invoices.read", "*"), (role_id.as_str(), "*")]).await;
        let bot_token = (client.caller().await.unwrap().credential_id, client);
        let account = server.technical(&org.id, "technical", &[("invoices.read", "*")]).await;
        let technical = (account.clone(), server.session(&account.username).await);
        let giving = pb::CreateTokenRequest {
            may_manage_tokens: true,
            expiration: Some(pb::create_token_request::Expiration::Ttl(seconds(86_400))),
            ..token_for(&org.id, &org.owner_id)
        };
        let giving = server.operator.tokens().create_token(giving).await.unwrap().into_inner();
        let giver = giving.token.unwrap().id;
        let request = pb::CreateServiceAccountRequest {
            name: "tied".into(),
            password: PASSWORD.into(),
            ..Default::default()
        };
        let tied = server.client(giving.secret).accounts().create_service_account(request).await.unwrap();
        let tied = server.session(&tied.into_inner().account.unwrap().username).await;
        let guest = server.guest(&org.id, &[("invoices.read", "*")]).await;
        let home = guest.org_id.clone();
        let guest_session = server.session(&guest.username).await;
        assert_ne!(home, org.id);
        let operator = server.fresh_operator().await;
        let (deployer, issuer_id, rule_id, workload) = workload(server, &org).await;
        let mut world = Self {
            server,
            org,
            bot,
            bot_token,
            technical,
            guest: (guest, guest_session),
            giver,
            operator,
            role_id,
            deployer,
            issuer_id,
            rule_id,
            jwts: Vec::new(),
        };
        world.jwts = vec![
            ("bot", world.bot_token.1.with_jwt().await),
            ("owner", world.org.owner.with_jwt().await),
            ("technical", world.technical.1.with_jwt().await),
            ("tied", tied.with_jwt().await),
            ("guest", world.of_guest().await),
            ("workload", workload),
            ("owner as bot", world.org.owner.impersonating(&world.bot.id).await),
            ("operator as bot", world.of_operator().await),
        ];
        world
    }

    /// A JWT of the guest's session, for the org.
    async fn of_guest(&self) -> Client {
        let request = pb::ExchangeTokenRequest { org_id: self.org.id.clone(), ..Default::default() };
        let jwt = self.guest.1.tokens().exchange_token(request).await.unwrap().into_inner().access_token;
        self.server.client(jwt)
    }

    /// A JWT with which the operator acts as the bot.
    async fn of_operator(&self) -> Client {
        let request = pb::ImpersonateAccountRequest {
            org_id: self.org.id.clone(),
            account_id: self.bot.id.clone(),
            reason: "to help".into(),
            ..Default::default()
        };
        let jwt = self.operator.tokens().impersonate_account(request).await.unwrap().into_inner();
        self.server.client(jwt.access_token)
    }

    /// Makes the change.
    async fn change(&self, rpc: &str, variant: &str) {
        let (owner, operator) = (&self.org.owner, &self.server.operator);
        let (org_id, token_id) = (self.org.id.clone(), self.bot_token.0.clone());
        let technical = self.technical.0.id.clone();
        match (rpc, variant) {
            ("AccountService/DeactivateAccount", _) => {
                let request =
                    pb::DeactivateAccountRequest { account_id: self.bot.id.clone(), ..Default::default() };
                owner.accounts().deactivate_account(request).await.map(drop)
            }
            ("AccountService/DeleteAccount", _) => {
                let request = pb::DeleteAccountRequest { account_id: technical, ..Default::default() };
                owner.accounts().delete_account(request).await.map(drop)
            }
            ("AccountService/ConvertAccount", _) => {
                let email = format!("converted@{}.example", self.org.slug);
                let request = pb::ConvertAccountRequest {
                    org_id,
                    account_id: technical,
                    kind: pb::AccountKind::User.into(),
                    reason: "a person after all".into(),
                    identity: Some(pb::convert_account_request::Identity::Email(email)),
                };
                operator.accounts().convert_account(request).await.map(drop)
            }
            ("AccountService/ChangePassword", _) => {
                let other = self.server.session(&self.technical.0.username).await;
                let new_password = "another horse battery staple".to_owned();
                let request = pb::ChangePasswordRequest { current_password: PASSWORD.into(), new_password };
                other.accounts().change_password(request).await.map(drop)
            }
            ("AccountService/SetPassword", _) => {
                let request = pb::SetPasswordRequest {
                    account_id: technical,
                    password: PASSWORD.into(),
                    ..Default::default()
                };
                owner.accounts().set_password(request).await.map(drop)
            }
            ("AccountService/RevokeAccess", _) => {
                let request = pb::RevokeAccessRequest {
                    account_id: self.bot.id.clone(),
                    grants: vec![grant("invoices.read", "*")],
                    ..Default::default()
                };
                owner.accounts().revoke_access(request).await.map(drop)
            }
            ("AccountService/ResetPassword", _) => {
                let email = self.guest.0.username.clone();
                let ask = pb::RequestPasswordResetRequest { email: email.clone() };
                let before = self.server.code_for(&email).await;
                self.server.anonymous().accounts().request_password_reset(ask).await.unwrap();
                crate::harness::until(async || self.server.code_for(&email).await != before).await;
                let code = self.server.code_for(&email).await.unwrap();
                let new_password = "another horse battery staple".into();
                let request = pb::ResetPasswordRequest { code, new_password };
                self.server.anonymous().accounts().reset_password(request).await.map(drop)
            }
            ("OrgService/UpdateTokenPolicy", _) => {
                let policy = pb::TokenPolicy {
                    max_secret_lifetime: Some(seconds(3_600)),
                    default_lifetime: Some(seconds(3_600)),
                    ..Default::default()
                };
                let request = pb::UpdateTokenPolicyRequest { policy: Some(policy), ..Default::default() };
                owner.orgs().update_token_policy(request).await.map(drop)
            }
            ("OrgService/SuspendOrg", "") => self.suspend(&org_id).await,
            ("OrgService/SuspendOrg", _) => self.suspend(&self.guest.0.org_id).await,
            ("OrgService/ResumeOrg", _) => {
                self.suspend(&org_id).await.unwrap();
                let request = pb::ResumeOrgRequest { org_id, reason: "paid".into() };
                operator.orgs().resume_org(request).await.map(drop)
            }
            ("OrgService/DeleteOrg", _) => {
                let request = pb::DeleteOrgRequest { org_id, ..Default::default() };
                operator.orgs().delete_org(request).await.map(drop)
            }
            ("OrgService/UpdateRole", _) => {
                let permissions = vec!["accounts.read".into()];
                let role = pb::Role { id: self.role_id.clone(), permissions, ..Default::default() };
                let request = pb::UpdateRoleRequest { role: Some(role), ..Default::default() };
                owner.orgs().update_role(request).await.map(drop)
            }
            ("OrgService/RemoveMember", _) => {
                let request =
                    pb::RemoveMemberRequest { account_id: self.guest.0.id.clone(), ..Default::default() };
                owner.orgs().remove_member(request).await.map(drop)
            }
            ("OrgService/UpdateIssuer", variant) => {
                let mut issuer = pb::Issuer { id: self.issuer_id.clone(), ..Default::default() };
                match variant {
                    "of a name" => issuer.display_name = Some("another".into()),
                    _ => issuer.max_assertion_lifetime = Some(seconds(1_800)),
                }
                let request = pb::UpdateIssuerRequest { issuer: Some(issuer), ..Default::default() };
                owner.orgs().update_issuer(request).await.map(drop)
            }
            ("OrgService/UpdateFederationRule", variant) => {
                let mut rule = pb::FederationRule { id: self.rule_id.clone(), ..Default::default() };
                match variant {
                    "of a name" => rule.display_name = Some("another".into()),
                    _ => rule.disabled = Some(true),
                }
                let request = pb::UpdateFederationRuleRequest { rule: Some(rule), ..Default::default() };
                owner.orgs().update_federation_rule(request).await.map(drop)
            }
            ("OrgService/DeleteFederationRule", _) => {
                let rule_id = self.rule_id.clone();
                let request = pb::DeleteFederationRuleRequest { rule_id, ..Default::default() };
                owner.orgs().delete_federation_rule(request).await.map(drop)
            }
            ("TokenService/Logout", "") => {
                self.technical.1.tokens().logout(pb::LogoutRequest {}).await.map(drop)
            }
            ("TokenService/Logout", _) => self.guest.1.tokens().logout(pb::LogoutRequest {}).await.map(drop),
            ("TokenService/RevokeAccountSessions", variant) => {
                let (org_id, account_id) = match variant {
                    "" => (org_id, technical),
                    _ => (self.guest.0.org_id.clone(), self.guest.0.id.clone()),
                };
                let request = pb::RevokeAccountSessionsRequest { org_id, account_id };
                operator.tokens().revoke_account_sessions(request).await.map(drop)
            }
            ("TokenService/RotateToken", variant) => {
                let overlap = match variant {
                    "without overlap" => 0,
                    "with an overlap" => 3_600,
                    _ => 30,
                };
                self.rotate(overlap).await
            }
            ("TokenService/FinishRotation", _) => {
                self.rotate(3_600).await.unwrap();
                let request = pb::FinishRotationRequest { token_id, ..Default::default() };
                owner.tokens().finish_rotation(request).await.map(drop)
            }
            ("TokenService/CancelRotation", variant) => {
                self.rotate(if variant.is_empty() { 3_600 } else { 30 }).await.unwrap();
                let request = pb::CancelRotationRequest { token_id, ..Default::default() };
                owner.tokens().cancel_rotation(request).await.map(drop)
            }
            ("TokenService/UpdateToken", variant) => {
                let id = if variant.contains("gave a password") { self.giver.clone() } else { token_id };
                let mut token = pb::Token { id, ..Default::default() };
                match variant {
                    "of a name" => token.display_name = "another".into(),
                    "with fewer scopes" => token.scopes = vec!["invoices.read".into()],
                    _ => {
                        let life = if variant.ends_with("is over") { 30 } else { 600 };
                        let end = self.server.state.clock.now() + Duration::from_secs(life);
                        token.expire_time =
                            Some(prost_types::Timestamp { seconds: end.unix_timestamp(), nanos: 0 });
                    }
                }
                let request = pb::UpdateTokenRequest { token: Some(token), ..Default::default() };
                owner.tokens().update_token(request).await.map(drop)
            }
            ("TokenService/RevokeToken", "of the operator") => {
                let id = self.operator.caller().await.unwrap().credential_id;
                let org_id = super::SYSTEM;
                operator.tokens().revoke_token(by_id(org_id, &id)).await.map(drop)
            }
            ("TokenService/RevokeToken", variant) => {
                let id = match variant {
                    "" => &token_id,
                    "of a rule" => &self.rule_id,
                    _ => &self.giver,
                };
                owner.tokens().revoke_token(by_id("", id)).await.map(drop)
            }
            ("TokenService/RevokeAccountTokens", variant) => {
                let account = if variant.is_empty() { &self.bot } else { &self.deployer };
                let request =
                    pb::RevokeAccountTokensRequest { account_id: account.id.clone(), ..Default::default() };
                owner.tokens().revoke_account_tokens(request).await.map(drop)
            }
            ("TokenService/ReassignToken", _) => {
                let request = pb::ReassignTokenRequest {
                    token_id,
                    account_id: technical,
                    allow_narrowing: true,
                    ..Default::default()
                };
                owner.tokens().reassign_token(request).await.map(drop)
            }
            ("TokenService/ReassignAccountTokens", _) => {
                let request = pb::ReassignAccountTokensRequest {
                    from_account_id: self.bot.id.clone(),
                    account_id: technical,
                    allow_narrowing: true,
                    ..Default::default()
                };
                owner.tokens().reassign_account_tokens(request).await.map(drop)
            }
            ("TokenService/ReportLeakedToken", _) => {
                let token_texts = vec![self.bot_token.1.token().to_owned()];
                let request = pb::ReportLeakedTokenRequest { token_texts };
                self.server.anonymous().tokens().report_leaked_token(request).await.map(drop)
            }
            ("TokenService/RevokeSigningKey", _) => {
                let kid = super::kid(self.jwts[0].1.token());
                let request = pb::RevokeSigningKeyRequest { kid, ..Default::default() };
                operator.tokens().revoke_signing_key(request).await.map(drop)
            }
            other => panic!("say how {other:?} is called"),
        }
        .unwrap_or_else(|status| panic!("{rpc} {variant}: {status:?}"));
        if variant.ends_with("is over") {
            // What was scheduled is due.
            self.server.state.clock.advance(Duration::from_secs(61));
        }
    }

    async fn suspend(&self, org_id: &str) -> Result<(), tonic::Status> {
        let request = pb::SuspendOrgRequest { org_id: org_id.into(), reason: "unpaid".into() };
        self.server.operator.orgs().suspend_org(request).await.map(drop)
    }

    async fn rotate(&self, overlap: i64) -> Result<(), tonic::Status> {
        let request = rotate_token("", &self.bot_token.0, Some(overlap));
        let rotated = self.org.owner.tokens().rotate_token(request).await?.into_inner();
        crate::harness::watch(&rotated.secret);
        Ok(())
    }
}

/// A JWT of a federation rule, with its account, issuer and rule.
async fn workload(server: &TestServer, org: &Org) -> (pb::Account, String, String, Client) {
    federation::allow_federation(&org.owner).await;
    let (account, _) = server.account(&org.id, "deployer", &[("invoices.read", "*")]).await;
    let signer = Signer::ed25519();
    let issuer = pb::Issuer {
        kind: pb::IssuerKind::Jwks.into(),
        issuer: "https://localhost:8443/walk".into(),
        jwks: signer.key_set("1"),
        ..Default::default()
    };
    let issuer_id = federation::create_issuer(&org.owner, issuer.clone()).await.unwrap();
    let rule = federation::rule_for(&issuer_id, &account.id);
    let rule_id = federation::create_rule(&org.owner, rule).await.unwrap();
    let at = server.state.clock.now().unix_timestamp();
    let aud = crate::harness::claims(org.owner.with_jwt().await.token())["iss"].clone();
    let claims =
        json!({"iss": issuer.issuer, "sub": federation::SUBJECT, "aud": aud, "iat": at, "exp": at + 600});
    let assertion = signer.sign(&json!({"alg": signer.algorithm(), "kid": "1"}), &claims);
    let issued = federation::exchange(&server.anonymous(), &rule_id, &assertion).await.unwrap();
    (account, issuer_id, rule_id, server.client(issued.access_token))
}

fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

#[tokio::test]
async fn what_this_api_refuses_stands_on_the_stream() {
    let server = TestServer::start().await;
    let operator = &server.operator;
    for (rpc, variant, expected) in ENDS {
        let case = format!("{rpc} {variant}");
        let world = World::new(&server).await;
        let mut live = Verifier::watching(operator, &[&world.org.id], "").await;
        for (name, jwt) in &world.jwts {
            jwt.caller().await.unwrap_or_else(|status| panic!("{case}, before, {name}: {status:?}"));
            assert!(!live.is_refused(jwt.token(), server.state.clock.now()), "{case}, before: {name}");
        }
        let cursor = live.cursor.clone();
        world.change(rpc, variant).await;
        server.hear().await;
        let now = server.state.clock.now();
        let mut refused = BTreeSet::new();
        for (name, jwt) in &world.jwts {
            if let Err(status) = jwt.caller().await {
                assert!(reason(&status) != "INTERNAL", "{case}: {name}");
                refused.insert(*name);
                // Those who watch hear it.
                live.refuses(jwt.token(), now).await;
            }
        }
        assert_eq!(refused, expected.iter().copied().collect(), "{case}: refused by this API");
        // So do those who come later, and those who come back.
        for cursor in ["", &cursor] {
            let later = Verifier::watching(operator, &[&world.org.id], cursor).await;
            let by_stream = world.jwts.iter().filter(|(_, jwt)| later.is_refused(jwt.token(), now));
            let by_stream: BTreeSet<_> = by_stream.map(|(name, _)| *name).collect();
            assert_eq!(by_stream, refused, "{case}, cursor {:?}: refused by the stream", !cursor.is_empty());
        }
    }
}

#[test]
fn every_rpc_that_changes_something_is_walked() {
    let ends: BTreeSet<_> = ENDS.iter().map(|(rpc, ..)| *rpc).collect();
    let nothing: BTreeSet<_> = ENDS_NOTHING.iter().copied().collect();
    assert!(ends.is_disjoint(&nothing));
    let all = rpcs();
    let changes = all.iter().filter(|rpc| matches!(row(rpc), Some((_, Work::Changes | Work::Stops))));
    let changes: BTreeSet<_> = changes.map(|rpc| rpc.strip_prefix("/countersign.v1.").unwrap()).collect();
    assert_eq!(ends.union(&nothing).copied().collect::<BTreeSet<_>>(), changes);
}
