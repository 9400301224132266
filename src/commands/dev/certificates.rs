//! The certificates of `dev --tls`: an authority of the data directory, and a server's signed by it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::ParsedCertificate;
use time::{Duration, OffsetDateTime};

use super::data_dir::write_private;
use crate::config::{ClientAuth, TlsSettings};

/// How long the authority is valid: it is kept as long as its files are.
const AUTHORITY_LIFETIME: Duration = Duration::days(3_650);
/// How long a server's certificate is valid, which is created at each start.
const SERVER_LIFETIME: Duration = Duration::days(365);
/// A certificate is valid from before its creation: the clocks of clients differ.
const SKEW: Duration = Duration::days(1);

/// The authority whose certificates clients of `dev` trust.
#[derive(Clone)]
pub(super) struct Authority {
    /// Where its certificate is, as an absolute path.
    pub file: PathBuf,
    pub pem: String,
}

/// Creates what is missing: the authority, once, and a certificate for these names and addresses.
pub(super) fn prepare(
    data_dir: &Path,
    names: impl IntoIterator<Item = String>,
    now: OffsetDateTime,
) -> Result<(Authority, TlsSettings)> {
    let path = |name: &str| data_dir.join(name);
    let [authority_file, authority_key] = [path("ca.pem"), path("ca.key")];
    let [certificate, key] = [path("tls.pem"), path("tls.key")];
    let params = authority_params();
    // A process that was killed may have left one of the two, or two that do not belong together.
    if !are_a_pair(&authority_file, &authority_key) {
        let new = KeyPair::generate()?;
        let mut params = params.clone();
        (params.not_before, params.not_after) = (now - SKEW, now + AUTHORITY_LIFETIME);
        write(&authority_key, &new.serialize_pem())?;
        write(&authority_file, &params.self_signed(&new)?.pem())?;
    }
    let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("reading {}", path.display()));
    let signs = KeyPair::from_pem(&read(&authority_key)?)
        .with_context(|| format!("reading {}", authority_key.display()))?;
    // Its name and its key are all that a certificate says of its authority.
    let issuer = Issuer::new(params, signs);

    let new = KeyPair::generate()?;
    let mut params = CertificateParams::new(names.into_iter().collect::<Vec<_>>())?;
    params.distinguished_name.push(DnType::CommonName, "Countersign dev");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (now - SKEW, now + SERVER_LIFETIME);
    write(&key, &new.serialize_pem())?;
    write(&certificate, &params.signed_by(&new, &issuer)?.pem())?;

    let pem = read(&authority_file)?;
    let file = authority_file.canonicalize().context("finding the data directory")?;
    // So that bound tokens can be tried, with any certificate.
    let client_auth = ClientAuth::AnyAuthority;
    Ok((Authority { file, pem }, TlsSettings { certificate, key, client_auth }))
}

/// Whether there are a certificate and its key.
fn are_a_pair(certificate: &Path, key: &Path) -> bool {
    let read = |path| fs::read_to_string(path).ok();
    let key = read(key).and_then(|pem| KeyPair::from_pem(&pem).ok());
    let certificate = read(certificate).and_then(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).ok());
    let (Some(key), Some(certificate)) = (key, certificate) else { return false };
    ParsedCertificate::try_from(&certificate)
        .is_ok_and(|parsed| *parsed.subject_public_key_info() == key.subject_public_key_info()[..])
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Countersign dev authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn write(path: &Path, text: &str) -> Result<()> {
    write_private(path, text).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_authority_stays_and_signs_a_certificate_at_each_start() {
        let dir = std::env::temp_dir().join(format!("countersign-certificates-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let names = || ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let (first, settings) = prepare(&dir, names(), now).unwrap();
        let before = fs::read(&settings.certificate).unwrap();
        let (second, settings) = prepare(&dir, names(), now).unwrap();
        assert_eq!(first.pem, second.pem);
        assert_ne!(fs::read(&settings.certificate).unwrap(), before);
        assert!(first.file.is_absolute());
        for name in ["ca.key", "tls.key"] {
            assert_eq!(fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
        }
        // Without its key it is another one.
        fs::remove_file(dir.join("ca.key")).unwrap();
        let second = prepare(&dir, names(), now).unwrap().0.pem;
        assert_ne!(second, first.pem);
        // So it is with the key of another one.
        fs::write(dir.join("ca.key"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
        let third = prepare(&dir, names(), now).unwrap().0.pem;
        assert_ne!(third, second);
        assert_eq!(prepare(&dir, names(), now).unwrap().0.pem, third);
        fs::remove_dir_all(&dir).unwrap();
    }
}
