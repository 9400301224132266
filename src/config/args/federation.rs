//! Arguments about federation: which other issuers may be trusted.

use std::path::PathBuf;

use clap::Args;
use ipnet::IpNet;

use super::network::network;
use crate::config::FederationSettings;
use crate::domain::federation::ceiling::{Ceiling, CeilingEntry};
use crate::domain::values::networks::Network;

/// The issuers whose JWTs may be exchanged, whatever orgs ask for.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Federation")]
pub(crate) struct FederationArgs {
    /// The issuers that orgs may trust: an exact `iss`, `https://*.example.com`, or `spiffe://name`.
    ///
    /// A `*` is one whole label. It is checked at each use: what is taken off the list stops at the next start.
    /// Without it federation is off; `dev` also allows issuers at `https://localhost` with any port.
    #[arg(
        long,
        env = "COUNTERSIGN_FEDERATION_ISSUERS",
        value_delimiter = ',',
        value_parser = entry,
        value_name = "ISSUER,…"
    )]
    federation_issuers: Vec<CeilingEntry>,
    /// Networks, beside the public internet, from which keys of issuers are fetched: `10.0.0.0/8`.
    ///
    /// For issuers alone that `--federation-issuers` lists exactly.
    #[arg(
        long,
        env = "COUNTERSIGN_FEDERATION_NETWORKS",
        value_delimiter = ',',
        value_parser = network,
        value_name = "CIDR,…"
    )]
    federation_networks: Vec<IpNet>,
    /// A PEM file with authorities that issuers' certificates may be from, beside the public ones.
    #[arg(long, env = "COUNTERSIGN_FEDERATION_CA", value_name = "FILE")]
    federation_ca: Option<PathBuf>,
}

impl From<FederationArgs> for FederationSettings {
    fn from(args: FederationArgs) -> Self {
        Self {
            ceiling: Ceiling::new(args.federation_issuers),
            networks: args.federation_networks.into_iter().map(Network::from).collect(),
            ca: args.federation_ca,
        }
    }
}

fn entry(text: &str) -> Result<CeilingEntry, String> {
    let entry = CeilingEntry::parse(text).map_err(|wrong| wrong.to_string())?;
    // It would never be admitted.
    if entry.is_local() {
        return Err("must not be on this machine: `dev` admits such issuers, and no other server does".into());
    }
    Ok(entry)
}
