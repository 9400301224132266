//! Links that an operator is shown, to hand over in another way than by email (`countersign mail
//! show-link`): where no email can be sent, people can be let in.
//!
//! A shown link is a fresh one, and takes the place of the one in an email that was not sent. It does what
//! that does, except that it proves no mailbox: the operator has seen it. It is never one to reset a
//! password, with which an operator would take over an account in use.

use time::OffsetDateTime;
use uuid::Uuid;

use super::emailed_codes;
use super::emailed_codes::NewSecret;
use super::transaction::{Transaction, transact};
use crate::db;
use crate::db::events::{Author, Change, FieldChange};
use crate::db::outbox::UnsentCode;
use crate::domain::sign_in::emailed_codes::CodePurpose;
use crate::domain::sign_in::invitations::InvitationState;
use crate::domain::values::ids::{AccountId, InvitationId, OrgId};
use crate::domain::values::kinds::AccountKind;
use crate::domain::values::names::Email;
use crate::domain::values::token_string::TokenString;
use crate::error::{Error, Reason, Result};
use crate::state::State;

/// Whose links are shown.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// That of an email in the outbox.
    Email(Uuid),
    /// Those of all emails to an address that were not sent, and the first password of its account.
    Address(Email),
}

/// A link that is shown, without the URL that it begins with.
pub struct ShownLink {
    /// The name of the org.
    pub org: String,
    pub recipient: String,
    pub purpose: CodePurpose,
    pub code: TokenString<'static>,
    pub expire_time: OffsetDateTime,
}

/// What a link is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Subject {
    Invitation(OrgId, InvitationId),
    FirstPassword(OrgId, AccountId),
}

/// Creates a fresh link for each invitation or first password whose email was not sent.
///
/// # Errors
/// `RESOURCE_NOT_FOUND` where there is none; `ORG_SUSPENDED`, and `TOKEN_REVOKED` for an invitation that
/// can no longer be accepted, where an email was named.
pub async fn show(state: &State, wanted: &Wanted) -> Result<Vec<ShownLink>> {
    let subjects = match wanted {
        Wanted::Email(mail_id) => {
            let found = db::outbox::find_unsent_code(&state.db, *mail_id).await?;
            found.map(|code| subject(&code)).transpose()?.flatten().into_iter().collect()
        }
        Wanted::Address(address) => of_address(state, address).await?,
    };
    let mut shown = Vec::new();
    for subject in subjects {
        shown.push(show_one(state, subject).await?);
    }
    if shown.is_empty() {
        let name = match wanted {
            Wanted::Email(mail_id) => mail_id.to_string(),
            Wanted::Address(address) => address.to_string(),
        };
        return Err(Error::not_found("unsent invitation or first password", name));
    }
    Ok(shown)
}

/// What the link of an unsent email is for; none for a reset.
fn subject(code: &UnsentCode) -> Result<Option<Subject>> {
    let purpose = CodePurpose::parse(&code.purpose)
        .ok_or_else(|| Error::internal("a stored purpose of a code is unknown"))?;
    let org_id = code.org_id.into();
    Ok(match purpose {
        CodePurpose::Invitation => Some(Subject::Invitation(org_id, code.subject_id.into())),
        CodePurpose::FirstPassword => Some(Subject::FirstPassword(org_id, code.subject_id.into())),
        CodePurpose::Reset => None,
    })
}

/// What the links of an address are for: those of unsent emails, and the first password of a user who was
/// sent none.
async fn of_address(state: &State, address: &Email) -> Result<Vec<Subject>> {
    let mut db = state.db.acquire().await?;
    let mut subjects = Vec::new();
    for code in db::outbox::find_unsent_codes(&mut *db, address.as_str()).await? {
        subjects.extend(subject(&code)?.filter(|subject| !subjects.contains(subject)));
    }
    if let Some((org_id, account_id)) = db::accounts::find_holder(&mut *db, address.as_str()).await? {
        let own = Subject::FirstPassword(org_id, account_id);
        let account = db::accounts::find(&mut *db, org_id, account_id).await?;
        let has_none = account.is_some_and(|account| account.password_time.is_none());
        if has_none
            && !subjects.contains(&own)
            && !db::sign_in::emailed_codes::has_valid(&mut *db, org_id, account_id.uuid(), state.clock.now())
                .await?
        {
            subjects.push(own);
        }
    }
    Ok(subjects)
}

async fn show_one(state: &State, subject: Subject) -> Result<ShownLink> {
    let org_id = match subject {
        Subject::Invitation(org_id, _) | Subject::FirstPassword(org_id, _) => org_id,
    };
    transact!(state, Author::server(org_id), |mut tx| {
        let org = db::orgs::lock(&mut tx, org_id).await?;
        if org.lifecycle() != Default::default() {
            return Err(Reason::OrgSuspended.into());
        }
        let (shown, change) = match subject {
            Subject::Invitation(_, invitation_id) => {
                invitation(state, &mut tx, org.display_name, (org_id, invitation_id)).await?
            }
            Subject::FirstPassword(_, account_id) => {
                first_password(state, &mut tx, org.display_name, (org_id, account_id)).await?
            }
        };
        tx.record(change.fields([FieldChange::set("expire_time", shown.expire_time)])).await?;
        tx.commit().await?;
        Ok(shown)
    })
}

async fn invitation(
    state: &State,
    tx: &mut Transaction<'_>,
    org: String,
    (org_id, invitation_id): (OrgId, InvitationId),
) -> Result<(ShownLink, Change)> {
    let found = db::orgs::invitations::find(&mut **tx, org_id, invitation_id).await?;
    let found = found.filter(|invitation| invitation.state(tx.now()) == InvitationState::Pending);
    let invitation = found.ok_or_else(|| Error::not_found("open invitation", invitation_id))?;
    let purpose = CodePurpose::Invitation;
    // It ends with the invitation, as the one in the email.
    let expire_time = invitation.expire_time;
    let secret = NewSecret { org_id, subject_id: invitation_id.uuid(), purpose, asked: false };
    let code = emailed_codes::create(state, tx, &secret, false, expire_time).await?;
    let change = Change::of("invitation.link_shown", [invitation_id]).subjects([invitation_id]);
    Ok((ShownLink { org, recipient: invitation.email, purpose, code, expire_time }, change))
}

async fn first_password(
    state: &State,
    tx: &mut Transaction<'_>,
    org: String,
    (org_id, account_id): (OrgId, AccountId),
) -> Result<(ShownLink, Change)> {
    let account = db::accounts::lock(&mut *tx, org_id, account_id).await?;
    let account = account.ok_or_else(|| Error::not_found("account", account_id))?;
    if account.kind()? != AccountKind::User || account.password_time.is_some() {
        return Err(Error::not_found("user without a password", account_id));
    }
    let purpose = CodePurpose::FirstPassword;
    let expire_time = tx.now() + purpose.lifetime();
    let secret = NewSecret { org_id, subject_id: account_id.uuid(), purpose, asked: false };
    let code = emailed_codes::create(state, tx, &secret, false, expire_time).await?;
    let change = Change::of("account.link_shown", [account_id]).subjects([account_id]);
    Ok((ShownLink { org, recipient: account.username, purpose, code, expire_time }, change))
}
