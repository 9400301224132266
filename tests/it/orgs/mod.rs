//! Orgs: their roles, resources, policies, invitations and events.

pub mod audit_log;
mod invitations;
mod lifecycle;
mod proved_addresses;
mod resources;
mod roles;
pub mod token_policy;
