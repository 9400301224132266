//! Sessions: how long they last, where they act, what ends them, and what they cannot do.

use std::time::Duration;

use countersign::clock::random;
use countersign::domain::values::ids::{OrgId, SessionId, TokenId};
use countersign::domain::values::token_string::{TokenString, TokenStringKind};
use countersign::grpc::pb;
use tonic::{Code, Status};

use crate::harness::{
    Client, LIMITS, Org, PASSWORD, TestServer, by_text, claims, grant, refused, rotate_token, token_for,
    until,
};

const ANN: &str = "ann@example.org";

async fn ended(client: &Client, jwt: &Client, reason: &str) {
    refused(client.caller().await, Code::Unauthenticated, reason);
    refused(client.exchange().await, Code::Unauthenticated, reason);
    refused(jwt.caller().await, Code::Unauthenticated, reason);
}

#[tokio::test]
async fn a_session_that_is_used_lives_for_a_week_and_one_that_is_not_for_half_a_day() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.person(&org.id, ANN, &[]).await;
    let (active, idle) = (server.session(ANN).await, server.session(ANN).await);
    let hour = Duration::from_secs(3_600);
    // Its use is written, and read again, from time to time.
    let later = async |by: Duration| {
        server.state.last_uses.flush().await.unwrap();
        server.state.principals.clear();
        server.state.clock.advance(by);
    };
    for _ in 0..14 {
        later(11 * hour).await;
        active.caller().await.unwrap();
    }
    refused(idle.caller().await, Code::Unauthenticated, "TOKEN_EXPIRED");
    later(13 * hour).await;
    refused(active.caller().await, Code::Unauthenticated, "TOKEN_EXPIRED");
    // An unused one expires a minute after the half day at the latest, and not before.
    let (first, second) = (server.session(ANN).await, server.session(ANN).await);
    later(12 * hour - Duration::from_secs(300)).await;
    first.exchange().await.unwrap();
    later(Duration::from_secs(361)).await;
    refused(second.exchange().await, Code::Unauthenticated, "TOKEN_EXPIRED");
    first.exchange().await.unwrap();
}

#[tokio::test]
async fn a_use_on_one_node_keeps_the_session_on_all() {
    let a = TestServer::start().await;
    let b = a.beside(LIMITS).await;
    let org = a.org().await;
    a.person(&org.id, ANN, &[]).await;
    let on_a = a.session(ANN).await;
    let on_b = b.client(on_a.token());
    on_b.caller().await.unwrap();
    a.state.clock.advance(Duration::from_secs(11 * 3_600));
    on_a.caller().await.unwrap();
    a.state.last_uses.flush().await.unwrap();
    // The cached last use is eleven hours old: it is loaded again, as seldom as what does not
    // exist, and is good.
    a.state.clock.advance(Duration::from_secs(11 * 3_600));
    until(async || on_b.caller().await.is_ok()).await;
}

#[tokio::test]
async fn what_ends_a_session_ends_it_everywhere() {
    let a = TestServer::start().await;
    let b = a.beside(LIMITS).await;
    let org = a.org().await;
    let (_, target) = (a.person(&org.id, ANN, &[]).await, a.technical(&org.id, "bot", &[]).await);
    type End = (&'static str, &'static str);
    let ends: [End; 7] = [
        ("logout", "TOKEN_REVOKED"),
        ("logout by jwt", "TOKEN_REVOKED"),
        ("text", "TOKEN_REVOKED"),
        ("revoke", "TOKEN_REVOKED"),
        ("set", "TOKEN_REVOKED"),
        ("deactivate", "TOKEN_REVOKED"),
        ("suspend", "TOKEN_REVOKED"),
    ];
    for (how, reason) in ends {
        let session = a.session(&target.username).await;
        let jwt = session.with_jwt().await;
        let (there, jwt_there) = (b.client(session.token()), b.client(jwt.token()));
        there.caller().await.unwrap();
        jwt_there.caller().await.unwrap();
        let (org_id, account_id) = (org.id.clone(), target.id.clone());
        match how {
            "logout" => drop(session.tokens().logout(pb::LogoutRequest {}).await.unwrap()),
            "logout by jwt" => drop(jwt.tokens().logout(pb::LogoutRequest {}).await.unwrap()),
            "text" => drop(a.anonymous().tokens().revoke_token(by_text(session.token())).await.unwrap()),
            "revoke" => {
                let request = pb::RevokeAccountSessionsRequest { org_id, account_id };
                let answer = org.owner.tokens().revoke_account_sessions(request.clone()).await.unwrap();
                assert_eq!(answer.into_inner().revoked_count, 1);
                let answer = org.owner.tokens().revoke_account_sessions(request).await.unwrap();
                assert_eq!(answer.into_inner().revoked_count, 0);
            }
            "set" => {
                let request = pb::SetPasswordRequest { org_id, account_id, password: PASSWORD.into() };
                org.owner.accounts().set_password(request).await.unwrap();
            }
            "deactivate" => {
                let request = pb::DeactivateAccountRequest {
                    org_id: org_id.clone(),
                    account_id: account_id.clone(),
                    ..Default::default()
                };
                org.owner.accounts().deactivate_account(request).await.unwrap();
                refused(session.caller().await, Code::Unauthenticated, "TOKEN_REVOKED");
                let request = pb::ActivateAccountRequest { org_id, account_id, ..Default::default() };
                org.owner.accounts().activate_account(request).await.unwrap();
            }
            "suspend" => {
                let request = pb::SuspendOrgRequest { org_id: org_id.clone(), ..Default::default() };
                a.operator.orgs().suspend_org(request).await.unwrap();
                let request = pb::ResumeOrgRequest { org_id, ..Default::default() };
                a.operator.orgs().resume_org(request).await.unwrap();
            }
            other => panic!("{other}"),
        }
        // Here at once, there when notified; and a reversed deactivation brings it back nowhere.
        ended(&session, &jwt, reason).await;
        b.hear().await;
        ended(&there, &jwt_there, reason).await;
    }
    // Deleting and converting an account.
    let session = a.session(ANN).await;
    let jwt = session.with_jwt().await;
    let ann = session.caller().await.unwrap().account.unwrap();
    let request = pb::ConvertAccountRequest {
        org_id: org.id.clone(),
        account_id: ann.id.clone(),
        kind: pb::AccountKind::ServiceAccount.into(),
        reason: "no person".into(),
        identity: Some(pb::convert_account_request::Identity::Name("ann".into())),
    };
    a.operator.accounts().convert_account(request).await.unwrap();
    ended(&session, &jwt, "TOKEN_REVOKED").await;
    let session = a.session(&target.username).await;
    let request = pb::DeleteAccountRequest { account_id: target.id.clone(), ..Default::default() };
    org.owner.accounts().delete_account(request).await.unwrap();
    let request = pb::UndeleteAccountRequest { account_id: target.id, ..Default::default() };
    org.owner.accounts().undelete_account(request).await.unwrap();
    refused(session.caller().await, Code::Unauthenticated, "TOKEN_REVOKED");
}

#[tokio::test]
async fn sessions_of_others_are_ended_by_those_who_may() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let ann = server.person(&org.id, ANN, &[]).await;
    server.person(&org.id, "bob@example.org", &[("owner", "*")]).await;
    let (own, bob) = (server.session(ANN).await, server.session("bob@example.org").await);
    let (_, manager) = server.account(&org.id, "manager", &[("manager", "*")]).await;
    let end = async |client: &Client, account_id: &str| -> Result<i32, Status> {
        let request =
            pb::RevokeAccountSessionsRequest { account_id: account_id.into(), ..Default::default() };
        Ok(client.tokens().revoke_account_sessions(request).await?.into_inner().revoked_count)
    };
    let bob_id = bob.caller().await.unwrap().account.unwrap().id;
    refused(end(&own, &bob_id).await, Code::PermissionDenied, "PERMISSION_MISSING");
    refused(end(&manager, &bob_id).await, Code::PermissionDenied, "TARGET_EXCEEDS_CALLER");
    refused(end(&org.owner, "acct_1").await, Code::InvalidArgument, "INVALID_FIELD");
    let nobody = "acct_00000000000000000000000007";
    refused(end(&org.owner, nobody).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    let again = server.session(ANN).await;
    assert_eq!(end(&manager, &ann.id).await.unwrap(), 2);
    refused(own.caller().await, Code::Unauthenticated, "TOKEN_REVOKED");
    refused(again.caller().await, Code::Unauthenticated, "TOKEN_REVOKED");
    // One's own, the one behind the call among them.
    let own = server.session(ANN).await;
    assert_eq!(end(&own, &ann.id).await.unwrap(), 1);
    refused(own.caller().await, Code::Unauthenticated, "TOKEN_REVOKED");
}

/// A person of another org who is a member of this one, with these permissions.
async fn guest(server: &TestServer, org: &Org, permissions: &[(&str, &str)]) -> (pb::Account, Client) {
    let account = server.guest(&org.id, permissions).await;
    let session = server.session(&account.username).await;
    (account, session)
}

#[tokio::test]
async fn a_session_acts_where_its_account_is_a_member() {
    let server = TestServer::start().await;
    let (host, stranger) = (server.org().await, server.org().await);
    let (account, session) = guest(&server, &host, &[("accounts.read", "*"), ("x.y", "*")]).await;
    let accounts = async |client: &Client, org_id: &str| {
        let request = pb::ListAccountsRequest { org_id: org_id.into(), ..Default::default() };
        client.accounts().list_accounts(request).await
    };
    // At home it holds nothing; there what it was granted.
    refused(accounts(&session, "").await, Code::PermissionDenied, "PERMISSION_MISSING");
    assert_eq!(accounts(&session, &host.id).await.unwrap().into_inner().accounts.len(), 1);
    refused(accounts(&session, &stranger.id).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    let orgs = session.orgs().list_orgs(pb::ListOrgsRequest::default()).await.unwrap().into_inner();
    let ids: Vec<&str> = orgs.orgs.iter().map(|org| org.id.as_str()).collect();
    assert_eq!((orgs.total_size, ids.len()), (Some(2), 2));
    assert!(ids.contains(&host.id.as_str()) && ids.contains(&account.org_id.as_str()));
    // Its JWTs are of one org each, and act only there.
    let exchange = async |org_id: &str| {
        let request = pb::ExchangeTokenRequest {
            subject_token: Some(session.token().into()),
            org_id: org_id.into(),
            ..Default::default()
        };
        session
            .tokens()
            .exchange_token(request)
            .await
            .map(|answer| server.client(answer.into_inner().access_token))
    };
    let there = exchange(&host.id).await.unwrap();
    let jwt = claims(there.token());
    assert_eq!((jwt["org"].as_str(), jwt["scope"].as_str()), (Some(&*host.id), Some("accounts.read x.y")));
    let me = there.caller().await.unwrap();
    assert_eq!((me.account.unwrap().id, me.org.unwrap().id), (account.id.clone(), host.id.clone()));
    accounts(&there, "").await.unwrap();
    refused(accounts(&there, &account.org_id).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    let at_home = exchange("").await.unwrap();
    at_home.caller().await.unwrap();
    let get = at_home.orgs().get_org(pb::GetOrgRequest { org_id: host.id.clone() }).await;
    refused(get, Code::NotFound, "RESOURCE_NOT_FOUND");
    refused(exchange(&stranger.id).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    let request = pb::LoginRequest {
        username: account.username.clone(),
        password: PASSWORD.into(),
        org_id: host.id.clone(),
    };
    let login = server.login_with(request, None).await.unwrap();
    assert_eq!(claims(&login.access_token)["org"], host.id.as_str());
    assert_eq!(login.orgs.iter().map(|org| &org.org_id).collect::<Vec<_>>(), [&account.org_id, &host.id]);
    // A token acts only in its own org.
    let request = pb::ExchangeTokenRequest {
        subject_token: Some(host.owner.token().into()),
        org_id: stranger.id.clone(),
        ..Default::default()
    };
    refused(host.owner.tokens().exchange_token(request).await, Code::NotFound, "RESOURCE_NOT_FOUND");

    // Rights revoked there are gone at once; and so is the membership.
    let request = pb::RevokeAccessRequest {
        org_id: host.id.clone(),
        account_id: account.id.clone(),
        grants: vec![grant("accounts.read", "*")],
    };
    host.owner.accounts().revoke_access(request).await.unwrap();
    refused(accounts(&session, &host.id).await, Code::PermissionDenied, "PERMISSION_MISSING");
    refused(accounts(&there, "").await, Code::Unauthenticated, "ACCESS_TOKEN_STALE");
    let request = pb::RemoveMemberRequest { org_id: host.id.clone(), account_id: account.id };
    host.owner.orgs().remove_member(request).await.unwrap();
    refused(accounts(&session, &host.id).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    refused(accounts(&there, "").await, Code::Unauthenticated, "ACCOUNT_DEACTIVATED");
    session.caller().await.unwrap();
}

#[tokio::test]
async fn a_session_is_introspected_like_a_token() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let ann = server.person(&org.id, ANN, &[("x.y", "*")]).await;
    let login = server.login(ANN, PASSWORD, None).await.unwrap();
    let introspect = async |text: &str| {
        let request = pb::IntrospectTokenRequest { token_text: text.into(), ..Default::default() };
        org.owner.tokens().introspect_token(request).await.unwrap().into_inner()
    };
    let session = server.client(&login.session_token);
    for text in [&login.session_token, &login.access_token] {
        let answer = introspect(text).await;
        assert!(answer.active && answer.sub == ann.id && answer.username == ANN && answer.scope == "x.y");
        assert_eq!(
            (answer.client_id, answer.org_id),
            (session.caller().await.unwrap().credential_id, org.id.clone())
        );
    }
    let exp = introspect(&login.session_token).await.exp;
    assert_eq!(exp, login.session_expire_time.unwrap().seconds);
    session.tokens().logout(pb::LogoutRequest {}).await.unwrap();
    for text in [&login.session_token, &login.access_token] {
        assert_eq!(introspect(text).await, pb::IntrospectTokenResponse::default());
    }
}

#[tokio::test]
async fn what_a_session_is_no_good_for() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let bot = server.technical(&org.id, "bot", &[("tokens.write", "*")]).await;
    let session = server.session(&bot.username).await;
    let id = session.caller().await.unwrap().credential_id;
    // Its id names no token.
    let rotated = session.tokens().rotate_token(rotate_token("", &id, None)).await;
    refused(rotated, Code::InvalidArgument, "INVALID_FIELD");
    let get = pb::GetTokenRequest { token_id: id.replacen("ses", "tok", 1), ..Default::default() };
    refused(org.owner.tokens().get_token(get).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    // A token string of another kind with the same parts; a session never created; a token's id as one.
    let own = TokenString::parse(session.token()).unwrap();
    let session_id = SessionId::parse(&id).unwrap();
    let (_, client) = server.account(&org.id, "client", &[]).await;
    let token_id = TokenId::parse(&client.caller().await.unwrap().credential_id).unwrap();
    for text in [
        TokenString::new(TokenStringKind::SecretToken, session_id, random()),
        TokenString::new(TokenStringKind::Session, session_id, random()),
        TokenString::new(TokenStringKind::Session, token_id, random()),
        TokenString::new(TokenStringKind::Session, server.state.clock.new_id::<SessionId>(), random()),
    ] {
        refused(server.client(text.expose()).caller().await, Code::Unauthenticated, "TOKEN_INVALID");
    }
    assert_eq!(own.kind(), TokenStringKind::Session);
    let parts: Vec<&str> = session.token().split('_').collect();
    let body = format!("csign_sat_{}_{}", parts[2], parts[3]);
    refused(server.client(&body).caller().await, Code::Unauthenticated, "TOKEN_INVALID");
    // A code of another kind is no session, whatever it holds.
    for kind in ["inv", "rst"] {
        let code = session.token().replacen("_ses_", &format!("_{kind}_"), 1);
        refused(server.client(&code).caller().await, Code::Unauthenticated, "TOKEN_INVALID");
    }
    // Its JWT yields no other, and none for another account.
    let jwt = session.with_jwt().await;
    refused(jwt.exchange().await, Code::InvalidArgument, "SUBJECT_NOT_EXCHANGEABLE");
    // A narrowed JWT is no more than it carries.
    let request = pb::ExchangeTokenRequest {
        subject_token: Some(session.token().into()),
        scopes: vec!["tokens.write".into()],
        ..Default::default()
    };
    let narrow = session.tokens().exchange_token(request).await.unwrap().into_inner().access_token;
    let narrow = server.client(narrow);
    let made = narrow.tokens().create_token(token_for("", "")).await;
    refused(made, Code::PermissionDenied, "TARGET_EXCEEDS_CALLER");
    let change =
        pb::ChangePasswordRequest { current_password: PASSWORD.into(), new_password: PASSWORD.into() };
    let changed = narrow.accounts().change_password(change).await;
    refused(changed, Code::PermissionDenied, "PERMISSION_MISSING");
}

#[tokio::test]
async fn an_administrator_who_signed_in_acts_as_a_service_account() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.person(&org.id, ANN, &[("owner", "*")]).await;
    let bot = server.technical(&org.id, "bot", &[("x.y", "*")]).await;
    let session = server.session(ANN).await;
    let impersonated = session.impersonating(&bot.id).await;
    let me = impersonated.caller().await.unwrap();
    assert_eq!((me.account.unwrap().id, me.permissions), (bot.id.clone(), vec!["x.y".to_owned()]));
    assert_eq!(me.credential_id, session.caller().await.unwrap().credential_id);
    // The account cannot revoke the session, nor change the administrator's password.
    let out = impersonated.tokens().logout(pb::LogoutRequest {}).await;
    refused(out, Code::PermissionDenied, "PERMISSION_MISSING");
    let change =
        pb::ChangePasswordRequest { current_password: PASSWORD.into(), new_password: PASSWORD.into() };
    let changed = impersonated.accounts().change_password(change).await;
    refused(changed, Code::PermissionDenied, "PERMISSION_MISSING");
    // A key of the account, created in its place.
    let made = impersonated.tokens().create_token(token_for("", "")).await.unwrap().into_inner();
    server.client(made.secret).exchange().await.unwrap();
    session.tokens().logout(pb::LogoutRequest {}).await.unwrap();
    refused(impersonated.caller().await, Code::Unauthenticated, "TOKEN_REVOKED");

    // A guest, too, where it was granted.
    let host = server.org().await;
    let (target, _) = server.account(&host.id, "target", &[("x.y", "*")]).await;
    let (_, guest) = guest(&server, &host, &[("accounts.impersonate", "*"), ("x.y", "*")]).await;
    let request = pb::ImpersonateAccountRequest {
        org_id: host.id.clone(),
        account_id: target.id.clone(),
        reason: "to look".into(),
        ..Default::default()
    };
    let answer = guest.tokens().impersonate_account(request).await.unwrap().into_inner();
    let there = server.client(answer.access_token);
    assert_eq!(there.caller().await.unwrap().account.unwrap().id, target.id);
}

#[tokio::test]
async fn what_the_policy_says_of_access_tokens_holds_for_sessions_where_they_act() {
    let server = TestServer::start().await;
    let host = server.org().await;
    let (_, session) = guest(&server, &host, &[("x.y", "*")]).await;
    let policy = pb::TokenPolicy {
        access_token_lifetime: Some(prost_types::Duration { seconds: 90, nanos: 0 }),
        allowed_audiences: vec!["https://billing.example".into()],
        ..Default::default()
    };
    let request =
        pb::UpdateTokenPolicyRequest { org_id: host.id.clone(), policy: Some(policy), ..Default::default() };
    host.owner.orgs().update_token_policy(request).await.unwrap();
    let exchange = async |org_id: &str, audience: &str| {
        let request = pb::ExchangeTokenRequest {
            subject_token: Some(session.token().into()),
            org_id: org_id.into(),
            audiences: vec![audience.into()],
            ..Default::default()
        };
        let answer = session.tokens().exchange_token(request).await?.into_inner();
        let claims = claims(&answer.access_token);
        Ok::<_, Status>(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap())
    };
    assert_eq!(exchange(&host.id, "https://billing.example").await.unwrap(), 90);
    let other = exchange(&host.id, "https://other.example").await;
    refused(other, Code::InvalidArgument, "INVALID_TARGET");
    assert_eq!(exchange("", "https://other.example").await.unwrap(), 300);
}

#[tokio::test]
async fn a_session_that_leaked_is_ended_with_what_it_made() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let bot = server.technical(&org.id, "bot", &[]).await;
    let session = server.session(&bot.username).await;
    let made = session.tokens().create_token(token_for("", "")).await.unwrap().into_inner();
    let report = pb::ReportLeakedTokenRequest { token_texts: vec![session.token().into(), "junk".into()] };
    server.anonymous().tokens().report_leaked_token(report.clone()).await.unwrap();
    refused(session.caller().await, Code::Unauthenticated, "TOKEN_REVOKED");
    refused(server.client(made.secret).caller().await, Code::Unauthenticated, "TOKEN_REVOKED");
    server.anonymous().tokens().report_leaked_token(report).await.unwrap();
}

#[tokio::test]
async fn sessions_are_swept_and_go_with_their_account() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let bot = server.technical(&org.id, "bot", &[]).await;
    server.session(&bot.username).await;
    let db = &server.state.db;
    let rows = async || {
        let sql = "select (select count(*) from sessions), (select count(*) from passwords),
                          (select count(*) from credentials c where not exists (
                               select 1 from tokens t where t.token_id = c.credential_id))";
        sqlx::query_as::<_, (i64, i64, i64)>(sql).fetch_one(db).await.unwrap()
    };
    assert_eq!(rows().await, (1, 1, 1));
    let day = time::Duration::days(1);
    let now = server.state.clock.now();
    countersign::db::sweep::sweep(db, now + day).await.unwrap();
    assert_eq!(rows().await, (1, 1, 1), "its holder is told that it has expired");
    countersign::db::sweep::sweep(db, now + day + time::Duration::HOUR).await.unwrap();
    assert_eq!(rows().await, (0, 1, 0));
    server.session(&bot.username).await;
    let request = pb::DeleteAccountRequest { account_id: bot.id, ..Default::default() };
    org.owner.accounts().delete_account(request).await.unwrap();
    server.state.clock.advance(Duration::from_secs(31 * 86_400));
    assert_eq!(countersign::jobs::purge(&server.state).await.unwrap(), 1);
    assert_eq!(rows().await, (0, 0, 0));
    assert!(OrgId::parse(&org.id).is_ok());
}
