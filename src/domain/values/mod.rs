//! Texts and numbers that are checked once, when they come in.

pub mod ids;
pub mod kinds;
pub mod markup;
pub mod names;
pub mod networks;
pub mod permissions;
pub mod resources;
pub mod token_string;
pub mod web_origin;
