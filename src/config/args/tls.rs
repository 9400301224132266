//! Arguments about TLS of the port.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::config::{ClientAuth, TlsSettings};

/// The certificate of the port, and those of clients.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "TLS")]
pub(crate) struct TlsArgs {
    /// A PEM file with the server's certificate, followed by those between it and its authority: the port
    /// then speaks TLS 1.3 and 1.2, and nothing else.
    ///
    /// Certificate, key and `--tls-client-ca` are read again within 10 s after they change; what cannot be
    /// used is logged, and the former ones stay in use.
    #[arg(long, env = "COUNTERSIGN_TLS_CERT", requires = "tls_key", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// A PEM file with the private key of the certificate, without a passphrase. One that others can read
    /// is refused: `chmod 600`.
    #[arg(long, env = "COUNTERSIGN_TLS_KEY", requires = "tls_cert", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// A PEM file with the authorities whose client certificates are accepted (mTLS).
    ///
    /// It says which clients may connect, and not what they may do: each call needs its credential. When
    /// the file changes, connections with a client certificate are closed.
    #[arg(long, env = "COUNTERSIGN_TLS_CLIENT_CA", requires = "tls_cert", value_name = "FILE")]
    tls_client_ca: Option<PathBuf>,
    /// Whether a client needs a certificate: `required`, the default with `--tls-client-ca`; or `optional`,
    /// where probes and readers of the key set have none.
    ///
    /// `optional` without `--tls-client-ca` accepts certificates of any authority, self-signed ones too: for
    /// tokens that are bound to a certificate.
    #[arg(long, env = "COUNTERSIGN_TLS_CLIENT_AUTH", requires = "tls_cert", value_name = "HOW")]
    tls_client_auth: Option<HowClients>,
}

/// The ways by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum HowClients {
    Optional,
    Required,
}

impl TlsArgs {
    /// The settings; none where the port speaks no TLS.
    ///
    /// # Errors
    /// When certificates are required, and no authority is named.
    pub(crate) fn settings(self) -> anyhow::Result<Option<TlsSettings>> {
        let (Some(certificate), Some(key)) = (self.tls_cert, self.tls_key) else { return Ok(None) };
        let client_auth = match (self.tls_client_ca, self.tls_client_auth) {
            (None, None) => ClientAuth::None,
            (None, Some(HowClients::Optional)) => ClientAuth::AnyAuthority,
            (None, Some(HowClients::Required)) => {
                anyhow::bail!(
                    "--tls-client-auth required needs --tls-client-ca: without it any certificate would do"
                )
            }
            (Some(file), how) => {
                ClientAuth::Authorities { file, required: !matches!(how, Some(HowClients::Optional)) }
            }
        };
        Ok(Some(TlsSettings { certificate, key, client_auth }))
    }
}
