//! The steps in the life of an account: deactivate, activate, delete, undelete.

use time::{Duration, OffsetDateTime};

use crate::error::Reason;

/// How long a deleted account can be undeleted, and holds its names. Then it is purged.
pub const DELETED_KEPT: Duration = Duration::days(30);

/// Where an account is in its life, apart from what its kind and password say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountLifecycle {
    pub deactivate_time: Option<OffsetDateTime>,
    pub delete_time: Option<OffsetDateTime>,
}

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountTransition {
    Activate,
    Deactivate,
    Delete,
    Undelete,
}

impl AccountTransition {
    /// The life after the step: the same when it was taken before. None when there is no
    /// such account to whoever asks: it was deleted, which only `Undelete` and another
    /// `Delete` reach, and those only until it is due to be purged.
    pub fn taken(self, life: AccountLifecycle, now: OffsetDateTime) -> Option<AccountLifecycle> {
        let reaches_deleted = matches!(self, Self::Delete | Self::Undelete);
        if life.delete_time.is_some_and(|deleted| !reaches_deleted || deleted + DELETED_KEPT <= now) {
            return None;
        }
        Some(match self {
            Self::Activate => AccountLifecycle { deactivate_time: None, ..life },
            Self::Deactivate => {
                AccountLifecycle { deactivate_time: life.deactivate_time.or(Some(now)), ..life }
            }
            Self::Delete => AccountLifecycle { delete_time: life.delete_time.or(Some(now)), ..life },
            Self::Undelete => AccountLifecycle { delete_time: None, ..life },
        })
    }

    /// Whether it stops what the account can do; the others bring that back.
    pub fn stops(self) -> bool {
        matches!(self, Self::Deactivate | Self::Delete)
    }

    /// Refuses a step that nobody takes with their own account.
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

    /// What its event is called.
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
    fn steps() {
        let day = |n| OffsetDateTime::UNIX_EPOCH + Duration::days(n);
        let life = |deactivated: Option<i64>, deleted: Option<i64>| AccountLifecycle {
            deactivate_time: deactivated.map(day),
            delete_time: deleted.map(day),
        };
        let (live, stopped, deleted, both) =
            (life(None, None), life(Some(1), None), life(None, Some(2)), life(Some(1), Some(2)));
        let now = day(3);
        for (step, before, after) in [
            (AccountTransition::Activate, live, Some(live)),
            (AccountTransition::Activate, stopped, Some(live)),
            (AccountTransition::Activate, deleted, None),
            (AccountTransition::Activate, both, None),
            (AccountTransition::Deactivate, live, Some(life(Some(3), None))),
            (AccountTransition::Deactivate, stopped, Some(stopped)),
            (AccountTransition::Deactivate, deleted, None),
            (AccountTransition::Delete, live, Some(life(None, Some(3)))),
            (AccountTransition::Delete, stopped, Some(life(Some(1), Some(3)))),
            (AccountTransition::Delete, deleted, Some(deleted)),
            (AccountTransition::Undelete, live, Some(live)),
            (AccountTransition::Undelete, deleted, Some(live)),
            // It comes back as it was.
            (AccountTransition::Undelete, both, Some(stopped)),
        ] {
            assert_eq!(step.taken(before, now), after, "{step:?} {before:?}");
        }
        let due = day(2) + DELETED_KEPT;
        assert_eq!(AccountTransition::Undelete.taken(deleted, due - Duration::SECOND), Some(live));
        assert_eq!(AccountTransition::Undelete.taken(deleted, due), None);
        assert_eq!(AccountTransition::Delete.taken(deleted, due), None);
    }
}
