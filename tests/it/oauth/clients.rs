//! How clients authenticate themselves, and who is none.

use countersign::domain::values::token_string::{TokenString, TokenStringKind};
use countersign::grpc::pb;

use super::{CLIENT_CREDENTIALS, TOKEN, basic, basic_of, id, post};
use crate::harness::{TestServer, by_text, token_for};

const GRANT: (&str, &str) = ("grant_type", CLIENT_CREDENTIALS);

#[tokio::test]
async fn who_is_a_client() {
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
    let published = server.client(published);
    let unknown =
        TokenString::new(TokenStringKind::SecretToken, uuid::Uuid::from_u128(7), [7; 32]).expose().to_owned();
    let unknown = server.client(unknown);
    let jwt = bot.exchange().await.unwrap().access_token;
    let (bot_id, secret) = (id(&bot), bot.token());
    let lower = basic(&bot).replace("Basic", "bASIC");
    for (header, parameters, outcome) in [
        (Some(basic(&bot)), &[][..], "200"),
        (Some(lower), &[], "200"),
        (Some(basic(&bot)), &[("client_id", &*bot_id)], "200"),
        (None, &[("client_id", &bot_id), ("client_secret", secret)], "200"),
        // Nobody, or a client that proves nothing.
        (None, &[], "401 invalid_client CREDENTIAL_MISSING"),
        (None, &[("client_id", &bot_id)], "401 invalid_client TOKEN_INVALID"),
        (None, &[("client_id", "bot"), ("client_secret", secret)], "401 invalid_client TOKEN_INVALID"),
        (None, &[("client_id", ""), ("client_secret", secret)], "400 invalid_request MALFORMED_REQUEST"),
        // Two ways at once, also with the same secret.
        (Some(basic(&bot)), &[("client_secret", secret)], "400 invalid_request MALFORMED_REQUEST"),
        // An id of another token.
        (Some(basic(&bot)), &[("client_id", &id(&other))], "401 invalid_client TOKEN_INVALID"),
        (Some(basic_of(&id(&other), secret)), &[], "401 invalid_client TOKEN_INVALID"),
        (None, &[("client_id", &id(&other)), ("client_secret", secret)], "401 invalid_client TOKEN_INVALID"),
        (Some(basic_of(&bot_id, "")), &[], "401 invalid_client TOKEN_INVALID"),
        (Some(basic_of("", secret)), &[], "401 invalid_client TOKEN_INVALID"),
        // What is no secret token.
        (Some(basic(&published)), &[], "401 invalid_client TOKEN_INVALID"),
        (Some(basic(&unknown)), &[], "401 invalid_client TOKEN_INVALID"),
        (Some(basic_of(&bot_id, &jwt)), &[], "401 invalid_client TOKEN_INVALID"),
        (
            Some(basic_of(&bot_id, &secret.replace("csign_sat", "csign_pub"))),
            &[],
            "401 invalid_client TOKEN_INVALID",
        ),
        // What is no Basic.
        (Some("Basic".into()), &[], "401 invalid_client TOKEN_INVALID"),
        (Some("Basic !!!".into()), &[], "401 invalid_client TOKEN_INVALID"),
        (Some("Basic YWJj".into()), &[], "401 invalid_client TOKEN_INVALID"),
        (Some("Basic /w==".into()), &[], "401 invalid_client TOKEN_INVALID"),
        (Some("Basic JTpi".into()), &[], "401 invalid_client TOKEN_INVALID"),
        (Some(format!("Bearer {secret}")), &[], "401 invalid_client TOKEN_INVALID"),
        (Some(secret.to_owned()), &[], "401 invalid_client TOKEN_INVALID"),
        (Some("Digest a=b".into()), &[], "401 invalid_client TOKEN_INVALID"),
    ] {
        let headers: Vec<_> = header.iter().map(|value| ("authorization", value.as_str())).collect();
        let answer = post(&server, TOKEN, &headers, &[&[GRANT], parameters].concat()).await;
        let got = if answer.http.status == 200 { answer.outcome() } else { answer.refused() };
        assert_eq!(got, outcome, "{headers:?} {parameters:?}");
        assert_eq!(
            answer.http.header("www-authenticate").is_some(),
            outcome.starts_with("401"),
            "{headers:?}"
        );
        // Nothing of what was presented is repeated.
        assert!(!answer.http.body.contains(secret) && !answer.http.body.contains(&bot_id), "{}", answer.body);
    }
    let both = [("authorization", &*basic(&bot)), ("authorization", &*basic(&bot))];
    let answer = post(&server, TOKEN, &both, &[GRANT]).await;
    assert_eq!(answer.refused(), "400 invalid_request MALFORMED_REQUEST");
}

#[tokio::test]
async fn a_client_that_has_ended_is_told_why() {
    let server = TestServer::start().await;
    let org = server.org().await;
    for (name, reason) in [("revoked", "TOKEN_REVOKED"), ("deactivated", "ACCOUNT_DEACTIVATED")] {
        let (account, bot) = server.account(&org.id, name, &[]).await;
        let header = basic(&bot);
        let header = [("authorization", header.as_str())];
        assert_eq!(post(&server, TOKEN, &header, &[GRANT]).await.outcome(), "200");
        if name == "revoked" {
            bot.tokens().revoke_token(by_text(bot.token())).await.unwrap();
        } else {
            let request = pb::DeactivateAccountRequest {
                org_id: org.id.clone(),
                account_id: account.id,
                ..Default::default()
            };
            org.owner.accounts().deactivate_account(request).await.unwrap();
        }
        let answer = post(&server, TOKEN, &header, &[GRANT]).await;
        assert_eq!(answer.refused(), format!("401 invalid_client {reason}"));
        assert_eq!(answer.text("error_description").split(':').next(), Some(reason));
    }
}

#[tokio::test]
async fn what_a_client_may_not_ask_for() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (account, _) = server.account(&org.id, "bot", &[("invoices.read", "*")]).await;
    let request = pb::CreateTokenRequest {
        allowed_audiences: vec!["billing".into(), "shop".into()],
        purpose: "SCIM".into(),
        ..token_for(&org.id, &account.id)
    };
    let bot = server.client(org.owner.tokens().create_token(request).await.unwrap().into_inner().secret);
    let many = "a.b ".repeat(10_000);
    let (scim, billing) = (("purpose", "SCIM"), ("audience", "billing"));
    for (parameters, outcome) in [
        (&[scim, billing][..], "200"),
        (&[scim, billing, ("audience", "billing"), ("resource", "shop")], "200"),
        (&[billing], "401 invalid_client PURPOSE_MISMATCH"),
        (&[scim, billing, ("scope", "invoices.write")], "400 invalid_scope SCOPE_NOT_HELD"),
        (&[scim, billing, ("scope", "openid")], "400 invalid_scope INVALID_FIELD"),
        (&[scim, billing, ("scope", &many)], "400 invalid_scope INVALID_FIELD"),
        (&[scim, ("audience", "elsewhere")], "400 invalid_target INVALID_TARGET"),
        (&[scim, billing, ("audience", &"a".repeat(256))], "400 invalid_target INVALID_FIELD"),
        (&[scim, billing, ("requested_ttl", "0")], "400 invalid_request INVALID_FIELD"),
        (&[scim, billing, ("requested_ttl", "1h")], "400 invalid_request MALFORMED_REQUEST"),
        (&[billing, ("purpose", "scim")], "400 invalid_request INVALID_FIELD"),
    ] {
        let header = basic(&bot);
        let all = [&[GRANT], parameters].concat();
        let answer = post(&server, TOKEN, &[("authorization", &header)], &all).await;
        let got = if answer.http.status == 200 { answer.outcome() } else { answer.refused() };
        assert_eq!(got, outcome, "{parameters:?} {}", answer.body);
        let description = answer.body["error_description"].as_str().unwrap_or_default();
        assert!(!description.contains("elsewhere") && !description.contains("openid"), "{description}");
    }
}
