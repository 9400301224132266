//! Access control: who may do what.

pub mod access_token;
pub mod acting;
mod alternatives;
pub mod call_facts;
pub mod caller;
pub mod carried;
pub mod checks;
pub mod credential;
#[cfg(test)]
mod delegation;
pub mod exchange;
mod federating;
pub mod grant_transfer;
pub mod held;
mod holdings;
pub mod impersonation;
pub mod impersonation_token;
pub mod lists;
pub mod member;
pub mod missing;
mod places;
pub mod presentation;
pub mod reassignment;
pub mod request_context;
pub mod rights;
#[cfg(test)]
mod rights_properties;
pub mod roles;
pub mod sets;
pub mod standing;
mod steps;
pub mod takeover;
mod visited;
pub mod work;
