//! Codes that are sent by email (`csign_inv_…`, `csign_rst_…`): created with the email that
//! delivers them, checked as tokens are, used once.

use std::sync::Arc;

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::reading::Reading;
use super::transaction::{Transaction, transact};
use crate::clock::random;
use crate::db;
use crate::db::accounts::Account;
use crate::db::events::{Actor, Change, FieldChange};
use crate::db::orgs::Org;
use crate::db::sign_in::emailed_codes::{EmailedCode, NewCode};
use crate::domain::access::request_context::RequestContext;
use crate::domain::mail::Mail;
use crate::domain::sign_in::emailed_codes::{CodePurpose, End};
use crate::domain::values::ids::{OrgId, TokenId};
use crate::domain::values::kinds::AccountKind;
use crate::domain::values::names::Email;
use crate::domain::values::subject::Subject;
use crate::domain::values::token_string::{TokenString, TokenStringKind};
use crate::error::{Code as Status, Reason, Result};
use crate::mail::OutgoingEmail;
use crate::state::State;

/// What a new code is for, and its recipient.
pub struct ToSend<'a> {
    pub org_id: OrgId,
    /// The account whose password it sets, or the invitation that it accepts. It is locked.
    pub subject_id: Uuid,
    pub purpose: CodePurpose,
    /// Whether the owner of the mailbox requested it.
    pub asked: bool,
    pub recipient: &'a Email,
    /// The email that delivers it.
    pub mail: Mail,
}

/// What a new code is for.
pub struct NewSecret {
    pub org_id: OrgId,
    /// The account whose password it sets, or the invitation that it accepts. It is locked.
    pub subject_id: Uuid,
    pub purpose: CodePurpose,
    /// Whether the owner of the mailbox requested it.
    pub asked: bool,
}

/// Creates a code. The previous codes of the subject stop working, and their emails are withdrawn.
pub async fn create(
    state: &State,
    tx: &mut Transaction<'_>,
    new: &NewSecret,
    proves_mailbox: bool,
    expire_time: OffsetDateTime,
) -> Result<TokenString<'static>> {
    let now = tx.now();
    db::sign_in::emailed_codes::end_all(&mut *tx, new.org_id, new.subject_id, End::Replaced, now).await?;
    let text = TokenString::new(new.purpose.kind(), state.clock.new_id::<TokenId>(), random());
    let record = state.keyring.peppers.load().record(&text);
    let row = NewCode {
        code_id: text.id().uuid(),
        org_id: new.org_id,
        subject_id: new.subject_id,
        purpose: new.purpose,
        asked: new.asked,
        record: &record,
        proves_mailbox,
        expire_time,
    };
    db::sign_in::emailed_codes::insert(&mut *tx, &row, now).await?;
    Ok(text)
}

/// Creates a code and writes the email that delivers it to the outbox. The previous codes of the
/// subject stop working.
pub async fn send(state: &State, tx: &mut Transaction<'_>, new: ToSend<'_>) -> Result<()> {
    let ToSend { org_id, subject_id, purpose, asked, recipient, mail } = new;
    let expire_time = tx.now() + purpose.lifetime();
    let text =
        create(state, tx, &NewSecret { org_id, subject_id, purpose, asked }, true, expire_time).await?;
    tx.mail(&OutgoingEmail::with_code(org_id, recipient, mail, asked, text, expire_time)).await
}

/// Refuses to create an account of this kind in an org that has written too many emails, for an account
/// that is sent one. Called before its address is looked up: a refusal after it would say that the
/// address has no account in any org.
///
/// # Errors
/// `LIMIT_REACHED`.
pub async fn refuse_beyond_budget(tx: &mut Transaction<'_>, org: &Org, kind: AccountKind) -> Result<()> {
    let now = tx.now();
    match kind {
        AccountKind::User => db::outbox::refuse_too_many(tx, org.id(), now).await,
        AccountKind::ServiceAccount => Ok(()),
    }
}

/// Sends a user without a password the link to set one. No other account is sent anything: a user
/// with a password can request another one, and a service account has no mailbox.
pub async fn send_first_password(
    state: &State,
    tx: &mut Transaction<'_>,
    org: &Org,
    account: &Account,
) -> Result<()> {
    if account.kind()? != AccountKind::User || account.password_time.is_some() {
        return Ok(());
    }
    send_password_code(state, tx, org, account, false).await
}

/// Sends a user a code to set a password, the first one or another. The account is locked.
pub async fn send_password_code(
    state: &State,
    tx: &mut Transaction<'_>,
    org: &Org,
    account: &Account,
    asked: bool,
) -> Result<()> {
    let name = org.display_name.clone();
    let (purpose, mail) = match account.password_time {
        None => (CodePurpose::FirstPassword, Mail::SetPassword { org: name }),
        Some(_) => (CodePurpose::Reset, Mail::ResetPassword { org: name }),
    };
    let details = account.details()?;
    let new = ToSend {
        org_id: org.id(),
        subject_id: account.account_id,
        purpose,
        asked,
        recipient: &details.username,
        mail,
    };
    send(state, tx, new).await
}

/// Finds the code with this code string, if it works: length, shape and checksum, then the row by
/// its id, then the secret in constant time, and only then whether it has expired.
///
/// # Errors
/// `TOKEN_INVALID` for a string that is no such code, `TOKEN_REVOKED` for one that was used,
/// replaced or revoked, `TOKEN_EXPIRED`; `THROTTLED` for a client that guesses.
pub async fn check(
    state: &State,
    text: &str,
    kind: TokenStringKind,
    origin: &RequestContext,
) -> Result<EmailedCode> {
    let code = known(state, text, kind, origin).await?;
    code.check(state.clock.now())?;
    Ok(code)
}

/// Finds the code with this code string, whether it works or not.
///
/// # Errors
/// `TOKEN_INVALID` for a string that is no such code; `THROTTLED` instead, for a client that guesses.
pub async fn known(
    state: &State,
    text: &str,
    kind: TokenStringKind,
    origin: &RequestContext,
) -> Result<EmailedCode> {
    let from = origin.address;
    let refuse = || state.principals.refuse(from, Reason::TokenInvalid);
    let text = TokenString::parse(text).ok().filter(|text| text.kind() == kind).ok_or_else(refuse)?;
    let code_id = text.id().uuid();
    let found = match state.principals.may_exist(code_id, from).await? {
        true => {
            let mut db = Reading::anonymously(state, origin).await?;
            db::sign_in::emailed_codes::find(&mut *db, code_id).await?
        }
        false => None,
    };
    let record = found.as_ref().map(EmailedCode::record).transpose()?;
    if record.as_ref().is_some_and(|record| !state.keyring.peppers.load().knows(record.pepper)) {
        // Another node loaded a newer pepper.
        state.keyring.reload_for_unknown_pepper().await;
    }
    // Compared even where nothing was found, so that both cases take the same time.
    let matches = state.keyring.peppers.load().find(&text, record.as_ref()).is_some();
    found.filter(|_| matches).ok_or_else(refuse)
}

/// Revokes a code. Any client that knows the code may; the answer does not say whether it was one
/// (RFC 7009).
pub async fn revoke(
    state: &State,
    origin: &Arc<RequestContext>,
    text: &str,
    kind: TokenStringKind,
) -> Result<()> {
    let code = match known(state, text, kind, origin).await {
        Ok(code) => code,
        Err(error) if error.reason().code() == Status::Unauthenticated => return Ok(()),
        Err(error) => return Err(error),
    };
    if code.has_ended() {
        return Ok(());
    }
    transact!(state, Actor::unknown(origin).in_org(code.org()), |mut tx| {
        let now = tx.now();
        let Some(change) = stop(&mut tx, &code, now).await? else { return Ok(()) };
        tx.record(change).await?;
        tx.commit().await
    })
}

/// Ends a code permanently. None where it has ended already; else the change to record.
pub async fn stop(tx: &mut PgConnection, code: &EmailedCode, now: OffsetDateTime) -> Result<Option<Change>> {
    let (kind, subject) = match code.purpose()? {
        CodePurpose::Invitation => ("invitation.revoked", Subject::Invitation(code.subject_id.into())),
        CodePurpose::FirstPassword | CodePurpose::Reset => {
            ("account.password_code_revoked", Subject::Account(code.subject_id.into()))
        }
    };
    db::orgs::lock(tx, code.org()).await?;
    if !db::sign_in::emailed_codes::end(tx, code.code_id, End::Revoked, now).await? {
        return Ok(None);
    }
    if code.purpose()? == CodePurpose::Invitation {
        db::orgs::invitations::revoke(tx, code.org(), code.subject_id.into(), now).await?;
    }
    Ok(Some(
        Change::of(kind, [subject])
            .in_org(code.org())
            .fields([FieldChange::cleared("expire_time", code.expire_time)])
            .subjects([subject]),
    ))
}
