//! What happens to a token's rights when it is reassigned to another account.

use std::collections::BTreeSet;

use super::acting::Acting;
use super::exchange::refuse_scopes;
use super::rights::HeldGrants;
use crate::domain::tokens::restrictions::Restrictions;
use crate::domain::values::permissions::Permission;
use crate::error::{Reason, Result};

/// The rights of the present owner of the tokens, and of the account that will own them.
pub struct Reassignment {
    pub before: HeldGrants,
    pub after: HeldGrants,
}

/// What tokens lose when they are reassigned.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LostRights {
    /// The scopes to remove from them.
    pub scopes: BTreeSet<Permission>,
    /// Every permission that one of them could use before and cannot use any more.
    pub permissions: BTreeSet<String>,
}

impl Reassignment {
    /// What tokens with these lists lose.
    ///
    /// # Errors
    /// - `TARGET_EXCEEDS_CALLER` unless the caller covers each token before and after.
    /// - `SCOPE_NOT_HELD` with what the new owner lacks, unless narrowing is allowed and leaves
    ///   some scopes: a token without scopes would have every right.
    pub fn lost_rights(
        &self,
        acting: &Acting<'_>,
        tokens: &[Restrictions],
        allow_narrowing: bool,
    ) -> Result<LostRights> {
        let (before_all, after_all) = (self.before.rights(), self.after.rights());
        let (mut lost, mut refused) = (LostRights::default(), BTreeSet::new());
        for lists in tokens {
            let Restrictions { scopes, resources, .. } = lists;
            let left = after_all.narrowed(&[], resources);
            let (remaining, removed): (Vec<_>, Vec<_>) =
                scopes.iter().cloned().partition(|scope| left.hold_somewhere(scope));
            if !removed.is_empty() && (!allow_narrowing || remaining.is_empty()) {
                refused.extend(removed);
                continue;
            }
            let before = before_all.narrowed(scopes, resources);
            let after = after_all.narrowed(&remaining, resources);
            acting.may_take_over(&before)?;
            acting.may_take_over(&after)?;
            acting.may_make(&Restrictions { scopes: remaining, ..lists.clone() }, false)?;
            let missing = before.beyond(&after);
            // What is lost is listed in full, or not at all.
            if !allow_narrowing || !missing.are_all() {
                missing.refuse(Reason::ScopeNotHeld)?;
            }
            lost.permissions.extend(missing.permissions());
            lost.scopes.extend(removed);
        }
        refuse_scopes(refused.iter())?;
        Ok(lost)
    }
}
