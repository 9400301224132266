//! An administrator who acts as a service account: the rights that both have.

use std::sync::Arc;

use super::credential::Credential;
use super::member::Member;
use super::rights::Rights;
use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::Node;
use crate::error::Reason;

/// A service account and the administrator who acts as it, both as they are now.
#[derive(Clone)]
pub struct Impersonation {
    pub target: Arc<Member>,
    /// The rights of the administrator's credential in the target's org.
    actor: Rights,
}

impl Impersonation {
    /// The target, impersonated by the account of this valid credential.
    ///
    /// # Errors
    /// `ACCESS_TOKEN_STALE` if the account may not impersonate any more.
    pub(crate) fn new(credential: &Credential, target: Arc<Member>) -> Result<Self, Reason> {
        let held = credential.effective_rights();
        let actor = held.in_org(credential.account.org_id, target.org_id).map(|rights| rights.into_owned());
        let may = |rights: &Rights| rights.cover(&Permission::ACCOUNTS_IMPERSONATE, &Node::Org);
        let actor = actor.filter(may).ok_or(Reason::AccessTokenStale)?;
        Ok(Self { target, actor })
    }

    /// The rights that both have, within what the access token carries.
    pub(crate) fn rights(&self, carried: &Rights) -> Rights {
        self.target.rights().meet(&self.actor).meet(carried)
    }

    /// Whether the administrator could make a call about the target with this permission.
    ///
    /// Otherwise the rights of the target over its own account do not apply.
    pub(crate) fn allows(&self, permission: &Permission) -> bool {
        self.actor.cover(permission, &Node::Org)
    }
}
