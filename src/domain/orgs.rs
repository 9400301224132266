//! The life of an org: suspended and deleted are told apart, and each is undone for itself.

use time::OffsetDateTime;

/// Since when an org is stopped, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OrgLifecycle {
    pub suspend_time: Option<OffsetDateTime>,
    pub delete_time: Option<OffsetDateTime>,
}

/// What an operator does to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrgTransition {
    Suspend,
    Resume,
    Delete,
    Undelete,
}

impl OrgLifecycle {
    /// The life after a step; the same as before where it is what was asked for already.
    pub fn after(self, step: OrgTransition, now: OffsetDateTime) -> Self {
        match step {
            OrgTransition::Suspend => Self { suspend_time: self.suspend_time.or(Some(now)), ..self },
            OrgTransition::Resume => Self { suspend_time: None, ..self },
            OrgTransition::Delete => Self { delete_time: self.delete_time.or(Some(now)), ..self },
            OrgTransition::Undelete => Self { delete_time: None, ..self },
        }
    }
}

impl OrgTransition {
    /// Whether it stops what is in the org: access tokens from before never work again.
    pub fn stops(self) -> bool {
        matches!(self, Self::Suspend | Self::Delete)
    }

    /// The type of its event.
    pub fn event(self) -> &'static str {
        match self {
            Self::Suspend => "org.suspended",
            Self::Resume => "org.resumed",
            Self::Delete => "org.deleted",
            Self::Undelete => "org.undeleted",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(second).unwrap()
    }

    #[test]
    fn a_deleted_org_comes_back_as_it_was() {
        let suspended = OrgLifecycle::default().after(OrgTransition::Suspend, at(1));
        assert_eq!(suspended, OrgLifecycle { suspend_time: Some(at(1)), delete_time: None });
        let deleted = suspended.after(OrgTransition::Delete, at(2));
        assert_eq!(deleted, OrgLifecycle { suspend_time: Some(at(1)), delete_time: Some(at(2)) });
        assert_eq!(deleted.after(OrgTransition::Undelete, at(3)), suspended);
        // Resuming does not bring back what is deleted.
        let resumed = deleted.after(OrgTransition::Resume, at(3));
        assert_eq!(resumed, OrgLifecycle { suspend_time: None, delete_time: Some(at(2)) });
    }

    proptest! {
        #[test]
        fn a_step_taken_twice_is_taken_once(steps in prop::collection::vec(0..4_usize, 0..6), last in 0..4_usize) {
            let all = [OrgTransition::Suspend, OrgTransition::Resume, OrgTransition::Delete, OrgTransition::Undelete];
            let before = steps.iter().zip(1..).fold(OrgLifecycle::default(), |life, (step, n)| life.after(all[*step], at(n)));
            let once = before.after(all[last], at(100));
            prop_assert_eq!(once.after(all[last], at(101)), once);
            let stopped = once.suspend_time.is_some() || once.delete_time.is_some();
            prop_assert!(stopped || !all[last].stops());
        }
    }
}
