//! The handlers of `OrgService`, by noun.

pub mod create;
pub mod get;
pub mod resources;
pub mod roles;
