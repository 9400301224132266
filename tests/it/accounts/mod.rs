//! Accounts, what they may do, and who may change it.

mod check_access;
mod clone;
mod conversion;
mod details;
mod escalation;
mod external_ids;
mod grantable;
mod grants;
mod impersonated_life;
mod impersonation;
mod lifecycle;
mod limits;
mod listing;
mod names;
mod names_of_people;
mod updates;
