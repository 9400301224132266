//! Where a request comes from, for gRPC and plain HTTP alike: the only place that reads the peer of
//! a connection and the headers of proxies. What they mean is decided in
//! [`ClientAddress::of_request`].

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName};

use crate::clock::OncePer;
use crate::connections::Connection;
use crate::domain::values::client_address::{ClientAddress, ForwardedHeaders};
use crate::domain::values::networks::Network;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// How often an untrusted proxy is logged.
const WARNING_PERIOD: Duration = Duration::from_secs(60);

/// The proxies that are trusted to name the client of a request.
#[derive(Debug)]
pub struct TrustedProxies {
    networks: Vec<Network>,
    warning: OncePer,
}

impl TrustedProxies {
    pub fn new(networks: Vec<Network>) -> Self {
        Self { networks, warning: OncePer::new(WARNING_PERIOD) }
    }

    /// The address of the client of a request.
    ///
    /// Warns, once a minute, of a peer that names a client and is not trusted to: behind such a
    /// proxy all clients are one.
    pub fn client(&self, connection: &Connection, headers: &HeaderMap) -> ClientAddress {
        self.behind(connection.peer.ip(), headers)
    }

    /// Whether a trusted proxy sends the request for another client, whose certificate is not the proxy's.
    pub fn speaks_for_another(&self, connection: &Connection, headers: &HeaderMap) -> bool {
        let names_a_client = headers.contains_key(FORWARDED_FOR) || headers.contains_key(FORWARDED);
        names_a_client && self.networks.iter().any(|network| network.contains(connection.peer.ip()))
    }

    fn behind(&self, peer: IpAddr, headers: &HeaderMap) -> ClientAddress {
        let (list, elements) = (lines(headers, &FORWARDED_FOR), lines(headers, &FORWARDED));
        let headers = ForwardedHeaders {
            x_forwarded_for: list.iter().map(|line| &**line).collect(),
            forwarded: elements.iter().map(|line| &**line).collect(),
        };
        let address = ClientAddress::of_request(peer, &headers, &self.networks);
        if let Some(peer) = address.untrusted_proxy()
            && self.warning.may()
        {
            tracing::warn!(
                %peer,
                "forwarding header of an untrusted peer ignored: if it is your proxy, name it in --trusted-proxies"
            );
        }
        address
    }
}

/// The lines of a header. A hop that is no text is no address; the others of its line are.
///
/// A client may send any bytes, and a trusted proxy appends its address to the same line.
fn lines<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<Cow<'a, str>> {
    headers.get_all(name).iter().map(|line| String::from_utf8_lossy(line.as_bytes())).collect()
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use http::HeaderValue;
    use http::header::ACCEPT;

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn bytes_that_are_no_text_hide_no_hop_but_their_own() {
        let proxies = TrustedProxies::new(vec![Network::parse("10.0.0.0/8").unwrap()]);
        let rows: &[(HeaderName, &[&[u8]], &str)] = &[
            (FORWARDED_FOR, &[b"\xff, 203.0.113.9"], "203.0.113.9"),
            (FORWARDED_FOR, &[b"\xff,203.0.113.9, 10.0.0.2"], "203.0.113.9"),
            (FORWARDED_FOR, &["198.51.100.1\u{e9}, 203.0.113.9".as_bytes()], "203.0.113.9"),
            (FORWARDED_FOR, &[b"\xff", b"203.0.113.9"], "203.0.113.9"),
            (FORWARDED_FOR, &[b"\xff\", 203.0.113.9"], "203.0.113.9"),
            (FORWARDED_FOR, &[b"203.0.113.9, \xff"], ""),
            (FORWARDED_FOR, &[b"203.0.113.9\xff"], ""),
            (FORWARDED_FOR, &[b"\xff"], ""),
            (FORWARDED, &[b"\xff, for=203.0.113.9"], "203.0.113.9"),
            (FORWARDED, &[b"for=\xff, for=203.0.113.9;proto=https"], "203.0.113.9"),
            (FORWARDED, &[b"for=\"\xff, for=203.0.113.9"], "203.0.113.9"),
            (FORWARDED, &[b"\xff", b"for=203.0.113.9"], "203.0.113.9"),
            (FORWARDED, &[b"for=203.0.113.9, for=\xff"], ""),
            (FORWARDED, &[b"for=203.0.113.9\xff"], ""),
        ];
        for (name, lines, client) in rows {
            let mut headers = HeaderMap::new();
            for line in *lines {
                headers.append(name, HeaderValue::from_bytes(line).unwrap());
            }
            let address = proxies.behind([10, 0, 0, 1].into(), &headers);
            assert_eq!(address.known().map_or_else(String::new, |ip| ip.to_string()), *client, "{headers:?}");
            assert_eq!(address.known(), address.shown());
        }
    }

    #[test]
    fn an_untrusted_proxy_is_logged_once_a_minute() {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            let proxies = TrustedProxies::new(vec![Network::parse("10.0.0.0/8").unwrap()]);
            let call = |peer: &str, headers: &[(HeaderName, &str)]| {
                let headers = headers.iter().map(|(name, line)| (name.clone(), line.parse().unwrap()));
                let address = proxies.behind(peer.parse().unwrap(), &headers.collect());
                address.shown().unwrap().to_string()
            };
            // A trusted one, and clients without a proxy.
            assert_eq!(call("10.0.0.1", &[(FORWARDED_FOR, "203.0.113.9")]), "203.0.113.9");
            assert_eq!(call("10.0.0.1", &[(FORWARDED, "for=\"[2001:db8::9]:1\"")]), "2001:db8::9");
            assert_eq!(call("192.0.2.1", &[(ACCEPT, "*/*")]), "192.0.2.1");
            assert_eq!(call("127.0.0.1", &[]), "127.0.0.1");
            assert!(log.0.lock().unwrap().is_empty());
            for header in [FORWARDED, FORWARDED_FOR, FORWARDED] {
                assert_eq!(call("192.0.2.7", &[(header, "203.0.113.9")]), "192.0.2.7");
            }
        });
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert_eq!((log.matches("WARN").count(), log.matches("192.0.2.7").count()), (1, 1), "{log}");
        assert!(!log.contains("203.0.113.9"), "what it claims is not logged: {log}");
    }
}
