//! Accounts and grants, from and to their protocol messages.

use super::settings;
use crate::db;
use crate::domain::accounts::AccountState;
use crate::domain::values::ids::{AccountId, OrgId};
use crate::domain::values::names;
use crate::domain::values::names::{DisplayName, Profile};
use crate::error::{Result, Violations};
use crate::grpc::pb;
use crate::grpc::wire::convert;

/// A profile with every field checked.
pub fn profile(violations: &mut Violations, message: Option<&pb::Profile>) -> Profile {
    let Some(message) = message else {
        return Profile::default();
    };
    let name = |text: &str| DisplayName::parse(text).map(|name| name.to_string());
    let mut check =
        |field: &str, text: &Option<String>, parse: &dyn Fn(&str) -> Result<String, names::Invalid>| {
            text.as_deref().and_then(|text| violations.check(&format!("profile.{field}"), parse(text)))
        };
    Profile {
        display_name: check("display_name", &message.display_name, &name),
        given_name: check("given_name", &message.given_name, &name),
        family_name: check("family_name", &message.family_name, &name),
        phone_number: check("phone_number", &message.phone_number, &names::phone_number),
        locale: check("locale", &message.locale, &names::locale),
        zoneinfo: check("zoneinfo", &message.zoneinfo, &names::zoneinfo),
    }
}

/// The message for an account.
pub fn account(account: &db::accounts::Account) -> Result<pb::Account> {
    let kind = account.kind()?;
    let profile = account.profile();
    Ok(pb::Account {
        id: account.id().to_string(),
        org_id: OrgId::from(account.org_id).to_string(),
        kind: convert::account_kind(kind).into(),
        state: account_state(account.state()?).into(),
        name: account.name.clone().unwrap_or_default(),
        username: account.username.clone(),
        title: profile.title(&account.username),
        profile: Some(pb::Profile {
            display_name: profile.display_name,
            given_name: profile.given_name,
            family_name: profile.family_name,
            phone_number: profile.phone_number,
            locale: profile.locale,
            zoneinfo: profile.zoneinfo,
        }),
        contact_email: account.contact_email.clone(),
        description: account.description.clone(),
        settings: Some(settings::message(&account.settings()?, kind)),
        login_enabled: account.password_time.is_some(),
        create_time: Some(convert::timestamp(account.create_time)),
        update_time: Some(convert::timestamp(account.update_time)),
        delete_time: account.delete_time.map(convert::timestamp),
        etag: account.revision.to_string(),
        external_id: account.external_id.clone(),
    })
}

/// The lifecycle state of an account.
fn account_state(state: AccountState) -> pb::AccountState {
    match state {
        AccountState::Invited => pb::AccountState::Invited,
        AccountState::Active => pb::AccountState::Active,
        AccountState::Deactivated => pb::AccountState::Deactivated,
        AccountState::Deleted => pb::AccountState::Deleted,
    }
}

/// The message for a grant.
pub fn grant(grant: &db::accounts::grants::Grant) -> Result<pb::Grant> {
    Ok(pb::Grant {
        grant_id: grant.id().to_string(),
        right: Some(convert::shown_right(&grant.right()?)),
        resource: grant.node()?.to_string(),
        account_id: AccountId::from(grant.account_id).to_string(),
        create_time: Some(convert::timestamp(grant.create_time)),
    })
}
