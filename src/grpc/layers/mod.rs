//! What the front door consists of: who may do what, the caller, bodies and replies, the form of a
//! refusal, and what stands in front of it for gRPC-Web and JSON.

pub mod access;
pub mod auth;
pub mod body;
pub mod connect;
pub mod cors;
pub(super) mod deadline;
pub mod grpc_web;
pub mod media_type;
pub mod reply;
pub mod status;
pub(super) mod stream;
pub(super) mod unread;
