//! What a call requires beside its permission where it gives control of another account.
//!
//! Such a call puts the caller in the place of that account, or gives the caller a credential of
//! it: no caller takes over an account that exceeds it.

use super::acting::Acting;
use super::credential::Credential;
use super::exchange::refuse_scopes;
use super::rights::{HeldGrants, Rights};
use crate::domain::accounts::lifecycle::AccountTransition;
use crate::domain::tokens::policy::Rules;
use crate::domain::tokens::renewal::RenewedBy;
use crate::domain::tokens::restrictions::Restrictions;
use crate::domain::values::ids::TokenId;
use crate::domain::values::kinds::AccountKind;
use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::Node;
use crate::error::{Error, Reason, Result};

impl Acting<'_> {
    /// Refuses a lifecycle transition of an account with these grants.
    ///
    /// A transition that brings the account back also brings back the credentials that others know;
    /// one that disables it may disable an owner.
    ///
    /// # Errors
    /// `TARGET_EXCEEDS_CALLER`.
    pub fn may_take(&self, transition: AccountTransition, target: &HeldGrants) -> Result<()> {
        if transition.stops() { self.may_stop(target) } else { self.may_take_over(target.rights()) }
    }

    /// Refuses to set the password of an account.
    ///
    /// A caller that sets an account's password can sign in as it. People set their own.
    ///
    /// # Errors
    /// `TARGET_EXCEEDS_CALLER`, `TARGET_NOT_SERVICE_ACCOUNT`.
    pub fn may_set_password(&self, kind: AccountKind, target: &HeldGrants) -> Result<()> {
        self.may_take_over(target.rights())?;
        if kind == AccountKind::ServiceAccount { Ok(()) } else { Err(Reason::TargetNotServiceAccount.into()) }
    }

    /// Refuses to make a token with these lists for an account with the rights `held`.
    ///
    /// [`may_make`](Self::may_make) must be checked too.
    ///
    /// # Errors
    /// `TARGET_NOT_SERVICE_ACCOUNT` if the policy does not allow an account of this kind to own
    /// tokens, `TARGET_EXCEEDS_CALLER`, `SCOPE_NOT_HELD`.
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

    /// Refuses to make another secret for this token.
    ///
    /// The token's lists bound what it may come to do. Whether the caller itself may manage tokens
    /// is checked before.
    ///
    /// # Errors
    /// `PERMISSION_MISSING`, `TARGET_EXCEEDS_CALLER`.
    pub fn may_rotate(&self, token_id: TokenId, token: &Credential) -> Result<()> {
        self.require_rotation(token_id, token.account.account_id)?;
        self.may_take_over(token.effective_rights())?;
        self.may_make(&token.restrictions, false)
    }

    /// Refuses to give a token another lifetime that the caller may rotate.
    ///
    /// # Errors
    /// `PERMISSION_MISSING` without `tokens.write`; and for the token itself where the policy does not allow
    /// it, or by a secret that retires.
    pub fn may_renew(&self, token_id: TokenId, token: &Credential) -> Result<RenewedBy> {
        if self.caller.credential_id() != token_id.into() {
            self.require(&Permission::TOKENS_WRITE, &Node::Org)?;
            return Ok(RenewedBy::Another(self.token_ceiling()));
        }
        let current = token.secrets.iter().find(|secret| secret.expire_time.is_none());
        let by_current = current.is_some_and(|current| Some(current.number) == self.caller.secret());
        if token.account.rules.self_renewal && by_current {
            return Ok(RenewedBy::Itself);
        }
        let message =
            "the token does not renew itself: the org's policy must allow it, and its current secret ask";
        Err(Error::with_message(Reason::PermissionMissing, message))
    }

    /// Refuses to change the lists of a token of an account with the rights `held`.
    ///
    /// Whether they are wider is checked separately
    /// ([`may_become`](crate::domain::tokens::narrowing::may_become)).
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
