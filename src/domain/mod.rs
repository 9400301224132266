//! The rules, pure: no runtime, no database, no transport.

pub mod access_token;
pub mod accounts;
pub mod caller;
pub mod cloning;
pub mod codes;
#[cfg(test)]
mod delegation;
pub mod exchange;
pub mod ids;
pub mod impersonation;
pub mod invitations;
pub mod life;
pub mod mail;
pub mod markup;
pub mod member;
pub mod names;
pub mod narrowing;
pub mod networks;
pub mod orgs;
pub mod owners;
pub mod pages;
pub mod password;
pub mod permissions;
pub mod policy;
pub mod principal;
pub mod reminders;
pub mod resources;
pub mod rights;
pub mod roles;
pub mod rotation;
pub mod search;
pub mod sessions;
pub mod signing_keys;
pub mod throttle;
pub mod token_policy;
pub mod token_text;
pub mod web_origin;
