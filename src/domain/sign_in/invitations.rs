//! Invitations: where one is in its lifecycle, how many are sent, and how long one is stored.

use time::{Duration, OffsetDateTime};

/// How many an org may send…
pub const MAX_SENT: i64 = 100;
/// …within this long, those sent again included.
pub const SENT_WITHIN: Duration = Duration::hours(24);
/// How long one is stored after it could last have been accepted.
pub const KEPT: Duration = Duration::days(90);

/// Where an invitation is in its lifecycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvitationState {
    Pending,
    Accepted,
    Revoked,
    Expired,
}

impl InvitationState {
    /// Its state at this time. Only one that nothing has ended expires.
    pub fn of(accepted: bool, revoked: bool, expire_time: OffsetDateTime, now: OffsetDateTime) -> Self {
        match (accepted, revoked, expire_time <= now) {
            (true, ..) => Self::Accepted,
            (_, true, _) => Self::Revoked,
            (.., true) => Self::Expired,
            _ => Self::Pending,
        }
    }

    /// Its name where it is searched for.
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
