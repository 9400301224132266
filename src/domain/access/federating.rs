//! What making or changing a federation rule, or an issuer, requires: what making a token does.
//!
//! A rule needs no secret, so that what it gives is decided by what it and its issuer say. So whatever a caller
//! changes of them, it is asked for as if it made the rules anew.

use time::OffsetDateTime;

use super::acting::{Acting, exceeds};
use super::exchange::refuse_scopes;
use super::rights::Rights;
use crate::domain::tokens::restrictions::Restrictions;
use crate::domain::values::kinds::AccountKind;
use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::Node;
use crate::error::{Error, Reason, Result};

impl Acting<'_> {
    /// Requires that the caller may make federation rules and issuers at all.
    ///
    /// # Errors
    /// `PERMISSION_MISSING`, also under impersonation, and for a credential that may not manage tokens, as no rule
    /// may.
    pub fn require_federation(&self) -> Result<()> {
        self.require(&Permission::FEDERATION_WRITE, &Node::Org)?;
        if self.caller.actor_id().is_some() {
            let message =
                "an impersonation makes no federation rule or issuer: they would outlive the impersonation";
            return Err(Error::with_message(Reason::PermissionMissing, message));
        }
        self.require_token_management()
    }

    /// Refuses a rule that gives more than the caller has: with these lists and this end, for an account with the
    /// rights `held`.
    ///
    /// # Errors
    /// `TARGET_EXCEEDS_CALLER`.
    pub fn covers_rule(
        &self,
        held: &Rights,
        lists: &Restrictions,
        expire_time: Option<OffsetDateTime>,
    ) -> Result<()> {
        self.may_make(lists, false)?;
        self.may_take_over(&held.narrowed(&lists.scopes, &lists.resources))?;
        let ends_later = self.token_ceiling().is_some_and(|last| expire_time.is_none_or(|end| end > last));
        if ends_later {
            let why = "must not be after the expiry of the credential that makes or changes the rule";
            return Err(exceeds("CREDENTIAL", "expire_time", why));
        }
        Ok(())
    }

    /// Refuses to make or change a rule so that it is this one, for an account of this kind.
    ///
    /// # Errors
    /// `TARGET_NOT_SERVICE_ACCOUNT`, `TARGET_EXCEEDS_CALLER`, `SCOPE_NOT_HELD`.
    pub fn may_make_rule(
        &self,
        kind: AccountKind,
        held: &Rights,
        lists: &Restrictions,
        expire_time: Option<OffsetDateTime>,
    ) -> Result<()> {
        if kind != AccountKind::ServiceAccount {
            return Err(Reason::TargetNotServiceAccount.into());
        }
        self.covers_rule(held, lists, expire_time)?;
        refuse_scopes(lists.scopes.iter().filter(|scope| !held.hold_somewhere(scope)))
    }
}
