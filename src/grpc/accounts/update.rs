//! `UpdateAccount`.

use super::{details, messages, settings};
use crate::db;
use crate::db::events::Change;
use crate::domain::access::acting::Acting;
use crate::domain::accounts::Details;
use crate::domain::sign_in::emailed_codes::End;
use crate::domain::values::ids::AccountId;
use crate::domain::values::kinds::AccountKind;
use crate::domain::values::names::{AccountName, Description, Email, Profile};
use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::Node;
use crate::error::{Error, Reason, Result, Violations};
use crate::flows::emailed_codes::send_first_password;
use crate::flows::transaction::transact;
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::grpc::wire::convert;
use crate::grpc::wire::update_mask::{Mask, check_etag};
use crate::state::State;

/// The fields that may be updated.
const KNOWN: [&str; 14] = [
    // Known, so that it is refused with its own reason.
    "kind",
    "name",
    "username",
    "profile.display_name",
    "profile.given_name",
    "profile.family_name",
    "profile.phone_number",
    "profile.locale",
    "profile.zoneinfo",
    "contact_email",
    "description",
    "settings.email_notifications",
    "settings.links",
    "settings.attributes",
];

/// The fields that an account may update on itself. Naming the kind is refused for all callers.
fn is_ones_own(path: &str) -> bool {
    path == "kind"
        || path.starts_with("profile.")
        || (path.starts_with("settings.") && path != "settings.attributes")
}

pub async fn update_account(
    state: &State,
    call: &Call,
    request: pb::UpdateAccountRequest,
) -> Result<pb::UpdateAccountResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    let asked = request.account.unwrap_or_default();
    let mut violations = Violations::default();
    let account_id = violations.check("account.id", AccountId::parse(&asked.id));
    let has_mask = request.update_mask.as_ref().is_some_and(|mask| !mask.paths.is_empty());
    let mask = Mask::read(&mut violations, request.update_mask.as_ref(), &KNOWN, |path| is_set(&asked, path));

    let own = account_id.is_some_and(|id| acting.may_change_self(id, &Permission::ACCOUNTS_WRITE))
        && mask.paths().all(is_ones_own);
    if !own {
        acting.require(&Permission::ACCOUNTS_WRITE, &Node::Org)?;
    }
    if has_mask && mask.has("kind") {
        return Err(Reason::KindIsImmutable.into());
    }
    let (account_id,) = violations.all((account_id,))?;

    transact!(state, &acting, |mut tx| {
        let now = tx.now();
        let found = db::accounts::lock(&mut tx, acting.org_id, account_id).await?;
        let account = found.ok_or_else(|| Error::not_found("account", account_id))?;
        check_etag(&asked.etag, account.revision)?;
        if mask.has("kind") && asked.kind != i32::from(convert::account_kind(account.kind()?)) {
            return Err(Reason::KindIsImmutable.into());
        }
        let before = account.details()?;
        let org = db::orgs::find(&mut *tx, acting.org_id).await?;
        let org = org.ok_or_else(|| Error::not_found("org", acting.org_id))?;
        let username = |text: &str| username(state, &acting, &before, &org.slug, text);
        let after = updated(&before, &mask, &asked, username)?;
        let fields = details::changes(&before, &after);
        if fields.is_empty() {
            return Ok(pb::UpdateAccountResponse { account: Some(messages::account(&account)?) });
        }
        if before.username != after.username {
            // The reader of the named mailbox can set the password.
            let held = db::accounts::grants::find_held(&mut tx, acting.org_id, account_id).await?;
            acting.may_take_over(held.rights())?;
            if before.kind() == AccountKind::User {
                acting.may_send_code()?;
            }
        }
        let account = db::accounts::update(&mut tx, acting.org_id, account_id, &before, &after, now).await?;
        let change = Change::of("account.updated", [account_id]).fields(fields).subjects([account_id]);
        tx.record(change).await?;
        if before.username != after.username {
            // A code proves access to the mailbox that it was sent to, which is no longer the
            // account's.
            db::sign_in::emailed_codes::end_all(&mut tx, acting.org_id, account_id.uuid(), End::Revoked, now)
                .await?;
            send_first_password(state, &mut tx, &org, &account).await?;
        }
        tx.commit().await?;
        Ok(pb::UpdateAccountResponse { account: Some(messages::account(&account)?) })
    })
}

/// The details with the fields that the mask names taken from the message. A string that is
/// absent or empty there is cleared.
fn updated(
    before: &Details,
    mask: &Mask,
    asked: &pb::Account,
    username: impl Fn(&str) -> Result<Result<Email, String>>,
) -> Result<Details> {
    let mut violations = Violations::default();
    let mut after = before.clone();
    if mask.has("name") {
        let name = match before.kind() {
            AccountKind::ServiceAccount => AccountName::parse(&asked.name).map_err(|wrong| wrong.to_string()),
            AccountKind::User => Err("is for service accounts: a user has none".into()),
        };
        after.name = violations.check("name", name).or(after.name);
    }
    if mask.has("username") && !asked.username.eq_ignore_ascii_case(before.username.as_str()) {
        let username = username(&asked.username)?;
        after.username = violations.check("username", username).unwrap_or(after.username);
    }
    after.profile = profile(&mut violations, &before.profile, mask, asked.profile.as_ref());
    if mask.has("contact_email") {
        let parsed = convert::optional(asked.contact_email(), Email::parse);
        after.contact_email = violations.check("contact_email", parsed).flatten();
    }
    if mask.has("description") {
        let parsed = convert::optional(asked.description(), Description::parse);
        after.description = violations.check("description", parsed).flatten();
    }
    let given = asked.settings.clone().unwrap_or_default();
    // Setting the current value, even if it is the default, changes nothing.
    let is = Some(before.settings.notifies(before.kind()));
    if mask.has("settings.email_notifications") && given.email_notifications != is {
        after.settings.email_notifications = given.email_notifications;
    }
    if mask.has("settings.links") {
        after.settings.links = settings::links(&mut violations, &given.links, after.name.as_ref());
    }
    if mask.has("settings.attributes") {
        after.settings.attributes = settings::attributes(&mut violations, given.attributes.as_ref());
    }
    let mut outer = Violations::default();
    outer.take_in("account", violations);
    outer.finish()?;
    Ok(after)
}

fn profile(
    violations: &mut Violations,
    before: &Profile,
    mask: &Mask,
    asked: Option<&pb::Profile>,
) -> Profile {
    macro_rules! each {
        ($($field:ident)*) => {{
            let has = |field: &str| mask.has(&format!("profile.{field}"));
            let asked = asked.cloned().unwrap_or_default();
            let given = pb::Profile {
                $($field: asked.$field.filter(|text| !text.is_empty() && has(stringify!($field))),)*
            };
            let read = messages::profile(violations, Some(&given));
            Profile { $($field: if has(stringify!($field)) { read.$field } else { before.$field.clone() },)* }
        }};
    }
    each!(display_name given_name family_name phone_number locale zoneinfo)
}

/// Checks a new username. A user's is the address that password emails are sent to. Whatever
/// refers to a service account by its username must keep referring to that account. The org may
/// change neither.
///
/// # Errors
/// `EMAIL_IS_IMMUTABLE` for a user, unless an operator calls. A problem with the string is
/// returned as the inner error.
fn username(
    state: &State,
    acting: &Acting<'_>,
    before: &Details,
    slug: &str,
    text: &str,
) -> Result<Result<Email, String>> {
    Ok(match (before.kind(), acting.caller.is_operator()) {
        (AccountKind::User, false) => return Err(Reason::EmailIsImmutable.into()),
        (AccountKind::User, true) => details::mailbox(state, text).map_err(|wrong| wrong.to_string()),
        (AccountKind::ServiceAccount, false) => {
            Err("is set when the service account is created; only an operator can change it".into())
        }
        (AccountKind::ServiceAccount, true) => details::own_username(state, text, slug),
    })
}

/// Whether a field is set in the message, which means without a mask that it changes.
fn is_set(asked: &pb::Account, path: &str) -> bool {
    let (profile, settings) = (asked.profile.as_ref(), asked.settings.as_ref());
    let in_profile = |is_set: fn(&pb::Profile) -> bool| profile.is_some_and(is_set);
    let in_settings = |is_set: fn(&pb::AccountSettings) -> bool| settings.is_some_and(is_set);
    match path {
        "kind" => asked.kind != 0,
        "name" => !asked.name.is_empty(),
        "username" => !asked.username.is_empty(),
        "profile.display_name" => in_profile(|profile| profile.display_name.is_some()),
        "profile.given_name" => in_profile(|profile| profile.given_name.is_some()),
        "profile.family_name" => in_profile(|profile| profile.family_name.is_some()),
        "profile.phone_number" => in_profile(|profile| profile.phone_number.is_some()),
        "profile.locale" => in_profile(|profile| profile.locale.is_some()),
        "profile.zoneinfo" => in_profile(|profile| profile.zoneinfo.is_some()),
        "contact_email" => asked.contact_email.is_some(),
        "description" => asked.description.is_some(),
        "settings.email_notifications" => in_settings(|settings| settings.email_notifications.is_some()),
        "settings.links" => in_settings(|settings| !settings.links.is_empty()),
        "settings.attributes" => in_settings(|settings| settings.attributes.is_some()),
        _ => false,
    }
}
