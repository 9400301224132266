//! `ListSigningKeys`, `RotateSigningKey`, `RevokeSigningKey`.

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{messages, verifiers};
use crate::crypto::key_pair::NewKey;
use crate::db;
use crate::db::events::{Actor, EventValue, FieldChange};
use crate::db::keys::signing_keys::{SigningKey, parse_place};
use crate::domain::signing_keys::{KeyState, is_kid};
use crate::domain::values::ids::SYSTEM_ORG;
use crate::domain::values::permissions::Permission;
use crate::error::{Error, Result, Violations};
use crate::flows::signing_key_rotation;
use crate::flows::transaction::transact;
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::grpc::pb::RevokeReason;
use crate::grpc::wire::convert;
use crate::grpc::wire::page_token::Paging;
use crate::state::State;

/// The most verifiers that are named.
const MOST_PENDING: i64 = 200;

pub async fn list_signing_keys(
    state: &State,
    call: &Call,
    request: pb::ListSigningKeysRequest,
) -> Result<pb::ListSigningKeysResponse> {
    let caller = call.caller()?;
    caller.require_platform(&Permission::PLATFORM_KEYS)?;
    let acting = caller.acting_in(None)?;
    let filter = pb::ListSigningKeysRequest::default();
    let paging =
        Paging::read(state, &acting, "ListSigningKeys", &filter, request.page_size, &request.page_token)?;
    let mut db = call.read(state).await?;
    let page = db::keys::signing_keys::page(&mut db, paging.after(parse_place), paging.size).await?;
    let page = paging.answer(state, page, |key| Ok(messages::signing_key(&key)))?;
    Ok(pb::ListSigningKeysResponse {
        signing_keys: page.items,
        next_page_token: page.next_page_token,
        total_size: page.total_size,
    })
}

pub async fn rotate_signing_key(
    state: &State,
    call: &Call,
    request: pb::RotateSigningKeyRequest,
) -> Result<pb::RotateSigningKeyResponse> {
    let caller = call.caller()?;
    caller.require_platform(&Permission::PLATFORM_KEYS)?;
    // Created beforehand, needed or not, so that the lock is not held meanwhile.
    let fresh = NewKey::make(&state.keyring.master, state.keyring.signing_algorithm).await?;
    transact!(state, Actor::from(caller).in_org(SYSTEM_ORG), |mut tx| {
        tx.lock_org().await?;
        let keys =
            db::keys::find_signing_keys(&mut *tx, &state.keyring.master).await.map_err(Error::internal)?;
        let next = keys.key_times().iter().find(|key| key.state == KeyState::Next);
        let (kid, change) = match (next, request.activate_now) {
            (Some(next), false) => (&next.kid, None),
            (Some(next), true) => {
                (&next.kid, Some(signing_key_rotation::activate(state, &mut tx, &next.kid).await?))
            }
            (None, false) => (&fresh.kid, Some(signing_key_rotation::publish(&mut tx, &fresh).await?)),
            (None, true) => (&fresh.kid, Some(signing_key_rotation::replace(state, &mut tx, &fresh).await?)),
        };
        let key = db::keys::signing_keys::find(&mut *tx, kid).await?;
        if let Some(change) = change {
            tx.record(change).await?;
            tx.commit().await?;
        }
        Ok(pb::RotateSigningKeyResponse { signing_key: key.as_ref().map(messages::signing_key) })
    })
}

pub async fn revoke_signing_key(
    state: &State,
    call: &Call,
    request: pb::RevokeSigningKeyRequest,
) -> Result<pb::RevokeSigningKeyResponse> {
    let caller = call.caller()?;
    caller.require_platform(&Permission::PLATFORM_KEYS)?;
    let mut violations = Violations::default();
    if !is_kid(&request.kid) {
        violations.add("kid", "must be the id of a key: 43 characters, base64url");
    }
    let reason = RevokeReason::try_from(request.reason).map_err(|_| "is not a known reason");
    let reason = violations.check("reason", reason);
    let (reason,) = violations.all((reason,))?;
    let reason = convert::revoke_reason_name(reason);
    let kid = request.kid.as_str();
    if request.validate_only {
        let mut db = call.read(state).await?;
        let key = db::keys::signing_keys::find(&mut *db, kid).await?;
        let key = key.ok_or_else(|| Error::not_found("signing key", kid))?;
        return with_pending(&mut db, kid, &key, state.clock.now()).await;
    }
    // Created beforehand, needed or not, so that the lock is not held meanwhile.
    let fresh = NewKey::make(&state.keyring.master, state.keyring.signing_algorithm).await?;
    transact!(state, Actor::from(caller).in_org(SYSTEM_ORG), |mut tx| {
        let now = tx.now();
        tx.lock_org().await?;
        let key = db::keys::signing_keys::find(&mut *tx, kid).await?;
        let key = key.ok_or_else(|| Error::not_found("signing key", kid))?;
        // Here, and not once it is committed: a refusal then would be of a key that is revoked.
        let mut answer = with_pending(&mut tx, kid, &key, now).await?;
        if key.state() == Some(KeyState::Revoked) {
            return Ok(answer);
        }
        db::keys::signing_keys::revoke(&mut tx, kid, reason, now).await?;
        let mut kids = vec![kid.to_owned()];
        let mut fields = vec![
            FieldChange {
                field: "state",
                old_value: key.state().map(|state| state.event_value()),
                new_value: Some(KeyState::Revoked.event_value()),
            },
            FieldChange::set("revoke_reason", format!("REVOKE_REASON_{reason}")),
        ];
        if key.state() == Some(KeyState::Active) {
            // Never the next key: an attacker who took the active key may have taken that one,
            // too.
            db::keys::signing_keys::insert(&mut tx, &fresh, KeyState::Active, now).await?;
            kids.push(fresh.kid.clone());
            fields.push(FieldChange {
                field: "active_kid",
                old_value: Some(kid.to_owned()),
                new_value: Some(fresh.kid.clone()),
            });
        }
        let revoked = db::keys::signing_keys::find(&mut *tx, kid).await?;
        let revoked = revoked.ok_or_else(|| Error::internal("a revoked key is gone"))?;
        let change = signing_key_rotation::change("signing_key.revoked", kids, fields);
        tx.record(change).await?;
        tx.commit().await?;
        answer.signing_key = Some(messages::signing_key(&revoked));
        Ok(answer)
    })
}

/// The answer about a key, with the verifiers that hold it, as they last said.
async fn with_pending(
    db: &mut PgConnection,
    kid: &str,
    key: &SigningKey,
    now: OffsetDateTime,
) -> Result<pb::RevokeSigningKeyResponse> {
    let pending = db::verifiers::find_holding(db, SYSTEM_ORG, kid, MOST_PENDING, now).await?;
    let count = db::verifiers::count_holding(db, kid, now).await?;
    Ok(pb::RevokeSigningKeyResponse {
        signing_key: Some(messages::signing_key(key)),
        verifiers_pending: pending.into_iter().map(|verifier| verifiers::message(verifier, now)).collect(),
        pending_count: i32::try_from(count).unwrap_or(i32::MAX),
    })
}
