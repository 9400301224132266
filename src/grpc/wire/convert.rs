//! Between the messages of the protocol and what the rest of the house speaks.

use std::time::Duration;

use prost_types::Timestamp;
use time::OffsetDateTime;

use crate::db;
use crate::db::tokens::ShownSecret;
use crate::domain::accounts::AccountState;
use crate::domain::signing_keys::KeyState;
use crate::domain::tokens::limits::MAX_LIST;
use crate::domain::tokens::policy::{Ceilings, Rules, TokenState};
use crate::domain::tokens::rotation::SecretState;
use crate::domain::values::ids::{AccountId, EventId, OrgId, RoleId};
use crate::domain::values::kinds::{AccountKind, TokenKind};
use crate::domain::values::names;
use crate::domain::values::names::{DisplayName, Profile};
use crate::domain::values::permissions::{Permission, Right, SystemRole};
use crate::domain::values::resources::Node;
use crate::domain::values::token_string::obfuscated;
use crate::error::{Error, Result, Violations};
use crate::grpc::accounts::settings;
use crate::grpc::orgs::token_policy;
use crate::grpc::pb;

/// The `org_id` of a request; empty is none.
pub fn org_id(text: &str) -> Result<Option<OrgId>> {
    match text {
        "" => Ok(None),
        text => OrgId::parse(text).map(Some).map_err(|wrong| Error::invalid("org_id", wrong.to_string())),
    }
}

/// A time on the wire.
pub fn timestamp(time: OffsetDateTime) -> Timestamp {
    Timestamp { seconds: time.unix_timestamp(), nanos: time.nanosecond() as i32 }
}

/// A time from the wire, cut to microseconds, which is what is kept. The range is the one that
/// `google.protobuf.Timestamp` states; the database ends before the calendar of [`OffsetDateTime`] does.
pub fn time(timestamp: &Timestamp) -> Result<OffsetDateTime, &'static str> {
    const WRONG: &str = "must be a time from 0001-01-01T00:00:00Z to 9999-12-31T23:59:59.999999999Z";
    let seconds = OffsetDateTime::from_unix_timestamp(timestamp.seconds).map_err(|_| WRONG)?;
    let nanos = u32::try_from(timestamp.nanos).map_err(|_| WRONG)?;
    if !(1..=9_999).contains(&seconds.year()) {
        return Err(WRONG);
    }
    seconds.replace_nanosecond(nanos / 1_000 * 1_000).map_err(|_| WRONG)
}

/// A duration from the wire.
pub fn duration(duration: &prost_types::Duration) -> Result<time::Duration, &'static str> {
    let (seconds, nanos) = (duration.seconds, duration.nanos);
    if nanos.unsigned_abs() >= 1_000_000_000 || (seconds > 0 && nanos < 0) || (seconds < 0 && nanos > 0) {
        return Err("must be a duration whose parts have one sign");
    }
    Ok(time::Duration::new(seconds, nanos))
}

/// A duration on the wire.
pub fn proto_duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration { seconds: duration.as_secs() as i64, nanos: duration.subsec_nanos() as i32 }
}

/// A text that may be left out, checked where it is not.
pub fn optional<T, E>(text: &str, parse: impl Fn(&str) -> Result<T, E>) -> Result<Option<T>, E> {
    if text.is_empty() { Ok(None) } else { parse(text).map(Some) }
}

/// A profile, every field checked.
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

/// Grants to be given: each needs a right and a resource. At most 100.
pub fn grants(violations: &mut Violations, messages: &[pb::Grant]) -> Vec<(Right, Node)> {
    if messages.len() > MAX_LIST {
        violations.add("grants", format!("holds {} grants; at most {MAX_LIST} are allowed", messages.len()));
        return Vec::new();
    }
    let mut grants: Vec<(Right, Node)> = Vec::with_capacity(messages.len());
    for (i, message) in messages.iter().enumerate() {
        let right = violations.check(&format!("grants[{i}].right"), right(message.right.as_ref()));
        let node = violations.check(&format!("grants[{i}].resource"), Node::parse(&message.resource));
        if let (Some(right), Some(node)) = (right, node) {
            grants.push((right, node));
        }
    }
    grants
}

/// The right of a grant.
pub fn right(message: Option<&pb::grant::Right>) -> Result<Right, names::Invalid> {
    match message {
        None => Err(names::Invalid("is required: role_id or permission")),
        Some(pb::grant::Right::RoleId(role)) => Right::parse_role(role),
        Some(pb::grant::Right::Permission(permission)) => {
            Permission::parse(permission).map(Right::Permission)
        }
    }
}

/// A right as callers see it.
pub fn shown_right(right: &Right) -> pb::grant::Right {
    match right {
        Right::System(role) => pb::grant::Right::RoleId(role.id().to_owned()),
        Right::Custom(id) => pb::grant::Right::RoleId(RoleId::to_string(id)),
        Right::Permission(permission) => pb::grant::Right::Permission(permission.to_string()),
    }
}

/// A grant as callers see it.
pub fn grant(grant: &db::accounts::grants::Grant) -> Result<pb::Grant> {
    Ok(pb::Grant {
        grant_id: grant.id().to_string(),
        right: Some(shown_right(&grant.right()?)),
        resource: grant.node()?.to_string(),
        account_id: AccountId::from(grant.account_id).to_string(),
        create_time: Some(timestamp(grant.create_time)),
    })
}

/// An account as callers see it.
pub fn account(account: &db::accounts::Account) -> Result<pb::Account> {
    let kind = account.kind()?;
    let profile = account.profile();
    Ok(pb::Account {
        id: account.id().to_string(),
        org_id: OrgId::from(account.org_id).to_string(),
        kind: account_kind(kind).into(),
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
        create_time: Some(timestamp(account.create_time)),
        update_time: Some(timestamp(account.update_time)),
        delete_time: account.delete_time.map(timestamp),
        etag: account.revision.to_string(),
    })
}

/// What an account is.
pub fn account_kind(kind: AccountKind) -> pb::AccountKind {
    match kind {
        AccountKind::User => pb::AccountKind::User,
        AccountKind::ServiceAccount => pb::AccountKind::ServiceAccount,
    }
}

/// A kind to list; unspecified is any.
pub fn kind(kind: i32) -> Result<Option<AccountKind>, &'static str> {
    if kind == pb::AccountKind::Unspecified as i32 { Ok(None) } else { parse_account_kind(kind).map(Some) }
}

/// A state to list; unspecified is any but deleted.
pub fn state(state: i32) -> Result<Option<AccountState>, &'static str> {
    match pb::AccountState::try_from(state) {
        Ok(pb::AccountState::Unspecified) => Ok(None),
        Ok(pb::AccountState::Invited) => Ok(Some(AccountState::Invited)),
        Ok(pb::AccountState::Active) => Ok(Some(AccountState::Active)),
        Ok(pb::AccountState::Deactivated) => Ok(Some(AccountState::Deactivated)),
        Ok(pb::AccountState::Deleted) => Ok(Some(AccountState::Deleted)),
        Err(_) => Err("must be an AccountState"),
    }
}

/// Where an account is in its life.
fn account_state(state: AccountState) -> pb::AccountState {
    match state {
        AccountState::Invited => pb::AccountState::Invited,
        AccountState::Active => pb::AccountState::Active,
        AccountState::Deactivated => pb::AccountState::Deactivated,
        AccountState::Deleted => pb::AccountState::Deleted,
    }
}

/// What an account is to be.
pub fn parse_account_kind(kind: i32) -> Result<AccountKind, &'static str> {
    match pb::AccountKind::try_from(kind) {
        Ok(pb::AccountKind::User) => Ok(AccountKind::User),
        Ok(pb::AccountKind::ServiceAccount) => Ok(AccountKind::ServiceAccount),
        Ok(pb::AccountKind::Unspecified) | Err(_) => {
            Err("must be ACCOUNT_KIND_USER or ACCOUNT_KIND_SERVICE_ACCOUNT")
        }
    }
}

/// A custom role as callers see it.
pub fn role(role: &db::orgs::roles::Role) -> Result<pb::Role> {
    let kinds = role.fields()?.terms.account_kinds;
    Ok(pb::Role {
        id: role.id().to_string(),
        name: role.name.clone(),
        display_name: role.display_name.clone(),
        description: role.description.clone(),
        permissions: role.permissions.clone(),
        account_kinds: kinds.into_iter().map(|kind| account_kind(kind).into()).collect(),
        system: false,
        create_time: Some(timestamp(role.create_time)),
        update_time: Some(timestamp(role.update_time)),
        etag: role.revision.to_string(),
    })
}

/// A role that every org has.
pub fn system_role(role: SystemRole) -> pb::Role {
    pb::Role {
        id: role.id().to_owned(),
        name: role.id().to_owned(),
        permissions: role.permissions().map(Permission::to_string).collect(),
        system: true,
        ..Default::default()
    }
}

/// An org as callers see it, its policy within the ceilings of the deployment.
pub fn org(org: &db::orgs::Org, ceilings: &Ceilings) -> Result<pb::Org> {
    let state = match (org.delete_time, org.suspend_time) {
        (Some(_), _) => pb::OrgState::Deleted,
        (None, Some(_)) => pb::OrgState::Suspended,
        (None, None) => pb::OrgState::Active,
    };
    Ok(pb::Org {
        id: org.id().to_string(),
        slug: org.slug.clone(),
        display_name: org.display_name.clone(),
        state: state.into(),
        token_policy: Some(token_policy::message(&org.policy()?, ceilings, org.revision)),
        create_time: Some(timestamp(org.create_time)),
        update_time: Some(timestamp(org.update_time)),
        delete_time: org.delete_time.map(timestamp),
        etag: org.revision.to_string(),
    })
}

/// A member as callers see it.
pub fn member(member: &db::orgs::memberships::MemberRow) -> Result<pb::Member> {
    Ok(pb::Member {
        org_id: OrgId::from(member.org_id).to_string(),
        account_id: member.id().to_string(),
        home_org_id: OrgId::from(member.home_org_id).to_string(),
        kind: account_kind(member.kind()?).into(),
        title: member.title.clone(),
        create_time: Some(timestamp(member.create_time)),
    })
}

/// A line of an org's log as callers see it.
pub fn event(org_id: OrgId, event: db::events::log::Event) -> pb::Event {
    let account = |id: uuid::Uuid| AccountId::from(id).to_string();
    let changes = event.changes.0.into_iter().map(|change| pb::FieldChange {
        field: change.field,
        old_value: change.old_value,
        new_value: change.new_value,
    });
    pb::Event {
        id: EventId::from(event.event_id).to_string(),
        org_id: org_id.to_string(),
        r#type: event.kind,
        actor_id: event.actor_id.map(account).unwrap_or_default(),
        impersonator_id: event.impersonator_id.map(account).unwrap_or_default(),
        operator: event.operator,
        resource_ids: event.resource_ids,
        changes: changes.collect(),
        address: event.address.unwrap_or_default(),
        request_id: event.request_id.unwrap_or_default(),
        create_time: Some(timestamp(event.create_time)),
    }
}

/// A node of the catalogue as callers see it.
pub fn resource(resource: &db::orgs::resources::Resource) -> pb::Resource {
    pb::Resource {
        path: resource.path.clone(),
        display_name: resource.display_name.clone(),
        create_time: Some(timestamp(resource.create_time)),
        update_time: Some(timestamp(resource.update_time)),
        etag: resource.revision.to_string(),
    }
}

/// A token as callers see it, now, under the rules of its org.
pub fn token(token: &db::tokens::Token, rules: &Rules, now: OffsetDateTime) -> Result<pb::Token> {
    let kind = token.kind()?;
    let state = match token.state(rules, now)? {
        TokenState::Active => pb::TokenState::Active,
        TokenState::Expired => pb::TokenState::Expired,
        TokenState::Revoked => pb::TokenState::Revoked,
        TokenState::Blocked => pb::TokenState::Blocked,
    };
    let secrets = token.secrets().map(|secret| token_secret(token, kind, &secret, now));
    let reason = token.revoke_reason.as_deref().and_then(revoke_reason);
    Ok(pb::Token {
        id: token.id().to_string(),
        org_id: OrgId::from(token.org_id).to_string(),
        account_id: token.account().to_string(),
        kind: token_kind(kind).into(),
        state: state.into(),
        display_name: token.display_name.clone().unwrap_or_default(),
        purpose: token.purpose.clone().unwrap_or_default(),
        labels: token.labels.iter().flat_map(|labels| labels.0.clone()).collect(),
        scopes: token.scopes.clone(),
        resources: token.resources.clone(),
        allowed_origins: token.allowed_origins.clone(),
        allowed_cidrs: token.allowed_cidrs.clone(),
        allowed_audiences: token.allowed_audiences.clone(),
        may_manage_tokens: token.may_manage_tokens,
        secrets: secrets.collect(),
        create_time: Some(timestamp(token.create_time)),
        expire_time: token.expire_time.map(timestamp),
        revoke_time: token.revoke_time.map(timestamp),
        revoke_reason: reason.unwrap_or(pb::RevokeReason::Unspecified).into(),
        etag: token.revision.to_string(),
    })
}

fn token_kind(kind: TokenKind) -> pb::TokenKind {
    match kind {
        TokenKind::Secret => pb::TokenKind::Secret,
        TokenKind::Publishable => pb::TokenKind::Publishable,
        // Never shown as a token.
        TokenKind::Session => pb::TokenKind::Unspecified,
    }
}

fn token_secret(
    token: &db::tokens::Token,
    kind: TokenKind,
    secret: &ShownSecret<'_>,
    now: OffsetDateTime,
) -> pb::TokenSecret {
    let state = match SecretState::of(secret.expire_time, now) {
        SecretState::Active => pb::TokenSecretState::Active,
        SecretState::Retiring => pb::TokenSecretState::Retiring,
        SecretState::Expired => pb::TokenSecretState::Expired,
    };
    pb::TokenSecret {
        obfuscated: obfuscated(kind.into(), token.id(), secret.hint),
        state: state.into(),
        create_time: Some(timestamp(secret.create_time)),
        expire_time: secret.expire_time.map(timestamp),
        last_use_time: secret.last_use_time.map(timestamp),
        last_use_address: secret.last_use_address.unwrap_or_default().to_owned(),
        use_count: secret.use_count,
    }
}

/// A signing key as callers see it.
pub fn signing_key(key: &db::keys::signing_keys::SigningKey) -> pb::SigningKey {
    let state = match key.state() {
        Some(KeyState::Next) => pb::SigningKeyState::Next,
        Some(KeyState::Active) => pb::SigningKeyState::Active,
        Some(KeyState::Retiring) => pb::SigningKeyState::Retiring,
        Some(KeyState::Revoked) => pb::SigningKeyState::Revoked,
        None => pb::SigningKeyState::Unspecified,
    };
    let reason = key.revoke_reason.as_deref().and_then(revoke_reason);
    pb::SigningKey {
        kid: key.kid.clone(),
        algorithm: key.algorithm.clone(),
        state: state.into(),
        create_time: Some(timestamp(key.create_time)),
        activate_time: key.activate_time.map(timestamp),
        retire_time: key.retire_time.map(timestamp),
        revoke_time: key.revoke_time.map(timestamp),
        revoke_reason: reason.unwrap_or(pb::RevokeReason::Unspecified).into(),
    }
}

/// The name of a reason as the database keeps it: without the enum's prefix.
pub fn revoke_reason_name(reason: pb::RevokeReason) -> &'static str {
    reason.as_str_name().trim_start_matches("REVOKE_REASON_")
}

fn revoke_reason(name: &str) -> Option<pb::RevokeReason> {
    pb::RevokeReason::from_str_name(&format!("REVOKE_REASON_{name}"))
}
