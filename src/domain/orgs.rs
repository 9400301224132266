//! The lifecycle of an org. Suspension and deletion are separate, and each is undone by itself.

use time::OffsetDateTime;

/// When an org was suspended, and when it was deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OrgLifecycle {
    pub suspend_time: Option<OffsetDateTime>,
    pub delete_time: Option<OffsetDateTime>,
}

/// A transition that an operator makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrgTransition {
    Suspend,
    Resume,
    Delete,
    Undelete,
}

impl OrgLifecycle {
    /// The lifecycle after a transition; unchanged if the org is in that state already.
    pub fn after(self, transition: OrgTransition, now: OffsetDateTime) -> Self {
        match transition {
            OrgTransition::Suspend => Self { suspend_time: self.suspend_time.or(Some(now)), ..self },
            OrgTransition::Resume => Self { suspend_time: None, ..self },
            OrgTransition::Delete => Self { delete_time: self.delete_time.or(Some(now)), ..self },
            OrgTransition::Undelete => Self { delete_time: None, ..self },
        }
    }
}

impl OrgTransition {
    /// Whether it disables the org: access tokens issued before never work again.
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
    fn undelete_restores_the_earlier_state() {
        let suspended = OrgLifecycle::default().after(OrgTransition::Suspend, at(1));
        assert_eq!(suspended, OrgLifecycle { suspend_time: Some(at(1)), delete_time: None });
        let deleted = suspended.after(OrgTransition::Delete, at(2));
        assert_eq!(deleted, OrgLifecycle { suspend_time: Some(at(1)), delete_time: Some(at(2)) });
        assert_eq!(deleted.after(OrgTransition::Undelete, at(3)), suspended);
        // Resuming does not undelete.
        let resumed = deleted.after(OrgTransition::Resume, at(3));
        assert_eq!(resumed, OrgLifecycle { suspend_time: None, delete_time: Some(at(2)) });
    }

    proptest! {
        #[test]
        fn a_repeated_transition_changes_nothing(transitions in prop::collection::vec(0..4_usize, 0..6), last in 0..4_usize) {
            let all = [OrgTransition::Suspend, OrgTransition::Resume, OrgTransition::Delete, OrgTransition::Undelete];
            let before = transitions.iter().zip(1..).fold(OrgLifecycle::default(), |lifecycle, (transition, n)| lifecycle.after(all[*transition], at(n)));
            let once = before.after(all[last], at(100));
            prop_assert_eq!(once.after(all[last], at(101)), once);
            let disabled = once.suspend_time.is_some() || once.delete_time.is_some();
            prop_assert!(disabled || !all[last].stops());
        }
    }
}
