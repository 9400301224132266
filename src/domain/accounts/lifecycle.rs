//! The lifecycle of an account: deactivate, activate, delete, undelete.

use time::{Duration, OffsetDateTime};

use crate::error::Reason;

/// How long a deleted account can be undeleted and its names stay reserved. Then it is purged.
pub const DELETED_RETENTION: Duration = Duration::days(30);

/// Where an account is in its lifecycle, apart from its kind and whether it has a password.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountLifecycle {
    pub deactivate_time: Option<OffsetDateTime>,
    pub delete_time: Option<OffsetDateTime>,
}

/// A transition in the lifecycle of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountTransition {
    Activate,
    Deactivate,
    Delete,
    Undelete,
}

impl AccountTransition {
    /// The lifecycle after the transition; unchanged if the account is in that state already.
    ///
    /// None if the account does not exist for the caller: once it is deleted, only `Undelete` and
    /// another `Delete` find it, and those only until it is due to be purged.
    pub fn apply(self, lifecycle: AccountLifecycle, now: OffsetDateTime) -> Option<AccountLifecycle> {
        let reaches_deleted = matches!(self, Self::Delete | Self::Undelete);
        if lifecycle.delete_time.is_some_and(|deleted| !reaches_deleted || deleted + DELETED_RETENTION <= now)
        {
            return None;
        }
        Some(match self {
            Self::Activate => AccountLifecycle { deactivate_time: None, ..lifecycle },
            Self::Deactivate => {
                AccountLifecycle { deactivate_time: lifecycle.deactivate_time.or(Some(now)), ..lifecycle }
            }
            Self::Delete => {
                AccountLifecycle { delete_time: lifecycle.delete_time.or(Some(now)), ..lifecycle }
            }
            Self::Undelete => AccountLifecycle { delete_time: None, ..lifecycle },
        })
    }

    /// Whether it disables the account; the others enable it again.
    pub fn stops(self) -> bool {
        matches!(self, Self::Deactivate | Self::Delete)
    }

    /// Refuses a transition that no account may make for itself.
    ///
    /// # Errors
    /// `CANNOT_DEACTIVATE_SELF`, `CANNOT_DELETE_SELF`.
    pub fn refuse_self(self) -> Result<(), Reason> {
        match self {
            Self::Deactivate => Err(Reason::CannotDeactivateSelf),
            Self::Delete => Err(Reason::CannotDeleteSelf),
            Self::Activate | Self::Undelete => Ok(()),
        }
    }

    /// The type of its event.
    pub fn event(self) -> &'static str {
        match self {
            Self::Activate => "account.activated",
            Self::Deactivate => "account.deactivated",
            Self::Delete => "account.deleted",
            Self::Undelete => "account.undeleted",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transitions() {
        let day = |n| OffsetDateTime::UNIX_EPOCH + Duration::days(n);
        let lifecycle = |deactivated: Option<i64>, deleted: Option<i64>| AccountLifecycle {
            deactivate_time: deactivated.map(day),
            delete_time: deleted.map(day),
        };
        let (active, deactivated, deleted, both) = (
            lifecycle(None, None),
            lifecycle(Some(1), None),
            lifecycle(None, Some(2)),
            lifecycle(Some(1), Some(2)),
        );
        let now = day(3);
        for (transition, before, after) in [
            (AccountTransition::Activate, active, Some(active)),
            (AccountTransition::Activate, deactivated, Some(active)),
            (AccountTransition::Activate, deleted, None),
            (AccountTransition::Activate, both, None),
            (AccountTransition::Deactivate, active, Some(lifecycle(Some(3), None))),
            (AccountTransition::Deactivate, deactivated, Some(deactivated)),
            (AccountTransition::Deactivate, deleted, None),
            (AccountTransition::Delete, active, Some(lifecycle(None, Some(3)))),
            (AccountTransition::Delete, deactivated, Some(lifecycle(Some(1), Some(3)))),
            (AccountTransition::Delete, deleted, Some(deleted)),
            (AccountTransition::Undelete, active, Some(active)),
            (AccountTransition::Undelete, deleted, Some(active)),
            // It returns to the state before it was deleted.
            (AccountTransition::Undelete, both, Some(deactivated)),
        ] {
            assert_eq!(transition.apply(before, now), after, "{transition:?} {before:?}");
        }
        let due = day(2) + DELETED_RETENTION;
        assert_eq!(AccountTransition::Undelete.apply(deleted, due - Duration::SECOND), Some(active));
        assert_eq!(AccountTransition::Undelete.apply(deleted, due), None);
        assert_eq!(AccountTransition::Delete.apply(deleted, due), None);
    }
}
