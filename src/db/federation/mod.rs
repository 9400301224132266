//! Issuers, federation rules, and what was presented to them.

pub mod credentials;
pub mod fetches;
pub mod issuers;
pub mod makers;
pub mod presentations;
pub mod rules;
pub mod uses;

pub use issuers::StoredIssuer;
pub use rules::StoredRule;
