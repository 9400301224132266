//! Orgs: their roles, resources, policies, invitations and events.

pub mod audit_log;
mod federation_rules;
mod invitations;
mod issuers;
mod lifecycle;
mod proved_addresses;
mod resources;
mod roles;
pub mod token_policy;
