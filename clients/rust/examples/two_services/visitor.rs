//! A program that calls the portal: any HTTP client that is a tower service, with the layer that sends JWTs.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use countersign_client::{TokenLayer, TokenRequest, TokenSource};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_layer::Layer as _;
use tower_service::Service;

use crate::Result;

pub(crate) struct Visitor {
    address: SocketAddr,
    /// As whom; without one: without a JWT.
    caller: Option<(TokenSource, TokenRequest)>,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: String,
    pub(crate) challenge: String,
}

impl Visitor {
    pub(crate) fn new(address: SocketAddr, caller: Option<(TokenSource, TokenRequest)>) -> Self {
        Self { address, caller }
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Answer> {
        let request =
            Request::get(path).header(header::HOST, self.address.to_string()).body(Empty::<Bytes>::new())?;
        let mut http = Http(self.address);
        let answer = match &self.caller {
            Some((source, wanted)) => {
                TokenLayer::new(source.clone(), wanted.clone()).layer(http).call(request).await?
            }
            None => http.call(request).await?,
        };
        let status = answer.status();
        let challenge = answer.headers().get(header::WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
        let challenge = challenge.unwrap_or_default().to_owned();
        let body = answer.into_body().collect().await?.to_bytes();
        Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned(), challenge })
    }
}

/// The smallest HTTP client: a connection for each call.
#[derive(Clone)]
struct Http(SocketAddr);

impl Service<Request<Empty<Bytes>>> for Http {
    type Response = Response<Incoming>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Empty<Bytes>>) -> Self::Future {
        let address = self.0;
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            Ok(sender.send_request(request).await?)
        })
    }
}
