//! Which client certificate a connection has shown.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine as _};

/// The SHA-256 of a certificate: what `cnf` of a JWT that is bound to one says (`x5t#S256`, RFC 8705).
#[derive(Clone, PartialEq, Eq)]
pub struct Thumbprint(String);

impl Thumbprint {
    /// Of a certificate in DER, as the TLS library of the service gives that of its peer.
    pub fn of(certificate_der: &[u8]) -> Self {
        Self(BASE64URL.encode(digest(&SHA256, certificate_der)))
    }

    /// From its text in base64url.
    pub fn from_base64url(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Thumbprint").field(&self.0).finish()
    }
}
