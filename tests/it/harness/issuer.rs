//! A live issuer: a server over TLS on this machine, with keys that turn, which knows Countersign only by its requests.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign::config::{FederationSettings, ServerLimits};
use countersign::domain::federation::ceiling::Ceiling;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{LIMITS, Signer, TlsFiles, write_private};

/// What the issuer answers.
#[derive(Clone, Debug)]
pub enum Manners {
    /// As it should.
    Good,
    /// Nothing, and keeps the connection.
    Hangs,
    /// Nothing until it is told to behave in another way, and then so.
    Waits,
    /// Closes the connection.
    Away,
    /// These head lines and this body, at both places.
    Says { status: &'static str, headers: &'static str, body: Vec<u8> },
    /// A discovery document of another issuer.
    OfAnother,
    /// A discovery document with this `jwks_uri`.
    KeysAt(String),
}

struct Shared {
    keys: Vec<Value>,
    manners: Manners,
    cache_control: String,
}

/// An issuer of JWTs at `https://localhost` and a port of its own.
pub struct LiveIssuer {
    pub url: String,
    files: TlsFiles,
    shared: Arc<Mutex<Shared>>,
    fetches: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for LiveIssuer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl LiveIssuer {
    /// Starts one, with a certificate of its own authority.
    pub async fn start() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let files = TlsFiles::new(&format!("issuer-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        write_private(&files.path("ca.pem"), &files.authority.certificate);
        let read = |name: &str| std::fs::read(files.path(name)).unwrap();
        let chain = CertificateDer::pem_slice_iter(&read("tls.crt")).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(&read("tls.key")).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let shared = Arc::new(Mutex::new(Shared {
            keys: Vec::new(),
            manners: Manners::Good,
            cache_control: String::new(),
        }));
        let (fetches, requests) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<Vec<String>>>::default());
        let serving = tokio::spawn({
            let (shared, fetches, requests, url) =
                (shared.clone(), fetches.clone(), requests.clone(), url.clone());
            async move {
                loop {
                    let (socket, _) = listener.accept().await.unwrap();
                    let (acceptor, shared, fetches, requests, url) =
                        (acceptor.clone(), shared.clone(), fetches.clone(), requests.clone(), url.clone());
                    tokio::spawn(async move {
                        let Ok(mut stream) = acceptor.accept(socket).await else { return };
                        let mut head = Vec::new();
                        while !head.ends_with(b"\r\n\r\n") {
                            if stream.read_buf(&mut head).await.unwrap_or_default() == 0 {
                                return;
                            }
                        }
                        let head = String::from_utf8(head).unwrap();
                        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                        requests.lock().unwrap().push(head);
                        if !path.starts_with("/.well-known/") {
                            fetches.fetch_add(1, Ordering::SeqCst);
                        }
                        while matches!(shared.lock().unwrap().manners, Manners::Waits) {
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        }
                        let answer = {
                            let shared = shared.lock().unwrap();
                            answer(&shared, &url, &path)
                        };
                        match answer {
                            Some(answer) => {
                                let _ = stream.write_all(&answer).await;
                                let _ = stream.shutdown().await;
                            }
                            None => tokio::time::sleep(Duration::from_secs(3_600)).await,
                        }
                    });
                }
            }
        });
        Self { url, files, shared, fetches, requests, serving }
    }

    /// Limits of a server that trusts issuers of this machine, with the authority of this one.
    pub fn limits(&self) -> ServerLimits {
        let federation = FederationSettings {
            ceiling: Ceiling::THIS_MACHINE,
            networks: Vec::new(),
            ca: Some(self.files.path("ca.pem")),
        };
        ServerLimits { federation, ..LIMITS }
    }

    /// Publishes these keys, and no others.
    pub fn publish(&self, keys: &[(&str, &Signer)]) {
        let jwk = |(kid, signer): &(&str, &Signer)| {
            let mut jwk = signer.jwk();
            jwk["kid"] = json!(kid);
            jwk["use"] = json!("sig");
            jwk
        };
        self.publish_jwks(keys.iter().map(jwk).collect());
    }

    pub fn publish_jwks(&self, keys: Vec<Value>) {
        self.shared.lock().unwrap().keys = keys;
    }

    pub fn behave(&self, manners: Manners) {
        self.shared.lock().unwrap().manners = manners;
    }

    pub fn cache_control(&self, value: &str) {
        self.shared.lock().unwrap().cache_control = value.to_owned();
    }

    /// How often its keys were asked for.
    pub fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }

    /// The heads of all requests that came.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// The answer to a request of this path; none where it hangs.
fn answer(shared: &Shared, url: &str, path: &str) -> Option<Vec<u8>> {
    let json = |headers: &str, body: &Value| {
        let body = body.to_string();
        let length = body.len();
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{headers}\r\n"
        );
        Some([head.into_bytes(), body.into_bytes()].concat())
    };
    let is_discovery = path == "/.well-known/openid-configuration";
    let cache_control = match shared.cache_control.as_str() {
        "" => String::new(),
        value => format!("cache-control: {value}\r\n"),
    };
    match &shared.manners {
        Manners::Hangs | Manners::Waits => None,
        Manners::Away => Some(Vec::new()),
        Manners::Says { status, headers, body } => {
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n");
            Some([head.into_bytes(), body.clone()].concat())
        }
        Manners::OfAnother if is_discovery => {
            json("", &json!({"issuer": format!("{url}/"), "jwks_uri": format!("{url}/jwks")}))
        }
        Manners::KeysAt(uri) if is_discovery => json("", &json!({"issuer": url, "jwks_uri": uri})),
        _ if is_discovery => json("", &json!({"issuer": url, "jwks_uri": format!("{url}/jwks")})),
        _ => json(&cache_control, &json!({"keys": shared.keys})),
    }
}
