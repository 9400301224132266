//! The handlers of `TokenService`, one file for each noun.

mod claims;
mod compromise;
pub mod create;
pub mod exchange;
pub mod explain;
pub mod get;
pub mod impersonate;
pub mod introspect;
pub mod keys;
pub mod leaks;
pub mod login;
pub mod messages;
mod new_secret;
pub mod presented_at;
pub mod reassign;
pub mod revoke;
pub mod rotate;
pub mod service;
pub mod sessions;
pub mod signing_keys;
pub mod update;
pub mod verifiers;
mod watch_revocations;
