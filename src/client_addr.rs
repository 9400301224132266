//! The address of the client of a request, for gRPC and plain HTTP alike.

use std::net::IpAddr;

use http::Request;
use tonic::transport::server::TcpConnectInfo;

use crate::domain::values::networks;
use crate::domain::values::networks::Network;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The address of the client of a request, behind the trusted proxies.
pub fn address<B>(request: &Request<B>, trusted: &[Network]) -> Option<IpAddr> {
    let peer = request.extensions().get::<TcpConnectInfo>()?.remote_addr()?.ip();
    // A line that is not ASCII is not an address, but still counts as a hop.
    let lines = request.headers().get_all(FORWARDED_FOR).iter().map(|line| line.to_str().unwrap_or("?"));
    networks::client(peer, lines, trusted)
}
