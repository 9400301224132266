//! What is known of one issuer's keys on this node, and how their fetches went.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use time::OffsetDateTime;
use tokio::sync::Notify;

use super::moment::{Moment, micros};
use crate::domain::federation::fetching::{
    FetchError, MAX_AWAY, MAX_REFRESH, REPORTED_AGAIN, RETRY, StoredKeys, is_ahead,
};
use crate::domain::federation::issuer::Issuer;
use crate::domain::federation::jwk_set::KeySet;
use crate::domain::values::client_certificate::Sha256Digest;
use crate::domain::values::ids::{IssuerId, OrgId};
use crate::state::locks::lock;

/// How many of a node's own fetches are remembered: what they brought is stored at most once a minute
/// (`BETWEEN_CHANGES`), the last one for all.
const OWN_FETCHES: usize = 4;

/// The keys of an issuer, as they were fetched, or as they are stored with it.
#[derive(Debug)]
pub struct KnownKeys {
    pub set: KeySet,
    /// When they were fetched.
    pub(super) at: Moment,
    /// How long they are used before they are fetched again; none where they are inline.
    pub(super) refresh: Option<Duration>,
}

impl KnownKeys {
    /// Whether the set may still be used, while its issuer is away.
    pub(super) fn serves(&self, now: Moment) -> bool {
        self.refresh.is_none() || !now.is_past(self.at, MAX_AWAY)
    }
}

/// What is known of an issuer's keys on this node.
pub struct Entry {
    pub(super) org_id: OrgId,
    pub(super) issuer_id: IssuerId,
    /// The issuer as it was last asked for. What differs of it says nothing of its keys.
    pub(super) issuer: ArcSwap<Issuer>,
    /// Of the issuer's row, as it was last asked for.
    pub(super) version: AtomicI64,
    pub(super) known: ArcSwapOption<KnownKeys>,
    /// What is stored of its keys, as far as it was heeded.
    pub(super) heeded: ArcSwapOption<StoredKeys>,
    pub(super) fetching: Mutex<Fetching>,
    /// Whether it is fetched again as soon as it may be, since another node has seen a key go.
    pub(super) again: AtomicBool,
    /// Whether a fetch is in progress: one at a time.
    pub(super) flies: AtomicBool,
    /// Notified when it is over.
    pub(super) landed: Notify,
    /// When it was last used, in microseconds since 1970, and which entry it is: of two the later.
    pub(super) used: AtomicI64,
    pub(super) number: u64,
}

impl Entry {
    /// One of which nothing is known yet.
    pub(super) fn new(org_id: OrgId, issuer: Arc<Issuer>, version: i64, used: i64, number: u64) -> Self {
        Self {
            org_id,
            issuer_id: issuer.id(),
            issuer: ArcSwap::new(issuer),
            version: AtomicI64::new(version),
            known: ArcSwapOption::empty(),
            heeded: ArcSwapOption::empty(),
            fetching: Mutex::default(),
            again: AtomicBool::new(false),
            flies: AtomicBool::new(false),
            landed: Notify::new(),
            used: AtomicI64::new(used),
            number,
        }
    }
}

/// How the fetches of an issuer went.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fetching {
    /// When the last one began.
    pub(super) began: Option<Moment>,
    pub(super) failed: Option<FetchError>,
    /// The failure that was last written and logged, and when.
    pub(super) reported: Option<(FetchError, Moment)>,
    /// When the last ones began that this node fetched keys with, in microseconds since 1970: what it stores of them
    /// is no news to it.
    brought: [Option<i64>; OWN_FETCHES],
}

impl Fetching {
    /// Notes that a fetch which began then has brought keys.
    pub(super) fn brings(&mut self, began: Moment) {
        self.brought.rotate_right(1);
        self.brought[0] = Some(micros(began.time));
    }

    /// Whether a fetch of this node brought what was stored with this time.
    pub(super) fn has_brought(&self, time: OffsetDateTime) -> bool {
        self.brought.contains(&Some(micros(time)))
    }

    pub(super) fn may_repeat(&self, now: Moment) -> bool {
        self.began.is_none_or(|began| now.is_past(began, RETRY))
    }

    /// Whether a failure is to be written and logged: one that is new, or after a while. That too much was fetched
    /// says less than why a fetch failed.
    pub(super) fn reports(&mut self, error: FetchError, now: Moment) -> bool {
        let is_known = self.reported.is_some_and(|(known, at)| {
            (known == error || error == FetchError::TooOften) && !now.is_past(at, REPORTED_AGAIN)
        });
        if !is_known {
            self.reported = Some((error, now));
        }
        !is_known
    }
}

impl Entry {
    pub(super) fn is_due(&self, known: &KnownKeys, now: Moment) -> bool {
        known
            .refresh
            .is_some_and(|refresh| now.is_past(known.at, refresh) || self.again.load(Ordering::Relaxed))
    }

    /// Whether calls use these keys, which are due, while they are fetched: they are not too old, and their issuer did
    /// not answer the last time, or they are due for no longer than the longest time between two fetches.
    pub(super) fn serves_meanwhile(&self, known: &KnownKeys, now: Moment) -> bool {
        known.serves(now) && (lock(&self.fetching).failed.is_some() || !now.is_past(known.at, MAX_REFRESH))
    }

    pub(super) fn is_inline(&self) -> bool {
        self.issuer.load().jwks().is_some()
    }

    /// Takes away the keys that are not stored any more: another node has seen them go. Adds none: they
    /// may have been written by something else than a server.
    ///
    /// A time that is to come is worth less than one that is not: what was stored with it says nothing of when
    /// keys were fetched, and the next good one replaces it.
    pub(super) fn heed(&self, stored: &Arc<StoredKeys>, now: OffsetDateTime) {
        let is_news = |heeded: &Option<Arc<StoredKeys>>| {
            let is_later = |heeded: &StoredKeys| {
                heeded.time < stored.time || (is_ahead(heeded.time, now) && !is_ahead(stored.time, now))
            };
            heeded.as_ref().is_none_or(|heeded| !Arc::ptr_eq(heeded, stored) && is_later(heeded))
        };
        if !is_news(&self.heeded.load()) {
            return;
        }
        // A fetch that ends meanwhile heeds what is stored as well.
        let fetching = lock(&self.fetching);
        let before = self.heeded.load_full();
        if !is_news(&before) {
            return;
        }
        // What this node has fetched since then is newer, by its own clock.
        if !fetching.has_brought(stored.time)
            && let Some(known) = self.known.load_full()
            && let Some(rest) = without_gone(&known, before.as_deref(), stored, now)
        {
            self.known.store(Some(Arc::new(rest)));
            self.again.store(true, Ordering::Relaxed);
        }
        self.heeded.store(Some(stored.clone()));
    }
}

/// The rest of the keys where some are not among those that are stored, which were fetched later, or which had them
/// before. None where all are left.
pub(super) fn without_gone(
    known: &KnownKeys,
    before: Option<&StoredKeys>,
    stored: &StoredKeys,
    now: OffsetDateTime,
) -> Option<KnownKeys> {
    known.refresh?;
    let is_older = known.at.time <= stored.time && !is_ahead(stored.time, now);
    let had =
        |thumbprint: &Sha256Digest| before.is_some_and(|before| before.thumbprints.contains(thumbprint));
    let gone: Vec<_> = known
        .set
        .thumbprints()
        .filter(|thumbprint| !stored.thumbprints.contains(thumbprint) && (is_older || had(thumbprint)))
        .collect();
    (!gone.is_empty()).then(|| KnownKeys { set: known.set.without(&gone), ..*known })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::domain::federation::algorithm::Algorithm;
    use crate::domain::federation::issuer::{IssuerKind, TrustFields};
    use crate::domain::federation::jwk::KeyUse;

    /// Two keys, of which the one is also in the second set.
    const BOTH: &str = r#"{"keys":[
        {"kid":"1","kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
        {"kid":"2","kty":"OKP","crv":"Ed25519","x":"WGZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmY"}]}"#;

    fn at(second: i64) -> Moment {
        Moment {
            time: OffsetDateTime::from_unix_timestamp(1_795_000_000 + second).unwrap(),
            instant: Instant::now(),
        }
    }

    fn both() -> KeySet {
        KeySet::parse(BOTH.as_bytes(), KeyUse::Signature, &Algorithm::DEFAULT).unwrap()
    }

    fn entry() -> Entry {
        let trust = TrustFields::of(IssuerKind::Oidc, "https://a.example").trust();
        let issuer = Issuer::new(IssuerId::from_u128(1), trust);
        Entry::new(OrgId::from_u128(1), Arc::new(issuer), 1, 0, 0)
    }

    fn knows(entry: &Entry, set: KeySet, second: i64, refresh: Option<Duration>) {
        entry.known.store(Some(Arc::new(KnownKeys { set, at: at(second), refresh })));
    }

    fn kids(entry: &Entry) -> Vec<String> {
        let known = entry.known.load_full().unwrap();
        known.set.keys().iter().map(|key| key.kid().unwrap().to_owned()).collect()
    }

    fn stored(second: i64, kids: &[&str]) -> Arc<StoredKeys> {
        let set = both();
        let listed = set.keys().iter().filter(|key| kids.contains(&key.kid().unwrap()));
        Arc::new(StoredKeys {
            time: at(second).time,
            thumbprints: listed.map(|key| key.thumbprint()).collect(),
        })
    }

    /// Heeds what was stored at this second, with these keys, where no clock is wrong.
    fn heed(entry: &Entry, second: i64, kids: &[&str]) {
        entry.heed(&stored(second, kids), at(second).time);
    }

    #[test]
    fn what_is_stored_takes_keys_away_and_adds_none() {
        let entry = entry();
        knows(&entry, both(), 10, Some(MAX_REFRESH));
        // Stored before these were fetched: the second one is new.
        heed(&entry, 5, &["1"]);
        assert_eq!(kids(&entry), ["1", "2"]);
        assert!(!entry.again.load(Ordering::Relaxed));
        // Another node has fetched later, and has seen it go.
        heed(&entry, 20, &["1"]);
        assert_eq!(kids(&entry), ["1"]);
        assert!(entry.again.load(Ordering::Relaxed), "it is fetched again");
        // What a row says adds nothing, and an older row says nothing.
        heed(&entry, 30, &["1", "2"]);
        assert_eq!(kids(&entry), ["1"]);
        heed(&entry, 25, &[]);
        assert_eq!(kids(&entry), ["1"]);
        heed(&entry, 40, &[]);
        assert_eq!(kids(&entry), Vec::<String>::new());
    }

    #[test]
    fn a_key_that_was_stored_and_is_not_is_gone_whatever_the_clocks_say() {
        let entry = entry();
        heed(&entry, 5, &["1", "2"]);
        // This node is ahead of the other ones by a minute.
        knows(&entry, both(), 70, Some(MAX_REFRESH));
        heed(&entry, 20, &["2"]);
        assert_eq!(kids(&entry), ["2"]);
    }

    #[test]
    fn what_this_node_stored_itself_takes_nothing_from_what_it_fetched_since() {
        for own in [true, false] {
            let entry = entry();
            heed(&entry, 5, &["1", "2"]);
            // Its issuer had the second one alone, and has both again before that was stored.
            if own {
                lock(&entry.fetching).brings(at(20));
            }
            knows(&entry, both(), 30, Some(MAX_REFRESH));
            lock(&entry.fetching).brings(at(30));
            heed(&entry, 20, &["2"]);
            let expected: &[_] = if own { &["1", "2"] } else { &["2"] };
            assert_eq!(kids(&entry), expected);
            heed(&entry, 40, &["1"]);
            assert_eq!(kids(&entry), if own { vec!["1"] } else { vec![] }, "another node has seen it go");
        }
    }

    /// A node whose clock was two hours ahead has stored what it fetched.
    #[test]
    fn what_was_stored_with_a_time_to_come_is_forgotten() {
        let entry = entry();
        let heed = |stored: &Arc<StoredKeys>, now: i64| entry.heed(stored, at(now).time);
        let to_come = stored(7_200, &["1"]);
        knows(&entry, both(), 10, Some(MAX_REFRESH));
        heed(&to_come, 20);
        assert_eq!(kids(&entry), ["1", "2"], "when that was fetched is not known");
        // Another node stores with the time as it is, and takes the first one away.
        heed(&stored(30, &["2"]), 30);
        assert_eq!(kids(&entry), ["2"]);
        // What it had before and has no more is gone, whatever the time.
        heed(&stored(7_300, &[]), 40);
        assert_eq!(kids(&entry), Vec::<String>::new());
    }

    #[test]
    fn inline_keys_are_those_of_the_row_itself() {
        let entry = entry();
        knows(&entry, both(), 10, None);
        heed(&entry, 20, &[]);
        assert_eq!(kids(&entry), ["1", "2"]);
    }

    #[test]
    fn a_failure_is_reported_when_it_is_another_one_or_after_a_while() {
        let mut fetching = Fetching::default();
        let instant = Instant::now();
        let mut reports = |error, second| fetching.reports(error, Moment { instant, ..at(second) });
        let (away, slow, often) = (FetchError::ConnectionFailed, FetchError::TimedOut, FetchError::TooOften);
        for (error, second, expected) in [
            (away, 0, true),
            (away, 10, false),
            (often, 20, false),
            (away, 30, false),
            (slow, 40, true),
            (away, 50, true),
            (away, 649, false),
            (away, 650, true),
            (away, 660, false),
        ] {
            assert_eq!(reports(error, second), expected, "{error} at {second}");
        }
        let mut fetching = Fetching::default();
        assert!(fetching.reports(often, at(0)), "there is no other word");
        assert!(fetching.reports(away, at(1)));
    }

    #[test]
    fn a_fetch_is_repeated_after_ten_seconds_by_either_clock() {
        let fetching = Fetching { began: Some(at(1_000)), ..Fetching::default() };
        assert!(!fetching.may_repeat(at(1_009)) && fetching.may_repeat(at(1_010)));
        // The clock was set back by an hour, and ten seconds are over.
        let later = Moment { instant: Instant::now() + RETRY, ..at(-2_600) };
        assert!(fetching.may_repeat(later));
        let known = KnownKeys { set: both(), at: at(0), refresh: Some(MAX_REFRESH) };
        assert!(known.serves(at(3_599)) && !known.serves(at(3_600)));
        let later = Moment { instant: Instant::now() + MAX_AWAY, ..at(-86_400) };
        assert!(!known.serves(later), "an hour is over, whatever the clock on the wall says");
    }
}
