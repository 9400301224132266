//! How long a session lives.

use time::{Duration, OffsetDateTime};

use crate::domain::values::kinds::AccountKind;

/// A session that is not used ends after this long.
const IDLE: Duration = Duration::hours(12);
/// A use is written down by and by: for this long nobody else may know of it.
const USE_KNOWN_WITHIN: Duration = Duration::minutes(1);

/// How long a session lives in all. That of a technical user lives for as long as it takes to make a
/// token with it.
pub fn life(kind: AccountKind) -> Duration {
    match kind {
        AccountKind::User => Duration::days(7),
        AccountKind::ServiceAccount => Duration::minutes(15),
    }
}

/// When a session ends for want of use: at most a minute late, since it may have been used
/// where that is not written down yet, and never early.
pub fn idle_end(last_use: OffsetDateTime) -> OffsetDateTime {
    last_use + IDLE + USE_KNOWN_WITHIN
}
