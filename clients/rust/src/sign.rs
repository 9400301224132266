//! Private keys that sign assertions.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;

pub(crate) enum SigningKey {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl SigningKey {
    /// A PKCS #8 key in PEM, without a passphrase.
    pub(crate) fn from_pem(pem: &[u8]) -> Option<Self> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).ok()?;
        let der = der.secret_pkcs8_der();
        if let Ok(key) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
            return Some(Self::Ed25519(key));
        }
        if let Ok(key) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der) {
            return Some(Self::P256(key));
        }
        RsaKeyPair::from_pkcs8(der).ok().map(Self::Rsa)
    }

    /// The `alg` of what it signs.
    pub(crate) fn algorithm(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => "EdDSA",
            Self::P256(_) => "ES256",
            Self::Rsa(_) => "RS256",
        }
    }

    /// The signature in the form of a JWS.
    pub(crate) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Ed25519(key) => key.try_sign(message).ok().map(|signature| signature.as_ref().to_vec()),
            Self::P256(key) => {
                key.sign(&SystemRandom::new(), message).ok().map(|signature| signature.as_ref().to_vec())
            }
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).ok()?;
                Some(signature)
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
    use aws_lc_rs::rsa::KeySize;
    use base64::prelude::{BASE64_STANDARD, Engine as _};

    use super::*;

    fn pem(der: impl AsRef<[u8]>) -> String {
        let text = BASE64_STANDARD.encode(der);
        format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
    }

    pub(crate) fn ed25519() -> String {
        pem(Ed25519KeyPair::generate().unwrap().to_pkcs8().unwrap())
    }

    #[test]
    fn keys_of_the_three_kinds_sign() {
        let p256 = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let rsa: Pkcs8V1Der<'_> = RsaKeyPair::generate(KeySize::Rsa2048).unwrap().as_der().unwrap();
        for (pem, algorithm, length) in [
            (ed25519(), "EdDSA", 64),
            (pem(p256.to_pkcs8v1().unwrap()), "ES256", 64),
            (pem(rsa.as_ref()), "RS256", 256),
        ] {
            let key = SigningKey::from_pem(pem.as_bytes()).unwrap();
            assert_eq!((key.algorithm(), key.sign(b"message").unwrap().len()), (algorithm, length));
        }
        assert!(
            SigningKey::from_pem(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----").is_none()
        );
        assert!(SigningKey::from_pem(b"").is_none());
    }
}
