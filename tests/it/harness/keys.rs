//! Key pairs of clients, and the assertions that they sign.

use std::sync::atomic::{AtomicU32, Ordering};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RSA_PSS_SHA256, RsaEncoding,
};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine as _};
use countersign::grpc::pb;
use jsonwebtoken::jwk::{Jwk, ThumbprintHash};
use serde_json::{Value, json};

use super::{Client, TestServer, token_for};

/// A key pair of a client.
pub enum Signer {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
    /// With its algorithm.
    Rsa(rsa::KeyPair, &'static str),
}

impl Signer {
    pub fn ed25519() -> Self {
        Self::Ed25519(Ed25519KeyPair::generate().unwrap())
    }

    pub fn p256() -> Self {
        Self::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    /// Made beside the server of the test, which would not hear of its database meanwhile.
    pub async fn rsa(size: KeySize, algorithm: &'static str) -> Self {
        let made = tokio::task::spawn_blocking(move || rsa::KeyPair::generate(size).unwrap());
        Self::Rsa(made.await.unwrap(), algorithm)
    }

    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => "EdDSA",
            Self::P256(_) => "ES256",
            Self::Rsa(_, algorithm) => algorithm,
        }
    }

    /// The public part, as a client would write it: the required members, and `alg` for RSA.
    pub fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| BASE64URL.encode(bytes);
        match self {
            Self::Ed25519(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": text(pair.public_key().as_ref())})
            }
            Self::P256(pair) => {
                let point = pair.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[33..])})
            }
            Self::Rsa(pair, algorithm) => {
                let modulus = pair.public_key().modulus().big_endian_without_leading_zero();
                json!({"kty": "RSA", "n": text(modulus), "e": "AQAB", "alg": algorithm})
            }
        }
    }

    /// A JWK set with its public part alone, by this `kid`.
    pub fn key_set(&self, kid: &str) -> String {
        let mut jwk = self.jwk();
        jwk["kid"] = json!(kid);
        json!({"keys": [jwk]}).to_string()
    }

    /// Its RFC 7638 thumbprint, by another library.
    pub fn thumbprint(&self) -> String {
        let jwk: Jwk = serde_json::from_value(self.jwk()).unwrap();
        jwk.thumbprint(ThumbprintHash::SHA256).unwrap()
    }

    /// A JWT with this header and these claims, whatever they are.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    /// The same of texts that need not be JSON.
    pub fn sign_text(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", BASE64URL.encode(header), BASE64URL.encode(claims));
        let random = SystemRandom::new();
        let signature = match self {
            Self::Ed25519(pair) => pair.sign(message.as_bytes()).as_ref().to_vec(),
            Self::P256(pair) => pair.sign(&random, message.as_bytes()).unwrap().as_ref().to_vec(),
            Self::Rsa(pair, algorithm) => {
                let encoding: &dyn RsaEncoding =
                    if *algorithm == "PS256" { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &random, message.as_bytes(), &mut signature).unwrap();
                signature
            }
        };
        format!("{message}.{}", BASE64URL.encode(signature))
    }

    /// A good assertion of this token, made now.
    pub fn assertion(&self, server: &TestServer, token_id: &str) -> String {
        self.sign(&json!({"alg": self.algorithm(), "typ": "JWT"}), &assertion_claims(server, token_id))
    }
}

/// The claims of a good assertion, with a `jti` of its own.
pub fn assertion_claims(server: &TestServer, token_id: &str) -> Value {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let now = server.state.clock.now().unix_timestamp();
    let jti = format!("jti-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let issuer = server.state.issuer.to_string();
    json!({"iss": token_id, "sub": token_id, "aud": issuer, "iat": now, "exp": now + 60, "jti": jti})
}

impl TestServer {
    /// A token of this account with the key of this pair, created by the operator.
    pub async fn key_token(&self, org_id: &str, account_id: &str, signer: &Signer) -> pb::Token {
        let request = key_for(org_id, account_id, signer);
        let made = self.operator.tokens().create_token(request).await.unwrap().into_inner();
        assert_eq!(made.secret, "");
        made.token.unwrap()
    }
}

/// A request for a token with the key of this pair.
pub fn key_for(org_id: &str, account_id: &str, signer: &Signer) -> pb::CreateTokenRequest {
    pb::CreateTokenRequest {
        kind: pb::TokenKind::Key.into(),
        public_jwk: signer.jwk().to_string(),
        ..token_for(org_id, account_id)
    }
}

/// An exchange of this assertion.
pub fn of_assertion(assertion: impl Into<String>) -> pb::ExchangeTokenRequest {
    pb::ExchangeTokenRequest {
        subject_token: Some(assertion.into()),
        subject_token_type: "urn:ietf:params:oauth:token-type:jwt".into(),
        ..Default::default()
    }
}

impl Client {
    /// Exchanges an assertion for a JWT with everything that its token holds.
    pub async fn exchange_assertion(&self, assertion: &str) -> Result<String, tonic::Status> {
        let answer = self.tokens().exchange_token(of_assertion(assertion)).await?.into_inner();
        super::secrets::watch(&answer.access_token);
        Ok(answer.access_token)
    }
}
