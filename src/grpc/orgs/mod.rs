//! The handlers of `OrgService`, one file for each noun.

pub mod accept_invitation;
pub mod create;
pub mod events;
pub mod get;
pub mod invitations;
pub mod lifecycle;
pub mod members;
pub mod messages;
pub mod resources;
pub mod roles;
pub mod service;
pub mod token_policy;
pub mod update;
pub mod watch_events;
