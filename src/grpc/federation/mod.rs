//! The RPCs of `OrgService` about federation: issuers, rules, and what was presented to them.

pub mod issuers;
pub mod messages;
pub mod presentations;
mod probes;
pub mod rules;
mod trial;
