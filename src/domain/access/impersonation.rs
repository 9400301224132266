//! An administrator in the place of a service account: what both hold.

use std::sync::Arc;

use super::credential::Credential;
use super::member::Member;
use super::rights::Rights;
use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::Node;
use crate::error::Reason;

/// A service account as an administrator acts for it, both as they are now.
#[derive(Clone)]
pub struct Impersonation {
    pub target: Arc<Member>,
    /// What the administrator's credential can do in the target's org.
    actor: Rights,
}

impl Impersonation {
    /// The target as the account of this credential, which is good, acts for it.
    ///
    /// # Errors
    /// `ACCESS_TOKEN_STALE` where it may not impersonate any more.
    pub(crate) fn new(credential: &Credential, target: Arc<Member>) -> Result<Self, Reason> {
        let held = credential.effective_rights();
        let actor = held.in_org(credential.account.org_id, target.org_id).map(|rights| rights.into_owned());
        let may = |rights: &Rights| rights.cover(&Permission::ACCOUNTS_IMPERSONATE, &Node::Org);
        let actor = actor.filter(may).ok_or(Reason::AccessTokenStale)?;
        Ok(Self { target, actor })
    }

    /// What both hold, within what the access token carries.
    pub(crate) fn rights(&self, carried: &Rights) -> Rights {
        self.target.rights().meet(&self.actor).meet(carried)
    }

    /// Whether the administrator could make a call about the target by this permission: else
    /// what the target may do as oneself does not count.
    pub(crate) fn allows(&self, permission: &Permission) -> bool {
        self.actor.cover(permission, &Node::Org)
    }
}
