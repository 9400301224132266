//! An account in one org: what it holds there, and whether it may act there.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::rights::{HeldGrants, Rights};
use crate::domain::tokens::policy::Rules;
use crate::domain::values::ids::{AccountId, OrgId};
use crate::domain::values::kinds::AccountKind;
use crate::domain::values::permissions::{Permission, Right, SystemRole};
use crate::domain::values::resources::Node;
use crate::error::Reason;

/// An account as a member of an org, whatever credential it uses there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub org_id: OrgId,
    pub account_id: AccountId,
    /// The home org of the account; for a guest, another org than this one.
    pub home_org_id: OrgId,
    pub account_kind: AccountKind,
    pub username: String,
    /// The account is deactivated or deleted, or is no longer a member.
    pub account_stopped: bool,
    /// The org is suspended or deleted, or the account's home org is.
    pub org_stopped: bool,
    /// Raised by every change that narrows the rights of the whole org.
    pub org_version: i64,
    /// Raised by every change that narrows the rights of the account.
    pub account_version: i64,
    pub grants: HeldGrants,
    /// The application permissions that roles and grants of the org name.
    ///
    /// Filled only where an owner's list of permissions needs them.
    pub named_by_org: BTreeSet<Permission>,
    /// What the org's policy allows of tokens; shared by all cached members of the org.
    pub rules: Arc<Rules>,
}

impl Member {
    /// The rights of the account in the org, whatever credential it uses.
    pub fn rights(&self) -> &Rights {
        self.grants.rights()
    }

    /// The bytes that it takes in a cache, without the rules, which are shared.
    pub(crate) fn weight(&self) -> usize {
        let named = self
            .named_by_org
            .iter()
            .map(|permission| size_of_val(permission) + permission.as_str().len() + 2 * size_of::<usize>());
        size_of::<Self>() + self.username.len() + self.grants.weight() + named.sum::<usize>()
    }

    /// The ids of the roles that the account holds on the whole org; `member` always.
    pub fn roles(&self) -> Vec<String> {
        let roles =
            self.grants.iter().filter(|grant| grant.node == Node::Org).filter_map(|grant| {
                match &grant.right {
                    Right::Permission(_) => None,
                    role => Some(role.to_string()),
                }
            });
        let all: BTreeSet<_> = roles.chain([SystemRole::Member.id().to_owned()]).collect();
        all.into_iter().collect()
    }

    /// Whether the account may act in the org at all.
    ///
    /// # Errors
    /// `ORG_SUSPENDED`, `ACCOUNT_DEACTIVATED`.
    pub fn check_active(&self) -> Result<(), Reason> {
        if self.org_stopped {
            Err(Reason::OrgSuspended)
        } else if self.account_stopped {
            Err(Reason::AccountDeactivated)
        } else {
            Ok(())
        }
    }

    /// Whether it owns the org or a node of it.
    ///
    /// If so, its list of permissions depends on what the org names.
    pub fn owns_something(&self) -> bool {
        self.grants.iter().any(|grant| grant.right == Right::System(SystemRole::Owner))
    }
}
