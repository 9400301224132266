//! Tokens, their secrets, and the principal that a credential authenticates.

mod counts;
pub mod credentials;
mod labels;
mod list;
pub mod principals;
pub mod reminders;
pub mod secrets;
mod token;
pub mod web_origins;

pub use labels::Labels;
pub use list::{TokenFilter, page};
pub use token::*;
