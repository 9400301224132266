//! The generated messages of the protocol, and their descriptors.
#![allow(clippy::all, clippy::pedantic, rustdoc::all, reason = "generated")]

/// Everything that reflection shows: our protos with their comments, and the health service.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

tonic::include_proto!("countersign.v1");
include!(concat!(env!("OUT_DIR"), "/redacted.rs"));
