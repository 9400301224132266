//! Long-lived tokens: their limits, their lifetime and what may change about them.

pub mod assertion;
pub mod ed25519_point;
pub mod expiration;
pub mod limits;
pub mod narrowing;
pub mod policy;
pub mod public_key;
pub mod reminders;
pub mod renewal;
pub mod restrictions;
pub mod revocations;
pub mod rotation;
pub mod secrets;
