//! The metadata (RFC 8414, RFC 9728): whatever it lists is tried. What is listed and not tried fails.

use std::collections::BTreeSet;

use countersign::grpc::pb;
use serde_json::{Value, json};

use super::{ACCESS_TOKEN, CLIENT_CREDENTIALS, TOKEN_EXCHANGE, basic, id, post};
use crate::federation::{SUBJECT, allow_federation, create_issuer, create_rule, rule_for};
use crate::harness::{Org, Signer, TestServer, http, http_get};

const GRANT_BY_JWT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The members, each of which is looked at below.
const MEMBERS: [&str; 13] = [
    "grant_types_supported",
    "introspection_endpoint",
    "introspection_endpoint_auth_methods_supported",
    "introspection_endpoint_auth_signing_alg_values_supported",
    "issuer",
    "jwks_uri",
    "revocation_endpoint",
    "revocation_endpoint_auth_methods_supported",
    "revocation_endpoint_auth_signing_alg_values_supported",
    "tls_client_certificate_bound_access_tokens",
    "token_endpoint",
    "token_endpoint_auth_methods_supported",
    // Each is tried in `keys`.
    "token_endpoint_auth_signing_alg_values_supported",
];

fn listed<'a>(document: &'a Value, member: &str) -> Vec<&'a str> {
    let values = document[member].as_array().unwrap_or_else(|| panic!("{member}"));
    assert!(!values.is_empty(), "{member} is empty");
    values.iter().map(|value| value.as_str().unwrap()).collect()
}

#[tokio::test]
async fn whatever_the_metadata_lists_works() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (account, bot) = server.account(&org.id, "bot", &[("tokens.introspect", "*")]).await;
    let document = http_get(&server.endpoint, "/.well-known/oauth-authorization-server").await;
    assert_eq!(document.header("access-control-allow-origin"), Some("*"));
    let document: Value = serde_json::from_str(&document.body).unwrap();
    let known = BTreeSet::from(MEMBERS);
    for member in document.as_object().unwrap().keys() {
        assert!(known.contains(member.as_str()), "{member} is not tried here");
    }
    assert_eq!(document["issuer"], server.endpoint);
    // A port without TLS takes no certificates: what needs one is not listed. With one: `keys`.
    assert_eq!(document["tls_client_certificate_bound_access_tokens"], false);
    let path = |member: &str| document[member].as_str().unwrap().strip_prefix(&server.endpoint).unwrap();
    let keys: Value = serde_json::from_str(&http_get(&server.endpoint, path("jwks_uri")).await.body).unwrap();
    assert!(keys["keys"].is_array());

    let (bot_id, secret, header) = (id(&bot), bot.token(), basic(&bot));
    let bearer = format!("Bearer {secret}");
    let signer = Signer::ed25519();
    let key = server.key_token(&org.id, &account.id, &signer).await;
    let (rule_id, workload) = federated(&server, &org, &account.id, &signer).await;
    for (endpoint, methods) in [
        ("token_endpoint", "token_endpoint_auth_methods_supported"),
        ("introspection_endpoint", "introspection_endpoint_auth_methods_supported"),
        ("revocation_endpoint", "revocation_endpoint_auth_methods_supported"),
    ] {
        for method in listed(&document, methods) {
            let in_body = [("client_id", bot_id.as_str()), ("client_secret", secret)];
            let grants = match endpoint {
                "token_endpoint" => listed(&document, "grant_types_supported"),
                _ => vec![""],
            };
            for grant in grants {
                let assertion = signer.assertion(&server, &key.id);
                let by_assertion = [("client_assertion_type", JWT_BEARER), ("client_assertion", &assertion)];
                let (headers, client): (Vec<_>, &[_]) = match method {
                    "client_secret_basic" => (vec![("authorization", header.as_str())], &[]),
                    "client_secret_post" => (vec![], &in_body),
                    "private_key_jwt" => (vec![], &by_assertion),
                    "Bearer" => (vec![("authorization", bearer.as_str())], &[]),
                    "none" => (vec![], &[]),
                    other => panic!("{other} is not tried"),
                };
                let asked: &[_] = match grant {
                    CLIENT_CREDENTIALS => &[("grant_type", CLIENT_CREDENTIALS)],
                    TOKEN_EXCHANGE => &[
                        ("grant_type", TOKEN_EXCHANGE),
                        ("subject_token", secret),
                        ("subject_token_type", ACCESS_TOKEN),
                    ],
                    GRANT_BY_JWT => &[
                        ("grant_type", GRANT_BY_JWT),
                        ("assertion", &workload),
                        ("federation_rule_id", &rule_id),
                    ],
                    "" if endpoint == "introspection_endpoint" => &[("token", secret)],
                    "" => &[("token", "rubbish")],
                    other => panic!("{other} is not tried"),
                };
                let answer = post(&server, path(endpoint), &headers, &[client, asked].concat()).await;
                let expected = match (method, grant) {
                    // Where the client is the subject there is one.
                    ("none", CLIENT_CREDENTIALS) => "401 invalid_client",
                    _ => "200",
                };
                assert_eq!(answer.outcome(), expected, "{endpoint} {method} {grant}: {}", answer.body);
                if endpoint == "introspection_endpoint" {
                    assert_eq!(answer.body["active"], true);
                }
            }
        }
    }
}

/// A rule for an issuer with this key, and a JWT that it takes.
async fn federated(server: &TestServer, org: &Org, account_id: &str, signer: &Signer) -> (String, String) {
    allow_federation(&org.owner).await;
    let issuer = "https://localhost:8443/metadata";
    let message = pb::Issuer {
        kind: pb::IssuerKind::Jwks.into(),
        issuer: issuer.into(),
        jwks: signer.key_set("1"),
        ..Default::default()
    };
    let issuer_id = create_issuer(&org.owner, message).await.unwrap();
    let rule_id = create_rule(&org.owner, rule_for(&issuer_id, account_id)).await.unwrap();
    let at = server.state.clock.now().unix_timestamp();
    let claims = json!({"iss": issuer, "sub": SUBJECT, "aud": server.endpoint, "iat": at, "exp": at + 3_000});
    (rule_id, signer.sign(&json!({"alg": "EdDSA", "kid": "1"}), &claims))
}

#[tokio::test]
async fn the_documents_agree_and_lead_to_each_other() {
    let server = TestServer::start().await;
    let get = async |name: &str| -> Value {
        serde_json::from_str(&http_get(&server.endpoint, &format!("/.well-known/{name}")).await.body).unwrap()
    };
    let (oauth, oidc) = (get("oauth-authorization-server").await, get("openid-configuration").await);
    for (member, value) in oauth.as_object().unwrap() {
        assert_eq!(oidc[member], *value, "{member}");
    }
    let resource = get("oauth-protected-resource").await;
    assert_eq!(
        (&resource["resource"], &resource["authorization_servers"]),
        (&json!(server.endpoint), &json!([server.endpoint]))
    );
    assert!(listed(&resource, "scopes_supported").contains(&"tokens.read"));
    assert_eq!(listed(&resource, "bearer_methods_supported"), ["header"]);

    // A page may read the documents, and nothing below /oauth2/.
    for (path, status) in [
        ("/.well-known/oauth-protected-resource", 204),
        ("/.well-known/oauth-authorization-server", 204),
        ("/oauth2/token", 405),
        ("/oauth2/introspect", 405),
        ("/oauth2/revoke", 405),
    ] {
        let request = format!(
            "OPTIONS {path} HTTP/1.1\r\nhost: x\r\norigin: https://app.example\r\n\
             access-control-request-method: POST\r\nconnection: close\r\n\r\n"
        );
        let answer = http(&server.endpoint, &request).await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.header("access-control-allow-origin").is_some(), status == 204, "{path}");
    }
}

#[tokio::test]
async fn a_forged_host_changes_nothing() {
    let server = TestServer::start().await;
    let plain = http_get(&server.endpoint, "/.well-known/oauth-authorization-server").await.body;
    let forged = "GET /.well-known/oauth-authorization-server HTTP/1.1\r\nhost: evil.example\r\n\
                  forwarded: host=evil.example\r\nx-forwarded-host: evil.example\r\nconnection: close\r\n\r\n";
    assert_eq!(http(&server.endpoint, forged).await.body, plain);
}
