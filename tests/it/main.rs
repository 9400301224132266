//! All integration tests, in one binary: it links once, and its tests share one
//! PostgreSQL server, each with a database of its own.
#![allow(unreachable_pub, reason = "nothing imports a binary of tests")]

mod accounts;
mod contract;
mod edge;
mod federation;
mod harness;
mod mail;
mod oauth;
mod ops;
mod orgs;
mod sign_in;
mod streams;
mod tokens;
