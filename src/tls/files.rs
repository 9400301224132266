//! The files of certificates and keys.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, ensure};
use aws_lc_rs::digest;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use crate::config::{ClientAuth, TlsSettings, secret_file};

/// The most bytes of a file: a chain, or the authorities of an organisation, take far less.
const MOST_BYTES: u64 = 1 << 20;

/// What was read, unparsed.
pub(super) struct Files {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    authorities: Option<Vec<u8>>,
}

impl Files {
    /// Reads all that the settings name. Blocks.
    pub(super) fn read(settings: &TlsSettings) -> Result<Self> {
        let authorities = match &settings.client_auth {
            ClientAuth::Authorities { file, .. } => Some(read("--tls-client-ca", file)?),
            ClientAuth::None | ClientAuth::AnyAuthority => None,
        };
        Ok(Self {
            certificate: read("--tls-cert", &settings.certificate)?,
            key: secret_file::read(&settings.key)
                .map_err(|what| anyhow!("--tls-key {}: {what}", settings.key.display()))?,
            authorities,
        })
    }

    /// A digest of all of it, to notice a change without keeping the key twice.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        let authorities = self.authorities.as_deref().unwrap_or_default();
        for file in [&self.certificate, &*self.key, authorities] {
            context.update(&(file.len() as u64).to_be_bytes());
            context.update(file);
        }
        sha256(context.finish())
    }

    /// The server's certificate, and those between it and its authority.
    pub(super) fn chain(&self) -> Result<Vec<CertificateDer<'static>>> {
        certificates("--tls-cert", &self.certificate)
    }

    pub(super) fn key(&self) -> Result<PrivateKeyDer<'static>> {
        // The parser's own errors may quote what stands in the file.
        PrivateKeyDer::from_pem_slice(&self.key)
            .ok()
            .context("--tls-key: no private key in PEM without a passphrase")
    }

    /// The authorities of client certificates.
    pub(super) fn authorities(&self) -> Result<Vec<CertificateDer<'static>>> {
        certificates("--tls-client-ca", self.authorities.as_deref().unwrap_or_default())
    }
}

fn read(flag: &str, path: &Path) -> Result<Vec<u8>> {
    let named = || format!("{flag} {}", path.display());
    let length = fs::metadata(path).with_context(named)?.len();
    ensure!(length <= MOST_BYTES, "{}: more than {MOST_BYTES} bytes", named());
    fs::read(path).with_context(named)
}

fn certificates(flag: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|_| anyhow!("{flag}: a certificate is not PEM"))?;
    ensure!(!all.is_empty(), "{flag}: no certificate in PEM");
    Ok(all)
}

/// The bytes of a SHA-256 digest.
pub(super) fn sha256(digest: digest::Digest) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    bytes
}
