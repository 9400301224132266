//! Passwords that people set for themselves, with a code from an email: the first one, or another
//! because the previous one is forgotten.
//!
//! A request for another password is answered before the account is looked up: the request is
//! stored, the same for every name, and a node processes it later. So neither the answer nor its
//! timing reveals whether an account exists.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::emailed_codes::send_password_code;
use super::new_password::Rehearsed;
use super::reading::Reading;
use super::sign_in::address_keys;
use super::transaction::{Transaction, transact};
use super::{emailed_codes, mailboxes};
use crate::crypto::peppers::Blinded;
use crate::db;
use crate::db::accounts::Account;
use crate::db::events::{Actor, Author, Change, EventValue, FieldChange};
use crate::db::sign_in::emailed_codes::EmailedCode;
use crate::db::sign_in::password_maker::PasswordMaker;
use crate::db::sign_in::reset_requests::ResetRequest;
use crate::db::sign_in::{login_buckets, reset_requests};
use crate::db::within;
use crate::domain::access::request_context::RequestContext;
use crate::domain::sign_in::emailed_codes::{End, MAX_REQUESTS, REQUEST_WINDOW};
use crate::domain::sign_in::password::Password;
use crate::domain::values::ids::{AccountId, SYSTEM_ORG};
use crate::domain::values::kinds::AccountKind;
use crate::domain::values::names::{Email, Invalid};
use crate::domain::values::token_string::TokenStringKind;
use crate::error::{Error, Reason, Result};
use crate::state::State;

/// How many requests are processed per batch.
const BATCH: i64 = 100;
/// How long one of them may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Stores a request for another password of this name, whether that exists or not.
///
/// # Errors
/// `THROTTLED` when too many requests came from the address.
pub async fn request(state: &State, origin: &Arc<RequestContext>, username: &Email) -> Result<()> {
    let asked = ResetRequest {
        address: origin.address.shown().map(|address| address.to_string()),
        request_id: origin.request_id.to_string(),
    };
    let buckets = address_keys(&state.keyring.peppers.load(), Blinded::ResetAddress, origin.address);
    transact!(state, Actor::unknown(origin).in_org(SYSTEM_ORG), |mut tx| {
        let now = tx.now();
        login_buckets::admit_request(&mut tx, &buckets, now).await?;
        reset_requests::insert(&mut tx, state.clock.new_id(), username, &asked, now).await?;
        tx.commit().await
    })
    .inspect_err(|error: &Error| {
        if error.reason() == Reason::Throttled {
            state.metrics.credentials.throttled_resets.one();
        }
    })?;
    state.reset_requested.notify_one();
    Ok(())
}

/// Processes the stored requests, and sends a code to each account that may have one. Any number
/// of nodes may do it concurrently. Returns how many requests were processed.
///
/// `late` are the names whose request failed, for the next call: they come after all others, also after those that are
/// received meanwhile. An org that keeps its own row busy waits for itself.
///
/// # Errors
/// When the requests could not be found.
pub async fn answer_all(state: &State, late: &mut VecDeque<String>) -> Result<usize> {
    let (mut looked_at, mut again) = (0, late.len());
    loop {
        let except = &*late.make_contiguous();
        let mut names = within(REQUEST_TIMEOUT, reset_requests::find(&state.db, except, BATCH)).await?;
        if names.is_empty() {
            if again == 0 {
                return Ok(looked_at);
            }
            again -= 1;
            names.extend(late.pop_front());
        }
        looked_at += names.len();
        for name in names {
            let answering = async {
                transact!(state, Author::server(SYSTEM_ORG), |tx| { answer(state, &name, tx).await })
            };
            if let Err(error) = within(REQUEST_TIMEOUT, answering).await {
                tracing::warn!(?error, "password reset request not processed, will retry");
                late.push_back(name);
            }
        }
    }
}

async fn answer(state: &State, username: &str, mut tx: Transaction<'_>) -> Result<()> {
    let Some(asked) = reset_requests::take(&mut tx, username).await? else { return Ok(()) };
    if let Some((org_id, account_id)) = db::accounts::find_holder(&mut *tx, username).await?
        // Operators get their credentials by `bootstrap`.
        && org_id != SYSTEM_ORG
    {
        let org = db::orgs::lock(&mut tx, org_id).await?;
        let account = db::accounts::lock(&mut tx, org_id, account_id).await?;
        if org.lifecycle() == Default::default()
            && let Some(account) = account
            && may_be_sent_one(&mut tx, &account).await?
        {
            send_password_code(state, &mut tx, &org, &account, true).await?;
            let change = Change::of("account.password_code_requested", [account_id])
                .fields([FieldChange::set("mailed_to", &account.username)])
                .subjects([account_id]);
            let ResetRequest { address, request_id } = asked;
            let actor = Actor { address, request_id: Some(request_id), ..Actor::default() };
            tx.set_author(actor.in_org(org_id));
            tx.record(change).await?;
        }
    }
    tx.commit().await
}

/// Whether it is a user that has not requested too many codes. The account is locked.
async fn may_be_sent_one(tx: &mut Transaction<'_>, account: &Account) -> Result<bool> {
    if account.kind()? != AccountKind::User {
        return Ok(false);
    }
    let since = tx.now() - REQUEST_WINDOW;
    let asked =
        db::sign_in::emailed_codes::count_asked(tx, account.org_id.into(), account.account_id, since).await?;
    Ok(asked < MAX_REQUESTS)
}

/// The account whose password a code sets.
pub struct Found {
    /// The name of the org.
    pub org: String,
    pub username: String,
    /// Whether it is the account's first password.
    pub is_first: bool,
}

/// Returns the account whose password a code sets, without using the code.
///
/// # Errors
/// Those of [`emailed_codes::check`]; `ORG_SUSPENDED`, `ACCOUNT_DEACTIVATED` (deleted).
pub async fn look(state: &State, origin: &Arc<RequestContext>, code: &str) -> Result<Found> {
    let code = emailed_codes::check(state, code, TokenStringKind::PasswordCode, origin).await?;
    let mut db = Reading::anonymously(state, origin).await?;
    let org = db::orgs::find(&mut *db, code.org()).await?.ok_or(Reason::OrgSuspended)?;
    if org.lifecycle() != Default::default() {
        return Err(Reason::OrgSuspended.into());
    }
    let account = db::accounts::find(&mut *db, code.org(), code.subject_id.into()).await?;
    let account = account.ok_or(Reason::AccountDeactivated)?;
    let is_first = account.password_time.is_none();
    Ok(Found { org: org.display_name, username: account.username, is_first })
}

/// Sets the password, the first one or another, of the account that the code was emailed to: a
/// client that has the code has access to the mailbox. All sessions and all other codes of the
/// account are revoked. A deactivated account stays deactivated, and has its password when it is
/// activated. Returns the account after the change.
///
/// # Errors
/// Those of [`emailed_codes::check`], before the password is checked; `INVALID_FIELD` for
/// `new_password`; `ORG_SUSPENDED`, `ACCOUNT_DEACTIVATED` (deleted).
pub async fn reset(
    state: &State,
    origin: &Arc<RequestContext>,
    code: &str,
    new_password: &str,
) -> Result<Account> {
    let code = emailed_codes::check(state, code, TokenStringKind::PasswordCode, origin).await?;
    let password =
        Password::required(new_password).map_err(|Invalid(wrong)| Error::invalid("new_password", wrong))?;
    let (org_id, account_id) = (code.org(), AccountId::from(code.subject_id));
    let author = Actor::account(account_id, None, origin).in_org(org_id);
    // Nothing is locked during hashing.
    let rehearsal =
        async { transact!(state, author.clone(), |mut tx| { use_code(&mut tx, &code).await.map(drop) }) };
    let ((), rehearsed) = Rehearsed::by(state, org_id, rehearsal).await?;
    let record = rehearsed.hash(state, (org_id, account_id), &password).await?;
    transact!(state, author, |mut tx| {
        let now = tx.now();
        let account = use_code(&mut tx, &code).await?;
        // Its owner set it, by an email that the credential had sent which made the account.
        let maker = PasswordMaker { made_by: account.made_by, ends_with: None };
        db::sign_in::passwords::set(&mut tx, org_id, account_id, &record, maker, now).await?;
        mailboxes::prove(&mut tx, &code, account_id).await?;
        db::sign_in::emailed_codes::end_all(&mut tx, org_id, code.subject_id, End::Replaced, now).await?;
        db::sign_in::sessions::end_for_account(&mut tx, org_id, account_id, None, now).await?;
        let before = account.password_time.map(|time| time.event_value());
        let change = Change::of(
            if before.is_some() { "account.password_reset" } else { "account.password_set" },
            [account_id],
        )
        .fields(FieldChange::between("password_time", before, Some(now.event_value())))
        .subjects([account_id]);
        tx.record(change).await?;
        let after = db::accounts::find(&mut *tx, org_id, account_id).await?;
        tx.commit().await?;
        after.ok_or_else(|| Error::internal("an account just changed is gone"))
    })
}

/// Ends the code, and locks the account whose password it sets.
async fn use_code(tx: &mut Transaction<'_>, code: &EmailedCode) -> Result<Account> {
    let (org_id, now) = (code.org(), tx.now());
    let org = db::orgs::lock(tx, org_id).await?;
    let account = db::accounts::lock(tx, org_id, code.subject_id.into()).await?;
    // It may have been used since it was checked.
    if !db::sign_in::emailed_codes::end(tx, code.code_id, End::Used, now).await? {
        let message = "the code was just used, replaced or revoked";
        return Err(Error::with_message(Reason::TokenRevoked, message));
    }
    if org.lifecycle() != Default::default() {
        return Err(Reason::OrgSuspended.into());
    }
    let account = account.ok_or(Reason::AccountDeactivated)?;
    if account.kind()? != AccountKind::User {
        return Err(Reason::TokenRevoked.into());
    }
    Ok(account)
}
