//! The RPCs of `OrgService` about federation: issuers, rules, and what was presented to them.

pub mod issuers;
pub mod messages;
pub mod presentations;
mod probes;
mod rule_changes;
mod rule_fields;
pub mod rules;
mod trial;
