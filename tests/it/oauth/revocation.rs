//! Revocation (RFC 7009).

use countersign::grpc::pb;
use tonic::Code;

use super::{REVOKE, basic, basic_of, id, post};
use crate::harness::{TestServer, refused, token_for};

#[tokio::test]
async fn a_token_is_revoked_by_its_text() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (_, other) = server.account(&org.id, "other", &[]).await;
    let (others, foreign) = (basic(&other), basic(&server.org().await.owner));
    // By nobody, by itself, and by any client: the text is the proof.
    for (name, header, names_itself) in [
        ("alone", None, false),
        ("named", None, true),
        ("other", Some(&others), false),
        ("foreign", Some(&foreign), false),
    ] {
        let (_, bot) = server.account(&org.id, &format!("bot-{name}"), &[]).await;
        let headers: Vec<_> = header.into_iter().map(|value| ("authorization", value.as_str())).collect();
        let own = id(&bot);
        let mut parameters = vec![("token", bot.token()), ("token_type_hint", "refresh_token")];
        parameters.extend(names_itself.then_some(("client_id", own.as_str())));
        for _ in 0..2 {
            let answer = post(&server, REVOKE, &headers, &parameters).await;
            assert_eq!((answer.http.status, answer.http.body.as_str()), (200, ""), "{name}");
        }
        refused(bot.exchange().await, Code::Unauthenticated, "TOKEN_REVOKED");
    }
}

#[tokio::test]
async fn what_is_not_revoked() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (account, bot) = server.account(&org.id, "bot", &[("invoices.read", "*")]).await;
    let (_, other) = server.account(&org.id, "other", &[]).await;
    let request = pb::CreateTokenRequest {
        kind: pb::TokenKind::Publishable.into(),
        scopes: vec!["invoices.read".into()],
        allowed_origins: vec!["https://app.example".into()],
        ..token_for(&org.id, &account.id)
    };
    let published = org.owner.tokens().create_token(request).await.unwrap().into_inner().secret;
    let jwt = bot.with_jwt().await;
    let wrong = basic_of(&id(&bot), other.token());
    let (bot_token, other_id) = (bot.token(), id(&other));
    for (header, parameters, outcome) in [
        (None, &[("token", "rubbish")][..], "200 -"),
        (None, &[("token", jwt.token())], "400 unsupported_token_type UNSUPPORTED_TOKEN_TYPE"),
        (None, &[("token", &*published)], "400 unsupported_token_type UNSUPPORTED_TOKEN_TYPE"),
        (None, &[], "400 invalid_request MALFORMED_REQUEST"),
        (None, &[("token", "")], "400 invalid_request MALFORMED_REQUEST"),
        // A client that fails ends it, though none is needed.
        (Some(&wrong), &[("token", bot_token)], "401 invalid_client TOKEN_INVALID"),
        (None, &[("token", bot_token), ("client_id", &other_id)], "401 invalid_client TOKEN_INVALID"),
    ] {
        let headers: Vec<_> =
            header.into_iter().map(|value: &String| ("authorization", value.as_str())).collect();
        let answer = post(&server, REVOKE, &headers, parameters).await;
        assert_eq!(answer.refused(), outcome, "{parameters:?}");
    }
    bot.exchange().await.unwrap();
    jwt.caller().await.unwrap();
}
