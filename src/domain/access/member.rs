//! An account in one org: what it holds there, and whether it may act there.

use std::sync::Arc;

use super::held::Held;
use super::rights::Rights;
use crate::domain::tokens::policy::Rules;
use crate::domain::values::ids::{AccountId, OrgId};
use crate::domain::values::kinds::AccountKind;
use crate::error::Reason;

/// An account as a member of an org, whatever credential it uses there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub org_id: OrgId,
    pub account_id: AccountId,
    /// The home org of the account; for a guest, another org than this one.
    pub home_org_id: OrgId,
    pub account_kind: AccountKind,
    pub username: Box<str>,
    /// The account is deactivated or deleted, or is no longer a member.
    pub account_stopped: bool,
    /// The org is suspended or deleted, or the account's home org is.
    pub org_stopped: bool,
    /// Raised by every change that narrows the rights of the whole org.
    pub org_version: i64,
    /// Raised by every change that narrows the rights of the account.
    pub account_version: i64,
    /// Shared with all cached accounts that hold the same.
    pub held: Arc<Held>,
    /// What the org's policy allows of tokens.
    pub rules: Arc<Rules>,
}

impl Member {
    /// The rights of the account in the org, whatever credential it uses.
    pub fn rights(&self) -> &Rights {
        self.held.rights()
    }

    /// The bytes that it takes in a cache, without what it shares.
    pub(crate) fn weight(&self) -> usize {
        size_of::<Self>() + self.username.len()
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
}
