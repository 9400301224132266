//! Fetches the keys of issuers, with a guard: a tenant names the host, and must not reach what only this server can.
//!
//! A name is resolved once, each of its addresses has to be open, and the connection goes to one of these very
//! addresses: a name that means something else a moment later is of no use. There is no redirect, no proxy from
//! the environment, no client certificate and no compression.

use std::future::poll_fn;
use std::io;
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
use tokio::net::lookup_host;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::connector::{Reach, connect};
use super::flights::Place;
use crate::domain::federation::ceiling::{Admitted, Ceiling};
use crate::domain::federation::fetching::{FETCH_TIMEOUT, FetchError, Location, refresh_after};
use crate::domain::federation::issuer::{KeySource, Trust};
use crate::domain::federation::issuer_name::IssuerName;
use crate::domain::federation::jwk_set::{KeySet, MAX_SET};
use crate::domain::values::networks::Network;
use crate::domain::values::strict_json;

/// The largest head of an answer, in bytes.
const MAX_HEAD: usize = 64 << 10;

/// A set of keys that was fetched.
#[derive(Debug)]
pub struct FetchedKeys {
    pub set: KeySet,
    /// Where a discovery document says that they are.
    pub jwks_uri: Option<String>,
    /// How long they are used before they are fetched again.
    pub refresh: Duration,
}

/// A set of keys as it was fetched, to be read where it holds up nothing.
pub(super) struct FetchedText {
    answer: Fetched,
    jwks_uri: Option<String>,
}

impl FetchedText {
    /// Reads the keys of an issuer, which may take a while.
    ///
    /// # Errors
    /// When it is too large, has too many keys, or is no set.
    pub(super) fn read(self, trust: &Trust) -> Result<FetchedKeys, FetchError> {
        let set = KeySet::parse(&self.answer.body, trust.kind().key_use(), trust.algorithms())?;
        let cache_control = self.answer.headers.get(CACHE_CONTROL).and_then(|value| value.to_str().ok());
        let refresh = refresh_after(cache_control, set.refresh_hint());
        Ok(FetchedKeys { set, jwks_uri: self.jwks_uri, refresh })
    }
}

/// An answer of an issuer's host.
struct Fetched {
    body: Vec<u8>,
    headers: HeaderMap,
}

/// Resolves a name and a port.
type Resolver = fn(&str, u16) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + '_>>;

/// A fetch that is in progress.
struct Fetching<'a> {
    /// Kept also by what goes on after it: a name server that is silent keeps a thread for longer than a fetch lasts.
    place: &'a Arc<Place>,
    /// Whether it may ask this host.
    asks: &'a (dyn Fn(&str) -> bool + Sync),
}

/// Fetches keys.
pub struct Fetcher {
    tls: TlsConnector,
    /// The system's, but in tests of what names mean.
    resolver: Resolver,
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
        let resolver: Resolver =
            |host, port| Box::pin(async move { Ok(lookup_host((host, port)).await?.collect()) });
        Ok(Self { tls: TlsConnector::from(Arc::new(config)), resolver, ceiling, networks })
    }

    /// Fetches the keys of an issuer, whose keys are not inline. Each host that is asked is named before, once:
    /// also that of a `jwks_uri`.
    ///
    /// # Errors
    /// What went wrong first; `TOO_OFTEN` where a host may not be asked.
    pub(super) async fn fetch_within(
        &self,
        trust: &Trust,
        place: &Arc<Place>,
        asks: &(dyn Fn(&str) -> bool + Sync),
    ) -> Result<FetchedText, FetchError> {
        let reach = match self.ceiling.admits(trust.name()).ok_or(FetchError::NotAdmitted)? {
            // Of this machine there are issuers in `dev` alone.
            _ if trust.name().is_local() && self.ceiling.is_dev() => Reach::Loopback,
            Admitted::Exactly => Reach::Global(&self.networks),
            Admitted::ByWildcard | Admitted::Locally => Reach::Global(&[]),
        };
        let fetching = Fetching { place, asks };
        timeout(FETCH_TIMEOUT, self.fetch_from(trust, reach, &fetching))
            .await
            .map_err(|_| FetchError::TimedOut)?
    }

    async fn fetch_from(
        &self,
        trust: &Trust,
        reach: Reach<'_>,
        fetching: &Fetching<'_>,
    ) -> Result<FetchedText, FetchError> {
        let (answer, jwks_uri) = match trust.keys() {
            KeySource::Inline(_) => return Err(FetchError::Malformed),
            KeySource::Bundle(uri) => {
                let location = Location::of_bundle(uri);
                fetching.ask(&location)?;
                (self.get(&location, reach, fetching).await?, None)
            }
            KeySource::Discovery => {
                let discovery = Location::of_discovery(trust.name());
                fetching.ask(&discovery)?;
                let document = self.get(&discovery, reach, fetching).await?;
                let uri = jwks_uri(&document.body, trust.name())?;
                let location = Location::of_keys(&uri, matches!(reach, Reach::Loopback))?;
                // What is on this machine is for issuers of this machine.
                let reach = match reach {
                    Reach::Loopback if location.host() != trust.name().host() => Reach::Global(&[]),
                    reach => reach,
                };
                if location.host() != discovery.host() {
                    fetching.ask(&location)?;
                }
                (self.get(&location, reach, fetching).await?, Some(uri))
            }
        };
        Ok(FetchedText { answer, jwks_uri })
    }

    async fn get(
        &self,
        location: &Location,
        reach: Reach<'_>,
        fetching: &Fetching<'_>,
    ) -> Result<Fetched, FetchError> {
        let addresses = self.resolve(location, fetching).await?;
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

    async fn resolve(
        &self,
        location: &Location,
        fetching: &Fetching<'_>,
    ) -> Result<Vec<SocketAddr>, FetchError> {
        let (resolver, place) = (self.resolver, fetching.place.clone());
        let (host, port) = (location.host().to_owned(), location.port());
        // Beside the fetch, which may end before: the thread of a name server that is silent keeps its place.
        let resolved = tokio::spawn(async move {
            let _place = place;
            resolver(&host, port).await
        });
        resolved.await.ok().and_then(Result::ok).ok_or(FetchError::NameNotFound)
    }
}

impl Fetching<'_> {
    fn ask(&self, location: &Location) -> Result<(), FetchError> {
        if (self.asks)(location.host()) { Ok(()) } else { Err(FetchError::TooOften) }
    }
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
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU16, Ordering};

    use tokio::net::TcpListener;

    use super::*;
    use crate::domain::federation::ceiling::CeilingEntry;
    use crate::domain::federation::fetching::FLIGHTS_OF_ORG;
    use crate::domain::federation::issuer::{IssuerKind, TrustFields};
    use crate::domain::values::ids::OrgId;
    use crate::state::federation::flights::Turns;

    impl Fetcher {
        /// A fetch that may ask each host.
        async fn fetch(&self, trust: &Trust) -> Result<FetchedKeys, FetchError> {
            let place = Turns::of_flights().place(OrgId::from_u128(1)).await;
            self.fetch_within(trust, &place, &|_| true).await?.read(trust)
        }
    }

    /// An issuer with discovery.
    fn issuer_at(issuer: &str) -> Trust {
        TrustFields::of(IssuerKind::Oidc, issuer).trust()
    }

    #[tokio::test]
    async fn this_machine_is_asked_in_dev_alone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let trust = issuer_at(&format!("https://localhost:{port}"));
        let listed = || Ceiling::new(vec![CeilingEntry::parse(trust.name().as_str()).unwrap()]);
        // Neither the list nor the networks open it.
        let opened = vec![Network::parse("127.0.0.0/8").unwrap()];
        let fetcher = Fetcher::new(listed(), opened, None).unwrap();
        assert_eq!(fetcher.fetch(&trust).await.unwrap_err(), FetchError::NotAdmitted);
        let nothing = timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(nothing.is_err(), "a connection to this machine");
        let dev = Fetcher::new(listed().with_this_machine(), Vec::new(), None).unwrap();
        let serve = async { drop(listener.accept().await.unwrap()) };
        let (refused, ()) = tokio::join!(dev.fetch(&trust), serve);
        assert_eq!(refused.unwrap_err(), FetchError::TlsFailed);
    }

    #[tokio::test]
    async fn a_host_that_may_not_be_asked_is_not_resolved() {
        let resolver: Resolver = |_, _| panic!("it is resolved");
        let listed = Ceiling::new(vec![CeilingEntry::parse("https://a.example").unwrap()]);
        let fetcher = Fetcher { resolver, ..Fetcher::new(listed, Vec::new(), None).unwrap() };
        let place = Turns::of_flights().place(OrgId::from_u128(1)).await;
        let trust = issuer_at("https://a.example");
        let refused = fetcher.fetch_within(&trust, &place, &|host| host != "a.example");
        assert_eq!(refused.await.err(), Some(FetchError::TooOften));
    }

    #[tokio::test]
    async fn a_name_server_that_is_silent_keeps_the_place_of_its_fetch() {
        let flights = Turns::of_flights();
        let resolver: Resolver = |_, _| Box::pin(std::future::pending());
        let listed = Ceiling::new(vec![CeilingEntry::parse("https://a.example").unwrap()]);
        let fetcher = Fetcher { resolver, ..Fetcher::new(listed, Vec::new(), None).unwrap() };
        let trust = issuer_at("https://a.example");
        for _ in 0..FLIGHTS_OF_ORG {
            let place = flights.place(OrgId::from_u128(1)).await;
            let fetch = fetcher.fetch_within(&trust, &place, &|_| true);
            assert!(timeout(Duration::from_millis(20), fetch).await.is_err());
        }
        let more = timeout(Duration::from_millis(50), flights.place(OrgId::from_u128(1))).await;
        assert!(more.is_err(), "its threads are still taken");
        flights.place(OrgId::from_u128(2)).await;
    }

    /// An issuer with discovery, and one with a bundle.
    fn trusts() -> [Trust; 2] {
        let spiffe = TrustFields::of(IssuerKind::Spiffe, "spiffe://rebinds.example");
        let bundled = TrustFields { bundle_uri: "https://rebinds.example/bundle", ..spiffe };
        [issuer_at("https://rebinds.example"), bundled.trust()]
    }

    /// A fetcher for these issuers, to which an operator has opened this network.
    fn fetcher(resolver: Resolver, opened: &str) -> Fetcher {
        let listed = ["https://rebinds.example", "spiffe://rebinds.example"];
        let ceiling = Ceiling::new(listed.map(|issuer| CeilingEntry::parse(issuer).unwrap()).into());
        let networks = vec![Network::parse(opened).unwrap()];
        Fetcher { resolver, ..Fetcher::new(ceiling, networks, None).unwrap() }
    }

    #[tokio::test]
    async fn a_name_that_means_another_address_a_moment_later_is_of_no_use() {
        // One that an operator has opened, as if it were public, and then one that is not.
        static ASKED: AtomicU16 = AtomicU16::new(0);
        static PORT: AtomicU16 = AtomicU16::new(0);
        let good = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = good.local_addr().unwrap().port();
        let private = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
        PORT.store(port, Ordering::SeqCst);
        let fetcher = fetcher(
            |host, port| {
                assert_eq!((host, port), ("rebinds.example", 443));
                let port = PORT.load(Ordering::SeqCst);
                let last = 1 + (ASKED.fetch_add(1, Ordering::SeqCst) % 2) as u8;
                Box::pin(async move { Ok(vec![SocketAddr::from(([127, 0, 0, last], port))]) })
            },
            "127.0.0.1/32",
        );
        for trust in trusts() {
            let asked = ASKED.load(Ordering::SeqCst);
            let serve = async {
                let (stream, _) = good.accept().await.unwrap();
                // It is no server of TLS: it goes away once it was spoken to.
                stream.readable().await.unwrap();
                drop(stream);
            };
            let (refused, ()) = tokio::join!(fetcher.fetch(&trust), serve);
            assert_eq!(refused.unwrap_err(), FetchError::TlsFailed);
            assert_eq!(ASKED.load(Ordering::SeqCst), asked + 1, "it is resolved once");
            // The next time it means what it must not.
            assert_eq!(fetcher.fetch(&trust).await.unwrap_err(), FetchError::AddressNotAllowed);
            assert_eq!(ASKED.load(Ordering::SeqCst), asked + 2);
        }
        for listener in [&good, &private] {
            let more = timeout(Duration::from_millis(50), listener.accept()).await;
            assert!(more.is_err(), "a connection that was not to be");
        }
    }

    #[tokio::test]
    async fn a_name_of_what_only_this_server_can_reach_is_not_connected_to() {
        static ADDRESSES: Mutex<Vec<SocketAddr>> = Mutex::new(Vec::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let fetcher =
            fetcher(|_, _| Box::pin(async { Ok(ADDRESSES.lock().unwrap().clone()) }), "198.51.100.0/24");
        for addresses in [
            &["169.254.169.254"][..],
            &["10.0.0.1"],
            &["172.16.0.1"],
            &["192.168.0.1"],
            &["100.64.0.1"],
            &["127.0.0.1"],
            &["0.0.0.0"],
            &["::1"],
            &["fe80::1"],
            &["fd00::1"],
            &["::ffff:10.0.0.1"],
            &["::ffff:127.0.0.1"],
            &["64:ff9b::a9fe:a9fe"],
            &["64:ff9b::10.0.0.1"],
            &["64:ff9b:1::10.0.0.1"],
            &["2002:7f00:1::1"],
            // Private before public, and after it.
            &["127.0.0.1", "8.8.8.8"],
            &["8.8.8.8", "127.0.0.1"],
            &["8.8.8.8", "8.8.4.4", "1.1.1.1", "9.9.9.9", "127.0.0.1"],
        ] {
            let at = |text: &&str| SocketAddr::new(text.parse().unwrap(), port);
            *ADDRESSES.lock().unwrap() = addresses.iter().map(at).collect();
            for trust in trusts() {
                let refused = fetcher.fetch(&trust).await.unwrap_err();
                assert_eq!(refused, FetchError::AddressNotAllowed, "{addresses:?}");
            }
        }
        ADDRESSES.lock().unwrap().clear();
        for trust in trusts() {
            assert_eq!(fetcher.fetch(&trust).await.unwrap_err(), FetchError::NameNotFound);
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
