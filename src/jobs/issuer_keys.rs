//! Fetches the keys of issuers before they are old, and stores what was fetched.

use std::time::Duration;

use super::context::JobContext;
use crate::db::events::{Author, Change, FieldChange};
use crate::db::federation::{fetches, rules};
use crate::db::orgs;
use crate::domain::federation::fetching::{FetchFacts, FetchOutcome};
use crate::domain::values::subject::Subject;
use crate::error::{Reason, Result};
use crate::flows::transaction::transact;
use crate::state::State;

/// Looks in each period for keys that are due, and stores an outcome as soon as there is one.
pub(super) async fn run(context: JobContext, period: Duration) {
    let keys = &context.state.issuer_keys;
    let mut ticks = context.ticks(period);
    loop {
        tokio::select! {
            () = ticks.next() => keys.refresh_due(),
            () = keys.fetched() => {}
        }
        if !context.state.feed.answers() {
            continue;
        }
        let mut outcome = Ok(());
        for fetched in keys.take_outcomes() {
            if let Err(error) = store(&context.state, &fetched).await {
                tracing::warn!(?error, issuer_id = %fetched.issuer_id, "fetched keys not stored; it is retried");
                keys.put_back(fetched);
                outcome = Err(error);
            }
        }
        context.ran(&outcome);
    }
}

/// Stores what became of a fetch.
async fn store(state: &State, fetched: &FetchOutcome) -> Result<()> {
    let (place, version) = ((fetched.org_id, fetched.issuer_id), fetched.version);
    match &fetched.result {
        Err(error) => {
            let mut tx = state.db.begin_job().await?;
            fetches::record_failure(&mut *tx, place, version, *error, fetched.time).await?;
            tx.commit().await?;
            Ok(())
        }
        Ok(facts) => {
            let mut tx = state.db.begin_job().await?;
            let before = fetches::find_thumbprints(&mut *tx, place.0, place.1, version).await?;
            if before.as_ref() == Some(&facts.thumbprints) || before.is_none() {
                fetches::record_keys(&mut *tx, place, version, facts, fetched.time).await?;
                return Ok(tx.commit().await?);
            }
            drop(tx);
            store_changed(state, fetched, facts).await
        }
    }
}

/// Stores keys that are others than before. What a key vouched for that is gone is stale: the JWTs of all rules of
/// the issuer, since a JWT does not say which key it owes itself to.
async fn store_changed(state: &State, fetched: &FetchOutcome, facts: &FetchFacts) -> Result<()> {
    let (org_id, issuer_id) = (fetched.org_id, fetched.issuer_id);
    transact!(state, Author::server(org_id), |mut tx| {
        match orgs::lock(&mut tx, org_id).await {
            // It was purged meanwhile.
            Err(error) if error.reason() == Reason::ResourceNotFound => return Ok(()),
            locked => drop(locked?),
        }
        let before = fetches::find_thumbprints(&mut *tx, org_id, issuer_id, fetched.version).await?;
        let Some(before) = before else { return Ok(()) };
        fetches::record_keys(&mut *tx, (org_id, issuer_id), fetched.version, facts, fetched.time).await?;
        if before != facts.thumbprints {
            let gone = before.iter().any(|known| !facts.thumbprints.contains(known));
            let stale =
                if gone { rules::raise_versions(&mut tx, org_id, issuer_id).await? } else { Vec::new() };
            let keys = FieldChange::of_lists("keys", &before, &facts.thumbprints);
            let change = Change::of("issuer.keys_changed", [issuer_id]).fields(keys);
            tx.record(change.subjects([Subject::Issuer(issuer_id)]).subjects(stale)).await?;
        }
        tx.commit().await
    })
}
