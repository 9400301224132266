//! The steps in the life of an account: deactivate, activate, delete, undelete.

use time::{Duration, OffsetDateTime};

use crate::error::Reason;

/// How long a deleted account can be undeleted, and holds its names. Then it is purged.
pub const DELETED_KEPT: Duration = Duration::days(30);

/// Where an account is in its life, apart from what its kind and password say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Life {
    pub deactivate_time: Option<OffsetDateTime>,
    pub delete_time: Option<OffsetDateTime>,
}

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Activate,
    Deactivate,
    Delete,
    Undelete,
}

impl Step {
    /// The life after the step: the same when it was taken before. None when there is no
    /// such account to whoever asks: it was deleted, which only `Undelete` and another
    /// `Delete` reach, and those only until it is due to be purged.
    pub fn taken(self, life: Life, now: OffsetDateTime) -> Option<Life> {
        let reaches_deleted = matches!(self, Self::Delete | Self::Undelete);
        if life.delete_time.is_some_and(|deleted| !reaches_deleted || deleted + DELETED_KEPT <= now) {
            return None;
        }
        Some(match self {
            Self::Activate => Life { deactivate_time: None, ..life },
            Self::Deactivate => Life { deactivate_time: life.deactivate_time.or(Some(now)), ..life },
            Self::Delete => Life { delete_time: life.delete_time.or(Some(now)), ..life },
            Self::Undelete => Life { delete_time: None, ..life },
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
        let life = |deactivated: Option<i64>, deleted: Option<i64>| Life {
            deactivate_time: deactivated.map(day),
            delete_time: deleted.map(day),
        };
        let (live, stopped, deleted, both) =
            (life(None, None), life(Some(1), None), life(None, Some(2)), life(Some(1), Some(2)));
        let now = day(3);
        for (step, before, after) in [
            (Step::Activate, live, Some(live)),
            (Step::Activate, stopped, Some(live)),
            (Step::Activate, deleted, None),
            (Step::Activate, both, None),
            (Step::Deactivate, live, Some(life(Some(3), None))),
            (Step::Deactivate, stopped, Some(stopped)),
            (Step::Deactivate, deleted, None),
            (Step::Delete, live, Some(life(None, Some(3)))),
            (Step::Delete, stopped, Some(life(Some(1), Some(3)))),
            (Step::Delete, deleted, Some(deleted)),
            (Step::Undelete, live, Some(live)),
            (Step::Undelete, deleted, Some(live)),
            // It comes back as it was.
            (Step::Undelete, both, Some(stopped)),
        ] {
            assert_eq!(step.taken(before, now), after, "{step:?} {before:?}");
        }
        let due = day(2) + DELETED_KEPT;
        assert_eq!(Step::Undelete.taken(deleted, due - Duration::SECOND), Some(live));
        assert_eq!(Step::Undelete.taken(deleted, due), None);
        assert_eq!(Step::Delete.taken(deleted, due), None);
    }
}
