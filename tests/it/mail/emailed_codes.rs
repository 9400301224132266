//! Emailed codes: the owner of the mailbox sets the password, once, in time, and
//! no one else does.

use std::time::Duration;

use countersign::clock::random;
use countersign::commands::keys;
use countersign::config::ServerLimits;
use countersign::domain::values::ids::{AccountId, TokenId};
use countersign::domain::values::token_string::{TokenString, TokenStringKind};
use countersign::flows::signing_key_rotation;
use countersign::grpc::pb;
use pb::AccountState::{Active, Deactivated, Invited};
use tokio::task::JoinSet;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::{
    LIMITS, Org, SmtpServer, TestServer, by_text, read_keys, reason, refused, until, violated, watch,
};

const HOUR: Duration = Duration::from_secs(3_600);
/// A duration that no test reaches, so that real time moves nothing across a limit.
const MARGIN: Duration = Duration::from_secs(300);
const PASSWORD: &str = "correct horse battery";

async fn reset(server: &TestServer, code: &str, new_password: &str) -> Result<(), Status> {
    let request = pb::ResetPasswordRequest { code: code.into(), new_password: new_password.into() };
    server.anonymous().accounts().reset_password(request).await.map(|_| ())
}

async fn ask(server: &TestServer, email: &str) -> Result<(), Status> {
    let request = pb::RequestPasswordResetRequest { email: email.into() };
    server.anonymous().accounts().request_password_reset(request).await.map(|_| ())
}

/// Asks, and waits until a node has processed the request.
async fn ask_and_wait(server: &TestServer, email: &str) {
    ask(server, email).await.unwrap();
    until(async || {
        let query = "select count(*) from reset_requests";
        sqlx::query_scalar::<_, i64>(query).fetch_one(&server.state.db).await.unwrap() == 0
    })
    .await;
}

async fn account(server: &TestServer, org: &Org, account_id: &str) -> pb::Account {
    let request = pb::GetAccountRequest { org_id: org.id.clone(), account_id: account_id.into() };
    server.operator.accounts().get_account(request).await.unwrap().into_inner().account.unwrap()
}

async fn mails(server: &TestServer, address: &str) -> Vec<String> {
    let query = "select template from outbox where recipient = $1 order by mail_id";
    sqlx::query_scalar(query).bind(address).fetch_all(&server.state.db).await.unwrap()
}

async fn events(server: &TestServer, account_id: &str) -> Vec<String> {
    let query = "select type from events where resource_ids @> array[$1] order by event_id";
    sqlx::query_scalar(query).bind(account_id).fetch_all(&server.state.db).await.unwrap()
}

#[tokio::test]
async fn a_created_user_sets_a_password_with_the_mail_and_is_active() {
    let smtp = SmtpServer::start().await;
    let server = TestServer::with_mail(&smtp, LIMITS).await;
    let org = server.org().await;
    let ana = server.user(&org, "ana@example.org").await;
    assert_eq!(ana.state(), Invited);
    let code = smtp.mail_to("ana@example.org").await.code();

    // A bad password does not use up the code.
    let status = refused(reset(&server, &code, "short").await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&status), ["new_password"]);
    assert!(!format!("{status:?}").contains("short"));
    for bad in ["", "passwordpassword", &"x".repeat(129), "twelve chars\u{7}"] {
        refused(reset(&server, &code, bad).await, Code::InvalidArgument, "INVALID_FIELD");
    }
    assert_eq!(account(&server, &org, &ana.id).await.state(), Invited);
    reset(&server, &code, PASSWORD).await.unwrap();
    let active = account(&server, &org, &ana.id).await;
    assert_eq!((active.state(), active.login_enabled), (Active, true));
    assert_eq!(events(&server, &ana.id).await, ["account.created", "account.password_set"]);
    // Once.
    let status = refused(reset(&server, &code, PASSWORD).await, Code::Unauthenticated, "TOKEN_REVOKED");
    assert!(status.message().contains("used"), "{status:?}");

    // Forgotten.
    ask_and_wait(&server, "Ana@Example.ORG").await;
    let mail = smtp.mails_to("ana@example.org", 2).await.pop().unwrap();
    assert!(mail.header("Subject").starts_with("Choose a new password"));
    reset(&server, &mail.code(), "another horse battery").await.unwrap();
    let told = events(&server, &ana.id).await;
    assert_eq!(told[2..], ["account.password_code_requested", "account.password_reset"]);
}

#[tokio::test]
async fn whoever_is_deactivated_stays_so_until_activation() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let request =
        pb::CreateUserRequest { email: "bea@example.org".into(), deactivated: true, ..Default::default() };
    let bea = org.owner.accounts().create_user(request).await.unwrap().into_inner().account.unwrap();
    reset(&server, &server.code_for("bea@example.org").await.unwrap(), PASSWORD).await.unwrap();
    assert_eq!(account(&server, &org, &bea.id).await.state(), Deactivated);
    ask_and_wait(&server, "bea@example.org").await;
    let code = server.code_for("bea@example.org").await.unwrap();
    reset(&server, &code, "another horse battery").await.unwrap();
    assert_eq!(account(&server, &org, &bea.id).await.state(), Deactivated);
    let activate = pb::ActivateAccountRequest { account_id: bea.id.clone(), ..Default::default() };
    let active = org.owner.accounts().activate_account(activate).await.unwrap().into_inner().account;
    assert_eq!(active.unwrap().state(), Active);
}

#[tokio::test]
async fn a_code_that_is_cut_changed_guessed_or_something_else_is_none() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.user(&org, "ana@example.org").await;
    let code = server.code_for("ana@example.org").await.unwrap();
    let id = TokenString::parse(&code).unwrap().id();
    let made = |kind, id| {
        let text = TokenString::new(kind, id, random()).expose().to_owned();
        watch(&text);
        text
    };
    let guesses = [
        String::new(),
        "rubbish".into(),
        code[..82].into(),
        code[1..].into(),
        format!("{code}0"),
        format!(" {code}"),
        format!("{code}\n"),
        code.to_uppercase(),
        code.replacen("_rst_", "_inv_", 1),
        // Its id is in its link; its secret is what counts.
        made(TokenStringKind::PasswordCode, id),
        made(TokenStringKind::Invitation, id),
        made(TokenStringKind::PasswordCode, server.state.clock.new_id::<TokenId>()),
        org.owner.token().to_owned(),
        org.owner.exchange().await.unwrap().access_token,
        "x".repeat(1 << 19),
    ];
    for guess in &guesses {
        // The same for a bad password: the answer does not reveal whether the code was right.
        for password in [PASSWORD, "short"] {
            refused(reset(&server, guess, password).await, Code::Unauthenticated, "TOKEN_INVALID");
        }
    }
    // A code is no credential.
    let bearer = server.client(code.clone());
    refused(bearer.caller().await, Code::Unauthenticated, "TOKEN_INVALID");
    refused(bearer.exchange().await, Code::Unauthenticated, "TOKEN_INVALID");
    reset(&server, &code, PASSWORD).await.unwrap();
}

#[tokio::test]
async fn guessing_is_throttled_before_it_costs_a_query() {
    let server = TestServer::start().await;
    let new_guess = || {
        let id = server.state.clock.new_id::<TokenId>();
        TokenString::new(TokenStringKind::PasswordCode, id, random()).expose().to_owned()
    };
    refused(reset(&server, &new_guess(), PASSWORD).await, Code::Unauthenticated, "TOKEN_INVALID");
    // At once, and again where that took longer than failures count.
    until(async || {
        let mut guesses = JoinSet::new();
        for _ in 0..120 {
            let (client, code) = (server.anonymous(), new_guess());
            let request = pb::ResetPasswordRequest { code, new_password: PASSWORD.into() };
            guesses.spawn(async move { client.accounts().reset_password(request).await.unwrap_err() });
        }
        guesses.join_all().await.iter().any(|status| reason(status) == "THROTTLED")
    })
    .await;
}

#[tokio::test]
async fn a_code_ends() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let code = async |email: &str| server.code_for(email).await.unwrap();
    // By its time: a week for the first password, an hour for another.
    for (n, (age, good)) in [(HOUR * 24 * 7 - MARGIN, true), (HOUR * 24 * 7, false)].into_iter().enumerate() {
        let email = format!("first-{n}@example.org");
        server.user(&org, &email).await;
        let code = code(&email).await;
        server.state.clock.advance(age);
        let outcome = reset(&server, &code, PASSWORD).await;
        if good { outcome.unwrap() } else { drop(refused(outcome, Code::Unauthenticated, "TOKEN_EXPIRED")) }
    }
    let first = "first-0@example.org";
    for (age, good) in [(HOUR - MARGIN, true), (HOUR, false)] {
        ask_and_wait(&server, first).await;
        let code = code(first).await;
        server.state.clock.advance(age);
        let outcome = reset(&server, &code, PASSWORD).await;
        if good { outcome.unwrap() } else { drop(refused(outcome, Code::Unauthenticated, "TOKEN_EXPIRED")) }
    }
    // By a newer one.
    server.state.clock.advance(HOUR);
    let org = Org { owner: server.client(server.managing_token_of(&org).await), ..org };
    server.user(&org, "resent@example.org").await;
    let old = code("resent@example.org").await;
    ask_and_wait(&server, "resent@example.org").await;
    assert_eq!(mails(&server, "resent@example.org").await, ["SET_PASSWORD"], "the old mail is taken back");
    refused(reset(&server, &old, PASSWORD).await, Code::Unauthenticated, "TOKEN_REVOKED");
    // By a caller that has it, without revealing whether it was one.
    let new = code("resent@example.org").await;
    let revoke = async |text: &str| server.anonymous().tokens().revoke_token(by_text(text)).await.unwrap();
    for _ in 0..2 {
        assert_eq!(revoke(&new).await.into_inner(), pb::RevokeTokenResponse::default());
    }
    refused(reset(&server, &new, PASSWORD).await, Code::Unauthenticated, "TOKEN_REVOKED");
    assert!(mails(&server, "resent@example.org").await.is_empty(), "nobody is sent a dead link");
    let unknown =
        TokenString::new(TokenStringKind::PasswordCode, server.state.clock.new_id::<TokenId>(), random());
    revoke(unknown.expose()).await;
    // By another password, which shows that the owner has the account.
    ask_and_wait(&server, first).await;
    let asked = code(first).await;
    let session = server.client(server.login(first, PASSWORD, None).await.unwrap().session_token);
    let change = pb::ChangePasswordRequest {
        current_password: PASSWORD.into(),
        new_password: format!("{PASSWORD} changed"),
    };
    session.accounts().change_password(change).await.unwrap();
    refused(reset(&server, &asked, PASSWORD).await, Code::Unauthenticated, "TOKEN_REVOKED");
    // By a caller that finds it.
    server.user(&org, "found@example.org").await;
    let found = code("found@example.org").await;
    let report = pb::ReportLeakedTokenRequest { token_texts: vec![found.clone(), found.clone()] };
    server.anonymous().tokens().report_leaked_token(report).await.unwrap();
    refused(reset(&server, &found, PASSWORD).await, Code::Unauthenticated, "TOKEN_REVOKED");
    let query = "select count(*) from events where type = 'account.password_code_revoked'";
    assert_eq!(sqlx::query_scalar::<_, i64>(query).fetch_one(&server.state.db).await.unwrap(), 2);
}

#[tokio::test]
async fn of_many_that_use_a_code_at_once_one_does() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.user(&org, "ana@example.org").await;
    let code = server.code_for("ana@example.org").await.unwrap();
    let (a, b) = (format!("{PASSWORD} a"), format!("{PASSWORD} b"));
    let (first, second) = tokio::join!(reset(&server, &code, &a), reset(&server, &code, &b));
    let won = [&first, &second].iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(won, 1, "{first:?} {second:?}");
    let lost = first.err().or(second.err()).unwrap();
    assert_eq!(reason(&lost), "TOKEN_REVOKED");
}

#[tokio::test]
async fn asking_tells_nothing_and_mails_only_who_may_have_it() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let closed = server.org().await;
    server.user(&org, "ana@example.org").await;
    let gone = server.user(&org, "gone@example.org").await;
    server.user(&closed, "closed@example.org").await;
    let delete = pb::DeleteAccountRequest { account_id: gone.id, ..Default::default() };
    org.owner.accounts().delete_account(delete).await.unwrap();
    let suspend = pb::SuspendOrgRequest { org_id: closed.id.clone(), ..Default::default() };
    server.operator.orgs().suspend_org(suspend).await.unwrap();
    let request = pb::CreateServiceAccountRequest {
        name: "technical".into(),
        password: PASSWORD.into(),
        contact_email: "list@example.org".into(),
        ..Default::default()
    };
    let technical = org.owner.accounts().create_service_account(request).await.unwrap().into_inner();
    let technical = technical.account.unwrap().username;
    let operator = server.operator.caller().await.unwrap().account.unwrap().username;
    sqlx::query("delete from outbox").execute(&server.state.db).await.unwrap();

    let all = [
        "ana@example.org",
        "gone@example.org",
        "closed@example.org",
        "nobody@example.org",
        "list@example.org",
    ];
    for email in all.into_iter().chain([technical.as_str(), operator.as_str()]) {
        ask_and_wait(&server, email).await;
    }
    let sent: Vec<String> =
        sqlx::query_scalar("select recipient from outbox").fetch_all(&server.state.db).await.unwrap();
    assert_eq!(sent, ["ana@example.org"]);
    for bad in ["", "nobody", "a b@example.org", "a@example.org\r\nBcc: b@example.org", &"x".repeat(300)] {
        refused(ask(&server, bad).await, Code::InvalidArgument, "INVALID_FIELD");
    }
}

/// Otherwise the time that it takes would reveal whether an answer is sent, and that takes longer
/// where there is an account.
#[tokio::test]
async fn asking_waits_for_nobody_who_asks_for_the_same() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.user(&org, "ana@example.org").await;
    for name in ["ana@example.org", "nobody@example.org"] {
        let query = "insert into reset_requests (username, request_id, create_time) values ($1, 'r', now())";
        let mut open = server.state.db.begin().await.unwrap();
        sqlx::query(query).bind(name).execute(&mut *open).await.unwrap();
        ask_and_wait(&server, name).await;
        open.rollback().await.unwrap();
        // The same for one that gets an answer.
        sqlx::query(query).bind(name).execute(&server.state.db).await.unwrap();
        let mut open = server.state.db.begin().await.unwrap();
        let query = "delete from reset_requests where username = $1";
        sqlx::query(query).bind(name).execute(&mut *open).await.unwrap();
        ask(&server, name).await.unwrap();
        open.rollback().await.unwrap();
        ask_and_wait(&server, name).await;
    }
}

/// Also where there are as many of them as are read at once.
#[tokio::test]
async fn requests_that_cannot_be_processed_hold_up_no_other_one() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let stuck = server.user(&org, "stuck@example.org").await;
    let ana = server.user(&org, "ana@example.org").await;
    reset(&server, &server.code_for("ana@example.org").await.unwrap(), PASSWORD).await.unwrap();
    sqlx::raw_sql(
        "alter table accounts drop constraint accounts_kind, drop constraint accounts_name_by_kind",
    )
    .execute(&server.state.db)
    .await
    .unwrap();
    // An account that the server cannot read, under a hundred names.
    let account_id = AccountId::parse(&stuck.id).unwrap().uuid();
    let damage = sqlx::query("update accounts set kind = 'NEITHER' where account_id = $1").bind(account_id);
    damage.execute(&server.state.db).await.unwrap();
    let names = "insert into usernames (username, org_id, account_id)
                 select 'stuck-' || n || '@example.org', org_id, account_id
                 from usernames, generate_series(1, 100) n where account_id = $1";
    sqlx::query(names).bind(account_id).execute(&server.state.db).await.unwrap();
    let requests = "insert into reset_requests (username, request_id, create_time)
                    select username, 'r', now() - interval '1 minute' from usernames where username like 'stuck-%'";
    sqlx::query(requests).execute(&server.state.db).await.unwrap();
    ask(&server, "ana@example.org").await.unwrap();
    until(async || {
        events(&server, &ana.id).await.iter().any(|kind| kind == "account.password_code_requested")
    })
    .await;
    let stuck = "select count(*) from reset_requests where username like 'stuck-%'";
    assert_eq!(sqlx::query_scalar::<_, i64>(stuck).fetch_one(&server.state.db).await.unwrap(), 100);
}

#[tokio::test]
async fn a_mailbox_gets_three_in_an_hour() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let ana = server.user(&org, "ana@example.org").await;
    reset(&server, &server.code_for("ana@example.org").await.unwrap(), PASSWORD).await.unwrap();
    let asked = async || {
        let told = events(&server, &ana.id).await;
        told.iter().filter(|kind| *kind == "account.password_code_requested").count()
    };
    for n in 1..=5 {
        ask_and_wait(&server, "ana@example.org").await;
        assert_eq!(asked().await, n.min(3));
    }
    // The latest of them is good, and the refused ones have not revoked it.
    reset(&server, &server.code_for("ana@example.org").await.unwrap(), PASSWORD).await.unwrap();
    server.state.clock.advance(HOUR);
    ask_and_wait(&server, "ana@example.org").await;
    assert_eq!(asked().await, 4);
}

#[tokio::test]
async fn an_address_that_asks_without_end_waits() {
    let limits = || ServerLimits { trusted_proxies: vec!["127.0.0.1/32".parse().unwrap()], ..LIMITS };
    let a = TestServer::at_standing_time(limits()).await;
    let b = a.beside(limits()).await;
    let ask = async |server: &TestServer, n: u32, from: &str| {
        let request = pb::RequestPasswordResetRequest { email: format!("p{n}@example.org") };
        let mut request = tonic::Request::new(request);
        request.metadata_mut().insert("x-forwarded-for", from.parse().unwrap());
        server.anonymous().accounts().request_password_reset(request).await.map(|_| ())
    };
    let mut refusal = None;
    for n in 0..60 {
        let server = if n % 2 == 0 { &a } else { &b };
        match ask(server, n, &format!("2001:db8::{n:x}")).await {
            Ok(()) => assert!(n < 50, "{n}"),
            Err(status) => {
                assert!(n >= 50, "{n}");
                refusal.get_or_insert(status);
            }
        }
    }
    let refusal = refused::<()>(Err(refusal.unwrap()), Code::ResourceExhausted, "THROTTLED");
    assert!(refusal.get_details_retry_info().is_some());
    // Of clients that cannot be told apart, none waits for the others.
    for n in 0..60 {
        ask(&a, n, "127.0.0.1").await.unwrap();
    }
}

#[tokio::test]
async fn whoever_is_without_a_password_is_sent_a_link_and_an_old_one_dies() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let accounts = || server.operator.accounts();
    let org_id = || org.id.clone();
    let code = async |email: &str| server.code_for(email).await;

    // Once, however often the call is repeated.
    let request = pb::CreateUserRequest {
        org_id: org_id(),
        email: "once@example.org".into(),
        request_id: "0190f3c2-7b2a-7c3e-8d4f-5a6b7c8d9eaf".into(),
        ..Default::default()
    };
    let mut once = None;
    for _ in 0..2 {
        once = accounts().create_user(request.clone()).await.unwrap().into_inner().account;
    }
    let once = once.unwrap();
    assert_eq!(mails(&server, "once@example.org").await, ["SET_PASSWORD"]);

    // A clone of a user is a user; a preview sends no email.
    let clone = |validate_only| pb::CloneAccountRequest {
        org_id: org_id(),
        account_id: once.id.clone(),
        email: "clone@example.org".into(),
        validate_only,
        ..Default::default()
    };
    accounts().clone_account(clone(true)).await.unwrap();
    assert_eq!(code("clone@example.org").await, None);
    accounts().clone_account(clone(false)).await.unwrap();
    code("clone@example.org").await.unwrap();

    // The owner of a new org.
    let owner = pb::create_org_request::Owner::OwnerEmail("boss@example.org".into());
    let made = pb::CreateOrgRequest { owner: Some(owner), ..crate::harness::create_org("with-a-boss") };
    server.operator.orgs().create_org(made).await.unwrap();
    reset(&server, &code("boss@example.org").await.unwrap(), PASSWORD).await.unwrap();

    // Deleted, its link is revoked; undeleted, it gets another.
    let old = code("once@example.org").await.unwrap();
    let delete =
        pb::DeleteAccountRequest { org_id: org_id(), account_id: once.id.clone(), ..Default::default() };
    accounts().delete_account(delete).await.unwrap();
    assert_eq!(code("once@example.org").await, None);
    refused(reset(&server, &old, PASSWORD).await, Code::Unauthenticated, "TOKEN_REVOKED");
    let undelete = pb::UndeleteAccountRequest { org_id: org_id(), account_id: once.id.clone() };
    accounts().undelete_account(undelete).await.unwrap();

    // Another address: a code sent to the former one proves nothing any more.
    let former = code("once@example.org").await.unwrap();
    let moved =
        pb::Account { id: once.id.clone(), username: "moved@example.org".into(), ..Default::default() };
    let update = pb::UpdateAccountRequest { org_id: org_id(), account: Some(moved), update_mask: None };
    accounts().update_account(update).await.unwrap();
    refused(reset(&server, &former, PASSWORD).await, Code::Unauthenticated, "TOKEN_REVOKED");
    let code_now = code("moved@example.org").await.unwrap();

    // Converted: no data of the person is left, and a later person starts without any of it.
    let convert = |identity| pb::ConvertAccountRequest {
        org_id: org_id(),
        account_id: once.id.clone(),
        kind: match &identity {
            pb::convert_account_request::Identity::Name(_) => pb::AccountKind::ServiceAccount.into(),
            pb::convert_account_request::Identity::Email(_) => pb::AccountKind::User.into(),
        },
        reason: "a mistake".into(),
        identity: Some(identity),
    };
    let name = pb::convert_account_request::Identity::Name("bot".into());
    accounts().convert_account(convert(name)).await.unwrap();
    refused(reset(&server, &code_now, PASSWORD).await, Code::Unauthenticated, "TOKEN_REVOKED");
    let email = pb::convert_account_request::Identity::Email("again@example.org".into());
    accounts().convert_account(convert(email)).await.unwrap();
    reset(&server, &code("again@example.org").await.unwrap(), PASSWORD).await.unwrap();
    assert_eq!(account(&server, &org, &once.id).await.state(), Active);
}

#[tokio::test]
async fn an_org_that_is_stopped_sets_no_passwords() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.user(&org, "ana@example.org").await;
    let code = server.code_for("ana@example.org").await.unwrap();
    let suspend = pb::SuspendOrgRequest { org_id: org.id.clone(), ..Default::default() };
    server.operator.orgs().suspend_org(suspend).await.unwrap();
    refused(reset(&server, &code, PASSWORD).await, Code::Unauthenticated, "ORG_SUSPENDED");
    let resume = pb::ResumeOrgRequest { org_id: org.id.clone(), ..Default::default() };
    server.operator.orgs().resume_org(resume).await.unwrap();
    reset(&server, &code, PASSWORD).await.unwrap();
}

#[tokio::test]
async fn a_pepper_stays_while_a_live_code_is_under_it() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.user(&org, "ana@example.org").await;
    let master = read_keys(server.master_key_file());
    keys::new_pepper(&server.state.db, &master, &server.state.clock).await.unwrap();
    until(async || server.state.keyring.peppers.load().newest() == Some(2)).await;
    server.state.clock.advance(HOUR + MARGIN);
    sqlx::query("update token_secrets set pepper_id = 2").execute(&server.state.db).await.unwrap();
    assert!(signing_key_rotation::drop_peppers(&server.state).await.unwrap().is_empty());
    reset(&server, &server.code_for("ana@example.org").await.unwrap(), PASSWORD).await.unwrap();
    assert_eq!(signing_key_rotation::drop_peppers(&server.state).await.unwrap(), [1]);
}

#[tokio::test]
async fn what_the_database_keeps_of_a_code_is_of_no_use() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.user(&org, "ana@example.org").await;
    let code = server.code_for("ana@example.org").await.unwrap();
    let row: String =
        sqlx::query_scalar("select codes::text from codes").fetch_one(&server.state.db).await.unwrap();
    assert!(!row.contains(&code[30..70]));
    // A row planted by an attacker under a pepper that they know.
    let planted =
        TokenString::new(TokenStringKind::PasswordCode, server.state.clock.new_id::<TokenId>(), random());
    let query = "insert into codes select $1, org_id, subject_id, purpose, asked, $2, pepper_id, create_time, expire_time
                 from codes limit 1";
    let planted_mac: [u8; 32] = random();
    let done = sqlx::query(query).bind(planted.id().uuid()).bind(&planted_mac[..]);
    done.execute(&server.state.db).await.unwrap();
    refused(reset(&server, planted.expose(), PASSWORD).await, Code::Unauthenticated, "TOKEN_INVALID");
}
