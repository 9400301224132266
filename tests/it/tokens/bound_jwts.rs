//! A JWT ends with the secret that it was exchanged for, and with the administrator who acts by it.

use countersign::grpc::pb;
use tonic::{Code, Status};

use crate::harness::{Client, Org, TestServer, claims, refused, rotate_token};

const STALE: (Code, &str) = (Code::Unauthenticated, "ACCESS_TOKEN_STALE");

/// A token of a bot that may manage tokens: its id, and a client with its first secret.
async fn token(server: &TestServer, org: &Org) -> (String, Client) {
    let (_, client) = server.account(&org.id, "bot", &[("invoices.read", "*")]).await;
    (client.caller().await.unwrap().credential_id, client)
}

async fn rotate(server: &TestServer, org: &Org, id: &str, overlap: i64) -> Client {
    let answer = org.owner.tokens().rotate_token(rotate_token("", id, Some(overlap))).await.unwrap();
    server.client(answer.into_inner().secret)
}

async fn finish(by: &Client, id: &str) -> Result<(), Status> {
    let request = pb::FinishRotationRequest { token_id: id.into(), ..Default::default() };
    by.tokens().finish_rotation(request).await.map(drop)
}

async fn cancel(by: &Client, id: &str) -> Result<(), Status> {
    let request = pb::CancelRotationRequest { token_id: id.into(), ..Default::default() };
    by.tokens().cancel_rotation(request).await.map(drop)
}

async fn is_active(by: &Client, jwt: &Client) -> bool {
    let request = pb::IntrospectTokenRequest { token_text: jwt.token().into(), ..Default::default() };
    by.tokens().introspect_token(request).await.unwrap().into_inner().active
}

/// The JWT ends, for this API and for introspection.
async fn has_ended(org: &Org, jwt: &Client) {
    refused(jwt.caller().await, STALE.0, STALE.1);
    assert!(!is_active(&org.owner, jwt).await);
}

#[tokio::test]
async fn a_jwt_ends_with_its_secret() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (id, first) = token(&server, &org).await;
    let of_first = first.with_jwt().await;
    assert_eq!(claims(of_first.token())["secret"], 1);
    of_first.caller().await.unwrap();
    assert!(is_active(&org.owner, &of_first).await);

    // By a reset.
    let second = rotate(&server, &org, &id, 0).await;
    has_ended(&org, &of_first).await;
    let of_second = second.with_jwt().await;
    assert_eq!(claims(of_second.token())["secret"], 2);

    // By the end of a rotation, and not sooner.
    let third = rotate(&server, &org, &id, 3_600).await;
    of_second.caller().await.unwrap();
    let of_third = third.with_jwt().await;
    finish(&org.owner, &id).await.unwrap();
    has_ended(&org, &of_second).await;
    of_third.caller().await.unwrap();

    // By a rotation that is cancelled: the new secret, and what came from it.
    let fourth = rotate(&server, &org, &id, 3_600).await;
    let of_fourth = fourth.with_jwt().await;
    cancel(&org.owner, &id).await.unwrap();
    has_ended(&org, &of_fourth).await;
    of_third.caller().await.unwrap();

    // By a report of the secret, while another one lives.
    let fifth = rotate(&server, &org, &id, 3_600).await;
    let of_fifth = fifth.with_jwt().await;
    let leaked = pb::ReportLeakedTokenRequest { token_texts: vec![fifth.token().into()] };
    server.anonymous().tokens().report_leaked_token(leaked).await.unwrap();
    has_ended(&org, &of_fifth).await;
    of_third.caller().await.unwrap();
    assert_eq!(claims(of_third.token())["secret"], 3);

    // What a verifier needs to see it is in the feed.
    let subjects: Vec<String> = sqlx::query_scalar(
        "select subject from feed, unnest(subjects) subject where subject like 'tok\\_%/%' order by xid, seq",
    )
    .fetch_all(&server.state.db)
    .await
    .unwrap();
    assert_eq!(subjects, [1, 2, 4, 5].map(|number| format!("{id}/{number}")));
}

#[tokio::test]
async fn a_jwt_never_outlives_its_secret() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (id, old) = token(&server, &org).await;
    let ttl = Some(prost_types::Duration { seconds: 3_600, nanos: 0 });
    let exchange = async |client: &Client| {
        let request = pb::ExchangeTokenRequest { requested_ttl: ttl, ..Default::default() };
        server.client(client.tokens().exchange_token(request).await.unwrap().into_inner().access_token)
    };
    let before = exchange(&old).await;
    let new = rotate(&server, &org, &id, 600).await;
    let lasts = |jwt: &Client| {
        claims(jwt.token())["exp"].as_i64().unwrap() - claims(jwt.token())["iat"].as_i64().unwrap()
    };
    assert!(lasts(&exchange(&old).await) <= 600);
    assert_eq!(lasts(&exchange(&new).await), 3_600);
    let introspected = async |jwt: &Client| {
        let request = pb::IntrospectTokenRequest { token_text: jwt.token().into(), ..Default::default() };
        org.owner.tokens().introspect_token(request).await.unwrap().into_inner()
    };
    // One from before the rotation says a later end than it has now.
    let shown = introspected(&before).await;
    assert!(shown.active && shown.exp < claims(before.token())["exp"].as_i64().unwrap());
    server.state.clock.advance(std::time::Duration::from_secs(601));
    has_ended(&org, &before).await;
}

#[tokio::test]
async fn what_is_made_from_a_jwt_ends_with_the_secret_of_that_one() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (bot, _) = server.account(&org.id, "target", &[]).await;
    let id = org.owner.caller().await.unwrap().credential_id;
    let jwt = org.owner.with_jwt().await;
    let new = rotate_token("", &id, Some(7_200));
    let new = server.client(org.owner.tokens().rotate_token(new).await.unwrap().into_inner().secret);
    for by in [&org.owner, &jwt] {
        let acting = by.impersonating(&bot.id).await;
        assert_eq!(claims(acting.token())["secret"], 1);
    }
    let acting = jwt.impersonating(&bot.id).await;
    acting.caller().await.unwrap();
    finish(&new, &id).await.unwrap();
    refused(acting.caller().await, STALE.0, STALE.1);
    // Nor does it rotate the administrator's own token.
    let own = new.impersonating(&bot.id).await;
    let refusal = own.tokens().rotate_token(rotate_token("", &id, None)).await;
    refused(refusal, Code::PermissionDenied, "PERMISSION_MISSING");
}

#[tokio::test]
async fn a_jwt_does_not_take_the_token_away_that_it_came_from() {
    let server = TestServer::start().await;
    let org = server.org().await;
    // Also where it holds tokens.write, or comes from an operator.
    for owner in [&org.owner, &server.operator] {
        let id = owner.caller().await.unwrap().credential_id;
        let jwt = owner.with_jwt().await;
        let org_id = if owner.token() == org.owner.token() {
            String::new()
        } else {
            owner.caller().await.unwrap().org.unwrap().id
        };
        let denied = (Code::PermissionDenied, "PERMISSION_MISSING");
        refused(jwt.tokens().rotate_token(rotate_token(&org_id, &id, Some(0))).await, denied.0, denied.1);
        let request = pb::FinishRotationRequest { token_id: id.clone(), org_id: org_id.clone() };
        refused(jwt.tokens().finish_rotation(request).await, denied.0, denied.1);
        let request = pb::CancelRotationRequest { token_id: id.clone(), org_id };
        refused(jwt.tokens().cancel_rotation(request).await, denied.0, denied.1);
        owner.caller().await.unwrap();
    }
}

#[tokio::test]
async fn an_impersonation_stays_ended_when_its_administrator_comes_back() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (bot, _) = server.account(&org.id, "bot", &[]).await;
    let (admin, by_admin) = server.account(&org.id, "admin", &[("owner", "*")]).await;
    let (org_id, account_id) = (org.id.clone(), admin.id.clone());
    let acting = by_admin.impersonating(&bot.id).await;
    acting.caller().await.unwrap();
    let request = pb::DeactivateAccountRequest {
        org_id: org_id.clone(),
        account_id: account_id.clone(),
        ..Default::default()
    };
    server.operator.accounts().deactivate_account(request).await.unwrap();
    refused(acting.caller().await, Code::Unauthenticated, "ACCOUNT_DEACTIVATED");
    let request = pb::ActivateAccountRequest { org_id, account_id, ..Default::default() };
    server.operator.accounts().activate_account(request).await.unwrap();
    by_admin.caller().await.unwrap();
    has_ended(&org, &acting).await;
    by_admin.impersonating(&bot.id).await.caller().await.unwrap();

    // So does one of an administrator who lost the right and has it again.
    let acting = by_admin.impersonating(&bot.id).await;
    let grants = vec![crate::harness::grant("owner", "*")];
    let request = pb::RevokeAccessRequest {
        account_id: admin.id.clone(),
        grants: grants.clone(),
        ..Default::default()
    };
    org.owner.accounts().revoke_access(request).await.unwrap();
    let request = pb::GrantAccessRequest { account_id: admin.id.clone(), grants, ..Default::default() };
    org.owner.accounts().grant_access(request).await.unwrap();
    has_ended(&org, &acting).await;
}

#[tokio::test]
async fn a_subject_that_is_present_and_empty_is_no_bearer() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let exchange = async |subject: Option<&str>| {
        let request =
            pb::ExchangeTokenRequest { subject_token: subject.map(str::to_owned), ..Default::default() };
        org.owner.tokens().exchange_token(request).await
    };
    let refusal = refused(exchange(Some("")).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(crate::harness::violated(&refusal), ["subject_token"]);
    refused(exchange(Some(" ")).await, Code::Unauthenticated, "TOKEN_INVALID");
    exchange(None).await.unwrap();
}

#[tokio::test]
async fn a_caller_learns_by_what_it_calls_and_until_when() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (id, old) = token(&server, &org).await;
    let shown = old.caller().await.unwrap();
    let token = pb::GetTokenRequest { token_id: id.clone(), ..Default::default() };
    let token = org.owner.tokens().get_token(token).await.unwrap().into_inner().token.unwrap();
    assert_eq!(shown.secret_obfuscated, token.secrets[0].obfuscated);
    assert_eq!((&shown.credential_id, shown.credential_expire_time), (&id, token.expire_time));
    let new = rotate(&server, &org, &id, 600).await;
    let retiring = old.caller().await.unwrap();
    assert!(retiring.credential_expire_time.unwrap().seconds < token.expire_time.unwrap().seconds);
    let now = new.caller().await.unwrap();
    assert_ne!(now.secret_obfuscated, shown.secret_obfuscated);
    assert_eq!(now.credential_expire_time, token.expire_time);
    // A JWT shows the secret that it came from.
    assert_eq!(old.with_jwt().await.caller().await.unwrap().secret_obfuscated, shown.secret_obfuscated);
    // A session has none.
    server.technical(&org.id, "person", &[]).await;
    let session = server.session(&format!("person@{}.127.0.0.1", org.slug)).await;
    let shown = session.caller().await.unwrap();
    assert!(shown.secret_obfuscated.is_empty() && shown.credential_expire_time.is_some());
}
