//! The gRPC transport. Protocol messages are visible only here and in tests.

pub mod accounts;
pub mod door;
pub mod federation;
mod health;
pub mod json;
pub mod layers;
pub mod oauth;
pub mod orgs;
mod reflection;
pub mod rpcs;
mod service;
mod streams;
pub mod tokens;
pub mod wire;

pub use countersign_proto as pb;
