//! Countersign: identities for workloads. Service accounts, long-lived tokens, and
//! the short-lived JWTs that they are exchanged for.
//!
//! The floors, and which way imports go (`docs/architecture.md` walks through them):
//!
//! - `main` → [`commands`] → [`server`] → [`jobs`]
//! - transport: [`grpc`], [`http`]
//! - flows, state and tables: [`flows`], [`mail`], [`client_addr`], [`state`], [`db`], [`crypto`]
//! - rules, pure: [`domain`]
//! - the ground: [`error`], [`clock`], [`config`], [`telemetry`], [`os`]
#![deny(unsafe_code)]

pub mod client_addr;
pub mod clock;
pub mod commands;
pub mod config;
pub mod crypto;
pub mod db;
pub mod domain;
pub mod error;
pub mod flows;
pub mod grpc;
pub mod http;
pub mod jobs;
pub mod mail;
pub mod os;
pub mod server;
pub mod state;
pub mod telemetry;
