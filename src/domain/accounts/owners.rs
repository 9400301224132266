//! The rule that no org loses its last owner.

use super::AccountState;
use crate::error::Reason;

/// The owners of an org other than the account that a call is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OtherOwners {
    active: bool,
    invited: bool,
}

impl OtherOwners {
    /// Summarises the states of the other owners.
    pub fn of(states: impl IntoIterator<Item = AccountState>) -> Self {
        states.into_iter().fold(Self::default(), |owners, state| Self {
            active: owners.active || state == AccountState::Active,
            invited: owners.invited || state == AccountState::Invited,
        })
    }

    /// Refuses to remove the org's last active owner, or its last invited one if none is active.
    ///
    /// The account is an owner in the state `was`. It `becomes` an owner in another state, or with
    /// none is no longer an owner.
    ///
    /// # Errors
    /// `LAST_OWNER`.
    pub fn suffice(self, was: AccountState, becomes: Option<AccountState>) -> Result<(), Reason> {
        use AccountState::{Active, Invited};
        let suffice = match was {
            Active => self.active || becomes == Some(Active),
            Invited => self.active || self.invited || matches!(becomes, Some(Active | Invited)),
            // It was an owner that could not act, and could not come to act either.
            _ => true,
        };
        if suffice { Ok(()) } else { Err(Reason::LastOwner) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::AccountState::{Active, Deactivated, Deleted, Invited};
    use super::*;

    fn any_state() -> impl Strategy<Value = AccountState> {
        prop_oneof![Just(Invited), Just(Active), Just(Deactivated), Just(Deleted)]
    }

    proptest! {
        /// Checked by counting, as the rule is written.
        #[test]
        fn the_last_owner_stays(
            others in prop::collection::vec(any_state(), 0..4),
            was in any_state(),
            becomes in prop::option::of(any_state()),
        ) {
            let count = |state, one: Option<AccountState>| {
                others.iter().copied().chain(one).filter(|it| *it == state).count()
            };
            let gone = |state| count(state, Some(was)) > 0 && count(state, becomes) == 0;
            let had_active = count(Active, Some(was)) > 0;
            let has_active = count(Active, becomes) > 0;
            let last = if had_active { gone(Active) } else { gone(Invited) && !has_active };
            let outcome = OtherOwners::of(others.iter().copied()).suffice(was, becomes);
            prop_assert_eq!(outcome.is_err(), last);
        }
    }

    #[test]
    fn an_invited_owner_does_not_replace_an_active_one() {
        assert!(OtherOwners::of([Invited, Deactivated]).suffice(Active, None).is_err());
        assert!(OtherOwners::of([Invited]).suffice(Invited, None).is_ok());
        assert!(OtherOwners::of([Deactivated, Deleted]).suffice(Invited, Some(Deactivated)).is_err());
        assert!(OtherOwners::of([]).suffice(Deactivated, None).is_ok());
        assert!(OtherOwners::of([]).suffice(Active, Some(Invited)).is_err());
    }
}
