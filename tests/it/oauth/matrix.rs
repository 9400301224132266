//! The access matrix through the endpoints: each kind of caller as the client of each of them, with the
//! outcome of the RPC's own row.

use countersign::domain::values::token_string::{TokenString, TokenStringKind};
use countersign::grpc::pb;
use serde_json::json;

use super::{ACCESS_TOKEN, INTROSPECT, REVOKE, TOKEN, TOKEN_EXCHANGE, basic, post};
use crate::contract::access_matrix::{KINDS, callers, rows};
use crate::harness::{Client, LIMITS, TestServer, token_for};

/// Whether a client of OAuth may have this credential: a secret token.
fn is_client(client: &Client) -> bool {
    let token = client.bearer.as_deref().and_then(|text| TokenString::parse(text).ok());
    token.is_some_and(|token| token.kind() == TokenStringKind::SecretToken)
}

#[tokio::test]
async fn every_kind_of_caller_gets_what_the_matrix_says() {
    let server = TestServer::at_standing_time(LIMITS).await;
    let org = server.org().await;
    let (target, subject) = server.account(&org.id, "target", &[]).await;
    let rows = rows();
    for (kind, caller) in KINDS.iter().zip(callers(&server, &org).await) {
        let row = |rpc: &str| rows[rpc][KINDS.iter().position(|known| known == kind).unwrap()];
        // What is no client is refused as one, whatever the RPC would say of it as a bearer.
        let header = match *kind {
            "none" => None,
            "garbage" => Some("Basic rubbish".to_owned()),
            _ if is_client(&caller) => Some(basic(&caller)),
            _ => Some(format!("Bearer {}", caller.token())),
        };
        let is_client = is_client(&caller);
        let headers: Vec<_> = header.iter().map(|value| ("authorization", value.as_str())).collect();
        let outcome = async |path: &str, parameters: &[(&str, &str)]| {
            let answer = post(&server, path, &headers, parameters).await;
            match answer.http.header("countersign-reason") {
                Some(reason) => reason.to_owned(),
                None => "OK".to_owned(),
            }
        };
        let as_client = |outcome: &'static str| match *kind {
            "none" => outcome,
            _ if is_client => outcome,
            _ => "TOKEN_INVALID",
        };

        let exchange = [
            ("grant_type", TOKEN_EXCHANGE),
            ("subject_token", subject.token()),
            ("subject_token_type", ACCESS_TOKEN),
        ];
        assert_eq!(outcome(TOKEN, &exchange).await, as_client(row("TokenService/ExchangeToken")), "{kind}");

        // Here a bearer counts, too: sessions and JWTs.
        let asked = [("token", subject.token())];
        assert_eq!(outcome(INTROSPECT, &asked).await, row("TokenService/IntrospectToken"), "{kind}");
        let answer = post(&server, INTROSPECT, &headers, &asked).await;
        if answer.http.status == 200 {
            // To the owner of another org it is not active.
            assert_eq!(answer.body["active"], json!(*kind != "foreign"), "{kind}");
        }

        // The text is the proof, whoever presents it.
        let request = pb::CreateTokenRequest { ..token_for(&org.id, &target.id) };
        let made = server.operator.tokens().create_token(request).await.unwrap().into_inner().secret;
        assert_eq!(outcome(REVOKE, &[("token", &made)]).await, as_client("OK"), "{kind}");
        let refused = server.client(made).exchange().await.is_err();
        assert_eq!(refused, *kind == "none" || is_client, "{kind}");
    }
}
