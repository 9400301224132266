//! Tests of signing and verifying, with keys of each algorithm.

use aws_lc_rs::hmac;
use jsonwebtoken::jwk::ThumbprintHash;
use serde_json::{Value, json};

use super::*;
use crate::crypto::key_pair::NewKey;
use crate::domain::access::access_token::Audiences;
use crate::domain::values::ids::{AccountId, OrgId, TokenId};
use SigningAlgorithm::{EdDsa, Es256, Rs256};

const NOW: i64 = 1_800_000_000;

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(NOW).unwrap()
}

fn times(kid: &str, state: KeyState) -> KeyTimes {
    KeyTimes { kid: kid.into(), state, create_time: now(), activate_time: None, retire_time: None }
}

fn signer(algorithm: SigningAlgorithm) -> Signer {
    let master = MasterKeys::for_tests();
    let key = NewKey::generate(&master, algorithm).unwrap();
    let keys = KeySet::open(&master, [(times(&key.kid, KeyState::Active), key.sealed.as_slice())]).unwrap();
    Signer::new("https://id.example".into(), keys)
}

/// Signers of one issuer that publish all their keys, each signing with one algorithm.
fn signers() -> Vec<Signer> {
    let master = MasterKeys::for_tests();
    let algorithms = SigningAlgorithm::ALL;
    let keys: Vec<_> = algorithms.iter().map(|a| NewKey::generate(&master, *a).unwrap()).collect();
    let rows = |active: &SigningAlgorithm| {
        let rows = keys.iter().map(|key| {
            let state = if key.algorithm == *active { KeyState::Active } else { KeyState::Retiring };
            (times(&key.kid, state), key.sealed.as_slice())
        });
        KeySet::open(&master, rows.collect::<Vec<_>>()).unwrap()
    };
    algorithms.iter().map(|a| Signer::new("https://id.example".into(), rows(a))).collect()
}

fn claims() -> Claims {
    Claims {
        iss: "https://id.example".into(),
        sub: AccountId::from_u128(2).to_string(),
        aud: Audiences::One("https://id.example".to_owned()),
        exp: NOW + 300,
        iat: NOW,
        nbf: NOW,
        jti: "j".into(),
        client_id: TokenId::from_u128(3).to_string(),
        scope: "tokens.read".into(),
        org: OrgId::from_u128(1).to_string(),
        account_kind: "SERVICE_ACCOUNT".into(),
        token_kind: "SECRET".into(),
        org_ver: 1,
        acct_ver: 1,
        secret: Some(1),
        rule_ver: None,
        cnf: None,
        act: None,
        roles: None,
        authorization_details: Vec::new(),
    }
}

fn encoded(claims: &Claims) -> Vec<u8> {
    serde_json::to_vec(claims).unwrap()
}

fn unsigned(header: &str, claims: &str) -> String {
    format!("{}.{}", BASE64URL.encode(header), BASE64URL.encode(claims))
}

/// A JWT with this header and these claims, signed with the signer's own key.
fn forge(signer: &Signer, header: &str, claims: &str) -> String {
    let mut jwt = unsigned(header, claims);
    signer.keys.load().active.pair.sign(&mut jwt).unwrap();
    jwt
}

/// A JWT with this header and these claims, signed with a secret.
fn forge_hs256(secret: &[u8], header: &str, claims: &str) -> String {
    let signed = unsigned(header, claims);
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
    format!("{signed}.{}", BASE64URL.encode(mac.as_ref()))
}

#[test]
fn what_is_signed_verifies() {
    for (algorithm, kind, members) in [
        (EdDsa, json!({ "kty": "OKP", "crv": "Ed25519" }), &[("x", 32)][..]),
        (Es256, json!({ "kty": "EC", "crv": "P-256" }), &[("x", 32), ("y", 32)]),
        (Rs256, json!({ "kty": "RSA" }), &[("e", 3), ("n", 256)]),
    ] {
        let signer = signer(algorithm);
        let jwt = signer.sign(&encoded(&claims())).unwrap();
        assert_eq!(signer.verify(&jwt, now()).unwrap().claims, claims());
        assert_eq!(signer.keys.load().signs_with(), algorithm);
        assert_eq!(signer.algorithms(), [algorithm.name()]);
        let signature = BASE64URL.decode(jwt.rsplit('.').next().unwrap()).unwrap();
        assert_eq!(signature.len(), if algorithm == Rs256 { 256 } else { 64 });

        // The published JWK has only the expected members, in the lengths of RFC 7518.
        let jwks: Value = serde_json::from_str(&signer.jwks_json()).unwrap();
        let mut key = jwks["keys"][0].as_object().unwrap().clone();
        for (member, bytes) in members {
            let value = key.remove(*member).unwrap();
            assert_eq!(BASE64URL.decode(value.as_str().unwrap()).unwrap().len(), *bytes, "{member}");
        }
        let kid = signer.jwks()[0].thumbprint(ThumbprintHash::SHA256).unwrap();
        let mut expected = json!({ "alg": algorithm.name(), "use": "sig", "kid": kid });
        expected.as_object_mut().unwrap().extend(kind.as_object().unwrap().clone());
        assert_eq!(Value::Object(key), expected);
    }
}

#[test]
fn the_jwt_is_built_without_reallocation() {
    for signer in signers() {
        let jwt = signer.sign(&encoded(&claims())).unwrap();
        assert!(jwt.capacity() - jwt.len() <= 8, "{} of {}", jwt.len(), jwt.capacity());
    }
}

#[test]
fn the_clock_of_the_node_that_signed_may_be_ahead() {
    let signer = signer(EdDsa);
    let jwt = signer.sign(&encoded(&claims())).unwrap();
    let at = |seconds| now() + time::Duration::seconds(seconds);
    assert!(signer.verify(&jwt, at(299)).is_ok());
    assert_eq!(signer.verify(&jwt, at(300)).unwrap_err(), Reason::AccessTokenInvalid, "it has expired");
    for ahead in [1, 2, 59, 60] {
        assert!(signer.verify(&jwt, at(-ahead)).is_ok(), "{ahead} s");
    }
    assert_eq!(signer.verify(&jwt, at(-61)).unwrap_err(), Reason::AccessTokenInvalid);
    // Each of the two claims counts, and none overflows.
    for (nbf, iat, good) in
        [(0, 60, true), (60, 0, true), (61, 0, false), (0, 61, false), (i64::MIN, 0, true)]
    {
        let shifted = |by: i64| if by == i64::MIN { by } else { NOW + by };
        let jwt =
            signer.sign(&encoded(&Claims { nbf: shifted(nbf), iat: shifted(iat), ..claims() })).unwrap();
        assert_eq!(signer.verify(&jwt, now()).is_ok(), good, "{nbf} {iat}");
    }
}

#[test]
fn forgeries_are_refused() {
    for algorithm in SigningAlgorithm::ALL {
        refuses_forgeries(*algorithm);
    }
}

fn refuses_forgeries(algorithm: SigningAlgorithm) {
    let signer = signer(algorithm);
    let alg = algorithm.name();
    let kid = signer.keys.load().published[0].kid.clone();
    let header = format!(r#"{{"typ":"at+jwt","alg":"{alg}","kid":"{kid}"}}"#);
    let body = serde_json::to_string(&claims()).unwrap();
    assert!(signer.verify(&forge(&signer, &header, &body), now()).is_ok());

    let hs_header = header.replace(alg, "HS256");
    let jwk = serde_json::to_vec(&signer.jwks()[0]).unwrap();
    let hs_raw = forge_hs256(signer.keys.load().active.pair.public_key(), &hs_header, &body);
    let none = format!("{}.", unsigned(&header.replace(alg, "none"), &body));
    let good = signer.sign(&encoded(&claims())).unwrap();
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let zeros = BASE64URL.encode(vec![0; BASE64URL.decode(signature).unwrap().len()]);
    let other_key = self::signer(algorithm).sign(&encoded(&claims())).unwrap();
    let with_header = |extra: &str| forge(&signer, &header.replacen('{', &format!("{{{extra},"), 1), &body);
    for (what, jwt) in [
        ("alg none", none),
        ("HS256 with the public key", hs_raw),
        ("HS256 with the published key", forge_hs256(&jwk, &hs_header, &body)),
        ("another issuer's key", other_key),
        ("an alg that no key has", forge(&signer, &header.replace(alg, "RS512"), &body)),
        ("a name that no alg has", forge(&signer, &header.replace(alg, &alg.to_lowercase()), &body)),
        ("another typ", forge(&signer, &header.replace("at+jwt", "JWT"), &body)),
        ("no kid", forge(&signer, &format!(r#"{{"typ":"at+jwt","alg":"{alg}"}}"#), &body)),
        ("crit", with_header(r#""crit":["exp"]"#)),
        ("jku", with_header(r#""jku":"https://evil.example""#)),
        ("x5u", with_header(r#""x5u":"https://evil.example""#)),
        ("typ twice", with_header(r#""typ":"at+jwt""#)),
        ("another issuer", forge(&signer, &header, &body.replace("id.example", "evil.example"))),
        ("a claim twice", forge(&signer, &header, &body.replacen('{', r#"{"iss":"x","#, 1))),
        ("no exp", forge(&signer, &header, &body.replace(r#""exp""#, r#""exq""#))),
        ("a signature cut", good[..good.len() - 2].to_owned()),
        ("a signature of zeros", format!("{signed}.{zeros}")),
        ("no signature", format!("{signed}.")),
        ("four parts", format!("{good}.x")),
        ("padding", format!("{good}=")),
        ("1 MB", "a.".repeat(500_000)),
        ("nothing", String::new()),
    ] {
        assert_eq!(signer.verify(&jwt, now()).unwrap_err(), Reason::AccessTokenInvalid, "{alg}: {what}");
    }
}

#[test]
fn a_key_verifies_only_with_its_own_algorithm() {
    let signers = signers();
    let body = serde_json::to_string(&claims()).unwrap();
    let keys = signers[0].keys.load();
    for signer in &signers {
        let signs_with = signer.keys.load().signs_with();
        for named in &keys.published {
            for alg in SigningAlgorithm::ALL {
                let header = format!(r#"{{"typ":"at+jwt","alg":"{alg}","kid":"{}"}}"#, named.kid);
                let verified = signers[0].verify(&forge(signer, &header, &body), now());
                let right = named.algorithm == signs_with && *alg == signs_with;
                let what = format!("signed with {signs_with}, kid of {}, alg {alg}", named.algorithm);
                assert_eq!(verified.err(), (!right).then_some(Reason::AccessTokenInvalid), "{what}");
            }
        }
    }
    assert_eq!(signers[0].algorithms(), ["ES256", "EdDSA", "RS256"]);
}

#[test]
fn a_token_above_four_kib_is_refused() {
    let wide = Claims { scope: "invoices.read ".repeat(300), ..claims() };
    assert_eq!(signer(EdDsa).sign(&encoded(&wide)).unwrap_err().reason(), Reason::ScopeTooWide);
}

#[test]
fn a_planted_row_publishes_nothing() {
    let (ours, theirs) = (MasterKeys::for_tests(), MasterKeys::for_tests());
    let planted = NewKey::generate(&theirs, EdDsa).unwrap();
    let open =
        |kid: &str, sealed: &[u8]| KeySet::open(&ours, [(times(kid, KeyState::Active), sealed)]).map(|_| ());
    assert!(matches!(open(&planted.kid, &planted.sealed), Err(BadKeys::Unopenable(_))));
    let (a, b) = (NewKey::generate(&ours, EdDsa).unwrap(), NewKey::generate(&ours, EdDsa).unwrap());
    assert!(matches!(open(&a.kid, &b.sealed), Err(BadKeys::Unopenable(_))));
    assert!(matches!(KeySet::open(&ours, []), Err(BadKeys::NoneActive)));
    // Beside a key of ours it is left out, whatever state it claims.
    for state in [KeyState::Next, KeyState::Retiring, KeyState::Revoked] {
        let rows = [
            (times(&a.kid, KeyState::Active), a.sealed.as_slice()),
            (times(&planted.kid, state), planted.sealed.as_slice()),
            (times(&b.kid, state), a.sealed.as_slice()),
        ];
        let keys = KeySet::open(&ours, rows).unwrap();
        assert_eq!(keys.published.len(), 1);
        assert!(keys.json.contains(&a.kid) && !keys.json.contains(&planted.kid));
        assert_eq!(keys.left_out.len(), if state == KeyState::Revoked { 0 } else { 2 });
        assert_eq!(keys.key_times, [times(&a.kid, KeyState::Active)]);
    }
}

#[test]
fn only_our_form_counts_as_naming_another_key() {
    let (signer, other) = (signer(EdDsa), self::signer(EdDsa));
    let jwt = other.sign(&encoded(&claims())).unwrap();
    assert!(signer.names_another_key(&jwt));
    assert!(!other.names_another_key(&jwt));
    let header = BASE64URL.decode(jwt.split('.').next().unwrap()).unwrap();
    let header = String::from_utf8(header).unwrap();
    for junk in [
        header.replace("at+jwt", "JWT"),
        header.replacen('{', r#"{"crit":[],"#, 1),
        header.replace(r#""kid":""#, r#""kid":"x"#),
        r#"{"typ":"at+jwt","alg":"EdDSA","kid":"short"}"#.to_owned(),
    ] {
        assert!(!signer.names_another_key(&unsigned(&junk, "{}")), "{junk}");
    }
    assert!(!signer.names_another_key(&"a.".repeat(500_000)));
}
