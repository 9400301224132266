//! A public key of an issuer: a JWK (RFC 7517, section 4), read, checked, and held ready to verify.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::error::KeyRejected;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
    RsaPublicKeyComponents,
};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine as _};
use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use crate::domain::tokens::ed25519_point;
use crate::domain::values::client_certificate::Sha256Digest;

/// The longest `kid`, in bytes.
const MAX_KID: usize = 255;

/// Members of a JWK that hold something private (RFC 7518, section 6; RFC 8037).
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
/// The exponent of every RSA key: 65537.
const EXPONENT: [u8; 3] = [1, 0, 1];
/// The length of a modulus, in bits.
const MODULUS: std::ops::RangeInclusive<usize> = 2_048..=4_096;
/// RSA keys that are longer than this, in bytes, are verified with beside the task of a connection.
const QUICK_MODULUS: usize = 256;

/// Which `use` makes a key one for JWTs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyUse {
    /// `sig`, or none (RFC 7517, section 4.2).
    Signature,
    /// `jwt-svid`, which a SPIFFE bundle says of each.
    JwtSvid,
}

/// Why a key of a set is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// It is for something else, or of a type or algorithm that the issuer may not sign with.
    OtherUse,
    /// It holds a private or symmetric key, which others may have read.
    Private,
    /// An RSA key that is too short or too long, or has another exponent.
    WeakRsa,
    /// No point of its curve, or not written as a key is.
    Malformed,
    /// Another key of the set has the same `kid`.
    SharedKid,
}

impl Unusable {
    /// What follows "a key".
    pub const fn why(self) -> &'static str {
        match self {
            Self::OtherUse => "is for another use or algorithm than the issuer's JWTs",
            Self::Private => "holds a private or symmetric key, which counts as known to others",
            Self::WeakRsa => "is no RSA key of 2048 to 4096 bits with the exponent 65537",
            Self::Malformed => "is no valid public key",
            Self::SharedKid => "has the kid of another one",
        }
    }
}

/// A public key of an issuer, prepared for each algorithm that it may be used with.
#[derive(Clone)]
pub struct IssuerKey {
    pub(super) kid: Option<Box<str>>,
    pub(super) thumbprint: Sha256Digest,
    /// How long its signatures are, in bytes.
    pub(super) signature_len: usize,
    ways: Box<[(Algorithm, ParsedPublicKey)]>,
}

impl fmt::Debug for IssuerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IssuerKey({})", self.thumbprint)
    }
}

impl IssuerKey {
    /// Its `kid`, which says nothing but which key of the set it is.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Its thumbprint (RFC 7638).
    pub fn thumbprint(&self) -> Sha256Digest {
        self.thumbprint
    }

    /// The algorithms that it verifies.
    pub fn algorithms(&self) -> impl Iterator<Item = Algorithm> {
        self.ways.iter().map(|(algorithm, _)| *algorithm)
    }

    /// Whether it may have made a signature of this algorithm and length.
    pub fn may_have_signed(&self, algorithm: Algorithm, signature: &[u8]) -> bool {
        signature.len() == self.signature_len && self.algorithms().any(|known| known == algorithm)
    }

    /// Whether a verification may take more than 100 µs, so that it is not for the task of a connection.
    pub fn is_slow(&self, algorithm: Algorithm) -> bool {
        match algorithm {
            Algorithm::EdDsa | Algorithm::Es256 => false,
            Algorithm::Es384 | Algorithm::Es512 => true,
            _ => self.signature_len > QUICK_MODULUS,
        }
    }

    /// Whether it is the signature of this message by the private part, by this algorithm.
    pub fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let way = self.ways.iter().find(|(known, _)| *known == algorithm);
        way.is_some_and(|(_, prepared)| prepared.verify_sig(message, signature).is_ok())
    }

    /// The bytes that it takes in a cache.
    pub(super) fn weight(&self) -> usize {
        // What the library keeps of it: the numbers in two forms, and their DER.
        let prepared = size_of::<(Algorithm, ParsedPublicKey)>() + 600 + 4 * self.signature_len;
        size_of::<Self>() + self.kid.as_ref().map_or(0, |kid| kid.len()) + self.ways.len() * prepared
    }
}

fn text<'a>(members: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    members.get(name)?.as_str()
}

fn bytes(members: &Map<String, Value>, name: &str) -> Option<Vec<u8>> {
    BASE64URL.decode(text(members, name)?).ok()
}

/// Reads the key of a JWK, for those of these algorithms that it is for.
///
/// # Errors
/// Why it is left out.
pub(super) fn read_key(
    jwk: &Map<String, Value>,
    key_use: KeyUse,
    algorithms: &[Algorithm],
) -> Result<IssuerKey, Unusable> {
    if PRIVATE.iter().any(|private| jwk.contains_key(*private)) {
        return Err(Unusable::Private);
    }
    let is_used = match (key_use, jwk.get("use")) {
        (KeyUse::Signature, None) => true,
        (KeyUse::Signature, Some(given)) => given == "sig",
        (KeyUse::JwtSvid, given) => given.is_some_and(|given| given == "jwt-svid"),
    };
    let verifies = jwk.get("key_ops").is_none_or(|operations| {
        operations.as_array().is_some_and(|operations| operations.iter().any(|each| each == "verify"))
    });
    if !is_used || !verifies {
        return Err(Unusable::OtherUse);
    }
    let kid = match jwk.get("kid") {
        None => None,
        Some(Value::String(kid)) if (1..=MAX_KID).contains(&kid.len()) => Some(kid.as_str().into()),
        Some(_) => return Err(Unusable::Malformed),
    };
    let material = Material::read(jwk)?;
    let own = jwk.get("alg");
    let fitting = algorithms
        .iter()
        .copied()
        .filter(|algorithm| material.is_for(*algorithm) && own.is_none_or(|own| own == algorithm.name()));
    let ways: Result<Box<[_]>, KeyRejected> =
        fitting.map(|algorithm| Ok((algorithm, material.prepare(algorithm)?))).collect();
    let ways = ways.map_err(|_| material.refused())?;
    if ways.is_empty() {
        return Err(Unusable::OtherUse);
    }
    let thumbprint: [u8; 32] =
        digest(&SHA256, material.required().as_bytes()).as_ref().try_into().expect("SHA-256 gives 32 bytes");
    Ok(IssuerKey { kid, thumbprint: thumbprint.into(), signature_len: material.signature_len(), ways })
}

/// A curve of NIST that keys of type `EC` are on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    const ALL: [(Self, &'static str, usize); 3] =
        [(Self::P256, "P-256", 32), (Self::P384, "P-384", 48), (Self::P521, "P-521", 66)];

    /// Its name, and how long a coordinate is in bytes.
    fn facts(self) -> (&'static str, usize) {
        let found = Self::ALL.into_iter().find(|(curve, ..)| *curve == self);
        found.map(|(_, name, length)| (name, length)).expect("all are listed")
    }
}

/// The public numbers of a key.
enum Material {
    Ed25519(Vec<u8>),
    /// The uncompressed point (SEC 1, section 2.3.3).
    Curve(Curve, Vec<u8>),
    Rsa(Vec<u8>),
}

impl Material {
    fn read(jwk: &Map<String, Value>) -> Result<Self, Unusable> {
        match (text(jwk, "kty"), text(jwk, "crv")) {
            (Some("OKP"), Some("Ed25519")) => {
                let point = bytes(jwk, "x").ok_or(Unusable::Malformed)?;
                let array: &[u8; 32] = point.as_slice().try_into().map_err(|_| Unusable::Malformed)?;
                if !ed25519_point::is_public_key(array) {
                    return Err(Unusable::Malformed);
                }
                Ok(Self::Ed25519(point))
            }
            (Some("EC"), Some(name)) => {
                let known = Curve::ALL.into_iter().find(|(_, known, _)| *known == name);
                let (curve, _, length) = known.ok_or(Unusable::OtherUse)?;
                let (x, y) = bytes(jwk, "x").zip(bytes(jwk, "y")).ok_or(Unusable::Malformed)?;
                if x.len() != length || y.len() != length {
                    return Err(Unusable::Malformed);
                }
                Ok(Self::Curve(curve, [&[4], x.as_slice(), y.as_slice()].concat()))
            }
            (Some("RSA"), _) => {
                let modulus = bytes(jwk, "n").ok_or(Unusable::Malformed)?;
                // Neither number has leading zeros (RFC 7518, section 6.3.1).
                let first = modulus.first().filter(|first| **first != 0).ok_or(Unusable::Malformed)?;
                let bits = modulus.len() * 8 - first.leading_zeros() as usize;
                if !MODULUS.contains(&bits) || bytes(jwk, "e").as_deref() != Some(&EXPONENT) {
                    return Err(Unusable::WeakRsa);
                }
                Ok(Self::Rsa(modulus))
            }
            _ => Err(Unusable::OtherUse),
        }
    }

    fn is_for(&self, algorithm: Algorithm) -> bool {
        match self {
            Self::Ed25519(_) => algorithm == Algorithm::EdDsa,
            Self::Curve(Curve::P256, _) => algorithm == Algorithm::Es256,
            Self::Curve(Curve::P384, _) => algorithm == Algorithm::Es384,
            Self::Curve(Curve::P521, _) => algorithm == Algorithm::Es512,
            Self::Rsa(_) => rsa(algorithm).is_some(),
        }
    }

    fn prepare(&self, algorithm: Algorithm) -> Result<ParsedPublicKey, KeyRejected> {
        match self {
            Self::Ed25519(point) => ParsedPublicKey::new(&ED25519, point),
            Self::Curve(Curve::P256, point) => ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point),
            Self::Curve(Curve::P384, point) => ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point),
            Self::Curve(Curve::P521, point) => ParsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, point),
            Self::Rsa(modulus) => {
                let parameters = rsa(algorithm).unwrap_or(&RSA_PKCS1_2048_8192_SHA256);
                RsaPublicKeyComponents { n: modulus.as_slice(), e: &EXPONENT[..] }
                    .to_parsed_public_key(parameters)
            }
        }
    }

    fn refused(&self) -> Unusable {
        match self {
            Self::Rsa(_) => Unusable::WeakRsa,
            Self::Ed25519(_) | Self::Curve(..) => Unusable::Malformed,
        }
    }

    fn signature_len(&self) -> usize {
        match self {
            Self::Ed25519(_) => 64,
            // Two numbers, not ASN.1 (RFC 7518, section 3.4).
            Self::Curve(curve, _) => 2 * curve.facts().1,
            Self::Rsa(modulus) => modulus.len(),
        }
    }

    /// The members of its thumbprint (RFC 7638, section 3.2), in their order.
    fn required(&self) -> String {
        match self {
            Self::Ed25519(point) => {
                format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, BASE64URL.encode(point))
            }
            Self::Curve(curve, point) => {
                let (name, length) = curve.facts();
                let (x, y) = point[1..].split_at(length);
                let (x, y) = (BASE64URL.encode(x), BASE64URL.encode(y));
                format!(r#"{{"crv":"{name}","kty":"EC","x":"{x}","y":"{y}"}}"#)
            }
            Self::Rsa(modulus) => {
                format!(r#"{{"e":"AQAB","kty":"RSA","n":"{}"}}"#, BASE64URL.encode(modulus))
            }
        }
    }
}

fn rsa(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    match algorithm {
        Algorithm::Rs256 => Some(&RSA_PKCS1_2048_8192_SHA256),
        Algorithm::Rs384 => Some(&RSA_PKCS1_2048_8192_SHA384),
        Algorithm::Rs512 => Some(&RSA_PKCS1_2048_8192_SHA512),
        Algorithm::Ps256 => Some(&RSA_PSS_2048_8192_SHA256),
        Algorithm::Ps384 => Some(&RSA_PSS_2048_8192_SHA384),
        Algorithm::Ps512 => Some(&RSA_PSS_2048_8192_SHA512),
        Algorithm::EdDsa | Algorithm::Es256 | Algorithm::Es384 | Algorithm::Es512 => None,
    }
}
