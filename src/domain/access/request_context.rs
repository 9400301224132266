//! Where a call comes from.

use std::net::IpAddr;
use std::sync::Arc;

use super::presentation::PresentedAt;
use super::work::Work;
use crate::domain::values::client_address::ClientAddress;
use crate::domain::values::client_certificate::{ClientCertificate, PresentedCertificate};
use crate::domain::values::ids::AccountId;
use crate::domain::values::web_origin::WebOrigin;
use crate::error::{Reason, Result};

/// What the connection and the headers say about a call.
#[derive(Clone, Debug, Default)]
pub struct RequestContext {
    /// The client's address.
    pub address: ClientAddress,
    /// The certificate of the connection's own handshake; none for a page's call.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// The origin of the page that calls, as its browser sends it.
    pub page: BrowserOrigin,
    /// Identifies the call in responses, events and logs.
    pub request_id: String,
    /// What the call does to the database.
    pub work: Work,
    /// The method or path that is called, for the log.
    pub method: Arc<str>,
    /// The account behind the call, for the log; none before it is authenticated.
    pub caller: Option<AccountId>,
}

/// The content of a request's `origin` header.
#[derive(Clone, Debug, Default)]
pub enum BrowserOrigin {
    /// There is no such header: the client is not a page.
    #[default]
    None,
    Web(WebOrigin),
    /// A value that is not a web origin, such as `null`.
    Other,
}

impl RequestContext {
    /// The certificate of the connection, as credentials are checked against it.
    pub(crate) fn presented_certificate(&self) -> PresentedCertificate {
        self.certificate.as_deref().map_or(PresentedCertificate::None, |own| PresentedCertificate::Own(*own))
    }

    /// Where a credential is presented that the caller checks on behalf of another client.
    ///
    /// The fields of the request say it, except that where the connection has an `origin` header of
    /// its own, only that header counts.
    ///
    /// # Errors
    /// `ORIGIN_MISMATCH` if header and field differ.
    pub(crate) fn presented_at(
        &self,
        origin: Option<WebOrigin>,
        address: Option<IpAddr>,
        certificate: PresentedCertificate,
    ) -> Result<PresentedAt> {
        let origin = match (&self.page, origin) {
            (BrowserOrigin::None, field) => field,
            (BrowserOrigin::Other, None) => None,
            (BrowserOrigin::Web(page), None) => Some(page.clone()),
            (BrowserOrigin::Web(page), Some(field)) if *page == field => Some(field),
            _ => return Err(Reason::OriginMismatch.into()),
        };
        Ok(PresentedAt { origin, address, certificate })
    }
}
