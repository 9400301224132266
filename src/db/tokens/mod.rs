//! Tokens, their secrets, and the principal that a credential authenticates.

mod counts;
pub mod credentials;
pub mod keys;
mod labels;
mod list;
mod makers;
pub mod principals;
pub mod reminders;
pub mod renewals;
pub mod secrets;
mod token;
pub mod used_assertions;
pub mod web_origins;

pub use labels::Labels;
pub use list::{TokenFilter, page};
pub use makers::{find_made_by, is_compromised};
pub use token::*;
