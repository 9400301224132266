//! The changes of a rule, as events show them.

use crate::db::events::{Change, EventValue as _, FieldChange};
use crate::db::federation::StoredRule;
use crate::domain::federation::rule::{ClaimMatch, ClaimValue, Rule};
use crate::domain::values::text::texts;

/// The change of a rule as its event says it.
pub(super) fn updated_event(before: (&StoredRule, &Rule), after: (&StoredRule, &Rule)) -> Change {
    let rule_id = before.0.id();
    Change::of("federation_rule.updated", [rule_id])
        .fields(changes(Some(before), Some(after)))
        .subjects([rule_id])
}

/// The changed fields for the event.
pub(super) fn changes(
    before: Option<(&StoredRule, &Rule)>,
    after: Option<(&StoredRule, &Rule)>,
) -> Vec<FieldChange> {
    type Pair<'a> = (&'a StoredRule, &'a Rule);
    let text = |field, read: fn(Pair<'_>) -> Option<String>| {
        FieldChange::between(field, before.and_then(read), after.and_then(read))
    };
    let fields = [
        text("issuer_id", |(_, rule)| Some(rule.issuer_id.to_string())),
        text("account_id", |(_, rule)| Some(rule.account_id.to_string())),
        text("subject", |(_, rule)| rule.matches.subject().exact().map(str::to_owned)),
        text("subject_prefix", |(_, rule)| rule.matches.subject().prefix().map(str::to_owned)),
        text("expire_time", |(_, rule)| rule.expire_time.map(|end| end.event_value())),
        text("access_token_lifetime", |(_, rule)| {
            rule.access_token_lifetime.map(|lifetime| format!("{}s", lifetime.as_secs()))
        }),
        text("disabled", |(stored, _)| Some(stored.disabled.to_string())),
        text("display_name", |(stored, _)| stored.display_name.clone()),
    ];
    let mut all: Vec<_> = fields.into_iter().flatten().collect();
    type Read = fn(Pair<'_>) -> Vec<String>;
    let lists: [(&'static str, Read); 6] = [
        ("audiences", |(_, rule)| texts(rule.matches.audiences())),
        ("claims", |(_, rule)| rule.matches.claims().iter().map(claim).collect()),
        ("scopes", |(_, rule)| texts(&rule.restrictions.scopes)),
        ("resources", |(_, rule)| texts(&rule.restrictions.resources)),
        ("allowed_audiences", |(_, rule)| texts(&rule.restrictions.audiences)),
        ("allowed_cidrs", |(_, rule)| texts(&rule.restrictions.networks)),
    ];
    for (field, read) in lists {
        let list = |pair: Option<Pair<'_>>| pair.map(read).unwrap_or_default();
        all.extend(FieldChange::of_lists(field, &list(before), &list(after)));
    }
    all
}

/// A claim as an event shows it: `path > to > it = "value" or "value"`.
fn claim(claim: &ClaimMatch) -> String {
    let value = |value: &ClaimValue| match value {
        ClaimValue::Text(text) => format!("{text:?}"),
        ClaimValue::Bool(flag) => flag.to_string(),
    };
    let values: Vec<_> = claim.values().iter().map(value).collect();
    let how = if claim.contains() { "contains" } else { "=" };
    format!("{} {how} {}", claim.path().join(" > "), values.join(" or "))
}
