//! Where a credential was presented, as reported by the caller: the fields `origin` and
//! `client_address` of exchange and introspection.

use std::net::IpAddr;

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

    /// Whether either field is set.
    pub fn is_some(&self) -> bool {
        self.origin.is_some() || self.address.is_some()
    }
}
