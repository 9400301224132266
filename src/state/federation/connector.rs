//! Connects to an issuer's host, at an address that may be reached.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::domain::federation::fetching::FetchError;
use crate::domain::federation::reach::is_open;
use crate::domain::values::networks::Network;

/// The most addresses of a name that are tried.
const MAX_ADDRESSES: usize = 4;
/// How long one address has to itself before the next one is tried beside it (RFC 8305, section 8).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// Where a fetch may go.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reach<'a> {
    /// What is globally reachable, or in these networks.
    Global(&'a [Network]),
    /// This machine, for `dev`.
    Loopback,
}

/// Connects to the first of these addresses that answers, if each of them is open.
pub(super) async fn connect(addresses: &[SocketAddr], reach: Reach<'_>) -> Result<TcpStream, FetchError> {
    if addresses.is_empty() {
        return Err(FetchError::NameNotFound);
    }
    let may_be_reached = |address: &SocketAddr| match reach {
        Reach::Global(opened) => is_open(address.ip(), opened),
        Reach::Loopback => address.ip().to_canonical().is_loopback(),
    };
    // One that is not open says enough of the name.
    if !addresses.iter().all(may_be_reached) {
        return Err(FetchError::AddressNotAllowed);
    }
    let mut next = in_turn(addresses).into_iter().take(MAX_ADDRESSES);
    // Those that are slower end with this call.
    let mut attempts = JoinSet::new();
    loop {
        let connected = match next.next() {
            Some(address) => {
                attempts.spawn(TcpStream::connect(address));
                let Ok(connected) = timeout(NEXT_ADDRESS, attempts.join_next()).await else { continue };
                connected
            }
            None => attempts.join_next().await,
        };
        match connected {
            Some(Ok(Ok(stream))) => return Ok(stream),
            Some(_) => {}
            None => return Err(FetchError::ConnectionFailed),
        }
    }
}

/// The addresses in their order, but those of the two families in turn (RFC 8305, section 4): where one of them leads
/// nowhere, the other is next.
fn in_turn(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let is_of_first = |address: &&SocketAddr| address.is_ipv6() == addresses[0].is_ipv6();
    let mut of_first = addresses.iter().filter(is_of_first);
    let mut of_other = addresses.iter().filter(|address| !is_of_first(address));
    let mut ordered = Vec::with_capacity(addresses.len());
    while ordered.len() < addresses.len() {
        ordered.extend(of_first.next());
        ordered.extend(of_other.next());
    }
    ordered
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test]
    async fn an_address_that_does_not_answer_holds_up_the_others_for_a_moment() {
        // It takes no connection any more, and says nothing: its queue is full.
        let silent = TcpSocket::new_v4().unwrap();
        silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let silent = silent.listen(0).unwrap();
        let silent_at = silent.local_addr().unwrap();
        let mut filling = Vec::new();
        while let Ok(connected) = timeout(Duration::from_millis(200), TcpStream::connect(silent_at)).await {
            filling.push(connected.unwrap());
            assert!(filling.len() < 100, "the queue is never full");
        }
        let good = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let began = Instant::now();
        let stream =
            connect(&[silent_at, silent_at, good.local_addr().unwrap()], Reach::Loopback).await.unwrap();
        assert!(began.elapsed() >= 2 * NEXT_ADDRESS);
        let (_, from) = good.accept().await.unwrap();
        assert_eq!(from, stream.local_addr().unwrap());
        // One that refuses holds up nothing.
        let refusing = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        connect(&[refusing, good.local_addr().unwrap()], Reach::Loopback).await.unwrap();
        assert_eq!(connect(&[refusing], Reach::Loopback).await.unwrap_err(), FetchError::ConnectionFailed);
    }

    #[test]
    fn the_families_of_addresses_take_turns() {
        let ordered = |texts: &[&str]| {
            let addresses: Vec<_> =
                texts.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 443)).collect();
            in_turn(&addresses).into_iter().map(|address| address.ip().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(
            ordered(&["2001:db8::1", "2001:db8::2", "2001:db8::3", "192.0.2.1", "192.0.2.2"]),
            ["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "2001:db8::3"]
        );
        assert_eq!(
            ordered(&["192.0.2.1", "192.0.2.2", "2001:db8::1"]),
            ["192.0.2.1", "2001:db8::1", "192.0.2.2"]
        );
    }

    #[tokio::test]
    async fn a_name_with_an_address_that_is_not_open_is_not_connected_to() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap();
        let at = |text: &str| SocketAddr::new(text.parse().unwrap(), here.port());
        let opened = [Network::parse("127.0.0.0/8").unwrap()];
        for (addresses, reach) in [
            (vec![here], Reach::Global(&[])),
            // Public before private: no order makes one of them good.
            (vec![at("8.8.8.8"), here], Reach::Global(&[])),
            (vec![here, at("10.0.0.1")], Reach::Global(&opened)),
            (vec![at("169.254.169.254")], Reach::Global(&opened)),
            (vec![at("::ffff:10.0.0.1")], Reach::Global(&opened)),
            (vec![at("64:ff9b::7f00:1")], Reach::Global(&[])),
            (vec![at("8.8.8.8")], Reach::Loopback),
            (vec![here, at("10.0.0.1")], Reach::Loopback),
        ] {
            let refused = connect(&addresses, reach).await.unwrap_err();
            assert_eq!(refused, FetchError::AddressNotAllowed, "{addresses:?} {reach:?}");
        }
        assert_eq!(connect(&[], Reach::Loopback).await.unwrap_err(), FetchError::NameNotFound);
        for reach in [Reach::Loopback, Reach::Global(&opened)] {
            // The first that arrives: nothing came of those that are not open.
            let stream = connect(&[here], reach).await.unwrap();
            let (_, from) = listener.accept().await.unwrap();
            assert_eq!(from, stream.local_addr().unwrap());
        }
        let more = timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(more.is_err(), "a connection to an address that is not open");
    }
}
