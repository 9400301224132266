//! Where a credential is presented, and for what purpose.

use std::net::IpAddr;

use crate::domain::values::client_certificate::PresentedCertificate;
use crate::domain::values::names::Purpose;
use crate::domain::values::web_origin::WebOrigin;

/// One use of a credential, as the checks see it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Presentation<'a> {
    /// The address of the client that presents it; none if it is not known.
    pub address: Option<IpAddr>,
    /// The origin of the page that presents it; none outside a browser, or if it is invalid.
    pub origin: Option<&'a WebOrigin>,
    pub purpose: Option<&'a Purpose>,
    /// The certificate of the client that presents it.
    pub certificate: PresentedCertificate,
}

/// Where the subject of an exchange or introspection is presented.
#[derive(Clone, Debug, Default)]
pub struct PresentedAt {
    pub address: Option<IpAddr>,
    pub origin: Option<WebOrigin>,
    pub certificate: PresentedCertificate,
}

impl PresentedAt {
    /// The presentation here for this purpose.
    pub(crate) fn with<'a>(&'a self, purpose: Option<&'a Purpose>) -> Presentation<'a> {
        let Self { address, origin, certificate } = self;
        Presentation { address: *address, origin: origin.as_ref(), purpose, certificate: *certificate }
    }
}
