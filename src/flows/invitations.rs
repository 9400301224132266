//! Invitations that are previewed and accepted, with the code from the email: over gRPC, or on the
//! page that the email's link leads to.
//!
//! **A code proves a mailbox and signs no account in.** Where no account has the address,
//! accepting creates one. Where one has, the client must have signed in to that account, and the
//! account must have proved that the mailbox is its own. Otherwise a reader of the email could
//! take over an account of another person, and an account that merely claims an address would get
//! what was meant for its owner.

use std::sync::Arc;

use sqlx::PgConnection;
use uuid::Uuid;

use super::mailboxes::{Claim, Holder};
use super::new_password::Rehearsed;
use super::reading::Reading;
use super::sign_in::SignedIn;
use super::transaction::{Transaction, transact};
use super::{emailed_codes, mailboxes};
use crate::crypto::password_hash::PasswordRecord;
use crate::db;
use crate::db::accounts::grants::{Grant, described, held, subjects, touched};
use crate::db::accounts::{Account, NewAccount};
use crate::db::events::{Actor, Change, FieldChange};
use crate::db::orgs::invitations::Invitation;
use crate::db::sign_in::emailed_codes::EmailedCode;
use crate::db::sign_in::password_maker::PasswordMaker;
use crate::domain::access::caller::Caller;
use crate::domain::access::grant_transfer::{Received, receive};
use crate::domain::access::request_context::RequestContext;
use crate::domain::access::rights::{HeldGrant, Rights};
use crate::domain::accounts::{AccountState, Details};
use crate::domain::sign_in::emailed_codes::End;
use crate::domain::sign_in::password::Password;
use crate::domain::values::ids::{AccountId, GrantId, InvitationId, OrgId, SYSTEM_ORG};
use crate::domain::values::kinds::AccountKind;
use crate::domain::values::names::{DisplayName, Email, Profile};
use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::Node;
use crate::domain::values::token_string::TokenStringKind;
use crate::error::{Error, Reason, Result, Violations};
use crate::state::State;

/// What a client that has the code may see.
pub struct FoundInvitation {
    code: EmailedCode,
    pub org_display_name: String,
    pub email: Email,
    /// No account has the address, or one that never proved it, which loses it.
    pub needs_sign_up: bool,
}

/// Returns what a code invites to. Changes nothing.
///
/// # Errors
/// Those of [`emailed_codes::check`]; `ORG_SUSPENDED`.
pub async fn look(state: &State, code: &str, origin: &RequestContext) -> Result<FoundInvitation> {
    let code = emailed_codes::check(state, code, TokenStringKind::Invitation, origin).await?;
    let org_id = code.org();
    let mut db = Reading::anonymously(state, origin).await?;
    let org = db::orgs::find(&mut *db, org_id).await?.ok_or(Reason::TokenRevoked)?;
    if org.lifecycle() != Default::default() {
        return Err(Reason::OrgSuspended.into());
    }
    let email = trusted(&mut db, &code).await?.email()?;
    let holder = mailboxes::holder(&mut db, &code, &email).await?;
    let needs_sign_up = !matches!(holder, Holder::Owner);
    Ok(FoundInvitation { code, org_display_name: org.display_name, email, needs_sign_up })
}

/// The invitation of a code, unless it was sent with a token or a session that is known to have leaked
/// to another person.
async fn trusted(db: &mut PgConnection, code: &EmailedCode) -> Result<Invitation> {
    let invitation = db::orgs::invitations::find(&mut *db, code.org(), code.subject_id.into()).await?;
    let invitation = invitation.ok_or(Reason::TokenRevoked)?;
    let (org_id, credential_id) = invitation.sent_with();
    if db::tokens::is_compromised(&mut *db, org_id, credential_id.into()).await?
        || db::sign_in::sessions::is_compromised(db, org_id, credential_id.into()).await?
    {
        let message = "the invitation was sent with a compromised credential: request another one";
        return Err(Error::with_message(Reason::TokenRevoked, message));
    }
    Ok(invitation)
}

/// The sign-up data: the names and the password of a new user.
pub struct SignUp {
    pub given_name: DisplayName,
    pub family_name: DisplayName,
    pub password: Password,
}

impl SignUp {
    /// Checks the fields that were typed.
    ///
    /// # Errors
    /// `INVALID_FIELD`, all violations at once.
    pub fn check(given_name: &str, family_name: &str, password: &str) -> Result<Self> {
        let mut violations = Violations::default();
        let name =
            |text: &str| required(text).and_then(|text| DisplayName::parse(text).map_err(|wrong| wrong.0));
        let given_name = violations.check("given_name", name(given_name));
        let family_name = violations.check("family_name", name(family_name));
        let password = required(password).and_then(|text| Password::parse(text).map_err(|wrong| wrong.0));
        let password = violations.check("password", password);
        let (given_name, family_name, password) = violations.all((given_name, family_name, password))?;
        Ok(Self { given_name, family_name, password })
    }
}

fn required(text: &str) -> Result<&str, &'static str> {
    if text.is_empty() { Err("is required") } else { Ok(text) }
}

/// Who accepts.
pub enum Accepting<'a> {
    /// A person without an account, who becomes a user of the org.
    New(&'a SignUp),
    /// The account of a session.
    Caller(&'a Caller),
    /// An account whose password was just verified.
    SignedIn(&'a SignedIn),
}

/// The new member.
pub struct Accepted {
    pub account: Account,
    pub dropped: Vec<HeldGrant>,
}

/// Accepts the invitation that was previewed.
///
/// # Errors
/// `TOKEN_REVOKED` or `TOKEN_EXPIRED` where the code was used, revoked or expired meanwhile;
/// `ORG_SUSPENDED`; `CREDENTIAL_MISSING` for a sign-up where an account has the address by now;
/// `INVITATION_EMAIL_MISMATCH` for another account, or one that has not proved its mailbox;
/// `ACCOUNT_DEACTIVATED`; `LOGIN_FAILED` where the password changed meanwhile; `RESOURCE_EXISTS`
/// for a member; `OVERLOADED` when no place is free to hash.
pub async fn accept(
    state: &State,
    shown: &FoundInvitation,
    accepting: &Accepting<'_>,
    origin: &Arc<RequestContext>,
) -> Result<Accepted> {
    let org_id = shown.code.org();
    let account_id = match accepting {
        Accepting::New(_) => state.clock.new_id(),
        Accepting::Caller(caller) => caller.account_id(),
        Accepting::SignedIn(who) => who.account_id,
    };
    let actor = match accepting {
        Accepting::Caller(caller) => Actor::from(*caller),
        Accepting::New(_) | Accepting::SignedIn(_) => Actor::account(account_id, None, origin),
    };
    let author = actor.in_org(org_id);
    let mut joining = Joining { state, shown, org_id, account_id, record: None };
    if let Accepting::New(new) = accepting {
        // Nothing is locked during hashing.
        let rehearsal =
            async { transact!(state, author.clone(), |mut tx| { joining.rehearse(new, &mut tx).await }) };
        let ((), rehearsed) = Rehearsed::by(state, org_id, rehearsal).await?;
        joining.record = Some(rehearsed.hash(state, (org_id, account_id), &new.password).await?);
    }
    transact!(state, author, |tx| { joining.carry_out(accepting, tx).await })
}

/// One acceptance.
struct Joining<'a> {
    state: &'a State,
    shown: &'a FoundInvitation,
    org_id: OrgId,
    account_id: AccountId,
    /// The hash of a new account's password.
    record: Option<PasswordRecord>,
}

impl Joining<'_> {
    /// Does all of a sign-up that comes before its password.
    async fn rehearse(&self, new: &SignUp, tx: &mut Transaction<'_>) -> Result<()> {
        let (invitation, claim) = self.use_code(tx).await?;
        self.insert_account(tx, new, claim.as_ref(), invitation.credential()).await.map(drop)
    }

    async fn carry_out(&self, accepting: &Accepting<'_>, mut tx: Transaction<'_>) -> Result<Accepted> {
        let Self { state, org_id, account_id, .. } = *self;
        let now = tx.now();
        let invitation_id = InvitationId::from(self.shown.code.subject_id);
        let (invitation, claim) = self.use_code(&mut tx).await?;
        let mut changes = Vec::new();
        let (account, mut fields) = match accepting {
            Accepting::New(new) => {
                let invited_by = invitation.credential();
                changes = self.insert_account(&mut tx, new, claim.as_ref(), invited_by).await?;
                self.sign_up(&mut tx, new, invited_by).await?
            }
            Accepting::Caller(caller) => self.join(&mut tx, caller.account_home()).await?,
            Accepting::SignedIn(who) => {
                who.conclude(&mut tx).await?;
                self.join(&mut tx, who.org_id).await?
            }
        };
        let Received { given, dropped } = divide(&mut tx, org_id, &invitation).await?;
        let numbered: Vec<_> = given.iter().map(|grant| (state.clock.new_id::<GrantId>(), grant)).collect();
        let given = db::accounts::grants::insert(&mut tx, org_id, account_id, &numbered, now).await?;
        db::orgs::invitations::accept(&mut tx, org_id, invitation_id, account_id, now).await?;
        fields.extend(given.iter().map(|grant| FieldChange::set("grants", described(grant))));
        let left_out = |grant: &HeldGrant| format!("{} on {}", grant.right, grant.node);
        fields.extend(dropped.iter().map(|grant| FieldChange::set("dropped_grants", left_out(grant))));
        changes.insert(0, self.change(invitation_id, &given, fields));
        tx.record_all(&changes).await?;
        tx.commit().await?;
        Ok(Accepted { account, dropped })
    }

    /// Ends the code, and returns its invitation, with an account that loses the address. Their orgs are
    /// locked.
    async fn use_code(&self, tx: &mut Transaction<'_>) -> Result<(Invitation, Option<Claim>)> {
        let (code, now) = (&self.shown.code, tx.now());
        let claim = mailboxes::lock(tx, code, &self.shown.email).await?;
        let org = db::orgs::lock(tx, self.org_id).await?;
        // Of two concurrent acceptances one ends the code; the other one waits here, and then
        // finds why the code no longer works.
        if !db::sign_in::emailed_codes::end(tx, code.code_id, End::Used, now).await? {
            let code = db::sign_in::emailed_codes::find(&mut **tx, code.code_id).await?;
            code.ok_or(Reason::TokenRevoked)?.check(now)?;
            return Err(Reason::Conflict.into());
        }
        if org.lifecycle() != Default::default() {
            return Err(Reason::OrgSuspended.into());
        }
        Ok((trusted(tx, code).await?, claim))
    }

    fn change(&self, invitation_id: InvitationId, given: &[Grant], fields: Vec<FieldChange>) -> Change {
        let mut resource_ids = touched(self.account_id, given);
        resource_ids.push(invitation_id.to_string());
        Change::of("invitation.accepted", resource_ids).fields(fields).subjects(subjects(
            self.org_id,
            self.account_id,
            given,
        ))
    }

    /// Creates the account, a user of the org, unless one has the address. An account that only claims
    /// the address is removed: returns that change.
    async fn insert_account(
        &self,
        tx: &mut Transaction<'_>,
        new: &SignUp,
        claim: Option<&Claim>,
        invited_by: Uuid,
    ) -> Result<Vec<Change>> {
        let Self { org_id, account_id, .. } = *self;
        let now = tx.now();
        let lost = mailboxes::take_address(tx, &self.shown.code, &self.shown.email, claim).await?;
        if db::accounts::find_holder(&mut **tx, self.shown.email.as_str()).await?.is_some() {
            return Err(sign_in_first());
        }
        let profile = Profile {
            given_name: Some(new.given_name.to_string()),
            family_name: Some(new.family_name.to_string()),
            ..Profile::default()
        };
        let details = Details { profile, ..Details::new(None, self.shown.email.clone()) };
        let made_by = Some(invited_by);
        let row =
            NewAccount { account_id, org_id, details: &details, deactivated: false, preview: false, made_by };
        db::accounts::insert(&mut *tx, &row, now).await?;
        Ok(lost)
    }

    /// Gives the account that was created a password, and the proof of its mailbox.
    async fn sign_up(
        &self,
        tx: &mut Transaction<'_>,
        new: &SignUp,
        invited_by: Uuid,
    ) -> Result<(Account, Vec<FieldChange>)> {
        let Self { org_id, account_id, .. } = *self;
        let now = tx.now();
        let record = self.record.as_ref().ok_or_else(|| Error::internal("who signs up has a password"))?;
        let maker = PasswordMaker { made_by: Some(invited_by), ends_with: None };
        db::sign_in::passwords::set(&mut *tx, org_id, account_id, record, maker, now).await?;
        mailboxes::prove(tx, &self.shown.code, account_id).await?;
        let account = db::accounts::find(&mut **tx, org_id, account_id).await?;
        let account = account.ok_or_else(|| Error::internal("an account just made is gone"))?;
        let fields = vec![
            FieldChange::set("username", &self.shown.email),
            FieldChange::set("profile.given_name", &new.given_name),
            FieldChange::set("profile.family_name", &new.family_name),
            FieldChange::set("password_time", now),
        ];
        Ok((account, fields))
    }

    /// Makes an existing account a member, if it is the one that the invitation is for.
    async fn join(&self, tx: &mut Transaction<'_>, home: OrgId) -> Result<(Account, Vec<FieldChange>)> {
        let Self { org_id, account_id, .. } = *self;
        let now = tx.now();
        let account = db::accounts::lock(&mut *tx, home, account_id).await?;
        let account = account.ok_or(Reason::AccountDeactivated)?;
        if account.username != self.shown.email.as_str()
            || account.kind()? != AccountKind::User
            || account.email_proved_time.is_none()
        {
            return Err(Reason::InvitationEmailMismatch.into());
        }
        if account.state()? != AccountState::Active {
            return Err(Reason::AccountDeactivated.into());
        }
        if db::orgs::memberships::find(&mut **tx, org_id, account_id).await?.is_some() {
            return Err(Error::exists("member", &self.shown.email));
        }
        let title = account.details()?.title();
        db::orgs::memberships::join(&mut *tx, org_id, (home, account_id), &title, now).await?;
        Ok((account, vec![FieldChange::set("home_org_id", home)]))
    }
}

/// An account has the address: its owner accepts while signed in to it.
pub fn sign_in_first() -> Error {
    let message = "an account has the address of the invitation: sign in to it to accept. An account without a password sets one first, with the link in the email that was sent for it";
    Error::with_message(Reason::CredentialMissing, message)
}

/// Selects the grants of the invitation that can be given now. The org is locked; the resources
/// stay locked until the transaction ends.
async fn divide(tx: &mut PgConnection, org_id: OrgId, invitation: &Invitation) -> Result<Received> {
    let asked = invitation.grants()?;
    let mut senders = Vec::new();
    for sender in invitation.senders() {
        senders.push(rights_of_sender(&mut *tx, org_id, sender).await?);
    }
    let rights = senders.into_iter().reduce(|all, sender| all.meet(&sender)).unwrap_or_default();
    let roles = db::orgs::roles::find_named(&mut *tx, org_id, asked.iter().map(|(right, _)| right)).await?;
    let wanted: Vec<_> = asked.iter().filter_map(|(_, node)| node.path().cloned()).collect();
    let paths = db::orgs::resources::hold(tx, org_id, &wanted).await?;
    let opened = asked.into_iter().map(|(right, node)| held(right, node, &roles)).collect();
    Ok(receive(&rights, opened, &roles, &paths))
}

/// The rights that the sender of an invitation holds in the org now: none, once the account is
/// deactivated, deleted or no member any more, or its home is suspended; those of an owner, for an
/// operator.
async fn rights_of_sender(
    tx: &mut PgConnection,
    org_id: OrgId,
    (home, sender): (OrgId, AccountId),
) -> Result<Rights> {
    let account = db::accounts::find(&mut *tx, home, sender).await?;
    let active = account.map(|account| account.state()).transpose()? == Some(AccountState::Active);
    let org = db::orgs::find(&mut *tx, home).await?;
    if !active || org.is_none_or(|org| org.lifecycle() != Default::default()) {
        return Ok(Rights::default());
    }
    let mut rights = Rights::default();
    if db::orgs::memberships::find(&mut *tx, org_id, sender).await?.is_some() {
        let held = db::accounts::grants::find_held(&mut *tx, org_id, sender).await?;
        rights = held.rights().clone();
    }
    if home == SYSTEM_ORG {
        let held = db::accounts::grants::find_held(&mut *tx, SYSTEM_ORG, sender).await?;
        if held.rights().cover(&Permission::PLATFORM_ACCOUNTS, &Node::Org) {
            rights = rights.join(&Rights::of_owner());
        }
    }
    Ok(rights)
}
