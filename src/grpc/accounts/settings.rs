//! The settings of an account, from and to their message, and their changes.

use std::collections::{BTreeMap, BTreeSet};

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value as PbValue};
use serde_json::{Map, Number, Value};

use crate::db::events::FieldChange;
use crate::domain::accounts::{Attributes, Link, MAX_LINKS, Settings};
use crate::domain::values::kinds::AccountKind;
use crate::domain::values::names::{AccountName, Invalid, LinkKind, LinkSlug};
use crate::error::Violations;
use crate::grpc::pb;

/// Reads the settings of an account; `name` is that of a service account.
pub fn read(
    violations: &mut Violations,
    message: Option<&pb::AccountSettings>,
    name: Option<&AccountName>,
) -> Settings {
    let Some(message) = message else {
        return Settings::default();
    };
    Settings {
        email_notifications: message.email_notifications,
        links: links(violations, &message.links, name),
        attributes: attributes(violations, message.attributes.as_ref()),
    }
}

/// Reads links. A link without a slug gets the slug of the account's name.
pub fn links(
    violations: &mut Violations,
    messages: &BTreeMap<String, pb::AccountLink>,
    name: Option<&AccountName>,
) -> BTreeMap<LinkKind, Link> {
    if messages.len() > MAX_LINKS {
        let found = messages.len();
        violations.add("settings.links", format!("holds {found} links; at most {MAX_LINKS} are allowed"));
        return BTreeMap::new();
    }
    let mut links = BTreeMap::new();
    for (kind, link) in messages {
        let slug = match link.slug.as_str() {
            "" => Link::default_slug(name),
            text => LinkSlug::parse(text),
        };
        match LinkKind::parse(kind) {
            Ok(kind) => {
                let slug = violations.check(&format!("settings.links[{kind}].slug"), slug);
                links.extend(slug.map(|slug| (kind, Link { enabled: link.enabled, slug })));
            }
            Err(wrong) => violations.add("settings.links", format!("{kind:.100}: a kind {wrong}")),
        }
    }
    links
}

/// Reads attributes; if there are none, they are an empty object.
pub fn attributes(violations: &mut Violations, message: Option<&Struct>) -> Attributes {
    let Some(message) = message else {
        return Attributes::default();
    };
    let parsed = object(message).and_then(Attributes::parse);
    violations.check("settings.attributes", parsed).unwrap_or_default()
}

fn object(message: &Struct) -> Result<Map<String, Value>, Invalid> {
    message.fields.iter().map(|(key, value)| Ok((key.clone(), json(value)?))).collect()
}

fn json(value: &PbValue) -> Result<Value, Invalid> {
    Ok(match &value.kind {
        None => return Err(Invalid("must give each value a kind")),
        Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(it)) => Value::Bool(*it),
        Some(Kind::StringValue(it)) => Value::String(it.clone()),
        Some(Kind::NumberValue(it)) => {
            let number = Number::from_f64(*it);
            Value::Number(number.ok_or(Invalid("must hold only finite numbers"))?)
        }
        Some(Kind::StructValue(it)) => Value::Object(object(it)?),
        Some(Kind::ListValue(it)) => Value::Array(it.values.iter().map(json).collect::<Result<_, _>>()?),
    })
}

/// The message for settings, with defaults filled in.
pub fn message(settings: &Settings, kind: AccountKind) -> pb::AccountSettings {
    let link = |(kind, link): (&LinkKind, &Link)| {
        (kind.to_string(), pb::AccountLink { enabled: link.enabled, slug: link.slug.to_string() })
    };
    pb::AccountSettings {
        email_notifications: Some(settings.notifies(kind)),
        links: settings.links.iter().map(link).collect(),
        attributes: Some(structure(settings.attributes.object())),
    }
}

fn structure(object: &Map<String, Value>) -> Struct {
    Struct { fields: object.iter().map(|(key, value)| (key.clone(), pb_value(value))).collect() }
}

fn pb_value(value: &Value) -> PbValue {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(it) => Kind::BoolValue(*it),
        Value::Number(it) => Kind::NumberValue(it.as_f64().unwrap_or_default()),
        Value::String(it) => Kind::StringValue(it.clone()),
        Value::Array(it) => Kind::ListValue(ListValue { values: it.iter().map(pb_value).collect() }),
        Value::Object(it) => Kind::StructValue(structure(it)),
    };
    PbValue { kind: Some(kind) }
}

/// The event fields of a settings change: one for each link that differs. Attributes belong to
/// applications, so the event says that they differ and not what they contain.
pub fn changes(before: &Settings, after: &Settings) -> Vec<FieldChange> {
    let text = |said: Option<bool>| said.map(|on| on.to_string());
    let mut fields = Vec::from_iter(FieldChange::between(
        "settings.email_notifications",
        text(before.email_notifications),
        text(after.email_notifications),
    ));
    let kinds: BTreeSet<_> = before.links.keys().chain(after.links.keys()).collect();
    for kind in kinds {
        let shown = |settings: &Settings| {
            let on = |enabled| if enabled { "on" } else { "off" };
            settings.links.get(kind).map(|link| format!("{kind}: {}, {}", link.slug, on(link.enabled)))
        };
        fields.extend(FieldChange::between("settings.links", shown(before), shown(after)));
    }
    if before.attributes != after.attributes {
        let size = |settings: &Settings| {
            let count = settings.attributes.object().len();
            (count > 0).then(|| format!("{count} keys"))
        };
        let (old_value, new_value) = (size(before), size(after));
        fields.push(FieldChange { field: "settings.attributes", old_value, new_value });
    }
    fields
}
