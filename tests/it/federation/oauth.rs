//! Federation over HTTP: token exchange (RFC 8693), and JWTs as authorization grants (RFC 7523, section 2.1).

use countersign::grpc::pb;
use serde_json::{Value, json};

use super::{JWT, World};
use crate::harness::{claims, http, http_get};

const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";

/// The status, and the body of the answer.
async fn post(world: &World, headers: &str, parameters: &[(&str, &str)]) -> (u16, Value) {
    let encoded = |text: &str| {
        text.bytes()
            .map(|byte| match byte {
                b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => char::from(byte).to_string(),
                byte => format!("%{byte:02X}"),
            })
            .collect::<String>()
    };
    let body: Vec<_> =
        parameters.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
    let (body, length) = (body.join("&"), body.join("&").len());
    let request = format!(
        "POST /oauth2/token HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\
         content-type: application/x-www-form-urlencoded\r\n{headers}\r\n{body}"
    );
    let answer = http(&world.server.endpoint, &request).await;
    (answer.status, serde_json::from_str(&answer.body).unwrap())
}

/// `200`, or the status, the error and the reason.
fn outcome((status, body): &(u16, Value)) -> String {
    match (body["error"].as_str(), body["error_description"].as_str()) {
        (Some(error), Some(description)) => {
            format!("{status} {error} {}", description.split(':').next().unwrap())
        }
        _ => status.to_string(),
    }
}

#[tokio::test]
async fn a_workload_exchanges_its_jwt_by_any_grant_and_any_name_of_the_rule() {
    let world = World::new().await;
    let assertion = world.assertion();
    let rule = world.rule_id.as_str();
    for parameters in [
        &[
            ("grant_type", TOKEN_EXCHANGE),
            ("subject_token", &*assertion),
            ("subject_token_type", JWT),
            ("federation_rule_id", rule),
        ][..],
        &[
            ("grant_type", TOKEN_EXCHANGE),
            ("subject_token", &*assertion),
            ("subject_token_type", ID_TOKEN),
            ("client_id", rule),
        ],
        &[
            ("grant_type", TOKEN_EXCHANGE),
            ("subject_token", &*assertion),
            ("subject_token_type", JWT),
            ("client_id", rule),
            ("federation_rule_id", rule),
        ],
        &[("grant_type", JWT_BEARER), ("assertion", &*assertion), ("federation_rule_id", rule)],
        &[("grant_type", JWT_BEARER), ("assertion", &*assertion), ("client_id", rule)],
    ] {
        let scoped = [parameters, &[("scope", "invoices.read")]].concat();
        let answer = post(&world, "", &scoped).await;
        assert_eq!(outcome(&answer), "200", "{answer:?}");
        let body = answer.1;
        assert_eq!((&body["token_type"], &body["scope"]), (&json!("Bearer"), &json!("invoices.read")));
        let read = claims(body["access_token"].as_str().unwrap());
        assert_eq!((&read["client_id"], &read["sub"]), (&json!(rule), &json!(world.account.id)));
        assert_eq!(read["token_kind"], "FEDERATED");
    }
    let metadata = http_get(&world.server.endpoint, "/.well-known/oauth-authorization-server").await.body;
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    assert!(metadata["grant_types_supported"].as_array().unwrap().contains(&json!(JWT_BEARER)));
}

#[tokio::test]
async fn what_is_not_a_jwt_of_the_rule_is_an_invalid_grant_or_an_invalid_client() {
    let world = World::new().await;
    let (good, rule) = (world.assertion(), world.rule_id.as_str());
    let wrong = world.signed(&world.claims(json!({"sub": "another"})));
    let own = world.org.owner.exchange().await.unwrap().access_token;
    let unknown = "fed_01h455vb4pex5vsknk084sn02q";
    let token_id = world.org.owner.caller().await.unwrap().credential_id;
    let bearer =
        |assertion: &str| [("grant_type", JWT_BEARER.to_owned()), ("assertion", assertion.to_owned())];
    for (assertion, more, expected) in [
        (&wrong, &[("client_id", rule)][..], "400 invalid_grant TOKEN_INVALID"),
        (&good, &[("client_id", unknown)], "400 invalid_grant TOKEN_INVALID"),
        (&good, &[("federation_rule_id", unknown)], "400 invalid_grant TOKEN_INVALID"),
        (&own, &[("client_id", rule)], "400 invalid_request SUBJECT_NOT_EXCHANGEABLE"),
        (&good, &[], "400 invalid_request MALFORMED_REQUEST"),
        (&good, &[("federation_rule_id", "x")], "400 invalid_request INVALID_FIELD"),
        // A `client_id` that is not the rule, and one that proves nothing.
        (&good, &[("client_id", unknown), ("federation_rule_id", rule)], "401 invalid_client TOKEN_INVALID"),
        (
            &good,
            &[("client_id", &token_id), ("federation_rule_id", rule)],
            "401 invalid_client TOKEN_INVALID",
        ),
        // A rule has no secret.
        (&good, &[("client_id", rule), ("client_secret", "x")], "401 invalid_client TOKEN_INVALID"),
    ] {
        let grant = bearer(assertion);
        let parameters: Vec<(&str, &str)> =
            grant.iter().map(|(name, value)| (*name, value.as_str())).chain(more.iter().copied()).collect();
        let answer = post(&world, "", &parameters).await;
        assert_eq!(outcome(&answer), expected, "{more:?}");
        assert!(!answer.1.to_string().contains(good.split('.').nth(1).unwrap()));
    }
    // It is no client of another grant, and none of a page.
    let answer = post(&world, "", &[("grant_type", "client_credentials"), ("client_id", rule)]).await;
    assert_eq!(outcome(&answer), "401 invalid_client TOKEN_INVALID");
    let grant = [("grant_type", JWT_BEARER), ("assertion", &*good), ("client_id", rule)];
    let answer = post(&world, "origin: https://app.example\r\n", &grant).await;
    assert_eq!(outcome(&answer), "400 invalid_request MALFORMED_REQUEST");
    assert_eq!(outcome(&post(&world, "", &grant).await), "200");
}

#[tokio::test]
async fn a_client_may_speak_for_a_workload() {
    let world = World::with(|_| {}, |rule| rule.allowed_cidrs = vec!["192.0.2.0/24".into()]).await;
    let (_, gateway) = world.server.account(&world.org.id, "gateway", &[("tokens.introspect", "*")]).await;
    let token_id = gateway.caller().await.unwrap().credential_id;
    let assertion = world.assertion();
    let grant = [
        ("grant_type", JWT_BEARER),
        ("assertion", &*assertion),
        ("federation_rule_id", &*world.rule_id),
        ("client_id", &*token_id),
        ("client_secret", gateway.token()),
    ];
    let from = |address: &'static str| [&grant[..], &[("client_address", address)]].concat();
    let answer = post(&world, "", &from("192.0.2.7")).await;
    assert_eq!(outcome(&answer), "200");
    assert_eq!(claims(answer.1["access_token"].as_str().unwrap())["client_id"], world.rule_id);
    assert_eq!(
        outcome(&post(&world, "", &from("198.51.100.7")).await),
        "400 invalid_grant ADDRESS_NOT_ALLOWED"
    );
    // The client fails, whatever the subject is.
    world
        .org
        .owner
        .tokens()
        .revoke_token(pb::RevokeTokenRequest {
            org_id: world.org.id.clone(),
            target: Some(pb::revoke_token_request::Target::TokenId(token_id.clone())),
            ..Default::default()
        })
        .await
        .unwrap();
    assert_eq!(outcome(&post(&world, "", &from("192.0.2.7")).await), "401 invalid_client TOKEN_REVOKED");
}
