//! Arguments about the issuer, the master keys and the signing keys.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, Args};

use super::database::DatabaseArgs;
use super::duration::{DAY, HOUR, duration};
use crate::config::{Issuer, SigningAlgorithm};

/// The heading of all arguments of this file.
const HEADING: &str = "Issuer and keys";

/// The master keys.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = HEADING)]
pub(crate) struct MasterKeyArgs {
    /// The file of the master keys, which seal the secrets in the database.
    ///
    /// One key on each line, `id:base64(32 bytes)`. The first one is current; all of them open what
    /// was sealed under them. The examples of `countersign bootstrap --help` create such a file. One that
    /// others can read is refused: `chmod 600`.
    #[arg(long, env = "COUNTERSIGN_MASTER_KEY_FILE", value_name = "FILE")]
    pub master_key_file: PathBuf,
}

/// The issuer.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = HEADING)]
pub(crate) struct IssuerArgs {
    /// `iss` of every JWT: the URL at which verifiers reach this service, such as
    /// `https://id.example.com`.
    ///
    /// The same for `bootstrap` and for every server: the first of them records it in the database, and
    /// one with another is refused. `countersign issuer set` changes it, which invalidates every JWT
    /// that has not expired yet.
    #[arg(long, env = "COUNTERSIGN_ISSUER", value_name = "URL")]
    issuer: Issuer,
    #[command(flatten)]
    insecure: InsecureIssuerArgs,
}

impl IssuerArgs {
    /// The issuer, if it may be used.
    ///
    /// # Errors
    /// When it is not `https`, and that was not allowed.
    pub(crate) fn issuer(&self) -> anyhow::Result<Issuer> {
        self.insecure.allow(&self.issuer)
    }
}

/// Whether an issuer without TLS is accepted.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = HEADING)]
pub(crate) struct InsecureIssuerArgs {
    /// Accept an issuer with `http://` whose host is not this machine.
    ///
    /// Verifiers then load the keys that they trust over a network that others can change.
    #[arg(
        long,
        env = "COUNTERSIGN_INSECURE_ISSUER",
        action = ArgAction::SetTrue
    )]
    insecure_issuer: bool,
}

impl InsecureIssuerArgs {
    fn allow(&self, issuer: &Issuer) -> anyhow::Result<Issuer> {
        let why = "without TLS, verifiers would trust keys that others on the network can replace: use https, or \
                   --insecure-issuer";
        anyhow::ensure!(self.insecure_issuer || issuer.is_secure(), "the issuer {issuer}: {why}");
        Ok(issuer.clone())
    }
}

/// `countersign issuer set`.
#[derive(Args, Clone, Debug)]
pub(crate) struct IssuerSetArgs {
    /// The new issuer, such as `https://id.example.com`.
    #[arg(value_name = "URL")]
    url: Issuer,
    #[command(flatten)]
    pub database: DatabaseArgs,
    #[command(flatten)]
    insecure: InsecureIssuerArgs,
}

impl IssuerSetArgs {
    /// As [`IssuerArgs::issuer`].
    pub(crate) fn issuer(&self) -> anyhow::Result<Issuer> {
        self.insecure.allow(&self.url)
    }
}

/// The algorithm of new signing keys.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = HEADING)]
pub(crate) struct SigningArgs {
    /// The algorithm of signing keys that are created from now on.
    ///
    /// The current key of a database stays in use until its lifetime ends, or until it is rotated
    /// (`RotateSigningKey`).
    #[arg(
        long,
        env = "COUNTERSIGN_SIGNING_ALGORITHM",
        default_value = SigningAlgorithm::EdDsa.name(),
        value_parser = signing_algorithm(),
        value_name = "ALGORITHM"
    )]
    pub signing_algorithm: SigningAlgorithm,
}

/// The rotation of signing keys by a server.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = HEADING)]
pub(crate) struct RotationArgs {
    /// How long a signing key signs before its successor does: `1h` to `365d`.
    ///
    /// The successor is created and published automatically, ten minutes before it signs.
    // Not less than an hour: else all published keys might be keys that retire.
    #[arg(
        long,
        env = "COUNTERSIGN_SIGNING_KEY_LIFETIME",
        default_value = "30d",
        value_parser = duration(HOUR..=365 * DAY),
        value_name = "DURATION"
    )]
    pub signing_key_lifetime: Duration,
}

/// Takes the names of the algorithms, exactly.
fn signing_algorithm() -> impl TypedValueParser<Value = SigningAlgorithm> {
    let value = |algorithm: &SigningAlgorithm| {
        PossibleValue::new(algorithm.name()).help(match algorithm {
            SigningAlgorithm::EdDsa => "Ed25519",
            SigningAlgorithm::Es256 => "ECDSA on P-256 with SHA-256",
            SigningAlgorithm::Rs256 => {
                "RSA, 2048 bits, PKCS #1 v1.5, with SHA-256: for verifiers that support nothing else"
            }
        })
    };
    let values = PossibleValuesParser::new(SigningAlgorithm::ALL.iter().map(value));
    values.try_map(|name| {
        let named = SigningAlgorithm::ALL.iter().find(|algorithm| algorithm.name() == name);
        named.copied().ok_or("is no signing algorithm")
    })
}
