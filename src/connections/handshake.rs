//! What precedes the first request of a connection: nothing, or the handshake of TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use rustls::server::Acceptor;
use tokio::sync::watch;
use tokio_rustls::LazyConfigAcceptor;

use super::socket::Socket;
use super::stream::Stream;
use crate::domain::values::client_certificate::ClientCertificate;
use crate::metrics::{Connections, Handshake};
use crate::telemetry::Sampler;
use crate::tls::{Terms, Tls};

/// A connection that can answer requests.
pub(super) struct Ready {
    pub(super) stream: Stream,
    /// The certificate that the client has shown, if any.
    pub(super) certificate: Option<ClientCertificate>,
    terms: Option<watch::Receiver<Arc<Terms>>>,
}

impl Ready {
    pub(super) fn plain(socket: Socket) -> Self {
        Self { stream: Stream::Plain(socket), certificate: None, terms: None }
    }

    /// Shakes hands. The caller limits the time that it takes: most of it is the client's.
    ///
    /// The settings of TLS are those of when the client has begun: one that waits before holds none.
    pub(super) async fn tls(socket: Socket, tls: &Tls) -> io::Result<Self> {
        let begun = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
        let mut terms = tls.terms();
        let current = terms.borrow_and_update().clone();
        let stream = begun.into_stream(current.config.clone()).await?;
        let certificate = current.client_certificate(stream.get_ref().1);
        let certificate = certificate.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        // Without a certificate the connection owes nothing to the authorities.
        let terms = certificate.is_some().then_some(terms);
        Ok(Self { stream: Stream::Tls(Box::new(stream)), certificate, terms })
    }

    /// What is done when the client's certificate was verified by authorities that were replaced since.
    pub(super) fn withdrawn(&mut self) -> impl Future<Output = ()> + Send + use<> {
        let terms = self.terms.take();
        async move {
            let Some(mut terms) = terms else { return std::future::pending().await };
            if terms.changed().await.is_err() {
                // The server ends, and its connections by themselves.
                std::future::pending().await
            }
        }
    }
}

/// Counts and logs how handshakes ended. A flood of those that failed is sampled, by how they did.
pub(super) struct Handshakes {
    samplers: [Sampler; Handshake::ALL.len()],
    began: Instant,
}

impl Default for Handshakes {
    fn default() -> Self {
        Self { samplers: Default::default(), began: Instant::now() }
    }
}

impl Handshakes {
    /// A handshake with this client has failed.
    pub(super) fn failed(&self, outcome: Handshake, reason: &str, peer: SocketAddr, counted: &Connections) {
        counted.shaken(outcome);
        if !matches!(outcome, Handshake::Refused | Handshake::TimedOut) {
            // No fault of a client: a check of the port, or this server.
            tracing::debug!(%peer, reason, outcome = outcome.name(), "TLS handshake not finished");
            return;
        }
        let sampler = &self.samplers[outcome as usize];
        let Some(unlogged) = sampler.admit(self.began.elapsed().as_secs()) else { return };
        let unlogged_before = (unlogged > 0).then_some(unlogged);
        let (address, outcome) = (peer.ip().to_canonical(), outcome.name());
        tracing::info!(%address, reason, outcome, unlogged_before, "TLS handshake failed");
    }
}

/// How a handshake with this error ended.
pub(super) fn outcome_of(error: &io::Error) -> Handshake {
    match error.kind() {
        // An error of TLS, as its implementation says it.
        io::ErrorKind::InvalidData => Handshake::Refused,
        _ => Handshake::Left,
    }
}
