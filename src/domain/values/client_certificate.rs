//! Client certificates, and which of them a token may be used with.

use std::fmt;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};

use super::names::Invalid;

/// What an allowed certificate begins with that is named by its public key.
const BY_PUBLIC_KEY: &str = "spki:";

/// A SHA-256 digest, written in base64url without padding (RFC 8705, section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sha256Digest([u8; 32]);

impl Sha256Digest {
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let decoded = BASE64_URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        decoded
            .map(Self)
            .ok_or(Invalid("must be a SHA-256 digest in base64url without padding, which has 43 characters"))
    }
}

impl Sha256Digest {
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Sha256Digest {
    fn from(digest: [u8; 32]) -> Self {
        Self(digest)
    }
}

impl fmt::Display for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_URL_SAFE_NO_PAD.encode(self.0))
    }
}

/// The certificate with which a client proved in the handshake of its connection that it holds the
/// private key.
///
/// Nothing in it but these digests identifies a client: names in a certificate are never read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// `x5t#S256` (RFC 8705): the digest of the whole certificate.
    pub thumbprint: Sha256Digest,
    /// The digest of its SubjectPublicKeyInfo. Renewed certificates of one key share it.
    pub public_key: Sha256Digest,
}

/// A certificate that a token may be used with: by its thumbprint, or by its public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AllowedCertificate {
    Thumbprint(Sha256Digest),
    PublicKey(Sha256Digest),
}

impl AllowedCertificate {
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        match text.strip_prefix(BY_PUBLIC_KEY) {
            Some(digest) => Sha256Digest::parse(digest).map(Self::PublicKey),
            None => Sha256Digest::parse(text).map(Self::Thumbprint),
        }
        .map_err(|_| {
            Invalid(
                "must be the SHA-256 thumbprint of a certificate in base64url (43 characters), or `spki:` \
                 and that of its public key",
            )
        })
    }

    fn is(&self, certificate: &ClientCertificate) -> bool {
        match self {
            Self::Thumbprint(thumbprint) => *thumbprint == certificate.thumbprint,
            Self::PublicKey(key) => *key == certificate.public_key,
        }
    }
}

impl fmt::Display for AllowedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Thumbprint(digest) => digest.fmt(f),
            Self::PublicKey(digest) => write!(f, "{BY_PUBLIC_KEY}{digest}"),
        }
    }
}

/// The certificate that a credential is presented with, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PresentedCertificate {
    /// There is none.
    #[default]
    None,
    /// That of the connection's own handshake.
    Own(ClientCertificate),
    /// That of another connection, of which the caller names the thumbprint alone.
    Reported(Sha256Digest),
}

impl PresentedCertificate {
    pub fn thumbprint(&self) -> Option<Sha256Digest> {
        match self {
            Self::None => None,
            Self::Own(certificate) => Some(certificate.thumbprint),
            Self::Reported(thumbprint) => Some(*thumbprint),
        }
    }

    /// Whether it is one of these. What cannot be compared is none of them.
    pub fn is_among(&self, allowed: &[AllowedCertificate]) -> bool {
        match self {
            Self::None => false,
            Self::Own(certificate) => allowed.iter().any(|one| one.is(certificate)),
            Self::Reported(thumbprint) => allowed.contains(&AllowedCertificate::Thumbprint(*thumbprint)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allowed_certificates_are_read_and_written() {
        let digest = "A".repeat(43);
        for good in [digest.clone(), format!("spki:{digest}")] {
            assert_eq!(AllowedCertificate::parse(&good).unwrap().to_string(), good);
        }
        for bad in [
            String::new(),
            "spki:".to_owned(),
            "A".repeat(42),
            "A".repeat(44),
            // Bits that no digest has.
            format!("{}B", "A".repeat(42)),
            format!("{digest}="),
            format!("SPKI:{digest}"),
            format!("spki:spki:{digest}"),
            "00".repeat(32),
            format!("{}/{}", "A".repeat(21), "A".repeat(21)),
        ] {
            assert!(AllowedCertificate::parse(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_cannot_be_compared_does_not_match() {
        let [one, other] = [[1; 32], [2; 32]].map(Sha256Digest::from);
        let own = PresentedCertificate::Own(ClientCertificate { thumbprint: one, public_key: other });
        let reported = PresentedCertificate::Reported(one);
        let by_thumbprint = AllowedCertificate::Thumbprint(one);
        let by_key = AllowedCertificate::PublicKey(other);
        for (presented, allowed, matches) in [
            (own, &[by_thumbprint][..], true),
            (own, &[by_key], true),
            (own, &[AllowedCertificate::PublicKey(one), AllowedCertificate::Thumbprint(other)], false),
            (own, &[AllowedCertificate::PublicKey(one), by_key], true),
            (own, &[], false),
            (reported, &[by_thumbprint], true),
            // A public key is not in a thumbprint.
            (reported, &[by_key, AllowedCertificate::PublicKey(one)], false),
            (PresentedCertificate::None, &[by_thumbprint, by_key], false),
        ] {
            assert_eq!(presented.is_among(allowed), matches, "{presented:?} {allowed:?}");
        }
    }
}
