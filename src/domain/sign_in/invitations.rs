//! Invitations: the states of their lifecycle, how many are sent, and how long they are stored.

use time::{Duration, OffsetDateTime};

/// The period over which sent invitations are counted.
pub const SEND_WINDOW: Duration = Duration::hours(24);
/// How long an invitation is stored after its expiry, when it could last have been accepted.
pub const RETENTION: Duration = Duration::days(90);

/// The state of an invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvitationState {
    Pending,
    Accepted,
    Revoked,
    Expired,
}

impl InvitationState {
    /// Its state at this time. Only one that was neither accepted nor revoked expires.
    pub fn of(accepted: bool, revoked: bool, expire_time: OffsetDateTime, now: OffsetDateTime) -> Self {
        match (accepted, revoked, expire_time <= now) {
            (true, ..) => Self::Accepted,
            (_, true, _) => Self::Revoked,
            (.., true) => Self::Expired,
            _ => Self::Pending,
        }
    }

    /// Its name in search filters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Accepted => "ACCEPTED",
            Self::Revoked => "REVOKED",
            Self::Expired => "EXPIRED",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_state_that_applies() {
        use InvitationState::{Accepted, Expired, Pending, Revoked};
        let at = |second| OffsetDateTime::UNIX_EPOCH + Duration::seconds(second);
        for (accepted, revoked, now, expected) in [
            (false, false, 9, Pending),
            (false, false, 10, Expired),
            (true, false, 9, Accepted),
            (true, false, 11, Accepted),
            (false, true, 9, Revoked),
            (false, true, 11, Revoked),
        ] {
            assert_eq!(InvitationState::of(accepted, revoked, at(10), at(now)), expected);
        }
    }
}
