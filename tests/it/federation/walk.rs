//! The JWT of a rule tries every RPC that changes something: what it makes are things, and no credentials that
//! outlive it. An RPC that is not in the table fails, and so does one that leaves a credential behind.

use std::collections::BTreeMap;

use countersign::config::{FederationSettings, ServerLimits};
use countersign::domain::access::work::Work;
use countersign::domain::federation::ceiling::{Ceiling, CeilingEntry};
use countersign::domain::values::permissions::Permission;
use countersign::grpc::layers::access::row;
use countersign::grpc::pb;
use prost::Message as _;
use serde_json::json;

use super::exchange;
use crate::contract::access_matrix::{Things, outcome};
use crate::contract::proto::rpcs;
use crate::harness::federation::{allow_federation, issuer_of, rule_for};
use crate::harness::{Client, LIMITS, Signer, TestServer, by_id, call_raw, grant};

/// Whose workload calls: an owner of the org, one to whom each of Countersign's permissions was granted by name,
/// and an operator.
const KINDS: [&str; 3] = ["owner", "by name", "operator"];

const OK: &str = "OK";
const DENY: &str = "PERMISSION_MISSING";
const FAIL: &str = "LOGIN_FAILED";

/// What each gets from an RPC that changes something, and is sent a good request.
#[rustfmt::skip]
const TABLE: &[(&str, [&str; 3])] = &[
    // RPC                                   owner by name operator
    ("AccountService/ActivateAccount",       [OK,   OK,   OK]),
    // It makes no password that was not there, and no mailbox a person's.
    ("AccountService/ChangePassword",        [FAIL, FAIL, FAIL]),
    ("AccountService/CloneAccount",          [OK,   OK,   OK]),
    ("AccountService/ConvertAccount",        [DENY, DENY, DENY]),
    ("AccountService/CreateServiceAccount",  [OK,   OK,   OK]),
    ("AccountService/CreateUser",            [DENY, DENY, DENY]),
    ("AccountService/DeactivateAccount",     [OK,   OK,   OK]),
    ("AccountService/DeleteAccount",         [OK,   OK,   OK]),
    ("AccountService/GrantAccess",           [OK,   OK,   OK]),
    // What has no caller asks for none: it proves something else.
    ("AccountService/RequestPasswordReset",  [OK,   OK,   OK]),
    ("AccountService/ResetPassword",         [OK,   OK,   OK]),
    ("AccountService/RevokeAccess",          [OK,   OK,   OK]),
    ("AccountService/SetPassword",           [DENY, DENY, DENY]),
    ("AccountService/UndeleteAccount",       [OK,   OK,   OK]),
    ("AccountService/UpdateAccount",         [OK,   OK,   OK]),
    ("OrgService/AcceptInvitation",          [DENY, DENY, DENY]),
    ("OrgService/CreateFederationRule",      [DENY, DENY, DENY]),
    ("OrgService/CreateInvitation",          [DENY, DENY, DENY]),
    ("OrgService/CreateIssuer",              [DENY, DENY, DENY]),
    // Its owner is a service account, which has no credential yet.
    ("OrgService/CreateOrg",                 [DENY, DENY, OK]),
    ("OrgService/CreateResource",            [OK,   OK,   OK]),
    ("OrgService/CreateRole",                [OK,   OK,   OK]),
    ("OrgService/DeleteFederationRule",      [OK,   OK,   OK]),
    ("OrgService/DeleteIssuer",              [DENY, DENY, DENY]),
    ("OrgService/DeleteOrg",                 [DENY, DENY, OK]),
    ("OrgService/DeleteResource",            [OK,   OK,   OK]),
    ("OrgService/DeleteRole",                [OK,   OK,   OK]),
    ("OrgService/RemoveMember",              [OK,   OK,   OK]),
    ("OrgService/ResendInvitation",          [DENY, DENY, DENY]),
    ("OrgService/ResumeOrg",                 [DENY, DENY, OK]),
    ("OrgService/RevokeInvitation",          [OK,   OK,   OK]),
    ("OrgService/SuspendOrg",                [DENY, DENY, OK]),
    ("OrgService/UndeleteOrg",               [DENY, DENY, OK]),
    ("OrgService/UpdateFederationRule",      [DENY, DENY, DENY]),
    ("OrgService/UpdateIssuer",              [DENY, DENY, DENY]),
    ("OrgService/UpdateOrg",                 [OK,   OK,   OK]),
    ("OrgService/UpdateResource",            [OK,   OK,   OK]),
    ("OrgService/UpdateRole",                [OK,   OK,   OK]),
    ("OrgService/UpdateTokenPolicy",         [OK,   OK,   OK]),
    // What is part of a rotation is managing tokens, too.
    ("TokenService/CancelRotation",          [DENY, DENY, DENY]),
    ("TokenService/CreateToken",             [DENY, DENY, DENY]),
    ("TokenService/FinishRotation",          [DENY, DENY, DENY]),
    ("TokenService/ImpersonateAccount",      [DENY, DENY, DENY]),
    ("TokenService/Login",                   [OK,   OK,   OK]),
    ("TokenService/Logout",                  [DENY, DENY, DENY]),
    ("TokenService/ReassignAccountTokens",   [DENY, DENY, DENY]),
    ("TokenService/ReassignToken",           [DENY, DENY, DENY]),
    ("TokenService/ReportLeakedToken",       [OK,   OK,   OK]),
    ("TokenService/RevokeAccountSessions",   [OK,   OK,   OK]),
    ("TokenService/RevokeAccountTokens",     [OK,   OK,   OK]),
    ("TokenService/RevokeSigningKey",        [DENY, DENY, OK]),
    ("TokenService/RevokeToken",             [OK,   OK,   OK]),
    ("TokenService/RotateSigningKey",        [DENY, DENY, OK]),
    ("TokenService/RotateToken",             [DENY, DENY, DENY]),
    ("TokenService/UpdateToken",             [DENY, DENY, DENY]),
];

/// What yields a credential to a caller that proves something else than the JWT that stands beside it.
const BY_OTHER_PROOF: [&str; 2] = ["AccountService/ResetPassword", "TokenService/Login"];

const ISSUER: &str = "https://workloads.example";

/// A workload that acts as this account, and its rule.
struct Workload {
    signer: Signer,
    rule_id: String,
}

impl Workload {
    async fn of(server: &TestServer, org_id: &str, account_id: &str) -> Self {
        allow_federation(server, org_id).await;
        let signer = Signer::ed25519();
        let issuer = pb::Issuer {
            issuer: format!("{ISSUER}/{account_id}"),
            jwks: signer.key_set("1"),
            ..issuer_of("")
        };
        let request =
            pb::CreateIssuerRequest { org_id: org_id.to_owned(), issuer: Some(issuer), ..Default::default() };
        let made = server.operator.orgs().create_issuer(request).await.unwrap().into_inner();
        let rule = rule_for(&made.issuer.unwrap().id, account_id);
        let rule_id = crate::harness::federation::rule(server, org_id, rule).await.id;
        Self { signer, rule_id }
    }

    /// The JWT of its platform, exchanged.
    async fn client(&self, server: &TestServer, account_id: &str) -> Client {
        let at = server.state.clock.now().unix_timestamp();
        let claims = json!({
            "iss": format!("{ISSUER}/{account_id}"), "sub": "workload", "aud": "https://id.example", "iat": at,
            "exp": at + 600,
        });
        let assertion = self.signer.sign(&json!({"alg": "EdDSA", "kid": "1"}), &claims);
        server.client(exchange(&server.anonymous(), &self.rule_id, &assertion).await.unwrap().access_token)
    }
}

/// How many credentials there are, of each kind: all that a client could later authenticate with.
async fn credentials(server: &TestServer) -> BTreeMap<&'static str, i64> {
    let mut counts = BTreeMap::new();
    for table in
        ["codes", "federation_rules", "invitations", "issuers", "passwords", "sessions", "token_secrets"]
    {
        let sql = format!("select count(*) from {table}");
        let count = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&server.state.db).await.unwrap();
        counts.insert(table, count);
    }
    counts
}

/// An exact issuer for each account that has a workload: that of an operator has to be listed.
fn limits(accounts: &[&str]) -> ServerLimits {
    let listed = accounts.iter().map(|id| CeilingEntry::parse(&format!("{ISSUER}/{id}")).unwrap()).collect();
    let ceiling = Ceiling::new(listed).with_this_machine();
    ServerLimits { federation: FederationSettings { ceiling, ..FederationSettings::OFF }, ..LIMITS }
}

#[tokio::test]
async fn the_jwt_of_a_rule_leaves_no_credential_behind_whatever_it_calls() {
    // The accounts are there before the server that lists their issuers.
    let first = TestServer::at_standing_time(LIMITS).await;
    let org = first.org().await;
    let system = first.operator.org_id().await;
    let (platform, own): (Vec<_>, Vec<_>) =
        Permission::OWN.iter().map(ToString::to_string).partition(|name| name.starts_with("platform."));
    let all = |names: &'static [&'static str]| names.iter().map(|name| (*name, "*")).collect::<Vec<_>>();
    let leaked = |names: Vec<String>| -> &'static [&'static str] {
        names.into_iter().map(|name| &*name.leak()).collect::<Vec<_>>().leak()
    };
    let (own, platform) = (all(leaked(own)), all(leaked(platform)));
    let (owner, _) = first.account(&org.id, "owning", &[("owner", "*")]).await;
    let (named, _) = first.account(&org.id, "named", &own).await;
    let (operating, _) = first.account(&system, "operating", &platform).await;
    let server = first.beside(limits(&[&owner.id, &named.id, &operating.id])).await;

    let (target, client) = server.account(&org.id, "target", &[]).await;
    let things = Things::new(&server, &org, target, client.token().into());
    let mut workloads = Vec::new();
    for (org_id, account) in [(&org.id, &owner), (&org.id, &named), (&system, &operating)] {
        workloads.push((Workload::of(&server, org_id, &account.id).await, &account.id));
    }
    let mut table: BTreeMap<_, _> = TABLE.iter().copied().collect();
    assert_eq!(table.len(), TABLE.len(), "a doubled row");
    let mut wrong = Vec::new();
    for rpc in rpcs() {
        let short = rpc.strip_prefix("/countersign.v1.").unwrap();
        if !matches!(row(&rpc).unwrap().1, Work::Changes | Work::Stops) {
            continue;
        }
        let Some(expected) = table.remove(short) else {
            wrong.push(format!("{short} has no row"));
            continue;
        };
        for (i, (workload, account_id)) in workloads.iter().enumerate() {
            let request = things.request(short, &format!("walk-{i}-{}", short.len())).await;
            let caller = workload.client(&server, account_id).await;
            let before = credentials(&server).await;
            let got = outcome(call_raw(&caller, &rpc, request).await);
            if got != expected[i] {
                wrong.push(format!("{short} by the rule of an account that is {}: {got}", KINDS[i]));
            }
            let after = credentials(&server).await;
            let more: Vec<_> = after.iter().filter(|(table, count)| **count > before[*table]).collect();
            if !more.is_empty() && !BY_OTHER_PROOF.contains(&short) {
                wrong.push(format!("{short} leaves more {more:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(table.is_empty(), "rows of RPCs that are not there: {table:?}");
}

#[tokio::test]
async fn nor_by_the_forms_of_a_call_that_make_one() {
    let first = TestServer::at_standing_time(LIMITS).await;
    let org = first.org().await;
    let system = first.operator.org_id().await;
    let (owner, _) = first.account(&org.id, "owning", &[("owner", "*")]).await;
    let (operating, _) =
        first.account(&system, "operating", &[("platform.accounts", "*"), ("platform.orgs", "*")]).await;
    let server = first.beside(limits(&[&owner.id, &operating.id])).await;
    // Without a token, which would keep it from being converted.
    let request = pb::CreateServiceAccountRequest {
        org_id: org.id.clone(),
        name: "target".into(),
        ..Default::default()
    };
    let target = server.operator.accounts().create_service_account(request).await.unwrap();
    let target = target.into_inner().account.unwrap();
    let request = pb::CreateUserRequest {
        org_id: org.id.clone(),
        email: "ann@example.org".into(),
        ..Default::default()
    };
    let person = server.operator.accounts().create_user(request).await.unwrap();
    let person = person.into_inner().account.unwrap();
    let technical = server.technical(&org.id, "technical", &[]).await;
    let org_id = org.id.clone();
    let update = |id: &str, username: &str| pb::UpdateAccountRequest {
        org_id: org_id.clone(),
        account: Some(pb::Account { id: id.into(), username: username.into(), ..Default::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["username".into()] }),
    };
    let convert = |id: &str, identity| pb::ConvertAccountRequest {
        org_id: org_id.clone(),
        account_id: id.into(),
        kind: pb::AccountKind::User.into(),
        reason: "to take it".into(),
        identity: Some(identity),
    };
    let create = |password: &str| pb::CreateServiceAccountRequest {
        org_id: org_id.clone(),
        name: "made".into(),
        password: password.into(),
        ..Default::default()
    };
    let clone = |account_id: &str, email: &str| pb::CloneAccountRequest {
        org_id: org_id.clone(),
        account_id: account_id.into(),
        email: email.into(),
        ..Default::default()
    };
    let mut org_of_a_person = crate::harness::create_org("of-a-person");
    org_of_a_person.owner = Some(pb::create_org_request::Owner::OwnerEmail("mallory@example.org".into()));
    use pb::convert_account_request::Identity;
    let calls = |rule_id: &str| -> Vec<(&str, &str, Vec<u8>)> {
        let enabled = pb::FederationRule { id: rule_id.into(), disabled: Some(false), ..Default::default() };
        vec![
            (
                "a mailbox",
                "AccountService/UpdateAccount",
                update(&person.id, "mallory@example.org").encode_to_vec(),
            ),
            (
                "a person of a service account",
                "AccountService/ConvertAccount",
                convert(&target.id, Identity::Email("mallory@example.org".into())).encode_to_vec(),
            ),
            (
                "a person of a technical account",
                "AccountService/ConvertAccount",
                convert(&technical.id, Identity::Email("mallory@example.org".into())).encode_to_vec(),
            ),
            (
                "a password",
                "AccountService/CreateServiceAccount",
                create("correct horse battery staple 7").encode_to_vec(),
            ),
            (
                "a person",
                "AccountService/CloneAccount",
                clone(&person.id, "mallory@example.org").encode_to_vec(),
            ),
            ("an org of a person", "OrgService/CreateOrg", org_of_a_person.encode_to_vec()),
            (
                "a rule that is enabled",
                "OrgService/UpdateFederationRule",
                pb::UpdateFederationRuleRequest {
                    org_id: org_id.clone(),
                    rule: Some(enabled),
                    ..Default::default()
                }
                .encode_to_vec(),
            ),
        ]
    };
    let workload = (Workload::of(&server, &org.id, &owner.id).await, &owner.id);
    let of_operator = (Workload::of(&server, &system, &operating.id).await, &operating.id);
    for (workload, account_id) in [&workload, &of_operator] {
        for (what, short, request) in calls(&workload.rule_id) {
            let caller = workload.client(&server, account_id).await;
            let before = credentials(&server).await;
            let got = outcome(call_raw(&caller, &format!("/countersign.v1.{short}"), request).await);
            let expected: &[&str] = match what {
                // Of any caller: it is where her password comes from.
                "a mailbox" => &["EMAIL_IS_IMMUTABLE", DENY],
                // It is named with the org of another.
                "a rule that is enabled" => &[DENY, "RESOURCE_NOT_FOUND"],
                _ => &[DENY],
            };
            assert!(expected.contains(&&*got), "{what}: {got}");
            assert_eq!(credentials(&server).await, before, "{what}");
        }
    }
    // What it may: stop a rule, its own among them, and then it is no caller any more.
    let (workload, account_id) = &workload;
    let caller = workload.client(&server, account_id).await;
    let disabled =
        pb::FederationRule { id: workload.rule_id.clone(), disabled: Some(true), ..Default::default() };
    let request = pb::UpdateFederationRuleRequest {
        org_id: org.id.clone(),
        rule: Some(disabled),
        update_mask: Some(prost_types::FieldMask { paths: vec!["disabled".into()] }),
        ..Default::default()
    };
    caller.orgs().update_federation_rule(request).await.unwrap();
    assert_eq!(crate::harness::reason(&caller.caller().await.unwrap_err()), "ACCESS_TOKEN_STALE");
    // What it granted does not end with it, and is no credential.
    let (workload, account_id) = &of_operator;
    let caller = workload.client(&server, account_id).await;
    let request = pb::GrantAccessRequest {
        org_id: org.id.clone(),
        account_id: target.id.clone(),
        grants: vec![grant("auditor", "*")],
    };
    caller.accounts().grant_access(request).await.unwrap();
    server.operator.tokens().revoke_token(by_id(&system, &workload.rule_id)).await.unwrap();
    assert_eq!(crate::harness::reason(&caller.caller().await.unwrap_err()), "TOKEN_REVOKED");
}
