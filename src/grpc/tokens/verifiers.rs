//! `AcknowledgeRevocations` and `ListVerifiers`: what the programs that verify JWTs offline hold.

use time::OffsetDateTime;

use super::watch_revocations::{RPC, may_watch};
use crate::db;
use crate::db::verifiers::{Acknowledgement, Verifier, parse_place};
use crate::domain::signing_keys::is_kid;
use crate::domain::values::ids::AccountId;
use crate::domain::values::names::DisplayName;
use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::Node;
use crate::error::{Result, Violations};
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::grpc::streams::cursor;
use crate::grpc::wire::convert;
use crate::grpc::wire::page_token::Paging;
use crate::state::State;

/// The most keys that a verifier holds.
const MOST_KEYS: usize = 20;

pub async fn acknowledge_revocations(
    state: &State,
    call: &Call,
    request: pb::AcknowledgeRevocationsRequest,
) -> Result<pb::AcknowledgeRevocationsResponse> {
    let caller = call.caller()?;
    may_watch(caller)?;
    let mut violations = Violations::default();
    let name = violations.check("verifier_name", DisplayName::parse(&request.verifier_name));
    let kid = |text: &str| match is_kid(text) {
        true => Ok(text.to_owned()),
        false => Err("must be the id of a key: 43 characters, base64url"),
    };
    let mut held = violations.check_each("held_key_ids", &request.held_key_ids, MOST_KEYS, kid);
    let (name,) = violations.all((name,))?;
    let org_id = caller.home();
    let cursor = convert::optional(&request.cursor, |text| cursor::open_any(state, RPC, org_id, text))?;
    held.sort_unstable();
    held.dedup();
    let key = (org_id, caller.credential_id(), name.to_string());
    if state.verifiers.is_due(&key, &held) {
        let said = Acknowledgement {
            org_id,
            credential_id: caller.credential_id(),
            account_id: caller.account_id(),
            name: name.as_str(),
            cursor_time: cursor.map(|cursor| cursor.time),
            held_key_ids: &held,
        };
        let mut db = call.read(state).await?;
        db::verifiers::acknowledge(&mut db, &said, state.clock.now()).await?;
        state.verifiers.written(key, held);
    }
    Ok(pb::AcknowledgeRevocationsResponse {})
}

pub async fn list_verifiers(
    state: &State,
    call: &Call,
    request: pb::ListVerifiersRequest,
) -> Result<pb::ListVerifiersResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    acting.require(&Permission::TOKENS_INTROSPECT, &Node::Org)?;
    let filter = pb::ListVerifiersRequest::default();
    let paging =
        Paging::read(state, &acting, "ListVerifiers", &filter, request.page_size, &request.page_token)?;
    let now = state.clock.now();
    let mut db = call.read(state).await?;
    let page = db::verifiers::page(
        &mut db,
        acting.org_id,
        paging.after.as_deref().and_then(parse_place),
        paging.size,
        now,
    )
    .await?;
    let page = paging.answer(state, page, |verifier| Ok(message(verifier, now)))?;
    Ok(pb::ListVerifiersResponse {
        verifiers: page.items,
        next_page_token: page.next_page_token,
        total_size: page.total_size,
    })
}

/// The message for a verifier.
pub(super) fn message(verifier: Verifier, now: OffsetDateTime) -> pb::Verifier {
    let lag = |time: OffsetDateTime| (now - time).max(time::Duration::ZERO).unsigned_abs();
    pb::Verifier {
        account_id: AccountId::from(verifier.account_id).to_string(),
        verifier_name: verifier.name,
        cursor_lag: verifier.cursor_time.map(|time| convert::proto_duration(lag(time))),
        held_key_ids: verifier.held_key_ids,
        last_seen_time: Some(convert::timestamp(verifier.seen_time)),
        credential_id: verifier.credential_id,
    }
}
