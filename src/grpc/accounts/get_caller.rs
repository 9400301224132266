//! `GetCaller`: the calling account, and the credential and rights it acts with.

use super::messages;
use crate::db;
use crate::error::{Error, Result};
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::grpc::wire::{answer_size, org};
use crate::state::State;

pub async fn get_caller(
    state: &State,
    call: &Call,
    _: pb::GetCallerRequest,
) -> Result<pb::GetCallerResponse> {
    let caller = call.caller()?;
    let mut db = state.db.acquire().await?;
    let account = db::accounts::find(&mut *db, caller.account_home(), caller.account_id()).await?;
    let account = account.ok_or_else(|| Error::not_found("account", caller.account_id()))?;
    let org = db::orgs::find(&mut *db, caller.home()).await?;
    let org = org.ok_or_else(|| Error::not_found("org", caller.home()))?;
    Ok(pb::GetCallerResponse {
        account: Some(messages::account(&account)?),
        org: Some(org::message(&org, &state.ceilings)?),
        permissions: answer_size::fitting_texts(caller.permissions(), answer_size::MOST),
        actor: caller.actor_id().map(|id| id.to_string()).unwrap_or_default(),
        credential_id: caller.credential_id().to_string(),
    })
}
