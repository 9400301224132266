//! Tokens, their secrets, and the principal that a credential authenticates.

mod counts;
pub mod credentials;
mod list;
mod makers;
pub mod principals;
pub mod reminders;
pub mod renewals;
pub mod secrets;
mod token;
pub mod web_origins;

pub use list::{TokenFilter, page};
pub use makers::{find_made_by, hold, is_compromised};
pub use token::*;
