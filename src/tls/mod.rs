//! TLS of the port: the server's certificate, and which certificates clients may have.
//!
//! What a connection is accepted with is read from files, and read again when they change. A new
//! certificate of the server concerns new connections alone. Other authorities of client certificates
//! end resumption, and the connections whose certificate was verified under the former ones.

mod client_auth;
mod files;
mod validity;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::aws_lc_rs::digest::{SHA256, digest};
use anyhow::{Context as _, Result, anyhow};
use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{Error, HandshakeKind, ServerConfig, ServerConnection};
use time::OffsetDateTime;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::config::{ClientAuth, TlsSettings};
use crate::domain::values::client_certificate::ClientCertificate;
use files::{Files, sha256};
use validity::Validity;

/// The protocols that are spoken on the port, the preferred one first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// How long before its end the expiry of the certificate is logged, at most: sooner than a fifth of its
/// lifetime would be noise where it is renewed in time.
const LONGEST_WARNING: time::Duration = time::Duration::weeks(2);

/// The TLS of a server. Its files are read again by [`Tls::reload`].
pub struct Tls {
    settings: TlsSettings,
    made_of: MadeOf,
    /// What new connections are accepted with; replaced with the authorities of client certificates.
    terms: watch::Sender<Arc<Terms>>,
    tried: Mutex<Tried>,
}

/// The files that were last tried.
struct Tried {
    digest: [u8; 32],
    /// Why they cannot be used, if so.
    error: Option<String>,
}

/// What all terms of a server have in common.
struct MadeOf {
    provider: Arc<CryptoProvider>,
    certificate: Arc<Certificate>,
    clock: Clock,
}

/// What connections are accepted with, until the authorities of client certificates change.
pub(crate) struct Terms {
    pub(crate) config: Arc<ServerConfig>,
    verifier: Arc<dyn ClientCertVerifier>,
    authorities: Vec<CertificateDer<'static>>,
}

/// The server's certificate with its key, as it is now.
struct Certificate(ArcSwap<Served>);

struct Served {
    key: Arc<CertifiedKey>,
    validity: Validity,
}

impl Tls {
    /// Reads the files. Blocks.
    ///
    /// # Errors
    /// When one cannot be read, or the certificate and the key do not belong together.
    pub fn open(settings: TlsSettings, clock: Clock) -> Result<Arc<Self>> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let files = Files::read(&settings)?;
        let served = served(&files, &provider)?;
        let made_of =
            MadeOf { provider, certificate: Arc::new(Certificate(ArcSwap::from_pointee(served))), clock };
        let terms = Terms::new(&made_of, &settings.client_auth, authorities(&settings.client_auth, &files)?)?;
        let tried = Mutex::new(Tried { digest: files.digest(), error: None });
        Ok(Arc::new(Self { settings, made_of, terms: watch::Sender::new(Arc::new(terms)), tried }))
    }

    /// Whether clients may show certificates.
    pub fn takes_certificates(&self) -> bool {
        !matches!(self.settings.client_auth, ClientAuth::None)
    }

    /// Reads the files again, and takes what has changed. False where nothing has since the last time.
    /// Blocks.
    ///
    /// # Errors
    /// When what is there now cannot be used, as long as it is there: all stays as it is.
    pub fn reload(&self) -> Result<bool> {
        let files = Files::read(&self.settings)?;
        let digest = files.digest();
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        if tried.digest == digest {
            return tried.error.clone().map_or(Ok(false), |error| Err(anyhow!(error)));
        }
        let taken = self.take(&files);
        *tried = Tried { digest, error: taken.as_ref().err().map(|error| format!("{error:#}")) };
        taken.map(|()| true)
    }

    /// Takes what these files have. All of it is parsed before any of it is taken.
    fn take(&self, files: &Files) -> Result<()> {
        let client_auth = &self.settings.client_auth;
        let served = served(files, &self.made_of.provider)?;
        let authorities = authorities(client_auth, files)?;
        let are_new = authorities != self.terms.borrow().authorities;
        let terms = are_new.then(|| Terms::new(&self.made_of, client_auth, authorities)).transpose()?;
        self.made_of.certificate.0.store(Arc::new(served));
        if let Some(terms) = terms {
            tracing::info!("authorities of client certificates replaced");
            self.terms.send_replace(Arc::new(terms));
        }
        Ok(())
    }

    /// When the server's certificate expires.
    pub fn expires(&self) -> OffsetDateTime {
        self.made_of.certificate.0.load().validity.not_after
    }

    /// From when on its expiry is near: in the last fifth of its lifetime, and at most two weeks.
    pub fn expires_soon_from(&self) -> OffsetDateTime {
        let Validity { not_before, not_after } = self.made_of.certificate.0.load().validity;
        let lifetime: time::Duration = not_after - not_before;
        not_after - (lifetime / 5_i32).min(LONGEST_WARNING)
    }

    /// What a new connection is accepted with. It changes when that is withdrawn.
    pub(crate) fn terms(&self) -> watch::Receiver<Arc<Terms>> {
        self.terms.subscribe()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Terms {
    fn new(
        made_of: &MadeOf,
        client_auth: &ClientAuth,
        authorities: Vec<CertificateDer<'static>>,
    ) -> Result<Self> {
        let MadeOf { provider, certificate, clock } = made_of;
        let verifier = match client_auth {
            ClientAuth::None => WebPkiClientVerifier::no_client_auth(),
            ClientAuth::AnyAuthority => Arc::new(client_auth::AnyAuthority(provider.clone())),
            ClientAuth::Authorities { required, .. } => {
                client_auth::of_authorities(&authorities, *required, provider)
                    .map_err(|wrong| anyhow!("--tls-client-ca: {wrong}"))?
            }
        };
        let mut config = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier.clone())
            .with_cert_resolver(certificate.clone());
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        // Tickets take no memory, so that no client can displace the sessions of others; their key changes
        // every six hours, and is never stored. Each `Terms` has its own: tickets of others are void.
        config.ticketer = aws_lc_rs::Ticketer::new()?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        // What is sent before the handshake is done could be sent twice.
        config.max_early_data_size = 0;
        config.time_provider = Arc::new(Time(clock.clone()));
        Ok(Self { config: Arc::new(config), verifier, authorities })
    }

    /// The client's certificate after a handshake, if it has one.
    ///
    /// # Errors
    /// When the session was resumed, and its certificate is not accepted any more, such as an expired one.
    pub(crate) fn client_certificate(
        &self,
        session: &ServerConnection,
    ) -> Result<Option<ClientCertificate>, Error> {
        let Some([certificate, intermediates @ ..]) = session.peer_certificates() else { return Ok(None) };
        // The handshake of a resumed session verifies no certificate.
        if session.handshake_kind() == Some(HandshakeKind::Resumed) {
            let now = self.config.time_provider.current_time().ok_or(Error::FailedToGetCurrentTime)?;
            self.verifier.verify_client_cert(certificate, intermediates, now)?;
        }
        let key = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
        let [thumbprint, public_key] = [&**certificate, &*key].map(|der| sha256(digest(&SHA256, der)).into());
        Ok(Some(ClientCertificate { thumbprint, public_key }))
    }
}

fn served(files: &Files, provider: &CryptoProvider) -> Result<Served> {
    let chain = files.chain()?;
    let validity = Validity::of(&chain[0]).context("--tls-cert: malformed certificate")?;
    let key = CertifiedKey::from_der(chain, files.key()?, provider)
        .map_err(|error| anyhow!("--tls-cert and --tls-key do not belong together: {error}"))?;
    Ok(Served { key: Arc::new(key), validity })
}

fn authorities(client_auth: &ClientAuth, files: &Files) -> Result<Vec<CertificateDer<'static>>> {
    match client_auth {
        ClientAuth::Authorities { .. } => files.authorities(),
        ClientAuth::None | ClientAuth::AnyAuthority => Ok(Vec::new()),
    }
}

/// The clock of the server, for the times of certificates and tickets.
#[derive(Debug)]
struct Time(Clock);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().unix_timestamp()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load().key.clone())
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificate")
    }
}
