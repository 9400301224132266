//! `ReportLeakedToken`: what leaked is revoked, with what it created; the answer reveals nothing.

use countersign::domain::values::ids::TokenId;
use countersign::domain::values::token_string::{TokenString, TokenStringKind};
use countersign::grpc::pb;
use tonic::{Code, Status};

use crate::harness::{Client, Org, TestServer, by_id, refused, rotate_token, token_for, violated, watch};

async fn report(client: &Client, texts: &[&str]) -> Result<pb::ReportLeakedTokenResponse, Status> {
    let token_texts = texts.iter().map(|text| (*text).to_owned()).collect();
    let request = pb::ReportLeakedTokenRequest { token_texts };
    Ok(client.tokens().report_leaked_token(request).await?.into_inner())
}

/// A token of a new account of the org that may manage tokens and grants nothing.
async fn make(server: &TestServer, org: &Org, name: &str, may_manage_tokens: bool) -> (String, Client) {
    let (account, _) = server.account(&org.id, name, &[("tokens.write", "*")]).await;
    let request = pb::CreateTokenRequest { may_manage_tokens, ..token_for(&org.id, &account.id) };
    let made = server.operator.tokens().create_token(request).await.unwrap().into_inner();
    (made.token.unwrap().id, server.client(made.secret))
}

async fn rotate(client: &Client, server: &TestServer, org: &Org, id: &str) -> Client {
    let rotated = client.tokens().rotate_token(rotate_token(&org.id, id, None)).await.unwrap().into_inner();
    server.client(rotated.secret)
}

async fn is_revoked(client: &Client) {
    refused(client.exchange().await, Code::Unauthenticated, "TOKEN_REVOKED");
}

/// The org's events of this kind, the oldest first: what they name, and what they say.
async fn told(server: &TestServer, org: &Org) -> Vec<(Vec<String>, Vec<(String, String, String)>)> {
    let request =
        pb::ListEventsRequest { org_id: org.id.clone(), r#type: "token.leaked".into(), ..Default::default() };
    let mut events = server.operator.orgs().list_events(request).await.unwrap().into_inner().events;
    events.reverse();
    let changes = |event: &pb::Event| {
        let change = |c: &pb::FieldChange| {
            let text = |value: &Option<String>| value.clone().unwrap_or_default();
            (c.field.clone(), text(&c.old_value), text(&c.new_value))
        };
        event.changes.iter().map(change).collect()
    };
    events.iter().map(|event| (event.resource_ids.clone(), changes(event))).collect()
}

#[tokio::test]
async fn what_leaked_stops_with_what_it_made_and_the_org_is_told() {
    let server = TestServer::start().await;
    let (org, other) = (server.org().await, server.org().await);
    let (id, token) = make(&server, &org, "leaky", true).await;
    let child = token.tokens().create_token(pb::CreateTokenRequest::default()).await.unwrap().into_inner();
    let (rotated_id, rotated) = make(&server, &org, "rotated", false).await;
    let new = rotate(&token, &server, &org, &rotated_id).await;
    let (other_id, others) = make(&server, &other, "leaky", false).await;
    let (_, untouched) = make(&server, &org, "untouched", true).await;

    report(&server.anonymous(), &[token.token(), others.token(), token.token()]).await.unwrap();
    let child_id = child.token.unwrap().id;
    for gone in [&token, &server.client(child.secret), &rotated, &new, &others] {
        is_revoked(gone).await;
    }
    untouched.exchange().await.unwrap();
    let get = pb::GetTokenRequest { org_id: org.id.clone(), token_id: id.clone() };
    let shown = server.operator.tokens().get_token(get).await.unwrap().into_inner().token.unwrap();
    assert_eq!(shown.revoke_reason(), pb::RevokeReason::KeyCompromise);

    let why = ("revoke_reason".to_owned(), String::new(), "REVOKE_REASON_KEY_COMPROMISE".to_owned());
    let (mut named, says) = told(&server, &org).await.pop().unwrap();
    let mut expected = vec![id, child_id, rotated_id];
    named.sort();
    expected.sort();
    assert_eq!((named, says), (expected, vec![why.clone()]));
    assert_eq!(told(&server, &other).await, [(vec![other_id], vec![why])]);
    // Once more is nothing new.
    report(&server.anonymous(), &[token.token()]).await.unwrap();
    assert_eq!(told(&server, &org).await.len(), 1);
}

#[tokio::test]
async fn while_a_rotation_overlaps_the_leaked_secret_alone_ends() {
    let server = TestServer::start().await;
    let org = server.org().await;
    for leaked_is_old in [true, false] {
        let (id, old) = make(&server, &org, &format!("bot-{leaked_is_old}"), false).await;
        let new = rotate(&server.operator, &server, &org, &id).await;
        let (leaked, left) = if leaked_is_old { (&old, &new) } else { (&new, &old) };
        report(&server.anonymous(), &[leaked.token()]).await.unwrap();
        refused(leaked.exchange().await, Code::Unauthenticated, "TOKEN_EXPIRED");
        left.exchange().await.unwrap();
        let (named, says) = told(&server, &org).await.pop().unwrap();
        assert_eq!(named, std::slice::from_ref(&id));
        assert!(says[0].0 == "secrets" && leaked.token().ends_with(says[0].1.split('…').nth(1).unwrap()));
        // The secret that is left lasts as long as the token, and can be rotated again.
        let get = pb::GetTokenRequest { org_id: org.id.clone(), token_id: id.clone() };
        let shown = server.operator.tokens().get_token(get).await.unwrap().into_inner().token.unwrap();
        let active = |secret: &pb::TokenSecret| secret.state() == pb::TokenSecretState::Active;
        assert_eq!(shown.secrets.iter().filter(|secret| active(secret)).count(), 1);
        // An expired secret no longer identifies the token.
        report(&server.anonymous(), &[leaked.token()]).await.unwrap();
        left.exchange().await.unwrap();
        rotate(&server.operator, &server, &org, &id).await.exchange().await.unwrap();
    }
    // Both at once are the token.
    let (id, old) = make(&server, &org, "both", false).await;
    let new = rotate(&server.operator, &server, &org, &id).await;
    report(&server.anonymous(), &[old.token(), new.token()]).await.unwrap();
    is_revoked(&old).await;
    is_revoked(&new).await;
}

#[tokio::test]
async fn what_the_leaked_secret_may_have_made_by_rotating_itself_goes_with_it() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (id, old) = make(&server, &org, "itself", true).await;
    let new = rotate(&old, &server, &org, &id).await;
    report(&server.anonymous(), &[old.token()]).await.unwrap();
    is_revoked(&new).await;
    // The other way round the old one was there before.
    let (id, old) = make(&server, &org, "itself-too", true).await;
    let new = rotate(&old, &server, &org, &id).await;
    report(&server.anonymous(), &[new.token()]).await.unwrap();
    refused(new.exchange().await, Code::Unauthenticated, "TOKEN_EXPIRED");
    old.exchange().await.unwrap();
}

#[tokio::test]
async fn what_was_revoked_before_still_takes_what_it_made_with_it() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (id, token) = make(&server, &org, "leaky", true).await;
    let child = token.tokens().create_token(pb::CreateTokenRequest::default()).await.unwrap().into_inner();
    let child = server.client(child.secret);
    server.operator.tokens().revoke_token(by_id(&org.id, &id)).await.unwrap();
    child.exchange().await.unwrap();
    report(&server.anonymous(), &[token.token()]).await.unwrap();
    is_revoked(&child).await;
}

#[tokio::test]
async fn nothing_is_told_and_what_is_no_secret_is_passed_over() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (id, token) = make(&server, &org, "bot", false).await;
    let request = pb::CreateTokenRequest {
        kind: pb::TokenKind::Publishable.into(),
        scopes: vec!["invoices.read".into()],
        allowed_origins: vec!["https://app.example".into()],
        ..token_for(&org.id, &server.account(&org.id, "page", &[("invoices.read", "*")]).await.0.id)
    };
    let public = server.operator.tokens().create_token(request).await.unwrap().into_inner();
    watch(&public.secret);
    let wrong = TokenString::new(TokenStringKind::SecretToken, TokenId::parse(&id).unwrap(), [7; 32]);
    let unknown = TokenString::new(TokenStringKind::SecretToken, TokenId::from_u128(7), [7; 32]);
    let jwt = token.exchange().await.unwrap().access_token;
    let texts =
        [public.secret.as_str(), wrong.expose(), unknown.expose(), &jwt, "", "junk", "csign_sat_x_y_z"];
    report(&server.anonymous(), &texts).await.unwrap();
    token.exchange().await.unwrap();
    assert!(told(&server, &org).await.is_empty());
    let get = pb::GetTokenRequest { org_id: org.id.clone(), token_id: public.token.unwrap().id };
    let shown = server.operator.tokens().get_token(get).await.unwrap().into_inner().token.unwrap();
    assert_eq!(shown.state(), pb::TokenState::Active);
    // The valid ones among them are revoked all the same.
    report(&server.anonymous(), &[unknown.expose(), "junk", token.token()]).await.unwrap();
    is_revoked(&token).await;

    for texts in [vec![], vec!["junk"; 101]] {
        let refusal =
            refused(report(&server.anonymous(), &texts).await, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&refusal), ["token_texts"]);
    }
    report(&server.anonymous(), &vec!["junk"; 100]).await.unwrap();
}

#[tokio::test]
async fn two_reports_at_once_are_one() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (_, token) = make(&server, &org, "bot", false).await;
    let anonymous = server.anonymous();
    let reports = (0..8).map(|_| {
        let (anonymous, token) = (anonymous.clone(), token.clone());
        tokio::spawn(async move { report(&anonymous, &[token.token()]).await })
    });
    for done in reports.collect::<Vec<_>>() {
        done.await.unwrap().unwrap();
    }
    is_revoked(&token).await;
    assert_eq!(told(&server, &org).await.len(), 1);
}
