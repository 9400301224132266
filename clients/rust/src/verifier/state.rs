//! What the verifier knows: keys, revocations, and how old its news are. No network, and time as an argument.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::claims::Claims;
use super::keys::KeySet;
use crate::error::Error;
use crate::error::reason::ACCESS_TOKEN_STALE;
use crate::pb;
use crate::pb::revocation::Subject;
use crate::pb::watch_revocations_response::Item;

/// How long a revocation is kept beyond its end, in seconds: clocks differ.
const KEPT_BEYOND: i64 = 60;
/// The most revocations that are kept. With more the verifier closes until some have ended, and begins anew: one that
/// it cannot keep would be one that it does not heed.
const MOST_REVOCATIONS: usize = if cfg!(test) { 1_000 } else { 1_000_000 };
/// How often what has ended is dropped.
const FORGET_EACH: Duration = Duration::from_secs(30);

/// Two clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) unix: i64,
    pub(super) monotonic: Duration,
}

/// How old the news may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Staleness {
    /// Up to here the verifier is fresh.
    pub(super) closed_after: Duration,
    /// Up to here it goes on although it is not.
    pub(super) open_for: Option<Duration>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) keys: KeySet,
    /// Whether there ever was a key set.
    pub(super) has_keys: bool,
    revoked_keys: HashSet<String>,
    tokens: HashMap<String, Kept>,
    sessions: HashMap<String, Kept>,
    rules: HashMap<String, Version>,
    /// By the token, the numbers that ended.
    secrets: HashMap<String, HashMap<i64, Kept>>,
    orgs: HashMap<String, Org>,
    count: usize,
    /// Revocations were left out for lack of room: only a stream from the beginning brings them.
    overflowed: bool,
    /// When what has ended was last dropped.
    forgotten: Duration,
    /// A revocation of a kind that this version does not know: what it ended cannot be told.
    unknown: bool,
    checkpoint: Option<Checkpoint>,
    pub(super) cursor: String,
}

#[derive(Clone, Copy, Debug)]
struct Checkpoint {
    /// By the monotonic clock.
    received: Duration,
    lag: Duration,
    /// By the server's clock, in seconds since 1970.
    time: Option<i64>,
}

/// Two wall clocks: that of this machine, and the server's as the last checkpoint had it.
#[derive(Clone, Copy, Debug)]
struct Clocks {
    here: i64,
    server: Option<i64>,
}

#[derive(Debug, Default)]
struct Org {
    itself: Option<Version>,
    accounts: HashMap<String, Version>,
}

/// The lowest version that is still good; none is where it is absent.
#[derive(Clone, Copy, Debug)]
struct Version {
    least: Option<i64>,
    kept: Kept,
}

/// A revocation, and until when it counts.
#[derive(Clone, Copy, Debug)]
struct Kept {
    /// In seconds since 1970; for ever where absent.
    until: Option<i64>,
    /// Why the server refuses such a JWT, where it said so and this version knows it.
    reason: Option<&'static str>,
}

impl Kept {
    /// It is forgotten once both clocks have passed its end, so that a clock that steps forward and back loses none.
    fn counts(&self, clocks: Clocks) -> bool {
        self.until
            .is_none_or(|until| clocks.here <= until || clocks.server.is_none_or(|server| server <= until))
    }

    /// The later end of both. The reason that was heard last counts.
    fn extend(&mut self, other: Self) {
        self.until = self.until.zip(other.until).map(|(mine, theirs)| mine.max(theirs));
        self.reason = other.reason;
    }
}

impl Version {
    fn refuses(&self, version: Option<i64>, clocks: Clocks) -> bool {
        self.kept.counts(clocks)
            && self.least.is_none_or(|least| version.is_none_or(|version| version < least))
    }

    /// Versions only rise. The reason is that of the version that counts.
    fn raise(&mut self, other: Self) {
        let reason = match (self.least, other.least) {
            (None, Some(_)) => self.kept.reason,
            (Some(mine), Some(theirs)) if theirs < mine => self.kept.reason,
            _ => other.kept.reason,
        };
        self.least = self.least.zip(other.least).map(|(mine, theirs)| mine.max(theirs));
        self.kept.extend(other.kept);
        self.kept.reason = reason;
    }
}

impl State {
    /// Takes what the stream brought.
    pub(super) fn apply(&mut self, item: Item, now: Now) {
        match item {
            Item::KeySet(set) => self.replace_keys(KeySet::new(&set.keys)),
            Item::Revocation(revocation) => self.revoke(revocation),
            Item::Checkpoint(checkpoint) => {
                // Less than none is none.
                let lag = checkpoint.lag.and_then(|lag| Duration::try_from(lag).ok()).unwrap_or_default();
                let time = checkpoint.time.map(|time| time.seconds);
                self.checkpoint = Some(Checkpoint { received: now.monotonic, lag, time });
                self.cursor = checkpoint.cursor;
                if now.monotonic.saturating_sub(self.forgotten) >= FORGET_EACH {
                    self.forget(now);
                }
            }
        }
    }

    /// Whether the stream has to begin anew, now that there is room for what was left out.
    pub(super) fn begins_anew(&mut self) -> bool {
        let anew = self.overflowed && self.count < MOST_REVOCATIONS;
        if anew {
            self.overflowed = false;
            self.checkpoint = None;
            self.cursor.clear();
        }
        anew
    }

    /// A set replaces the one before; a key that was revoked never comes back.
    pub(super) fn replace_keys(&mut self, mut keys: KeySet) {
        for kid in &self.revoked_keys {
            keys.remove(kid);
        }
        self.keys = keys;
        self.has_keys = true;
    }

    pub(super) fn add_keys(&mut self, mut keys: KeySet) {
        for kid in &self.revoked_keys {
            keys.remove(kid);
        }
        self.keys.add(keys);
        self.has_keys = true;
    }

    fn revoke(&mut self, revocation: pb::Revocation) {
        let until = revocation.expire_time.map(|time| time.seconds.saturating_add(KEPT_BEYOND));
        let kept = Kept { until, reason: known_reason(revocation.reason()) };
        let version = Version { least: Some(revocation.min_version).filter(|least| *least > 0), kept };
        let is_key = matches!(revocation.subject, Some(Subject::KeyId(_)));
        if self.count >= MOST_REVOCATIONS && !is_key {
            self.overflowed = true;
            return;
        }
        let new = match revocation.subject {
            Some(Subject::TokenId(id)) => keep(&mut self.tokens, id, kept),
            Some(Subject::SessionId(id)) => keep(&mut self.sessions, id, kept),
            Some(Subject::RuleId(id)) => raise(&mut self.rules, id, version),
            Some(Subject::Secret(secret)) => {
                keep(self.secrets.entry(secret.token_id).or_default(), i64::from(secret.number), kept)
            }
            Some(Subject::AccountId(id)) => {
                raise(&mut self.orgs.entry(revocation.org_id).or_default().accounts, id, version)
            }
            Some(Subject::Org(true)) => {
                let org = self.orgs.entry(revocation.org_id).or_default();
                match &mut org.itself {
                    Some(known) => {
                        known.raise(version);
                        false
                    }
                    none => none.replace(version).is_none(),
                }
            }
            Some(Subject::KeyId(kid)) => {
                self.keys.remove(&kid);
                self.revoked_keys.insert(kid);
                false
            }
            Some(Subject::Org(false)) | None => {
                self.unknown = true;
                false
            }
        };
        self.count += usize::from(new);
    }

    /// Drops what has ended.
    fn forget(&mut self, now: Now) {
        let clocks = self.clocks(now);
        let stays = |kept: &Kept| kept.counts(clocks);
        for ids in [&mut self.tokens, &mut self.sessions] {
            ids.retain(|_, kept| stays(kept));
        }
        self.rules.retain(|_, version| stays(&version.kept));
        self.secrets.retain(|_, numbers| {
            numbers.retain(|_, kept| stays(kept));
            !numbers.is_empty()
        });
        self.orgs.retain(|_, org| {
            org.itself = org.itself.filter(|version| stays(&version.kept));
            org.accounts.retain(|_, version| stays(&version.kept));
            org.itself.is_some() || !org.accounts.is_empty()
        });
        self.count = self.kept().count();
        self.forgotten = now.monotonic;
    }

    fn clocks(&self, now: Now) -> Clocks {
        Clocks { here: now.unix, server: self.checkpoint.and_then(|checkpoint| checkpoint.time) }
    }

    fn kept(&self) -> impl Iterator<Item = &Kept> {
        let ids = self.tokens.values().chain(self.sessions.values());
        let orgs = self.orgs.values().flat_map(|org| org.itself.iter().chain(org.accounts.values()));
        let versions = self.rules.values().chain(orgs);
        ids.chain(self.secrets.values().flat_map(HashMap::values))
            .chain(versions.map(|version| &version.kept))
    }

    /// How many revocations count now.
    pub(super) fn revocations(&self, now: Now) -> usize {
        let clocks = self.clocks(now);
        self.kept().filter(|kept| kept.counts(clocks)).count() + self.revoked_keys.len()
    }

    /// How old the news are. `None` where there were none.
    pub(super) fn age(&self, now: Now) -> Option<Duration> {
        self.checkpoint.map(|last| now.monotonic.saturating_sub(last.received).saturating_add(last.lag))
    }

    pub(super) fn is_fresh(&self, now: Now, staleness: Staleness) -> bool {
        let most = staleness.open_for.map_or(staleness.closed_after, |open| open.max(staleness.closed_after));
        !self.unknown && !self.overflowed && self.age(now).is_some_and(|age| age <= most)
    }

    pub(super) fn is_revoked_key(&self, kid: &str) -> bool {
        self.revoked_keys.contains(kid)
    }

    /// Refuses the claims if something that was heard ended them.
    pub(super) fn check(&self, claims: &Claims, now: Now) -> Result<(), Error> {
        let clocks = self.clocks(now);
        let refused = |kept: &Kept, reason, check, message| {
            Err(Error::refused(kept.reason.unwrap_or(reason), check, message))
        };
        let id = claims.client_id.as_str();
        for (ids, check, message) in [
            (&self.tokens, "token", "the token has ended"),
            (&self.sessions, "session", "the session has ended"),
        ] {
            if let Some(kept) = ids.get(id).filter(|kept| kept.counts(clocks)) {
                return refused(kept, "TOKEN_REVOKED", check, message);
            }
        }
        let rule = self.rules.get(id);
        if let Some(version) = rule.filter(|version| version.refuses(claims.rule_ver, clocks)) {
            return match version.least {
                None => refused(
                    &version.kept,
                    "TOKEN_REVOKED",
                    "rule",
                    "the federation rule is revoked or deleted",
                ),
                Some(_) => {
                    let message = "the federation rule or its issuer was changed since it was issued";
                    refused(&version.kept, ACCESS_TOKEN_STALE, "rule_version", message)
                }
            };
        }
        let secret = claims.secret.and_then(|number| self.secrets.get(id)?.get(&number));
        if let Some(kept) = secret.filter(|kept| kept.counts(clocks)) {
            return refused(
                kept,
                ACCESS_TOKEN_STALE,
                "secret",
                "the secret that it was exchanged for has ended",
            );
        }
        let Some(org) = self.orgs.get(&claims.org) else { return Ok(()) };
        if let Some(version) = org.itself.filter(|version| version.refuses(claims.org_ver, clocks)) {
            return match version.least {
                None => {
                    refused(&version.kept, "ORG_SUSPENDED", "org_state", "the org is suspended or deleted")
                }
                Some(_) => {
                    let message = "the org was suspended, or its rights narrowed, since it was issued";
                    refused(&version.kept, ACCESS_TOKEN_STALE, "org_version", message)
                }
            };
        }
        let account = org.accounts.get(&claims.sub);
        if let Some(version) = account.filter(|version| version.refuses(claims.acct_ver, clocks)) {
            return match version.least {
                None => {
                    let message = "the account is deactivated or deleted";
                    refused(&version.kept, "ACCOUNT_DEACTIVATED", "account", message)
                }
                Some(_) => {
                    let message = "the account was deactivated, or its rights narrowed, since it was issued";
                    refused(&version.kept, ACCESS_TOKEN_STALE, "account_version", message)
                }
            };
        }
        Ok(())
    }
}

/// The reason without the prefix of the enum.
fn known_reason(reason: pb::ErrorReason) -> Option<&'static str> {
    (reason != pb::ErrorReason::Unspecified).then(|| reason.as_str_name().trim_start_matches("ERROR_REASON_"))
}

/// Keeps it until the later of both ends. Whether it is new.
fn keep<K: std::hash::Hash + Eq>(all: &mut HashMap<K, Kept>, id: K, kept: Kept) -> bool {
    match all.get_mut(&id) {
        Some(known) => {
            known.extend(kept);
            false
        }
        None => all.insert(id, kept).is_none(),
    }
}

/// Keeps the higher version. Whether it is new.
fn raise(all: &mut HashMap<String, Version>, id: String, version: Version) -> bool {
    match all.get_mut(&id) {
        Some(known) => {
            known.raise(version);
            false
        }
        None => all.insert(id, version).is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(seconds: u64) -> Now {
        Now { unix: i64::try_from(seconds).unwrap(), monotonic: Duration::from_secs(seconds) }
    }

    #[test]
    fn with_too_many_revocations_it_closes_until_they_have_ended_and_begins_anew() {
        let staleness = Staleness { closed_after: Duration::from_secs(30), open_for: None };
        let checkpoint = |seconds: i64| {
            Item::Checkpoint(pb::Checkpoint {
                cursor: "c".into(),
                time: Some(prost_types::Timestamp { seconds, nanos: 0 }),
                lag: None,
            })
        };
        let revocation = |subject| {
            Item::Revocation(pb::Revocation {
                subject: Some(subject),
                expire_time: Some(prost_types::Timestamp { seconds: 100, nanos: 0 }),
                ..Default::default()
            })
        };
        let mut state = State::default();
        for number in 0..MOST_REVOCATIONS {
            state.apply(revocation(Subject::TokenId(format!("{number:x}"))), now(0));
        }
        state.apply(checkpoint(0), now(0));
        assert!(state.is_fresh(now(0), staleness) && !state.begins_anew());
        state.apply(revocation(Subject::TokenId("one more".into())), now(0));
        // A key is heeded all the same.
        state.apply(revocation(Subject::KeyId("key".into())), now(0));
        state.apply(checkpoint(5), now(5));
        assert!(!state.is_fresh(now(5), staleness) && !state.begins_anew());
        assert!(state.is_revoked_key("key"));
        assert_eq!(state.revocations(now(5)), MOST_REVOCATIONS + 1);
        state.apply(checkpoint(200), now(200));
        assert!(state.begins_anew());
        assert_eq!((state.cursor.as_str(), state.revocations(now(200))), ("", 1));
        assert!(!state.is_fresh(now(200), staleness));
        state.apply(checkpoint(201), now(201));
        assert!(state.is_fresh(now(201), staleness) && !state.begins_anew());
    }
}
