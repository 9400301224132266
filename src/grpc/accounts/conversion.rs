//! `ConvertAccount`: turns a user into a service account, or the reverse. Nothing else changes
//! the kind of an account, and no member of the org can do it.

use sqlx::PgConnection;

use super::details::{changes, default_username, mailbox};
use super::messages;
use super::owners::{keep_one, refuse_live_tokens};
use crate::db;
use crate::db::accounts::Renames;
use crate::db::accounts::grants::{Grant, described, subjects, touched};
use crate::db::events::{Change, EventValue, FieldChange};
use crate::db::references;
use crate::domain::access::acting::Acting;
use crate::domain::access::roles::may_hold;
use crate::domain::accounts::{AccountState, Details};
use crate::domain::sign_in::emailed_codes::End;
use crate::domain::values::ids::{AccountId, OrgId};
use crate::domain::values::kinds::AccountKind;
use crate::domain::values::names::{AccountName, Description, Email};
use crate::domain::values::permissions::Permission;
use crate::domain::values::references::AccountRef;
use crate::domain::values::resources::Node;
use crate::error::{Error, Result, Violations};
use crate::flows::emailed_codes::send_first_password;
use crate::flows::transaction::{Transaction, transact};
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::grpc::pb::convert_account_request::Identity;
use crate::state::State;

/// The checked request: which account is converted to what, and why.
struct Conversion {
    account: AccountRef,
    /// None converts to a user.
    name: Option<AccountName>,
    username: Email,
    reason: Description,
}

impl Conversion {
    /// Checks a request. `slug` is that of the account's org.
    fn check(state: &State, request: &pb::ConvertAccountRequest, slug: &str) -> Result<Self> {
        let mut violations = Violations::default();
        let account = violations.check("account_id", AccountRef::parse(&request.account_id));
        let identity = identity(state, &mut violations, request, slug);
        let reason = violations.check("reason", Description::required(&request.reason));
        let (account, (name, username), reason) = violations.all((account, identity, reason))?;
        Ok(Self { account, name, username, reason })
    }

    /// The account's details afterwards. Its own settings are reset to the defaults of the new
    /// kind; links are off, and keep their slugs.
    fn details(&self, before: &Details) -> Details {
        let mut after =
            Details { name: self.name.clone(), username: self.username.clone(), ..before.clone() };
        after.settings.email_notifications = None;
        after.settings.links.values_mut().for_each(|link| link.enabled = false);
        after
    }
}

/// The name and the username for the requested kind.
fn identity(
    state: &State,
    violations: &mut Violations,
    request: &pb::ConvertAccountRequest,
    slug: &str,
) -> Option<(Option<AccountName>, Email)> {
    match (pb::AccountKind::try_from(request.kind), &request.identity) {
        (Ok(pb::AccountKind::ServiceAccount), Some(Identity::Name(name))) => {
            let name = violations.check("name", AccountName::parse(name))?;
            let username = violations.check("name", default_username(state, &name, slug))?;
            Some((Some(name), username))
        }
        (Ok(pb::AccountKind::User), Some(Identity::Email(email))) => {
            Some((None, violations.check("email", mailbox(state, email))?))
        }
        (Ok(pb::AccountKind::ServiceAccount), _) => {
            violations.check("name", Err("is required for a service account"))
        }
        (Ok(pb::AccountKind::User), _) => violations.check("email", Err("is required for a user")),
        _ => violations.check("kind", Err("must be ACCOUNT_KIND_USER or ACCOUNT_KIND_SERVICE_ACCOUNT")),
    }
}

pub async fn convert_account(
    state: &State,
    call: &Call,
    request: pb::ConvertAccountRequest,
) -> Result<pb::ConvertAccountResponse> {
    call.caller()?.require_platform(&Permission::PLATFORM_ACCOUNTS)?;
    let acting = call.acting_in(state, &request.org_id).await?;
    // By that right, in the org that the call names.
    acting.require(&Permission::ACCOUNTS_WRITE, &Node::Org)?;
    let org = db::orgs::find(&mut *call.read(state).await?, acting.org_id).await?;
    let slug = org.ok_or_else(|| Error::not_found("org", acting.org_id))?.slug;
    let conversion = Conversion::check(state, &request, &slug)?;
    transact!(state, &acting, |tx| { carry_out(state, &acting, &conversion, tx).await })
}

async fn carry_out(
    state: &State,
    acting: &Acting<'_>,
    conversion: &Conversion,
    mut tx: Transaction<'_>,
) -> Result<pb::ConvertAccountResponse> {
    let (org_id, now) = (acting.org_id, tx.now());
    let account_id = references::account(&mut tx, acting, &conversion.account).await?;
    let guest_in = db::accounts::lock_orgs(&mut tx, org_id, account_id).await?;
    let found = db::accounts::lock(&mut tx, org_id, account_id).await?;
    let account = found.ok_or_else(|| Error::not_found("account", &conversion.account))?;
    let before = account.details()?;
    let after = conversion.details(&before);
    if before.kind() == after.kind() {
        return Err(Error::invalid("kind", "is the account's kind already"));
    }
    // A user has no tokens in its home org, and no account has any in the orgs that it leaves.
    let mut without = guest_in.clone();
    without.extend((after.kind() == AccountKind::User).then_some(org_id));
    refuse_live_tokens(&mut tx, &without, account_id, now).await?;
    let held = db::accounts::grants::find_held(&mut tx, org_id, account_id).await?;
    // The reader of the named mailbox, or the caller that sets the next password, acts as the
    // account.
    acting.may_take_over(held.rights())?;
    if after.kind() == AccountKind::User {
        acting.may_send_code()?;
    }
    let becomes = AccountState::of(after.kind(), false, account.deactivate_time.is_some(), false);
    keep_one(&mut tx, org_id, &account, &held, Some(becomes)).await?;

    let left = db::accounts::leave(&mut tx, account_id, &guest_in, now).await?;
    let lost = unfit(&mut tx, org_id, account_id, after.kind()).await?;
    db::accounts::grants::delete(&mut tx, org_id, &lost.iter().map(Grant::id).collect::<Vec<_>>()).await?;
    db::sign_in::passwords::clear(&mut tx, org_id, account_id).await?;
    db::sign_in::emailed_codes::end_all(&mut tx, org_id, account_id.uuid(), End::Revoked, now).await?;
    db::sign_in::sessions::end_for_account(&mut tx, org_id, account_id, None, now).await?;
    db::accounts::raise_version(&mut tx, org_id, account_id).await?;
    let converted =
        db::accounts::update(&mut tx, org_id, account_id, &before, &after, Renames::AtHome, now).await?;

    let kind = FieldChange {
        old_value: Some(before.kind().event_value()),
        ..FieldChange::set("kind", after.kind())
    };
    let mut fields = vec![kind, FieldChange::set("reason", &conversion.reason)];
    fields.extend(changes(&before, &after));
    fields.extend(account.password_time.map(|time| FieldChange::cleared("password_time", time)));
    fields.extend(lost.iter().map(|grant| FieldChange::cleared("grants", described(grant))));
    let home = Change::of("account.converted", touched(account_id, &lost))
        .fields(fields)
        .subjects(subjects(org_id, account_id, &lost));
    let guests =
        left.iter().map(|(host, lost)| db::orgs::memberships::removed(*host, (org_id, account_id), lost));
    let changes: Vec<_> = std::iter::once(home).chain(guests).collect();
    tx.record_all(&changes).await?;
    let org = db::orgs::find(&mut *tx, org_id).await?.ok_or_else(|| Error::not_found("org", org_id))?;
    send_first_password(state, &mut tx, &org, &converted).await?;
    tx.commit().await?;
    Ok(pb::ConvertAccountResponse { account: Some(messages::account(&converted)?) })
}

/// The account's grants of roles that are not for accounts of the kind.
async fn unfit(
    tx: &mut PgConnection,
    org_id: OrgId,
    account_id: AccountId,
    kind: AccountKind,
) -> Result<Vec<Grant>> {
    let grants = db::accounts::grants::find_of(&mut *tx, org_id, account_id).await?;
    let rights = grants.iter().map(Grant::right).collect::<Result<Vec<_>>>()?;
    let roles = db::orgs::roles::find_named(tx, org_id, &rights).await?;
    let unfit = grants.into_iter().zip(rights).filter(|(_, right)| !may_hold(kind, right, &roles));
    Ok(unfit.map(|(grant, _)| grant).collect())
}
