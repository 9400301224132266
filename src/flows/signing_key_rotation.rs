//! Scheduled changes of signing keys and peppers.
//!
//! Any node may make them, and there is no leader: each reads the rows again under the lock of the
//! system org, and does what is due then.

use super::transaction::{Transaction, transact};
use crate::crypto::key_pair::{NewKey, can_sign};
use crate::db;
use crate::db::events::{Author, Change, FieldChange};
use crate::domain::signing_keys::{KeyAction, KeyState, due};
use crate::domain::values::ids::SYSTEM_ORG;
use crate::domain::values::subject::Subject;
use crate::error::{Error, Reason, Result};
use crate::state::State;

/// Carries out what is due for the signing keys. While nothing is due, the database is not
/// queried.
pub async fn rotate_signing_keys(state: &State, lifetime: time::Duration) -> Result<()> {
    while let Some(step) = due(&state.keyring.signer.key_times(), state.clock.now(), lifetime) {
        if !carry_out(state, &step, lifetime).await? {
            // Another node did it, or it is not due yet: the keys in memory were outdated.
            return state.keyring.reload().await.map_err(Error::internal);
        }
    }
    Ok(())
}

async fn carry_out(state: &State, step: &KeyAction, lifetime: time::Duration) -> Result<bool> {
    // Created beforehand, so that the lock is not held meanwhile.
    let fresh = match step {
        KeyAction::Publish => {
            Some(NewKey::make(&state.keyring.master, state.keyring.signing_algorithm).await?)
        }
        KeyAction::Activate { .. } | KeyAction::Unpublish { .. } => None,
    };
    transact!(state, Author::server(SYSTEM_ORG), |mut tx| {
        let now = tx.now();
        match db::orgs::lock(&mut tx, SYSTEM_ORG).await {
            // Before `bootstrap` there is no log to write to, and no account to sign for.
            Err(error) if error.reason() == Reason::ResourceNotFound => return Ok(false),
            locked => drop(locked?),
        }
        let keys =
            db::keys::find_signing_keys(&mut *tx, &state.keyring.master).await.map_err(Error::internal)?;
        if due(keys.key_times(), now, lifetime).as_ref() != Some(step) {
            return Ok(false);
        }
        let change = match (step, &fresh) {
            (KeyAction::Publish, Some(fresh)) => publish(&mut tx, fresh).await?,
            (KeyAction::Publish, None) => return Err(Error::internal("no key was made to publish")),
            (KeyAction::Activate { kid }, _) => activate(state, &mut tx, kid).await?,
            (KeyAction::Unpublish { kid }, _) => unpublish(&mut tx, kid).await?,
        };
        tracing::info!(kind = change.kind(), kids = ?change.resource_ids(), "signing key rotated");
        tx.record(change).await?;
        tx.commit().await?;
        Ok(true)
    })
}

/// An event about keys in the log of the system org, which every node is notified of.
pub fn change(kind: &'static str, kids: Vec<String>, fields: Vec<FieldChange>) -> Change {
    Change::of(kind, kids).fields(fields).subjects([Subject::Keys])
}

/// Publishes a new key as the next one.
pub async fn publish(tx: &mut Transaction<'_>, fresh: &NewKey) -> Result<Change> {
    let now = tx.now();
    db::keys::signing_keys::insert(tx, fresh, KeyState::Next, now).await?;
    let fields = vec![
        FieldChange::set("algorithm", fresh.algorithm.name()),
        FieldChange::set("state", KeyState::Next),
    ];
    Ok(change("signing_key.created", vec![fresh.kid.clone()], fields))
}

/// Lets the next key sign, and the active one retire.
pub async fn activate(state: &State, tx: &mut Transaction<'_>, kid: &str) -> Result<Change> {
    let now = tx.now();
    let sealed = db::keys::signing_keys::find_sealed(&mut **tx, kid).await?;
    if !sealed.is_some_and(|sealed| can_sign(&state.keyring.master, kid, &sealed)) {
        return Err(Error::internal(format!("signing key {kid} cannot sign: revoke it")));
    }
    let former = db::keys::signing_keys::retire_active(tx, &state.keyring.master, now).await?;
    db::keys::signing_keys::activate(tx, kid, now).await?;
    Ok(activated(former, kid.to_owned()))
}

/// Lets a new key sign at once, and the active one retire.
pub async fn replace(state: &State, tx: &mut Transaction<'_>, fresh: &NewKey) -> Result<Change> {
    let now = tx.now();
    let former = db::keys::signing_keys::retire_active(tx, &state.keyring.master, now).await?;
    db::keys::signing_keys::insert(tx, fresh, KeyState::Active, now).await?;
    Ok(activated(former, fresh.kid.clone()))
}

fn activated(former: String, kid: String) -> Change {
    let fields = vec![FieldChange {
        field: "active_kid",
        old_value: Some(former.clone()),
        new_value: Some(kid.clone()),
    }];
    change("signing_key.activated", vec![kid, former], fields)
}

async fn unpublish(tx: &mut Transaction<'_>, kid: &str) -> Result<Change> {
    db::keys::signing_keys::delete_retiring(tx, kid).await?;
    let fields = vec![FieldChange::cleared("state", KeyState::Retiring)];
    Ok(change("signing_key.retired", vec![kid.to_owned()], fields))
}

/// Drops the peppers that are not the newest and that no active token's secret names.
/// Returns their numbers.
pub async fn drop_peppers(state: &State) -> Result<Vec<i32>> {
    let peppers = state.keyring.peppers.load_full();
    let Some(newest) = peppers.newest().filter(|_| peppers.numbers().count() > 1) else {
        return Ok(Vec::new());
    };
    let now = state.clock.now();
    // Not under the lock: it may take a while, and no secret is hashed under an old pepper any
    // more.
    let unused = db::keys::peppers::find_unused(&mut *state.db.begin_job().await?, newest, now).await?;
    if unused.is_empty() {
        return Ok(unused);
    }
    let mut tx = Transaction::begin(state, Author::server(SYSTEM_ORG)).await?;
    db::orgs::lock(&mut tx, SYSTEM_ORG).await?;
    let dropped = db::keys::peppers::delete(&mut tx, &unused).await?;
    if !dropped.is_empty() {
        let names = dropped.iter().map(|number| format!("pepper/{number}")).collect();
        tx.record(change("pepper.dropped", names, Vec::new())).await?;
        tx.commit().await?;
    }
    Ok(dropped)
}
