//! What the verifier knows: keys, revocations, and how old its news are. No network, and time as an argument.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::claims::Claims;
use super::keys::KeySet;
use crate::error::{Error, reason};
use crate::pb;
use crate::pb::revocation::Subject;
use crate::pb::watch_revocations_response::Item;

/// How long a revocation is kept beyond its end, in seconds: clocks differ.
const KEPT_BEYOND: i64 = 60;
/// The most revocations that are kept. With more the verifier closes until some have ended: one that it cannot keep
/// would be one that it does not heed.
const MOST_REVOCATIONS: usize = 1_000_000;

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
    rules: HashMap<String, Kept>,
    /// By the token, the numbers that ended.
    secrets: HashMap<String, HashMap<i64, Kept>>,
    orgs: HashMap<String, Org>,
    count: usize,
    overflowed: bool,
    /// A revocation of a kind that this version does not know: what it ended cannot be told.
    unknown: bool,
    checkpoint: Option<(Duration, Duration)>,
    pub(super) cursor: String,
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

/// Until when a revocation counts.
#[derive(Clone, Copy, Debug)]
struct Kept {
    /// By the wall clock, in seconds since 1970; for ever where absent.
    until: Option<i64>,
    /// It stays in memory until then at least, whatever steps the wall clock makes.
    stays: Duration,
}

impl Kept {
    fn new(expire_time: Option<i64>, now: Now) -> Self {
        let until = expire_time.map(|time| time.saturating_add(KEPT_BEYOND));
        let left = until.map_or(0, |until| until.saturating_sub(now.unix));
        let stays = now.monotonic + Duration::from_secs(u64::try_from(left).unwrap_or(0));
        Self { until, stays }
    }

    fn counts(&self, now: Now) -> bool {
        self.until.is_none_or(|until| now.unix <= until)
    }

    fn is_over(&self, now: Now) -> bool {
        !self.counts(now) && now.monotonic > self.stays
    }

    /// The later end of both.
    fn extend(&mut self, other: Self) {
        self.until = self.until.zip(other.until).map(|(mine, theirs)| mine.max(theirs));
        self.stays = self.stays.max(other.stays);
    }
}

impl Version {
    fn refuses(&self, version: Option<i64>, now: Now) -> bool {
        self.kept.counts(now) && self.least.is_none_or(|least| version.is_none_or(|version| version < least))
    }

    /// Versions only rise.
    fn raise(&mut self, other: Self) {
        self.least = self.least.zip(other.least).map(|(mine, theirs)| mine.max(theirs));
        self.kept.extend(other.kept);
    }
}

impl State {
    /// Takes what the stream brought.
    pub(super) fn apply(&mut self, item: Item, now: Now) {
        match item {
            Item::KeySet(set) => self.replace_keys(KeySet::new(&set.keys)),
            Item::Revocation(revocation) => self.revoke(revocation, now),
            Item::Checkpoint(checkpoint) => {
                self.forget(now);
                let lag = checkpoint.lag.and_then(|lag| Duration::try_from(lag).ok()).unwrap_or_default();
                self.checkpoint = Some((now.monotonic, lag));
                self.cursor = checkpoint.cursor;
            }
        }
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

    fn revoke(&mut self, revocation: pb::Revocation, now: Now) {
        let kept = Kept::new(revocation.expire_time.map(|time| time.seconds), now);
        let version = Version { least: Some(revocation.min_version).filter(|least| *least > 0), kept };
        if self.count >= MOST_REVOCATIONS {
            self.forget(now);
            self.overflowed = self.count >= MOST_REVOCATIONS;
            if self.overflowed {
                return;
            }
        }
        let new = match revocation.subject {
            Some(Subject::TokenId(id)) => keep(&mut self.tokens, id, kept),
            Some(Subject::SessionId(id)) => keep(&mut self.sessions, id, kept),
            Some(Subject::RuleId(id)) => keep(&mut self.rules, id, kept),
            Some(Subject::Secret(secret)) => {
                keep(self.secrets.entry(secret.token_id).or_default(), i64::from(secret.number), kept)
            }
            Some(Subject::AccountId(id)) => {
                let accounts = &mut self.orgs.entry(revocation.org_id).or_default().accounts;
                match accounts.get_mut(&id) {
                    Some(known) => {
                        known.raise(version);
                        false
                    }
                    None => accounts.insert(id, version).is_none(),
                }
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
                self.revoked_keys.insert(kid)
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
        let stays = |kept: &Kept| !kept.is_over(now);
        for ids in [&mut self.tokens, &mut self.sessions, &mut self.rules] {
            ids.retain(|_, kept| stays(kept));
        }
        self.secrets.retain(|_, numbers| {
            numbers.retain(|_, kept| stays(kept));
            !numbers.is_empty()
        });
        self.orgs.retain(|_, org| {
            org.itself = org.itself.filter(|version| stays(&version.kept));
            org.accounts.retain(|_, version| stays(&version.kept));
            org.itself.is_some() || !org.accounts.is_empty()
        });
        self.count = self.kept().count() + self.revoked_keys.len();
        self.overflowed &= self.count >= MOST_REVOCATIONS;
    }

    fn kept(&self) -> impl Iterator<Item = &Kept> {
        let ids = self.tokens.values().chain(self.sessions.values()).chain(self.rules.values());
        let versions = self.orgs.values().flat_map(|org| org.itself.iter().chain(org.accounts.values()));
        ids.chain(self.secrets.values().flat_map(HashMap::values))
            .chain(versions.map(|version| &version.kept))
    }

    /// How many revocations count now.
    pub(super) fn revocations(&self, now: Now) -> usize {
        self.kept().filter(|kept| kept.counts(now)).count() + self.revoked_keys.len()
    }

    /// How old the news are. `None` where there were none.
    pub(super) fn age(&self, now: Now) -> Option<Duration> {
        self.checkpoint.map(|(received, lag)| now.monotonic.saturating_sub(received).saturating_add(lag))
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
        let ended =
            |ids: &HashMap<String, Kept>| ids.get(&claims.client_id).is_some_and(|kept| kept.counts(now));
        if ended(&self.tokens) {
            return Err(Error::refused("TOKEN_REVOKED", "token", "the token was revoked"));
        }
        if ended(&self.sessions) {
            return Err(Error::refused("TOKEN_REVOKED", "session", "the session was revoked"));
        }
        if ended(&self.rules) {
            return Err(Error::refused(
                "TOKEN_REVOKED",
                "rule",
                "the federation rule was changed or revoked",
            ));
        }
        let number = claims.secret.and_then(|number| self.secrets.get(&claims.client_id)?.get(&number));
        if number.is_some_and(|kept| kept.counts(now)) {
            return Err(Error::refused(reason::ACCESS_TOKEN_STALE, "secret", "its secret has ended"));
        }
        let Some(org) = self.orgs.get(&claims.org) else { return Ok(()) };
        if let Some(version) = &org.itself
            && version.refuses(claims.org_ver, now)
        {
            return Err(match version.least {
                None => Error::refused("ORG_SUSPENDED", "org_state", "the org is suspended or deleted"),
                Some(_) => Error::refused(
                    reason::ACCESS_TOKEN_STALE,
                    "org_version",
                    "rights of the org were narrowed since it was issued",
                ),
            });
        }
        if let Some(version) = org.accounts.get(&claims.sub)
            && version.refuses(claims.acct_ver, now)
        {
            return Err(match version.least {
                None => {
                    Error::refused("ACCOUNT_DEACTIVATED", "account", "the account is deactivated or deleted")
                }
                Some(_) => Error::refused(
                    reason::ACCESS_TOKEN_STALE,
                    "account_version",
                    "rights of the account were narrowed since it was issued",
                ),
            });
        }
        Ok(())
    }
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
