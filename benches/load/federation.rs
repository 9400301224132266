//! Exchanges of JWTs that other issuers signed, each kind of key beside the echo in the same round.

use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use countersign::clock::Clock;
use countersign::grpc::pb;
use serde_json::{Value, json};

use crate::common::{AUDIENCE, Client, Deployment, ISSUER, Served, progress};
use crate::cpu::each;
use crate::generator::framed;
use crate::tenant::GRANTS;
use crate::{Bench, EXCHANGE, Pair, Target};

/// The setting of the server: the issuers whose JWTs are exchanged.
pub const ISSUERS: &str = "https://rs256.example,https://es256.example,https://eddsa.example";
const KID: &str = "1";
const SUBJECT: &str = "system:serviceaccount:prod:worker";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
/// The number of assertions of each issuer, used in turn.
const ASSERTIONS: usize = 1_000;

/// The key of an issuer.
enum Key {
    Rs256(rsa::KeyPair),
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
}

impl Key {
    /// One of each kind.
    fn all() -> Result<[Self; 3]> {
        let wrong = |_| anyhow!("a key could not be made");
        Ok([
            Self::Rs256(rsa::KeyPair::generate(KeySize::Rsa2048).map_err(wrong)?),
            Self::Es256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(wrong)?),
            Self::EdDsa(Ed25519KeyPair::generate().map_err(wrong)?),
        ])
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Rs256(_) => "RS256",
            Self::Es256(_) => "ES256",
            Self::EdDsa(_) => "EdDSA",
        }
    }

    fn issuer(&self) -> String {
        format!("https://{}.example", self.algorithm().to_ascii_lowercase())
    }

    fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| BASE64URL.encode(bytes);
        match self {
            Self::Rs256(pair) => {
                let modulus = pair.public_key().modulus().big_endian_without_leading_zero();
                json!({"kty": "RSA", "kid": KID, "alg": "RS256", "n": text(modulus), "e": "AQAB"})
            }
            Self::Es256(pair) => {
                let point = pair.public_key().as_ref();
                json!({"kty": "EC", "kid": KID, "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[33..])})
            }
            Self::EdDsa(pair) => {
                json!({"kty": "OKP", "kid": KID, "crv": "Ed25519", "x": text(pair.public_key().as_ref())})
            }
        }
    }

    /// What verifies its signatures.
    fn public(&self) -> Result<ParsedPublicKey> {
        match self {
            Self::Rs256(pair) => {
                let der = pair.public_key().as_der().map_err(|_| anyhow!("an RSA key has no encoding"))?;
                ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der.as_ref())
            }
            Self::Es256(pair) => ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key()),
            Self::EdDsa(pair) => ParsedPublicKey::new(&ED25519, pair.public_key()),
        }
        .map_err(|_| anyhow!("a key of ours is not accepted"))
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        let random = SystemRandom::new();
        match self {
            Self::Rs256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).map(|()| signature)
            }
            Self::Es256(pair) => pair.sign(&random, message).map(|signature| signature.as_ref().to_vec()),
            Self::EdDsa(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
        .map_err(|_| anyhow!("an assertion could not be signed"))
    }

    /// The message and the signature of an assertion.
    fn assertion(&self, number: usize) -> Result<(String, Vec<u8>)> {
        let now = Clock::default().now().unix_timestamp();
        let header = json!({"alg": self.algorithm(), "kid": KID, "typ": "JWT"});
        let claims = json!({
            "iss": self.issuer(), "sub": SUBJECT, "aud": ISSUER, "iat": now, "nbf": now, "exp": now + 3_600,
            "jti": format!("{number:08}"),
        });
        let message =
            format!("{}.{}", BASE64URL.encode(header.to_string()), BASE64URL.encode(claims.to_string()));
        let signature = self.sign(message.as_bytes())?;
        Ok((message, signature))
    }
}

/// An issuer with a rule, and exchanges of what it signed.
struct Issuer<'a> {
    key: Key,
    target: Target<'a>,
}

/// Issuers with a key of each kind, whose keys are stored with them.
pub struct Federation<'a>(Vec<Issuer<'a>>);

impl<'a> Federation<'a> {
    /// Makes an org with the issuers and their rules through the API, and assertions.
    pub async fn make(deployment: &Deployment, server: &'a Served) -> Result<Self> {
        progress("making issuers and their assertions");
        let operator = server.client(&deployment.operator).await?;
        let org = operator.make_org("federated", "customers/acme").await?;
        let account = operator.make_account(&org, "worker", &GRANTS).await?;
        let policy = pb::TokenPolicy { allow_federation: Some(true), ..Default::default() };
        let update_mask = Some(prost_types::FieldMask { paths: vec!["allow_federation".into()] });
        let request = pb::UpdateTokenPolicyRequest {
            org_id: org.clone(),
            policy: Some(policy),
            update_mask,
            ..Default::default()
        };
        operator.orgs().update_token_policy(request).await?;
        let mut issuers = Vec::new();
        for key in Key::all()? {
            let rule = rule(&operator, (&org, &account), &key).await?;
            let mut messages = Vec::with_capacity(ASSERTIONS);
            for number in 0..ASSERTIONS {
                let (message, signature) = key.assertion(number)?;
                messages.push(framed(&pb::ExchangeTokenRequest {
                    subject_token: Some(format!("{message}.{}", BASE64URL.encode(signature))),
                    subject_token_type: JWT.to_owned(),
                    federation_rule_id: rule.clone(),
                    audiences: vec![AUDIENCE.to_owned()],
                    ..Default::default()
                }));
            }
            issuers.push(Issuer { key, target: Target::new(server, EXCHANGE, None, messages)? });
        }
        for issuer in &issuers {
            issuer.target.first_pass(1).await?;
        }
        Ok(Self(issuers))
    }

    /// The exchanges of JWTs of the first issuer.
    pub fn first(&self) -> &Target<'a> {
        &self.0[0].target
    }

    /// The algorithms, in the order of the rows of a round.
    pub fn algorithms(&self) -> Vec<&'static str> {
        self.0.iter().map(|issuer| issuer.key.algorithm()).collect()
    }

    /// Measures each of them once. Its limit is echo + verification + signature.
    pub async fn round(&self, bench: &Bench<'_>) -> Result<Vec<Pair>> {
        let mut rows = Vec::with_capacity(self.0.len());
        for issuer in &self.0 {
            let (key, (message, signed)) = (Arc::new(issuer.key.public()?), issuer.key.assertion(0)?);
            let signature = bench.signature();
            let crypto = move || Ok(verification(&key, &message, &signed)? + signature()?);
            rows.push(bench.pair(&bench.echo, &issuer.target, crypto).await?);
        }
        Ok(rows)
    }
}

/// Creates an issuer with this key, and a rule by which its JWTs act as the account. Returns the rule's id.
async fn rule(operator: &Client, (org, account): (&str, &str), key: &Key) -> Result<String> {
    let issuer = pb::Issuer {
        kind: pb::IssuerKind::Jwks.into(),
        issuer: key.issuer(),
        jwks: json!({"keys": [key.jwk()]}).to_string(),
        algorithms: vec![key.algorithm().to_owned()],
        ..Default::default()
    };
    let request =
        pb::CreateIssuerRequest { org_id: org.to_owned(), issuer: Some(issuer), ..Default::default() };
    let created = operator.orgs().create_issuer(request).await?.into_inner();
    let rule = pb::FederationRule {
        issuer_id: created.issuer.context("no issuer")?.id,
        account_id: account.to_owned(),
        audiences: vec![ISSUER.to_owned()],
        subject_match: Some(pb::federation_rule::SubjectMatch::Subject(SUBJECT.to_owned())),
        ..Default::default()
    };
    let request =
        pb::CreateFederationRuleRequest { org_id: org.to_owned(), rule: Some(rule), ..Default::default() };
    let created = operator.orgs().create_federation_rule(request).await?.into_inner();
    Ok(created.rule.context("no rule")?.id)
}

/// Measures one verification.
fn verification(key: &ParsedPublicKey, message: &str, signature: &[u8]) -> Result<f64> {
    each(|| {
        let verified = key.verify_sig(std::hint::black_box(message.as_bytes()), signature);
        verified.map_err(|_| anyhow!("a signature of ours is wrong"))
    })
}
