//! Where a call comes from.

use std::net::IpAddr;

use super::presentation::PresentedAt;
use crate::domain::values::web_origin::WebOrigin;
use crate::error::{Reason, Result};

/// What the connection and the headers say of a call.
#[derive(Clone, Debug, Default)]
pub struct RequestContext {
    /// The address at the other end of the connection.
    pub address: Option<IpAddr>,
    /// The page that calls, as its browser says.
    pub page: BrowserOrigin,
    /// Names the call in answers, events and logs.
    pub request_id: String,
}

/// What the `origin` header of a connection says.
#[derive(Clone, Debug, Default)]
pub enum BrowserOrigin {
    /// There is none: the client is no page.
    #[default]
    None,
    Web(WebOrigin),
    /// Something that is no web origin, such as `null`.
    Other,
}

impl RequestContext {
    /// Where a credential is presented on behalf of which another client calls: as the fields
    /// of the request say, except that a connection's own `origin` header alone counts.
    ///
    /// # Errors
    /// `ORIGIN_MISMATCH` where header and field differ.
    pub(crate) fn shown_at(&self, origin: Option<WebOrigin>, address: Option<IpAddr>) -> Result<PresentedAt> {
        let origin = match (&self.page, origin) {
            (BrowserOrigin::None, field) => field,
            (BrowserOrigin::Other, None) => None,
            (BrowserOrigin::Web(page), None) => Some(page.clone()),
            (BrowserOrigin::Web(page), Some(field)) if *page == field => Some(field),
            _ => return Err(Reason::OriginMismatch.into()),
        };
        Ok(PresentedAt { origin, address })
    }
}
