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
    /// Of a token that may be used for everything.
    pub(crate) const NONE: Self = Self {
        scopes: Vec::new(),
        resources: Vec::new(),
        audiences: Vec::new(),
        networks: Vec::new(),
        certificates: Vec::new(),
        origins: Vec::new(),
        purpose: None,
    };

    /// The bytes that the lists take, beside their places.
    pub(crate) fn weight(&self) -> usize {
        let Self { scopes, resources, audiences, networks, certificates, origins, purpose } = self;
        let texts = scopes.iter().map(|scope| scope.as_str().len());
        let texts = texts.chain(resources.iter().map(|path| path.as_str().len()));
        let texts = texts.chain(audiences.iter().map(|audience| audience.as_str().len()));
        let texts = texts.chain(origins.iter().map(|origin| origin.as_str().len()));
        let texts = texts.chain(purpose.iter().map(|purpose| purpose.as_str().len()));
        size_of_val(&**scopes)
            + size_of_val(&**resources)
            + size_of_val(&**audiences)
            + size_of_val(&**networks)
            + size_of_val(&**certificates)
            + size_of_val(&**origins)
            + texts.sum::<usize>()
    }

    /// Whether they narrow the rights of the account.
    pub(crate) fn narrow_rights(&self) -> bool {
        !self.scopes.is_empty() || !self.resources.is_empty()
    }
}
