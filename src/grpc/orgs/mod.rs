//! The handlers of `OrgService`, by noun.

pub mod create;
pub mod events;
pub mod get;
pub mod lifecycle;
pub mod members;
pub mod resources;
pub mod roles;
pub mod token_policy;
pub mod update;
