//! What becomes of a token's rights when it goes on under another account.

use std::collections::BTreeSet;

use super::acting::Acting;
use super::exchange::refuse_scopes;
use super::rights::{Missing, Rights};
use crate::domain::tokens::restrictions::Restrictions;
use crate::domain::values::permissions::Permission;
use crate::error::{Reason, Result};

/// What the account holds that has the tokens, and what the one holds that is to have them.
pub struct Moved {
    pub before: Rights,
    pub after: Rights,
}

/// What tokens lose when they move.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LostRights {
    /// The scopes to take from them.
    pub scopes: BTreeSet<Permission>,
    /// Every permission that one of them could use before and cannot any more.
    pub permissions: BTreeSet<String>,
}

impl Moved {
    /// What tokens with these lists lose.
    ///
    /// # Errors
    /// `TARGET_EXCEEDS_CALLER` unless the caller covers each before and after;
    /// `SCOPE_NOT_HELD` with what the new owner lacks, unless narrowing is allowed and leaves
    /// some scopes: none at all would mean every right.
    pub fn weigh(
        &self,
        acting: &Acting<'_>,
        tokens: &[Restrictions],
        allow_narrowing: bool,
    ) -> Result<LostRights> {
        let (mut lost, mut refused) = (LostRights::default(), BTreeSet::new());
        for lists in tokens {
            let Restrictions { scopes, resources, .. } = lists;
            let left = self.after.narrowed(&[], resources);
            let (kept, gone): (Vec<_>, Vec<_>) =
                scopes.iter().cloned().partition(|scope| left.hold_somewhere(scope));
            if !gone.is_empty() && (!allow_narrowing || kept.is_empty()) {
                refused.extend(gone);
                continue;
            }
            let before = self.before.narrowed(scopes, resources);
            let after = self.after.narrowed(&kept, resources);
            acting.may_take_over(&before)?;
            acting.may_take_over(&after)?;
            acting.may_make(&Restrictions { scopes: kept, ..lists.clone() }, false)?;
            let missing = before.beyond(&after);
            if !allow_narrowing {
                Missing::refuse(Reason::ScopeNotHeld, &missing)?;
            }
            lost.permissions.extend(missing.into_iter().map(|missing| missing.permission));
            lost.scopes.extend(gone);
        }
        refuse_scopes(refused.iter())?;
        Ok(lost)
    }
}
