//! Accounts, the orgs that they are members of, and their grants there.

mod account;
pub mod grants;
mod guests;
mod lifecycle;
pub mod links;
mod list;
pub mod members;
mod update;
pub mod updated;

pub use account::*;
pub use guests::{find_guest_orgs, leave, lock_orgs};
pub use lifecycle::{find_deleted_by, purge, remove, set_lifecycle};
pub use list::{AccountFilter, fill_searchable, page};
pub use update::{Renames, update};
