//! The macro that lists the RPCs of a service, and what each line becomes.

use std::fmt::Display;
use std::io::Write as _;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message;
use prost::encoding::{WireType, encode_varint, encoded_len_varint};

use super::layers::auth::Call;
use super::layers::body::MESSAGE_HEAD;
use super::streams::frames::Frames;
use crate::error::{Reason, Result};
use crate::state::State;

/// The work on a call: its encoded answer, with the prefix of a message.
///
/// Boxed, so that a handler is compiled separately and not again in its callers.
pub(super) type Handling<'a> = Pin<Box<dyn Future<Output = Result<Bytes>> + Send + 'a>>;

/// What a unary RPC does with the bytes of its request.
pub(super) type Handler = for<'a> fn(&'a Arc<State>, &'a Call, &'a [u8]) -> Handling<'a>;

/// The opening of a stream: its frames, each of them messages with their prefixes.
pub(super) type Opening<'a> = Pin<Box<dyn Future<Output = Result<Frames>> + Send + 'a>>;

/// What an RPC that answers with a stream does with the bytes of its request.
pub(super) type StreamHandler = for<'a> fn(&'a Arc<State>, &'a Call, &'a [u8]) -> Opening<'a>;

/// Lists a service, with one line for each RPC: the table of its paths and handlers.
macro_rules! service {
    ($(#[$doc:meta])* $service:literal { $($rpc:ident($request:ident) -> $response:ident = $handler:path;)* }) => {
        $(#[$doc])*
        pub(in crate::grpc) const RPCS: &[(&str, $crate::grpc::service::Handler)] = &[$((
            concat!("/", $service, "/", stringify!($rpc)),
            {
                fn handle<'a>(
                    state: &'a std::sync::Arc<$crate::state::State>,
                    call: &'a $crate::grpc::layers::auth::Call,
                    message: &'a [u8],
                ) -> $crate::grpc::service::Handling<'a> {
                    Box::pin(async move {
                        let request: $crate::grpc::pb::$request = $crate::grpc::service::decode(message)?;
                        let answer = $handler(state, call, request).await?;
                        Ok($crate::grpc::service::Answer::<$crate::grpc::pb::$response>::encode(&answer))
                    })
                }
                handle
            },
        )),*];
    };
}
pub(crate) use service;

/// Lists the RPCs of a service that answer with a stream: the table of their paths and handlers.
macro_rules! streams {
    ($service:literal { $($rpc:ident($request:ident) = $handler:path;)* }) => {
        /// Those that answer with a stream.
        pub(in crate::grpc) const STREAMS: &[(&str, $crate::grpc::service::StreamHandler)] = &[$((
            concat!("/", $service, "/", stringify!($rpc)),
            {
                fn handle<'a>(
                    state: &'a std::sync::Arc<$crate::state::State>,
                    call: &'a $crate::grpc::layers::auth::Call,
                    message: &'a [u8],
                ) -> $crate::grpc::service::Opening<'a> {
                    Box::pin(async move {
                        let request: $crate::grpc::pb::$request = $crate::grpc::service::decode(message)?;
                        $handler(state, call, request).await
                    })
                }
                handle
            },
        )),*];
    };
}
pub(crate) use streams;

pub(super) const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
/// The only encoding of messages: they are not compressed.
pub(super) const IDENTITY: HeaderValue = HeaderValue::from_static("identity");

/// The message of a body, which holds exactly one.
///
/// # Errors
/// `MALFORMED_REQUEST`; `COMPRESSION_UNSUPPORTED` for a message that is compressed as its headers say.
pub(super) fn message<'a>(body: &'a [u8], headers: &HeaderMap) -> Result<&'a [u8]> {
    let (head, message) = body.split_first_chunk::<MESSAGE_HEAD>().ok_or(Reason::MalformedRequest)?;
    let [flag, length @ ..] = *head;
    let is_encoded = || headers.get(GRPC_ENCODING).is_some_and(|encoding| encoding != IDENTITY);
    match flag {
        0 if message.len() == u32::from_be_bytes(length) as usize => Ok(message),
        1 if is_encoded() => Err(Reason::CompressionUnsupported.into()),
        _ => Err(Reason::MalformedRequest.into()),
    }
}

/// # Errors
/// `MALFORMED_REQUEST`.
pub(super) fn decode<M: Message + Default>(message: &[u8]) -> Result<M> {
    M::decode(message).map_err(|_| Reason::MalformedRequest.into())
}

/// What a handler returns: the message `M`, or what is encoded as one without being put together first.
pub(in crate::grpc) trait Answer<M> {
    /// The encoded message, with its prefix.
    fn encode(&self) -> Bytes;
}

impl<M: Message> Answer<M> for M {
    fn encode(&self) -> Bytes {
        encode(self)
    }
}

/// A message that is encoded field by field from borrowed values, in ascending order of their numbers.
pub(in crate::grpc) struct Fields(Vec<u8>);

impl Fields {
    /// The bytes that a string takes as a field whose number is below 16.
    pub(in crate::grpc) fn text_len(text: &str) -> usize {
        1 + encoded_len_varint(text.len() as u64) + text.len()
    }

    /// The same for a message.
    pub(in crate::grpc) fn message_len(message: &impl Message) -> usize {
        let length = message.encoded_len();
        1 + encoded_len_varint(length as u64) + length
    }

    /// A message of this length, or a little less.
    pub(in crate::grpc) fn of_length(length: usize) -> Self {
        let mut frame = Vec::with_capacity(MESSAGE_HEAD + length);
        frame.extend_from_slice(&[0; MESSAGE_HEAD]);
        Self(frame)
    }

    /// A varint. Most have one byte, for which prost's loop takes 1 300 instructions more in an introspection.
    fn varint(&mut self, value: u64) {
        match u8::try_from(value) {
            Ok(byte) if byte < 0x80 => self.0.push(byte),
            _ => encode_varint(value, &mut self.0),
        }
    }

    fn key(&mut self, number: u32, kind: WireType) {
        self.varint(u64::from(number << 3 | kind as u32));
    }

    /// A string, also an empty one, as an element of a repeated field.
    pub(in crate::grpc) fn text(&mut self, number: u32, text: &str) {
        self.key(number, WireType::LengthDelimited);
        self.varint(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    /// A string, where it is not empty.
    pub(in crate::grpc) fn text_of(&mut self, number: u32, text: &str) {
        if !text.is_empty() {
            self.text(number, text);
        }
    }

    /// The text of a short value, such as an id: less than 128 bytes.
    pub(in crate::grpc) fn displayed(&mut self, number: u32, value: &impl Display) {
        self.key(number, WireType::LengthDelimited);
        let place = self.0.len();
        self.0.push(0);
        write!(self.0, "{value}").expect("memory can be written");
        let length = self.0.len() - place - 1;
        debug_assert!(length < 128, "a length of one byte");
        self.0[place] = length as u8;
    }

    /// A number, where it is not 0.
    pub(in crate::grpc) fn number(&mut self, number: u32, value: i64) {
        if value != 0 {
            self.key(number, WireType::Varint);
            self.varint(value as u64);
        }
    }

    /// A message within it.
    pub(in crate::grpc) fn message(&mut self, number: u32, message: &impl Message) {
        prost::encoding::message::encode(number, message, &mut self.0);
    }

    /// A message of texts within it, each with its number.
    pub(in crate::grpc) fn texts<'a>(
        &mut self,
        number: u32,
        texts: impl Iterator<Item = (u32, &'a str)> + Clone,
    ) {
        let length: usize = texts.clone().map(|(_, text)| Self::text_len(text)).sum();
        self.key(number, WireType::LengthDelimited);
        self.varint(length as u64);
        texts.for_each(|(number, text)| self.text(number, text));
    }

    /// The encoded message, with its prefix.
    pub(in crate::grpc) fn finish(mut self) -> Bytes {
        let length = (self.0.len() - MESSAGE_HEAD) as u32;
        self.0[1..MESSAGE_HEAD].copy_from_slice(&length.to_be_bytes());
        self.0.into()
    }
}

/// The message behind its prefix: not compressed, and its length (gRPC over HTTP/2).
pub(super) fn encode<M: Message>(message: &M) -> Bytes {
    let length = message.encoded_len();
    let mut frame = Vec::with_capacity(MESSAGE_HEAD + length);
    frame.push(0);
    // Answers are bounded far below 4 GiB.
    frame.extend_from_slice(&(length as u32).to_be_bytes());
    message.encode_raw(&mut frame);
    frame.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_holds_one_message() {
        let found = |body: &[u8], encoding: Option<&'static str>| {
            let headers = encoding.map(|value| (GRPC_ENCODING, HeaderValue::from_static(value)));
            message(body, &headers.into_iter().collect()).map(<[u8]>::to_vec).map_err(|error| error.reason())
        };
        for encoding in [None, Some("identity"), Some("gzip")] {
            assert_eq!(found(&[0, 0, 0, 0, 2, 7, 8], encoding), Ok(vec![7, 8]));
            assert_eq!(found(&[0, 0, 0, 0, 0], encoding), Ok(vec![]));
        }
        for body in [
            &[][..],
            &[0, 0, 0, 0],
            &[0, 0, 0, 0, 2, 7],
            &[0, 0, 0, 0, 1, 7, 8],
            &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0, 255, 255, 255, 255, 7],
            &[1, 0, 0, 0, 1, 7],
            &[2, 0, 0, 0, 1, 7],
        ] {
            assert_eq!(found(body, None), Err(Reason::MalformedRequest), "{body:?}");
        }
        assert_eq!(found(&[1, 0, 0, 0, 1, 7], Some("gzip")), Err(Reason::CompressionUnsupported));
        assert_eq!(found(&[1, 0, 0, 0, 1, 7], Some("identity")), Err(Reason::MalformedRequest));
    }
}
