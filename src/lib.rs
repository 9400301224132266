pub mod clock;
pub mod domain;
pub mod db;
pub mod error;
pub mod keys;
/// The generated protocol.
pub mod pb {
    tonic::include_proto!("countersign.v1");
    include!(concat!(env!("OUT_DIR"), "/redacted.rs"));
}
