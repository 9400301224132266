//! JSON: the unary calls of the Connect protocol, for every RPC that has one message and one answer.
//!
//! A body is read by the descriptors of its RPC into the message that a gRPC client would have sent, and an
//! answer is written back (proto3 JSON). What is decided, the RPC decides.

mod attributes;
mod errors;
mod methods;
mod reader;
mod reading;
mod response;
mod scalars;

use axum::body::Bytes;
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, HeaderName, Response, StatusCode};
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use serde::Serialize as _;

use super::layers::body::MESSAGE_HEAD;
use super::layers::reply::Reply;
use super::layers::unread::Unread;
use super::service::IDENTITY;
use crate::error::{Error, Reason, Result};

pub(super) use errors::refusal;
pub use methods::{Method, POOL, method};
pub use reading::MAX_DEPTH;
pub use response::MEDIA_TYPE;

/// The version of the protocol that a client may name; there is one.
const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("connect-protocol-version");

/// The encoded message of a call of the RPC at this path.
///
/// # Errors
/// `COMPRESSION_UNSUPPORTED`, `METHOD_UNKNOWN`, and those of [`to_protobuf`]; `MALFORMED_REQUEST` also for
/// another version of the protocol.
pub fn request(path: &str, headers: &HeaderMap, body: &[u8]) -> Result<Bytes> {
    if headers.get_all(CONTENT_ENCODING).iter().any(|encoding| encoding != IDENTITY) {
        return Err(Reason::CompressionUnsupported.into());
    }
    if headers.get_all(PROTOCOL_VERSION).iter().any(|version| version != "1") {
        let message = "the only connect-protocol-version is 1";
        return Err(Error::with_message(Reason::MalformedRequest, message));
    }
    let method = method(path).ok_or(Reason::MethodUnknown)?;
    to_protobuf(&method.input, body)
}

/// The answer to a call of the RPC at this path, of its encoded message behind its prefix.
///
/// # Errors
/// `INTERNAL` for what is no answer of the RPC.
pub(super) fn answer(path: &str, frame: &[u8]) -> Result<DynamicMessage> {
    let method = method(path).ok_or(Reason::MethodUnknown)?;
    decoded(&method.output, frame.get(MESSAGE_HEAD..).unwrap_or_default())
}

/// The response with such an answer.
pub(super) fn response(json: Bytes, unread: Unread) -> Response<Reply> {
    response::json(StatusCode::OK, Reply::bytes(json, unread))
}

/// A message in proto3 JSON, encoded. Both names of a field are read, and nothing unknown is.
///
/// # Errors
/// `MALFORMED_REQUEST`, with line and column, for what is not one JSON object, or is nested more deeply than
/// [`MAX_DEPTH`]; `INVALID_FIELD` for a field that is unknown, given twice, of another type, or that holds
/// more elements than its bound. No error repeats a value.
pub fn to_protobuf(descriptor: &MessageDescriptor, json: &[u8]) -> Result<Bytes> {
    Ok(reader::read(descriptor, json)?.encode_to_vec().into())
}

/// An encoded message in proto3 JSON: the names of fields in lowerCamelCase, and none that has its default.
///
/// # Errors
/// `INTERNAL` for what is no such message.
pub fn to_json(descriptor: &MessageDescriptor, message: &[u8]) -> Result<Vec<u8>> {
    written(&decoded(descriptor, message)?)
}

// Neither error repeats a value: what cannot be decoded or written is named by its field.
fn decoded(descriptor: &MessageDescriptor, message: &[u8]) -> Result<DynamicMessage> {
    DynamicMessage::decode(descriptor.clone(), message).map_err(Error::internal)
}

/// An answer in proto3 JSON, as [`to_json`] writes it.
///
/// # Errors
/// `INTERNAL` for what cannot be written.
pub(super) fn written(message: &DynamicMessage) -> Result<Vec<u8>> {
    let mut json = Vec::with_capacity(message.encoded_len() * 2);
    message.serialize(&mut serde_json::Serializer::new(&mut json)).map_err(Error::internal)?;
    Ok(json)
}
