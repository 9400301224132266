//! `ReportLeakedToken`: revokes leaked tokens, on the report of any caller.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::compromise::stop;
use super::revoke::end_session;
use crate::db;
use crate::db::events::{Actor, Change, FieldChange};
use crate::db::tokens::Token;
use crate::domain::mail::Mail;
use crate::domain::tokens::limits::MAX_LIST;
use crate::domain::tokens::rotation::{Leak, SecretState, ended_at, leak};
use crate::domain::tokens::secrets;
use crate::domain::values::ids::{AccountId, CredentialId, OrgId, SYSTEM_ORG, SessionId, TokenId};
use crate::domain::values::subject::Subject;
use crate::domain::values::token_string::{TokenString, TokenStringKind};
use crate::error::{Code, Error, Reason, Result, Violations};
use crate::flows::transaction::{Transaction, transact};
use crate::flows::{emailed_codes, notify};
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::grpc::pb::RevokeReason;
use crate::state::State;

/// What leaked, grouped by org.
#[derive(Default)]
struct Leaked {
    /// The numbers of the leaked secrets, by token.
    tokens: BTreeMap<OrgId, BTreeMap<TokenId, Vec<i32>>>,
    sessions: BTreeSet<(OrgId, SessionId)>,
    codes: Vec<db::sign_in::emailed_codes::EmailedCode>,
}

impl Leaked {
    fn is_empty(&self) -> bool {
        self.tokens.is_empty() && self.sessions.is_empty() && self.codes.is_empty()
    }
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
            violations.add("token_texts", format!("holds {n} token strings; at most {MAX_LIST} are allowed"));
        }
        _ => {}
    }
    violations.finish()?;
    let leaked = known(state, call, &request.token_texts).await?;
    if leaked.is_empty() {
        return Ok(pb::ReportLeakedTokenResponse {});
    }
    // The reporter is unknown to us: they had the token string, as did the party that left it
    // there.
    let actor = Actor::unknown(&call.context);
    transact!(state, actor.in_org(SYSTEM_ORG), |mut tx| {
        let now = tx.now();
        let mut changes = Vec::new();
        // Orgs are locked before tokens, and in order.
        for code in &leaked.codes {
            changes.extend(emailed_codes::stop(&mut tx, code, now).await?);
        }
        changes.extend(take_away(&mut tx, &leaked, now).await?);
        for session in &leaked.sessions {
            changes.extend(end_session(&mut tx, *session, RevokeReason::KeyCompromise, now).await?);
        }
        tx.record_all(&changes).await?;
        tell_owners(&mut tx, &changes).await?;
        tx.commit().await?;
        Ok(pb::ReportLeakedTokenResponse {})
    })
}

/// Emails those who are notified for the accounts that lost tokens, once for each account.
async fn tell_owners(tx: &mut Transaction<'_>, changes: &[Change]) -> Result<()> {
    for change in changes {
        let org_id = change.org_id().unwrap_or(tx.org_id());
        let ids: Vec<_> = change.resource_ids().iter().filter_map(|id| TokenId::parse(id).ok()).collect();
        let mut lost: BTreeMap<AccountId, Vec<String>> = BTreeMap::new();
        for (token_id, account_id, name) in db::tokens::find_owners(tx, org_id, &ids).await? {
            lost.entry(account_id).or_default().push(name.unwrap_or_else(|| token_id.to_string()));
        }
        for (account_id, names) in lost {
            let say = |org, account| Mail::tokens_leaked(org, account, names);
            notify::send(tx, org_id, account_id, say).await?;
        }
    }
    Ok(())
}

/// The reported credentials whose secret is right. Other entries are skipped: a search for leaks
/// by format finds many strings that are none, and the reporter must not learn what they are.
async fn known(state: &State, call: &Call, texts: &[String]) -> Result<Leaked> {
    let mut leaked = Leaked::default();
    // What did not match, from an address with too many failures.
    let mut throttled = None;
    for text in texts {
        // Public tokens cannot leak, and an unreadable string does not count as a failure.
        match TokenString::parse(text).map(|text| text.kind()) {
            Ok(TokenStringKind::SecretToken | TokenStringKind::Session) => {}
            Ok(kind @ (TokenStringKind::Invitation | TokenStringKind::PasswordCode)) => {
                match emailed_codes::known(state, text, kind, &call.context).await {
                    Ok(code) => leaked.codes.push(code),
                    Err(error) if error.reason().code() == Code::Unauthenticated => {}
                    Err(error) if error.reason() == Reason::Throttled => throttled = Some(error),
                    Err(error) => return Err(error),
                }
                continue;
            }
            Ok(TokenStringKind::PublishableToken) | Err(_) => continue,
        }
        match state.authenticator.by_string(text, call.context.address, state.clock.now()).await {
            Ok(found) => {
                let org_id = found.credential.account.org_id;
                match found.credential.credential_id {
                    CredentialId::Token(id) => {
                        let secrets = leaked.tokens.entry(org_id).or_default().entry(id);
                        secrets.or_default().extend(found.secret);
                    }
                    CredentialId::Session(id) => drop(leaked.sessions.insert((org_id, id))),
                    // It has no token string.
                    CredentialId::Rule(_) => {}
                }
            }
            Err(error) if error.reason().code() == Code::Unauthenticated => {}
            Err(error) if error.reason() == Reason::Throttled => throttled = Some(error),
            Err(error) => return Err(error),
        }
    }
    // A report is carried out for what matched, whatever else is in it.
    if let Some(error) = throttled.filter(|_| leaked.is_empty()) {
        return Err(error);
    }
    leaked.codes.sort_by_key(db::sign_in::emailed_codes::EmailedCode::org);
    Ok(leaked)
}

/// What an org lost by the leak.
#[derive(Default)]
struct Lost {
    tokens: Vec<TokenId>,
    /// The secrets that ended alone.
    secrets: Vec<Subject>,
    fields: Vec<FieldChange>,
}

impl Lost {
    fn add(&mut self, tokens: &[TokenId], field: FieldChange) {
        self.tokens.extend(tokens);
        self.fields.push(field);
    }

    fn change(self) -> Change {
        let change = Change::of("token.leaked", &self.tokens).fields(self.fields);
        change.subjects(self.tokens).subjects(self.secrets)
    }
}

/// Expires the leaked secrets of tokens with other active ones, and revokes the tokens without.
/// Also revokes what they created. Returns a change for each org that lost something.
async fn take_away(tx: &mut PgConnection, leaked: &Leaked, now: OffsetDateTime) -> Result<Vec<Change>> {
    let mut lost: BTreeMap<OrgId, Lost> = BTreeMap::new();
    let (mut whole, mut makers) = (Vec::new(), Vec::new());
    for (&org_id, secrets) in &leaked.tokens {
        let ids: Vec<TokenId> = secrets.keys().copied().collect();
        let tokens = db::tokens::lock_active(tx, org_id, &ids, now).await?;
        let made_by_themselves = db::tokens::secrets::find_made_by_themselves(tx, org_id, &ids).await?;
        for (token_id, leaked) in secrets {
            makers.push((*token_id).into());
            // A revoked or expired token has nothing to lose, but it may have created tokens that
            // do.
            let Some(token) = tokens.iter().find(|token| token.id() == *token_id) else { continue };
            let by_itself = made_by_themselves.iter().filter(|(id, _)| id == token_id);
            let by_itself: Vec<i32> = by_itself.map(|(_, number)| *number).collect();
            match leak(&live(token, now), leaked, &by_itself) {
                Some(Leak::Token) => whole.push((org_id, *token_id)),
                Some(Leak::Secret { revoked: ended, remaining: left }) => {
                    db::tokens::secrets::set_end(tx, org_id, *token_id, &[ended], Some(ended_at(now)))
                        .await?;
                    db::tokens::secrets::set_end(tx, org_id, *token_id, &[left], None).await?;
                    db::tokens::secrets::revise(tx, org_id, *token_id).await?;
                    let field = FieldChange::cleared("secrets", shown(token, ended)?);
                    let lost = lost.entry(org_id).or_default();
                    lost.add(&[*token_id], field);
                    lost.secrets.push(Subject::Secret(*token_id, ended));
                }
                None => {}
            }
        }
    }
    let reason = RevokeReason::KeyCompromise;
    let stopped = stop(tx, &whole, &makers, reason, now).await?;
    for (org_id, tokens) in &stopped.tokens {
        let field = FieldChange::set("revoke_reason", reason.as_str_name());
        lost.entry(*org_id).or_default().add(tokens, field);
    }
    let of_tokens = lost.into_iter().map(|(org_id, lost)| lost.change().in_org(org_id));
    Ok(of_tokens.chain(stopped.beside_tokens(reason)).collect())
}

/// The numbers of its secrets that have not expired.
fn live(token: &Token, now: OffsetDateTime) -> Vec<i32> {
    let live =
        token.secrets().filter(|secret| SecretState::of(secret.expire_time, now) != SecretState::Expired);
    live.map(|secret| secret.number).collect()
}

/// The obfuscated form by which people recognise one of its secrets.
fn shown(token: &Token, number: i32) -> Result<String> {
    let secret = token.secrets().find(|secret| secret.number == number);
    let secret = secret.ok_or_else(|| Error::internal("a secret of a locked token is gone"))?;
    Ok(secrets::shown(token.kind()?, token.id(), secret.hint))
}
