//! The macro that lists the RPCs of a service, and what each line becomes.

use std::pin::Pin;
use std::sync::Arc;

use axum::body::Bytes;
use prost::Message;

use super::layers::auth::Call;
use super::layers::body::MESSAGE_HEAD;
use crate::error::{Reason, Result};
use crate::state::State;

/// The work on a call: its encoded answer, with the prefix of a message.
///
/// Boxed, so that a handler is compiled separately and not again in its callers.
pub(super) type Handling<'a> = Pin<Box<dyn Future<Output = Result<Bytes>> + Send + 'a>>;

/// What a unary RPC does with the bytes of its request.
pub(super) type Handler = for<'a> fn(&'a Arc<State>, &'a Call, &'a [u8]) -> Handling<'a>;

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
                        let response: $crate::grpc::pb::$response = $handler(state, call, request).await?;
                        Ok($crate::grpc::service::encode(&response))
                    })
                }
                handle
            },
        )),*];
    };
}
pub(crate) use service;

/// # Errors
/// `MALFORMED_REQUEST`.
pub(super) fn decode<M: Message + Default>(message: &[u8]) -> Result<M> {
    M::decode(message).map_err(|_| Reason::MalformedRequest.into())
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
