//! The gRPC transport. Protocol messages are visible only here and in tests.

pub mod accounts;
mod health;
pub mod layers;
pub mod orgs;
mod reflection;
pub mod router;
mod service;
pub mod tokens;
pub mod wire;

pub use countersign_proto as pb;
