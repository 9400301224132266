//! The handlers of `AccountService`, one file for each noun.

pub mod check_access;
pub mod clone;
pub mod conversion;
pub mod create;
pub mod details;
pub mod get;
pub mod get_caller;
pub mod grantable;
pub mod grants;
pub mod lifecycle;
pub mod links;
pub mod messages;
pub mod owners;
pub mod password_resets;
pub mod passwords;
pub mod service;
pub mod settings;
pub mod update;
