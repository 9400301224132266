//! A verification beside the bare check of its signature: the same JWT, key and machine, in interleaved rounds.

use std::hint::black_box;
use std::time::Instant;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, ParsedPublicKey};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine as _};
use countersign_client::pb::watch_revocations_response::Item;
use countersign_client::{Orgs, Verifier, pb};
use serde_json::json;

const ROUNDS: usize = 201;
const EACH: u32 = 100;
const ISSUER: &str = "https://id.example";
const AUDIENCE: &str = "https://billing.example";
/// As many revocations as a large deployment has at a time.
const REVOCATIONS: i64 = 10_000;

fn main() {
    let key = Ed25519KeyPair::generate().expect("a key");
    let verifier = verifier(&key);
    let jwt = jwt(&key);
    let (signed, signature) = jwt.rsplit_once('.').expect("three parts");
    let signature = BASE64URL.decode(signature).expect("a signature");
    let public = ParsedPublicKey::new(&ED25519, key.public_key()).expect("a public key");
    let orgs = Orgs::from("org_01m8hx6g6jf5ave95efn33p616");

    let (mut bare, mut whole) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.push(time(|| public.verify_sig(black_box(signed).as_bytes(), &signature).expect("it is good")));
        whole.push(time(|| {
            black_box(verifier.verify(black_box(&jwt), AUDIENCE, &orgs).expect("it is good"));
        }));
    }
    let mut ratios: Vec<_> = whole.iter().zip(&bare).map(|(whole, bare)| whole / bare).collect();
    println!(
        "verify {:.1} µs, the bare signature check {:.1} µs: {:.2} of it (EdDSA, {} bytes, {REVOCATIONS} revocations, one thread)",
        median(&mut whole),
        median(&mut bare),
        median(&mut ratios),
        jwt.len(),
    );
}

/// Microseconds for one call.
fn time(mut call: impl FnMut()) -> f64 {
    let began = Instant::now();
    for _ in 0..EACH {
        call();
    }
    began.elapsed().as_secs_f64() * 1e6 / f64::from(EACH)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// One that has heard of everything it has to know.
fn verifier(key: &Ed25519KeyPair) -> Verifier {
    let verifier = Verifier::fed(ISSUER, true).build().expect("a verifier");
    verifier.apply(Item::KeySet(pb::KeySet {
        keys: vec![pb::JsonWebKey {
            kty: "OKP".into(),
            crv: "Ed25519".into(),
            alg: "EdDSA".into(),
            r#use: "sig".into(),
            kid: "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k".into(),
            x: BASE64URL.encode(key.public_key()),
            ..Default::default()
        }],
        max_age: None,
    }));
    for number in 0..REVOCATIONS {
        verifier.apply(Item::Revocation(pb::Revocation {
            org_id: "org_01m8hx6g6jf5ave95efn33p616".into(),
            subject: Some(if number % 2 == 0 {
                pb::revocation::Subject::TokenId(format!("tok_{number:026}"))
            } else {
                pb::revocation::Subject::AccountId(format!("acct_{number:026}"))
            }),
            min_version: number,
            ..Default::default()
        }));
    }
    verifier.apply(Item::Checkpoint(pb::Checkpoint::default()));
    verifier
}

/// As the server makes them.
fn jwt(key: &Ed25519KeyPair) -> String {
    let header =
        json!({"typ": "at+jwt", "alg": "EdDSA", "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"});
    let claims = json!({
        "iss": ISSUER, "aud": AUDIENCE, "exp": 4_102_444_800_i64, "iat": 1_790_000_000, "nbf": 1_790_000_000,
        "jti": "01a2032e-398a-7c88-bc12-5c1744c73066", "sub": "acct_01m8hx6g6zf3msazvk845t3et9",
        "client_id": "tok_01m8hxdca4e86ajjkym76wqn72", "org": "org_01m8hx6g6jf5ave95efn33p616",
        "account_kind": "SERVICE_ACCOUNT", "token_kind": "SECRET", "org_ver": 3, "acct_ver": 5, "secret": 2,
        "scope": "invoices.list invoices.read", "roles": ["member"],
        "authorization_details": [
            {"type": "countersign_grant", "identifier": "customers/acme", "actions": ["invoices.write"]},
        ],
    });
    let signed = format!("{}.{}", BASE64URL.encode(header.to_string()), BASE64URL.encode(claims.to_string()));
    format!("{signed}.{}", BASE64URL.encode(key.sign(signed.as_bytes())))
}
