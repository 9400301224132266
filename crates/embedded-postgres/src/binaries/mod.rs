//! PostgreSQL's programs on this machine.

mod fetch;
pub(crate) mod find;
mod install;
mod path;
mod pins;
pub(crate) mod programs;
