//! Introspection (RFC 7662).

use countersign::grpc::pb;
use serde_json::{Value, json};

use super::{INTROSPECT, basic, id, post};
use crate::harness::{TestServer, by_text};

#[tokio::test]
async fn a_resource_server_asks_what_a_token_is_good_for() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (account, bot) = server.account(&org.id, "bot", &[("invoices.read", "*")]).await;
    let (_, api) = server.account(&org.id, "api", &[("tokens.introspect", "*")]).await;
    let jwt = bot.exchange().await.unwrap().access_token;
    let (header, bearer) = (basic(&api), format!("Bearer {}", api.token()));
    let by_jwt = format!("Bearer {}", api.exchange().await.unwrap().access_token);
    for header in [&header, &bearer, &by_jwt] {
        let header = [("authorization", header.as_str())];
        let of_jwt = post(&server, INTROSPECT, &header, &[("token", &jwt), ("token_type_hint", "x")]).await;
        assert_eq!((of_jwt.outcome().as_str(), &of_jwt.body["active"]), ("200", &json!(true)));
        let rpc = pb::IntrospectTokenRequest { token_text: jwt.clone(), ..Default::default() };
        let rpc = api.tokens().introspect_token(rpc).await.unwrap().into_inner();
        for (member, value) in [
            ("scope", json!(rpc.scope)),
            ("client_id", json!(rpc.client_id)),
            ("username", json!(rpc.username)),
            ("token_type", json!("Bearer")),
            ("exp", json!(rpc.exp)),
            ("iat", json!(rpc.iat)),
            ("nbf", json!(rpc.nbf)),
            ("sub", json!(account.id)),
            ("aud", json!(rpc.aud)),
            ("iss", json!(server.endpoint)),
            ("jti", json!(rpc.jti)),
            ("org_id", json!(org.id)),
            ("account_kind", json!("SERVICE_ACCOUNT")),
            ("act", Value::Null),
            ("cnf", Value::Null),
        ] {
            assert_eq!(of_jwt.body[member], value, "{member}");
        }
        assert_eq!(of_jwt.http.header("cache-control"), Some("no-store"));
        let of_token = post(&server, INTROSPECT, &header, &[("token", bot.token())]).await;
        assert_eq!((&of_token.body["active"], &of_token.body["client_id"]), (&json!(true), &json!(id(&bot))));
    }
    let header = [("authorization", header.as_str())];
    // What it must be good for is asked for by the names of the RPC.
    for (parameters, active) in [
        (&[("audience", server.endpoint.as_str())][..], true),
        (&[("audience", "billing")], false),
        (&[("required_scopes", "invoices.read")], true),
        (&[("required_scopes", "invoices.read invoices.write")], false),
        (&[("purpose", "SCIM")], false),
    ] {
        let asked = [&[("token", jwt.as_str())], parameters].concat();
        let answer = post(&server, INTROSPECT, &header, &asked).await;
        assert_eq!(answer.body["active"], active, "{parameters:?}");
    }
    // What is not active says nothing else, whatever the cause.
    bot.tokens().revoke_token(by_text(bot.token())).await.unwrap();
    let foreign = server.org().await.owner;
    for token in [bot.token(), &jwt, "rubbish", "a.b.c", foreign.token()] {
        let answer = post(&server, INTROSPECT, &header, &[("token", token)]).await;
        assert_eq!((answer.http.status, answer.http.body.as_str()), (200, r#"{"active":false}"#), "{token}");
    }
}

#[tokio::test]
async fn only_a_client_that_may_introspect_is_answered() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (_, bot) = server.account(&org.id, "bot", &[]).await;
    let (header, none) = (basic(&bot), Vec::new());
    let bearer = format!("Bearer {}", bot.token());
    let good = basic(&org.owner);
    for (headers, token, outcome) in [
        (&none, "x", "401 invalid_client CREDENTIAL_MISSING"),
        (&vec![("authorization", header.as_str())], "x", "400 unauthorized_client PERMISSION_MISSING"),
        (&vec![("authorization", bearer.as_str())], "x", "400 unauthorized_client PERMISSION_MISSING"),
        (&vec![("authorization", "Bearer x")], "x", "401 invalid_client TOKEN_INVALID"),
        (&vec![("authorization", good.as_str())], "", "400 invalid_request MALFORMED_REQUEST"),
    ] {
        let answer = post(&server, INTROSPECT, headers, &[("token", token)]).await;
        assert_eq!(answer.refused(), outcome, "{headers:?}");
    }
    let named = id(&bot);
    let answer = post(&server, INTROSPECT, &[], &[("token", "x"), ("client_id", &named)]).await;
    assert_eq!(answer.refused(), "401 invalid_client CREDENTIAL_MISSING");
}
