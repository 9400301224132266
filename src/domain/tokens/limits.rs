//! Limits of tokens: their lifetime and the size of their lists.

use std::time::Duration;

pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The lifetime of a token when neither the request nor the org's policy gives one.
pub const DEFAULT_TOKEN_LIFETIME: Duration = DAY.saturating_mul(365);
/// The longest lifetime that can be requested.
pub const MAX_TOKEN_LIFETIME: Duration = DAY.saturating_mul(3_650);
/// How long after its creation a token that renews itself lasts when the org's policy says nothing: 2 years.
pub const DEFAULT_MAX_RENEWED_LIFETIME: Duration = DAY.saturating_mul(730);
/// The lifetime of an access token when neither the request nor the org's policy gives one.
pub const DEFAULT_ACCESS_TOKEN_LIFETIME: Duration = Duration::from_secs(5 * 60);
/// The longest lifetime of an access token.
pub const MAX_ACCESS_TOKEN_LIFETIME: Duration = Duration::from_secs(60 * 60);
/// The most labels of one token.
pub const MAX_LABELS: usize = 16;
/// The most scopes, resources, audiences, networks, origins and grants in one list.
pub const MAX_LIST: usize = 100;

/// The most client certificates of one token.
pub const MAX_CLIENT_CERTS: usize = 20;

/// Formats a lifetime for people: in whole days if possible, otherwise in seconds.
pub fn format_lifetime(lifetime: Duration) -> String {
    match (lifetime.as_secs() / DAY.as_secs(), lifetime.as_secs() % DAY.as_secs()) {
        (1, 0) => "1 day".to_owned(),
        (days @ 1.., 0) => format!("{days} days"),
        _ => format!("{} s", lifetime.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_formatted_in_days_or_seconds() {
        for (seconds, text) in [(86_400, "1 day"), (2 * 86_400, "2 days"), (90_000, "90000 s"), (60, "60 s")]
        {
            assert_eq!(format_lifetime(Duration::from_secs(seconds)), text);
        }
    }
}
