//! What a call asks, beside its permission, that puts the caller in the place of another account,
//! or yields a credential of one: nobody takes over what exceeds them.

use super::acting::Acting;
use super::credential::Credential;
use super::exchange::refuse_scopes;
use super::rights::{HeldGrant, Rights};
use crate::domain::accounts::lifecycle::AccountTransition;
use crate::domain::tokens::policy::Rules;
use crate::domain::tokens::restrictions::Restrictions;
use crate::domain::values::ids::TokenId;
use crate::domain::values::kinds::AccountKind;
use crate::error::{Reason, Result};

impl Acting<'_> {
    /// A step in the life of an account with these grants: what brings it back also brings back
    /// what others know of it, and what stops it stops perhaps an owner.
    ///
    /// # Errors
    /// `TARGET_EXCEEDS_CALLER`.
    pub fn may_take(&self, step: AccountTransition, target: &[HeldGrant]) -> Result<()> {
        if step.stops() { self.may_stop(target) } else { self.may_take_over(&Rights::of_grants(target)) }
    }

    /// Whoever gives an account its password signs in as it. People set their own.
    ///
    /// # Errors
    /// `TARGET_EXCEEDS_CALLER`, `TARGET_NOT_SERVICE_ACCOUNT`.
    pub fn may_set_password(&self, kind: AccountKind, target: &[HeldGrant]) -> Result<()> {
        self.may_take_over(&Rights::of_grants(target))?;
        if kind == AccountKind::ServiceAccount { Ok(()) } else { Err(Reason::TargetNotServiceAccount.into()) }
    }

    /// A token with these lists for an account that holds this, beside [`may_make`](Self::may_make).
    ///
    /// # Errors
    /// `TARGET_NOT_SERVICE_ACCOUNT` where the policy lets such an account own none,
    /// `TARGET_EXCEEDS_CALLER`, `SCOPE_NOT_HELD`.
    pub fn may_make_for(
        &self,
        rules: &Rules,
        kind: AccountKind,
        held: &Rights,
        lists: &Restrictions,
    ) -> Result<()> {
        if !rules.allow_owner(kind) {
            return Err(Reason::TargetNotServiceAccount.into());
        }
        self.may_take_over(&held.narrowed(&lists.scopes, &lists.resources))?;
        refuse_scopes(lists.scopes.iter().filter(|scope| !held.hold_somewhere(scope)))
    }

    /// Another secret for this token. Its lists bound what it may come to do; that the caller
    /// itself may manage tokens is asked before.
    ///
    /// # Errors
    /// `PERMISSION_MISSING`, `TARGET_EXCEEDS_CALLER`.
    pub fn may_rotate(&self, token_id: TokenId, token: &Credential) -> Result<()> {
        self.require_rotation(token_id, token.account_id)?;
        self.may_take_over(&token.effective_rights())?;
        self.may_make(&token.restrictions, false)
    }

    /// Other lists for a token of an account that holds this. That they are no wider is another
    /// question ([`may_become`](super::narrowing::may_become)).
    ///
    /// # Errors
    /// `TARGET_EXCEEDS_CALLER`.
    pub fn may_narrow(&self, held: &Rights, before: &Restrictions, after: &Restrictions) -> Result<()> {
        self.may_take_over(&held.narrowed(&before.scopes, &before.resources))?;
        self.may_make(after, false)
    }
}
