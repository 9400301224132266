//! Fetches the keys of issuers before they are old, and stores what was fetched.

use std::collections::{BTreeSet, HashSet};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::task::JoinSet;

use super::context::JobContext;
use crate::db::events::{Author, Change, FieldChange};
use crate::db::federation::fetches::{self, LastFetch};
use crate::db::federation::rules;
use crate::db::orgs;
use crate::db::within;
use crate::domain::federation::fetching::{BETWEEN_CHANGES, FetchFacts, FetchOutcome, is_ahead};
use crate::domain::values::ids::OrgId;
use crate::domain::values::subject::Subject;
use crate::error::{Reason, Result};
use crate::flows::transaction::transact;
use crate::state::State;

/// How many orgs' outcomes are stored at once.
const ORGS_AT_ONCE: usize = 8;
/// How long one may take. An org that keeps its own row busy waits for itself.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an org's outcomes wait after one of them could not be stored.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// Looks in each period for keys that are due, and stores an outcome as soon as there is one. Neither waits for the
/// other.
pub(super) async fn run(context: JobContext, period: Duration) {
    let refreshing = async {
        let mut ticks = context.ticks(period);
        loop {
            ticks.next().await;
            context.state.issuer_keys.refresh_due();
        }
    };
    // One task for both: a panic in either of them is a panic of the job.
    tokio::join!(refreshing, store_all(&context, period));
}

/// Stores outcomes, of several orgs at once: none waits for what holds up another one.
async fn store_all(context: &JobContext, period: Duration) {
    let keys = &context.state.issuer_keys;
    let mut ticks = context.ticks(period);
    let (mut at_work, mut orgs) = (JoinSet::new(), HashSet::new());
    let mut outcome = Ok(());
    loop {
        tokio::select! {
            () = ticks.next() => {
                if context.state.feed.answers() {
                    context.ran(&std::mem::replace(&mut outcome, Ok(())));
                }
            }
            () = keys.fetched() => {}
            Some(done) = at_work.join_next() => match done {
                Ok((org_id, stored)) => {
                    orgs.remove(&org_id);
                    outcome = outcome.and(stored);
                }
                Err(panicked) => resume_unwind(panicked.into_panic()),
            },
        }
        while context.state.feed.answers()
            && at_work.len() < ORGS_AT_ONCE
            && let Some((org_id, outcomes)) = keys.take_outcomes(&orgs)
        {
            orgs.insert(org_id);
            let state = context.state.clone();
            at_work.spawn(async move { (org_id, store_of_org(state, org_id, outcomes).await) });
        }
    }
}

/// Stores the outcomes of one org, up to the first that cannot be.
async fn store_of_org(state: Arc<State>, org_id: OrgId, outcomes: Vec<FetchOutcome>) -> Result<(), ()> {
    let mut outcomes = outcomes.into_iter();
    while let Some(fetched) = outcomes.next() {
        match within(STORE_TIMEOUT, store(&state, &fetched)).await {
            Ok(None) => {}
            Ok(Some(pause)) => state.issuer_keys.put_back(fetched, pause),
            Err(error) => {
                tracing::warn!(?error, %org_id, issuer_id = %fetched.issuer_id, "fetched keys not stored; it is retried");
                for waiting in [fetched].into_iter().chain(outcomes) {
                    state.issuer_keys.put_back(waiting, AFTER_FAILURE);
                }
                return Err(());
            }
        }
    }
    Ok(())
}

/// Stores what became of a fetch; or says after which pause it may be.
async fn store(state: &State, fetched: &FetchOutcome) -> Result<Option<Duration>> {
    let (place, version) = ((fetched.org_id, fetched.issuer_id), fetched.version);
    let now = state.clock.now();
    let mut tx = state.db.begin_job().await?;
    match &fetched.result {
        Err(error) => fetches::record_failure(&mut *tx, place, version, *error, (fetched.time, now)).await?,
        Ok(facts) => {
            let last = fetches::find_last(&mut *tx, place.0, place.1, version).await?;
            if let Some(last) = last.filter(|last| is_changed(last, fetched, facts, now)) {
                drop(tx);
                let since = last.change_time.map_or(BETWEEN_CHANGES, |at| (now - at).unsigned_abs());
                return match BETWEEN_CHANGES.checked_sub(since) {
                    None | Some(Duration::ZERO) => store_changed(state, fetched, facts).await.map(|()| None),
                    Some(pause) => Ok(Some(pause)),
                };
            }
            fetches::record_keys(&mut *tx, place, version, facts, (fetched.time, now), None).await?;
        }
    }
    tx.commit().await?;
    Ok(None)
}

/// Whether the keys are others than those that are stored, or one of these was away in between.
fn is_changed(last: &LastFetch, fetched: &FetchOutcome, facts: &FetchFacts, now: OffsetDateTime) -> bool {
    let is_older = last.time.is_some_and(|time| fetched.time <= time && !is_ahead(time, now));
    let stored = last.thumbprints.as_ref();
    !is_older
        && stored
            .is_some_and(|stored| *stored != facts.thumbprints || !gone(stored, fetched, facts).is_empty())
}

/// The keys among those that are stored that went, also those that are back.
fn gone(stored: &[String], fetched: &FetchOutcome, facts: &FetchFacts) -> BTreeSet<String> {
    let went = |known: &&String| !facts.thumbprints.contains(known) || fetched.gone.contains(*known);
    stored.iter().filter(went).cloned().collect()
}

/// Stores keys that are others than before. What a key vouched for that is gone is stale: the JWTs of all rules of
/// the issuer, since a JWT does not say which key it owes itself to.
async fn store_changed(state: &State, fetched: &FetchOutcome, facts: &FetchFacts) -> Result<()> {
    let (org_id, issuer_id, version) = (fetched.org_id, fetched.issuer_id, fetched.version);
    transact!(state, Author::server(org_id), |mut tx| {
        match orgs::lock(&mut tx, org_id).await {
            // It was purged meanwhile.
            Err(error) if error.reason() == Reason::ResourceNotFound => return Ok(()),
            locked => drop(locked?),
        }
        let last = fetches::find_last(&mut *tx, org_id, issuer_id, version).await?;
        let Some(before) = last.and_then(|last| last.thumbprints) else { return Ok(()) };
        let now = tx.now();
        let place = (org_id, issuer_id);
        let stored = fetches::record_keys(&mut *tx, place, version, facts, (fetched.time, now), Some(now));
        if !stored.await? {
            // Another node has fetched them since.
            return Ok(());
        }
        let stale = match gone(&before, fetched, facts).is_empty() {
            true => Vec::new(),
            false => rules::raise_versions(&mut tx, org_id, issuer_id).await?,
        };
        let keys = FieldChange::of_lists("keys", &before, &facts.thumbprints);
        let change = Change::of("issuer.keys_changed", [issuer_id]).fields(keys);
        tx.record(change.subjects([Subject::Issuer(issuer_id)]).subjects(stale)).await?;
        tx.commit().await
    })
}
