//! The details of an account: parsing them from requests, and their changes.

use super::settings;
use crate::db::events::FieldChange;
use crate::domain::accounts::{Details, Settings};
use crate::domain::values::names::{AccountName, Description, Email, ExternalId, Invalid};
use crate::state::State;

/// `name@<org slug>.<issuer host>`.
pub fn default_username(state: &State, name: &AccountName, slug: &str) -> Result<Email, &'static str> {
    let username = format!("{}@{slug}.{}", name.key(), state.issuer.host());
    Email::parse(&username).map_err(|_| "is too long to derive a username from: set username")
}

/// Parses the username of a service account, which must end in one of the org's own suffixes.
pub fn own_username(state: &State, text: &str, slug: &str) -> Result<Email, String> {
    let own = format!("{slug}.{}", state.issuer.host());
    let username = Email::parse(text).map_err(|wrong| wrong.to_string())?;
    let domain = username.domain();
    if domain == slug || domain == own { Ok(username) } else { Err(format!("must end in @{slug} or @{own}")) }
}

/// Parses the address of a user, which is a mailbox. Refuses the names that service accounts get,
/// so that no user takes the name of another org's service account.
pub fn mailbox(state: &State, text: &str) -> Result<Email, Invalid> {
    let address = Email::parse_mailbox(text)?;
    let (domain, host) = (address.domain(), state.issuer.host());
    let made = domain == host || domain.strip_suffix(host).is_some_and(|rest| rest.ends_with('.'));
    if made || !domain.contains('.') {
        return Err(Invalid("must be a mailbox: this is the form of a service account's username"));
    }
    Ok(address)
}

/// The event fields of an account that is created.
pub fn given(details: &Details) -> Vec<FieldChange> {
    let fields = shown(details).into_iter();
    let fields = fields.filter_map(|(field, value)| Some(FieldChange::set(field, value?)));
    fields.chain(settings::changes(&Settings::default(), &details.settings)).collect()
}

/// The event fields of an account that changes.
pub fn changes(before: &Details, after: &Details) -> Vec<FieldChange> {
    let text = |value: Option<&str>| value.map(str::to_owned);
    let fields = shown(before).into_iter().zip(shown(after));
    let fields = fields.filter_map(|((field, old_value), (_, new_value))| {
        FieldChange::between(field, text(old_value), text(new_value))
    });
    fields.chain(settings::changes(&before.settings, &after.settings)).collect()
}

fn shown(details: &Details) -> [(&'static str, Option<&str>); 11] {
    let profile = &details.profile;
    [
        ("name", details.name.as_ref().map(AccountName::as_str)),
        ("username", Some(details.username.as_str())),
        ("profile.display_name", profile.display_name.as_deref()),
        ("profile.given_name", profile.given_name.as_deref()),
        ("profile.family_name", profile.family_name.as_deref()),
        ("profile.phone_number", profile.phone_number.as_deref()),
        ("profile.locale", profile.locale.as_deref()),
        ("profile.zoneinfo", profile.zoneinfo.as_deref()),
        ("contact_email", details.contact_email.as_ref().map(Email::as_str)),
        ("description", details.description.as_ref().map(Description::as_str)),
        ("external_id", details.external_id.as_ref().map(ExternalId::as_str)),
    ]
}
