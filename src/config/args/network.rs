//! Networks on the command line.

use std::net::IpAddr;

use ipnet::IpNet;

/// A network, or a single address.
pub(super) fn network(text: &str) -> Result<IpNet, &'static str> {
    let single = text.parse::<IpAddr>().map(IpNet::from);
    single.or_else(|_| text.parse()).map_err(|_| "must be like 10.0.0.0/8 or 2001:db8::1")
}
