//! The life of an org: suspended and deleted are told apart, and each is undone for itself.

use time::OffsetDateTime;

/// Since when an org is stopped, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Life {
    pub suspend_time: Option<OffsetDateTime>,
    pub delete_time: Option<OffsetDateTime>,
}

/// What an operator does to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Suspend,
    Resume,
    Delete,
    Undelete,
}

impl Life {
    /// The life after a step; the same as before where it is what was asked for already.
    pub fn after(self, step: Step, now: OffsetDateTime) -> Self {
        match step {
            Step::Suspend => Self { suspend_time: self.suspend_time.or(Some(now)), ..self },
            Step::Resume => Self { suspend_time: None, ..self },
            Step::Delete => Self { delete_time: self.delete_time.or(Some(now)), ..self },
            Step::Undelete => Self { delete_time: None, ..self },
        }
    }
}

impl Step {
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
        let suspended = Life::default().after(Step::Suspend, at(1));
        assert_eq!(suspended, Life { suspend_time: Some(at(1)), delete_time: None });
        let deleted = suspended.after(Step::Delete, at(2));
        assert_eq!(deleted, Life { suspend_time: Some(at(1)), delete_time: Some(at(2)) });
        assert_eq!(deleted.after(Step::Undelete, at(3)), suspended);
        // Resuming does not bring back what is deleted.
        let resumed = deleted.after(Step::Resume, at(3));
        assert_eq!(resumed, Life { suspend_time: None, delete_time: Some(at(2)) });
    }

    proptest! {
        #[test]
        fn a_step_taken_twice_is_taken_once(steps in prop::collection::vec(0..4_usize, 0..6), last in 0..4_usize) {
            let all = [Step::Suspend, Step::Resume, Step::Delete, Step::Undelete];
            let before = steps.iter().zip(1..).fold(Life::default(), |life, (step, n)| life.after(all[*step], at(n)));
            let once = before.after(all[last], at(100));
            prop_assert_eq!(once.after(all[last], at(101)), once);
            let stopped = once.suspend_time.is_some() || once.delete_time.is_some();
            prop_assert!(stopped || !all[last].stops());
        }
    }
}
