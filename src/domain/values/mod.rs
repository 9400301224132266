//! Strings and numbers that are validated once, when they come in.

pub mod client_address;
pub mod client_certificate;
pub mod ids;
pub mod kinds;
pub mod markup;
pub mod names;
pub mod networks;
pub mod permissions;
pub mod references;
pub mod resources;
pub mod signed_jwt;
pub mod strict_json;
pub mod subject;
pub mod text;
pub mod token_string;
pub mod trace_parent;
pub mod web_origin;
