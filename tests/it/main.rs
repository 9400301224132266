//! All integration tests, in one binary: it links once, and its tests share one
//! PostgreSQL server, each with a database of its own.

mod access_matrix;
mod account_conversion;
mod account_updates;
mod accounts;
mod bad_input;
mod browser;
mod command_line;
mod crash;
mod escalation;
mod feed;
mod floors;
mod grantable;
mod grants;
mod harness;
mod last_use;
mod lifecycle;
mod main_job;
mod migrations;
mod outage;
mod paging;
mod principals;
mod proto;
mod races;
mod resources;
mod restrictions;
mod roles;
mod rotation;
mod serving;
mod status_contract;
mod tokens;
