//! An administrator acts as a service account: what that can do, and cannot; when it expires;
//! and that everything created so names both.

use countersign::domain::values::ids::{AccountId, OrgId};
use countersign::grpc::pb;
use prost_types::Duration;
use sqlx::types::Uuid;
use tonic::{Code, Status};

use crate::harness::{
    Client, LIMITS, Org, TestServer, by_id, claims, grant, refused, rotate_token, token_for, violated,
};

const DENY: (Code, &str) = (Code::PermissionDenied, "PERMISSION_MISSING");
const EXCEEDS: (Code, &str) = (Code::PermissionDenied, "TARGET_EXCEEDS_CALLER");

fn ask(account_id: &str) -> pb::ImpersonateAccountRequest {
    pb::ImpersonateAccountRequest {
        account_id: account_id.into(),
        reason: "to look after it".into(),
        ..Default::default()
    }
}

async fn introspect(by: &Client, jwt: &str) -> pb::IntrospectTokenResponse {
    let request = pb::IntrospectTokenRequest { token_text: jwt.into(), ..Default::default() };
    by.tokens().introspect_token(request).await.unwrap().into_inner()
}

/// A token of the account with these scopes, created by the operator.
async fn scoped(server: &TestServer, org: &Org, account_id: &str, scopes: &[&str]) -> Client {
    let request = pb::CreateTokenRequest {
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        may_manage_tokens: true,
        ..token_for(&org.id, account_id)
    };
    server.client(server.operator.tokens().create_token(request).await.unwrap().into_inner().secret)
}

async fn revoke_access(server: &TestServer, org: &Org, account_id: &str, right: &str) {
    let request = pb::RevokeAccessRequest {
        org_id: org.id.clone(),
        account_id: account_id.into(),
        grants: vec![grant(right, "*")],
    };
    server.operator.accounts().revoke_access(request).await.unwrap();
}

async fn deactivate(server: &TestServer, org: &Org, account_id: &str) {
    let request = pb::DeactivateAccountRequest {
        org_id: org.id.clone(),
        account_id: account_id.into(),
        reason: "left".into(),
    };
    server.operator.accounts().deactivate_account(request).await.unwrap();
}

#[tokio::test]
async fn an_administrator_acts_as_a_service_account_and_both_are_shown() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.resources(&org.id, &["a"]).await;
    let (bot, _) = server.account(&org.id, "bot", &[("x.y", "*"), ("x.z", "a")]).await;
    let me = org.owner.caller().await.unwrap();
    assert_eq!(me.impersonator_id, "");
    let answer = org.owner.tokens().impersonate_account(ask(&bot.id)).await.unwrap().into_inner();
    let jwt = answer.access_token;
    let said = claims(&jwt);
    assert_eq!(said["sub"], bot.id.as_str());
    assert_eq!(said["act"], serde_json::json!({"sub": org.owner_id, "org_ver": 1, "acct_ver": 1}));
    assert_eq!(said["secret"], 1);
    assert_eq!(said["client_id"], me.credential_id.as_str());
    assert_eq!((&said["org"], &said["aud"]), (&org.id.as_str().into(), &said["iss"]));
    assert_eq!(said["account_kind"], "SERVICE_ACCOUNT");
    assert_eq!((&said["scope"], said.get("roles")), (&"x.y".into(), None));
    assert_eq!(said["authorization_details"][0]["actions"], serde_json::json!(["x.z"]));
    assert_eq!(said["exp"].as_i64().unwrap() - said["iat"].as_i64().unwrap(), 900);
    assert_eq!(answer.expire_time.unwrap().seconds, said["exp"].as_i64().unwrap());

    let as_bot = server.client(jwt.clone());
    let caller = as_bot.caller().await.unwrap();
    assert_eq!(caller.account.unwrap().id, bot.id);
    assert_eq!(
        (caller.org.unwrap().id, caller.impersonator_id.as_str()),
        (org.id.clone(), org.owner_id.as_str())
    );
    assert_eq!((caller.credential_id, caller.permissions), (me.credential_id, vec!["x.y".to_owned()]));
    let seen = introspect(&org.owner, &jwt).await;
    assert!(seen.active && seen.scope == "x.y");
    assert_eq!(
        (seen.sub, seen.act.unwrap().sub, seen.username),
        (bot.id.clone(), org.owner_id.clone(), bot.username)
    );
    assert_eq!((seen.client_id.as_str(), seen.org_id), (said["client_id"].as_str().unwrap(), org.id.clone()));
    // A JWT without impersonation has no actor.
    let own = org.owner.exchange().await.unwrap().access_token;
    assert_eq!((introspect(&org.owner, &own).await.act, claims(&own).get("act")), (None, None));

    // It is never exchanged, and impersonates no account: not even where both may.
    let request = pb::ExchangeTokenRequest { subject_token: Some(jwt), ..Default::default() };
    let exchanged = server.anonymous().tokens().exchange_token(request).await;
    refused(exchanged, Code::InvalidArgument, "SUBJECT_NOT_EXCHANGEABLE");
    let (second, _) = server.account(&org.id, "second", &[("owner", "*")]).await;
    let as_second = org.owner.impersonating(&second.id).await;
    assert!(as_second.caller().await.unwrap().permissions.contains(&"accounts.impersonate".to_owned()));
    refused(as_second.impersonate(&bot.id).await, DENY.0, DENY.1);
}

#[tokio::test]
async fn who_is_impersonated_and_who_is_not() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let other = server.org().await;
    let (bot, _) = server.account(&org.id, "bot", &[("x.y", "*")]).await;
    let (foreign, _) = server.account(&other.id, "bot", &[]).await;
    let (stopped, _) = server.account(&org.id, "stopped", &[]).await;
    deactivate(&server, &org, &stopped.id).await;
    let request = pb::CreateUserRequest { email: "ada@example.org".into(), ..Default::default() };
    let user = org.owner.accounts().create_user(request).await.unwrap().into_inner().account.unwrap();
    let guest = server.guest(&org.id, &[]).await;
    let cases = [
        (org.owner_id.as_str(), Code::InvalidArgument, "INVALID_FIELD"),
        (&user.id, Code::InvalidArgument, "TARGET_NOT_SERVICE_ACCOUNT"),
        (&guest.id, Code::InvalidArgument, "TARGET_NOT_SERVICE_ACCOUNT"),
        (&stopped.id, Code::NotFound, "RESOURCE_NOT_FOUND"),
        (&foreign.id, Code::NotFound, "RESOURCE_NOT_FOUND"),
        ("acct_00000000000000000000000000", Code::NotFound, "RESOURCE_NOT_FOUND"),
    ];
    for (account_id, code, reason) in cases {
        refused(org.owner.impersonate(account_id).await, code, reason);
    }
    // By callers that cover it, and by no others.
    let (admin, _) = server.account(&org.id, "admin", &[("manager", "*"), ("x.y", "*")]).await;
    let request = pb::GrantAccessRequest {
        account_id: admin.id.clone(),
        grants: vec![grant("accounts.impersonate", "*")],
        ..Default::default()
    };
    org.owner.accounts().grant_access(request).await.unwrap();
    let by_admin = server.client(server.managing_token(&org.id, &admin.id).await);
    by_admin.impersonate(&bot.id).await.unwrap();
    let (second, _) = server.account(&org.id, "second", &[("owner", "*")]).await;
    let refusal = refused(by_admin.impersonate(&second.id).await, EXCEEDS.0, EXCEEDS.1);
    assert!(refusal.message().contains("orgs.write on *"), "{}", refusal.message());
    // The lists of the credential bound it.
    let narrow = scoped(&server, &org, &admin.id, &["accounts.impersonate", "a.b"]);
    let request = pb::GrantAccessRequest {
        account_id: admin.id.clone(),
        grants: vec![grant("a.b", "*")],
        ..Default::default()
    };
    org.owner.accounts().grant_access(request).await.unwrap();
    let narrow = narrow.await;
    refused(narrow.impersonate(&bot.id).await, EXCEEDS.0, EXCEEDS.1);
    let (idle, _) = server.account(&org.id, "idle", &[]).await;
    narrow.impersonate(&idle.id).await.unwrap();
    narrow.with_jwt().await.impersonate(&idle.id).await.unwrap();
    // Held only on a resource it is no right over accounts.
    server.resources(&org.id, &["a"]).await;
    let (partly, client) = server.account(&org.id, "partly", &[("accounts.impersonate", "a")]).await;
    assert_ne!(partly.id, idle.id);
    refused(client.impersonate(&idle.id).await, DENY.0, DENY.1);
}

#[tokio::test]
async fn what_is_asked_for_is_checked() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (bot, _) = server.account(&org.id, "bot", &[]).await;
    let ttl = |seconds, nanos| Some(Duration { seconds, nanos });
    let good = || ask(&bot.id);
    for (request, fields) in [
        (pb::ImpersonateAccountRequest { reason: String::new(), ..good() }, vec!["reason"]),
        (pb::ImpersonateAccountRequest { reason: " \n".into(), ..good() }, vec!["reason"]),
        (pb::ImpersonateAccountRequest { reason: "x".repeat(1_001), ..good() }, vec!["reason"]),
        (pb::ImpersonateAccountRequest { reason: "bell\u{7}".into(), ..good() }, vec!["reason"]),
        (pb::ImpersonateAccountRequest { ttl: ttl(0, 0), ..good() }, vec!["ttl"]),
        (pb::ImpersonateAccountRequest { ttl: ttl(-1, 0), ..good() }, vec!["ttl"]),
        (pb::ImpersonateAccountRequest { ttl: ttl(900, 1), ..good() }, vec!["ttl"]),
        (pb::ImpersonateAccountRequest { ttl: ttl(i64::MAX, 0), ..good() }, vec!["ttl"]),
        (pb::ImpersonateAccountRequest { ttl: ttl(1, -1), ..good() }, vec!["ttl"]),
        (pb::ImpersonateAccountRequest { account_id: String::new(), ..good() }, vec!["account_id"]),
        (pb::ImpersonateAccountRequest { account_id: org.id.clone(), ..good() }, vec!["account_id"]),
        (
            pb::ImpersonateAccountRequest { ttl: ttl(901, 0), ..Default::default() },
            vec!["account_id", "reason", "ttl"],
        ),
    ] {
        let refusal = org.owner.tokens().impersonate_account(request).await;
        let refusal = refused(refusal, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&refusal), fields);
    }
    let lasts = async |client: &Client, ttl| {
        let request = pb::ImpersonateAccountRequest { reason: "x".repeat(1_000), ttl, ..good() };
        let jwt = client.tokens().impersonate_account(request).await.unwrap().into_inner().access_token;
        claims(&jwt)["exp"].as_i64().unwrap() - claims(&jwt)["iat"].as_i64().unwrap()
    };
    assert_eq!(lasts(&org.owner, ttl(900, 0)).await, 900);
    assert_eq!(lasts(&org.owner, ttl(0, 1)).await, 1);
    assert_eq!(lasts(&org.owner, ttl(60, 0)).await, 60);
    // Never past the JWT that asks for it, nor its token.
    assert!((295..=300).contains(&lasts(&org.owner.with_jwt().await, None).await));
    let end = pb::create_token_request::Expiration::Ttl(Duration { seconds: 90, nanos: 0 });
    let request = pb::CreateTokenRequest { expiration: Some(end), ..token_for(&org.id, &org.owner_id) };
    let short = server.operator.tokens().create_token(request).await.unwrap().into_inner().secret;
    let short = server.client(short);
    assert!((85..=90).contains(&lasts(&short, None).await));
    // Nor longer than the org's limit for access tokens, for every caller.
    let policy = pb::TokenPolicy { access_token_lifetime: ttl(120, 0), ..Default::default() };
    let request =
        pb::UpdateTokenPolicyRequest { org_id: org.id.clone(), policy: Some(policy), ..Default::default() };
    server.operator.orgs().update_token_policy(request).await.unwrap();
    assert_eq!(lasts(&org.owner, None).await, 120);
    let request = pb::ImpersonateAccountRequest { org_id: org.id.clone(), ..good() };
    let jwt = server.operator.tokens().impersonate_account(request).await.unwrap().into_inner().access_token;
    assert_eq!(claims(&jwt)["exp"].as_i64().unwrap() - claims(&jwt)["iat"].as_i64().unwrap(), 120);
}

#[tokio::test]
async fn a_jwt_that_carries_less_than_its_token_impersonates_nobody() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (bot, _) = server.account(&org.id, "bot", &[]).await;
    let request = pb::ExchangeTokenRequest {
        subject_token: Some(org.owner.token().into()),
        scopes: vec!["accounts.impersonate".into()],
        ..Default::default()
    };
    let narrow = server.anonymous().tokens().exchange_token(request).await.unwrap().into_inner().access_token;
    let refusal = refused(server.client(narrow).impersonate(&bot.id).await, EXCEEDS.0, EXCEEDS.1);
    assert!(refusal.message().contains("accounts.write"), "{}", refusal.message());
}

/// What a service account may do to itself, tried by callers that act as it.
async fn tries(as_bot: &Client, bot: &pb::Account) -> Vec<(&'static str, Result<(), Status>)> {
    let account = pb::Account {
        id: bot.id.clone(),
        profile: Some(pb::Profile { display_name: Some("Robot".into()), ..Default::default() }),
        settings: Some(pb::AccountSettings { email_notifications: Some(true), ..Default::default() }),
        ..Default::default()
    };
    let account_id = bot.id.clone();
    let (mut accounts, mut tokens) = (as_bot.accounts(), as_bot.tokens());
    let get = pb::GetAccountRequest { account_id: account_id.clone(), ..Default::default() };
    let filter = Some(pb::list_grants_request::Filter::AccountId(account_id.clone()));
    let grants = pb::ListGrantsRequest { filter, ..Default::default() };
    let list = pb::ListTokensRequest { account_id, ..Default::default() };
    let update = pb::UpdateAccountRequest { account: Some(account), ..Default::default() };
    vec![
        ("GetCaller", as_bot.caller().await.map(|_| ())),
        ("GetOrg", as_bot.orgs().get_org(pb::GetOrgRequest::default()).await.map(|_| ())),
        ("GetAccount", accounts.get_account(get).await.map(|_| ())),
        ("ListGrants", accounts.list_grants(grants).await.map(|_| ())),
        ("ListTokens", tokens.list_tokens(list).await.map(|_| ())),
        ("UpdateAccount", accounts.update_account(update).await.map(|_| ())),
        ("CreateToken", tokens.create_token(token_for("", "")).await.map(|_| ())),
    ]
}

#[tokio::test]
async fn rights_of_oneself_count_where_the_administrator_has_the_permission() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (bot, _) = server.account(&org.id, "bot", &[("x.y", "*")]).await;
    for (n, (rights, allowed)) in [
        (vec![], vec!["GetCaller", "GetOrg"]),
        (vec!["accounts.read"], vec!["GetCaller", "GetOrg", "GetAccount", "ListGrants"]),
        (vec!["tokens.read"], vec!["GetCaller", "GetOrg", "ListTokens"]),
        (vec!["accounts.write"], vec!["GetCaller", "GetOrg", "UpdateAccount"]),
        (vec!["tokens.write"], vec!["GetCaller", "GetOrg", "CreateToken"]),
    ]
    .into_iter()
    .enumerate()
    {
        let held: Vec<_> =
            rights.iter().chain(&["accounts.impersonate", "x.y"]).map(|right| (*right, "*")).collect();
        let (_, admin) = server.account(&org.id, &format!("admin-{n}"), &held).await;
        let as_bot = admin.impersonating(&bot.id).await;
        for (call, outcome) in tries(&as_bot, &bot).await {
            match outcome {
                Ok(()) => assert!(allowed.contains(&call), "{call} with {rights:?}"),
                Err(status) => {
                    assert!(!allowed.contains(&call), "{call} with {rights:?}: {status:?}");
                    refused::<()>(Err(status), DENY.0, DENY.1);
                }
            }
        }
        // The bot holds none of it: what is not its own stays closed.
        let (other, _) = server.account(&org.id, &format!("other-{n}"), &[]).await;
        let get = pb::GetAccountRequest { account_id: other.id.clone(), ..Default::default() };
        refused(as_bot.accounts().get_account(get).await, DENY.0, DENY.1);
        refused(as_bot.tokens().create_token(token_for("", &other.id)).await, DENY.0, DENY.1);
        let attributes = pb::AccountSettings { attributes: Some(Default::default()), ..Default::default() };
        let account = pb::Account { id: bot.id.clone(), settings: Some(attributes), ..Default::default() };
        let update = pb::UpdateAccountRequest { account: Some(account), ..Default::default() };
        refused(as_bot.accounts().update_account(update).await, DENY.0, DENY.1);
    }
}

#[tokio::test]
async fn keys_are_managed_as_far_as_the_administrators_credential_may() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (bot, client) = server.account(&org.id, "bot", &[("x.y", "*")]).await;
    let token_id = client.caller().await.unwrap().credential_id;
    // A credential that may not manage tokens.
    let plain = server.operator.tokens().create_token(token_for(&org.id, &org.owner_id)).await.unwrap();
    let plain = server.client(plain.into_inner().secret).impersonating(&bot.id).await;
    refused(plain.tokens().rotate_token(rotate_token("", &token_id, None)).await, DENY.0, DENY.1);
    refused(plain.tokens().create_token(token_for("", "")).await, DENY.0, DENY.1);

    let as_bot = org.owner.impersonating(&bot.id).await;
    let rotated = as_bot.tokens().rotate_token(rotate_token("", &token_id, None)).await.unwrap().into_inner();
    server.client(rotated.secret).exchange().await.unwrap();
    let finish = pb::FinishRotationRequest { token_id: token_id.clone(), ..Default::default() };
    as_bot.tokens().finish_rotation(finish).await.unwrap();
    refused(client.exchange().await, Code::Unauthenticated, "TOKEN_EXPIRED");
    let made = as_bot.tokens().create_token(token_for("", "")).await.unwrap().into_inner();
    assert_eq!(made.token.unwrap().account_id, bot.id);
    assert_eq!(server.client(made.secret).exchange().await.unwrap().scopes, ["x.y"]);
    // No more than the credential: not for longer, and never one that creates others.
    let managing = pb::CreateTokenRequest { may_manage_tokens: true, ..token_for("", "") };
    refused(as_bot.tokens().create_token(managing).await, EXCEEDS.0, EXCEEDS.1);
    let scopes = ["accounts.impersonate", "tokens.write", "x.y"];
    let narrow = scoped(&server, &org, &org.owner_id, &scopes).await.impersonating(&bot.id).await;
    refused(narrow.tokens().create_token(token_for("", "")).await, EXCEEDS.0, EXCEEDS.1);
    let within = pb::CreateTokenRequest { scopes: vec!["x.y".into()], ..token_for("", "") };
    narrow.tokens().create_token(within.clone()).await.unwrap();
    // What the bot was granted since is not in the JWT.
    let request = pb::GrantAccessRequest {
        account_id: bot.id.clone(),
        grants: vec![grant("p.q", "*")],
        ..Default::default()
    };
    org.owner.accounts().grant_access(request).await.unwrap();
    refused(as_bot.tokens().create_token(token_for("", "")).await, EXCEEDS.0, EXCEEDS.1);
    as_bot.tokens().create_token(within).await.unwrap();
    // Nor can it be used to clone, deactivate or delete the account that calls or is impersonated.
    let (second, _) = server.account(&org.id, "second", &[("owner", "*")]).await;
    let as_second = org.owner.impersonating(&second.id).await;
    for account_id in [&second.id, &org.owner_id] {
        let request = pb::DeactivateAccountRequest { account_id: account_id.clone(), ..Default::default() };
        refused(
            as_second.accounts().deactivate_account(request).await,
            Code::InvalidArgument,
            "CANNOT_DEACTIVATE_SELF",
        );
    }
}

#[tokio::test]
async fn it_ends_with_the_right_the_administrator_the_credential_and_the_target_on_all_nodes() {
    let here = TestServer::start().await;
    let there = here.beside(LIMITS).await;
    let org = here.org().await;
    let ends: [(&str, &str); 7] = [
        ("the right", "ACCESS_TOKEN_STALE"),
        ("the administrator", "ACCOUNT_DEACTIVATED"),
        ("the credential", "TOKEN_REVOKED"),
        ("the target", "ACCOUNT_DEACTIVATED"),
        ("the target's rights", "ACCESS_TOKEN_STALE"),
        ("its kind", "ACCESS_TOKEN_INVALID"),
        ("the org", "ORG_SUSPENDED"),
    ];
    for (n, (what, reason)) in ends.into_iter().enumerate() {
        let (bot, _) = here.account(&org.id, &format!("bot-{n}"), &[("x.y", "*")]).await;
        let rights = [("accounts.impersonate", "*"), ("x.y", "*"), ("accounts.read", "*")];
        let (admin, client) = here.account(&org.id, &format!("admin-{n}"), &rights).await;
        let jwt = client.impersonate(&bot.id).await.unwrap();
        there.hear_all().await;
        for node in [&here, &there] {
            node.client(jwt.clone()).caller().await.unwrap();
        }
        match what {
            "the right" => revoke_access(&here, &org, &admin.id, "accounts.impersonate").await,
            "the administrator" => deactivate(&here, &org, &admin.id).await,
            "the credential" => {
                let token_id = client.caller().await.unwrap().credential_id;
                here.operator.tokens().revoke_token(by_id(&org.id, &token_id)).await.unwrap();
            }
            "the target" => deactivate(&here, &org, &bot.id).await,
            "the target's rights" => revoke_access(&here, &org, &bot.id, "x.y").await,
            "its kind" => {
                let token_id = {
                    let request = pb::ListTokensRequest {
                        org_id: org.id.clone(),
                        account_id: bot.id.clone(),
                        ..Default::default()
                    };
                    here.operator.tokens().list_tokens(request).await.unwrap().into_inner().tokens[0]
                        .id
                        .clone()
                };
                here.operator.tokens().revoke_token(by_id(&org.id, &token_id)).await.unwrap();
                let email = format!("bot-{n}@example.org");
                let request = pb::ConvertAccountRequest {
                    org_id: org.id.clone(),
                    account_id: bot.id.clone(),
                    kind: pb::AccountKind::User.into(),
                    reason: "a person".into(),
                    identity: Some(pb::convert_account_request::Identity::Email(email)),
                };
                here.operator.accounts().convert_account(request).await.unwrap();
            }
            _ => {
                let request = pb::SuspendOrgRequest { org_id: org.id.clone(), ..Default::default() };
                here.operator.orgs().suspend_org(request).await.unwrap();
            }
        }
        refused(here.client(jwt.clone()).caller().await, Code::Unauthenticated, reason);
        there.hear().await;
        refused(there.client(jwt.clone()).caller().await, Code::Unauthenticated, reason);
        assert_eq!(introspect(&there.operator, &jwt).await, pb::IntrospectTokenResponse::default(), "{what}");
    }
}

#[tokio::test]
async fn what_the_administrator_loses_ends_the_jwt_and_the_next_one_is_without_it() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (bot, _) = server.account(&org.id, "bot", &[("x.y", "*")]).await;
    let rights = [("accounts.impersonate", "*"), ("x.y", "*"), ("accounts.write", "*")];
    let (admin, client) = server.account(&org.id, "admin", &rights).await;
    let update = |name: &str| {
        let profile = Some(pb::Profile { display_name: Some(name.into()), ..Default::default() });
        let account = Some(pb::Account { id: bot.id.clone(), profile, ..Default::default() });
        pb::UpdateAccountRequest { account, ..Default::default() }
    };
    let as_bot = client.impersonating(&bot.id).await;
    as_bot.accounts().update_account(update("Robot")).await.unwrap();
    revoke_access(&server, &org, &admin.id, "accounts.write").await;
    let refusal = as_bot.accounts().update_account(update("Other")).await;
    refused(refusal, Code::Unauthenticated, "ACCESS_TOKEN_STALE");
    assert!(!introspect(&server.operator, as_bot.token()).await.active);
    let as_bot = client.impersonating(&bot.id).await;
    assert_eq!(introspect(&server.operator, as_bot.token()).await.scope, "x.y");
    refused(as_bot.accounts().update_account(update("Other")).await, DENY.0, DENY.1);
}

#[derive(Debug, PartialEq, sqlx::FromRow)]
struct Logged {
    #[sqlx(rename = "type")]
    kind: String,
    actor_id: Option<Uuid>,
    impersonator_id: Option<Uuid>,
    operator: bool,
}

/// The newest events of the org, oldest first.
async fn logged(server: &TestServer, org: &Org, count: i64) -> Vec<Logged> {
    let query = "select type, actor_id, impersonator_id, operator from events
                 where org_id = $1 order by create_time desc, event_id desc limit $2";
    let org_id = OrgId::parse(&org.id).unwrap().uuid();
    let mut rows: Vec<Logged> =
        sqlx::query_as(query).bind(org_id).bind(count).fetch_all(&server.state.db).await.unwrap();
    rows.reverse();
    rows
}

#[tokio::test]
async fn every_event_names_both_and_an_operator_is_marked() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (bot, _) = server.account(&org.id, "bot", &[("resources.write", "*"), ("tokens.write", "*")]).await;
    let operator_id = server.operator.caller().await.unwrap().account.unwrap().id;
    let uuid = |id: &str| Some(AccountId::parse(id).unwrap().uuid());
    for (by, by_id, operator) in [(&org.owner, &org.owner_id, false), (&server.operator, &operator_id, true)]
    {
        let request = pb::ImpersonateAccountRequest { org_id: org.id.clone(), ..ask(&bot.id) };
        let jwt = by.tokens().impersonate_account(request).await.unwrap().into_inner().access_token;
        let as_bot = server.client(jwt);
        assert_eq!(as_bot.caller().await.unwrap().impersonator_id, *by_id);
        let path = format!("made-{operator}");
        let create = pb::CreateResourceRequest { path: path.clone(), ..Default::default() };
        as_bot.orgs().create_resource(create.clone()).await.unwrap();
        let made = as_bot.tokens().create_token(token_for("", "")).await.unwrap().into_inner();
        as_bot.tokens().revoke_token(by_id_of(&made)).await.unwrap();
        let both = |kind: &str| Logged {
            kind: kind.into(),
            actor_id: uuid(&bot.id),
            impersonator_id: uuid(by_id),
            operator,
        };
        let itself = Logged {
            kind: "account.impersonated".into(),
            actor_id: uuid(by_id),
            impersonator_id: None,
            operator,
        };
        assert_eq!(
            logged(&server, &org, 4).await,
            [itself, both("resource.created"), both("token.created"), both("token.revoked")]
        );
        // Nowhere else: another org is not there.
        let elsewhere = server.org().await;
        let create = pb::CreateResourceRequest { org_id: elsewhere.id, ..create };
        refused(as_bot.orgs().create_resource(create).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    }
    let list = pb::ListEventsRequest { r#type: "account.impersonated".into(), ..Default::default() };
    let events = org.owner.orgs().list_events(list).await.unwrap().into_inner().events;
    assert_eq!(events.len(), 2);
    for event in events {
        assert_eq!(event.resource_ids, [bot.id.as_str()]);
        let reason = event.changes.iter().find(|change| change.field == "reason").unwrap();
        assert_eq!(reason.new_value.as_deref(), Some("to look after it"));
    }
    let list = pb::ListEventsRequest { r#type: "token.created".into(), ..Default::default() };
    let events = org.owner.orgs().list_events(list).await.unwrap().into_inner().events;
    let named: Vec<_> = events.iter().filter(|event| event.impersonator_id == operator_id).collect();
    assert_eq!(named.len(), 1);
    assert_eq!(named[0].actor_id, bot.id);
}

fn by_id_of(made: &pb::CreateTokenResponse) -> pb::RevokeTokenRequest {
    by_id("", &made.token.as_ref().unwrap().id)
}

#[tokio::test]
async fn a_request_id_and_a_page_token_are_of_both_together() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (bot, client) =
        server.account(&org.id, "bot", &[("resources.write", "*"), ("resources.read", "*")]).await;
    let (second, other) = server.account(&org.id, "second", &[("owner", "*")]).await;
    let create = |n: u128, path: &str| pb::CreateResourceRequest {
        path: path.into(),
        request_id: Uuid::from_u128(n).to_string(),
        ..Default::default()
    };
    let (by_owner, by_second) = (org.owner.impersonating(&bot.id).await, other.impersonating(&bot.id).await);
    assert_ne!(second.id, bot.id);
    // The same id of three callers is three requests; of one, it is one.
    for (who, path) in [(&by_owner, "a"), (&by_second, "b"), (&client, "c"), (&org.owner, "d")] {
        who.orgs().create_resource(create(1, path)).await.unwrap();
        who.orgs().create_resource(create(1, path)).await.unwrap();
        refused(who.orgs().create_resource(create(1, "e")).await, Code::InvalidArgument, "REQUEST_ID_REUSED");
    }
    let page =
        |page_token: String| pb::ListResourcesRequest { page_size: 1, page_token, ..Default::default() };
    let first = by_owner.orgs().list_resources(page(String::new())).await.unwrap().into_inner();
    by_owner.orgs().list_resources(page(first.next_page_token.clone())).await.unwrap();
    for who in [&by_second, &client, &org.owner] {
        let refusal = who.orgs().list_resources(page(first.next_page_token.clone())).await;
        refused(refusal, Code::InvalidArgument, "INVALID_FIELD");
    }
}

#[tokio::test]
async fn where_the_administrators_credential_does_not_work_it_acts_as_nobody() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (bot, _) = server.account(&org.id, "bot", &[]).await;
    let token_id = org.owner.caller().await.unwrap().credential_id;
    let as_bot = org.owner.impersonating(&bot.id).await;
    as_bot.caller().await.unwrap();
    let token = pb::Token { id: token_id, allowed_cidrs: vec!["192.0.2.0/24".into()], ..Default::default() };
    let request = pb::UpdateTokenRequest { org_id: org.id.clone(), token: Some(token), update_mask: None };
    server.operator.tokens().update_token(request).await.unwrap();
    refused(as_bot.caller().await, Code::PermissionDenied, "ADDRESS_NOT_ALLOWED");
}
