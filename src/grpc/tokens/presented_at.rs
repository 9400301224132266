//! Where a credential was presented, as reported by the caller: the fields `origin`,
//! `client_address` and `client_certificate_thumbprint` of exchange and introspection.

use std::net::IpAddr;

use crate::domain::values::client_certificate::{PresentedCertificate, Sha256Digest};
use crate::domain::values::web_origin::WebOrigin;
use crate::error::Violations;
use crate::grpc::wire::convert;

/// The two fields, checked.
pub struct PresentedAtFields {
    pub origin: Option<WebOrigin>,
    pub address: Option<IpAddr>,
}

impl PresentedAtFields {
    pub fn read(violations: &mut Violations, origin: &str, client_address: &str) -> Self {
        let address = |text: &str| {
            text.parse::<IpAddr>().map(|address| address.to_canonical()).map_err(|_| "must be an IP address")
        };
        Self {
            origin: violations.check("origin", convert::optional(origin, WebOrigin::parse)).flatten(),
            address: violations.check("client_address", convert::optional(client_address, address)).flatten(),
        }
    }

    /// The certificate of the client that presents it, of which the caller reports the thumbprint.
    pub fn certificate(violations: &mut Violations, thumbprint: &str) -> Option<PresentedCertificate> {
        let digest = convert::optional(thumbprint, Sha256Digest::parse);
        let digest = violations.check("client_certificate_thumbprint", digest)?;
        Some(digest.map_or(PresentedCertificate::None, PresentedCertificate::Reported))
    }

    /// Whether either field is set.
    pub fn is_some(&self) -> bool {
        self.origin.is_some() || self.address.is_some()
    }
}
