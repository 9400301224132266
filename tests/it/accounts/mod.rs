//! Accounts, what they may do, and who may change it.

mod clone;
mod conversion;
mod details;
mod escalation;
mod grantable;
mod grants;
mod impersonation;
mod lifecycle;
mod limits;
mod listing;
mod names;
mod updates;
