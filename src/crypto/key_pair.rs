//! The key pairs that sign: how each kind is made, sealed, kept ready and published.

use std::sync::Arc;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine as _};
use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, EllipticCurveKeyParameters, Jwk, KeyAlgorithm,
    OctetKeyPairParameters, PublicKeyUse, ThumbprintHash,
};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::seal::{MasterKeys, SealPurpose, Unopenable};
use crate::config::SigningAlgorithm;
use crate::error::{Error, Result};

/// RSA keys have 2048 bits: the least that RFC 7518, section 3.3, allows, and what NIST
/// SP 800-57 part 1 (revision 5, tables 2 and 4) accepts until 2030. 3072 bits would sign
/// some three times slower and make each JWT 171 bytes larger.
const RSA_SIZE: rsa::KeySize = rsa::KeySize::Rsa2048;
/// What such a key signs with, in bytes.
const RSA_LEN: usize = 256;

/// The algorithm by the name that the JWT library has for it.
pub(super) const fn jose(algorithm: SigningAlgorithm) -> Algorithm {
    match algorithm {
        SigningAlgorithm::EdDsa => Algorithm::EdDSA,
        SigningAlgorithm::Es256 => Algorithm::ES256,
        SigningAlgorithm::Rs256 => Algorithm::RS256,
    }
}

/// A new key, for its row.
pub struct NewKey {
    pub kid: String,
    pub algorithm: SigningAlgorithm,
    pub sealed: Vec<u8>,
}

impl NewKey {
    /// Makes a pair and seals it, on a thread of its own: an RSA key takes a moment to find.
    pub async fn make(master: &Arc<MasterKeys>, algorithm: SigningAlgorithm) -> Result<Self> {
        let master = master.clone();
        let made = tokio::task::spawn_blocking(move || Self::generate(&master, algorithm));
        made.await.map_err(Error::internal)?
    }

    /// Makes a pair and seals it.
    pub fn generate(master: &MasterKeys, algorithm: SigningAlgorithm) -> Result<Self> {
        let pair = KeyPair::generate(algorithm)?;
        let mut jwk = pair.jwk()?;
        let kid = jwk.thumbprint(ThumbprintHash::SHA256).map_err(Error::internal)?;
        jwk.common.key_id = Some(kid.clone());
        let record = Record { jwk, private: Some(pair.private()?) };
        let record = serde_json::to_vec(&record).map(Zeroizing::new).map_err(Error::internal)?;
        let sealed = master.seal(SealPurpose::SigningKey, &kid, &record);
        Ok(Self { kid, algorithm, sealed })
    }
}

/// What is sealed of a key: all that is published is read from here.
#[derive(Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) jwk: Jwk,
    /// PKCS #8, base64url. Erased when the key retires.
    private: Option<Zeroizing<String>>,
}

/// A sealed record without its private part, sealed anew: from now on nobody can sign
/// with it.
pub fn without_private_part(master: &MasterKeys, kid: &str, sealed: &[u8]) -> Result<Vec<u8>> {
    let record = Record { private: None, ..Record::open(master, kid, sealed).map_err(Error::internal)? };
    let record = serde_json::to_vec(&record).map_err(Error::internal)?;
    Ok(master.seal(SealPurpose::SigningKey, kid, &record))
}

/// Whether a sealed record was sealed by us and holds a pair that can sign.
pub fn can_sign(master: &MasterKeys, kid: &str, sealed: &[u8]) -> bool {
    Record::open(master, kid, sealed).is_ok_and(|record| record.pair().is_some())
}

/// Why a record cannot be used.
#[derive(Debug)]
pub(super) enum BadRecord {
    Unopenable(Unopenable),
    Damaged,
}

impl std::fmt::Display for BadRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unopenable(error) => error.fmt(f),
            Self::Damaged => f.write_str("what was sealed is not a key"),
        }
    }
}

impl std::error::Error for BadRecord {}

impl Record {
    /// Opens what was sealed for this key.
    pub(super) fn open(master: &MasterKeys, kid: &str, sealed: &[u8]) -> Result<Self, BadRecord> {
        let bytes = master.open(SealPurpose::SigningKey, kid, sealed).map_err(BadRecord::Unopenable)?;
        serde_json::from_slice(&bytes).map_err(|_| BadRecord::Damaged)
    }

    /// The key's algorithm; none when it is not one of ours, or not that of such a key.
    pub(super) fn algorithm(&self) -> Option<SigningAlgorithm> {
        use AlgorithmParameters::{EllipticCurve as Ec, OctetKeyPair as Okp, RSA};
        match (self.jwk.common.key_algorithm?, &self.jwk.algorithm) {
            (KeyAlgorithm::EdDSA, Okp(OctetKeyPairParameters { curve: EllipticCurve::Ed25519, .. })) => {
                Some(SigningAlgorithm::EdDsa)
            }
            (KeyAlgorithm::ES256, Ec(EllipticCurveKeyParameters { curve: EllipticCurve::P256, .. })) => {
                Some(SigningAlgorithm::Es256)
            }
            (KeyAlgorithm::RS256, RSA(_)) => Some(SigningAlgorithm::Rs256),
            _ => None,
        }
    }

    /// The pair, ready to sign; none when its private part is erased, or is not that of
    /// what is published.
    pub(super) fn pair(&self) -> Option<KeyPair> {
        let pair = KeyPair::parse(self.algorithm()?, self.private.as_ref()?)?;
        (pair.jwk().ok()?.algorithm == self.jwk.algorithm).then_some(pair)
    }
}

/// A pair that is kept ready to sign.
pub(super) enum KeyPair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
    Rsa(rsa::KeyPair),
}

impl KeyPair {
    fn generate(algorithm: SigningAlgorithm) -> Result<Self> {
        let made = match algorithm {
            SigningAlgorithm::EdDsa => Ed25519KeyPair::generate().map(Self::Ed25519),
            SigningAlgorithm::Es256 => {
                EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map(Self::P256)
            }
            SigningAlgorithm::Rs256 => rsa::KeyPair::generate(RSA_SIZE).map(Self::Rsa),
        };
        made.map_err(|_| Error::internal(format!("making a key for {algorithm} failed")))
    }

    /// The reverse of [`private`](Self::private).
    fn parse(algorithm: SigningAlgorithm, private: &str) -> Option<Self> {
        let pkcs8 = Zeroizing::new(BASE64URL.decode(private).ok()?);
        let pair = match algorithm {
            SigningAlgorithm::EdDsa => Ed25519KeyPair::from_pkcs8(&pkcs8).map(Self::Ed25519),
            SigningAlgorithm::Es256 => {
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8).map(Self::P256)
            }
            SigningAlgorithm::Rs256 => rsa::KeyPair::from_pkcs8(&pkcs8).map(Self::Rsa),
        };
        // Signatures are written into a buffer of that size.
        let fits = |pair: &Self| match pair {
            Self::Rsa(pair) => pair.public_modulus_len() == RSA_LEN,
            Self::Ed25519(_) | Self::P256(_) => true,
        };
        pair.ok().filter(fits)
    }

    /// The private part: PKCS #8, base64url.
    fn private(&self) -> Result<Zeroizing<String>> {
        let encode = |der: &[u8]| Zeroizing::new(BASE64URL.encode(der));
        let encoded = match self {
            Self::Ed25519(pair) => pair.to_pkcs8v1().map(|der| encode(der.as_ref())),
            Self::P256(pair) => pair.to_pkcs8v1().map(|der| encode(der.as_ref())),
            Self::Rsa(pair) => pair.as_der().map(|der| encode(der.as_ref())),
        };
        encoded.map_err(|_| Error::internal(format!("encoding a key for {} failed", self.algorithm())))
    }

    pub(super) fn algorithm(&self) -> SigningAlgorithm {
        match self {
            Self::Ed25519(_) => SigningAlgorithm::EdDsa,
            Self::P256(_) => SigningAlgorithm::Es256,
            Self::Rsa(_) => SigningAlgorithm::Rs256,
        }
    }

    /// The public part as its kind has it: 32 bytes, an uncompressed point, or PKCS #1.
    pub(super) fn public_key(&self) -> &[u8] {
        match self {
            Self::Ed25519(pair) => pair.public_key().as_ref(),
            Self::P256(pair) => pair.public_key().as_ref(),
            Self::Rsa(pair) => pair.public_key().as_ref(),
        }
    }

    /// The public part, without an id: the parameters of RFC 8037 or RFC 7518, section 6.
    fn jwk(&self) -> Result<Jwk> {
        let public = match self {
            Self::Ed25519(_) => DecodingKey::from_ed_der(self.public_key()),
            Self::P256(_) => DecodingKey::from_ec_der(self.public_key()),
            Self::Rsa(_) => DecodingKey::from_rsa_der(self.public_key()),
        };
        let mut jwk =
            Jwk::from_decoding_key(&public, Some(jose(self.algorithm()))).map_err(Error::internal)?;
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(jwk)
    }

    /// The length of a signature, in bytes.
    pub(super) fn signature_len(&self) -> usize {
        match self {
            Self::Ed25519(_) | Self::P256(_) => 64,
            Self::Rsa(_) => RSA_LEN,
        }
    }

    /// Signs what is there, and puts a dot and the signature behind it (RFC 7515, section 5.1).
    pub(super) fn sign(&self, jwt: &mut String) -> Result<()> {
        let failed = |_| Error::internal("signing failed");
        match self {
            Self::Ed25519(pair) => append(jwt, pair.sign(jwt.as_bytes()).as_ref()),
            // r ‖ s, 32 bytes each (RFC 7518, section 3.4), and not ASN.1.
            Self::P256(pair) => {
                let signature = pair.sign(&SystemRandom::new(), jwt.as_bytes()).map_err(failed)?;
                append(jwt, signature.as_ref());
            }
            Self::Rsa(pair) => {
                let mut signature = [0; RSA_LEN];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), jwt.as_bytes(), &mut signature)
                    .map_err(failed)?;
                append(jwt, &signature);
            }
        }
        Ok(())
    }
}

fn append(jwt: &mut String, signature: &[u8]) {
    jwt.push('.');
    BASE64URL.encode_string(signature, jwt);
}

#[cfg(test)]
mod tests {

    use super::*;

    fn record(pair: &KeyPair) -> Record {
        Record { jwk: pair.jwk().unwrap(), private: Some(pair.private().unwrap()) }
    }

    #[test]
    fn a_record_gives_its_pair_again() {
        for algorithm in SigningAlgorithm::ALL {
            let pair = KeyPair::generate(*algorithm).unwrap();
            let json = serde_json::to_vec(&record(&pair)).unwrap();
            let read: Record = serde_json::from_slice(&json).unwrap();
            assert_eq!(read.algorithm(), Some(*algorithm));
            assert_eq!(read.pair().unwrap().public_key(), pair.public_key());
        }
    }

    #[tokio::test]
    async fn an_rsa_key_is_made_beside_the_async_threads() {
        // On this runtime's one thread nothing else would happen meanwhile.
        let master = Arc::new(MasterKeys::for_tests());
        let made = NewKey::make(&master, SigningAlgorithm::Rs256);
        tokio::pin!(made);
        let mut turns = 0;
        let key = loop {
            tokio::select! {
                biased;
                key = &mut made => break key.unwrap(),
                () = tokio::task::yield_now() => turns += 1,
            }
        };
        assert!(turns > 0 && can_sign(&master, &key.kid, &key.sealed));
    }

    #[test]
    fn without_its_private_part_a_key_is_published_and_signs_no_more() {
        let master = MasterKeys::for_tests();
        for algorithm in SigningAlgorithm::ALL {
            let key = NewKey::generate(&master, *algorithm).unwrap();
            assert!(can_sign(&master, &key.kid, &key.sealed));
            let erased = without_private_part(&master, &key.kid, &key.sealed).unwrap();
            assert!(!can_sign(&master, &key.kid, &erased));
            let text = master.open(SealPurpose::SigningKey, &key.kid, &erased).unwrap();
            let text = String::from_utf8(text.to_vec()).unwrap();
            assert!(text.ends_with(r#""private":null}"#), "{text}");
            let [before, after] =
                [&key.sealed, &erased].map(|sealed| Record::open(&master, &key.kid, sealed).unwrap().jwk);
            assert_eq!(before, after);
            // Only for its own row, and only what we sealed.
            assert!(!can_sign(&master, "other", &key.sealed));
            assert!(!can_sign(&MasterKeys::for_tests(), &key.kid, &key.sealed));
            assert!(without_private_part(&master, "other", &key.sealed).is_err());
        }
    }

    #[test]
    fn parts_that_do_not_fit_are_no_pair() {
        let [ed, ec, rsa] = [SigningAlgorithm::EdDsa, SigningAlgorithm::Es256, SigningAlgorithm::Rs256]
            .map(|algorithm| record(&KeyPair::generate(algorithm).unwrap()));
        for (public, private) in [(&ed, &ec), (&ec, &rsa), (&rsa, &ed)] {
            let mixed = Record { jwk: public.jwk.clone(), private: private.private.clone() };
            assert!(mixed.pair().is_none());
        }
        let other = record(&KeyPair::generate(SigningAlgorithm::EdDsa).unwrap());
        assert!(Record { jwk: ed.jwk.clone(), private: other.private }.pair().is_none());
        assert!(Record { jwk: ed.jwk.clone(), private: None }.pair().is_none());
        // An algorithm that is not ours, or that the key is not of.
        for (key, algorithm) in
            [(&ed, "HS256"), (&ed, "RS256"), (&rsa, "PS256"), (&rsa, "ES256"), (&ec, "ES384")]
        {
            let mut jwk = key.jwk.clone();
            jwk.common.key_algorithm = Some(algorithm.parse().unwrap());
            assert_eq!(Record { jwk, private: None }.algorithm(), None, "{algorithm}");
        }
        let large = rsa::KeyPair::generate(rsa::KeySize::Rsa3072).map(KeyPair::Rsa).unwrap();
        assert!(record(&large).pair().is_none());
    }
}
