//! What a token is, how long it lives and what may change about it.

pub mod expiration;
pub mod limits;
pub mod narrowing;
pub mod policy;
pub mod reminders;
pub mod restrictions;
pub mod rotation;
pub mod secrets;
