//! Tokens, their secrets, and what is behind a credential.

pub mod credentials;
mod list;
pub mod principals;
pub mod reminders;
pub mod secrets;
mod token;
pub mod web_origins;

pub use list::{TokenFilter, page};
pub use token::*;
