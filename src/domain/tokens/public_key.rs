//! The public keys of tokens of kind `KEY`: read from a JWK (RFC 7517), checked, and held ready to verify.

use std::fmt;
use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::error::KeyRejected;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256,
    RsaPublicKeyComponents,
};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine as _};
use serde_json::{Map, Value};

use super::ed25519_point;
use crate::domain::values::client_certificate::Sha256Digest;
use crate::domain::values::strict_json;
use crate::domain::values::text::Invalid;

/// The longest JWK that is read, in bytes.
pub const MAX_JWK: usize = 8 << 10;

/// Members of a JWK that hold something private (RFC 7518, section 6; RFC 8037).
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// The exponent of every RSA key: 65537.
const EXPONENT: [u8; 3] = [1, 0, 1];
/// The length of a modulus, in bits.
const MODULUS: std::ops::RangeInclusive<usize> = 2_048..=4_096;

/// RSA keys that are longer than this, in bytes, are verified with beside the task of a connection.
const QUICK_MODULUS: usize = 256;

/// What a signature by elliptic curves takes, in bytes: two numbers, not ASN.1 (RFC 7518, section 3.4).
const CURVE_SIGNATURE: usize = 64;

/// The one algorithm that a key is for, whatever the header of a JWT says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyAlgorithm {
    EdDsa,
    Es256,
    Rs256,
    Ps256,
}

impl KeyAlgorithm {
    pub const ALL: [KeyAlgorithm; 4] = [Self::EdDsa, Self::Es256, Self::Rs256, Self::Ps256];

    /// Its name (RFC 7518, section 3.1; RFC 8037).
    pub const fn name(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
        }
    }

    /// The reverse of [`name`](Self::name).
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Whether its signatures can be this long, for some key.
    pub fn may_sign_with(self, bytes: usize) -> bool {
        match self {
            Self::EdDsa | Self::Es256 => bytes == CURVE_SIGNATURE,
            Self::Rs256 | Self::Ps256 => (MODULUS.start() / 8..=MODULUS.end() / 8).contains(&bytes),
        }
    }
}

/// A public key of Ed25519, P-256 or RSA that was checked, with the algorithm that it is for.
pub struct PublicKey {
    algorithm: KeyAlgorithm,
    jwk: String,
    thumbprint: Sha256Digest,
    spki: Sha256Digest,
    signature_len: usize,
    prepared: ParsedPublicKey,
}

impl PublicKey {
    /// Reads the public key in a JWK, which is JSON of at most 8 KiB.
    ///
    /// Ed25519 (`OKP`), P-256 (`EC`), or RSA of 2048 to 4096 bits with the exponent 65537. The algorithm is
    /// `EdDSA`, `ES256` or `RS256`; `PS256` for an RSA key that names it. Members that are not known are left
    /// out of [`jwk`](Self::jwk).
    ///
    /// # Errors
    /// The sentence that follows the field's name: for a JWK with a private part too, for another `use` than
    /// `sig`, for a `kid` that is not the key's thumbprint, and for what is no point of the curve.
    pub fn parse(jwk: &str) -> Result<Self, Invalid> {
        if jwk.len() > MAX_JWK {
            return Err(Invalid("must be at most 8 KiB"));
        }
        let members = strict_json::object(jwk.as_bytes())?;
        if PRIVATE.iter().any(|private| members.contains_key(*private)) {
            return Err(Invalid(
                "holds a private or symmetric key: send the public part alone, of another pair, since others may \
                 have seen this one",
            ));
        }
        let key = match text(&members, "kty") {
            Some("OKP") => Self::ed25519(&members),
            Some("EC") => Self::p256(&members),
            Some("RSA") => Self::rsa(&members),
            _ => Err(Invalid("must be a key of type OKP, EC or RSA")),
        }?;
        key.fits(&members)?;
        Ok(key)
    }

    fn ed25519(members: &Map<String, Value>) -> Result<Self, Invalid> {
        if text(members, "crv") != Some("Ed25519") {
            return Err(Invalid("must be on the curve Ed25519 where its type is OKP"));
        }
        let (text, point) =
            number::<32>(members, "x").ok_or(Invalid("must have 32 bytes of base64url as x"))?;
        if !ed25519_point::is_public_key(&point) {
            return Err(Invalid("is no point of the curve Ed25519"));
        }
        let prepared = ParsedPublicKey::new(&ED25519, point);
        let required = format!(r#""crv":"Ed25519","kty":"OKP","x":"{text}""#);
        Self::new(KeyAlgorithm::EdDsa, &required, CURVE_SIGNATURE, prepared)
    }

    fn p256(members: &Map<String, Value>) -> Result<Self, Invalid> {
        if text(members, "crv") != Some("P-256") {
            return Err(Invalid("must be on the curve P-256 where its type is EC"));
        }
        let coordinates = number::<32>(members, "x").zip(number::<32>(members, "y"));
        let ((x, own_x), (y, own_y)) =
            coordinates.ok_or(Invalid("must have 32 bytes of base64url each as x and y"))?;
        // An uncompressed point (SEC 1, section 2.3.3).
        let point = [&[4], own_x.as_slice(), own_y.as_slice()].concat();
        let prepared = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        let required = format!(r#""crv":"P-256","kty":"EC","x":"{x}","y":"{y}""#);
        Self::new(KeyAlgorithm::Es256, &required, CURVE_SIGNATURE, prepared)
            .map_err(|_| Invalid("is no point of the curve P-256"))
    }

    fn rsa(members: &Map<String, Value>) -> Result<Self, Invalid> {
        const WRONG: Invalid =
            Invalid("must have a modulus of 2048 to 4096 bits, and the exponent 65537 (AQAB)");
        let n = text(members, "n").ok_or(WRONG)?;
        let modulus = BASE64URL.decode(n).map_err(|_| WRONG)?;
        let exponent = text(members, "e").and_then(|e| BASE64URL.decode(e).ok());
        // Neither has leading zeros (RFC 7518, section 6.3.1).
        let first = modulus.first().filter(|first| **first != 0).ok_or(WRONG)?;
        let bits = modulus.len() * 8 - first.leading_zeros() as usize;
        if !MODULUS.contains(&bits) || exponent.as_deref() != Some(&EXPONENT) {
            return Err(WRONG);
        }
        let algorithm = match text(members, "alg") {
            Some("PS256") => KeyAlgorithm::Ps256,
            _ => KeyAlgorithm::Rs256,
        };
        let required = format!(r#""e":"AQAB","kty":"RSA","n":"{n}""#);
        Self::new(algorithm, &required, modulus.len(), Self::prepare_rsa(algorithm, &modulus))
            .map_err(|_| WRONG)
    }

    fn prepare_rsa(algorithm: KeyAlgorithm, modulus: &[u8]) -> Result<ParsedPublicKey, KeyRejected> {
        let parameters = match algorithm {
            KeyAlgorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
            _ => &RSA_PKCS1_2048_8192_SHA256,
        };
        RsaPublicKeyComponents { n: modulus, e: &EXPONENT[..] }.to_parsed_public_key(parameters)
    }

    /// A key whose `required` members, in JSON, are those of its thumbprint (RFC 7638, section 3.2).
    fn new(
        algorithm: KeyAlgorithm,
        required: &str,
        signature_len: usize,
        prepared: Result<ParsedPublicKey, KeyRejected>,
    ) -> Result<Self, Invalid> {
        const REFUSED: Invalid = Invalid("is no valid public key");
        let prepared = prepared.map_err(|_| REFUSED)?;
        let thumbprint = sha256(format!("{{{required}}}").as_bytes());
        let spki = sha256(prepared.as_der().map_err(|_| REFUSED)?.as_ref());
        let name = algorithm.name();
        let jwk = format!(r#"{{"alg":"{name}",{required},"kid":"{thumbprint}","use":"sig"}}"#);
        Ok(Self { algorithm, jwk, thumbprint, spki, signature_len, prepared })
    }

    /// Whether what the JWK says of the key's use is so.
    fn fits(&self, members: &Map<String, Value>) -> Result<(), Invalid> {
        let is = |name: &str, value: &str| members.get(name).is_none_or(|given| given == value);
        if !is("alg", self.algorithm.name()) {
            return Err(Invalid(
                "must have the alg of its type, if any: EdDSA for Ed25519, ES256 for P-256, RS256 or PS256 for RSA",
            ));
        }
        if !is("use", "sig") {
            return Err(Invalid("must have the use sig, if any"));
        }
        if members.get("key_ops").is_some_and(|given| *given != serde_json::json!(["verify"])) {
            return Err(Invalid("must have verify alone in its key_ops, if any"));
        }
        if !is("kid", &self.thumbprint.to_string()) {
            return Err(Invalid("must have its thumbprint (RFC 7638) as kid, or none"));
        }
        Ok(())
    }

    /// The only algorithm that it verifies.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// The key as a JWK with `alg`, `kid` and `use`, in one way of writing it.
    pub fn jwk(&self) -> &str {
        &self.jwk
    }

    /// Its thumbprint (RFC 7638), the same whichever algorithm it is for: its `kid`.
    pub fn thumbprint(&self) -> Sha256Digest {
        self.thumbprint
    }

    /// The digest of its SubjectPublicKeyInfo, as a certificate with this key has it.
    pub fn spki(&self) -> Sha256Digest {
        self.spki
    }

    /// How long its signatures are, in bytes.
    pub fn signature_len(&self) -> usize {
        self.signature_len
    }

    /// Whether a verification may take more than 100 µs, so that it is not for the task of a connection.
    pub fn is_slow(&self) -> bool {
        self.signature_len > QUICK_MODULUS
    }

    /// Whether it is the signature of this message by the private part.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.prepared.verify_sig(message, signature).is_ok()
    }

    /// The bytes that it takes in a cache.
    pub(crate) fn weight(&self) -> usize {
        // What the library keeps of it: the numbers in two forms, and their DER.
        size_of::<Self>() + self.jwk.len() + 600 + 4 * self.signature_len
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({} {})", self.algorithm.name(), self.thumbprint)
    }
}

fn text<'a>(members: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    members.get(name)?.as_str()
}

/// A number of so many bytes, and how it is written.
fn number<'a, const N: usize>(members: &'a Map<String, Value>, name: &str) -> Option<(&'a str, [u8; N])> {
    let text = text(members, name)?;
    Some((text, BASE64URL.decode(text).ok()?.try_into().ok()?))
}

fn sha256(bytes: &[u8]) -> Sha256Digest {
    let digest: [u8; 32] = digest(&SHA256, bytes).as_ref().try_into().expect("SHA-256 gives 32 bytes");
    digest.into()
}

/// Keys with which signatures are verified where there is none that could have made them, so that it takes as
/// long: an id that does not exist must not be refused sooner than one that does.
///
/// Anyone could sign for some of them. What they say of a signature is thrown away.
struct Decoys {
    ed25519: PublicKey,
    p256: PublicKey,
    rsa: Vec<PublicKey>,
}

/// The lengths of the RSA decoys, in bytes.
const DECOY_MODULI: [usize; 3] = [256, 384, 512];

static DECOYS: LazyLock<Decoys> = LazyLock::new(|| {
    let parse = |jwk: &str| PublicKey::parse(jwk).expect("a constant is a key");
    // The base points of the curves.
    let ed25519 = r#"{"kty":"OKP","crv":"Ed25519","x":"WGZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmY"}"#;
    let p256 = r#"{"kty":"EC","crv":"P-256","x":"axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY","y":"T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU"}"#;
    let rsa = |algorithm: &str, bytes: usize| {
        let n = BASE64URL.encode(vec![0xff; bytes]);
        parse(&format!(r#"{{"kty":"RSA","e":"AQAB","alg":"{algorithm}","n":"{n}"}}"#))
    };
    let rsa = ["RS256", "PS256"].into_iter().flat_map(|name| DECOY_MODULI.map(|bytes| rsa(name, bytes)));
    Decoys { ed25519: parse(ed25519), p256: parse(p256), rsa: rsa.collect() }
});

/// A key to verify a signature of this algorithm and length with where there is none, and the signature in the
/// length that the key needs.
pub fn decoy(algorithm: KeyAlgorithm, signature: &[u8]) -> (&'static PublicKey, Vec<u8>) {
    let key = match algorithm {
        KeyAlgorithm::EdDsa => &DECOYS.ed25519,
        KeyAlgorithm::Es256 => &DECOYS.p256,
        KeyAlgorithm::Rs256 | KeyAlgorithm::Ps256 => {
            let of = DECOYS.rsa.iter().filter(|key| key.algorithm == algorithm);
            let longest = of.clone().next_back().expect("there are some");
            of.clone().find(|key| key.signature_len >= signature.len()).unwrap_or(longest)
        }
    };
    // What is shorter is a smaller number.
    let mut padded = vec![0; key.signature_len.saturating_sub(signature.len())];
    padded.extend(signature.iter().take(key.signature_len));
    (key, padded)
}

#[cfg(test)]
pub(crate) mod tests;
