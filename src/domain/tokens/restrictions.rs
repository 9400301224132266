//! The restrictions of a token: what it may be used for, from where, and for whom.

use crate::domain::values::names::{Audience, Purpose};
use crate::domain::values::networks::Network;
use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::ResourcePath;
use crate::domain::values::web_origin::WebOrigin;

/// What a token was limited to when it was made. Empty lists limit nothing; only a
/// publishable token has origins, and always has some.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restrictions {
    pub scopes: Vec<Permission>,
    pub resources: Vec<ResourcePath>,
    pub audiences: Vec<Audience>,
    pub networks: Vec<Network>,
    pub origins: Vec<WebOrigin>,
    pub purpose: Option<Purpose>,
}

impl Restrictions {
    /// Whether the rights of the account are narrowed.
    pub(crate) fn narrow_rights(&self) -> bool {
        !self.scopes.is_empty() || !self.resources.is_empty()
    }
}
