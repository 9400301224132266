//! The handlers of `AccountService`, by noun.

pub mod access;
pub mod caller;
pub mod create;
pub mod get;
pub mod life;
pub mod owners;
pub mod settings;
