//! Passwords that people set for themselves, with a code from a mail: the first one, or
//! another because the one they had is forgotten.
//!
//! Whoever asks for another password is answered before anybody has looked whether there is
//! such an account: the request is written down, the same for every name, and a node looks
//! later. So neither the answer nor its time tells who has an account here.

use sqlx::PgConnection;

use super::emailed_codes;
use super::emailed_codes::send_password_code;
use super::transaction::Transaction;
use crate::crypto::peppers::Blinded;
use crate::db;
use crate::db::accounts::Account;
use crate::db::events::{Actor, Change, FieldChange};
use crate::db::retrying;
use crate::db::sign_in::login_buckets;
use crate::db::sign_in::reset_requests;
use crate::db::sign_in::reset_requests::ResetRequest;
use crate::domain::access::request_context::RequestContext;
use crate::domain::sign_in::emailed_codes::{ASKED_WITHIN, End, MAX_ASKED};
use crate::domain::sign_in::password::Password;
use crate::domain::values::ids::{AccountId, SYSTEM_ORG};
use crate::domain::values::kinds::AccountKind;
use crate::domain::values::names::{Email, Invalid};
use crate::domain::values::networks::neighbourhood;
use crate::domain::values::token_string::TokenStringKind;
use crate::error::{Error, Reason, Result};
use crate::state::State;

/// Requests that are looked at in one go.
const BATCH: i64 = 100;

/// Notes that somebody asked for another password of this name, whether that exists or not.
///
/// # Errors
/// `THROTTLED` when too many requests came from the address.
pub async fn request(state: &State, origin: &RequestContext, username: &Email) -> Result<()> {
    let now = state.clock.now();
    let asked = ResetRequest {
        address: origin.address.map(|address| address.to_string()),
        request_id: origin.request_id.clone(),
    };
    let network = origin.address.map(|address| neighbourhood(address).to_string());
    let bucket = network.map(|network| state.keyring.peppers.load().blind(Blinded::ResetAddress, &network));
    retrying(|| async {
        let mut tx = Transaction::begin(state).await?;
        if let Some(bucket) = bucket {
            login_buckets::admit_request(&mut tx, bucket, now).await?;
        }
        reset_requests::insert(&mut tx, state.clock.new_id(), username, &asked, now).await?;
        tx.commit().await
    })
    .await?;
    state.reset_requested.notify_one();
    Ok(())
}

/// Looks who was asked for, and sends those a code who may have one. Any number of nodes may do
/// it at once. Returns how many requests were looked at.
pub async fn answer_all(state: &State) -> Result<usize> {
    let mut looked_at = 0;
    loop {
        let names = reset_requests::find(&state.db.pool(), BATCH).await?;
        looked_at += names.len();
        let mut all = true;
        for name in &names {
            if let Err(error) = retrying(|| answer(state, name)).await {
                // The others do not wait for it.
                tracing::warn!(
                    ?error,
                    "a request for another password cannot be answered; it is tried again"
                );
                all = false;
            }
        }
        if names.len() < BATCH as usize || !all {
            return Ok(looked_at);
        }
    }
}

async fn answer(state: &State, username: &str) -> Result<()> {
    let now = state.clock.now();
    let mut tx = Transaction::begin(state).await?;
    let Some(asked) = reset_requests::take(&mut tx, username).await? else { return Ok(()) };
    if let Some((org_id, account_id)) = db::accounts::find_holder(&mut *tx, username).await?
        // Operators get their credentials by `bootstrap`.
        && org_id != SYSTEM_ORG
    {
        let org = db::orgs::lock(&mut tx, org_id).await?;
        let account = db::accounts::lock(&mut tx, org_id, account_id).await?;
        if org.life() == Default::default()
            && let Some(account) = account
            && may_be_sent_one(state, &mut tx, &account).await?
        {
            send_password_code(state, &mut tx, &org, &account, true).await?;
            let change = Change {
                event_id: state.clock.new_id(),
                org_id,
                kind: "account.password_code_requested",
                resource_ids: vec![account_id.to_string()],
                fields: vec![FieldChange::set("mailed_to", &account.username)],
                subjects: vec![account_id.to_string()],
            };
            let ResetRequest { address, request_id } = asked;
            let actor = Actor { address, request_id: Some(request_id), ..Actor::default() };
            tx.record(&actor, &[change], now).await?;
        }
    }
    tx.commit().await
}

/// A user who has not asked too often. The account is locked.
async fn may_be_sent_one(state: &State, tx: &mut PgConnection, account: &Account) -> Result<bool> {
    if account.kind()? != AccountKind::User {
        return Ok(false);
    }
    let since = state.clock.now() - ASKED_WITHIN;
    let asked =
        db::sign_in::emailed_codes::count_asked(tx, account.org_id.into(), account.account_id, since).await?;
    Ok(asked < MAX_ASKED)
}

/// Whose password a code sets.
pub struct Found {
    /// How the org is called.
    pub org: String,
    pub username: String,
    /// Whether it is the first one.
    pub is_first: bool,
}

/// Looks whose password a code sets, without using it.
///
/// # Errors
/// What [`emailed_codes::check`] says of the code; `ORG_SUSPENDED`, `ACCOUNT_DEACTIVATED` (deleted).
pub async fn look(state: &State, origin: &RequestContext, code: &str) -> Result<Found> {
    let code = emailed_codes::check(state, code, TokenStringKind::PasswordCode, origin.address).await?;
    let db = state.db.pool();
    let org = db::orgs::find(&db, code.org()).await?.ok_or(Reason::OrgSuspended)?;
    if org.life() != Default::default() {
        return Err(Reason::OrgSuspended.into());
    }
    let account = db::accounts::find(&db, code.org(), code.subject_id.into()).await?;
    let account = account.ok_or(Reason::AccountDeactivated)?;
    let is_first = account.password_time.is_none();
    Ok(Found { org: org.display_name, username: account.username, is_first })
}

/// Sets the password of the account that the code was mailed to, its first one or another:
/// whoever has the code has the mailbox. Its sessions and all its other codes end.
/// One that is deactivated stays so, and has its password when it is activated. Gives the
/// account as it is then.
///
/// # Errors
/// What [`emailed_codes::check`] says of the code, before the password is looked at; `INVALID_FIELD`
/// for `new_password`; `ORG_SUSPENDED`, `ACCOUNT_DEACTIVATED` (deleted).
pub async fn reset(
    state: &State,
    origin: &RequestContext,
    code: &str,
    new_password: &str,
) -> Result<Account> {
    let code = emailed_codes::check(state, code, TokenStringKind::PasswordCode, origin.address).await?;
    let password =
        Password::required(new_password).map_err(|Invalid(wrong)| Error::invalid("new_password", wrong))?;
    let (org_id, account_id) = (code.org(), AccountId::from(code.subject_id));
    // Before the transaction: nothing is locked while it is hashed.
    let record = state.passwords.hash((org_id, account_id), &password).await?;
    let actor = Actor {
        account_id: Some(account_id),
        address: origin.address.map(|address| address.to_string()),
        request_id: Some(origin.request_id.clone()),
        ..Actor::default()
    };
    let now = state.clock.now();
    retrying(|| async {
        let mut tx = Transaction::begin(state).await?;
        let org = db::orgs::lock(&mut tx, org_id).await?;
        let account = db::accounts::lock(&mut tx, org_id, account_id).await?;
        // It may have been used since it was looked at.
        if !db::sign_in::emailed_codes::end(&mut tx, code.code_id, End::Used, now).await? {
            let message = "the code was used, replaced or revoked just now";
            return Err(Error::with_message(Reason::TokenRevoked, message));
        }
        if org.life() != Default::default() {
            return Err(Reason::OrgSuspended.into());
        }
        let account = account.ok_or(Reason::AccountDeactivated)?;
        if account.kind()? != AccountKind::User {
            return Err(Reason::TokenRevoked.into());
        }
        db::sign_in::passwords::set(&mut tx, org_id, account_id, &record, now).await?;
        db::accounts::prove_mailbox(&mut tx, org_id, account_id, now).await?;
        db::sign_in::emailed_codes::end_all(&mut tx, org_id, code.subject_id, End::Replaced, now).await?;
        db::sign_in::sessions::end_of_account(&mut tx, org_id, account_id, None, now).await?;
        let before = account.password_time.map(|time| time.to_string());
        let change = Change {
            event_id: state.clock.new_id(),
            org_id,
            kind: if before.is_some() { "account.password_reset" } else { "account.password_set" },
            resource_ids: vec![account_id.to_string()],
            fields: FieldChange::between("password_time", before, Some(now.to_string()))
                .into_iter()
                .collect(),
            subjects: vec![account_id.to_string()],
        };
        tx.record(&actor, &[change], now).await?;
        let after = db::accounts::find(&mut *tx, org_id, account_id).await?;
        tx.commit().await?;
        after.ok_or_else(|| Error::internal("an account just changed is gone"))
    })
    .await
}
