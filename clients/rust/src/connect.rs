//! Connections to the server: one way to make them, for gRPC and for plain HTTP.

use std::fmt;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::transport::Channel;
use tower_service::Service;

use crate::error::{Error, Result};

const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Where a Countersign server is, and how to connect to it.
#[derive(Clone)]
pub struct Endpoint {
    uri: Uri,
    host: String,
    port: u16,
    /// The path of an issuer that has one, without a slash at its end.
    base: String,
    tls: Option<Tls>,
}

#[derive(Clone)]
struct Tls {
    grpc: TlsConnector,
    http: TlsConnector,
    name: ServerName<'static>,
}

impl Endpoint {
    /// `https://id.example`, trusting the certificate authorities that browsers trust; or `http://…`, for a
    /// connection within one machine or a mesh that encrypts it.
    ///
    /// # Errors
    /// `INVALID_FIELD` for anything but a URL of scheme, host, and perhaps port and path.
    pub fn new(url: &str) -> Result<Self> {
        Self::build(url, None, None)
    }

    /// Trusts the certificate authorities of a PEM file alone.
    ///
    /// # Errors
    /// `INVALID_FIELD` for the URL, or a file that cannot be read or has no certificate.
    pub fn with_ca_file(url: &str, ca_file: impl AsRef<Path>) -> Result<Self> {
        let pem = std::fs::read(ca_file).map_err(|error| Error::invalid("ca_file", error.to_string()))?;
        Self::with_tls(url, Some(&pem), None)
    }

    /// Trusts the certificate authorities in `ca_pem` alone, if given, and shows the certificate and key in
    /// `identity_pem`, which tokens that are bound to certificates need.
    ///
    /// # Errors
    /// `INVALID_FIELD` for the URL or what the PEM texts hold.
    pub fn with_tls(url: &str, ca_pem: Option<&[u8]>, identity_pem: Option<(&[u8], &[u8])>) -> Result<Self> {
        Self::build(url, ca_pem, identity_pem)
    }

    fn build(url: &str, ca: Option<&[u8]>, identity: Option<(&[u8], &[u8])>) -> Result<Self> {
        let wrong = |what: &str| Error::invalid("endpoint", what);
        let uri: Uri = url.parse().map_err(|_| wrong("is no URL"))?;
        let authority = uri.authority().ok_or_else(|| wrong("names no host"))?;
        if authority.as_str().contains('@') || uri.query().is_some() {
            return Err(wrong("has a user or a query"));
        }
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong("is neither https:// nor http://")),
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let base = uri.path().trim_end_matches('/').to_owned();
        let tls = if secure {
            let name =
                ServerName::try_from(host.clone()).map_err(|_| wrong("its host is no name of a server"))?;
            Some(Tls {
                grpc: connector(ca, identity, b"h2")?,
                http: connector(ca, identity, b"http/1.1")?,
                name,
            })
        } else {
            None
        };
        Ok(Self { uri, host, port, base, tls })
    }

    /// The URL without a slash at its end: the issuer, where nothing else is configured.
    pub(crate) fn url(&self) -> String {
        let (scheme, authority) = (self.uri.scheme_str().unwrap_or("http"), self.authority());
        format!("{scheme}://{authority}{}", self.base)
    }

    fn authority(&self) -> &str {
        self.uri.authority().map_or("", |authority| authority.as_str())
    }

    /// A channel that connects when it is first used, and again when a connection breaks.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn channel(&self) -> Channel {
        let origin = Uri::builder()
            .scheme(self.uri.scheme_str().unwrap_or("http"))
            .authority(self.authority())
            .path_and_query("/")
            .build()
            .unwrap_or_default();
        // TLS is the connector's: tonic refuses the scheme https where it does not make it itself.
        tonic::transport::Endpoint::from_static("http://countersign")
            .origin(origin)
            .user_agent(concat!("countersign-client-rust/", env!("CARGO_PKG_VERSION")))
            .expect("the name is visible ASCII")
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10))
            .connect_with_connector_lazy(Connector { endpoint: self.clone() })
    }

    async fn connect(&self, grpc: bool) -> io::Result<Box<dyn Io>> {
        let connecting = async {
            let tcp = TcpStream::connect((self.host.as_str(), self.port)).await?;
            tcp.set_nodelay(true)?;
            Ok::<Box<dyn Io>, io::Error>(match &self.tls {
                None => Box::new(tcp),
                Some(tls) => {
                    let connector = if grpc { &tls.grpc } else { &tls.http };
                    Box::new(connector.connect(tls.name.clone(), tcp).await?)
                }
            })
        };
        timeout(CONNECT_WITHIN, connecting).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// One HTTP/1.1 request over a connection of its own, to a path below that of the endpoint.
    pub(crate) async fn send(&self, request: HttpRequest<'_>) -> Result<HttpResponse> {
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
            Error::unavailable("the server could not be reached", error)
        };
        let exchange = async {
            let io = self.connect(false).await.map_err(|error| failed(error.into()))?;
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io))
                .await
                .map_err(|error| failed(error.into()))?;
            let message = Request::builder()
                .method(request.method)
                .uri(format!("{}{}", self.base, request.path))
                .header(header::HOST, self.authority())
                .header(header::ACCEPT, "application/json")
                .header(header::USER_AGENT, concat!("countersign-client-rust/", env!("CARGO_PKG_VERSION")))
                .header(header::CONNECTION, "close");
            let message = match request.form {
                Some(form) => message
                    .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                    .body(Full::new(Bytes::from(form))),
                None => message.body(Full::default()),
            };
            let message = message.map_err(|error| failed(error.into()))?;
            let answer = async {
                let response = sender.send_request(message).await.map_err(|error| failed(error.into()))?;
                let (head, body) = response.into_parts();
                let body = Limited::new(body, request.most_bytes).collect().await;
                // Too long, or broken off: neither is the answer.
                let body = body.map_err(&failed)?.to_bytes();
                Ok(HttpResponse { status: head.status, headers: head.headers, body })
            };
            tokio::pin!(answer, connection);
            tokio::select! {
                biased;
                answer = &mut answer => answer,
                // It ends with the answer, which may not have been read yet, or with a fault, which that then has.
                _ = &mut connection => answer.await,
            }
        };
        timeout(request.within, exchange).await.unwrap_or_else(|_| {
            Err(Error::new(tonic::Code::DeadlineExceeded, "", "the server did not answer in time"))
        })
    }
}

/// Without the keys of TLS.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Endpoint").field(&self.url()).finish()
    }
}

impl std::str::FromStr for Endpoint {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self> {
        Self::new(url)
    }
}

pub(crate) struct HttpRequest<'a> {
    pub(crate) method: http::Method,
    pub(crate) path: &'a str,
    pub(crate) form: Option<String>,
    pub(crate) most_bytes: usize,
    pub(crate) within: Duration,
}

pub(crate) struct HttpResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

struct Connector {
    endpoint: Endpoint,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Io>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let endpoint = self.endpoint.clone();
        Box::pin(async move { Ok(TokioIo::new(endpoint.connect(true).await?)) })
    }
}

fn connector(ca: Option<&[u8]>, identity: Option<(&[u8], &[u8])>, protocol: &[u8]) -> Result<TlsConnector> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    match ca {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(pem) => {
            for certificate in certificates("ca", pem)? {
                roots.add(certificate).map_err(|error| Error::invalid("ca", error.to_string()))?;
            }
        }
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|error| Error::invalid("ca", error.to_string()))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::invalid("tls", error.to_string()))?
        .with_webpki_verifier(verifier);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            // The parser's own errors may quote what stands in the text.
            let key = PrivateKeyDer::from_pem_slice(key)
                .map_err(|_| Error::invalid("identity", "has no private key in PEM without a passphrase"))?;
            builder
                .with_client_auth_cert(certificates("identity", certificate)?, key)
                .map_err(|_| Error::invalid("identity", "the key is not that of the certificate"))?
        }
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

fn certificates(field: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|_| Error::invalid(field, "a certificate is not PEM"))?;
    if all.is_empty() {
        return Err(Error::invalid(field, "has no certificate in PEM"));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_scheme_host_and_perhaps_port_and_path() {
        let url = |text: &str| Endpoint::new(text).map(|endpoint| endpoint.url());
        assert_eq!(url("https://id.example").unwrap(), "https://id.example");
        assert_eq!(url("https://id.example/").unwrap(), "https://id.example");
        assert_eq!(url("https://id.example:8443/a/").unwrap(), "https://id.example:8443/a");
        assert_eq!(url("http://[::1]:80").unwrap(), "http://[::1]:80");
        let port = |text: &str| Endpoint::new(text).unwrap().port;
        assert_eq!((port("https://x"), port("http://x"), port("http://x:7")), (443, 80, 7));
        for wrong in
            ["", "id.example", "ftp://id.example", "https://", "https://u@id.example", "https://x/?a=1"]
        {
            assert_eq!(Endpoint::new(wrong).unwrap_err().reason(), "INVALID_FIELD", "{wrong}");
        }
    }

    #[test]
    fn a_file_without_a_certificate_is_refused() {
        let no = Endpoint::with_tls("https://x", Some(b"nothing"), None).unwrap_err();
        assert_eq!(no.field_violations()[0].field, "ca");
        assert!(Endpoint::with_ca_file("https://x", "/nowhere").is_err());
    }
}
