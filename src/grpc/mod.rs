//! The gRPC transport. Messages of the protocol are visible here and in tests, nowhere else.

pub mod accounts;
pub mod layers;
pub mod orgs;
pub mod router;
mod service;
pub mod tokens;
pub mod wire;

pub use countersign_proto as pb;
