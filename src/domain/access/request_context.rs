//! Where a call comes from.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use uuid::Uuid;

use super::call_facts::CallFacts;
use super::presentation::PresentedAt;
use super::work::Work;
use crate::domain::values::client_address::ClientAddress;
use crate::domain::values::client_certificate::{ClientCertificate, PresentedCertificate};
use crate::domain::values::trace_parent::TraceParent;
use crate::domain::values::web_origin::WebOrigin;
use crate::error::{Reason, Result};

/// What the connection and the headers say about a call. All that concerns the call shares it.
#[derive(Debug, Default)]
pub struct RequestContext {
    /// The client's address.
    pub address: ClientAddress,
    /// The certificate of the connection's own handshake; none for a page's call.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// The origin of the page that calls, as its browser sends it.
    pub page: BrowserOrigin,
    /// Identifies the call in responses, events and logs.
    pub request_id: RequestId,
    /// What the call does to the database.
    pub work: Work,
    /// The method or path that is called, for the log.
    pub method: Cow<'static, str>,
    /// The trace that its client says it belongs to.
    pub trace: Option<TraceParent>,
    /// What becomes known of the call, for the log.
    pub facts: CallFacts,
}

/// The id of a request: at most 64 bytes of ASCII, held in place, since every request has one.
#[derive(Clone, Copy)]
pub struct RequestId {
    length: u8,
    text: [u8; RequestId::MAX_LEN],
}

impl RequestId {
    pub const MAX_LEN: usize = 64;

    /// An id that the caller chose; none if it is empty, too long, or not safe to log.
    pub fn given(text: &str) -> Option<Self> {
        let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let good = (1..=Self::MAX_LEN).contains(&text.len()) && text.bytes().all(is_safe);
        good.then(|| Self::of(text))
    }

    /// A new id.
    pub fn new(id: Uuid) -> Self {
        Self::of(id.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
    }

    fn of(text: &str) -> Self {
        let mut id = Self { length: text.len() as u8, ..Self::default() };
        id.text[..text.len()].copy_from_slice(text.as_bytes());
        id
    }
}

impl Default for RequestId {
    fn default() -> Self {
        Self { length: 0, text: [0; Self::MAX_LEN] }
    }
}

impl Deref for RequestId {
    type Target = str;

    fn deref(&self) -> &str {
        std::str::from_utf8(&self.text[..usize::from(self.length)]).expect("it is ASCII")
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
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
