//! Hashing passwords: one org, or clients that are not known, keep no other ones waiting; and nothing
//! is hashed for a call that cannot succeed.

use std::collections::BTreeSet;

use countersign::config::ServerLimits;
use countersign::crypto::password_places::{Asker, Place};
use countersign::domain::values::client_address::ClientAddress;
use countersign::domain::values::ids::OrgId;
use countersign::grpc::pb;
use tokio::task::JoinSet;
use tonic::Code;

use crate::contract::proto::{messages, rpcs};
use crate::harness::{Client, LIMITS, Org, PASSWORD, TestServer, invite, reason, refused, until};

/// A server that trusts every `x-forwarded-for`.
fn behind_a_proxy() -> ServerLimits {
    ServerLimits { trusted_proxies: vec!["127.0.0.1/32".parse().unwrap()], ..LIMITS }
}

fn id(org: &Org) -> OrgId {
    OrgId::parse(&org.id).unwrap()
}

/// Takes all places of a part, as many hashes that do not end would. Then one more waits.
async fn fill(server: &TestServer, asker: Asker) -> Vec<Place> {
    let mut held = Vec::new();
    loop {
        let places = server.state.passwords.places.clone();
        let before = places.free();
        let taking = tokio::spawn(async move { places.take(asker, 1).await.unwrap() });
        let places = &server.state.passwords.places;
        until(async || taking.is_finished() || places.waiting() > 0).await;
        if places.free() == before {
            taking.abort();
            let _ = taking.await;
            return held;
        }
        held.push(taking.await.unwrap());
    }
}

/// Fills the queue of a turn, with calls that hold their places when they have got them.
fn queue_up(server: &TestServer, asker: Asker) -> JoinSet<Place> {
    let mut waiting = JoinSet::new();
    for _ in 0..16 {
        let places = server.state.passwords.places.clone();
        waiting.spawn(async move { places.take(asker, 1).await.unwrap() });
    }
    waiting
}

async fn set_password(client: &Client, account: &pb::Account) -> Result<(), tonic::Status> {
    let request = pb::SetPasswordRequest {
        org_id: account.org_id.clone(),
        account_id: account.id.clone(),
        password: PASSWORD.into(),
    };
    client.accounts().set_password(request).await.map(drop)
}

#[tokio::test]
async fn an_org_that_sets_passwords_keeps_no_other_waiting() {
    let server = TestServer::with_limits(behind_a_proxy()).await;
    let (noisy, quiet) = (server.org().await, server.org().await);
    let (loud, bot) =
        (server.technical(&noisy.id, "loud", &[]).await, server.technical(&quiet.id, "bot", &[]).await);
    let home = Some("192.0.2.1");
    server.login(&bot.username, PASSWORD, home).await.unwrap();
    let setting = Asker::Setting(id(&noisy));
    let mut held = fill(&server, setting).await;
    let mut waiting = queue_up(&server, setting);
    let places = server.state.passwords.places.clone();
    until(async || places.waiting() == 16).await;
    refused(set_password(&noisy.owner, &loud).await, Code::ResourceExhausted, "OVERLOADED");
    // Checking has places of its own: for clients that are known, and for those that are not.
    server.login(&bot.username, PASSWORD, home).await.unwrap();
    server.login(&bot.username, PASSWORD, Some("203.0.113.1")).await.unwrap();
    // A password that is set in another org is next after one of this.
    let owner = quiet.owner.clone();
    let other = tokio::spawn(async move { set_password(&owner, &bot).await });
    until(async || places.waiting() == 17).await;
    held.pop();
    let first = waiting.join_next().await.unwrap().unwrap();
    held.pop();
    other.await.unwrap().unwrap();
    drop(first);
}

#[tokio::test]
async fn strangers_share_one_part_whichever_org_they_name() {
    let server = TestServer::with_limits(behind_a_proxy()).await;
    let org = server.org().await;
    let bot = server.technical(&org.id, "bot", &[]).await;
    server.person(&org.id, "ann@example.org", &[]).await;
    let (home, elsewhere) = (Some("2001:db8:1::1"), Some("2001:db8:2::1"));
    server.login(&bot.username, PASSWORD, home).await.unwrap();
    let session = server
        .client(server.login("ann@example.org", PASSWORD, Some("192.0.2.1")).await.unwrap().session_token);
    let stranger = Asker::Stranger(ClientAddress::UNKNOWN);
    let held = fill(&server, stranger).await;
    // The queue of the addresses that are not known is full, and so is that of one site.
    let mut waiting = queue_up(&server, stranger);
    let places = server.state.passwords.places.clone();
    until(async || places.waiting() == 16).await;
    let shed = server.login(&bot.username, PASSWORD, None).await;
    refused(shed, Code::ResourceExhausted, "OVERLOADED");
    let buckets = "select count(*) from login_buckets where cardinality(failures) > 0";
    let buckets: i64 = sqlx::query_scalar(buckets).fetch_one(&server.state.db).await.unwrap();
    assert_eq!(buckets, 0, "a call that is shed is no failure");
    // The owner gets in from where they are known, and so does a session, wherever it is.
    server.login(&bot.username, PASSWORD, home).await.unwrap();
    let request = pb::ChangePasswordRequest {
        current_password: PASSWORD.into(),
        new_password: "another good password".into(),
    };
    session.accounts().change_password(request).await.unwrap();
    // A stranger from another network is next after one of those.
    let login = {
        let (anonymous, username) = (server.anonymous(), bot.username.clone());
        let request = pb::LoginRequest { username, password: PASSWORD.into(), ..Default::default() };
        let mut request = tonic::Request::new(request);
        request.metadata_mut().insert("x-forwarded-for", elsewhere.unwrap().parse().unwrap());
        tokio::spawn(async move { anonymous.tokens().login(request).await.map(drop) })
    };
    until(async || places.waiting() == 17).await;
    let mut held = held;
    held.pop();
    let first = waiting.join_next().await.unwrap().unwrap();
    held.pop();
    login.await.unwrap().unwrap();
    drop(first);
}

/// The RPCs with a password in their request.
fn with_passwords() -> BTreeSet<String> {
    let has_one = |rpc: &String| {
        messages(rpc).0.field.iter().any(|field| field.name().split('_').any(|word| word == "password"))
    };
    let names = rpcs().into_iter().filter(has_one);
    names.map(|rpc| rpc.rsplit_once('/').unwrap().1.to_owned()).collect()
}

/// Every RPC with a password hashes none for a call that cannot succeed, but to compare one with a
/// decoy; and a new RPC has its row here.
#[tokio::test]
async fn nothing_is_hashed_for_a_call_that_cannot_succeed() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let bot = server.technical(&org.id, "bot", &[]).await;
    let (_, plain) = server.account(&org.id, "plain", &[]).await;
    server.person(&org.id, "ann@example.org", &[]).await;
    let session = server.session("ann@example.org").await;
    invite(&org.owner, &org.id, "new@example.org", &[]).await.unwrap();
    let used = server.code_for("new@example.org").await.unwrap();
    crate::harness::sign_up(&server, &used).await.unwrap();
    let first = pb::CreateUserRequest { email: "bob@example.org".into(), ..Default::default() };
    org.owner.accounts().create_user(first).await.unwrap();
    let spent = server.code_for("bob@example.org").await.unwrap();
    let reset = |code: &str| pb::ResetPasswordRequest { code: code.into(), new_password: PASSWORD.into() };
    server.anonymous().accounts().reset_password(reset(&spent)).await.unwrap();
    let computed = || server.state.passwords.computed();
    let mut rows = BTreeSet::new();
    macro_rules! hashes {
        ($rpc:literal, $hashes:literal, $call:expr, $reason:literal) => {{
            let before = computed();
            let refusal = $call.await.map(drop).unwrap_err();
            assert_eq!((reason(&refusal).as_str(), computed() - before), ($reason, $hashes), $rpc);
            rows.insert($rpc.to_owned());
        }};
    }
    let nobody = pb::Account { id: org.owner_id.replace(|c: char| c.is_ascii_digit(), "0"), ..bot.clone() };
    hashes!("SetPassword", 0, set_password(&org.owner, &nobody), "RESOURCE_NOT_FOUND");
    hashes!("SetPassword", 0, set_password(&plain, &bot), "PERMISSION_MISSING");
    let create = |name: &str| pb::CreateServiceAccountRequest {
        name: name.into(),
        password: PASSWORD.into(),
        ..Default::default()
    };
    let taken = async || org.owner.accounts().create_service_account(create("bot")).await;
    hashes!("CreateServiceAccount", 0, taken(), "RESOURCE_EXISTS");
    let without_right = async || plain.accounts().create_service_account(create("bot-2")).await;
    hashes!("CreateServiceAccount", 0, without_right(), "PERMISSION_MISSING");
    let unknown_role = pb::CreateServiceAccountRequest {
        grants: vec![crate::harness::grant("no-such-role", "*")],
        ..create("bot-3")
    };
    let unknown_role = async || org.owner.accounts().create_service_account(unknown_role.clone()).await;
    let before = computed();
    unknown_role().await.unwrap_err();
    assert_eq!(computed(), before);
    let spent = async || server.anonymous().accounts().reset_password(reset(&spent)).await;
    hashes!("ResetPassword", 0, spent(), "TOKEN_REVOKED");
    let again = pb::AcceptInvitationRequest {
        code: used.clone(),
        given_name: "Ann".into(),
        family_name: "Ruiz".into(),
        password: PASSWORD.into(),
    };
    let again = async || server.anonymous().orgs().accept_invitation(again.clone()).await;
    hashes!("AcceptInvitation", 0, again(), "TOKEN_REVOKED");
    // Whether there is an account is not told by the time: a decoy is compared.
    let login = async |username: &str| {
        let request = pb::LoginRequest {
            username: username.into(),
            password: "a wrong one".into(),
            ..Default::default()
        };
        server.anonymous().tokens().login(request).await
    };
    hashes!("Login", 1, login("nobody@example.org"), "LOGIN_FAILED");
    hashes!("Login", 1, login(&bot.username), "LOGIN_FAILED");
    let wrong = pb::ChangePasswordRequest {
        current_password: "a wrong one".into(),
        new_password: "another good password".into(),
    };
    let wrong = async || session.accounts().change_password(wrong.clone()).await;
    hashes!("ChangePassword", 1, wrong(), "LOGIN_FAILED");
    assert_eq!(rows, with_passwords());
}
