//! What was presented to rules, buffered in memory and written in batches.
//!
//! A tenant decides what its issuers say, and how often: an org has a part of the places and of their bytes, and what
//! cannot be written of one org is written of the others.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value};
use time::{Duration, OffsetDateTime};

use crate::db::federation::uses::{NewPresentation, find_overfull, record_presentations, trim_presentations};
use crate::db::pool::Db;
use crate::db::retrying;
use crate::domain::access::credential::Credential;
use crate::domain::federation::assertion::RuleCheck;
use crate::domain::federation::claims::Recorded;
use crate::domain::federation::federated::Federated;
use crate::domain::federation::presentation::Outcome;
use crate::domain::values::ids::{CredentialId, OrgId, RuleId};
use crate::error::{Error, Reason, Result};
use crate::state::locks::lock;

/// The most subjects that wait to be written, of those that passed, and of those that did not.
const MAX_WAITING: usize = 10_000;
/// The most bytes of them.
const MAX_BYTES: usize = 16 << 20;
/// An org has at most this part of both.
const PART_OF_ORG: usize = 8;
/// The most subjects of one rule that wait, of those that passed.
const MAX_PASSED_OF_RULE: usize = 1_000;
/// The same of those that did not.
const MAX_REFUSED_OF_RULE: usize = 100;
/// The most subjects in one statement.
const BATCH: usize = 1_000;
/// The most rules in one statement that trims.
const TRIMMED: usize = 50;
/// How long a recording counts as that of the last assertion: one that comes sooner is only counted.
const RECORDED_FOR: Duration = Duration::seconds(1);

/// A subject, and the check that failed; empty where it passed.
type Key = (String, String);

#[derive(Debug)]
struct Waiting {
    audiences: String,
    claims: String,
    count: i64,
    first_time: OffsetDateTime,
    last_time: OffsetDateTime,
    /// When what it says was recorded.
    recorded_time: OffsetDateTime,
}

impl Waiting {
    fn weight(&self, (subject, failed): &Key) -> usize {
        size_of::<Self>()
            + size_of::<Key>()
            + subject.len()
            + failed.len()
            + self.audiences.len()
            + self.claims.len()
    }
}

/// What waits of an org.
#[derive(Debug, Default)]
struct OfOrg {
    rules: HashMap<RuleId, HashMap<Key, Waiting>>,
    count: usize,
    bytes: usize,
}

/// What waits, with one outcome.
#[derive(Debug)]
struct Buffer {
    outcome: Outcome,
    max_of_rule: usize,
    orgs: Mutex<HashMap<OrgId, OfOrg>>,
    /// Over all orgs, within the lock.
    count: AtomicU64,
    bytes: AtomicU64,
}

/// What was presented and waits to be written.
pub struct Presentations {
    db: Db,
    passed: Buffer,
    /// In places of their own: those that never passed take none from those that did.
    refused: Buffer,
    /// Those that were left out for lack of room since that was last logged.
    lost: AtomicU64,
}

impl Buffer {
    fn new(outcome: Outcome, max_of_rule: usize) -> Self {
        Self {
            outcome,
            max_of_rule,
            orgs: Mutex::default(),
            count: AtomicU64::default(),
            bytes: AtomicU64::default(),
        }
    }

    /// Counts one that needs no new recording: it was recorded a moment ago.
    fn counts(&self, (org_id, rule_id): (OrgId, RuleId), key: &Key, now: OffsetDateTime) -> bool {
        let mut orgs = lock(&self.orgs);
        let of_rule = orgs.get_mut(&org_id).and_then(|of_org| of_org.rules.get_mut(&rule_id));
        let Some(known) = of_rule.and_then(|of_rule| of_rule.get_mut(key)) else { return false };
        if now - known.recorded_time >= RECORDED_FOR {
            return false;
        }
        known.count += 1;
        known.last_time = known.last_time.max(now);
        true
    }

    /// Adds one with what it says. Returns whether there was room for it. One that waits already is counted in any case,
    /// and says what it said before where there is no room for more.
    fn add(&self, (org_id, rule_id): (OrgId, RuleId), key: Key, new: Waiting) -> bool {
        let mut orgs = lock(&self.orgs);
        let (count, bytes) = (self.count.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
        let of_org = orgs.entry(org_id).or_default();
        let of_rule = of_org.rules.entry(rule_id).or_default();
        let weight = new.weight(&key);
        let before = of_rule.get(&key).map_or(0, |known| known.weight(&key));
        let (of_org_then, bytes_then) =
            (of_org.bytes + weight - before, bytes + weight as u64 - before as u64);
        let is_too_much =
            weight > before && (of_org_then > MAX_BYTES / PART_OF_ORG || bytes_then > MAX_BYTES as u64);
        let new = match of_rule.get_mut(&key) {
            Some(known) if is_too_much => {
                known.count += 1;
                known.last_time = known.last_time.max(new.last_time);
                return true;
            }
            Some(known) => Waiting {
                count: known.count + 1,
                first_time: known.first_time,
                last_time: known.last_time.max(new.last_time),
                ..new
            },
            None => {
                let has_room = of_rule.len() < self.max_of_rule
                    && of_org.count < MAX_WAITING / PART_OF_ORG
                    && count < MAX_WAITING as u64
                    && !is_too_much;
                if !has_room {
                    return false;
                }
                of_org.count += 1;
                self.count.store(count + 1, Ordering::Relaxed);
                new
            }
        };
        of_rule.insert(key, new);
        of_org.bytes = of_org_then;
        self.bytes.store(bytes_then, Ordering::Relaxed);
        true
    }

    fn take(&self) -> impl Iterator<Item = NewPresentation> {
        let taken = {
            let mut orgs = lock(&self.orgs);
            self.count.store(0, Ordering::Relaxed);
            self.bytes.store(0, Ordering::Relaxed);
            std::mem::take(&mut *orgs)
        };
        let outcome = self.outcome;
        taken.into_iter().flat_map(move |(org_id, of_org)| {
            of_org.rules.into_iter().flat_map(move |(rule_id, of_rule)| {
                of_rule.into_iter().map(move |((subject, failed_check), waiting)| NewPresentation {
                    org_id,
                    rule_id,
                    outcome,
                    subject,
                    failed_check,
                    audiences: waiting.audiences,
                    claims: waiting.claims,
                    count: waiting.count,
                    first_time: waiting.first_time,
                    last_time: waiting.last_time,
                })
            })
        })
    }
}

impl Presentations {
    pub fn new(db: Db) -> Self {
        Self {
            db,
            passed: Buffer::new(Outcome::Passed, MAX_PASSED_OF_RULE),
            refused: Buffer::new(Outcome::Refused, MAX_REFUSED_OF_RULE),
            lost: AtomicU64::new(0),
        }
    }

    /// An assertion passed all checks of the rule.
    pub fn passed(
        &self,
        credential: &Credential,
        federated: &Federated,
        claims: &Map<String, Value>,
        now: OffsetDateTime,
    ) {
        self.add(&self.passed, (credential, federated), String::new(), Some(claims), now);
    }

    /// An assertion failed a check. What it says counts only once its signature, issuer, audience and times are good.
    pub fn refused(
        &self,
        credential: &Credential,
        federated: &Federated,
        failed: RuleCheck,
        claims: &Map<String, Value>,
        now: OffsetDateTime,
    ) {
        let claims = failed.is_after_proof().then_some(claims);
        let failed = failed.recorded_name(&federated.matches);
        self.add(&self.refused, (credential, federated), failed, claims, now);
    }

    fn add(
        &self,
        to: &Buffer,
        (credential, federated): (&Credential, &Federated),
        failed: String,
        claims: Option<&Map<String, Value>>,
        now: OffsetDateTime,
    ) {
        let CredentialId::Rule(rule_id) = credential.credential_id else { return };
        let place = (credential.account.org_id, rule_id);
        let subject = claims.map(Recorded::subject_of).unwrap_or_default();
        let key = (subject.to_owned(), failed);
        if to.counts(place, &key, now) {
            return;
        }
        // Outside of the lock: it takes longer than all else.
        let recorded = claims.map(|claims| Recorded::of(claims, &federated.matches)).unwrap_or_default();
        let (Ok(audiences), Ok(claims)) =
            (serde_json::to_string(&recorded.audiences), serde_json::to_string(&recorded.claims))
        else {
            return;
        };
        let waiting =
            Waiting { audiences, claims, count: 1, first_time: now, last_time: now, recorded_time: now };
        if !to.add(place, key, waiting) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes what waits. What could not be written is left out: it is a help, and no record of accesses.
    ///
    /// # Errors
    /// `DATABASE_UNAVAILABLE`, or what was wrong with what one of the orgs has; that of others is written then.
    pub async fn flush(&self) -> Result<()> {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(lost, "presentations not counted: too many subjects came at once");
        }
        let mut all: Vec<NewPresentation> = self.passed.take().chain(self.refused.take()).collect();
        // So that nodes which write at the same time rarely deadlock.
        all.sort_unstable_by(|a, b| {
            let key = |new: &NewPresentation| (new.org_id, new.rule_id, new.outcome.name());
            (key(a), &a.subject, &a.failed_check).cmp(&(key(b), &b.subject, &b.failed_check))
        });
        let mut outcome = Ok(());
        for batch in all.chunks(BATCH) {
            let Err(error) = self.write(batch).await else { continue };
            if error.reason() == Reason::DatabaseUnavailable {
                return Err(error);
            }
            for of_org in batch.chunk_by(|a, b| a.org_id == b.org_id) {
                if let Err(error) = self.write(of_org).await {
                    let org_id = of_org.first().map(|new| new.org_id.to_string());
                    tracing::warn!(?error, org_id, "presentations of an org not written; they are left out");
                    outcome = Err(error);
                }
            }
        }
        outcome
    }

    /// Writes one batch, and deletes what is too much of the rules that have new subjects.
    async fn write(&self, batch: &[NewPresentation]) -> Result<()> {
        let mut grown = retrying(|| record_presentations(&self.db, batch)).await?;
        grown.sort_unstable();
        grown.dedup();
        for rules in grown.chunks(TRIMMED) {
            let trimmed: Result<(), Error> = async {
                let mut overfull = retrying(|| find_overfull(&self.db, rules)).await?;
                // Of both outcomes.
                overfull.sort_unstable();
                overfull.dedup();
                if !overfull.is_empty() {
                    retrying(|| trim_presentations(&self.db, &overfull)).await?;
                }
                Ok(())
            }
            .await;
            if let Err(error) = trimmed {
                // They are tried again with the next new subject, and deleted after 30 days.
                tracing::warn!(?error, "presentations not trimmed");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::access::credential::tests::now;

    fn waiting(bytes: usize, at: OffsetDateTime) -> Waiting {
        Waiting {
            audiences: "[]".to_owned(),
            claims: "x".repeat(bytes),
            count: 1,
            first_time: at,
            last_time: at,
            recorded_time: at,
        }
    }

    fn key(n: usize) -> Key {
        (n.to_string(), String::new())
    }

    fn place(org: u128, rule: u128) -> (OrgId, RuleId) {
        (OrgId::from_u128(org), RuleId::from_u128(rule))
    }

    #[test]
    fn a_rule_and_an_org_have_a_part_of_the_places() {
        let buffer = Buffer::new(Outcome::Refused, MAX_REFUSED_OF_RULE);
        let added = |org: u128, rules: std::ops::Range<u128>, bytes: usize| {
            let each = rules.flat_map(|rule| (0..200).map(move |n| (rule, n)));
            each.filter(|(rule, n)| buffer.add(place(org, *rule), key(*n), waiting(bytes, now()))).count()
        };
        assert_eq!(added(1, 0..1, 10), MAX_REFUSED_OF_RULE);
        assert_eq!(added(1, 1..100, 10), MAX_WAITING / PART_OF_ORG - MAX_REFUSED_OF_RULE);
        // Another org has places of its own, and what is known is counted.
        assert_eq!(added(2, 0..1, 10), MAX_REFUSED_OF_RULE);
        assert!(buffer.add(place(1, 0), key(0), waiting(10, now())));
        // Nor does one take all of the memory.
        let large = added(3, 0..100, 10_000);
        let bytes = lock(&buffer.orgs)[&OrgId::from_u128(3)].bytes;
        assert!(large > 100 && bytes <= MAX_BYTES / PART_OF_ORG, "{large} {bytes}");
        assert_eq!(added(4, 0..1, 10), MAX_REFUSED_OF_RULE);
        let all: Vec<_> = buffer.take().collect();
        assert_eq!(all.len(), MAX_WAITING / PART_OF_ORG + 2 * MAX_REFUSED_OF_RULE + large);
        assert_eq!(all.iter().map(|new| new.count).max(), Some(2));
        assert_eq!((buffer.count.into_inner(), buffer.bytes.into_inner()), (0, 0));
    }

    /// Small ones that grow take no more than new ones would.
    #[test]
    fn one_that_waits_grows_within_the_part_of_its_org() {
        let buffer = Buffer::new(Outcome::Passed, MAX_PASSED_OF_RULE);
        let bytes = |org: u128| lock(&buffer.orgs)[&OrgId::from_u128(org)].bytes;
        for round in 0..2_u16 {
            let later = now() + RECORDED_FOR * round;
            for n in 0..MAX_PASSED_OF_RULE {
                assert!(buffer.add(place(1, 1), key(n), waiting(10 + 10_000 * usize::from(round), later)));
            }
        }
        assert!(bytes(1) <= MAX_BYTES / PART_OF_ORG, "{}", bytes(1));
        assert_eq!(buffer.bytes.load(Ordering::Relaxed), bytes(1) as u64);
        // Where there is no room a smaller one takes its place, and another org has its own.
        assert!(buffer.add(place(1, 1), key(0), waiting(20, now())));
        assert!(buffer.add(place(2, 1), key(0), waiting(10_000, now())));
        let (mut large, mut counts) = (0, Vec::new());
        for new in buffer.take().filter(|new| new.org_id == OrgId::from_u128(1)) {
            large += usize::from(new.claims.len() > 5_000);
            counts.push(new.count);
            assert_eq!(new.last_time, now() + RECORDED_FOR);
        }
        assert!((100..250).contains(&large), "{large}");
        assert_eq!((counts.len(), counts.iter().sum::<i64>()), (MAX_PASSED_OF_RULE, 2_001));
    }

    #[test]
    fn what_is_recorded_is_that_of_the_last_one() {
        let buffer = Buffer::new(Outcome::Passed, MAX_PASSED_OF_RULE);
        let later = now() + RECORDED_FOR;
        assert!(!buffer.counts(place(1, 1), &key(1), now()));
        buffer.add(place(1, 1), key(1), waiting(1, now()));
        assert!(buffer.counts(place(1, 1), &key(1), later - Duration::milliseconds(1)));
        assert!(!buffer.counts(place(1, 1), &key(1), later));
        assert!(!buffer.counts(place(2, 1), &key(1), now()));
        buffer.add(place(1, 1), key(1), waiting(5, later));
        assert_eq!(buffer.bytes.load(Ordering::Relaxed), waiting(5, later).weight(&key(1)) as u64);
        let all: Vec<_> = buffer.take().collect();
        let [one] = &all[..] else { panic!("{all:?}") };
        assert_eq!((one.count, one.claims.len()), (3, 5));
        assert_eq!((one.first_time, one.last_time), (now(), later));
    }
}
