//! The lifetime of a session.

use time::{Duration, OffsetDateTime};

use crate::domain::values::kinds::AccountKind;

/// A session that is not used expires after this long.
const IDLE: Duration = Duration::hours(12);
/// Uses are written in batches: for this long no other node may know of one.
const USE_KNOWN_WITHIN: Duration = Duration::minutes(1);

/// The longest lifetime of a session, from its login.
///
/// That of a technical user (a service account) lasts as long as it takes to make a token with it.
pub fn lifetime(kind: AccountKind) -> Duration {
    match kind {
        AccountKind::User => Duration::days(7),
        AccountKind::ServiceAccount => Duration::minutes(15),
    }
}

/// When a session expires because it is idle.
///
/// At most a minute late, since a use may not be written yet where it was made, and never early.
pub fn idle_expiry(last_use: OffsetDateTime) -> OffsetDateTime {
    last_use + IDLE + USE_KNOWN_WITHIN
}
