//! Countersign: identities for workloads. Service accounts, long-lived tokens, and
//! the short-lived JWTs that they are exchanged for.
//!
//! The floors, and which way imports go (`docs/architecture.md` walks through them):
//!
//! - `main` → [`server`], [`jobs`], [`dev`], [`bootstrap`], [`keys_command`], [`mail_command`]
//! - transport: [`grpc`], [`http`]
//! - state and tables: [`principals`], [`feed`], [`last_use`], [`origins`], [`rotation`], [`sign_in`],
//!   [`codes`], [`resets`], [`invitations`], [`mail`], [`peer`], [`transaction`], [`state`], [`db`], [`keys`]
//! - rules, pure: [`domain`]
//! - the ground: [`error`], [`clock`], [`config`], [`telemetry`]
#![deny(unsafe_code)]

pub mod bootstrap;
pub mod clock;
pub mod codes;
pub mod config;
pub mod db;
pub mod dev;
pub mod domain;
pub mod error;
pub mod feed;
pub mod grpc;
pub mod http;
pub mod invitations;
pub mod jobs;
pub mod keys;
pub mod keys_command;
pub mod last_use;
pub mod mail;
pub mod mail_command;
pub mod origins;
pub mod os;
pub mod peer;
pub mod principals;
pub mod resets;
pub mod rotation;
pub mod server;
pub mod sign_in;
pub mod state;
pub mod telemetry;
pub mod transaction;
