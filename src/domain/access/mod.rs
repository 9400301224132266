//! Who may do what.

pub mod access_token;
pub mod caller;
pub mod checks;
pub mod credential;
#[cfg(test)]
mod delegation;
pub mod exchange;
pub mod impersonation;
pub mod member;
pub mod presentation;
pub mod reassignment;
pub mod rights;
pub mod roles;
pub mod takeover;
