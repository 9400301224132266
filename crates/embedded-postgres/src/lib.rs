//! A private PostgreSQL server as a child process, for `countersign dev` and for the tests.
//!
//! It listens on a Unix socket in a directory that only its own user and root can enter, needs no
//! password, and never outlasts the process that started it. All functions here block.
#![forbid(unsafe_code)]

mod binaries;
mod cluster;
mod log;
mod pid_file;
mod place;
mod server;
pub mod test_server;

pub use server::{Options, Server};
