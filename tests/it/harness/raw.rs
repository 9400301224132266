//! Calls by path with bytes, for tests that walk every RPC or send what no client would.

use bytes::{Buf as _, BufMut as _, Bytes};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status};

use super::{Bearer, Client, is_stream};

/// Calls an RPC by its path; the message and the answer, of a stream its first item, are encoded.
pub async fn call_raw(client: &Client, path: &str, message: Vec<u8>) -> Result<Vec<u8>, Status> {
    call(client, path, Request::new(Bytes::from(message))).await
}

/// The same under a request id of one's own.
pub async fn call_named(client: &Client, path: &str, message: &[u8], id: &str) -> Result<Vec<u8>, Status> {
    let mut request = Request::new(Bytes::copy_from_slice(message));
    request.metadata_mut().insert("x-request-id", id.parse().unwrap());
    call(client, path, request).await
}

/// Opens a call with only its metadata. The message follows when it is sent, and the answer
/// after that.
pub fn call_held(
    client: &Client,
    path: &'static str,
) -> (mpsc::Sender<Bytes>, JoinHandle<Result<Vec<u8>, Status>>) {
    let (message, sent) = mpsc::channel(1);
    let service = InterceptedService::new(client.channel.clone(), Bearer(client.bearer.clone()));
    let answer = tokio::spawn(async move {
        let mut grpc = Grpc::new(service);
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let request = Request::new(ReceiverStream::new(sent));
        let answer = grpc.client_streaming(request, path.parse().unwrap(), Raw).await?;
        Ok(answer.into_inner().to_vec())
    });
    (message, answer)
}

async fn call(client: &Client, path: &str, request: Request<Bytes>) -> Result<Vec<u8>, Status> {
    let service = InterceptedService::new(client.channel.clone(), Bearer(client.bearer.clone()));
    let mut grpc = Grpc::new(service);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    if is_stream(path) {
        // Its first item: no stream of ours has an end to wait for.
        let mut items = grpc.server_streaming(request, path.parse().unwrap(), Raw).await?.into_inner();
        let first = items.message().await?.ok_or_else(|| Status::cancelled("no item"))?;
        return Ok(first.to_vec());
    }
    let answer = grpc.unary(request, path.parse().unwrap(), Raw).await?;
    Ok(answer.into_inner().to_vec())
}

#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
