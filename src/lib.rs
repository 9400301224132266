//! Countersign: identities for workloads. Service accounts, long-lived tokens, and
//! the short-lived JWTs that they are exchanged for.
//!
//! The floors, and which way imports go (`docs/architecture.md` walks through them):
//!
//! - `main` → [`commands`] → [`server`] → [`jobs`]
//! - transport: [`grpc`], [`http`], over [`connections`]
//! - flows, state and tables: [`flows`], [`mail`], [`client_addr`], [`state`], [`db`], [`crypto`]
//! - rules, pure: [`domain`]
//! - the ground: [`error`], [`clock`], [`config`], [`metrics`], [`telemetry`], [`tls`]
//! - crates of their own, below all of it: the messages ([`grpc::pb`]), the embedded PostgreSQL, the system's calls
#![forbid(unsafe_code)]
#![allow(missing_docs, reason = "public for the tests and the benches alone; what needs no words has none")]
#![cfg_attr(test, allow(unreachable_pub, reason = "modules of tests alone share models"))]

pub mod client_addr;
pub mod clock;
pub mod commands;
pub mod config;
pub mod connections;
pub mod crypto;
pub mod db;
pub mod domain;
pub mod error;
pub mod flows;
pub mod grpc;
pub mod http;
pub mod jobs;
pub mod mail;
pub mod metrics;
pub mod server;
pub mod state;
pub mod telemetry;
pub mod tls;
