//! Where a credential is presented, and for what purpose.

use std::net::IpAddr;

use crate::domain::values::names::Purpose;
use crate::domain::values::web_origin::WebOrigin;

/// One use of a credential, as the checks look at it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Presentation<'a> {
    /// The address of the client that presents it; none where it is not known.
    pub address: Option<IpAddr>,
    /// The page that presents it; none outside a browser, or where it is no proper origin.
    pub origin: Option<&'a WebOrigin>,
    pub purpose: Option<&'a Purpose>,
}

/// Where the subject of an exchange or introspection is presented.
#[derive(Clone, Debug, Default)]
pub struct PresentedAt {
    pub address: Option<IpAddr>,
    pub origin: Option<WebOrigin>,
}

impl PresentedAt {
    /// The same, with the purpose.
    pub(crate) fn with<'a>(&'a self, purpose: Option<&'a Purpose>) -> Presentation<'a> {
        Presentation { address: self.address, origin: self.origin.as_ref(), purpose }
    }
}
