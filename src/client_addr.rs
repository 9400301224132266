//! Who is at the other end of a request, whatever protocol it speaks.

use std::net::IpAddr;

use http::Request;
use tonic::transport::server::TcpConnectInfo;

use crate::domain::values::networks;
use crate::domain::values::networks::Network;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// Where a request comes from, behind the proxies that are ours.
pub fn address<B>(request: &Request<B>, trusted: &[Network]) -> Option<IpAddr> {
    let peer = request.extensions().get::<TcpConnectInfo>()?.remote_addr()?.ip();
    // Lines that are not ASCII are no addresses, and still stand for hops.
    let lines = request.headers().get_all(FORWARDED_FOR).iter().map(|line| line.to_str().unwrap_or("?"));
    networks::client(peer, lines, trusted)
}
