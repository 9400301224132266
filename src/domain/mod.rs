//! The rules as pure functions: no runtime, no database, no transport.

pub mod access;
pub mod accounts;
pub mod event_types;
pub mod federation;
pub mod limits;
pub mod mail;
pub mod oauth;
pub mod orgs;
pub mod paging;
pub mod sign_in;
pub mod signing_keys;
pub mod tokens;
pub mod values;
