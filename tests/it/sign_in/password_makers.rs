//! A password is a credential: who gives one, what it ends with, and what falls with a compromised maker.

use countersign::grpc::pb;
use pb::create_token_request::Expiration;
use prost_types::Duration;
use tonic::{Code, Status};

use crate::contract::sources::files_with;
use crate::harness::{
    Client, Org, PASSWORD, TestServer, accept, by_id, by_text, invite, refused, sign_up, token_for, until,
    watch,
};

const DENY: (Code, &str) = (Code::PermissionDenied, "PERMISSION_MISSING");
const EXCEEDS: (Code, &str) = (Code::PermissionDenied, "TARGET_EXCEEDS_CALLER");
const FAILED: (Code, &str) = (Code::Unauthenticated, "LOGIN_FAILED");
const REVOKED: (Code, &str) = (Code::Unauthenticated, "TOKEN_REVOKED");

/// A token of an owner of the org: its id, and a client with it.
async fn token(server: &TestServer, org: &Org, request: pb::CreateTokenRequest) -> (String, Client) {
    let request =
        pb::CreateTokenRequest { org_id: org.id.clone(), account_id: org.owner_id.clone(), ..request };
    let made = server.operator.tokens().create_token(request).await.unwrap().into_inner();
    (made.token.unwrap().id, server.client(made.secret))
}

fn managing() -> pb::CreateTokenRequest {
    pb::CreateTokenRequest { may_manage_tokens: true, ..Default::default() }
}

/// Makes a technical user, and returns its username.
async fn technical(by: &Client, name: &str) -> Result<pb::Account, Status> {
    let request = pb::CreateServiceAccountRequest {
        name: name.into(),
        password: PASSWORD.into(),
        grants: vec![crate::harness::grant("tokens.write", "*")],
        ..Default::default()
    };
    watch(PASSWORD);
    Ok(by.accounts().create_service_account(request).await?.into_inner().account.unwrap())
}

async fn set_password(by: &Client, account_id: &str) -> Result<(), Status> {
    let request = pb::SetPasswordRequest {
        account_id: account_id.into(),
        password: PASSWORD.into(),
        ..Default::default()
    };
    by.accounts().set_password(request).await.map(drop)
}

async fn narrowed(server: &TestServer, by: &Client) -> Client {
    let scopes = ["accounts.write", "accounts.read", "invitations.write"].map(str::to_owned).to_vec();
    let request = pb::ExchangeTokenRequest { scopes, ..Default::default() };
    server.client(by.tokens().exchange_token(request).await.unwrap().into_inner().access_token)
}

async fn compromised(server: &TestServer, token: &Client) {
    let request =
        pb::RevokeTokenRequest { reason: pb::RevokeReason::KeyCompromise.into(), ..by_text(token.token()) };
    server.anonymous().tokens().revoke_token(request).await.unwrap();
}

/// The owner of the mailbox asks for another password, and gets an email.
async fn ask_for_a_code(server: &TestServer, email: &str) {
    let before = server.code_for(email).await;
    let asked = pb::RequestPasswordResetRequest { email: email.into() };
    server.anonymous().accounts().request_password_reset(asked).await.unwrap();
    until(async || server.code_for(email).await.is_some_and(|code| Some(code) != before)).await;
}

#[tokio::test]
async fn giving_a_password_asks_for_what_creating_a_token_asks_for() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (bot, _) = server.account(&org.id, "bot", &[]).await;
    let places = vec!["127.0.0.0/8".to_owned()];
    let (_, plain) = token(&server, &org, Default::default()).await;
    let scopes = vec!["accounts.write".to_owned(), "tokens.write".to_owned()];
    let (_, scoped) = token(&server, &org, pb::CreateTokenRequest { scopes, ..managing() }).await;
    let (_, placed) =
        token(&server, &org, pb::CreateTokenRequest { allowed_cidrs: places, ..managing() }).await;
    let allowed_audiences = vec![server.endpoint.clone(), "https://a.example".to_owned()];
    let (_, aimed) = token(&server, &org, pb::CreateTokenRequest { allowed_audiences, ..managing() }).await;
    let (_, whole) = token(&server, &org, managing()).await;
    let (helper, _) = server.account(&org.id, "helper", &[("owner", "*")]).await;
    for (by, expected) in [
        (&plain, DENY),
        (&plain.with_jwt().await, DENY),
        (&scoped, EXCEEDS),
        (&scoped.with_jwt().await, EXCEEDS),
        (&placed, EXCEEDS),
        (&aimed, EXCEEDS),
        (&narrowed(&server, &whole).await, EXCEEDS),
        (&whole.impersonating(&helper.id).await, DENY),
    ] {
        refused(set_password(by, &bot.id).await, expected.0, expected.1);
        refused(technical(by, "refused").await, expected.0, expected.1);
    }
    set_password(&whole, &bot.id).await.unwrap();
    set_password(&whole.with_jwt().await, &bot.id).await.unwrap();
    technical(&whole, "made").await.unwrap();
    // Without a password none of it is asked.
    let request = pb::CreateServiceAccountRequest { name: "plain".into(), ..Default::default() };
    scoped.accounts().create_service_account(request).await.unwrap();
    // By a session, and by a JWT made from one.
    let admin = server.person(&org.id, "admin@example.org", &[("owner", "*")]).await;
    let session = server.session(&admin.username).await;
    set_password(&session, &bot.id).await.unwrap();
    set_password(&session.with_jwt().await, &bot.id).await.unwrap();
}

#[tokio::test]
async fn a_code_for_a_mailbox_asks_for_less_and_not_for_nothing() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let places = vec!["127.0.0.0/8".to_owned()];
    let (_, placed) =
        token(&server, &org, pb::CreateTokenRequest { allowed_cidrs: places, ..managing() }).await;
    let allowed_audiences = vec![server.endpoint.clone(), "https://a.example".to_owned()];
    let (_, aimed) = token(&server, &org, pb::CreateTokenRequest { allowed_audiences, ..managing() }).await;
    let (_, plain) = token(&server, &org, Default::default()).await;
    let user = async |by: &Client, email: &str| {
        let request = pb::CreateUserRequest { email: email.into(), ..Default::default() };
        by.accounts().create_user(request).await.map(drop)
    };
    let person = server.user(&org, "source@example.org").await;
    let clone = async |by: &Client, email: &str| {
        let request = pb::CloneAccountRequest {
            account_id: person.id.clone(),
            email: email.into(),
            ..Default::default()
        };
        by.accounts().clone_account(request).await.map(drop)
    };
    let invitation = invite(&org.owner, "", "guest@example.org", &[]).await.unwrap();
    let resend = async |by: &Client| {
        let request =
            pb::ResendInvitationRequest { invitation_id: invitation.id.clone(), ..Default::default() };
        by.orgs().resend_invitation(request).await.map(drop)
    };
    for (n, by) in [&placed, &aimed, &narrowed(&server, &plain).await].into_iter().enumerate() {
        let address = |what: &str| format!("{what}-{n}@example.org");
        refused(user(by, &address("user")).await, EXCEEDS.0, EXCEEDS.1);
        refused(clone(by, &address("clone")).await, EXCEEDS.0, EXCEEDS.1);
        refused(invite(by, "", &address("guest"), &[]).await, EXCEEDS.0, EXCEEDS.1);
        refused(resend(by).await, EXCEEDS.0, EXCEEDS.1);
    }
    // Neither may_manage_tokens nor an empty list of scopes is asked for.
    let scopes =
        vec!["accounts.write".to_owned(), "accounts.read".to_owned(), "invitations.write".to_owned()];
    let (_, scoped) = token(&server, &org, pb::CreateTokenRequest { scopes, ..Default::default() }).await;
    for (n, by) in [&plain, &scoped, &scoped.with_jwt().await].into_iter().enumerate() {
        let address = |what: &str| format!("{what}-good-{n}@example.org");
        user(by, &address("user")).await.unwrap();
        clone(by, &address("clone")).await.unwrap();
        invite(by, "", &address("guest"), &[]).await.unwrap();
    }
}

#[tokio::test]
async fn a_password_ends_with_the_token_that_gave_it() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (id, by) = token(&server, &org, managing()).await;
    let made = technical(&by, "robot").await.unwrap();
    let session = server.session(&made.username).await;
    let jwt = session.with_jwt().await;
    jwt.caller().await.unwrap();
    // Another password of its own does not untie it.
    let other = "another battery staple horse";
    watch(other);
    let change = pb::ChangePasswordRequest { current_password: PASSWORD.into(), new_password: other.into() };
    session.accounts().change_password(change).await.unwrap();
    org.owner.tokens().revoke_token(by_id("", &id)).await.unwrap();
    for client in [&session, &jwt] {
        refused(client.caller().await, REVOKED.0, REVOKED.1);
    }
    refused(server.login(&made.username, other, None).await, FAILED.0, FAILED.1);
    let account = pb::GetAccountRequest { account_id: made.id.clone(), ..Default::default() };
    let account = org.owner.accounts().get_account(account).await.unwrap().into_inner().account.unwrap();
    assert!(!account.login_enabled);
    let events = pb::ListEventsRequest { r#type: "account.password_cleared".into(), ..Default::default() };
    let events = org.owner.orgs().list_events(events).await.unwrap().into_inner().events;
    assert_eq!((events.len(), &events[0].resource_ids), (1, &vec![made.id]));
}

#[tokio::test]
async fn what_a_short_token_gave_is_short() {
    let server = TestServer::at_standing_time(crate::harness::LIMITS).await;
    let org = server.org().await;
    let ttl = |seconds| Some(Expiration::Ttl(Duration { seconds, nanos: 0 }));
    let (_, by) = token(&server, &org, pb::CreateTokenRequest { expiration: ttl(120), ..managing() }).await;
    let made = technical(&by, "robot").await.unwrap();
    let session = server.session(&made.username).await;
    // What its session makes lasts no longer than the token that gave the password, and gives nothing on.
    let long = pb::CreateTokenRequest { expiration: ttl(3_600), ..token_for("", "") };
    refused(session.tokens().create_token(long).await, Code::InvalidArgument, "INVALID_FIELD");
    let managing = pb::CreateTokenRequest { may_manage_tokens: true, ..token_for("", "") };
    refused(session.tokens().create_token(managing).await, EXCEEDS.0, EXCEEDS.1);
    let lasting = session.tokens().create_token(token_for("", "")).await.unwrap().into_inner();
    let lasting = server.client(lasting.secret);
    lasting.caller().await.unwrap();
    server.state.clock.advance(std::time::Duration::from_secs(121));
    refused(server.login(&made.username, PASSWORD, None).await, FAILED.0, FAILED.1);
    refused(session.caller().await, Code::Unauthenticated, "TOKEN_EXPIRED");
    refused(lasting.caller().await, Code::Unauthenticated, "TOKEN_EXPIRED");
}

#[tokio::test]
async fn a_session_of_such_a_password_ties_what_it_gives_to_the_same_token() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (id, by) = token(&server, &org, managing()).await;
    let request = pb::CreateServiceAccountRequest {
        name: "robot".into(),
        password: PASSWORD.into(),
        grants: vec![crate::harness::grant("owner", "*")],
        ..Default::default()
    };
    let made = by.accounts().create_service_account(request).await.unwrap().into_inner().account.unwrap();
    let session = server.session(&made.username).await;
    let second = technical(&session, "second").await.unwrap();
    server.session(&second.username).await;
    // An operator's unbound token ties nothing.
    let third = server.technical(&org.id, "third", &[]).await;
    org.owner.tokens().revoke_token(by_id("", &id)).await.unwrap();
    refused(server.login(&second.username, PASSWORD, None).await, FAILED.0, FAILED.1);
    server.session(&third.username).await;
}

#[tokio::test]
async fn what_a_compromised_token_gave_falls_with_all_that_came_of_it() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (_, thief) = token(&server, &org, managing()).await;
    // A technical user, its session, and a token which that made.
    let made = technical(&thief, "robot").await.unwrap();
    let session = server.session(&made.username).await;
    let lasting = session.tokens().create_token(token_for("", "")).await.unwrap().into_inner();
    let lasting = server.client(lasting.secret);
    // A user, whose owner has set another password since.
    let request = pb::CreateUserRequest { email: "user@example.org".into(), ..Default::default() };
    let user = thief.accounts().create_user(request).await.unwrap().into_inner().account.unwrap();
    for _ in 0..2 {
        let code = server.code_for("user@example.org").await.unwrap();
        let set = pb::ResetPasswordRequest { code, new_password: PASSWORD.into() };
        server.anonymous().accounts().reset_password(set).await.unwrap();
        ask_for_a_code(&server, "user@example.org").await;
    }
    let users = server.session("user@example.org").await;
    let open_code = server.code_for("user@example.org").await.unwrap();
    // A user that has no password yet.
    let request = pb::CreateUserRequest { email: "later@example.org".into(), ..Default::default() };
    thief.accounts().create_user(request).await.unwrap();
    let first_code = server.code_for("later@example.org").await.unwrap();
    // One who signed up by its invitation, and an invitation that is open.
    invite(&thief, "", "joined@example.org", &[]).await.unwrap();
    let code = server.code_for("joined@example.org").await.unwrap();
    sign_up(&server, &code).await.unwrap();
    let joined = server.session("joined@example.org").await;
    let open = invite(&thief, "", "open@example.org", &[]).await.unwrap();
    let invitation_code = server.code_for("open@example.org").await.unwrap();
    // And what others gave, which stays.
    let kept = server.technical(&org.id, "kept", &[]).await;
    let other = server.user(&org, "kept@example.org").await;
    assert_eq!(other.state(), pb::AccountState::Invited);
    let kept_code = server.code_for("kept@example.org").await.unwrap();

    compromised(&server, &thief).await;
    for client in [&session, &users, &joined, &lasting] {
        refused(client.caller().await, REVOKED.0, REVOKED.1);
    }
    for username in [made.username.as_str(), "user@example.org", "joined@example.org"] {
        refused(server.login(username, PASSWORD, None).await, FAILED.0, FAILED.1);
    }
    for code in [open_code, first_code] {
        let set = pb::ResetPasswordRequest { code, new_password: PASSWORD.into() };
        refused(server.anonymous().accounts().reset_password(set).await, REVOKED.0, REVOKED.1);
    }
    refused(sign_up(&server, &invitation_code).await, REVOKED.0, REVOKED.1);
    let listed = pb::ListInvitationsRequest::default();
    let listed = org.owner.orgs().list_invitations(listed).await.unwrap().into_inner().invitations;
    let listed = listed.iter().find(|listed| listed.id == open.id).unwrap();
    assert_eq!(listed.state(), pb::InvitationState::Revoked);
    server.session(&kept.username).await;
    let set = pb::ResetPasswordRequest { code: kept_code, new_password: PASSWORD.into() };
    server.anonymous().accounts().reset_password(set).await.unwrap();
    // Only the owner of the mailbox gets in again.
    ask_for_a_code(&server, &user.username).await;
}

/// The session is deleted a day after it has expired; what it made is still found.
#[tokio::test]
async fn what_a_forgotten_session_made_falls_too() {
    let server = TestServer::at_standing_time(crate::harness::LIMITS).await;
    let org = server.org().await;
    let (_, thief) = token(&server, &org, managing()).await;
    let made = technical(&thief, "robot").await.unwrap();
    let session = server.session(&made.username).await;
    let lasting = session.tokens().create_token(token_for("", "")).await.unwrap().into_inner();
    let lasting = server.client(lasting.secret);
    // Another password by another administrator ends the session, and nothing of what it made.
    let admin = server.person(&org.id, "admin@example.org", &[("owner", "*")]).await;
    set_password(&server.session(&admin.username).await, &made.id).await.unwrap();
    server.state.clock.advance(std::time::Duration::from_secs(2 * 86_400));
    countersign::db::sweep::sweep(&server.state.db, server.state.clock.now()).await.unwrap();
    lasting.caller().await.unwrap();
    compromised(&server, &thief).await;
    refused(lasting.caller().await, REVOKED.0, REVOKED.1);
    server.login(&made.username, PASSWORD, None).await.unwrap();
}

#[tokio::test]
async fn a_compromised_session_takes_what_it_gave_with_it() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let admin = server.person(&org.id, "admin@example.org", &[("owner", "*")]).await;
    let session = server.session(&admin.username).await;
    let made = technical(&session, "robot").await.unwrap();
    invite(&session, "", "open@example.org", &[]).await.unwrap();
    let code = server.code_for("open@example.org").await.unwrap();
    let its = server.session(&made.username).await;
    compromised(&server, &session).await;
    refused(its.caller().await, REVOKED.0, REVOKED.1);
    refused(server.login(&made.username, PASSWORD, None).await, FAILED.0, FAILED.1);
    refused(sign_up(&server, &code).await, REVOKED.0, REVOKED.1);
    let session = server.session(&admin.username).await;
    refused(accept(&session, &code).await, REVOKED.0, REVOKED.1);
}

/// Each place that sets a password, or has a code sent, asks first; or says here why it need not.
#[test]
fn what_gives_a_password_asks_first() {
    let sets = files_with(&["passwords::set("]);
    let expected = [
        // Both by `maker`, which asks.
        "grpc/accounts/create.rs",
        "grpc/accounts/passwords.rs",
        // The reader of a mailbox sets its own.
        "flows/invitations.rs",
        "flows/password_reset.rs",
    ];
    assert_eq!(sets, expected.map(str::to_owned).into());
    // The second one tests it.
    let asks =
        ["domain/access/delegation/accounts.rs", "domain/access/places.rs", "grpc/accounts/passwords.rs"];
    assert_eq!(files_with(&["may_give_password()"]), asks.map(str::to_owned).into());
    let sends = files_with(&["send_first_password(", "send_password_code(", "emailed_codes::send("]);
    let asks = files_with(&["may_send_code()"]);
    let exempt = [
        // Where it is defined, and the owner of a mailbox who asks.
        "flows/emailed_codes.rs",
        "flows/password_reset.rs",
        // To the mailbox that the account had before.
        "grpc/accounts/lifecycle.rs",
    ];
    let unasked: Vec<_> = sends.difference(&asks).map(String::as_str).collect();
    assert_eq!(unasked, exempt);
    assert_eq!(
        files_with(&["tokens::revoke("]),
        [
            "commands/bootstrap.rs",
            // With the account that has lost its address.
            "flows/mailboxes.rs",
            "grpc/tokens/compromise.rs",
        ]
        .map(str::to_owned)
        .into()
    );
}
