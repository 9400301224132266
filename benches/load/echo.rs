//! The yardstick: a bare tonic server on one thread, whose answers are as long as those of the server
//! that is measured.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use anyhow::{Context as _, Result};
use bytes::{Buf as _, BufMut as _, Bytes};
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use tower::Service;

/// The hidden argument with which the bench runs as this server.
pub const ARGUMENT: &str = "--serve-echo";
/// The paths of its methods, whose answers have the lengths of its arguments.
pub const PATHS: [&str; 2] = ["/bench.Echo/First", "/bench.Echo/Second"];

/// Serves until it is killed. One argument for each path says how many bytes its answer has.
pub fn run(mut lengths: impl Iterator<Item = String>) -> Result<()> {
    let mut answer = || -> Result<Bytes> {
        let length = lengths.next().context("the length of an answer is missing")?.parse()?;
        Ok(vec![b'x'; length].into())
    };
    let echo = Echo { answers: [answer()?, answer()?] };
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        eprintln!(r#"{{"message":"ready","address":"{}"}}"#, listener.local_addr()?);
        let mut routes = Routes::builder();
        routes.add_service(echo);
        // The `tcp_nodelay` of the builder has no effect on a listener that is passed to it.
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        Ok(Server::builder().add_routes(routes.routes()).serve_with_incoming(incoming).await?)
    })
}

#[derive(Clone)]
struct Echo {
    answers: [Bytes; 2],
}

/// One of its methods.
struct Method(Bytes);

impl NamedService for Echo {
    const NAME: &str = "bench.Echo";
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        // As in the code that tonic generates.
        let [first, second] = &self.answers;
        let method = Method(if request.uri().path() == PATHS[0] { first } else { second }.clone());
        Box::pin(async move { Ok(Grpc::new(Raw).unary(method, request).await) })
    }
}

impl UnaryService<Bytes> for Method {
    type Response = Bytes;
    type Future = Ready<Result<Response<Bytes>, Status>>;

    fn call(&mut self, _: Request<Bytes>) -> Self::Future {
        ready(Ok(Response::new(self.0.clone())))
    }
}

/// A codec that leaves messages encoded.
#[derive(Clone, Copy)]
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
