//! The layers around every handler, from the outside in: grpc_web, request, body, auth with
//! access, bounds, and status on the way out.

pub mod access;
pub mod auth;
pub mod body;
pub mod bounds;
pub mod grpc_web;
pub mod request;
pub mod status;
mod stream;
mod unread;
