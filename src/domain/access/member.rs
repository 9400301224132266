//! An account in one org: what it holds there, and whether anything stops it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::rights::{HeldGrant, Rights};
use crate::domain::tokens::policy::Rules;
use crate::domain::values::ids::{AccountId, OrgId};
use crate::domain::values::kinds::AccountKind;
use crate::domain::values::permissions::{Permission, Right, SystemRole};
use crate::domain::values::resources::Node;
use crate::error::Reason;

/// An account where it is a member, whatever credential it uses there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub org_id: OrgId,
    pub account_id: AccountId,
    /// The home org of the account: another one than this for a guest.
    pub home_org_id: OrgId,
    pub account_kind: AccountKind,
    pub username: String,
    /// The account is deactivated or deleted, or no member any more.
    pub account_stopped: bool,
    /// The org is suspended or deleted, or the account's home is.
    pub org_stopped: bool,
    /// Raised by what narrows the rights of the whole org.
    pub org_version: i64,
    /// Raised by what narrows the rights of the account.
    pub account_version: i64,
    pub grants: Vec<HeldGrant>,
    /// The application permissions that roles and grants of the org name; filled where an owner's list needs them.
    pub named_by_org: BTreeSet<Permission>,
    /// What the org's policy lets tokens be; one for all of the org that are cached.
    pub rules: Arc<Rules>,
}

impl Member {
    /// What the account holds in the org, whatever credential it uses.
    pub fn rights(&self) -> Rights {
        Rights::of_grants(&self.grants)
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

    /// Whether it owns the org, or a node of it: its list of permissions depends on what the org names.
    pub fn owns_something(&self) -> bool {
        self.grants.iter().any(|grant| grant.right == Right::System(SystemRole::Owner))
    }
}
