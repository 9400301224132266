//! `RevokeToken` and `RevokeAccountTokens`: permanent revocation by id, by the token string, or
//! of all tokens of an account.

use std::collections::BTreeSet;

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::compromise::{Stopped, stop};
use super::{messages, sessions};
use crate::db;
use crate::db::events::{Actor, Change, FieldChange};
use crate::db::references;
use crate::domain::access::acting::Acting;
use crate::domain::limits::Limit;
use crate::domain::values::ids::{CredentialId, OrgId, RuleId, SessionId, TokenId};
use crate::domain::values::permissions::Permission;
use crate::domain::values::references::AccountRef;
use crate::domain::values::resources::Node;
use crate::domain::values::token_string::{TokenString, TokenStringKind};
use crate::error::{Code, Error, Result, Violations};
use crate::flows::emailed_codes;
use crate::flows::reading::Reading;
use crate::flows::transaction::{Transaction, transact};
use crate::grpc::federation::rules::shown as shown_rule;
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::grpc::pb::RevokeReason;
use crate::grpc::pb::revoke_token_request::Target;
use crate::state::State;

pub async fn revoke_token(
    state: &State,
    call: &Call,
    request: pb::RevokeTokenRequest,
) -> Result<pb::RevokeTokenResponse> {
    match &request.target {
        Some(Target::TokenText(text)) => {
            let reason = known(request.reason).map_err(|wrong| Error::invalid("reason", wrong))?;
            by_text(state, call, text, reason).await
        }
        Some(Target::TokenId(id)) => by_id(state, call, &request, id).await,
        None => {
            call.authenticate(state).await?;
            Err(Error::invalid("target", "is required: token_id or token_text"))
        }
    }
}

fn known(reason: i32) -> Result<RevokeReason, &'static str> {
    RevokeReason::try_from(reason).map_err(|_| "is not a known reason")
}

async fn by_id(
    state: &State,
    call: &Call,
    request: &pb::RevokeTokenRequest,
    token_id: &str,
) -> Result<pb::RevokeTokenResponse> {
    let call = call.authenticated(state).await?;
    let acting = call.acting_in(state, &request.org_id).await?;
    authorise(state, &acting, token_id).await?;
    let mut violations = Violations::default();
    if let Ok(rule_id) = RuleId::parse(token_id) {
        let reason = violations.check("reason", known(request.reason));
        let (reason,) = violations.all((reason,))?;
        return rule_by_id(state, &acting, rule_id, reason).await;
    }
    let token_id = violations.check("token_id", TokenId::parse(token_id));
    let reason = violations.check("reason", known(request.reason));
    let (token_id, reason) = violations.all((token_id, reason))?;
    transact!(state, &acting, |mut tx| {
        let now = tx.now();
        let token = db::tokens::find(&mut *tx, acting.org_id, token_id).await?;
        let token = token.ok_or_else(|| Error::not_found("token", token_id))?;
        // A token may end itself, whatever else it may do.
        if !acting.presents(token_id) {
            acting.require_revocation(Some(token.account()))?;
            if !acting.may_change_self(token.account(), &Permission::TOKENS_WRITE) {
                let held = db::accounts::grants::find_held(&mut tx, acting.org_id, token.account()).await?;
                acting.may_stop(&held)?;
            }
        }
        revoke(&mut tx, (acting.org_id, token_id), reason).await?;
        let token = db::tokens::find(&mut *tx, acting.org_id, token_id).await?;
        let rules = db::orgs::policies::find_rules(&mut *tx, acting.org_id, &state.ceilings).await?;
        tx.commit().await?;
        let token = token.map(|token| messages::token(&token, &rules, now)).transpose()?;
        Ok(pb::RevokeTokenResponse { token, rule: None })
    })
}

/// Revokes a federation rule.
async fn rule_by_id(
    state: &State,
    acting: &Acting<'_>,
    rule_id: RuleId,
    reason: RevokeReason,
) -> Result<pb::RevokeTokenResponse> {
    let org_id = acting.org_id;
    transact!(state, acting, |mut tx| {
        let now = tx.now();
        let rule = db::federation::rules::find(&mut *tx, org_id, rule_id).await?;
        let rule = rule.ok_or_else(|| Error::not_found("federation rule", rule_id))?;
        acting.require_revocation(Some(rule.account()))?;
        if !acting.may_change_self(rule.account(), &Permission::TOKENS_WRITE) {
            acting.may_stop(&db::accounts::grants::find_held(&mut tx, org_id, rule.account()).await?)?;
        }
        let mut stopped = Stopped::default();
        stopped.revoke_rules(&mut tx, &[(org_id, rule_id)], reason, now).await?;
        tx.record_all(&changes(&stopped, reason)).await?;
        let rule = db::federation::rules::find(&mut *tx, org_id, rule_id).await?;
        let rule = rule.ok_or_else(|| Error::internal("a federation rule just revoked is gone"))?;
        let rule = Some(shown_rule(state, &mut tx, org_id, &rule).await?);
        tx.commit().await?;
        Ok(pb::RevokeTokenResponse { token: None, rule })
    })
}

/// Checks the rights, which need only the token's id, before everything else. The token's account
/// matters only for callers that may not revoke all tokens.
async fn authorise(state: &State, acting: &Acting<'_>, token_id: &str) -> Result<()> {
    let Err(refusal) = acting.require_revocation(None) else { return Ok(()) };
    if let Ok(rule_id) = RuleId::parse(token_id) {
        let rule = db::federation::rules::find(
            &mut *Reading::by(state, &acting.caller).await?,
            acting.org_id,
            rule_id,
        )
        .await?
        .ok_or(refusal)?;
        return acting.require_revocation(Some(rule.account()));
    }
    let Ok(token_id) = TokenId::parse(token_id) else { return Err(refusal) };
    if acting.presents(token_id) {
        return Ok(());
    }
    let token = db::tokens::find(&mut *Reading::by(state, &acting.caller).await?, acting.org_id, token_id)
        .await?
        .ok_or(refusal)?;
    acting.require_revocation(Some(token.account()))
}

/// Revokes by token string: knowing it is enough. Whether it was a token is not revealed (RFC
/// 7009).
async fn by_text(
    state: &State,
    call: &Call,
    text: &str,
    reason: RevokeReason,
) -> Result<pb::RevokeTokenResponse> {
    if TokenString::parse(text).is_ok_and(|text| text.kind() == TokenStringKind::PublishableToken) {
        return Err(Error::invalid("token_text", "is publishable and therefore public: use its token_id"));
    }
    if let Ok(code) = TokenString::parse(text)
        && matches!(code.kind(), TokenStringKind::Invitation | TokenStringKind::PasswordCode)
    {
        emailed_codes::revoke(state, &call.context, text, code.kind()).await?;
        return Ok(pb::RevokeTokenResponse::default());
    }
    let credential = match state.authenticator.by_string(text, call.context.address, state.clock.now()).await
    {
        Ok(found) => found.credential,
        // Unknown, or an expired secret, which no longer stands for the token.
        Err(error) if error.reason().code() == Code::Unauthenticated => {
            return Ok(pb::RevokeTokenResponse::default());
        }
        Err(error) => return Err(error),
    };
    // Revocation is final: nothing is left to do, and nothing waits for it. What a compromised one made is
    // searched again.
    if credential.revoked && reason != RevokeReason::KeyCompromise {
        return Ok(pb::RevokeTokenResponse::default());
    }
    let actor = Actor::account(credential.account.account_id, Some(credential.credential_id), &call.context);
    transact!(state, actor.in_org(credential.account.org_id), |mut tx| {
        let now = tx.now();
        match credential.credential_id {
            CredentialId::Token(id) => {
                revoke(&mut tx, (credential.account.org_id, id), reason).await?;
            }
            CredentialId::Session(id) => {
                let ended = end_session(&mut tx, (credential.account.org_id, id), reason, now).await?;
                tx.record_all(&ended).await?;
            }
            // It has no token string.
            CredentialId::Rule(_) => {}
        }
        tx.commit().await?;
        Ok(pb::RevokeTokenResponse::default())
    })
}

/// Ends a session, and on `KEY_COMPROMISE` all that descends from it. Returns the changes to record.
pub async fn end_session(
    tx: &mut PgConnection,
    (org_id, session_id): (OrgId, SessionId),
    reason: RevokeReason,
    now: OffsetDateTime,
) -> Result<Vec<Change>> {
    let mut ended = Vec::new();
    if db::sign_in::sessions::end(tx, org_id, session_id, now).await? {
        let why = FieldChange::set("revoke_reason", reason.as_str_name());
        ended.push(sessions::change("session.ended", session_id, vec![why]).in_org(org_id));
    }
    if reason == RevokeReason::KeyCompromise {
        db::sign_in::sessions::mark_compromised(tx, org_id, session_id, now).await?;
        let stopped = stop(tx, &[], &[session_id.into()], reason, now).await?;
        ended.extend(changes(&stopped, reason));
    }
    Ok(ended)
}

/// Revokes every active token of an account.
pub async fn revoke_account_tokens(
    state: &State,
    call: &Call,
    request: pb::RevokeAccountTokensRequest,
) -> Result<pb::RevokeAccountTokensResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    acting.require(&Permission::TOKENS_WRITE, &Node::Org)?;
    let mut violations = Violations::default();
    let named = violations.check("account_id", AccountRef::parse(&request.account_id));
    let reason = violations.check("reason", known(request.reason));
    let (named, reason) = violations.all((named, reason))?;
    transact!(state, &acting, |mut tx| {
        let now = tx.now();
        let account_id = references::account(&mut tx, &acting, &named).await?;
        // Locked, so that no token is created meanwhile.
        let account = db::accounts::lock(&mut tx, acting.org_id, account_id).await?;
        account.ok_or_else(|| Error::not_found("account", &named))?;
        acting.may_stop(&db::accounts::grants::find_held(&mut tx, acting.org_id, account_id).await?)?;
        let live = db::tokens::find_active(
            &mut tx,
            &[acting.org_id],
            account_id,
            now,
            Limit::ACTIVE_TOKENS_OF_ACCOUNT.most,
        )
        .await?;
        let live: Vec<_> = live.into_iter().map(|token_id| (acting.org_id, token_id)).collect();
        let rules =
            db::federation::rules::find_active_of_account(&mut tx, acting.org_id, account_id, now).await?;
        let rules: Vec<_> = rules.into_iter().map(|rule_id| (acting.org_id, rule_id)).collect();
        let mut stopped = stop(&mut tx, &live, &[], reason, now).await?;
        stopped.revoke_rules(&mut tx, &rules, reason, now).await?;
        tx.record_all(&changes(&stopped, reason)).await?;
        let revoked = stopped.tokens.values().map(Vec::len).sum::<usize>()
            + stopped.rules.values().map(BTreeSet::len).sum::<usize>();
        tx.commit().await?;
        Ok(pb::RevokeAccountTokensResponse { revoked_count: revoked as i32 })
    })
}

/// Revokes a token, and what ends with it, as [`stop`] does.
async fn revoke(tx: &mut Transaction<'_>, token: (OrgId, TokenId), reason: RevokeReason) -> Result<()> {
    let now = tx.now();
    let stopped = stop(tx, &[token], &[], reason, now).await?;
    tx.record_all(&changes(&stopped, reason)).await
}

/// One event for each org, naming all tokens revoked there; and those of what ended with them.
fn changes(stopped: &Stopped, reason: RevokeReason) -> Vec<Change> {
    let change = |(org_id, tokens): (&OrgId, &Vec<TokenId>)| {
        Change::of("token.revoked", tokens)
            .in_org(*org_id)
            .fields([FieldChange::set("revoke_reason", reason.as_str_name())])
            .subjects(tokens.iter().copied())
    };
    stopped.tokens.iter().map(change).chain(stopped.beside_tokens(reason)).collect()
}
