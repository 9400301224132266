//! Every RPC × every kind of caller. A row that is missing fails, and so does an RPC
//! that the access table does not know.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use countersign::domain::values::token_string::TokenString;
use countersign::grpc::layers::access::{Access, row};
use countersign::grpc::{json, pb};
use prost::Message as _;
use tonic::Status;

use crate::contract::proto::rpcs;
use crate::harness::federation;
use crate::harness::{
    Client, LIMITS, Org, PASSWORD, TestServer, by_id, call_json, call_raw, grant, invite, is_stream, reason,
    rotate_token, token_for, watch,
};

/// The kinds of caller, in the order of the columns below. `foreign` owns another org
/// and names this one; `narrow` is an owner whose token has only the scope `tokens.read`;
/// `imperson` is a service account, an owner too, as the owner impersonates it: a JWT in any case.
/// `session` is an owner who signed in with a password, `visitor` a plain member who did.
#[rustfmt::skip]
pub const KINDS: [&str; 12] = [
    "none", "garbage", "foreign", "member", "auditor", "manager", "owner", "operator", "narrow", "imperson", "session",
    "visitor",
];

pub const OK: &str = "OK";
const NONE: &str = "CREDENTIAL_MISSING";
const JUNK: &str = "TOKEN_INVALID";
const HIDE: &str = "RESOURCE_NOT_FOUND";
const DENY: &str = "PERMISSION_MISSING";
const FAIL: &str = "LOGIN_FAILED";
const ELSE: &str = "INVITATION_EMAIL_MISMATCH";

/// What each kind of caller gets from an RPC that is sent a good request.
#[rustfmt::skip]
const MATRIX: &[(&str, [&str; 12])] = &[
    // RPC                                  none  garbage foreign member auditor manager owner operator narrow imperson session visitor
    ("AccountService/ActivateAccount",      [NONE, JUNK, HIDE, DENY, DENY, OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("AccountService/ConvertAccount",       [NONE, JUNK, DENY, DENY, DENY, DENY, DENY, OK,   DENY, DENY, DENY, DENY]),
    ("AccountService/CheckAccess",          [NONE, JUNK, HIDE, DENY, OK,   OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("AccountService/CloneAccount",         [NONE, JUNK, HIDE, DENY, DENY, OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("AccountService/CreateServiceAccount", [NONE, JUNK, HIDE, DENY, DENY, OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("AccountService/CreateUser",           [NONE, JUNK, HIDE, DENY, DENY, OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("AccountService/DeactivateAccount",    [NONE, JUNK, HIDE, DENY, DENY, OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("AccountService/DeleteAccount",        [NONE, JUNK, HIDE, DENY, DENY, OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("AccountService/GetAccount",           [NONE, JUNK, HIDE, DENY, OK,   OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("AccountService/GetCaller",            [NONE, JUNK, OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK]),
    ("AccountService/GrantAccess",          [NONE, JUNK, HIDE, DENY, DENY, OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("AccountService/ListAccounts",         [NONE, JUNK, HIDE, DENY, OK,   OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("AccountService/ListGrantableAccess",  [NONE, JUNK, HIDE, DENY, OK,   OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("AccountService/ListGrants",           [NONE, JUNK, HIDE, DENY, OK,   OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("AccountService/RequestPasswordReset", [OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK]),
    ("AccountService/ResetPassword",        [OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK]),
    ("AccountService/RevokeAccess",         [NONE, JUNK, HIDE, DENY, DENY, OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("AccountService/ResolveLink",          [NONE, JUNK, HIDE, OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK]),
    ("AccountService/ChangePassword",       [NONE, JUNK, FAIL, FAIL, FAIL, FAIL, FAIL, FAIL, DENY, DENY, OK,   OK]),
    // An impersonation sets no password: it would outlive it.
    ("AccountService/SetPassword",          [NONE, JUNK, HIDE, DENY, DENY, OK,   OK,   OK,   DENY, DENY, OK,   DENY]),
    ("AccountService/UpdateAccount",        [NONE, JUNK, HIDE, DENY, DENY, OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("AccountService/UndeleteAccount",      [NONE, JUNK, HIDE, DENY, DENY, OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    // Without a credential it signs up; a token accepts nothing, and a session what is its account's.
    ("OrgService/AcceptInvitation",         [OK,   JUNK, DENY, DENY, DENY, DENY, DENY, DENY, DENY, DENY, ELSE, ELSE]),
    ("OrgService/CreateInvitation",         [NONE, JUNK, HIDE, DENY, DENY, OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("OrgService/GetInvitation",            [OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK]),
    ("OrgService/ListInvitations",          [NONE, JUNK, HIDE, DENY, OK,   OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("OrgService/ResendInvitation",         [NONE, JUNK, HIDE, DENY, DENY, OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("OrgService/RevokeInvitation",         [NONE, JUNK, HIDE, DENY, DENY, OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("OrgService/CreateOrg",                [NONE, JUNK, DENY, DENY, DENY, DENY, DENY, OK,   DENY, DENY, DENY, DENY]),
    ("OrgService/CreateResource",           [NONE, JUNK, HIDE, DENY, DENY, OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("OrgService/CreateRole",               [NONE, JUNK, HIDE, DENY, DENY, OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("OrgService/DeleteResource",           [NONE, JUNK, HIDE, DENY, DENY, OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("OrgService/DeleteRole",               [NONE, JUNK, HIDE, DENY, DENY, OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("OrgService/GetOrg",                   [NONE, JUNK, HIDE, OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK]),
    ("OrgService/GetRole",                  [NONE, JUNK, HIDE, DENY, OK,   OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("OrgService/ListOrgs",                 [NONE, JUNK, OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK]),
    ("OrgService/UpdateOrg",                [NONE, JUNK, HIDE, DENY, DENY, DENY, OK,   OK,   DENY, OK,   OK,   DENY]),
    ("OrgService/SuspendOrg",               [NONE, JUNK, DENY, DENY, DENY, DENY, DENY, OK,   DENY, DENY, DENY, DENY]),
    ("OrgService/ResumeOrg",                [NONE, JUNK, DENY, DENY, DENY, DENY, DENY, OK,   DENY, DENY, DENY, DENY]),
    ("OrgService/DeleteOrg",                [NONE, JUNK, DENY, DENY, DENY, DENY, DENY, OK,   DENY, DENY, DENY, DENY]),
    ("OrgService/UpdateTokenPolicy",        [NONE, JUNK, HIDE, DENY, DENY, DENY, OK,   OK,   DENY, OK,   OK,   DENY]),
    ("OrgService/UndeleteOrg",              [NONE, JUNK, DENY, DENY, DENY, DENY, DENY, OK,   DENY, DENY, DENY, DENY]),
    ("OrgService/ListResources",            [NONE, JUNK, HIDE, DENY, OK,   OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("OrgService/ListRoles",                [NONE, JUNK, HIDE, DENY, OK,   OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("OrgService/UpdateResource",           [NONE, JUNK, HIDE, DENY, DENY, OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("OrgService/UpdateRole",               [NONE, JUNK, HIDE, DENY, DENY, OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("OrgService/ListMembers",              [NONE, JUNK, HIDE, DENY, OK,   OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("OrgService/RemoveMember",             [NONE, JUNK, HIDE, DENY, DENY, OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("OrgService/ListEvents",               [NONE, JUNK, HIDE, DENY, OK,   OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("OrgService/WatchEvents",              [NONE, JUNK, HIDE, DENY, OK,   OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("TokenService/AcknowledgeRevocations", [NONE, JUNK, OK,   DENY, DENY, OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("TokenService/ListVerifiers",          [NONE, JUNK, HIDE, DENY, DENY, OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("TokenService/WatchRevocations",       [NONE, JUNK, HIDE, DENY, DENY, OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    // Who impersonates makes nothing that outlives it, and may stop a rule.
    ("OrgService/CreateFederationRule",     [NONE, JUNK, HIDE, DENY, DENY, DENY, OK,   OK,   DENY, DENY, OK,   DENY]),
    ("OrgService/CreateIssuer",             [NONE, JUNK, HIDE, DENY, DENY, DENY, OK,   OK,   DENY, DENY, OK,   DENY]),
    ("OrgService/DeleteFederationRule",     [NONE, JUNK, HIDE, DENY, DENY, DENY, OK,   OK,   DENY, OK,   OK,   DENY]),
    ("OrgService/DeleteIssuer",             [NONE, JUNK, HIDE, DENY, DENY, DENY, OK,   OK,   DENY, DENY, OK,   DENY]),
    ("OrgService/GetFederationRule",        [NONE, JUNK, HIDE, DENY, OK,   OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("OrgService/GetIssuer",                [NONE, JUNK, HIDE, DENY, OK,   OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("OrgService/ListFederationRules",      [NONE, JUNK, HIDE, DENY, OK,   OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("OrgService/ListIssuers",              [NONE, JUNK, HIDE, DENY, OK,   OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("OrgService/ListPresentations",        [NONE, JUNK, HIDE, DENY, OK,   OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("OrgService/UpdateFederationRule",     [NONE, JUNK, HIDE, DENY, DENY, DENY, OK,   OK,   DENY, DENY, OK,   DENY]),
    ("OrgService/UpdateIssuer",             [NONE, JUNK, HIDE, DENY, DENY, DENY, OK,   OK,   DENY, DENY, OK,   DENY]),
    ("TokenService/BatchIntrospectTokens",  [NONE, JUNK, OK,   DENY, DENY, OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("TokenService/CancelRotation",         [NONE, JUNK, HIDE, DENY, DENY, OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("TokenService/CreateToken",            [NONE, JUNK, HIDE, DENY, DENY, OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    // The subject stands in the message: a caller beside it needs no right, and must be a valid one.
    ("TokenService/ExchangeToken",          [OK,   JUNK, OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK]),
    ("TokenService/ExplainToken",           [NONE, JUNK, HIDE, DENY, OK,   OK,   OK,   OK,   OK,   OK,   OK,   DENY]),
    ("TokenService/FinishRotation",         [NONE, JUNK, HIDE, DENY, DENY, OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("TokenService/GetJsonWebKeySet",       [OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK]),
    ("TokenService/GetToken",               [NONE, JUNK, HIDE, DENY, OK,   OK,   OK,   OK,   OK,   OK,   OK,   DENY]),
    ("TokenService/ImpersonateAccount",     [NONE, JUNK, HIDE, DENY, DENY, DENY, OK,   OK,   DENY, DENY, OK,   DENY]),
    // To the foreign owner the token is not active, like one that does not exist.
    ("TokenService/IntrospectToken",        [NONE, JUNK, OK,   DENY, DENY, OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("TokenService/ListSigningKeys",        [NONE, JUNK, DENY, DENY, DENY, DENY, DENY, OK,   DENY, DENY, DENY, DENY]),
    ("TokenService/ListTokens",             [NONE, JUNK, HIDE, DENY, OK,   OK,   OK,   OK,   OK,   OK,   OK,   DENY]),
    ("TokenService/Login",                  [OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK]),
    ("TokenService/Logout",                 [NONE, JUNK, DENY, DENY, DENY, DENY, DENY, DENY, DENY, DENY, OK,   OK]),
    ("TokenService/ReassignAccountTokens",  [NONE, JUNK, HIDE, DENY, DENY, OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("TokenService/ReassignToken",          [NONE, JUNK, HIDE, DENY, DENY, OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    // Only the token string is needed: for every caller it is valid, and the answer is empty.
    ("TokenService/ReportLeakedToken",      [OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK,   OK]),
    ("TokenService/RevokeAccountSessions",  [NONE, JUNK, HIDE, DENY, DENY, OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("TokenService/RevokeAccountTokens",    [NONE, JUNK, HIDE, DENY, DENY, OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("TokenService/RevokeSigningKey",       [NONE, JUNK, DENY, DENY, DENY, DENY, DENY, OK,   DENY, DENY, DENY, DENY]),
    ("TokenService/RevokeToken",            [NONE, JUNK, HIDE, DENY, DENY, OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("TokenService/RotateSigningKey",       [NONE, JUNK, DENY, DENY, DENY, DENY, DENY, OK,   DENY, DENY, DENY, DENY]),
    ("TokenService/RotateToken",            [NONE, JUNK, HIDE, DENY, DENY, OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
    ("TokenService/UpdateToken",            [NONE, JUNK, HIDE, DENY, DENY, OK,   OK,   OK,   DENY, OK,   OK,   DENY]),
];

/// The rows by RPC. A map would hide that one is there twice.
pub fn rows() -> BTreeMap<&'static str, [&'static str; 12]> {
    let mut rows = BTreeMap::new();
    let doubled = MATRIX.iter().filter(|(rpc, row)| rows.insert(*rpc, *row).is_some());
    let doubled: Vec<_> = doubled.map(|(rpc, _)| rpc).collect();
    assert!(doubled.is_empty(), "doubled rows: {doubled:?}");
    rows
}

/// What an owner of the org gets from the RPC, by its name without the package.
pub fn for_owner(short: &str) -> &'static str {
    let row = rows().remove(short).unwrap_or_else(|| panic!("{short} has no row"));
    row[KINDS.iter().position(|kind| *kind == "owner").unwrap()]
}

/// What the requests are about.
pub struct Things<'a> {
    pub server: &'a TestServer,
    pub org: &'a Org,
    pub target: pb::Account,
    pub target_token: String,
    /// How many tokens were made for the target.
    made: AtomicU32,
}

impl<'a> Things<'a> {
    pub fn new(server: &'a TestServer, org: &'a Org, target: pb::Account, target_token: String) -> Self {
        Self { server, org, target, target_token, made: AtomicU32::new(0) }
    }
}

impl Things<'_> {
    /// A good request, new for each call where it creates something.
    pub async fn request(&self, rpc: &str, unique: &str) -> Vec<u8> {
        let (org_id, account_id) = (self.org.id.clone(), self.target.id.clone());
        match rpc {
            "AccountService/ActivateAccount" => {
                let account_id = self.new_account(unique, true).await;
                pb::ActivateAccountRequest { org_id, account_id, ..Default::default() }.encode_to_vec()
            }
            "AccountService/ConvertAccount" => {
                let account_id = self.new_account(unique, false).await;
                let email = format!("converted-{unique}@example.org");
                pb::ConvertAccountRequest {
                    org_id,
                    account_id,
                    kind: pb::AccountKind::User.into(),
                    reason: "a person after all".into(),
                    identity: Some(pb::convert_account_request::Identity::Email(email)),
                }
                .encode_to_vec()
            }
            "AccountService/ChangePassword" => {
                pb::ChangePasswordRequest { current_password: PASSWORD.into(), new_password: PASSWORD.into() }
                    .encode_to_vec()
            }
            "AccountService/SetPassword" => {
                pb::SetPasswordRequest { org_id, account_id, password: PASSWORD.into() }.encode_to_vec()
            }
            "AccountService/CloneAccount" => pb::CloneAccountRequest {
                org_id,
                account_id,
                name: format!("clone-{unique}"),
                ..Default::default()
            }
            .encode_to_vec(),
            "AccountService/CreateServiceAccount" => {
                pb::CreateServiceAccountRequest { org_id, name: unique.into(), ..Default::default() }
                    .encode_to_vec()
            }
            "AccountService/CreateUser" => {
                let email = format!("{unique}@example.org");
                pb::CreateUserRequest { org_id, email, ..Default::default() }.encode_to_vec()
            }
            "AccountService/DeactivateAccount" => {
                let account_id = self.new_account(unique, false).await;
                pb::DeactivateAccountRequest { org_id, account_id, ..Default::default() }.encode_to_vec()
            }
            "AccountService/DeleteAccount" => {
                let account_id = self.new_account(unique, false).await;
                pb::DeleteAccountRequest { org_id, account_id, ..Default::default() }.encode_to_vec()
            }
            "AccountService/CheckAccess" => {
                let checks = vec![pb::AccessCheck { permission: "x.y".into(), resource: "*".into() }];
                pb::CheckAccessRequest { org_id, account_id, checks }.encode_to_vec()
            }
            "AccountService/GetAccount" => pb::GetAccountRequest { org_id, account_id }.encode_to_vec(),
            "AccountService/GetCaller" => pb::GetCallerRequest {}.encode_to_vec(),
            "AccountService/GrantAccess" => {
                let grants = vec![grant("auditor", "*")];
                // Granting what is held already would change nothing; that it is not held does not matter.
                let taken = pb::RevokeAccessRequest {
                    org_id: org_id.clone(),
                    account_id: account_id.clone(),
                    grants,
                };
                let _ = self.server.operator.accounts().revoke_access(taken.clone()).await;
                let grants = taken.grants;
                pb::GrantAccessRequest { org_id, account_id, grants }.encode_to_vec()
            }
            "AccountService/ListAccounts" => {
                pb::ListAccountsRequest { org_id, ..Default::default() }.encode_to_vec()
            }
            "AccountService/ListGrantableAccess" => {
                pb::ListGrantableAccessRequest { org_id, account_id, ..Default::default() }.encode_to_vec()
            }
            "AccountService/ListGrants" => {
                let filter = Some(pb::list_grants_request::Filter::AccountId(account_id));
                pb::ListGrantsRequest { org_id, filter, ..Default::default() }.encode_to_vec()
            }
            "AccountService/RequestPasswordReset" => {
                pb::RequestPasswordResetRequest { email: format!("{unique}@example.org") }.encode_to_vec()
            }
            "AccountService/ResetPassword" => {
                let email = format!("reset-{unique}-{}@example.org", self.org.slug);
                let request = pb::CreateUserRequest { org_id, email: email.clone(), ..Default::default() };
                self.server.operator.accounts().create_user(request).await.unwrap();
                let code = self.server.code_for(&email).await.unwrap();
                pb::ResetPasswordRequest { code, new_password: "correct horse battery".into() }
                    .encode_to_vec()
            }
            "AccountService/RevokeAccess" => {
                let given = vec![grant("member", "*")];
                let give = pb::GrantAccessRequest {
                    org_id: org_id.clone(),
                    account_id: account_id.clone(),
                    grants: given.clone(),
                };
                self.server.operator.accounts().grant_access(give).await.unwrap();
                pb::RevokeAccessRequest { org_id, account_id, grants: given }.encode_to_vec()
            }
            "AccountService/ResolveLink" => {
                let slug = unique.to_owned();
                let links = [("dropzone".to_owned(), pb::AccountLink { enabled: true, slug: slug.clone() })];
                let settings = pb::AccountSettings { links: links.into(), ..Default::default() };
                let account = pb::Account { id: account_id, settings: Some(settings), ..Default::default() };
                let set = pb::UpdateAccountRequest {
                    org_id: org_id.clone(),
                    account: Some(account),
                    update_mask: None,
                };
                self.server.operator.accounts().update_account(set).await.unwrap();
                pb::ResolveLinkRequest { org_id, kind: "dropzone".into(), slug }.encode_to_vec()
            }
            "AccountService/UpdateAccount" => {
                let description = Some(unique.to_owned());
                let account = pb::Account { id: account_id, description, ..Default::default() };
                pb::UpdateAccountRequest { org_id, account: Some(account), update_mask: None }.encode_to_vec()
            }
            "AccountService/UndeleteAccount" => {
                let account_id = self.new_account(unique, false).await;
                let delete = pb::DeleteAccountRequest {
                    org_id: org_id.clone(),
                    account_id: account_id.clone(),
                    ..Default::default()
                };
                self.server.operator.accounts().delete_account(delete).await.unwrap();
                pb::UndeleteAccountRequest { org_id, account_id }.encode_to_vec()
            }
            "OrgService/AcceptInvitation" => {
                let (_, email) = self.new_invitation().await;
                pb::AcceptInvitationRequest {
                    code: self.server.code_for(&email).await.unwrap(),
                    given_name: "Ann".into(),
                    family_name: "Ruiz".into(),
                    password: PASSWORD.into(),
                }
                .encode_to_vec()
            }
            "OrgService/CreateInvitation" => {
                let email = format!("invited-{unique}@example.org");
                pb::CreateInvitationRequest { org_id, email, ..Default::default() }.encode_to_vec()
            }
            "OrgService/GetInvitation" => {
                let (_, email) = self.new_invitation().await;
                pb::GetInvitationRequest { code: self.server.code_for(&email).await.unwrap() }.encode_to_vec()
            }
            "OrgService/ListInvitations" => {
                pb::ListInvitationsRequest { org_id, ..Default::default() }.encode_to_vec()
            }
            "OrgService/ResendInvitation" => {
                let (invitation_id, _) = self.new_invitation().await;
                pb::ResendInvitationRequest { org_id, invitation_id }.encode_to_vec()
            }
            "OrgService/RevokeInvitation" => {
                let (invitation_id, _) = self.new_invitation().await;
                pb::RevokeInvitationRequest { org_id, invitation_id }.encode_to_vec()
            }
            "OrgService/CreateOrg" => crate::harness::create_org(unique).encode_to_vec(),
            "OrgService/CreateResource" => {
                pb::CreateResourceRequest { org_id, path: unique.into(), ..Default::default() }
                    .encode_to_vec()
            }
            "OrgService/CreateRole" => {
                pb::CreateRoleRequest { org_id, role: Some(role(unique)), ..Default::default() }
                    .encode_to_vec()
            }
            "OrgService/DeleteResource" => {
                let path = self.new_resource(&format!("d-{unique}")).await;
                pb::DeleteResourceRequest { org_id, path, ..Default::default() }.encode_to_vec()
            }
            "OrgService/DeleteRole" => {
                let role_id = self.new_role(&format!("d-{unique}")).await;
                pb::DeleteRoleRequest { org_id, role_id, ..Default::default() }.encode_to_vec()
            }
            "OrgService/GetOrg" => pb::GetOrgRequest { org_id }.encode_to_vec(),
            "OrgService/GetRole" => {
                let role_id = self.new_role(&format!("g-{unique}")).await;
                pb::GetRoleRequest { org_id, role_id }.encode_to_vec()
            }
            "OrgService/ListOrgs" => pb::ListOrgsRequest::default().encode_to_vec(),
            "OrgService/ListResources" => {
                pb::ListResourcesRequest { org_id, ..Default::default() }.encode_to_vec()
            }
            "OrgService/ListRoles" => pb::ListRolesRequest { org_id, ..Default::default() }.encode_to_vec(),
            "OrgService/UpdateResource" => {
                let path = self.new_resource(&format!("u-{unique}")).await;
                let resource = pb::Resource { path, display_name: Some("New".into()), ..Default::default() };
                pb::UpdateResourceRequest { org_id, resource: Some(resource), update_mask: None }
                    .encode_to_vec()
            }
            "OrgService/UpdateRole" => {
                let id = self.new_role(&format!("u-{unique}")).await;
                let permissions = vec!["tokens.read".into()];
                let role = Some(pb::Role { id, permissions, ..Default::default() });
                pb::UpdateRoleRequest { org_id, role, update_mask: None }.encode_to_vec()
            }
            "OrgService/UpdateOrg" => {
                let org = pb::Org { id: org_id, display_name: unique.into(), ..Default::default() };
                pb::UpdateOrgRequest { org: Some(org), update_mask: None }.encode_to_vec()
            }
            "OrgService/UpdateTokenPolicy" => {
                // Another one each time, which blocks nothing and makes no JWT stale.
                static COUNT: AtomicU32 = AtomicU32::new(0);
                let seconds = 86_400 + i64::from(COUNT.fetch_add(1, Ordering::Relaxed));
                let life = prost_types::Duration { seconds, nanos: 0 };
                let policy = pb::TokenPolicy { default_lifetime: Some(life), ..Default::default() };
                pb::UpdateTokenPolicyRequest { org_id, policy: Some(policy), ..Default::default() }
                    .encode_to_vec()
            }
            // An org of its own each: a suspended org refuses everyone.
            "OrgService/SuspendOrg" => {
                let org_id = self.server.org().await.id;
                pb::SuspendOrgRequest { org_id, reason: "unpaid".into() }.encode_to_vec()
            }
            "OrgService/ResumeOrg" => {
                let org_id = self.server.org().await.id;
                let suspend = pb::SuspendOrgRequest { org_id: org_id.clone(), ..Default::default() };
                self.server.operator.orgs().suspend_org(suspend).await.unwrap();
                pb::ResumeOrgRequest { org_id, reason: "paid".into() }.encode_to_vec()
            }
            "OrgService/DeleteOrg" => {
                let org_id = self.server.org().await.id;
                pb::DeleteOrgRequest { org_id, reason: "left".into(), ..Default::default() }.encode_to_vec()
            }
            "OrgService/UndeleteOrg" => {
                let org_id = self.server.org().await.id;
                let delete = pb::DeleteOrgRequest { org_id: org_id.clone(), ..Default::default() };
                self.server.operator.orgs().delete_org(delete).await.unwrap();
                pb::UndeleteOrgRequest { org_id, reason: "came back".into() }.encode_to_vec()
            }
            "OrgService/ListMembers" => {
                pb::ListMembersRequest { org_id, ..Default::default() }.encode_to_vec()
            }
            "OrgService/RemoveMember" => {
                let account_id = self.server.guest(&org_id, &[("x.y", "*")]).await.id;
                pb::RemoveMemberRequest { org_id, account_id }.encode_to_vec()
            }
            "OrgService/CreateIssuer" => {
                federation::allow_federation(self.server, &org_id).await;
                let issuer = Some(federation::issuer_of(&self.fresh(unique)));
                pb::CreateIssuerRequest { org_id, issuer, ..Default::default() }.encode_to_vec()
            }
            "OrgService/GetIssuer" => {
                let issuer_id = self.issuer().await;
                pb::GetIssuerRequest { org_id, issuer_id }.encode_to_vec()
            }
            "OrgService/ListIssuers" => {
                self.issuer().await;
                pb::ListIssuersRequest { org_id, ..Default::default() }.encode_to_vec()
            }
            "OrgService/UpdateIssuer" => {
                let display_name = Some(self.fresh(unique));
                let issuer = pb::Issuer { id: self.issuer().await, display_name, ..Default::default() };
                pb::UpdateIssuerRequest { org_id, issuer: Some(issuer), ..Default::default() }.encode_to_vec()
            }
            "OrgService/DeleteIssuer" => {
                let issuer = federation::issuer(self.server, &org_id, &self.fresh(unique)).await;
                pb::DeleteIssuerRequest { org_id, issuer_id: issuer.id, ..Default::default() }.encode_to_vec()
            }
            "OrgService/CreateFederationRule" => {
                let rule = Some(federation::rule_for(&self.issuer().await, &account_id));
                pb::CreateFederationRuleRequest { org_id, rule, ..Default::default() }.encode_to_vec()
            }
            "OrgService/GetFederationRule" => {
                let rule_id = self.rule().await;
                pb::GetFederationRuleRequest { org_id, rule_id }.encode_to_vec()
            }
            "OrgService/ListFederationRules" => {
                self.rule().await;
                pb::ListFederationRulesRequest { org_id, ..Default::default() }.encode_to_vec()
            }
            "OrgService/UpdateFederationRule" => {
                let display_name = Some(self.fresh(unique));
                let rule = pb::FederationRule { id: self.rule().await, display_name, ..Default::default() };
                pb::UpdateFederationRuleRequest { org_id, rule: Some(rule), ..Default::default() }
                    .encode_to_vec()
            }
            "OrgService/DeleteFederationRule" => {
                let rule = federation::rule_for(&self.issuer().await, &account_id);
                let rule_id = federation::rule(self.server, &org_id, rule).await.id;
                pb::DeleteFederationRuleRequest { org_id, rule_id, ..Default::default() }.encode_to_vec()
            }
            "OrgService/ListPresentations" => {
                let rule_id = self.rule().await;
                pb::ListPresentationsRequest { org_id, rule_id, ..Default::default() }.encode_to_vec()
            }
            "OrgService/ListEvents" => pb::ListEventsRequest { org_id, ..Default::default() }.encode_to_vec(),
            "OrgService/WatchEvents" => {
                pb::WatchEventsRequest { org_id, ..Default::default() }.encode_to_vec()
            }
            "TokenService/AcknowledgeRevocations" => {
                let verifier_name = self.org.slug.clone();
                pb::AcknowledgeRevocationsRequest { verifier_name, ..Default::default() }.encode_to_vec()
            }
            "TokenService/ListVerifiers" => {
                pb::ListVerifiersRequest { org_id, ..Default::default() }.encode_to_vec()
            }
            "TokenService/WatchRevocations" => {
                pb::WatchRevocationsRequest { org_ids: vec![org_id], ..Default::default() }.encode_to_vec()
            }
            "TokenService/Login" => {
                let username = self.server.technical(&org_id, &self.fresh(unique), &[]).await.username;
                pb::LoginRequest { username, password: PASSWORD.into(), org_id: String::new() }
                    .encode_to_vec()
            }
            "TokenService/Logout" => pb::LogoutRequest {}.encode_to_vec(),
            "TokenService/RevokeAccountSessions" => {
                let account = self.server.technical(&org_id, &self.fresh(unique), &[]).await;
                self.server.session(&account.username).await;
                pb::RevokeAccountSessionsRequest { org_id, account_id: account.id }.encode_to_vec()
            }
            "TokenService/CreateToken" => token_for(&org_id, &account_id).encode_to_vec(),
            "TokenService/ExchangeToken" => pb::ExchangeTokenRequest {
                subject_token: Some(self.target_token.clone()),
                ..Default::default()
            }
            .encode_to_vec(),
            "TokenService/ExplainToken" => {
                let target = Some(pb::explain_token_request::Target::TokenId(self.new_token().await));
                pb::ExplainTokenRequest { org_id, target, ..Default::default() }.encode_to_vec()
            }
            "TokenService/GetJsonWebKeySet" => pb::GetJsonWebKeySetRequest {}.encode_to_vec(),
            "TokenService/GetToken" => {
                pb::GetTokenRequest { org_id, token_id: self.new_token().await }.encode_to_vec()
            }
            "TokenService/IntrospectToken" => {
                pb::IntrospectTokenRequest { token_text: self.target_token.clone(), ..Default::default() }
                    .encode_to_vec()
            }
            "TokenService/ImpersonateAccount" => pb::ImpersonateAccountRequest {
                org_id,
                account_id,
                reason: unique.into(),
                ..Default::default()
            }
            .encode_to_vec(),
            "TokenService/ListTokens" => {
                pb::ListTokensRequest { org_id, ..Default::default() }.encode_to_vec()
            }
            "TokenService/RotateToken" => {
                rotate_token(&org_id, &self.new_token().await, None).encode_to_vec()
            }
            "TokenService/FinishRotation" => {
                pb::FinishRotationRequest { org_id, token_id: self.rotating_token().await }.encode_to_vec()
            }
            "TokenService/CancelRotation" => {
                pb::CancelRotationRequest { org_id, token_id: self.rotating_token().await }.encode_to_vec()
            }
            "TokenService/ListSigningKeys" => pb::ListSigningKeysRequest::default().encode_to_vec(),
            "TokenService/RevokeSigningKey" => {
                let rotate = pb::RotateSigningKeyRequest::default();
                let next = self.server.operator.tokens().rotate_signing_key(rotate).await.unwrap();
                let kid = next.into_inner().signing_key.unwrap().kid;
                pb::RevokeSigningKeyRequest { kid, ..Default::default() }.encode_to_vec()
            }
            "TokenService/RotateSigningKey" => pb::RotateSigningKeyRequest::default().encode_to_vec(),
            "TokenService/UpdateToken" => {
                let token = pb::Token {
                    id: self.new_token().await,
                    display_name: unique.into(),
                    ..Default::default()
                };
                pb::UpdateTokenRequest { org_id, token: Some(token), update_mask: None }.encode_to_vec()
            }
            "TokenService/ReassignToken" => {
                let token_id = self.new_token().await;
                let account_id = self.new_account(unique, false).await;
                pb::ReassignTokenRequest {
                    org_id,
                    token_id,
                    account_id,
                    allow_narrowing: true,
                    ..Default::default()
                }
                .encode_to_vec()
            }
            "TokenService/ReassignAccountTokens" => {
                let from_account_id = self.account_with_token(unique).await;
                let account_id = self.new_account(unique, false).await;
                pb::ReassignAccountTokensRequest {
                    org_id,
                    from_account_id,
                    account_id,
                    allow_narrowing: true,
                    ..Default::default()
                }
                .encode_to_vec()
            }
            "TokenService/ReportLeakedToken" => {
                let token_texts = vec![self.new_token_text().await];
                pb::ReportLeakedTokenRequest { token_texts }.encode_to_vec()
            }
            "TokenService/RevokeAccountTokens" => {
                let account_id = self.account_with_token(unique).await;
                pb::RevokeAccountTokensRequest { org_id, account_id, ..Default::default() }.encode_to_vec()
            }
            "TokenService/BatchIntrospectTokens" => {
                let one = pb::IntrospectTokenRequest {
                    token_text: self.target_token.clone(),
                    ..Default::default()
                };
                pb::BatchIntrospectTokensRequest { requests: vec![one.clone(), one] }.encode_to_vec()
            }
            "TokenService/RevokeToken" => by_id(&org_id, &self.new_token().await).encode_to_vec(),
            other => panic!("{other} has no request here"),
        }
    }

    /// An account of its own for a call that would deactivate or delete the target.
    async fn new_account(&self, unique: &str, deactivated: bool) -> String {
        let name = self.fresh(unique);
        let org_id = self.org.id.clone();
        let request = pb::CreateServiceAccountRequest { org_id, name, deactivated, ..Default::default() };
        let made = self.server.operator.accounts().create_service_account(request).await.unwrap();
        made.into_inner().account.unwrap().id
    }

    /// A name that no account has yet.
    fn fresh(&self, unique: &str) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        format!("{unique}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
    }

    /// The issuer of the org, made with the first call.
    pub async fn issuer(&self) -> String {
        let request =
            pb::ListIssuersRequest { org_id: self.org.id.clone(), page_size: 200, ..Default::default() };
        let issuers = self.server.operator.orgs().list_issuers(request).await.unwrap().into_inner().issuers;
        match issuers.into_iter().find(|issuer| issuer.issuer.ends_with("/kept")) {
            Some(issuer) => issuer.id,
            None => federation::issuer(self.server, &self.org.id, "kept").await.id,
        }
    }

    /// The federation rule of the org, made with the first call.
    pub async fn rule(&self) -> String {
        let request = pb::ListFederationRulesRequest {
            org_id: self.org.id.clone(),
            page_size: 200,
            ..Default::default()
        };
        let rules =
            self.server.operator.orgs().list_federation_rules(request).await.unwrap().into_inner().rules;
        if let Some(rule) = rules.into_iter().find(|rule| rule.audiences == ["kept"]) {
            return rule.id;
        }
        let audiences = vec!["kept".to_owned()];
        let rule = federation::rule_for(&self.issuer().await, &self.target.id);
        federation::rule(self.server, &self.org.id, pb::FederationRule { audiences, ..rule }).await.id
    }

    /// An invitation of its own, and its address. As many as are wanted.
    async fn new_invitation(&self) -> (String, String) {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let sent = "update invitations set sent_times = '{}'";
        sqlx::query(sent).execute(&self.server.state.db).await.unwrap();
        let email = format!("invited@{}.example", COUNT.fetch_add(1, Ordering::Relaxed));
        let made = invite(&self.server.operator, &self.org.id, &email, &[]).await.unwrap();
        (made.id, email)
    }

    /// An account of its own with an active token.
    async fn account_with_token(&self, unique: &str) -> String {
        let account_id = self.new_account(unique, false).await;
        let request = token_for(&self.org.id, &account_id);
        self.server.operator.tokens().create_token(request).await.unwrap();
        account_id
    }

    async fn new_resource(&self, path: &str) -> String {
        self.server.resources(&self.org.id, &[path]).await;
        path.to_owned()
    }

    async fn new_role(&self, name: &str) -> String {
        let role = Some(role(name));
        let request = pb::CreateRoleRequest { org_id: self.org.id.clone(), role, ..Default::default() };
        self.server.operator.orgs().create_role(request).await.unwrap().into_inner().role.unwrap().id
    }

    async fn rotating_token(&self) -> String {
        let id = self.new_token().await;
        self.server.operator.tokens().rotate_token(rotate_token(&self.org.id, &id, None)).await.unwrap();
        id
    }

    async fn new_token(&self) -> String {
        TokenString::parse(&self.new_token_text().await).unwrap().id().to_string()
    }

    async fn new_token_text(&self) -> String {
        let request = token_for(&self.org.id, &self.target.id);
        let made = self.server.operator.tokens().create_token(request).await.unwrap().into_inner();
        watch(&made.secret);
        let id = made.token.unwrap().id;
        // The active tokens of one account are bounded: this is asked from time to time.
        if !self.made.fetch_add(1, Ordering::Relaxed).is_multiple_of(10) {
            return made.secret;
        }
        let live = pb::ListTokensRequest {
            org_id: self.org.id.clone(),
            account_id: self.target.id.clone(),
            page_size: 200,
            ..Default::default()
        };
        let live = self.server.operator.tokens().list_tokens(live).await.unwrap().into_inner().tokens;
        let active: Vec<_> = live.iter().filter(|token| token.state() == pb::TokenState::Active).collect();
        if active.len() > 50 {
            for token in active.iter().filter(|token| token.id != id && token.display_name != "kept").take(40)
            {
                self.server.operator.tokens().revoke_token(by_id(&self.org.id, &token.id)).await.unwrap();
            }
        }
        made.secret
    }
}

/// A role that a manager can create.
fn role(name: &str) -> pb::Role {
    pb::Role { name: name.into(), permissions: vec!["accounts.read".into()], ..Default::default() }
}

pub async fn callers(server: &TestServer, org: &Org) -> Vec<Client> {
    let foreign = server.org().await;
    let mut callers = vec![server.anonymous(), server.client("rubbish"), foreign.owner];
    for role in ["member", "auditor", "manager"] {
        callers.push(server.account(&org.id, role, &[(role, "*")]).await.1);
    }
    let request = pb::CreateTokenRequest {
        scopes: vec!["tokens.read".into()],
        may_manage_tokens: true,
        ..token_for(&org.id, &org.owner_id)
    };
    let narrow = server.operator.tokens().create_token(request).await.unwrap().into_inner().secret;
    let (second, _) = server.account(&org.id, "second", &[("owner", "*")]).await;
    let impersonated = org.owner.impersonating(&second.id).await;
    callers.extend([org.owner.clone(), server.operator.clone(), server.client(narrow), impersonated]);
    for (username, right) in SIGNED_IN {
        server.person(&org.id, username, &[(right, "*")]).await;
        callers.push(server.session(username).await);
    }
    callers
}

/// Those of the last columns, and what they hold.
const SIGNED_IN: [(&str, &str); 2] = [("owner@example.org", "owner"), ("visitor@example.org", "member")];

/// What a call with an encoded message comes to over JSON: the reason, and an answer that is one.
async fn outcome_over_json(client: &Client, rpc: &str, message: &[u8]) -> String {
    if is_stream(rpc) {
        assert!(json::method(rpc).is_none(), "{rpc}");
        return call_json(client, rpc, "{}").await.reason().expect("a refusal");
    }
    let method = json::method(rpc).unwrap_or_else(|| panic!("{rpc} has no descriptors"));
    let request = json::to_json(&method.input, message).unwrap();
    let answer = call_json(client, rpc, request).await;
    answer.reason().unwrap_or_else(|| {
        json::to_protobuf(&method.output, answer.text.as_bytes())
            .unwrap_or_else(|error| panic!("{rpc}: {error}"));
        OK.to_owned()
    })
}

pub fn outcome(result: Result<Vec<u8>, Status>) -> String {
    match result {
        Ok(_) => OK.to_owned(),
        Err(status) => reason(&status),
    }
}

/// By which door a call comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Grpc,
    Json,
}

#[tokio::test]
async fn every_rpc_answers_every_kind_of_caller_as_the_matrix_says() {
    follows_the_matrix(Door::Grpc).await;
}

#[tokio::test]
async fn every_rpc_answers_every_kind_of_caller_alike_over_json() {
    follows_the_matrix(Door::Json).await;
}

async fn follows_the_matrix(door: Door) {
    // No JWT expires, however long this takes.
    let server = TestServer::at_standing_time(LIMITS).await;
    let org = server.org().await;
    let (target, _) = server.account(&org.id, "target", &[]).await;
    let request = pb::CreateTokenRequest { display_name: "kept".into(), ..token_for(&org.id, &target.id) };
    let target_token = server.operator.tokens().create_token(request).await.unwrap().into_inner().secret;
    let things = Things::new(&server, &org, target, target_token);

    let mut by_token = callers(&server, &org).await;
    let mut by_jwt = Vec::new();
    for (kind, caller) in KINDS.iter().zip(&by_token) {
        by_jwt.push(match *kind {
            "none" | "imperson" => caller.clone(),
            "garbage" => server.client("aaaa.bbbb.cccc"),
            _ => caller.with_jwt().await,
        });
    }

    let rows = rows();
    let mut wrong = Vec::new();
    for rpc in rpcs() {
        let short = rpc.strip_prefix("/countersign.v1.").unwrap();
        let Some(row) = rows.get(short) else {
            wrong.push(format!("{rpc} has no row"));
            continue;
        };
        for (form, callers) in [("token", &mut by_token), ("jwt", &mut by_jwt)] {
            // What the RPC before has revoked.
            for ((username, _), caller) in SIGNED_IN.iter().rev().zip(callers.iter_mut().rev()) {
                let session = server.session(username).await;
                *caller = if form == "jwt" { session.with_jwt().await } else { session };
            }
            // A refused call changes nothing: what was made for it serves the next one.
            let mut refused = None;
            for (i, kind) in KINDS.iter().enumerate() {
                let unique = format!("{form}-{kind}-{}", short.len());
                let request = match refused.take() {
                    Some(request) => request,
                    None => things.request(short, &unique).await,
                };
                let got = match door {
                    Door::Grpc => outcome(call_raw(&callers[i], &rpc, request.clone()).await),
                    Door::Json => outcome_over_json(&callers[i], &rpc, &request).await,
                };
                let expected = match row[i] {
                    _ if door == Door::Json && is_stream(&rpc) => "METHOD_UNKNOWN",
                    JUNK if form == "jwt" => "ACCESS_TOKEN_INVALID",
                    other => other,
                };
                if got != expected {
                    wrong.push(format!("{rpc} by {kind} with a {form}: {got}, not {expected}"));
                }
                if got != OK {
                    refused = Some(request);
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(rows.len(), rpcs().len(), "a row of an RPC that is not there");
}

#[tokio::test]
async fn what_the_table_does_not_know_is_denied() {
    for rpc in rpcs() {
        assert!(row(&rpc).is_some(), "{rpc} has no row in the access table");
    }
    let open: Vec<_> = rpcs().into_iter().filter(|rpc| matches!(row(rpc), Some((Access::Open, _)))).collect();
    assert_eq!(
        open,
        [
            "/countersign.v1.AccountService/RequestPasswordReset",
            "/countersign.v1.AccountService/ResetPassword",
            "/countersign.v1.OrgService/GetInvitation",
            "/countersign.v1.OrgService/AcceptInvitation",
            "/countersign.v1.TokenService/Login",
            "/countersign.v1.TokenService/RevokeToken",
            "/countersign.v1.TokenService/ExchangeToken",
            "/countersign.v1.TokenService/ReportLeakedToken",
            "/countersign.v1.TokenService/GetJsonWebKeySet"
        ]
    );
    let server = TestServer::start().await;
    for path in [
        "/countersign.v1.TokenService/NoSuchMethod",
        "/countersign.v1.NoService/Get",
        "/x/y",
        "/grpc.health.v1.Health/Other",
    ] {
        let status = call_raw(&server.operator, path, Vec::new()).await.unwrap_err();
        assert_eq!(
            (reason(&status).as_str(), status.code()),
            ("METHOD_UNKNOWN", tonic::Code::Unimplemented),
            "{path}"
        );
    }
}

#[tokio::test]
async fn self_is_what_needs_no_permission() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (account, member) = server.account(&org.id, "bot", &[("invoices.read", "*")]).await;
    let me = member.caller().await.unwrap();
    assert_eq!(me.account.as_ref().unwrap().id, account.id);
    assert_eq!(me.permissions, ["invoices.read"]);
    let get = pb::GetAccountRequest { account_id: account.id.clone(), ..Default::default() };
    assert_eq!(member.accounts().get_account(get).await.unwrap().into_inner().account.unwrap(), account);
    let filter = Some(pb::list_grants_request::Filter::AccountId(account.id.clone()));
    let list = pb::ListGrantsRequest { filter, ..Default::default() };
    assert_eq!(member.accounts().list_grants(list).await.unwrap().into_inner().grants.len(), 1);
    let list = pb::ListTokensRequest { account_id: account.id.clone(), ..Default::default() };
    let tokens = member.tokens().list_tokens(list).await.unwrap().into_inner().tokens;
    assert_eq!(tokens.len(), 1);
    assert_eq!(tokens[0].id, me.credential_id);
    let get = pb::GetTokenRequest { token_id: me.credential_id, ..Default::default() };
    assert_eq!(member.tokens().get_token(get).await.unwrap().into_inner().token.unwrap(), tokens[0]);
    // One's own name is not that of the account with that id in another org.
    let other = server.org().await;
    let get = pb::GetAccountRequest { org_id: other.id, account_id: account.id };
    crate::harness::refused(member.accounts().get_account(get).await, tonic::Code::NotFound, HIDE);
}
