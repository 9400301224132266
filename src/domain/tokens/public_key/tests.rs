use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RSA_PSS_SHA256,
};
use serde_json::json;

use super::*;

/// A pair, with the JWK of its public part.
pub(crate) enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
    Rsa(rsa::KeyPair, KeyAlgorithm),
}

impl Pair {
    pub(crate) fn ed25519() -> Self {
        Self::Ed25519(Ed25519KeyPair::generate().unwrap())
    }

    pub(crate) fn p256() -> Self {
        Self::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    pub(crate) fn rsa(size: rsa::KeySize, algorithm: KeyAlgorithm) -> Self {
        Self::Rsa(rsa::KeyPair::generate(size).unwrap(), algorithm)
    }

    pub(crate) fn jwk(&self) -> Value {
        let encode = |bytes: &[u8]| BASE64URL.encode(bytes);
        match self {
            Self::Ed25519(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key().as_ref())})
            }
            Self::P256(pair) => {
                let point = pair.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "x": encode(&point[1..33]), "y": encode(&point[33..])})
            }
            Self::Rsa(pair, algorithm) => {
                let key = pair.public_key();
                let modulus = key.modulus().big_endian_without_leading_zero();
                json!({"kty": "RSA", "n": encode(modulus), "e": "AQAB", "alg": algorithm.name()})
            }
        }
    }

    pub(crate) fn key(&self) -> PublicKey {
        PublicKey::parse(&self.jwk().to_string()).unwrap()
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Self::P256(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Rsa(pair, algorithm) => {
                let padding = match algorithm {
                    KeyAlgorithm::Ps256 => &RSA_PSS_SHA256 as &dyn aws_lc_rs::signature::RsaEncoding,
                    _ => &RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }
}

fn refusal(jwk: &Value) -> &'static str {
    PublicKey::parse(&jwk.to_string()).unwrap_err().0
}

#[test]
fn each_kind_verifies_what_its_pair_signed() {
    let pairs = [
        (Pair::ed25519(), KeyAlgorithm::EdDsa),
        (Pair::p256(), KeyAlgorithm::Es256),
        (Pair::rsa(rsa::KeySize::Rsa2048, KeyAlgorithm::Rs256), KeyAlgorithm::Rs256),
        (Pair::rsa(rsa::KeySize::Rsa3072, KeyAlgorithm::Ps256), KeyAlgorithm::Ps256),
    ];
    for (pair, algorithm) in &pairs {
        let key = pair.key();
        assert_eq!(key.algorithm(), *algorithm);
        let signature = pair.sign(b"message");
        assert_eq!(signature.len(), key.signature_len());
        assert!(key.verifies(b"message", &signature) && !key.verifies(b"another", &signature));
        assert!(!key.verifies(b"message", &[]) && algorithm.may_sign_with(signature.len()));
        // What is stored is read as the same key.
        let again = PublicKey::parse(key.jwk()).unwrap();
        assert_eq!(
            (again.jwk(), again.thumbprint(), again.spki()),
            (key.jwk(), key.thumbprint(), key.spki())
        );
        for (other, _) in pairs.iter().filter(|(_, other)| other != algorithm) {
            assert!(!other.key().verifies(b"message", &signature));
        }
    }
    assert!(!pairs[2].0.key().is_slow() && pairs[3].0.key().is_slow());
}

/// RFC 8037, appendix A.3, and RFC 7638, section 3.1.
#[test]
fn thumbprints_are_those_of_the_rfcs() {
    let ed25519 = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    let key = PublicKey::parse(&ed25519.to_string()).unwrap();
    assert_eq!(key.thumbprint().to_string(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    let expected = format!(
        r#"{{"alg":"EdDSA","crv":"Ed25519","kty":"OKP","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"{}","use":"sig"}}"#,
        key.thumbprint()
    );
    assert_eq!(key.jwk(), expected);
    let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3o\
             knjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZH\
             zu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU\
             8awapJzKnqDKgw";
    let rsa = json!({"kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256", "kid": "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"});
    let key = PublicKey::parse(&rsa.to_string()).unwrap();
    assert_eq!(key.thumbprint().to_string(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    // The same key for another algorithm is the same key.
    let mut pss = rsa;
    pss["alg"] = "PS256".into();
    assert_eq!(PublicKey::parse(&pss.to_string()).unwrap().thumbprint(), key.thumbprint());
}

#[test]
fn private_parts_are_refused() {
    for pair in [Pair::ed25519(), Pair::p256()] {
        for private in PRIVATE {
            let mut jwk = pair.jwk();
            jwk[private] = "AAAA".into();
            assert!(refusal(&jwk).contains("private"), "{private}");
        }
    }
    assert!(refusal(&json!({"kty": "oct", "k": "AAAA"})).contains("private"));
}

#[test]
fn what_is_no_key_is_refused() {
    let (ed25519, p256) = (Pair::ed25519().jwk(), Pair::p256().jwk());
    let rsa = Pair::rsa(rsa::KeySize::Rsa2048, KeyAlgorithm::Rs256).jwk();
    let with = |jwk: &Value, name: &str, value: Value| {
        let mut jwk = jwk.clone();
        jwk[name] = value;
        jwk
    };
    let modulus = |bytes: usize, first: u8| {
        let mut modulus = vec![0xff; bytes];
        modulus[0] = first;
        with(&rsa, "n", BASE64URL.encode(modulus).into())
    };
    let point = |y: u8| with(&ed25519, "x", BASE64URL.encode([&[y][..], &[0; 31]].concat()).into());
    for (jwk, says) in [
        (json!({}), "OKP, EC or RSA"),
        (json!([]), "JSON object"),
        (with(&ed25519, "kty", "EC".into()), "P-256"),
        (with(&ed25519, "crv", "X25519".into()), "Ed25519"),
        (with(&p256, "crv", "P-384".into()), "P-256"),
        (with(&p256, "crv", "secp256k1".into()), "P-256"),
        // No point, and points of small order.
        (point(2), "no point"),
        (point(1), "no point"),
        (point(0), "no point"),
        (with(&ed25519, "x", "AAAA".into()), "32 bytes"),
        (with(&ed25519, "x", 5.into()), "32 bytes"),
        (with(&p256, "y", with(&p256, "y", p256["x"].clone())["y"].clone()), "no point"),
        (with(&p256, "x", BASE64URL.encode([0; 32]).into()), "no point"),
        (with(&p256, "x", BASE64URL.encode([0; 33]).into()), "32 bytes"),
        (modulus(128, 0xff), "2048 to 4096"),
        (modulus(256, 0x7f), "2048 to 4096"),
        (modulus(257, 0), "2048 to 4096"),
        (modulus(513, 1), "2048 to 4096"),
        (with(&rsa, "e", "Aw".into()), "65537"),
        (with(&rsa, "e", "AAEAAQ".into()), "65537"),
        (with(&rsa, "n", format!("{}=", rsa["n"].as_str().unwrap()).into()), "2048 to 4096"),
        (with(&ed25519, "alg", "ES256".into()), "alg"),
        (with(&ed25519, "alg", Value::Null), "alg"),
        (with(&p256, "alg", "RS256".into()), "alg"),
        (with(&rsa, "alg", "RS512".into()), "alg"),
        (with(&rsa, "alg", "HS256".into()), "alg"),
        (with(&rsa, "alg", "none".into()), "alg"),
        (with(&ed25519, "use", "enc".into()), "use"),
        (with(&ed25519, "key_ops", json!(["sign"])), "key_ops"),
        (with(&ed25519, "key_ops", json!(["sign", "verify"])), "key_ops"),
        (with(&ed25519, "kid", "mine".into()), "thumbprint"),
    ] {
        assert!(refusal(&jwk).contains(says), "{jwk}: {}", refusal(&jwk));
    }
    let doubled = ed25519.to_string().replacen('{', r#"{"x":"","#, 1);
    assert!(PublicKey::parse(&doubled).is_err());
    let good = with(&with(&ed25519, "key_ops", json!(["verify"])), "use", "sig".into());
    assert!(PublicKey::parse(&with(&good, "x5t", json!({"a": 1})).to_string()).is_ok());
}

#[test]
fn its_length_is_limited() {
    let jwk = Pair::ed25519().jwk();
    let of = |length: usize| {
        let mut jwk = jwk.clone();
        jwk["x5c"] = "".into();
        let rest = length - jwk.to_string().len();
        jwk["x5c"] = "a".repeat(rest).into();
        jwk.to_string()
    };
    assert!(PublicKey::parse(&of(MAX_JWK)).is_ok() && PublicKey::parse(&of(MAX_JWK + 1)).is_err());
}

/// A decoy works as long as a key of a token, for each signature that some key could have made.
#[test]
fn there_is_a_decoy_for_each_signature() {
    for (algorithm, lengths) in [
        (KeyAlgorithm::EdDsa, &[64][..]),
        (KeyAlgorithm::Es256, &[64]),
        (KeyAlgorithm::Rs256, &[256, 300, 384, 400, 512]),
        (KeyAlgorithm::Ps256, &[256, 257, 512]),
    ] {
        for length in lengths {
            assert!(algorithm.may_sign_with(*length));
            let (key, padded) = decoy(algorithm, &vec![7; *length]);
            assert_eq!((key.algorithm(), padded.len()), (algorithm, key.signature_len()));
            assert!(padded.len() >= *length && padded.ends_with(&vec![7; *length]));
            assert!(!key.verifies(b"message", &padded));
        }
        assert!(!algorithm.may_sign_with(0) && !algorithm.may_sign_with(513));
    }
}
