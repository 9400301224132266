use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine as _};
use serde_json::{Value, json};

use super::*;
use crate::domain::access::credential::tests::now;
use crate::domain::tokens::public_key::tests::Pair;
use crate::domain::tokens::secrets::{Proof, SecretRecord};

const ISSUER: &str = "https://id.example";

fn id() -> String {
    TokenId::from_u128(7).to_string()
}

/// Good claims, with these in place of some; null stands for none.
fn claims(changes: Value) -> Value {
    let time = now().unix_timestamp();
    let mut claims =
        json!({"iss": id(), "sub": id(), "aud": ISSUER, "iat": time, "exp": time + 60, "jti": "1"});
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

fn text(header: &Value, claims: &Value) -> String {
    let part = |json: &Value| BASE64URL.encode(json.to_string());
    format!("{}.{}.{}", part(header), part(claims), BASE64URL.encode([1; 64]))
}

fn fault(header: Value, changes: Value) -> Option<AssertionCheck> {
    Assertion::read(&text(&header, &claims(changes)), ISSUER, now()).err().map(|fault| fault.check)
}

#[test]
fn a_good_one_is_read() {
    let header = json!({"alg": "EdDSA", "typ": "client-authentication+jwt"});
    let text = text(&header, &claims(json!({})));
    let Ok(read) = Assertion::read(&text, ISSUER, now()) else { panic!("it is good") };
    assert_eq!((read.token_id, read.algorithm()), (TokenId::from_u128(7), KeyAlgorithm::EdDsa));
    assert_eq!(read.used.keep_until, now() + Duration::seconds(180));
    assert_eq!(read.used.jti_hash.as_slice(), digest(&SHA256, b"1").as_ref());
    let (signed, signature) = read.signed();
    assert!(text.starts_with(signed) && signature == [1; 64]);
}

#[test]
fn the_header_is_that_of_an_assertion() {
    use AssertionCheck::{Header, Shape};
    for (header, expected) in [
        (json!({"alg": "EdDSA"}), None),
        (json!({"alg": "ES256", "typ": "JWT", "kid": "x"}), None),
        (json!({"alg": "ES256", "jku": "https://a.example", "x5u": "https://a.example"}), None),
        (json!({"alg": "EdDSA", "typ": "jwt"}), Some(Header)),
        (json!({"alg": "EdDSA", "typ": "at+jwt"}), Some(Header)),
        (json!({"alg": "EdDSA", "typ": null}), Some(Header)),
        (json!({"alg": "EdDSA", "kid": 5}), Some(Header)),
        (json!({}), Some(Header)),
        (json!({"alg": "none"}), Some(Header)),
        (json!({"alg": "HS256"}), Some(Header)),
        (json!({"alg": "ES384"}), Some(Header)),
        (json!({"alg": "eddsa"}), Some(Header)),
        // No RSA key signs with 64 bytes.
        (json!({"alg": "RS256"}), Some(Header)),
        (json!({"alg": "EdDSA", "crit": []}), Some(Shape)),
        (json!({"alg": "EdDSA", "jwk": {}}), Some(Shape)),
    ] {
        assert_eq!(fault(header.clone(), json!({})), expected, "{header}");
    }
}

#[test]
fn the_claims_are_those_of_an_assertion() {
    use AssertionCheck::{Audience, Once, Subject, Time};
    let at = now().unix_timestamp();
    for (changes, expected) in [
        (json!({}), None),
        (json!({"iss": null}), Some(Subject)),
        (json!({"sub": null}), Some(Subject)),
        (json!({"sub": TokenId::from_u128(8).to_string()}), Some(Subject)),
        (json!({"iss": "acct_x", "sub": "acct_x"}), Some(Subject)),
        (json!({"iss": [id()], "sub": [id()]}), Some(Subject)),
        (json!({"aud": null}), Some(Audience)),
        (json!({"aud": [ISSUER]}), Some(Audience)),
        (json!({"aud": [ISSUER, "https://b.example"]}), Some(Audience)),
        (json!({"aud": format!("{ISSUER}/")}), Some(Audience)),
        (json!({"aud": format!("{ISSUER}/oauth2/token")}), Some(Audience)),
        (json!({"exp": null}), Some(Time)),
        (json!({"exp": at}), Some(Time)),
        (json!({"exp": at + 1}), None),
        (json!({"exp": (at + 60).to_string()}), Some(Time)),
        (json!({"exp": (at + 60) as f64 + 0.5}), Some(Time)),
        (json!({"iat": at as f64}), Some(Time)),
        (json!({"nbf": "0"}), Some(Time)),
        // However far its end is, it is good for five minutes.
        (json!({"iat": at - 299, "exp": at + 1_000_000}), None),
        (json!({"iat": at - 300, "exp": at + 1_000_000}), Some(Time)),
        (json!({"iat": i64::MIN, "exp": i64::MAX}), Some(Time)),
        (json!({"iat": null, "exp": at + 300}), None),
        (json!({"iat": null, "exp": at + 301}), Some(Time)),
        (json!({"iat": at + 60, "exp": at + 400}), None),
        (json!({"iat": at + 61, "exp": at + 400}), Some(Time)),
        (json!({"iat": i64::MAX, "exp": i64::MAX}), Some(Time)),
        (json!({"nbf": at + 60}), None),
        (json!({"nbf": at + 61}), Some(Time)),
        (json!({"jti": null}), Some(Once)),
        (json!({"jti": ""}), Some(Once)),
        (json!({"jti": 5}), Some(Once)),
    ] {
        assert_eq!(fault(json!({"alg": "EdDSA"}), changes.clone()), expected, "{changes}");
    }
}

#[test]
fn its_use_is_known_until_it_has_expired_by_every_clock() {
    let at = now().unix_timestamp();
    for (changes, good_for) in [
        (json!({"iat": at, "exp": at + 10}), 10),
        (json!({"iat": at, "exp": at + 1_000}), 300),
        (json!({"iat": at + 60, "exp": at + 1_000}), 360),
        (json!({"iat": null, "exp": at + 300}), 300),
    ] {
        let text = text(&json!({"alg": "EdDSA"}), &claims(changes));
        let Ok(read) = Assertion::read(&text, ISSUER, now()) else { panic!("it is good") };
        assert_eq!(read.used.keep_until, now() + Duration::seconds(good_for + KEPT_LONGER));
    }
}

#[test]
fn the_key_determines_the_algorithm_and_a_kid_the_key() {
    let (one, other, p256) = (Pair::ed25519().key(), Pair::ed25519().key(), Pair::p256().key());
    let secret = |number: i32, proof: Proof| Secret { number, expire_time: None, proof };
    let secrets = [
        secret(1, Proof::Key(one.into())),
        secret(2, Proof::Key(other.into())),
        secret(3, Proof::Key(p256.into())),
        secret(4, Proof::Untrusted),
        secret(5, SecretRecord { mac: [0; 32], pepper: 1 }.into()),
    ];
    let kid = |place: usize| secrets[place].key().unwrap().thumbprint().to_string();
    for (header, expected) in [
        (json!({"alg": "EdDSA"}), &[2, 1][..]),
        (json!({"alg": "EdDSA", "kid": kid(0)}), &[1]),
        (json!({"alg": "EdDSA", "kid": kid(2)}), &[]),
        (json!({"alg": "EdDSA", "kid": "another"}), &[]),
        (json!({"alg": "ES256"}), &[3]),
        (json!({"alg": "ES256", "kid": kid(2)}), &[3]),
    ] {
        let text = text(&header, &claims(json!({})));
        let Ok(read) = Assertion::read(&text, ISSUER, now()) else { panic!("{header} is good") };
        let numbers: Vec<_> = read.may_be_by_each(&secrets).map(|secret| secret.number).collect();
        assert_eq!(numbers, expected, "{header}");
    }
}
