//! What attackers send as the JWT of another issuer: each is refused with the same answer.

use aws_lc_rs::hmac;
use aws_lc_rs::rsa::KeySize;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine as _};
use countersign::grpc::pb;
use serde_json::{Value, json};
use tonic::Code;

use super::{SUBJECT, World, changed};
use crate::harness::{LiveIssuer, Signer, reason, refused};

#[tokio::test]
async fn what_is_not_the_jwt_of_the_rule_is_refused_with_one_answer() {
    let world = World::with(
        |_| {},
        |rule| {
            rule.claims = vec![pb::ClaimMatch {
                path: vec!["kubernetes.io".into(), "namespace".into()],
                values: vec!["prod".into()],
                ..Default::default()
            }];
        },
    )
    .await;
    let at = world.server.state.clock.now().unix_timestamp();
    let own = json!({"kubernetes.io": {"namespace": "prod"}});
    let claims = |changes: Value| changed(&world.claims(own.clone()), &changes);
    let good = claims(json!({}));
    let header = json!({"alg": "EdDSA", "kid": "1"});
    world.exchange(&world.signed(&good)).await.unwrap();

    let hs256 = |secret: &[u8]| {
        let message = format!(
            "{}.{}",
            BASE64URL.encode(json!({"alg": "HS256", "kid": "1"}).to_string()),
            BASE64URL.encode(good.to_string())
        );
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
        format!("{message}.{}", BASE64URL.encode(tag))
    };
    let unsigned = |alg: &str| {
        let part = |json: &Value| BASE64URL.encode(json.to_string());
        format!("{}.{}.", part(&json!({"alg": alg})), part(&good))
    };
    let public = BASE64URL.decode(world.signer.jwk()["x"].as_str().unwrap()).unwrap();
    let text = |claims: &str| world.signer.sign_text(&header.to_string(), claims);
    let twice = |find: &str, twice: &str| text(&good.to_string().replacen(find, twice, 1));
    let url = world.live.url.clone();
    let port = url.rsplit(':').next().unwrap();
    let own_jwt = world.org.owner.exchange().await.unwrap().access_token;
    let (_, other) = world.server.account(&world.org.id, "other", &[]).await;

    let mut bad: Vec<(&str, String)> = vec![
        ("none", unsigned("none")),
        ("None", unsigned("None")),
        ("HS256 with the public key", hs256(&public)),
        ("HS256 with the JWK", hs256(world.signer.jwk().to_string().as_bytes())),
        ("another algorithm of the key", world.signer.sign(&json!({"alg": "ES256", "kid": "1"}), &good)),
        (
            "an algorithm that the issuer has not",
            world.signer.sign(&json!({"alg": "ES384", "kid": "1"}), &good),
        ),
        ("no algorithm", world.signer.sign(&json!({"kid": "1"}), &good)),
        ("another kid", world.signer.sign(&json!({"alg": "EdDSA", "kid": "2"}), &good)),
        (
            "a kid that is a path",
            world.signer.sign(&json!({"alg": "EdDSA", "kid": "../../etc/passwd"}), &good),
        ),
        ("a kid that is SQL", world.signer.sign(&json!({"alg": "EdDSA", "kid": "1' or '1'='1"}), &good)),
        ("a kid that is a number", world.signer.sign(&json!({"alg": "EdDSA", "kid": 1}), &good)),
        ("a key of its own", world.signer.sign(&json!({"alg": "EdDSA", "jwk": world.signer.jwk()}), &good)),
        ("crit", world.signer.sign(&json!({"alg": "EdDSA", "kid": "1", "crit": ["x"]}), &good)),
        ("a key of another", Signer::ed25519().sign(&header, &good)),
        ("a signature cut short", world.signed(&good).rsplit_once('.').unwrap().0.to_owned() + ".AA"),
        ("no signature", world.signed(&good).rsplit_once('.').unwrap().0.to_owned() + "."),
        ("four parts", world.signed(&good) + ".AA"),
        ("a member twice", twice("{", r#"{"sub":"x","#)),
        ("a member twice, below", twice(r#""namespace":"prod""#, r#""namespace":"x","namespace":"prod""#)),
        ("a member twice, escaped", twice("{", r#"{"\u0073ub":"x","#)),
        ("no object", text("[]")),
        ("too deep", text(&format!("{{\"a\":{}{}}}", "[".repeat(40), "]".repeat(40)))),
        ("too long", text(&json!({"a": "a".repeat(17_000)}).to_string())),
        ("our own JWT's shape", own_jwt.replace('.', "")),
        ("a token", other.token().to_owned()),
        ("nothing much", ".".to_owned()),
    ];
    for (what, changes) in [
        ("iss with a slash", json!({"iss": format!("{url}/")})),
        ("iss in another case", json!({"iss": url.replace("localhost", "LocalHost")})),
        ("iss with another scheme", json!({"iss": url.replace("https", "HTTPS")})),
        ("iss without a port", json!({"iss": "https://localhost"})),
        ("iss with another port", json!({"iss": format!("{url}0")})),
        ("iss with a user", json!({"iss": url.replace("localhost", "user@localhost")})),
        ("iss with a dot", json!({"iss": format!("https://localhost.:{port}")})),
        ("iss percent-encoded", json!({"iss": url.replace("localhost", "%6cocalhost")})),
        ("iss as a list", json!({"iss": [url]})),
        ("no iss", json!({"iss": null})),
        ("sub of another", json!({"sub": format!("{SUBJECT}x")})),
        ("sub that looks alike", json!({"sub": SUBJECT.replace('a', "\u{430}")})),
        ("sub of two", json!({"sub": format!("{SUBJECT}|x")})),
        ("sub as a list", json!({"sub": [SUBJECT]})),
        ("sub as an object", json!({"sub": {"sub": SUBJECT}})),
        ("no sub", json!({"sub": null})),
        ("aud with a foreign one", json!({"aud": [world.server.endpoint, "https://evil.example"]})),
        ("aud of another", json!({"aud": "https://evil.example"})),
        ("aud with a slash", json!({"aud": format!("{}/", world.server.endpoint)})),
        ("no aud", json!({"aud": null})),
        ("empty aud", json!({"aud": []})),
        ("ten years", json!({"exp": at + 315_360_000})),
        ("ten years without iat", json!({"iat": null, "exp": at + 315_360_000})),
        ("expired", json!({"exp": at})),
        ("exp as text", json!({"exp": (at + 60).to_string()})),
        ("exp with a fraction", json!({"exp": at as f64 + 60.5})),
        ("no exp", json!({"exp": null})),
        ("iat in the future", json!({"iat": at + 61, "exp": at + 120})),
        ("nbf in the future", json!({"nbf": at + 61})),
        ("a claim as a list", json!({"kubernetes.io": {"namespace": ["prod"]}})),
        ("a claim as a number", json!({"kubernetes.io": {"namespace": 5}})),
        ("a claim of another", json!({"kubernetes.io": {"namespace": "staging"}})),
        ("a claim with dots for objects", json!({"kubernetes.io": null, "kubernetes.io.namespace": "prod"})),
        (
            "a claim with a slash for objects",
            json!({"kubernetes.io": null, "kubernetes.io/namespace": "prod"}),
        ),
        ("a claim within a list", json!({"kubernetes.io": [{"namespace": "prod"}]})),
    ] {
        bad.push((what, world.signed(&claims(changes))));
    }
    let mut messages = Vec::new();
    for (what, assertion) in &bad {
        let status = world.exchange(assertion).await.expect_err(what);
        let expected = ["TOKEN_INVALID", "THROTTLED"];
        assert!(expected.contains(&&*reason(&status)), "{what}: {status:?}");
        if reason(&status) == "TOKEN_INVALID" {
            messages.push(status.message().to_owned());
        }
    }
    messages.dedup();
    assert_eq!(messages.len(), 1, "{messages:?}");
}

#[tokio::test]
async fn keys_that_are_weak_or_doubled_verify_nothing() {
    let world = World::new().await;
    let clock = world.server.state.clock.clone();
    let rsa = Signer::rsa(KeySize::Rsa2048, "RS256").await;
    let with = |jwk: &Value, changes: Value| changed(jwk, &changes);
    let by_rsa = rsa.sign(&json!({"alg": "RS256", "kid": "r"}), &world.claims(json!({})));
    let by_ed = world.assertion();
    let ed = with(&world.signer.jwk(), json!({"kid": "1"}));
    for (keys, assertion, good) in [
        (vec![with(&rsa.jwk(), json!({"kid": "r"}))], &by_rsa, true),
        (vec![with(&rsa.jwk(), json!({"kid": "r", "use": "enc"}))], &by_rsa, false),
        (vec![with(&rsa.jwk(), json!({"kid": "r", "alg": "PS256"}))], &by_rsa, false),
        (vec![with(&rsa.jwk(), json!({"kid": "r", "e": "Aw"}))], &by_rsa, false),
        (vec![with(&rsa.jwk(), json!({"kid": "r", "d": "AA"}))], &by_rsa, false),
        (vec![ed.clone()], &by_ed, true),
        // Two keys of one `kid`, of which one is another's.
        (vec![ed.clone(), with(&Signer::ed25519().jwk(), json!({"kid": "1"}))], &by_ed, false),
        (vec![with(&ed, json!({"kid": "2"}))], &by_ed, false),
        (vec![], &by_ed, false),
        (vec![ed.clone()], &by_ed, true),
    ] {
        world.live.publish_jwks(keys.clone());
        // Fetched anew: the last set is too old.
        clock.advance(std::time::Duration::from_secs(3_601));
        let claims = world.claims(json!({}));
        let header: Value =
            serde_json::from_slice(&BASE64URL.decode(assertion.split('.').next().unwrap()).unwrap()).unwrap();
        let signer = if header["alg"] == "RS256" { &rsa } else { &world.signer };
        let exchanged = world.exchange(&signer.sign(&header, &claims)).await;
        assert_eq!(exchanged.is_ok(), good, "{keys:?} {exchanged:?}");
    }
}

#[tokio::test]
async fn this_deployment_is_never_an_issuer() {
    let world = World::new().await;
    let own = world.org.owner.exchange().await.unwrap().access_token;
    let not_exchangeable = "SUBJECT_NOT_EXCHANGEABLE";
    refused(world.exchange(&own).await, Code::InvalidArgument, not_exchangeable);
    // Whichever key signed it: its `iss` is ours.
    let issuer = world.server.endpoint.clone();
    for iss in [issuer.clone(), format!("{issuer}/")] {
        let named = world.signed(&world.claims(json!({"iss": iss})));
        let refusal = world.exchange(&named).await.unwrap_err();
        // Only that of https can be read in another spelling.
        let expected = if iss == issuer { not_exchangeable } else { "TOKEN_INVALID" };
        assert_eq!(reason(&refusal), expected, "{iss}");
    }
}

#[tokio::test]
async fn an_svid_is_taken_of_its_trust_domain_alone() {
    let signer = Signer::p256();
    let bundle = |kid: &str, signer: &Signer| {
        let mut jwk = signer.jwk();
        jwk["kid"] = json!(kid);
        jwk["use"] = json!("jwt-svid");
        let mut other = Signer::p256().jwk();
        other["kid"] = json!("x509");
        other["use"] = json!("x509-svid");
        json!({"keys": [jwk, other], "spiffe_sequence": 1}).to_string()
    };
    let jwks = bundle("1", &signer);
    let live = LiveIssuer::start().await;
    let limits = live.limits();
    let issuer = |issuer: &mut pb::Issuer| {
        issuer.kind = pb::IssuerKind::Spiffe.into();
        issuer.issuer = "spiffe://localhost".into();
        issuer.jwks = jwks;
    };
    let rule = |rule: &mut pb::FederationRule| {
        let prefix = pb::federation_rule::SubjectMatch::SubjectPrefix("spiffe://localhost/ns/web/".into());
        rule.subject_match = Some(prefix);
    };
    let world = World::of(live, limits, signer, issuer, rule).await;
    let svid = |sub: &str| {
        world.signed(
            &world.claims(json!({"iss": null, "iat": null, "sub": sub, "aud": [world.server.endpoint]})),
        )
    };
    world.exchange(&svid("spiffe://localhost/ns/web/sa/a")).await.unwrap();
    for sub in [
        "spiffe://localhost/ns/db/sa/a",
        "spiffe://other.example/ns/web/sa/a",
        "spiffe://localhost/ns/web/",
        "spiffe://localhost/ns/web/../db",
        "spiffe://localhost/ns/web",
        "https://localhost/ns/web/sa/a",
    ] {
        refused(world.exchange(&svid(sub)).await, Code::Unauthenticated, "TOKEN_INVALID");
    }
}
