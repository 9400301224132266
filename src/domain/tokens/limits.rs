//! Limits of tokens: how long they live, how many there are and what their lists hold.

use std::time::Duration;

pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a token lives when nothing else is requested, nor said by the org's policy.
pub const DEFAULT_TOKEN_LIFE: Duration = DAY.saturating_mul(365);
/// The longest lifetime that can be requested.
pub const MAX_TOKEN_LIFE: Duration = DAY.saturating_mul(3_650);
/// How long an access token lives when nothing else is requested, nor said by the org's policy.
pub const DEFAULT_ACCESS_TOKEN_LIFE: Duration = Duration::from_secs(5 * 60);
/// The longest lifetime of an access token.
pub const MAX_ACCESS_TOKEN_LIFE: Duration = Duration::from_secs(60 * 60);
/// Live tokens of one account.
pub const MAX_LIVE_TOKENS: i64 = 100;
/// The most origins that the live tokens of an org name in all: every node keeps them in
/// memory, and no org takes that of the others.
pub const MAX_ORIGINS_OF_ORG: i64 = 10_000;
/// Labels of one token.
pub const MAX_LABELS: usize = 16;
/// Scopes, resources, audiences, networks, origins and grants in one list.
pub const MAX_LIST: usize = 100;

/// A lifetime as people read it: in days, where it has no other part.
pub fn spelled(life: Duration) -> String {
    match (life.as_secs() / DAY.as_secs(), life.as_secs() % DAY.as_secs()) {
        (1, 0) => "1 day".to_owned(),
        (days @ 1.., 0) => format!("{days} days"),
        _ => format!("{} s", life.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_are_spelled_in_days_or_seconds() {
        for (seconds, text) in [(86_400, "1 day"), (2 * 86_400, "2 days"), (90_000, "90000 s"), (60, "60 s")]
        {
            assert_eq!(spelled(Duration::from_secs(seconds)), text);
        }
    }
}
