//! What was presented to rules, buffered in memory and written in batches.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value};
use time::OffsetDateTime;

use crate::db::federation::uses::{NewPresentation, record_presentations, trim_presentations};
use crate::db::pool::Db;
use crate::db::retrying;
use crate::domain::access::credential::Credential;
use crate::domain::federation::assertion::RuleCheck;
use crate::domain::federation::claims::Recorded;
use crate::domain::federation::federated::Federated;
use crate::domain::federation::presentation::Outcome;
use crate::domain::values::ids::{CredentialId, OrgId, RuleId};
use crate::error::Result;

/// The most subjects that wait to be written, of those that passed, and of those that did not.
const MAX_WAITING: usize = 10_000;
/// The most subjects in one statement.
const BATCH: usize = 1_000;

/// A rule, with the subject and the check that failed; empty where it passed.
type Key = (OrgId, RuleId, String, String);

#[derive(Debug)]
struct Waiting {
    recorded: Recorded,
    count: i64,
    first_time: OffsetDateTime,
    last_time: OffsetDateTime,
}

/// What was presented and waits to be written.
pub struct Presentations {
    db: Db,
    passed: Mutex<HashMap<Key, Waiting>>,
    /// In places of their own: those that never passed take none from those that did.
    refused: Mutex<HashMap<Key, Waiting>>,
    /// Those that were left out for lack of room since that was last logged.
    lost: AtomicU64,
}

impl Presentations {
    pub fn new(db: Db) -> Self {
        Self { db, passed: Mutex::default(), refused: Mutex::default(), lost: AtomicU64::new(0) }
    }

    /// An assertion passed all checks of the rule.
    pub fn passed(&self, credential: &Credential, claims: &Map<String, Value>, now: OffsetDateTime) {
        self.add(&self.passed, credential, "", Some(claims), now);
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
        self.add(&self.refused, credential, &failed.name(Some(&federated.matches)), claims, now);
    }

    fn add(
        &self,
        to: &Mutex<HashMap<Key, Waiting>>,
        credential: &Credential,
        failed: &str,
        claims: Option<&Map<String, Value>>,
        now: OffsetDateTime,
    ) {
        let CredentialId::Rule(rule_id) = credential.credential_id else { return };
        let subject = claims.map(Recorded::subject_of).unwrap_or_default();
        let key = (credential.account.org_id, rule_id, subject.to_owned(), failed.to_owned());
        let mut waiting = lock(to);
        if let Some(known) = waiting.get_mut(&key) {
            known.count += 1;
            known.last_time = known.last_time.max(now);
        } else if waiting.len() >= MAX_WAITING {
            self.lost.fetch_add(1, Ordering::Relaxed);
        } else {
            let recorded = claims.map(Recorded::of).unwrap_or_default();
            waiting.insert(key, Waiting { recorded, count: 1, first_time: now, last_time: now });
        }
    }

    /// Writes what waits. What could not be written is left out: it is a help, and no record of accesses.
    ///
    /// # Errors
    /// `DATABASE_UNAVAILABLE`, or `CONFLICT` with other nodes through all retries.
    pub async fn flush(&self) -> Result<()> {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(lost, "presentations not counted: too many subjects came at once");
        }
        let taken = |from: &Mutex<HashMap<Key, Waiting>>, outcome: Outcome| {
            let waiting = std::mem::take(&mut *lock(from));
            waiting.into_iter().map(move |((org_id, rule_id, _, failed_check), waiting)| NewPresentation {
                org_id,
                rule_id,
                outcome,
                failed_check,
                recorded: waiting.recorded,
                count: waiting.count,
                first_time: waiting.first_time,
                last_time: waiting.last_time,
            })
        };
        let mut all: Vec<NewPresentation> = taken(&self.passed, Outcome::Passed).collect();
        all.extend(taken(&self.refused, Outcome::Refused));
        // So that nodes which write at the same time rarely deadlock.
        all.sort_unstable_by(|a, b| {
            let key = |new: &NewPresentation| (new.org_id, new.rule_id, new.outcome.name());
            (key(a), &a.recorded.subject, &a.failed_check).cmp(&(
                key(b),
                &b.recorded.subject,
                &b.failed_check,
            ))
        });
        for batch in all.chunks(BATCH) {
            let rules: BTreeSet<(OrgId, RuleId)> =
                batch.iter().map(|new| (new.org_id, new.rule_id)).collect();
            let rules: Vec<_> = rules.into_iter().collect();
            retrying(|| record_presentations(&self.db, batch)).await?;
            retrying(|| trim_presentations(&self.db, &rules)).await?;
        }
        Ok(())
    }
}

/// No code under these locks panics half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
