//! A manager with less than everything tries each call in turn to gain more: on its
//! own, through accounts and tokens that it creates, and through roles that others hold.

use std::collections::BTreeSet;

use countersign::grpc::pb;
use tonic::{Code, Status};

use crate::harness::{Client, Org, TestServer, claims, grant, refused, rotate_token, token_for};

const GRANT: &str = "GRANT_EXCEEDS_CALLER";
const TARGET: &str = "TARGET_EXCEEDS_CALLER";
const MISSING: &str = "PERMISSION_MISSING";

/// What a credential can do, wherever: permissions on the whole org, and on paths.
async fn reach(client: &Client) -> BTreeSet<(String, String)> {
    let jwt = client.exchange().await.unwrap().access_token;
    let claims = claims(&jwt);
    let mut reach = BTreeSet::new();
    for scope in claims["scope"].as_str().unwrap().split_whitespace() {
        reach.insert((scope.to_owned(), "*".to_owned()));
    }
    for detail in claims["authorization_details"].as_array().into_iter().flatten() {
        for action in detail["actions"].as_array().unwrap() {
            let path = detail["identifier"].as_str().unwrap();
            reach.insert((action.as_str().unwrap().to_owned(), path.to_owned()));
        }
    }
    reach
}

fn within(reach: &BTreeSet<(String, String)>, closure: &BTreeSet<(String, String)>) -> bool {
    let covers = |(permission, path): &(String, String)| {
        closure.iter().any(|(held, node)| {
            held == permission && (node == "*" || path == node || path.starts_with(&format!("{node}/")))
        })
    };
    reach.iter().all(covers)
}

/// What one credential tries against the others of its org.
struct Attempts<'a> {
    client: &'a Client,
    own_id: &'a str,
    org: &'a Org,
    /// Holds more than the caller.
    strong: &'a pb::Account,
    /// Holds nothing.
    weak: &'a pb::Account,
    /// A role that the caller could not have created.
    strong_role: &'a str,
    /// A role that the caller holds.
    own_role: &'a str,
}

impl Attempts<'_> {
    async fn give(&self, account_id: &str, right: &str, on: &str) -> Result<(), Status> {
        let grants = vec![grant(right, on)];
        let request = pb::GrantAccessRequest { account_id: account_id.into(), grants, ..Default::default() };
        self.client.accounts().grant_access(request).await.map(|_| ())
    }

    async fn grants_and_accounts(&self) {
        for (right, on) in [
            ("owner", "*"),
            ("owner", "customers/acme"),
            ("orgs.write", "*"),
            ("accounts.impersonate", "customers"),
            ("platform.accounts", "*"),
            ("x.z", "customers"),
            // Above its own node.
            ("x.y", "*"),
            ("x.y", "customers2"),
            (self.strong_role, "*"),
            (self.strong_role, "customers/acme"),
        ] {
            for account_id in [self.own_id, &self.weak.id] {
                let refusal = self.give(account_id, right, on).await;
                refused(refusal, Code::PermissionDenied, GRANT);
            }
            let request = pb::CreateServiceAccountRequest {
                name: "helper".into(),
                grants: vec![grant("auditor", "*"), grant(right, on)],
                ..Default::default()
            };
            let refusal = self.client.accounts().create_service_account(request).await;
            refused(refusal, Code::PermissionDenied, GRANT);
        }
    }

    async fn roles(&self) {
        for permissions in
            [&["orgs.write"][..], &["tokens.read", "x.y"], &["platform.verify"], &["any.thing"]]
        {
            let permissions: Vec<String> = permissions.iter().map(|text| (*text).to_owned()).collect();
            let role = Some(pb::Role {
                name: "more".into(),
                permissions: permissions.clone(),
                ..Default::default()
            });
            let request = pb::CreateRoleRequest { role, ..Default::default() };
            let refusal = self.client.orgs().create_role(request).await;
            refused(refusal, Code::PermissionDenied, GRANT);
            for role_id in [self.own_role, self.strong_role] {
                let role =
                    pb::Role { id: role_id.into(), permissions: permissions.clone(), ..Default::default() };
                let request = pb::UpdateRoleRequest { role: Some(role), ..Default::default() };
                let outcome = self.client.orgs().update_role(request).await;
                if permissions == ["orgs.write"] && role_id == self.strong_role {
                    // It carries that already: to narrow it is no gain.
                    outcome.unwrap();
                } else {
                    refused(outcome, Code::PermissionDenied, GRANT);
                }
            }
        }
    }

    async fn tokens(&self) {
        let make = async |account_id: &str, lists: pb::CreateTokenRequest| {
            let request = pb::CreateTokenRequest { account_id: account_id.into(), ..lists };
            self.client.tokens().create_token(request).await.map(|_| ())
        };
        let scoped = |scopes: &[&str]| pb::CreateTokenRequest {
            scopes: scopes.iter().map(|text| (*text).to_owned()).collect(),
            ..token_for("", "")
        };
        for strong in [self.strong.id.as_str(), self.org.owner_id.as_str()] {
            refused(make(strong, scoped(&[])).await, Code::PermissionDenied, TARGET);
            refused(make(strong, scoped(&["orgs.write"])).await, Code::PermissionDenied, TARGET);
        }
        let managing = pb::CreateTokenRequest { may_manage_tokens: true, ..scoped(&[]) };
        refused(make(self.own_id, managing).await, Code::PermissionDenied, TARGET);
        // What one has none of is not given by a list.
        refused(make(self.own_id, scoped(&["orgs.write"])).await, Code::PermissionDenied, "SCOPE_NOT_HELD");
        let request = pb::ExchangeTokenRequest {
            subject_token: Some(self.client.token().into()),
            scopes: vec!["orgs.write".into()],
            ..Default::default()
        };
        let refusal = self.client.tokens().exchange_token(request).await;
        refused(refusal, Code::PermissionDenied, "SCOPE_NOT_HELD");
    }

    /// What is emailed to the reader of the mailbox.
    async fn invitations(&self) {
        for (right, on) in [("owner", "*"), ("x.y", "*"), (self.strong_role, "customers/acme")] {
            let request = pb::CreateInvitationRequest {
                email: "mallory@example.org".into(),
                grants: vec![grant("auditor", "*"), grant(right, on)],
                ..Default::default()
            };
            let refusal = self.client.orgs().create_invitation(request).await;
            refused(refusal, Code::PermissionDenied, GRANT);
        }
    }

    /// What would be stronger than the caller when restored is not restored.
    async fn lives(&self, server: &TestServer) {
        let accounts = Client::accounts;
        let account_id = || self.strong.id.clone();
        let stop = pb::DeactivateAccountRequest { account_id: account_id(), ..Default::default() };
        accounts(self.client).deactivate_account(stop).await.unwrap();
        let activate = pb::ActivateAccountRequest { account_id: account_id(), ..Default::default() };
        let refusal = accounts(self.client).activate_account(activate.clone()).await;
        refused(refusal, Code::PermissionDenied, TARGET);
        let delete = "update accounts set delete_time = now() where name = 'strong'";
        sqlx::query(delete).execute(&server.state.db).await.unwrap();
        let undelete = pb::UndeleteAccountRequest { account_id: account_id(), ..Default::default() };
        let refusal = accounts(self.client).undelete_account(undelete.clone()).await;
        refused(refusal, Code::PermissionDenied, TARGET);
        self.org.owner.accounts().undelete_account(undelete).await.unwrap();
        self.org.owner.accounts().activate_account(activate).await.unwrap();
    }

    /// An owner is deactivated by no lesser caller, and other orgs do not exist for it.
    async fn others(&self, foreign: &Org) {
        let taken = vec![grant("owner", "*")];
        let request = pb::RevokeAccessRequest {
            account_id: self.org.owner_id.clone(),
            grants: taken,
            ..Default::default()
        };
        refused(self.client.accounts().revoke_access(request).await, Code::PermissionDenied, TARGET);
        let owner_id = || self.org.owner_id.clone();
        let stop = pb::DeactivateAccountRequest { account_id: owner_id(), ..Default::default() };
        let refusal = self.client.accounts().deactivate_account(stop).await;
        refused(refusal, Code::PermissionDenied, TARGET);
        let delete = pb::DeleteAccountRequest { account_id: owner_id(), ..Default::default() };
        let refusal = self.client.accounts().delete_account(delete).await;
        refused(refusal, Code::PermissionDenied, TARGET);
        let request = crate::harness::create_org("mine");
        refused(self.client.orgs().create_org(request).await, Code::PermissionDenied, MISSING);
        let request = pb::GrantAccessRequest {
            org_id: foreign.id.clone(),
            account_id: self.own_id.into(),
            grants: vec![grant("auditor", "*")],
        };
        let refusal = self.client.accounts().grant_access(request).await;
        refused(refusal, Code::NotFound, "RESOURCE_NOT_FOUND");
    }
}

/// Each call that yields a credential of this account, or replaces its holder.
async fn takes_no_place_of(
    client: &Client,
    strong: &pb::Account,
    strong_client: &Client,
    weak: &pb::Account,
) {
    let (accounts, tokens) = (|| client.accounts(), || client.tokens());
    let account_id = || strong.id.clone();
    let token_id = strong_client.caller().await.unwrap().credential_id;
    let password = "a much better secret".into();
    let request = pb::SetPasswordRequest { account_id: account_id(), password, ..Default::default() };
    refused(accounts().set_password(request).await, Code::PermissionDenied, TARGET);
    let refusal = tokens().create_token(token_for("", &strong.id)).await;
    refused(refusal, Code::PermissionDenied, TARGET);
    let refusal = tokens().rotate_token(rotate_token("", &token_id, None)).await;
    refused(refusal, Code::PermissionDenied, TARGET);
    let token = Some(pb::Token { id: token_id.clone(), display_name: "mine".into(), ..Default::default() });
    let request = pb::UpdateTokenRequest { token, ..Default::default() };
    refused(tokens().update_token(request).await, Code::PermissionDenied, TARGET);
    let weak_token = tokens().create_token(token_for("", &weak.id)).await.unwrap().into_inner();
    for (token_id, account_id) in [(token_id, weak.id.clone()), (weak_token.token.unwrap().id, account_id())]
    {
        let request =
            pb::ReassignTokenRequest { token_id, account_id, allow_narrowing: true, ..Default::default() };
        refused(tokens().reassign_token(request).await, Code::PermissionDenied, TARGET);
    }
}

/// Among operators not all hold all. (What only an operator may do with an account is tried
/// where it is tested.)
#[tokio::test]
async fn a_limited_operator_gains_nothing_by_any_call() {
    let server = TestServer::start().await;
    let system = server.operator.caller().await.unwrap().account.unwrap().org_id;
    let (registrar, client) = server.account(&system, "registrar", &[("platform.accounts", "*")]).await;
    let (keeper, keeper_client) = server.account(&system, "keeper", &[("platform.keys", "*")]).await;
    let (weak, _) = server.account(&system, "weak", &[]).await;
    let closure = reach(&client).await;
    takes_no_place_of(&client, &keeper, &keeper_client, &weak).await;
    refused(client.impersonate(&keeper.id).await, Code::PermissionDenied, TARGET);

    let role = |permission: &str| pb::Role {
        name: "keys".into(),
        permissions: vec![permission.into()],
        ..Default::default()
    };
    let create = |permission| pb::CreateRoleRequest { role: Some(role(permission)), ..Default::default() };
    refused(client.orgs().create_role(create("platform.keys")).await, Code::PermissionDenied, GRANT);
    let made = client.orgs().create_role(create("platform.accounts")).await.unwrap().into_inner().role;
    let role = Some(pb::Role { id: made.unwrap().id, ..role("platform.keys") });
    let request = pb::UpdateRoleRequest { role, ..Default::default() };
    refused(client.orgs().update_role(request).await, Code::PermissionDenied, GRANT);
    for account_id in [&registrar.id, &weak.id] {
        let grants = vec![grant("platform.keys", "*")];
        let request = pb::GrantAccessRequest { account_id: account_id.clone(), grants, ..Default::default() };
        refused(client.accounts().grant_access(request).await, Code::PermissionDenied, GRANT);
    }

    // It may deactivate accounts that are no operators, and not activate those that can do more.
    let stop = pb::DeactivateAccountRequest { account_id: keeper.id.clone(), ..Default::default() };
    client.accounts().deactivate_account(stop).await.unwrap();
    let activate = pb::ActivateAccountRequest { account_id: keeper.id.clone(), ..Default::default() };
    let refusal = client.accounts().activate_account(activate.clone()).await;
    refused(refusal, Code::PermissionDenied, TARGET);
    server.operator.accounts().activate_account(activate).await.unwrap();
    assert_eq!(reach(&client).await, closure);
}

#[tokio::test]
async fn a_limited_manager_gains_nothing_by_any_call() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let foreign = server.org().await;
    server.resources(&org.id, &["customers/acme", "customers2"]).await;
    let role = async |name: &str, permissions: &[&str]| {
        let permissions = permissions.iter().map(|text| (*text).to_owned()).collect();
        let role = Some(pb::Role { name: name.into(), permissions, ..Default::default() });
        let request = pb::CreateRoleRequest { role, ..Default::default() };
        org.owner.orgs().create_role(request).await.unwrap().into_inner().role.unwrap().id
    };
    let (own_role, strong_role) = (role("own", &["x.w"]).await, role("strong", &["orgs.write", "x.z"]).await);
    let held = [("manager", "*"), ("x.y", "customers"), (own_role.as_str(), "*")];
    let (manager, client) = server.account(&org.id, "manager", &held).await;
    let (strong, strong_client) =
        server.account(&org.id, "strong", &[(&strong_role, "*"), ("x.v", "*")]).await;
    let (weak, _) = server.account(&org.id, "weak", &[]).await;
    let closure = reach(&client).await;
    assert!(closure.contains(&("x.y".into(), "customers".into())));
    let strong_before = reach(&strong_client).await;

    let attempts = Attempts {
        client: &client,
        own_id: &manager.id,
        org: &org,
        strong: &strong,
        weak: &weak,
        strong_role: &strong_role,
        own_role: &own_role,
    };
    attempts.grants_and_accounts().await;
    attempts.roles().await;
    attempts.tokens().await;
    attempts.invitations().await;
    takes_no_place_of(&client, &strong, &strong_client, &weak).await;
    refused(client.impersonate(&strong.id).await, Code::PermissionDenied, MISSING);
    attempts.lives(&server).await;
    attempts.others(&foreign).await;
    assert_eq!(reach(&client).await, closure, "not by itself");

    // What it may do: an account, a token of it, a role, a wider role. All stay within.
    let everything: Vec<pb::Grant> = held.iter().map(|(right, on)| grant(right, on)).collect();
    let request =
        pb::CreateServiceAccountRequest { name: "helper".into(), grants: everything, ..Default::default() };
    let helper = client.accounts().create_service_account(request).await.unwrap().into_inner();
    let helper = helper.account.unwrap();
    let made = client.tokens().create_token(token_for("", &helper.id)).await.unwrap().into_inner();
    let helper_client = server.client(made.secret);
    assert_eq!(reach(&helper_client).await, closure);
    let role = pb::Role {
        id: own_role.clone(),
        permissions: vec!["x.w".into(), "tokens.read".into()],
        ..Default::default()
    };
    let request = pb::UpdateRoleRequest { role: Some(role), ..Default::default() };
    client.orgs().update_role(request).await.unwrap();
    for client in [&client, &helper_client] {
        assert!(within(&reach(client).await, &closure));
    }
    // Through the helper it gains nothing more; its token cannot even create tokens.
    let attempts = Attempts { client: &helper_client, own_id: &helper.id, ..attempts };
    attempts.grants_and_accounts().await;
    attempts.others(&foreign).await;
    let refusal = helper_client.tokens().create_token(token_for("", &weak.id)).await;
    refused(refusal, Code::PermissionDenied, MISSING);
    assert!(within(&reach(&helper_client).await, &closure));
    assert!(within(&reach(&strong_client).await, &strong_before), "nobody else has gained anything");
}
