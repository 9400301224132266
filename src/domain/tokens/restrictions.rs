//! The restrictions of a token: what it may be used for, from where, and for which audiences.

use std::ops::Deref;

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

/// The restrictions of a token as they are cached: most tokens have none, and take no memory for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lists(Option<Box<Restrictions>>);

impl From<Restrictions> for Lists {
    fn from(restrictions: Restrictions) -> Self {
        Self((restrictions != Restrictions::NONE).then(|| Box::new(restrictions)))
    }
}

impl Deref for Lists {
    type Target = Restrictions;

    fn deref(&self) -> &Restrictions {
        static NONE: Restrictions = Restrictions::NONE;
        self.0.as_deref().unwrap_or(&NONE)
    }
}

impl Lists {
    /// The bytes that they take, beside themselves.
    pub(crate) fn weight(&self) -> usize {
        self.0.as_ref().map_or(0, |lists| size_of::<Restrictions>() + lists.weight())
    }
}

#[cfg(test)]
impl std::ops::DerefMut for Lists {
    fn deref_mut(&mut self) -> &mut Restrictions {
        self.0.get_or_insert_default()
    }
}

impl Restrictions {
    const NONE: Self = Self {
        scopes: Vec::new(),
        resources: Vec::new(),
        audiences: Vec::new(),
        networks: Vec::new(),
        certificates: Vec::new(),
        origins: Vec::new(),
        purpose: None,
    };

    fn weight(&self) -> usize {
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
