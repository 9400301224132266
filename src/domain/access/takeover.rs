//! What a call requires beside its permission where it yields control of another account.
//!
//! It puts the caller in the place of that account, or gives it a credential of one: no caller
//! takes over what exceeds it.

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
    /// A step in the lifecycle of an account with these grants: what brings it back also brings back
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
        self.require_rotation(token_id, token.account.account_id)?;
        self.may_take_over(&token.effective_rights())?;
        self.may_make(&token.restrictions, false)
    }

    /// Other lists for a token of an account that holds this. That they are no wider is another
    /// question ([`may_become`](crate::domain::tokens::narrowing::may_become)).
    ///
    /// # Errors
    /// `TARGET_EXCEEDS_CALLER`.
    pub fn may_narrow(&self, held: &Rights, before: &Restrictions, after: &Restrictions) -> Result<()> {
        self.may_take_over(&held.narrowed(&before.scopes, &before.resources))?;
        self.may_make(after, false)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::tokens::narrowing::{RestrictionsAndExpiry, may_become};
    use crate::domain::values::names::Audience;
    use crate::domain::values::permissions::Permission;
    use crate::domain::values::resources::ResourcePath;

    fn any_limits() -> impl Strategy<Value = RestrictionsAndExpiry> {
        let scopes = prop::sample::subsequence(vec!["x.read", "x.write", "y.read"], 0..=3);
        let paths = prop::sample::subsequence(vec!["a", "a/b", "a/b/c", "d"], 0..=3);
        let audiences = prop::sample::subsequence(vec!["one", "two"], 0..=2);
        (scopes, paths, audiences).prop_map(|(scopes, paths, audiences)| RestrictionsAndExpiry {
            restrictions: Restrictions {
                scopes: scopes.iter().map(|text| Permission::parse(text).unwrap()).collect(),
                resources: paths.iter().map(|text| ResourcePath::parse(text).unwrap()).collect(),
                audiences: audiences.iter().map(|text| Audience::parse(text).unwrap()).collect(),
                ..Restrictions::default()
            },
            expire_time: None,
        })
    }

    proptest! {
        #[test]
        fn an_update_that_is_allowed_never_gives_more(before in any_limits(), after in any_limits()) {
            let owner = Rights::of_owner();
            let of = |limits: &RestrictionsAndExpiry| {
                owner.narrowed(&limits.restrictions.scopes, &limits.restrictions.resources)
            };
            if may_become(&before, &after).is_ok() {
                prop_assert!(of(&after).beyond(&of(&before)).is_empty());
                let all = |limits: &RestrictionsAndExpiry| limits.restrictions.audiences.is_empty();
                prop_assert!(!all(&after) || all(&before));
            }
        }
    }
}
