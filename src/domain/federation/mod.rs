//! Workloads that come with the JWT of another issuer: the issuers, and the rules by which they act as a service
//! account.

pub mod algorithm;
pub mod assertion;
pub mod ceiling;
pub mod claims;
pub mod decoys;
pub mod evaluation;
pub mod federated;
pub mod fetching;
pub mod inline_keys;
pub mod issuer;
pub mod issuer_name;
pub mod jwk;
pub mod jwk_set;
pub mod pins;
pub mod presentation;
pub mod reach;
pub mod rule;
pub mod shared_issuers;
