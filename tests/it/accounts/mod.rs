//! Accounts, what they may do, and who may change it.

mod clone;
mod conversion;
mod details;
mod escalation;
mod grantable;
mod grants;
mod impersonated_life;
mod impersonation;
mod lifecycle;
mod limits;
mod listing;
mod updates;
