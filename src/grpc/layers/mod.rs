//! What the front door consists of: who may do what, the caller, bodies and replies, the form of a
//! refusal, and the translation of gRPC-Web in front of it.

pub mod access;
pub mod auth;
pub mod body;
pub(super) mod deadline;
pub mod grpc_web;
pub mod media_type;
pub mod reply;
pub mod status;
pub(super) mod stream;
pub(super) mod unread;
