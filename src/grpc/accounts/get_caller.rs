//! `GetCaller`: the calling account, and the credential and rights it acts with.

use super::messages;
use crate::db;
use crate::db::tokens::Token;
use crate::domain::tokens::secrets::shown;
use crate::domain::values::ids::CredentialId;
use crate::error::{Error, Result};
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::grpc::wire::{answer_size, convert, org};
use crate::state::State;

pub async fn get_caller(
    state: &State,
    call: &Call,
    _: pb::GetCallerRequest,
) -> Result<pb::GetCallerResponse> {
    let caller = call.caller()?;
    let mut db = call.read(state).await?;
    let account = db::accounts::find(&mut *db, caller.account_home(), caller.account_id()).await?;
    let account = account.ok_or_else(|| Error::not_found("account", caller.account_id()))?;
    let org = db::orgs::find(&mut *db, caller.home()).await?;
    let org = org.ok_or_else(|| Error::not_found("org", caller.home()))?;
    let token = match caller.credential_id() {
        CredentialId::Token(id) => db::tokens::find(&mut *db, caller.credential_org(), id).await?,
        CredentialId::Session(_) | CredentialId::Rule(_) => None,
    };
    let secret = token.as_ref().map(|token| presented(token, caller.secret())).transpose()?.flatten();
    let rules = org.policy()?.within(&state.ceilings);
    let renews = token.as_ref().filter(|token| token.may_manage_tokens && caller.actor_id().is_none());
    let lifetime = renews.map(Token::lifetime).transpose()?;
    let renewable_from = lifetime.and_then(|lifetime| lifetime.renewable_from(&rules));
    Ok(pb::GetCallerResponse {
        account: Some(messages::account(&account)?),
        org: Some(org::message(&org, &state.ceilings)?),
        permissions: answer_size::fitting_texts(caller.permissions(), answer_size::MOST),
        impersonator_id: caller.actor_id().map(|id| id.to_string()).unwrap_or_default(),
        credential_id: caller.credential_id().to_string(),
        secret_obfuscated: secret.unwrap_or_default(),
        renewable_from: renewable_from.map(convert::timestamp),
        credential_expire_time: caller.credential_end().map(convert::timestamp),
    })
}

/// The obfuscated form of the secret of a token with this number.
fn presented(token: &Token, number: Option<i32>) -> Result<Option<String>> {
    let kind = token.kind()?;
    let secret = token.secrets().find(|secret| Some(secret.number) == number);
    Ok(secret.map(|secret| shown(kind, token.id(), secret.hint)))
}
