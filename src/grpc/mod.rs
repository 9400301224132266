//! The gRPC transport. Protocol messages are visible only here and in tests.

pub mod accounts;
pub mod layers;
pub mod orgs;
pub mod router;
mod service;
pub mod tokens;
pub mod wire;

pub use countersign_proto as pb;
