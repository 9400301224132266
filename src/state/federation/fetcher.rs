//! Fetches the keys of issuers, with a guard: a tenant names the host, and must not reach what only this server can.
//!
//! A name is resolved once, each of its addresses has to be open, and the connection goes to one of these very
//! addresses: a name that means something else a moment later is of no use. There is no redirect, no proxy from
//! the environment, no client certificate and no compression.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::body::Body;
use http::header::{ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, HOST, USER_AGENT};
use http::{HeaderMap, Request, StatusCode};
use http_body::Body as _;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::domain::federation::ceiling::{Admitted, Ceiling};
use crate::domain::federation::fetching::{FETCH_TIMEOUT, FetchError, Location, refresh_after};
use crate::domain::federation::issuer::{KeySource, Trust};
use crate::domain::federation::issuer_name::IssuerName;
use crate::domain::federation::jwk_set::{KeySet, MAX_SET};
use crate::domain::federation::reach::is_open;
use crate::domain::values::networks::Network;
use crate::domain::values::strict_json;

/// The most addresses of a name that are tried.
const MAX_ADDRESSES: usize = 4;
/// The largest head of an answer, in bytes.
const MAX_HEAD: usize = 64 << 10;

/// Where a fetch may go.
#[derive(Clone, Copy, Debug)]
enum Reach<'a> {
    /// What is globally reachable, or in these networks.
    Global(&'a [Network]),
    /// This machine, for `dev`.
    Loopback,
}

/// A set of keys that was fetched.
#[derive(Debug)]
pub struct FetchedKeys {
    pub set: KeySet,
    /// Where a discovery document says that they are.
    pub jwks_uri: Option<String>,
    /// How long they are used before they are fetched again.
    pub refresh: Duration,
}

/// An answer of an issuer's host.
struct Fetched {
    body: Vec<u8>,
    headers: HeaderMap,
}

/// Fetches keys.
pub struct Fetcher {
    tls: TlsConnector,
    ceiling: Ceiling,
    /// The networks that are open for issuers which the ceiling lists exactly.
    networks: Vec<Network>,
}

impl Fetcher {
    /// A fetcher that trusts the authorities of the web, and those of this file in PEM.
    ///
    /// # Errors
    /// When the file cannot be read, or holds no certificate.
    pub fn new(ceiling: Ceiling, networks: Vec<Network>, ca: Option<&Path>) -> Result<Self> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        if let Some(path) = ca {
            let named = || format!("the certificates of issuers in {}", path.display());
            let certificates = CertificateDer::pem_file_iter(path).with_context(named)?;
            let before = roots.len();
            for certificate in certificates {
                roots.add(certificate.with_context(named)?).with_context(named)?;
            }
            anyhow::ensure!(roots.len() > before, "{} holds no certificate in PEM", path.display());
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Self { tls: TlsConnector::from(Arc::new(config)), ceiling, networks })
    }

    /// Whether the deployment admits the issuer.
    pub fn admits(&self, name: &IssuerName) -> bool {
        self.ceiling.admits(name).is_some()
    }

    /// The hosts from which the keys of an issuer are fetched, as far as that is known before.
    pub fn hosts(trust: &Trust) -> Option<String> {
        match trust.keys() {
            KeySource::Inline(_) => None,
            KeySource::Discovery => Some(Location::of_discovery(trust.name()).authority()),
            KeySource::Bundle(uri) => Some(Location::of_bundle(uri).authority()),
        }
    }

    /// Fetches the keys of an issuer, whose keys are not inline.
    ///
    /// # Errors
    /// What went wrong first.
    pub async fn fetch(&self, trust: &Trust) -> Result<FetchedKeys, FetchError> {
        let reach = match self.ceiling.admits(trust.name()).ok_or(FetchError::NotAdmitted)? {
            Admitted::Exactly | Admitted::Locally if trust.name().is_local() => Reach::Loopback,
            Admitted::Exactly => Reach::Global(&self.networks),
            Admitted::ByWildcard | Admitted::Locally => Reach::Global(&[]),
        };
        timeout(FETCH_TIMEOUT, self.fetch_from(trust, reach)).await.map_err(|_| FetchError::TimedOut)?
    }

    async fn fetch_from(&self, trust: &Trust, reach: Reach<'_>) -> Result<FetchedKeys, FetchError> {
        let (answer, jwks_uri) = match trust.keys() {
            KeySource::Inline(_) => return Err(FetchError::Malformed),
            KeySource::Bundle(uri) => (self.get(&Location::of_bundle(uri), reach).await?, None),
            KeySource::Discovery => {
                let document = self.get(&Location::of_discovery(trust.name()), reach).await?;
                let uri = jwks_uri(&document.body, trust.name())?;
                let location = Location::of_keys(&uri, matches!(reach, Reach::Loopback))?;
                // What is on this machine is for issuers of this machine.
                let reach = match reach {
                    Reach::Loopback if location.host() != trust.name().host() => Reach::Global(&[]),
                    reach => reach,
                };
                (self.get(&location, reach).await?, Some(uri))
            }
        };
        let set = KeySet::parse(&answer.body, trust.kind().key_use(), trust.algorithms())?;
        let cache_control = answer.headers.get(CACHE_CONTROL).and_then(|value| value.to_str().ok());
        let refresh = refresh_after(cache_control, set.refresh_hint());
        Ok(FetchedKeys { set, jwks_uri, refresh })
    }

    async fn get(&self, location: &Location, reach: Reach<'_>) -> Result<Fetched, FetchError> {
        let found = lookup_host((location.host(), location.port())).await;
        let addresses: Vec<SocketAddr> = found.map_err(|_| FetchError::NameNotFound)?.collect();
        let stream = connect(&addresses, reach).await?;
        let name = ServerName::try_from(location.host().to_owned()).map_err(|_| FetchError::TlsFailed)?;
        let stream = self.tls.connect(name, stream).await.map_err(|_| FetchError::TlsFailed)?;
        const BROKEN: FetchError = FetchError::ConnectionFailed;
        let handshake = http1::Builder::new().max_buf_size(MAX_HEAD).handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|_| BROKEN)?;
        // It ends with this call, whatever comes of it.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let request = Request::get(location.target())
            .header(HOST, location.authority())
            .header(USER_AGENT, concat!("countersign/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, "application/json")
            .header(ACCEPT_ENCODING, "identity")
            .header(CONNECTION, "close")
            .body(Body::empty())
            .map_err(|_| BROKEN)?;
        let response = sender.send_request(request).await.map_err(|_| BROKEN)?;
        let (head, body) = response.into_parts();
        if head.status.is_redirection() {
            return Err(FetchError::Redirected);
        }
        if head.status != StatusCode::OK {
            return Err(FetchError::StatusNotOk);
        }
        if head.headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
            return Err(FetchError::Encoded);
        }
        Ok(Fetched { body: read(body).await?, headers: head.headers })
    }
}

/// Connects to the first of these addresses that answers, if each of them is open.
async fn connect(addresses: &[SocketAddr], reach: Reach<'_>) -> Result<TcpStream, FetchError> {
    if addresses.is_empty() {
        return Err(FetchError::NameNotFound);
    }
    let may_be_reached = |address: &SocketAddr| match reach {
        Reach::Global(opened) => is_open(address.ip(), opened),
        Reach::Loopback => address.ip().to_canonical().is_loopback(),
    };
    // One that is not open says enough of the name.
    if !addresses.iter().all(may_be_reached) {
        return Err(FetchError::AddressNotAllowed);
    }
    for address in addresses.iter().take(MAX_ADDRESSES) {
        if let Ok(stream) = TcpStream::connect(address).await {
            return Ok(stream);
        }
    }
    Err(FetchError::ConnectionFailed)
}

/// The whole body, if it is not too large.
async fn read(mut body: hyper::body::Incoming) -> Result<Vec<u8>, FetchError> {
    if body.size_hint().lower() > MAX_SET as u64 {
        return Err(FetchError::TooLarge);
    }
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let Ok(data) = frame.map_err(|_| FetchError::ConnectionFailed)?.into_data() else { continue };
        if bytes.len() + data.len() > MAX_SET {
            return Err(FetchError::TooLarge);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// The `jwks_uri` of the discovery document of this issuer.
fn jwks_uri(document: &[u8], issuer: &IssuerName) -> Result<String, FetchError> {
    let members = strict_json::object(document).map_err(|_| FetchError::Malformed)?;
    let text = |name: &str| members.get(name).and_then(|value| value.as_str());
    if text("issuer") != Some(issuer.as_str()) {
        return Err(FetchError::IssuerMismatch);
    }
    text("jwks_uri").map(str::to_owned).ok_or(FetchError::Malformed)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_name_with_an_address_that_is_not_open_is_not_connected_to() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap();
        let at = |text: &str| SocketAddr::new(text.parse().unwrap(), here.port());
        let opened = [Network::parse("127.0.0.0/8").unwrap()];
        for (addresses, reach) in [
            (vec![here], Reach::Global(&[])),
            // Public before private: no order makes one of them good.
            (vec![at("8.8.8.8"), here], Reach::Global(&[])),
            (vec![here, at("10.0.0.1")], Reach::Global(&opened)),
            (vec![at("169.254.169.254")], Reach::Global(&opened)),
            (vec![at("::ffff:10.0.0.1")], Reach::Global(&opened)),
            (vec![at("64:ff9b::7f00:1")], Reach::Global(&[])),
            (vec![at("8.8.8.8")], Reach::Loopback),
            (vec![here, at("10.0.0.1")], Reach::Loopback),
        ] {
            let refused = connect(&addresses, reach).await.unwrap_err();
            assert_eq!(refused, FetchError::AddressNotAllowed, "{addresses:?} {reach:?}");
        }
        assert_eq!(connect(&[], Reach::Loopback).await.unwrap_err(), FetchError::NameNotFound);
        for reach in [Reach::Loopback, Reach::Global(&opened)] {
            // The first that arrives: nothing came of those that are not open.
            let stream = connect(&[here], reach).await.unwrap();
            let (_, from) = listener.accept().await.unwrap();
            assert_eq!(from, stream.local_addr().unwrap());
        }
        let more = timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(more.is_err(), "a connection to an address that is not open");
    }

    #[test]
    fn a_discovery_document_is_that_of_its_issuer() {
        let issuer = IssuerName::parse("https://a.example").unwrap();
        let uri = |document: &str| jwks_uri(document.as_bytes(), &issuer);
        let good = r#"{"issuer":"https://a.example","jwks_uri":"https://k.example/jwks","x":1}"#;
        assert_eq!(uri(good).unwrap(), "https://k.example/jwks");
        for (document, error) in [
            (r#"{"issuer":"https://a.example/","jwks_uri":"https://k.example"}"#, FetchError::IssuerMismatch),
            (r#"{"issuer":"https://A.example","jwks_uri":"https://k.example"}"#, FetchError::IssuerMismatch),
            (
                r#"{"issuer":["https://a.example"],"jwks_uri":"https://k.example"}"#,
                FetchError::IssuerMismatch,
            ),
            (r#"{"jwks_uri":"https://k.example"}"#, FetchError::IssuerMismatch),
            (r#"{"issuer":"https://a.example"}"#, FetchError::Malformed),
            (r#"{"issuer":"https://a.example","jwks_uri":1}"#, FetchError::Malformed),
            (r#"{"issuer":"https://b.example","issuer":"https://a.example"}"#, FetchError::Malformed),
            ("<html>", FetchError::Malformed),
        ] {
            assert_eq!(uri(document).unwrap_err(), error, "{document}");
        }
    }
}
