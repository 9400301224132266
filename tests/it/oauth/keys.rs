//! Clients with a key instead of a secret: `private_key_jwt` and `self_signed_tls_client_auth`.

use std::sync::Arc;

use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use countersign::config::ClientAuth;
use countersign::grpc::pb;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    ACCESS_TOKEN, CLIENT_CREDENTIALS, INTROSPECT, REVOKE, TOKEN, TOKEN_EXCHANGE, basic, encoded, post,
};
use crate::harness::{
    LIMITS, Org, Pair, Signer, TestServer, TlsFiles, assertion_claims, claims, self_signed, shake,
};

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";

struct World {
    server: TestServer,
    org: Org,
    account: pb::Account,
    signer: Signer,
    token: pb::Token,
}

impl World {
    async fn new() -> Self {
        let server = TestServer::start().await;
        let org = server.org().await;
        let grants = [("invoices.read", "*"), ("tokens.introspect", "*")];
        let (account, _) = server.account(&org.id, "bot", &grants).await;
        let signer = Signer::ed25519();
        let token = server.key_token(&org.id, &account.id, &signer).await;
        Self { server, org, account, signer, token }
    }

    fn assertion(&self) -> String {
        self.signer.assertion(&self.server, &self.token.id)
    }
}

/// The parameters of a client with this assertion.
fn client(assertion: &str) -> [(&str, &str); 2] {
    [("client_assertion_type", JWT_BEARER), ("client_assertion", assertion)]
}

#[tokio::test]
async fn a_client_authenticates_by_an_assertion() {
    let World { server, org, account, .. } = World::new().await;
    let metadata: Value = serde_json::from_str(
        &crate::harness::http_get(&server.endpoint, "/.well-known/oauth-authorization-server").await.body,
    )
    .unwrap();
    let listed = metadata["token_endpoint_auth_signing_alg_values_supported"].as_array().unwrap();
    for algorithm in listed {
        let signer = match algorithm.as_str().unwrap() {
            "EdDSA" => Signer::ed25519(),
            "ES256" => Signer::p256(),
            "RS256" => Signer::rsa(KeySize::Rsa2048, "RS256").await,
            "PS256" => Signer::rsa(KeySize::Rsa2048, "PS256").await,
            other => panic!("{other} is not tried"),
        };
        let token = server.key_token(&org.id, &account.id, &signer).await;
        let assertion = || signer.assertion(&server, &token.id);
        let grant =
            [("grant_type", CLIENT_CREDENTIALS), ("scope", "invoices.read"), ("client_id", &token.id)];
        let answer = post(&server, TOKEN, &[], &[&grant[..], &client(&assertion())].concat()).await;
        assert_eq!(answer.outcome(), "200", "{algorithm} {}", answer.body);
        let read = answer.claims();
        assert_eq!((&read["sub"], &read["client_id"]), (&json!(account.id), &json!(token.id)));
        assert_eq!((&read["token_kind"], &read["scope"]), (&json!("KEY"), &json!("invoices.read")));
        // The same caller at the other endpoints, and beside another subject.
        let (_, subject) = server.account(&org.id, &format!("subject-{}", signer.algorithm()), &[]).await;
        let asked = [("token", subject.token())];
        let answer = post(&server, INTROSPECT, &[], &[&asked[..], &client(&assertion())].concat()).await;
        assert_eq!(answer.body["active"], true, "{}", answer.body);
        let exchange = [
            ("grant_type", TOKEN_EXCHANGE),
            ("subject_token", subject.token()),
            ("subject_token_type", ACCESS_TOKEN),
        ];
        let another = assertion();
        let told = [&exchange[..], &[("client_address", "192.0.2.1")], &client(&another)].concat();
        let answer = post(&server, TOKEN, &[], &told).await;
        assert_ne!(answer.claims()["sub"], account.id, "{}", answer.body);
        let answer = post(&server, REVOKE, &[], &[&asked[..], &client(&assertion())].concat()).await;
        assert_eq!(answer.http.status, 200, "{}", answer.body);
        assert!(subject.exchange().await.is_err());
    }
}

#[tokio::test]
async fn an_assertion_is_a_subject_as_well() {
    let world = World::new().await;
    let server = &world.server;
    let (_, speaker) = server.account(&world.org.id, "gateway", &[("tokens.introspect", "*")]).await;
    let header = basic(&speaker);
    for kind in [JWT, ID_TOKEN] {
        for headers in [&[][..], &[("authorization", header.as_str())]] {
            let assertion = world.assertion();
            let exchange =
                [("grant_type", TOKEN_EXCHANGE), ("subject_token", &assertion), ("subject_token_type", kind)];
            let answer = post(server, TOKEN, headers, &exchange).await;
            assert_eq!(answer.outcome(), "200", "{}", answer.body);
            assert_eq!(answer.claims()["client_id"], world.token.id);
            let again = post(server, TOKEN, headers, &exchange).await;
            assert_eq!(again.refused(), "400 invalid_grant TOKEN_INVALID");
        }
    }
    // The same one as both: it works once, and is the subject.
    let assertion = world.assertion();
    let exchange =
        [("grant_type", TOKEN_EXCHANGE), ("subject_token", &assertion), ("subject_token_type", JWT)];
    let answer = post(server, TOKEN, &[], &[&exchange[..], &client(&assertion)].concat()).await;
    assert_eq!(answer.outcome(), "200", "{}", answer.body);
}

#[tokio::test]
async fn who_is_no_client_by_an_assertion() {
    let world = World::new().await;
    let World { server, signer, token, .. } = &world;
    let (_, other) = server.account(&world.org.id, "other", &[]).await;
    let other_id = super::id(&other);
    let beside = server.beside(LIMITS).await;
    let with = |change: &dyn Fn(&mut Value)| {
        let mut claims = assertion_claims(server, &token.id);
        change(&mut claims);
        signer.sign(&json!({"alg": signer.algorithm(), "typ": "JWT"}), &claims)
    };
    let endpoint = format!("{}{TOKEN}", server.endpoint);
    let issuer = server.endpoint.clone();
    let spent = world.assertion();
    let grant = [("grant_type", CLIENT_CREDENTIALS)];
    assert_eq!(post(server, TOKEN, &[], &[&grant[..], &client(&spent)].concat()).await.outcome(), "200");
    let refused = "401 invalid_client TOKEN_INVALID";
    for (assertion, more, outcome) in [
        (spent.clone(), &[][..], refused),
        // What libraries send by default.
        (with(&|claims| claims["aud"] = json!(endpoint)), &[], refused),
        (with(&|claims| claims["aud"] = json!([issuer])), &[], refused),
        (with(&|claims| claims["exp"] = json!(1)), &[], refused),
        (with(&|claims| claims["jti"] = Value::Null), &[], refused),
        (with(&|claims| claims["sub"] = json!(other_id)), &[], refused),
        (Signer::ed25519().assertion(server, &token.id), &[], refused),
        ("a.b.c".to_owned(), &[], refused),
        ("rubbish".to_owned(), &[], refused),
        (world.assertion(), &[("client_id", other_id.as_str())], refused),
        ("rubbish".to_owned(), &[("client_id", other_id.as_str())], refused),
        (world.assertion(), &[("client_secret", other.token())], "400 invalid_request MALFORMED_REQUEST"),
    ] {
        let all = [&grant[..], &client(&assertion), more].concat();
        assert_eq!(post(server, TOKEN, &[], &all).await.refused(), outcome, "{assertion} {more:?}");
    }
    // On another node, too.
    let answer = post(&beside, TOKEN, &[], &[&grant[..], &client(&spent)].concat()).await;
    assert_eq!(answer.refused(), refused);
    let assertion = world.assertion();
    for parameters in [
        &[("client_assertion", assertion.as_str())][..],
        &[("client_assertion_type", JWT_BEARER)],
        &[("client_assertion", &assertion), ("client_assertion_type", "urn:x")],
    ] {
        let answer = post(server, TOKEN, &[], &[&grant[..], parameters].concat()).await;
        assert_eq!(answer.refused(), "400 invalid_request MALFORMED_REQUEST", "{parameters:?}");
    }
    // A client that is refused for another reason has not spent its assertion.
    let wrong = [&grant[..], &[("scope", "invoices.write")], &client(&assertion)].concat();
    assert_eq!(post(server, TOKEN, &[], &wrong).await.refused(), "400 invalid_scope SCOPE_NOT_HELD");
    assert_eq!(post(server, TOKEN, &[], &[&grant[..], &client(&assertion)].concat()).await.outcome(), "200");
    // Its token is revoked: the true reason, since the signature matched.
    let assertion = world.assertion();
    let revoke = crate::harness::by_id(&world.org.id, &token.id);
    world.org.owner.tokens().revoke_token(revoke).await.unwrap();
    let answer = post(server, TOKEN, &[], &[&grant[..], &client(&assertion)].concat()).await;
    assert_eq!(answer.refused(), "401 invalid_client TOKEN_REVOKED");
}

/// Posts a form over a connection with this certificate: the status, and the answer.
async fn post_over_tls(
    server: &TestServer,
    files: &TlsFiles,
    pair: Option<&Pair>,
    path: &str,
    parameters: &[(&str, &str)],
) -> (u16, Value) {
    let mut stream = shake(&server.endpoint, &Arc::new(files.client(pair))).await.unwrap();
    let body: Vec<_> = parameters.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    let body = body.join("&");
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\
         content-type: application/x-www-form-urlencoded\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A server that closes need not say so by TLS.
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_default())
}

/// The key of a certificate.
fn signer_of(pair: &Pair) -> Signer {
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.secret_der()).unwrap();
    Signer::P256(key)
}

#[tokio::test]
async fn a_client_authenticates_by_its_certificate() {
    let files = TlsFiles::new("oauth-mtls");
    let (own, other) = (self_signed(), self_signed());
    let server = TestServer::over_tls(&files, ClientAuth::AnyAuthority, None, LIMITS).await;
    let org = server.org().await;
    let (account, _) = server.account(&org.id, "bot", &[("tokens.introspect", "*")]).await;
    let token = server.key_token(&org.id, &account.id, &signer_of(&own)).await;
    let (_, subject) = server.account(&org.id, "subject", &[]).await;
    let grant = [("grant_type", CLIENT_CREDENTIALS), ("client_id", token.id.as_str())];
    let (status, answer) = post_over_tls(&server, &files, Some(&own), TOKEN, &grant).await;
    assert_eq!(status, 200, "{answer}");
    // Always bound to that certificate.
    let jwt = answer["access_token"].as_str().unwrap();
    assert_eq!(claims(jwt)["cnf"]["x5t#S256"], own.thumbprint());
    assert_eq!(claims(jwt)["client_id"], token.id);

    let asked = [("token", jwt), ("client_id", token.id.as_str())];
    let (status, answer) = post_over_tls(&server, &files, Some(&own), INTROSPECT, &asked).await;
    assert_eq!((status, &answer["cnf"]["x5t#S256"]), (200, &json!(own.thumbprint())), "{answer}");
    let exchange = [
        ("grant_type", TOKEN_EXCHANGE),
        ("client_id", token.id.as_str()),
        ("subject_token", subject.token()),
        ("subject_token_type", ACCESS_TOKEN),
    ];
    let (status, answer) = post_over_tls(&server, &files, Some(&own), TOKEN, &exchange).await;
    assert_eq!(status, 200, "{answer}");
    let read = claims(answer["access_token"].as_str().unwrap());
    assert_eq!(
        (&read["cnf"]["x5t#S256"], &read["client_id"]),
        (&json!(own.thumbprint()), &json!(super::id(&subject)))
    );
    let revoked = [("token", subject.token()), ("client_id", token.id.as_str())];
    let (status, _) = post_over_tls(&server, &files, Some(&own), REVOKE, &revoked).await;
    assert_eq!(status, 200);

    let named = [("grant_type", CLIENT_CREDENTIALS), ("client_id", &*super::id(&org.owner))];
    let unknown = [("grant_type", CLIENT_CREDENTIALS), ("client_id", "tok_00000000000000000000000001")];
    let secret = [&grant[..], &[("client_secret", org.owner.token())]].concat();
    for (pair, parameters, error) in [
        (Some(&other), &grant[..], "invalid_client"),
        (None, &grant, "invalid_client"),
        // A token with a secret has no key, whatever certificate there is.
        (Some(&own), &named, "invalid_client"),
        (Some(&own), &unknown, "invalid_client"),
        (Some(&own), &[("grant_type", CLIENT_CREDENTIALS)], "invalid_client"),
        (Some(&own), &secret, "invalid_client"),
    ] {
        let (status, answer) = post_over_tls(&server, &files, pair, TOKEN, parameters).await;
        assert_eq!((status, &answer["error"]), (401, &json!(error)), "{parameters:?} {answer}");
    }
    // What a token with a secret gets over a connection with a certificate is not bound by it.
    let plain = [
        ("grant_type", CLIENT_CREDENTIALS),
        ("client_id", &*super::id(&org.owner)),
        ("client_secret", org.owner.token()),
    ];
    let (_, answer) = post_over_tls(&server, &files, Some(&own), TOKEN, &plain).await;
    assert_eq!(claims(answer["access_token"].as_str().unwrap()).get("cnf"), None);
}
