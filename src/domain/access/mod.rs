//! Access control: who may do what.

pub mod access_token;
pub mod acting;
pub mod caller;
pub mod checks;
pub mod credential;
#[cfg(test)]
mod delegation;
pub mod exchange;
pub mod grant_transfer;
pub mod impersonation;
pub mod impersonation_token;
pub mod member;
pub mod presentation;
pub mod reassignment;
pub mod request_context;
pub mod rights;
pub mod roles;
pub mod takeover;
pub mod work;
