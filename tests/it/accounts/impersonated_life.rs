//! The whole life of a service account that an administrator looks after through impersonation alone.

use countersign::grpc::pb;
use tonic::Code;

use crate::harness::{Client, TestServer, by_id, by_text, refused, rotate_token, token_for};

const DENY: (Code, &str) = (Code::PermissionDenied, "PERMISSION_MISSING");

#[tokio::test]
async fn a_service_account_lives_through_impersonation_alone() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (bot, _) = server.account(&org.id, "bot", &[("x.y", "*")]).await;
    let (_, admin) = server
        .account(&org.id, "admin", &[("manager", "*"), ("accounts.impersonate", "*"), ("x.y", "*")])
        .await;
    let as_bot = admin.impersonating(&bot.id).await;
    let who = as_bot.caller().await.unwrap();
    assert_eq!(who.account.unwrap().id, bot.id);
    assert!(!who.impersonator_id.is_empty() && !who.secret_obfuscated.is_empty());

    // It says who it is.
    let account = pb::Account {
        id: bot.id.clone(),
        profile: Some(pb::Profile { display_name: Some("The Bot".into()), ..Default::default() }),
        ..Default::default()
    };
    let update = pb::UpdateAccountRequest { account: Some(account), ..Default::default() };
    as_bot.accounts().update_account(update).await.unwrap();

    // It gets a key, which works, and another one in its place.
    let made = as_bot.tokens().create_token(token_for("", "")).await.unwrap().into_inner();
    let id = made.token.unwrap().id;
    let first = server.client(made.secret);
    assert_eq!(first.exchange().await.unwrap().scopes, ["x.y"]);
    let rotated =
        as_bot.tokens().rotate_token(rotate_token("", &id, Some(3_600))).await.unwrap().into_inner();
    let second = server.client(rotated.secret);
    let finish = pb::FinishRotationRequest { token_id: id.clone(), ..Default::default() };
    as_bot.tokens().finish_rotation(finish).await.unwrap();
    refused(first.exchange().await, Code::Unauthenticated, "TOKEN_EXPIRED");
    as_bot.tokens().rotate_token(rotate_token("", &id, Some(3_600))).await.unwrap();
    let cancel = pb::CancelRotationRequest { token_id: id.clone(), ..Default::default() };
    as_bot.tokens().cancel_rotation(cancel).await.unwrap();
    second.exchange().await.unwrap();

    // It sees its keys, and revokes one by its id.
    let list = pb::ListTokensRequest { account_id: bot.id.clone(), ..Default::default() };
    assert_eq!(as_bot.tokens().list_tokens(list).await.unwrap().into_inner().tokens.len(), 2);
    let revoked = as_bot.tokens().revoke_token(by_id("", &id)).await.unwrap().into_inner().token.unwrap();
    assert_eq!(revoked.state(), pb::TokenState::Revoked);
    refused(second.exchange().await, Code::Unauthenticated, "TOKEN_REVOKED");
    // The log names both.
    let events = pb::ListEventsRequest { r#type: "token.revoked".into(), ..Default::default() };
    let events = org.owner.orgs().list_events(events).await.unwrap().into_inner().events;
    assert_eq!((&events[0].actor_id, events[0].impersonator_id.is_empty()), (&bot.id, false));
}

/// A right of oneself counts where the administrator could make the call by permission.
#[tokio::test]
async fn keys_are_revoked_by_id_as_far_as_the_administrator_may() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (bot, client) = server.account(&org.id, "bot", &[("x.y", "*")]).await;
    let id = client.caller().await.unwrap().credential_id;
    let held = |rights: &[&'static str]| -> Vec<_> {
        rights.iter().chain(&["accounts.impersonate", "x.y"]).map(|right| (*right, "*")).collect()
    };
    let (_, reader) = server.account(&org.id, "reader", &held(&["tokens.read"])).await;
    let as_bot = reader.impersonating(&bot.id).await;
    refused(as_bot.tokens().revoke_token(by_id("", &id)).await, DENY.0, DENY.1);
    let (other, _) = server.account(&org.id, "other", &[]).await;
    let others = server.operator.tokens().create_token(token_for(&org.id, &other.id)).await.unwrap();
    let others = others.into_inner().token.unwrap().id;
    // By a credential that manages no tokens: revoking needs the permission alone.
    let (writer, _) = server.account(&org.id, "writer", &held(&["tokens.write"])).await;
    let plain = server.operator.tokens().create_token(token_for(&org.id, &writer.id)).await.unwrap();
    let as_bot = server.client(plain.into_inner().secret).impersonating(&bot.id).await;
    for id in [&others, "tok_01m81jwe5rfestc5fn7temwc74", "junk"] {
        refused(as_bot.tokens().revoke_token(by_id("", id)).await, DENY.0, DENY.1);
    }
    as_bot.tokens().revoke_token(by_id("", &id)).await.unwrap();
    refused(client.caller().await, Code::Unauthenticated, "TOKEN_REVOKED");

    // An owner's, by another owner: what an owner may do is in no JWT, and its own keys it revokes.
    let (owner, _) = server.account(&org.id, "owner-2", &[("owner", "*")]).await;
    let owners = server.client(server.managing_token(&org.id, &owner.id).await);
    let id = owners.caller().await.unwrap().credential_id;
    org.owner.impersonating(&owner.id).await.tokens().revoke_token(by_id("", &id)).await.unwrap();
    refused(owners.caller().await, Code::Unauthenticated, "TOKEN_REVOKED");
}

#[tokio::test]
async fn an_account_revokes_its_own_tokens_with_an_unrestricted_credential() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (bot, client) = server.account(&org.id, "bot", &[("x.y", "*")]).await;
    let token = async |scopes: &[&str]| {
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        let request = pb::CreateTokenRequest { scopes, ..token_for(&org.id, &bot.id) };
        let made = server.operator.tokens().create_token(request).await.unwrap().into_inner();
        (made.token.unwrap().id, server.client(made.secret))
    };
    let (first, _) = token(&[]).await;
    let (second, second_client) = token(&[]).await;
    let (_, narrow) = token(&["x.y"]).await;
    // What is narrowed has rights over its own account for reading alone.
    let request = pb::ExchangeTokenRequest { scopes: vec!["x.y".into()], ..Default::default() };
    let jwt = client.tokens().exchange_token(request).await.unwrap().into_inner().access_token;
    for narrowed in [&narrow, &server.client(jwt)] {
        refused(narrowed.tokens().revoke_token(by_id("", &first)).await, DENY.0, DENY.1);
    }
    let revoke = async |by: &Client, id: &str| by.tokens().revoke_token(by_id("", id)).await;
    revoke(&client, &first).await.unwrap();
    // By a JWT that carries everything, and itself.
    revoke(&client.with_jwt().await, &second).await.unwrap();
    refused(second_client.caller().await, Code::Unauthenticated, "TOKEN_REVOKED");
    let own = client.caller().await.unwrap().credential_id;
    revoke(&client, &own).await.unwrap();
    refused(client.caller().await, Code::Unauthenticated, "TOKEN_REVOKED");
    narrow.tokens().revoke_token(by_text(narrow.token())).await.unwrap();
    refused(narrow.caller().await, Code::Unauthenticated, "TOKEN_REVOKED");
}
