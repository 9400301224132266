//! Certificates of the tests' own authorities, and clients with them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ::aws_lc_rs::digest::{SHA256, digest};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use countersign::clock::Clock;
use countersign::config::{ClientAuth, TlsSettings};
use countersign::tls::Tls;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _, date_time_ymd,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint, Identity};

use super::{Scratch, write_private};

/// A certificate with its key, in PEM.
#[derive(Clone)]
pub struct Pair {
    pub certificate: String,
    pub key: String,
    /// The digest of the public key, as `allowed_client_certs` takes it.
    pub public_key: String,
}

impl Pair {
    /// `x5t#S256` of the certificate.
    pub fn thumbprint(&self) -> String {
        let der = CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap();
        BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, &der))
    }

    pub fn identity(&self) -> Identity {
        Identity::from_pem(&self.certificate, &self.key)
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.certificate.as_bytes()).map(Result::unwrap).collect()
    }

    fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }
}

/// An authority that signs certificates.
pub struct Authority {
    pub certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// A certificate for the address of the tests' servers, with a serial number of its own.
    pub fn server(&self) -> Pair {
        self.sign(server_params(), &KeyPair::generate().unwrap())
    }

    /// The same, of these days.
    pub fn server_between(&self, from: (i32, u8, u8), to: (i32, u8, u8)) -> Pair {
        let mut params = server_params();
        params.not_before = date_time_ymd(from.0, from.1, from.2);
        params.not_after = date_time_ymd(to.0, to.1, to.2);
        self.sign(params, &KeyPair::generate().unwrap())
    }

    pub fn client(&self) -> Pair {
        self.sign(client_params(), &KeyPair::generate().unwrap())
    }

    /// Two certificates of one key.
    pub fn renewed_clients(&self) -> [Pair; 2] {
        let key = KeyPair::generate().unwrap();
        [(); 2].map(|()| self.sign(client_params(), &key))
    }

    pub fn client_with(&self, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = client_params();
        change(&mut params);
        self.sign(params, &KeyPair::generate().unwrap())
    }

    fn sign(&self, params: CertificateParams, key: &KeyPair) -> Pair {
        pair(params.signed_by(key, &self.issuer).unwrap().pem(), key)
    }
}

/// A client certificate that no authority has signed.
pub fn self_signed() -> Pair {
    let key = KeyPair::generate().unwrap();
    pair(client_params().self_signed(&key).unwrap().pem(), &key)
}

fn pair(certificate: String, key: &KeyPair) -> Pair {
    let public_key = BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, &key.subject_public_key_info()));
    Pair { certificate, key: key.serialize_pem(), public_key: format!("spki:{public_key}") }
}

fn server_params() -> CertificateParams {
    let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    params.serial_number = Some(serial());
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

fn client_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.serial_number = Some(serial());
    params.distinguished_name.push(DnType::CommonName, "a client");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn serial() -> rcgen::SerialNumber {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    COUNT.fetch_add(1, Ordering::Relaxed).into()
}

/// The files of a server's TLS, in a directory of their own.
pub struct TlsFiles {
    scratch: Scratch,
    pub authority: Authority,
}

impl TlsFiles {
    pub fn new(name: &str) -> Self {
        let files = Self { scratch: Scratch::new(name), authority: Authority::new("servers") };
        files.install(&files.authority.server());
        files
    }

    /// Replaces the server's certificate and key.
    pub fn install(&self, pair: &Pair) {
        write_private(&self.path("tls.key"), &pair.key);
        write_private(&self.path("tls.crt"), &pair.certificate);
    }

    /// Replaces the authorities of client certificates.
    pub fn accept(&self, authority: &Authority) {
        write_private(&self.path("clients.pem"), &authority.certificate);
    }

    /// These authorities, which [`accept`](Self::accept) has named.
    pub fn authorities(&self, required: bool) -> ClientAuth {
        ClientAuth::Authorities { file: self.path("clients.pem"), required }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path(name)
    }

    pub fn settings(&self, client_auth: ClientAuth) -> TlsSettings {
        TlsSettings { certificate: self.path("tls.crt"), key: self.path("tls.key"), client_auth }
    }

    pub fn open(&self, client_auth: ClientAuth, clock: Clock) -> Arc<Tls> {
        Tls::open(self.settings(client_auth), clock).unwrap()
    }

    /// A client that trusts the server, with this certificate.
    pub fn client(&self, pair: Option<&Pair>) -> ClientConfig {
        self.client_of(rustls::ALL_VERSIONS, pair)
    }

    pub fn client_of(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        pair: Option<&Pair>,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.certificate.as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        match pair {
            None => config.with_no_client_auth(),
            Some(pair) => config.with_client_auth_cert(pair.chain(), pair.private_key()).unwrap(),
        }
    }

    /// A gRPC channel to a server, over a connection with this certificate.
    pub async fn channel(
        &self,
        endpoint: &str,
        pair: Option<&Pair>,
    ) -> Result<Channel, tonic::transport::Error> {
        let ca = tonic::transport::Certificate::from_pem(&self.authority.certificate);
        let tls = ClientTlsConfig::new().ca_certificate(ca);
        let tls = pair.map_or(tls.clone(), |pair| tls.identity(pair.identity()));
        Endpoint::from_shared(endpoint.to_owned()).unwrap().tls_config(tls)?.connect().await
    }
}

/// Shakes hands with a server.
pub async fn shake(endpoint: &str, config: &Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let address: SocketAddr = endpoint.split_once("://").unwrap().1.parse().unwrap();
    let socket = TcpStream::connect(address).await?;
    let name = ServerName::from(address.ip());
    TlsConnector::from(config.clone()).connect(name, socket).await
}

/// A GET over HTTP/1.1 on a connection that may be used again. An error where the server refuses the
/// client's certificate, which with TLS 1.3 a client notices when it reads.
pub async fn get(stream: &mut TlsStream<TcpStream>, path: &str) -> std::io::Result<String> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    loop {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() == length.unwrap().parse::<usize>().unwrap() {
            return Ok(text.into_owned());
        }
    }
}
