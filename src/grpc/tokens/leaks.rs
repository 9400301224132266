//! `ReportLeakedToken`: whoever finds tokens where they should not be may stop them.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::revoke::{end_session, made_by, stop};
use crate::db;
use crate::db::events::{Actor, Change, FieldChange};
use crate::db::retrying;
use crate::db::tokens::Token;
use crate::domain::mail::Mail;
use crate::domain::tokens::limits::MAX_LIST;
use crate::domain::tokens::rotation::{Leak, SecretState, leak};
use crate::domain::values::ids::{AccountId, CredentialId, OrgId, SessionId, TokenId};
use crate::domain::values::token_string::{TokenString, TokenStringKind, obfuscated};
use crate::error::{Code, Error, Result, Violations};
use crate::flows::emailed_codes;
use crate::flows::notify;
use crate::flows::transaction::Transaction;
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::grpc::pb::RevokeReason;
use crate::grpc::wire::convert;
use crate::state::State;

/// What leaked, by its org.
#[derive(Default)]
struct Leaked {
    /// The numbers of the secrets, by token.
    tokens: BTreeMap<OrgId, BTreeMap<TokenId, Vec<i32>>>,
    sessions: BTreeSet<(OrgId, SessionId)>,
    codes: Vec<db::sign_in::emailed_codes::EmailedCode>,
}

pub async fn report_leaked_token(
    state: &State,
    call: &Call,
    request: pb::ReportLeakedTokenRequest,
) -> Result<pb::ReportLeakedTokenResponse> {
    let mut violations = Violations::default();
    match request.token_texts.len() {
        0 => violations.add("token_texts", "is required"),
        n if n > MAX_LIST => {
            violations.add("token_texts", format!("holds {n} texts; at most {MAX_LIST} are allowed"));
        }
        _ => {}
    }
    violations.finish()?;
    let leaked = known(state, call, &request.token_texts).await?;
    if leaked.tokens.is_empty() && leaked.sessions.is_empty() && leaked.codes.is_empty() {
        return Ok(pb::ReportLeakedTokenResponse {});
    }
    // Whoever reports is nobody that we know: they had the text, as had whoever left it there.
    let actor = Actor {
        address: call.context.address.map(|address| address.to_string()),
        request_id: Some(call.context.request_id.clone()),
        ..Actor::default()
    };
    let now = state.clock.now();
    retrying(|| async {
        let mut tx = Transaction::begin(state).await?;
        let mut changes = Vec::new();
        // Orgs are locked before tokens, and in order.
        for code in &leaked.codes {
            changes.extend(emailed_codes::stop(state, &mut tx, code, now).await?);
        }
        changes.extend(take_away(state, &mut tx, &leaked, now).await?);
        for session in &leaked.sessions {
            changes.extend(end_session(state, &mut tx, *session, RevokeReason::KeyCompromise, now).await?);
        }
        tx.record(&actor, &changes, now).await?;
        tell_owners(&mut tx, &changes, now).await?;
        tx.commit().await?;
        Ok(pb::ReportLeakedTokenResponse {})
    })
    .await
}

/// Mails whoever is to be told of the accounts that have lost tokens, once for each.
async fn tell_owners(tx: &mut Transaction<'_>, changes: &[Change], now: OffsetDateTime) -> Result<()> {
    for change in changes {
        let ids: Vec<_> = change.resource_ids.iter().filter_map(|id| TokenId::parse(id).ok()).collect();
        let mut lost: BTreeMap<AccountId, Vec<String>> = BTreeMap::new();
        for (token_id, account_id, name) in db::tokens::find_owners(tx, change.org_id, &ids).await? {
            lost.entry(account_id).or_default().push(name.unwrap_or_else(|| token_id.to_string()));
        }
        for (account_id, names) in lost {
            let say = |org, account| Mail::tokens_leaked(org, account, names);
            notify::tell(tx, (change.org_id, account_id), now, say).await?;
        }
    }
    Ok(())
}

/// Those whose secret is right. What else is in the list is passed over: whoever searches
/// for leaks by their form finds much that is none, and what it is is not theirs to know.
async fn known(state: &State, call: &Call, texts: &[String]) -> Result<Leaked> {
    let mut leaked = Leaked::default();
    for text in texts {
        // What is public cannot leak, and junk is not even a failure.
        match TokenString::parse(text).map(|text| text.kind()) {
            Ok(TokenStringKind::SecretToken | TokenStringKind::Session) => {}
            Ok(kind @ (TokenStringKind::Invitation | TokenStringKind::PasswordCode)) => {
                match emailed_codes::known(state, text, kind, call.context.address).await {
                    Ok(code) => leaked.codes.push(code),
                    Err(error) if error.reason().code() == Code::Unauthenticated => {}
                    Err(error) => return Err(error),
                }
                continue;
            }
            Ok(TokenStringKind::PublishableToken) | Err(_) => continue,
        }
        match state.authenticator.by_string(text, call.context.address).await {
            Ok(found) => {
                let org_id = found.credential.account.org_id;
                match found.credential.credential_id {
                    CredentialId::Token(id) => {
                        let secrets = leaked.tokens.entry(org_id).or_default().entry(id);
                        secrets.or_default().extend(found.secret);
                    }
                    CredentialId::Session(id) => drop(leaked.sessions.insert((org_id, id))),
                }
            }
            Err(error) if error.reason().code() == Code::Unauthenticated => {}
            Err(error) => return Err(error),
        }
    }
    leaked.codes.sort_by_key(db::sign_in::emailed_codes::EmailedCode::org);
    Ok(leaked)
}

/// Ends the secrets where others live, revokes the tokens where none does, and with them
/// what they made. Gives a change for each org in which something went.
async fn take_away(
    state: &State,
    tx: &mut PgConnection,
    leaked: &Leaked,
    now: OffsetDateTime,
) -> Result<Vec<Change>> {
    let mut changes: BTreeMap<OrgId, Change> = BTreeMap::new();
    let mut change_in = |org_id: OrgId, token_ids: &[TokenId], field: FieldChange| {
        let change = changes.entry(org_id).or_insert_with(|| Change {
            event_id: state.clock.new_id(),
            org_id,
            kind: "token.leaked",
            resource_ids: Vec::new(),
            fields: Vec::new(),
            subjects: Vec::new(),
        });
        change.fields.push(field);
        change.resource_ids.extend(token_ids.iter().map(TokenId::to_string));
        change.subjects.clone_from(&change.resource_ids);
    };
    let (mut whole, mut makers) = (Vec::new(), Vec::new());
    for (&org_id, secrets) in &leaked.tokens {
        let ids: Vec<TokenId> = secrets.keys().copied().collect();
        let tokens = db::tokens::lock_live(tx, org_id, &ids, now).await?;
        let made_by_themselves = db::tokens::secrets::find_made_by_themselves(tx, org_id, &ids).await?;
        for (token_id, leaked) in secrets {
            makers.push((*token_id).into());
            // One that is revoked or expired has nothing to lose, but may have made some that have.
            let Some(token) = tokens.iter().find(|token| token.id() == *token_id) else { continue };
            let by_itself = made_by_themselves.iter().filter(|(id, _)| id == token_id);
            let by_itself: Vec<i32> = by_itself.map(|(_, number)| *number).collect();
            match leak(&live(token, now), leaked, &by_itself) {
                Some(Leak::Token) => whole.push((org_id, *token_id)),
                Some(Leak::Secret { ended, left }) => {
                    db::tokens::secrets::set_end(tx, (org_id, *token_id), &[ended], Some(now)).await?;
                    db::tokens::secrets::set_end(tx, (org_id, *token_id), &[left], None).await?;
                    db::tokens::secrets::revise(tx, org_id, *token_id).await?;
                    change_in(org_id, &[*token_id], FieldChange::cleared("secrets", shown(token, ended)?));
                }
                None => {}
            }
        }
    }
    whole.extend(made_by(tx, &makers, now).await?);
    let reason = RevokeReason::KeyCompromise;
    for (org_id, tokens) in stop(tx, whole, reason, now).await? {
        let field = FieldChange::set("revoke_reason", convert::revoke_reason_name(reason));
        change_in(org_id, &tokens, field);
    }
    Ok(changes.into_values().collect())
}

/// The numbers of its secrets that have not ended.
fn live(token: &Token, now: OffsetDateTime) -> Vec<i32> {
    let live =
        token.secrets().filter(|secret| SecretState::of(secret.expire_time, now) != SecretState::Expired);
    live.map(|secret| secret.number).collect()
}

/// How people recognise one of its secrets.
fn shown(token: &Token, number: i32) -> Result<String> {
    let secret = token.secrets().find(|secret| secret.number == number);
    let secret = secret.ok_or_else(|| Error::internal("a secret of a locked token is gone"))?;
    Ok(obfuscated(token.kind()?.into(), token.id(), secret.hint))
}
