use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    KeyPair as _, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding,
};
use serde_json::json;

use super::*;
use crate::domain::tokens::public_key::KeyAlgorithm;
use crate::domain::tokens::public_key::tests::Pair;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine as _};

fn parse(keys: &[Value], algorithms: &[Algorithm]) -> KeySet {
    let text = json!({"keys": keys}).to_string();
    KeySet::parse(text.as_bytes(), KeyUse::Signature, algorithms).unwrap()
}

fn with(jwk: &Value, changes: Value) -> Value {
    let mut jwk = jwk.clone();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(jwk.as_object_mut().unwrap().remove(name)),
            value => jwk[name] = value.clone(),
        }
    }
    jwk
}

/// Why the only key of a set is left out, if it is.
fn left_out(jwk: Value) -> Option<Unusable> {
    parse(&[jwk], &Algorithm::ALL).left_out().first().copied()
}

#[test]
fn each_algorithm_verifies_what_its_key_signed() {
    let message = b"header.claims";
    let random = SystemRandom::new();
    let rsa_pair = rsa::KeyPair::generate(KeySize::Rsa2048).unwrap();
    let modulus = BASE64URL.encode(rsa_pair.public_key().modulus().big_endian_without_leading_zero());
    let rsa_jwk = json!({"kty": "RSA", "n": modulus, "e": "AQAB"});
    let rsa_signature = |encoding: &'static dyn RsaEncoding| {
        let mut signature = vec![0; rsa_pair.public_modulus_len()];
        rsa_pair.sign(encoding, &random, message, &mut signature).unwrap();
        signature
    };
    let ec = |algorithm: &'static EcdsaSigningAlgorithm, crv: &str, length: usize| {
        let pair = EcdsaKeyPair::generate(algorithm).unwrap();
        let point = pair.public_key().as_ref();
        let (x, y) = (BASE64URL.encode(&point[1..=length]), BASE64URL.encode(&point[1 + length..]));
        let signature = pair.sign(&random, message).unwrap().as_ref().to_vec();
        (json!({"kty": "EC", "crv": crv, "x": x, "y": y}), signature)
    };
    let (ed25519, p256) = (Pair::ed25519(), Pair::p256());
    let (p384, p384_signature) = ec(&ECDSA_P384_SHA384_FIXED_SIGNING, "P-384", 48);
    let (p521, p521_signature) = ec(&ECDSA_P521_SHA512_FIXED_SIGNING, "P-521", 66);
    let cases = [
        (Algorithm::EdDsa, ed25519.jwk(), ed25519.sign(message)),
        (Algorithm::Es256, p256.jwk(), p256.sign(message)),
        (Algorithm::Es384, p384, p384_signature),
        (Algorithm::Es512, p521, p521_signature),
        (Algorithm::Rs384, rsa_jwk.clone(), rsa_signature(&RSA_PKCS1_SHA384)),
        (Algorithm::Rs512, rsa_jwk.clone(), rsa_signature(&RSA_PKCS1_SHA512)),
        (Algorithm::Ps384, rsa_jwk.clone(), rsa_signature(&RSA_PSS_SHA384)),
        (Algorithm::Ps512, rsa_jwk, rsa_signature(&RSA_PSS_SHA512)),
    ];
    for (algorithm, jwk, signature) in cases {
        let set = parse(&[with(&jwk, json!({"kid": "a"}))], &Algorithm::ALL);
        let Named::Key(key) = set.named(Some("a"), algorithm, &signature) else { panic!("{algorithm:?}") };
        assert!(key.verifies(algorithm, message, &signature), "{algorithm:?}");
        assert!(!key.verifies(algorithm, b"header.claimz", &signature), "{algorithm:?}");
        for other in Algorithm::ALL.into_iter().filter(|other| *other != algorithm) {
            assert!(!key.verifies(other, message, &signature), "{other:?} with a signature of {algorithm:?}");
        }
    }
}

#[test]
fn a_key_is_for_the_algorithms_of_its_issuer_and_its_own() {
    let rsa = Pair::rsa(KeySize::Rsa2048, KeyAlgorithm::Rs256).jwk();
    let free = with(&rsa, json!({"alg": null}));
    let of = |jwk: &Value, algorithms: &[Algorithm]| {
        let set = parse(std::slice::from_ref(jwk), algorithms);
        set.keys().iter().flat_map(IssuerKey::algorithms).collect::<Vec<_>>()
    };
    assert_eq!(of(&rsa, &Algorithm::ALL), [Algorithm::Rs256]);
    assert_eq!(
        of(&free, &[Algorithm::Rs256, Algorithm::Ps256, Algorithm::Es256]),
        [Algorithm::Rs256, Algorithm::Ps256]
    );
    assert_eq!(of(&rsa, &[Algorithm::Ps256]), []);
    assert_eq!(of(&Pair::p256().jwk(), &Algorithm::ALL), [Algorithm::Es256]);
}

#[test]
fn a_key_that_is_of_no_use_is_left_out_alone() {
    let rsa = Pair::rsa(KeySize::Rsa2048, KeyAlgorithm::Rs256).jwk();
    let (ed25519, p256) = (Pair::ed25519().jwk(), Pair::p256().jwk());
    let modulus = |bits: usize| {
        let mut bytes = vec![0xff; bits.div_ceil(8)];
        bytes[0] >>= bytes.len() * 8 - bits;
        BASE64URL.encode(bytes)
    };
    for (jwk, expected) in [
        (ed25519.clone(), None),
        (with(&ed25519, json!({"use": "sig", "alg": "EdDSA", "kid": "k", "x5c": [], "exp": 5})), None),
        (with(&ed25519, json!({"key_ops": ["verify"]})), None),
        (with(&ed25519, json!({"use": "enc"})), Some(Unusable::OtherUse)),
        (with(&ed25519, json!({"use": "jwt-svid"})), Some(Unusable::OtherUse)),
        (with(&ed25519, json!({"use": null, "key_ops": ["sign"]})), Some(Unusable::OtherUse)),
        (with(&ed25519, json!({"alg": "ES256"})), Some(Unusable::OtherUse)),
        (with(&ed25519, json!({"alg": "none"})), Some(Unusable::OtherUse)),
        (with(&ed25519, json!({"crv": "X25519"})), Some(Unusable::OtherUse)),
        (with(&ed25519, json!({"d": "AA"})), Some(Unusable::Private)),
        (json!({"kty": "oct", "k": "AA", "alg": "HS256"}), Some(Unusable::Private)),
        (with(&ed25519, json!({"x": "AA"})), Some(Unusable::Malformed)),
        (with(&ed25519, json!({"x": BASE64URL.encode([2; 32])})), Some(Unusable::Malformed)),
        (with(&ed25519, json!({"kid": ""})), Some(Unusable::Malformed)),
        (with(&ed25519, json!({"kid": 5})), Some(Unusable::Malformed)),
        (with(&ed25519, json!({"kid": "k".repeat(256)})), Some(Unusable::Malformed)),
        (with(&p256, json!({"y": p256["x"]})), Some(Unusable::Malformed)),
        (with(&p256, json!({"crv": "secp256k1"})), Some(Unusable::OtherUse)),
        (rsa.clone(), None),
        (with(&rsa, json!({"n": modulus(2_048)})), None),
        (with(&rsa, json!({"n": modulus(4_096)})), None),
        (with(&rsa, json!({"n": modulus(1_024)})), Some(Unusable::WeakRsa)),
        (with(&rsa, json!({"n": modulus(2_047)})), Some(Unusable::WeakRsa)),
        (with(&rsa, json!({"n": modulus(4_097)})), Some(Unusable::WeakRsa)),
        (with(&rsa, json!({"n": modulus(8_192)})), Some(Unusable::WeakRsa)),
        (with(&rsa, json!({"e": "Aw"})), Some(Unusable::WeakRsa)),
        (with(&rsa, json!({"e": "AAEAAQ"})), Some(Unusable::WeakRsa)),
        (with(&rsa, json!({"n": "AA"})), Some(Unusable::Malformed)),
        (json!({}), Some(Unusable::OtherUse)),
    ] {
        assert_eq!(left_out(jwk.clone()), expected, "{jwk}");
    }
    let set = parse(&[json!({"kty": "unknown"}), ed25519], &Algorithm::ALL);
    assert_eq!((set.keys().len(), set.left_out()), (1, &[Unusable::OtherUse][..]));
}

#[test]
fn a_key_is_found_by_kid_alone_or_is_the_only_one() {
    let jwk = |pair: &Pair, kid: &str| with(&pair.jwk(), json!({"kid": kid}));
    let (one, two, p256) = (Pair::ed25519(), Pair::ed25519(), Pair::p256());
    let signature = [1; 64];
    let named = |set: &KeySet, kid: Option<&str>, algorithm| match set.named(kid, algorithm, &signature) {
        Named::Key(key) => key.kid().unwrap_or("none").to_owned(),
        Named::Unknown => "unknown".to_owned(),
        Named::Unfit => "unfit".to_owned(),
    };
    let set = parse(&[jwk(&one, "1"), jwk(&two, "2"), jwk(&p256, "3")], &Algorithm::ALL);
    for (kid, algorithm, expected) in [
        (Some("1"), Algorithm::EdDsa, "1"),
        (Some("2"), Algorithm::EdDsa, "2"),
        (Some("1"), Algorithm::Es256, "unfit"),
        (Some("3"), Algorithm::Es256, "3"),
        (Some("3"), Algorithm::Rs256, "unfit"),
        (Some("4"), Algorithm::EdDsa, "unknown"),
        (Some("../../1"), Algorithm::EdDsa, "unknown"),
        (Some(""), Algorithm::EdDsa, "unknown"),
        // Which of two it is, is not for the JWT to leave open.
        (None, Algorithm::EdDsa, "unfit"),
        (None, Algorithm::Es256, "3"),
        (None, Algorithm::Rs256, "unfit"),
    ] {
        assert_eq!(named(&set, kid, algorithm), expected, "{kid:?} {algorithm:?}");
    }
    assert!(matches!(set.named(Some("1"), Algorithm::EdDsa, &[1; 63]), Named::Unfit));
    let without = parse(&[one.jwk()], &Algorithm::ALL);
    assert_eq!(named(&without, None, Algorithm::EdDsa), "none");
    assert_eq!(named(&without, Some("1"), Algorithm::EdDsa), "unknown");
    // Neither of two with one `kid` is meant.
    let twice = parse(&[jwk(&one, "1"), jwk(&two, "1"), jwk(&p256, "1"), jwk(&p256, "3")], &Algorithm::ALL);
    assert_eq!((twice.keys().len(), twice.left_out()), (1, &[Unusable::SharedKid; 3][..]));
    assert_eq!(named(&twice, Some("1"), Algorithm::EdDsa), "unknown");
}

#[test]
fn a_set_is_bounded_and_read_in_one_way() {
    let parse = |text: &str| KeySet::parse(text.as_bytes(), KeyUse::Signature, &Algorithm::ALL);
    assert!(parse(r#"{"keys":[]}"#).unwrap().keys().is_empty());
    let many = |count: usize| format!(r#"{{"keys":[{}]}}"#, vec![r#"{"kty":"x"}"#; count].join(","));
    assert_eq!(parse(&many(MAX_KEYS)).unwrap().left_out().len(), MAX_KEYS);
    assert_eq!(parse(&many(MAX_KEYS + 1)).unwrap_err(), BadKeySet::TooManyKeys);
    assert_eq!(parse(&many(10_000)).unwrap_err(), BadKeySet::TooManyKeys);
    let large = format!(r#"{{"keys":[],"a":"{}"}}"#, "a".repeat(MAX_SET));
    assert_eq!(parse(&large).unwrap_err(), BadKeySet::TooLarge);
    for bad in [
        "",
        "null",
        "[]",
        "{}",
        r#"{"keys":{}}"#,
        r#"{"keys":["a"]}"#,
        r#"{"keys":[],"keys":[]}"#,
        r#"{"keys":[{"kid":"a","kid":"b"}]}"#,
    ] {
        assert_eq!(parse(bad).unwrap_err(), BadKeySet::Malformed, "{bad}");
    }
}

#[test]
fn a_bundle_says_which_keys_are_for_jwts() {
    let pair = Pair::p256();
    let jwk = |r#use: Value| with(&pair.jwk(), json!({"kid": "k", "use": r#use}));
    let parse = |jwk: Value| {
        let text = json!({"keys": [jwk], "spiffe_sequence": 1, "spiffe_refresh_hint": 300}).to_string();
        KeySet::parse(text.as_bytes(), KeyUse::JwtSvid, &Algorithm::ALL).unwrap()
    };
    let good = parse(jwk(json!("jwt-svid")));
    assert_eq!((good.keys().len(), good.refresh_hint()), (1, Some(300)));
    for other in [json!("x509-svid"), json!("sig"), Value::Null] {
        assert_eq!(parse(jwk(other.clone())).keys().len(), 0, "{other}");
    }
}

#[test]
fn its_thumbprint_is_that_of_the_key_whatever_else_is_said_of_it() {
    for pair in [Pair::ed25519(), Pair::p256(), Pair::rsa(KeySize::Rsa2048, KeyAlgorithm::Rs256)] {
        let set = parse(&[with(&pair.jwk(), json!({"kid": "own", "x5t": "a"}))], &Algorithm::ALL);
        assert_eq!(set.keys()[0].thumbprint(), pair.key().thumbprint());
        assert!(set.holds(pair.key().thumbprint()));
        assert!(!set.holds(Pair::ed25519().key().thumbprint()));
    }
}
