//! The restrictions of a token: what it may be used for, from where, and for which audiences.

use crate::domain::values::client_certificate::AllowedCertificate;
use crate::domain::values::names::{Audience, Purpose};
use crate::domain::values::networks::Network;
use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::ResourcePath;
use crate::domain::values::web_origin::WebOrigin;

/// The restrictions that a token was made with. Empty lists limit nothing.
///
/// Only a publishable token has origins, and it always has some.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restrictions {
    pub scopes: Vec<Permission>,
    pub resources: Vec<ResourcePath>,
    pub audiences: Vec<Audience>,
    pub networks: Vec<Network>,
    pub certificates: Vec<AllowedCertificate>,
    pub origins: Vec<WebOrigin>,
    pub purpose: Option<Purpose>,
}

impl Restrictions {
    /// Whether they narrow the rights of the account.
    pub(crate) fn narrow_rights(&self) -> bool {
        !self.scopes.is_empty() || !self.resources.is_empty()
    }
}
