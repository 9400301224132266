//! Conversions and request fields that the messages of all services share.

pub mod answer_size;
pub mod bounds;
pub mod convert;
pub mod idempotency;
pub mod org;
pub mod page_token;
pub mod restrictions;
pub mod update_mask;
