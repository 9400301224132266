//! Layers for services: each call is authenticated and authorised before the handler sees it.

mod grpc;
mod http;
mod replay;

use ::http::HeaderMap;
use ::http::header::AUTHORIZATION;
use tonic::Code;

pub use self::grpc::{GrpcGuard, GrpcGuardBuilder, GrpcGuarded};
pub use self::http::{Access, HttpGuard, HttpGuardBuilder, HttpGuarded, ProtectedResource, path_resource};

use crate::error::{Error, Result, reason};
use crate::thumbprint::Thumbprint;
use crate::verifier::{Claims, Orgs, Verifier};

/// Finds the certificate that the peer of a call has shown, among the extensions of its request.
type PeerCertificate = fn(&::http::Extensions) -> Option<Thumbprint>;

/// Whose calls are let in.
#[derive(Clone, Debug)]
struct Admission {
    verifier: Verifier,
    audience: String,
    orgs: Orgs,
    peer_certificate: PeerCertificate,
}

impl Admission {
    fn new(verifier: Verifier, audience: String, orgs: Orgs) -> Self {
        Self { verifier, audience, orgs, peer_certificate: |extensions| extensions.get().cloned() }
    }

    /// The claims of the one JWT in the `authorization` header.
    async fn claims(&self, headers: &HeaderMap, extensions: &::http::Extensions) -> Result<Claims> {
        let certificate = (self.peer_certificate)(extensions);
        let jwt = bearer(headers)?;
        self.verifier.verify_or_fetch(jwt, &self.audience, &self.orgs, certificate.as_ref()).await
    }
}

/// The text after `Bearer`.
fn bearer(headers: &HeaderMap) -> Result<&str> {
    let missing = || {
        Error::new(Code::Unauthenticated, reason::CREDENTIAL_MISSING, "the call has no access token")
            .retryable(false)
    };
    let invalid =
        || Error::refused(reason::ACCESS_TOKEN_INVALID, "format", "the credential is no access token");
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or_else(missing)?;
    // Of two it would be open which one counts.
    if values.next().is_some() {
        return Err(invalid());
    }
    let text = value.to_str().map_err(|_| invalid())?;
    let (scheme, token) = text.split_once(' ').ok_or_else(invalid)?;
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Err(invalid());
    }
    Ok(token.trim_start_matches(' '))
}

#[cfg(test)]
mod tests;
