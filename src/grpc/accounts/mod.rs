//! The handlers of `AccountService`, by noun.

pub mod access;
pub mod caller;
pub mod clone;
pub mod convert;
pub mod create;
pub mod details;
pub mod get;
pub mod grantable;
pub mod life;
pub mod links;
pub mod owners;
pub mod passwords;
pub mod resets;
pub mod settings;
pub mod update;
