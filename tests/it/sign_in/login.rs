//! Passwords: who may sign in, what the answers reveal, and what a technical user does with one.

use std::time::Duration;

use countersign::config::{PasswordHashing, ServerLimits};
use countersign::crypto::password_hash::PasswordRecord;
use countersign::crypto::password_places::Asker;
use countersign::db;
use countersign::domain::values::client_address::ClientAddress;
use countersign::domain::values::ids::{AccountId, OrgId};
use countersign::grpc::pb;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::harness::{
    Client, LIMITS, Org, PASSWORD, TestServer, claims, hides_secrets, reason, refused, token_for, until,
    violated,
};
use crate::orgs::audit_log::{became, list};

const WRONG: &str = "a password that is wrong";

async fn set_password(client: &Client, account: &pb::Account, password: &str) -> Result<(), Status> {
    let request = pb::SetPasswordRequest {
        org_id: account.org_id.clone(),
        account_id: account.id.clone(),
        password: password.into(),
    };
    client.accounts().set_password(request).await.map(drop)
}

async fn change_password(client: &Client, current: &str, new: &str) -> Result<(), Status> {
    let request = pb::ChangePasswordRequest { current_password: current.into(), new_password: new.into() };
    client.accounts().change_password(request).await.map(drop)
}

async fn get(client: &Client, account: &pb::Account) -> pb::Account {
    let request = pb::GetAccountRequest { org_id: account.org_id.clone(), account_id: account.id.clone() };
    client.accounts().get_account(request).await.unwrap().into_inner().account.unwrap()
}

#[tokio::test]
async fn a_technical_user_trades_a_password_for_a_token() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let bot = server.technical(&org.id, "report-job", &[("invoices.read", "*")]).await;
    assert!(bot.login_enabled && bot.state() == pb::AccountState::Active);
    let answer = server.login(&bot.username, PASSWORD, None).await.unwrap();
    assert_eq!(answer.account.as_ref().unwrap().id, bot.id);
    assert_eq!(answer.orgs.len(), 1);
    assert_eq!(
        (answer.orgs[0].org_id.as_str(), answer.orgs[0].display_name.as_str()),
        (&*org.id, &*org.slug)
    );
    let session = server.client(&answer.session_token);
    let me = session.caller().await.unwrap();
    assert!(me.credential_id.starts_with("ses_") && me.permissions == ["invoices.read"]);
    let jwt = claims(&answer.access_token);
    assert_eq!(
        (&jwt["client_id"], &jwt["token_kind"]),
        (&me.credential_id.as_str().into(), &"SESSION".into())
    );
    assert_eq!((jwt["org"].as_str(), jwt["sub"].as_str()), (Some(org.id.as_str()), Some(bot.id.as_str())));
    let by_jwt = server.client(&answer.access_token);
    assert_eq!(by_jwt.caller().await.unwrap().credential_id, me.credential_id);

    // The session string creates a token only for the account itself; its JWT none.
    let request = pb::CreateTokenRequest {
        expiration: Some(pb::create_token_request::Expiration::Ttl(prost_types::Duration {
            seconds: 86_400,
            nanos: 0,
        })),
        ..Default::default()
    };
    refused(
        by_jwt.tokens().create_token(request.clone()).await,
        Code::PermissionDenied,
        "PERMISSION_MISSING",
    );
    let other = token_for(&org.id, &org.owner_id);
    refused(session.tokens().create_token(other).await, Code::PermissionDenied, "PERMISSION_MISSING");
    let managing = pb::CreateTokenRequest { may_manage_tokens: true, ..request.clone() };
    refused(session.tokens().create_token(managing).await, Code::PermissionDenied, "TARGET_EXCEEDS_CALLER");
    let made = session.tokens().create_token(request.clone()).await.unwrap().into_inner();
    let token = server.client(&made.secret);
    assert_eq!(token.caller().await.unwrap().permissions, ["invoices.read"]);
    refused(token.tokens().create_token(request.clone()).await, Code::PermissionDenied, "PERMISSION_MISSING");

    // The session is over soon; the token goes on until it expires, and then it is a login again.
    server.state.clock.advance(Duration::from_secs(15 * 60));
    refused(session.caller().await, Code::Unauthenticated, "TOKEN_EXPIRED");
    refused(session.exchange().await, Code::Unauthenticated, "TOKEN_EXPIRED");
    token.exchange().await.unwrap();
    server.state.clock.advance(Duration::from_secs(86_400));
    refused(token.exchange().await, Code::Unauthenticated, "TOKEN_EXPIRED");
    let session = server.session(&bot.username).await;
    session.tokens().create_token(request).await.unwrap();
}

#[tokio::test]
async fn whoever_manages_tokens_does_so_with_a_session_too() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.person(&org.id, "ann@example.org", &[("manager", "*")]).await;
    let (bot, _) = server.account(&org.id, "bot", &[]).await;
    let session = server.session("ann@example.org").await;
    let request = pb::CreateTokenRequest { may_manage_tokens: true, ..token_for("", &bot.id) };
    let made = session.tokens().create_token(request).await.unwrap().into_inner();
    // No token can create one that outlasts it; a person's session expires sooner than any.
    let left =
        made.token.as_ref().unwrap().expire_time.unwrap().seconds - server.state.clock.now().unix_timestamp();
    assert!(left > 300 * 86_400, "{left}");
    session.with_jwt().await.tokens().create_token(token_for("", &bot.id)).await.unwrap();
    // Not for oneself: people have no tokens.
    let own = session.tokens().create_token(token_for("", "")).await;
    refused(own, Code::InvalidArgument, "TARGET_NOT_SERVICE_ACCOUNT");
    // What the session created is revoked when its string is reported as leaked.
    let by_text = |text: &str| pb::RevokeTokenRequest {
        reason: pb::RevokeReason::KeyCompromise.into(),
        ..crate::harness::by_text(text)
    };
    server.anonymous().tokens().revoke_token(by_text(session.token())).await.unwrap();
    refused(session.caller().await, Code::Unauthenticated, "TOKEN_REVOKED");
    refused(server.client(made.secret).caller().await, Code::Unauthenticated, "TOKEN_REVOKED");
}

#[tokio::test]
async fn whatever_is_wrong_is_one_answer() {
    let server = TestServer::start().await;
    let (org, other, suspended) = (server.org().await, server.org().await, server.org().await);
    let good = server.technical(&org.id, "good", &[]).await;
    let (no_login, _) = server.account(&org.id, "no-login", &[]).await;
    let gone = server.technical(&org.id, "gone", &[]).await;
    let stopped = server.technical(&org.id, "stopped", &[]).await;
    let deleted = server.technical(&org.id, "deleted", &[]).await;
    let inside = server.technical(&suspended.id, "inside", &[]).await;
    let person = server.person(&org.id, "ann@example.org", &[]).await;
    let invited = pb::CreateUserRequest {
        org_id: org.id.clone(),
        email: "invited@example.org".into(),
        ..Default::default()
    };
    server.operator.accounts().create_user(invited).await.unwrap();
    let request = pb::DeactivateAccountRequest { account_id: stopped.id.clone(), ..Default::default() };
    org.owner.accounts().deactivate_account(request).await.unwrap();
    let request = pb::DeleteAccountRequest { account_id: deleted.id.clone(), ..Default::default() };
    org.owner.accounts().delete_account(request).await.unwrap();
    let request = pb::SuspendOrgRequest { org_id: suspended.id.clone(), ..Default::default() };
    server.operator.orgs().suspend_org(request).await.unwrap();
    let request = pb::ConvertAccountRequest {
        org_id: org.id.clone(),
        account_id: gone.id.clone(),
        kind: pb::AccountKind::User.into(),
        reason: "a person".into(),
        identity: Some(pb::convert_account_request::Identity::Email("gone@example.org".into())),
    };
    server.operator.accounts().convert_account(request).await.unwrap();

    let cases = [
        ("unknown", "nobody@example.org", PASSWORD, String::new()),
        ("wrong", &good.username, WRONG, String::new()),
        ("too long", &good.username, &"x".repeat(10_000), String::new()),
        ("no login", &no_login.username, PASSWORD, String::new()),
        ("invited", "invited@example.org", PASSWORD, String::new()),
        ("converted", "gone@example.org", PASSWORD, String::new()),
        ("its old name", &gone.username, PASSWORD, String::new()),
        ("deactivated", &stopped.username, PASSWORD, String::new()),
        ("deleted", &deleted.username, PASSWORD, String::new()),
        ("suspended", &inside.username, PASSWORD, String::new()),
        ("wrong org", &good.username, PASSWORD, other.id.clone()),
        ("suspended org", &good.username, PASSWORD, suspended.id.clone()),
        ("no org", &person.username, PASSWORD, OrgId::from_u128(7).to_string()),
    ];
    let mut seen = Vec::new();
    for (name, username, password, org_id) in cases {
        let request = pb::LoginRequest { username: username.into(), password: password.into(), org_id };
        let mut request = Request::new(request);
        request.metadata_mut().insert("x-request-id", "same".parse().unwrap());
        let status = server.anonymous().tokens().login(request).await.expect_err(name);
        assert_eq!(
            (reason(&status).as_str(), status.code()),
            ("LOGIN_FAILED", Code::Unauthenticated),
            "{name}"
        );
        seen.push(format!("{} {:?}", status.message(), status.get_error_details()));
    }
    seen.dedup();
    assert_eq!(seen.len(), 1, "{seen:#?}");
    // Who is neither: in whatever case, in whatever form of the same characters.
    server.login(&good.username.to_uppercase(), PASSWORD, None).await.unwrap();
    server.login("Ann@Example.org", PASSWORD, None).await.unwrap();
}

#[tokio::test]
async fn what_is_no_login_is_told() {
    let server = TestServer::start().await;
    let cases = [
        (("", "", ""), vec!["username", "password"]),
        (("nobody", "x", "org_1"), vec!["username", "org_id"]),
        (("a@b@c", "", "acct_00000000000000000000000000"), vec!["username", "password", "org_id"]),
    ];
    for ((username, password, org_id), fields) in cases {
        let request =
            pb::LoginRequest { username: username.into(), password: password.into(), org_id: org_id.into() };
        let status = refused(server.login_with(request, None).await, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&status), fields);
    }
}

#[tokio::test]
async fn passwords_that_may_not_be_set() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let bot = server.technical(&org.id, "bot", &[]).await;
    let session = server.session(&bot.username).await;
    for bad in ["", "elevenchars", "password1234", "with a\tcontrol", &"x".repeat(129), &"x".repeat(100_000)]
    {
        let status =
            refused(set_password(&org.owner, &bot, bad).await, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&status), ["password"], "{bad:.20?}");
        let status =
            refused(change_password(&session, PASSWORD, bad).await, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&status), ["new_password"], "{bad:.20?}");
        if !bad.is_empty() {
            let request = pb::CreateServiceAccountRequest {
                name: "another".into(),
                password: bad.into(),
                ..Default::default()
            };
            let made = org.owner.accounts().create_service_account(request).await;
            assert_eq!(violated(&refused(made, Code::InvalidArgument, "INVALID_FIELD")), ["password"]);
        }
    }
    let status = refused(change_password(&session, "", "").await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&status), ["current_password", "new_password"]);
    let nobody = pb::Account { id: "acct_1".into(), ..bot.clone() };
    let status = refused(set_password(&org.owner, &nobody, "").await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&status), ["account_id", "password"]);
    let nobody = pb::Account { id: AccountId::from_u128(7).to_string(), ..bot.clone() };
    refused(set_password(&org.owner, &nobody, PASSWORD).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    let person = server.person(&org.id, "ann@example.org", &[]).await;
    let refusal = set_password(&org.owner, &person, PASSWORD).await;
    refused(refusal, Code::InvalidArgument, "TARGET_NOT_SERVICE_ACCOUNT");
    server.login(&bot.username, PASSWORD, None).await.expect("it is as it was");
}

#[tokio::test]
async fn a_password_is_set_by_whoever_covers_the_account() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (bot, _) = server.account(&org.id, "bot", &[("owner", "*")]).await;
    let (_, manager) = server.account(&org.id, "manager", &[("manager", "*")]).await;
    refused(set_password(&manager, &bot, PASSWORD).await, Code::PermissionDenied, "TARGET_EXCEEDS_CALLER");
    let before = get(&org.owner, &bot).await;
    set_password(&org.owner, &bot, PASSWORD).await.unwrap();
    let after = get(&org.owner, &bot).await;
    assert!(!before.login_enabled && after.login_enabled && before.etag != after.etag);
    let session = server.session(&bot.username).await;
    set_password(&org.owner, &bot, "another password").await.unwrap();
    refused(session.caller().await, Code::Unauthenticated, "TOKEN_REVOKED");
    refused(server.login(&bot.username, PASSWORD, None).await, Code::Unauthenticated, "LOGIN_FAILED");
    server.login(&bot.username, "another password", None).await.unwrap();
    // A clone has none.
    let request = pb::CloneAccountRequest { account_id: bot.id, name: "clone".into(), ..Default::default() };
    let clone = org.owner.accounts().clone_account(request).await.unwrap().into_inner().account.unwrap();
    assert!(!clone.login_enabled);
    refused(server.login(&clone.username, PASSWORD, None).await, Code::Unauthenticated, "LOGIN_FAILED");
}

#[tokio::test]
async fn a_password_that_is_changed_ends_the_other_sessions() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.person(&org.id, "ann@example.org", &[]).await;
    let (own, other) = (server.session("ann@example.org").await, server.session("ann@example.org").await);
    let (own_jwt, other_jwt) = (own.with_jwt().await, other.with_jwt().await);
    refused(change_password(&own, WRONG, "another password").await, Code::Unauthenticated, "LOGIN_FAILED");
    change_password(&own, PASSWORD, "another password").await.unwrap();
    for gone in [&other, &other_jwt] {
        refused(gone.caller().await, Code::Unauthenticated, "TOKEN_REVOKED");
    }
    own.caller().await.unwrap();
    own_jwt.caller().await.unwrap();
    refused(server.login("ann@example.org", PASSWORD, None).await, Code::Unauthenticated, "LOGIN_FAILED");
    server.login("ann@example.org", "another password", None).await.unwrap();
    // By a JWT of the session, too; one that carries less does not.
    change_password(&own_jwt, "another password", "a third password").await.unwrap();
    own.caller().await.unwrap();
    let (_, bot) = server.account(&org.id, "bot", &[]).await;
    refused(change_password(&bot, PASSWORD, PASSWORD).await, Code::Unauthenticated, "LOGIN_FAILED");
}

#[tokio::test]
async fn events_say_who_signed_in_and_no_secret() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let ann = server.person(&org.id, "ann@example.org", &[]).await;
    let session = server.session("ann@example.org").await;
    let session_id = session.caller().await.unwrap().credential_id;
    change_password(&session, PASSWORD, "another password").await.unwrap();
    session.tokens().logout(pb::LogoutRequest {}).await.unwrap();
    session.tokens().logout(pb::LogoutRequest {}).await.expect_err("it has ended");
    let events =
        list(&org.owner, pb::ListEventsRequest { resource_id: ann.id.clone(), ..Default::default() })
            .await
            .unwrap();
    let kinds: Vec<&str> = events.iter().map(|event| event.r#type.as_str()).collect();
    assert_eq!(kinds, ["account.password_changed", "session.created", "account.created"]);
    assert!(events[0].actor_id == ann.id && events[1].actor_id == ann.id);
    assert_eq!(events[1].resource_ids, [session_id.clone(), ann.id.clone()]);
    assert_eq!(became(&events[1], "account_id").as_deref(), Some(ann.id.as_str()));
    let events = list(&org.owner, pb::ListEventsRequest { resource_id: session_id, ..Default::default() })
        .await
        .unwrap();
    let kinds: Vec<&str> = events.iter().map(|event| event.r#type.as_str()).collect();
    assert_eq!(kinds, ["session.ended", "session.created"]);
    hides_secrets(&format!("{events:?}"));
}

#[tokio::test]
async fn a_replay_of_a_create_keeps_nothing_to_guess_against() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let request = pb::CreateServiceAccountRequest {
        name: "bot".into(),
        password: PASSWORD.into(),
        request_id: "018f4b6e-0000-7000-8000-000000000001".into(),
        ..Default::default()
    };
    let create = async |request: &pb::CreateServiceAccountRequest| {
        org.owner.accounts().create_service_account(request.clone()).await
    };
    let made = create(&request).await.unwrap().into_inner();
    assert_eq!(create(&request).await.unwrap().into_inner(), made);
    let other = pb::CreateServiceAccountRequest { password: WRONG.into(), ..request.clone() };
    refused(create(&other).await, Code::InvalidArgument, "REQUEST_ID_REUSED");
    let kept: String = sqlx::query_scalar("select string_agg(r::text, ' ') from requests r")
        .fetch_one(&server.state.db)
        .await
        .unwrap();
    let body = pb::CreateServiceAccountRequest { request_id: String::new(), ..request };
    let hash = aws_lc_rs_sha256(&prost::Message::encode_to_vec(&body));
    assert!(!kept.contains(PASSWORD) && !kept.contains(&hash), "{kept}");
}

fn aws_lc_rs_sha256(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn what_somebody_writes_into_the_database_signs_nobody_in() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (target, own) = (
        server.technical(&org.id, "target", &[("owner", "*")]).await,
        server.technical(&org.id, "own", &[]).await,
    );
    set_password(&org.owner, &target, "what nobody knows").await.unwrap();
    let db = &server.state.db;
    let plant = async |sealed: &[u8]| {
        let query = sqlx::query("update passwords set sealed = $2 where account_id = $1");
        let id = AccountId::parse(&target.id).unwrap().uuid();
        query.bind(id).bind(sealed).execute(db).await.unwrap();
    };
    // The attacker's own record moved, a hash that was not sealed, one sealed with another master key.
    let id = AccountId::parse(&own.id).unwrap();
    let moved = db::sign_in::passwords::find(db, OrgId::parse(&org.id).unwrap(), id).await.unwrap().unwrap();
    let stranger = TestServer::start().await;
    let theirs = {
        let owner = (OrgId::parse(&org.id).unwrap(), AccountId::parse(&target.id).unwrap());
        let password = countersign::domain::sign_in::password::Password::parse(PASSWORD).unwrap();
        stranger.state.passwords.hash(owner, &password).await.unwrap()
    };
    let plain = PasswordRecord::from_sealed(b"$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g".to_vec());
    for record in [&moved, &theirs, &plain] {
        plant(record.sealed()).await;
        refused(server.login(&target.username, PASSWORD, None).await, Code::Unauthenticated, "LOGIN_FAILED");
    }
    server.login(&own.username, PASSWORD, None).await.unwrap();
}

#[tokio::test]
async fn a_password_is_hashed_anew_when_the_parameters_rose() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let bot = server.technical(&org.id, "bot", &[]).await;
    let owner = (OrgId::parse(&org.id).unwrap(), AccountId::parse(&bot.id).unwrap());
    let record =
        async || db::sign_in::passwords::find(&server.state.db, owner.0, owner.1).await.unwrap().unwrap();
    let before = record().await;
    server.login(&bot.username, PASSWORD, None).await.unwrap();
    assert_eq!(record().await, before);
    let passwords = PasswordHashing { hash_memory_kib: 128, ..LIMITS.passwords };
    let stronger = server.beside(ServerLimits { passwords, ..LIMITS }).await;
    refused(stronger.login(&bot.username, WRONG, None).await, Code::Unauthenticated, "LOGIN_FAILED");
    assert_eq!(record().await, before);
    let session = stronger.session(&bot.username).await;
    let after = record().await;
    assert_ne!(after, before);
    session.caller().await.expect("no password was set: sessions go on");
    stronger.login(&bot.username, PASSWORD, None).await.unwrap();
    server.login(&bot.username, PASSWORD, None).await.unwrap();
    assert_eq!(record().await, after);
}

/// A login for which no place comes is refused at once, and no other call waits for it.
#[tokio::test]
async fn a_full_pool_sheds_logins_while_exchanges_go_on() {
    let server = TestServer::start().await;
    let org: Org = server.org().await;
    let bot = server.technical(&org.id, "bot", &[]).await;
    let (_, client) = server.account(&org.id, "client", &[]).await;
    client.exchange().await.unwrap();
    let places = server.state.passwords.places.clone();
    let stranger = Asker::Stranger(ClientAddress::UNKNOWN);
    let held = places.take(stranger, places.all()).await.unwrap();
    let waiting: Vec<_> = (0..16)
        .map(|_| {
            let (anonymous, username) = (server.anonymous(), bot.username.clone());
            let request = pb::LoginRequest { username, password: PASSWORD.into(), ..Default::default() };
            tokio::spawn(async move { anonymous.tokens().login(request).await.map(drop) })
        })
        .collect();
    // Each has counted as a failure until its password is compared, and five are as many as may.
    until(async || places.waiting() == 5).await;
    let more: Vec<_> = (0..11)
        .map(|_| {
            let places = places.clone();
            tokio::spawn(async move { places.take(stranger, 1).await.map(drop) })
        })
        .collect();
    until(async || places.waiting() == 16).await;
    let shed = server.login("nobody@example.org", PASSWORD, None).await;
    let status = refused(shed, Code::ResourceExhausted, "OVERLOADED");
    assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(Duration::from_secs(1)));
    for _ in 0..20 {
        client.exchange().await.unwrap();
    }
    // A call that was shed counts as no failure.
    let buckets: i64 =
        sqlx::query_scalar("select count(*) from login_buckets").fetch_one(&server.state.db).await.unwrap();
    assert_eq!(buckets, 1);
    drop(held);
    for taken in more {
        taken.await.unwrap().unwrap();
    }
    let mut signed_in = 0;
    for login in waiting {
        signed_in += usize::from(login.await.unwrap().is_ok());
    }
    assert_eq!(signed_in, 5);
}
