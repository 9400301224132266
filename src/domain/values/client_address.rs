//! The address that a request comes from, and what it may be used for.
//!
//! A connection says who is at its other end, and headers say what any client may write. This is the
//! one place that decides between them. The fields are private: what is no input of security
//! cannot be used as one by mistake.

use std::net::IpAddr;

use super::networks::Network;

/// Where a request comes from, as far as that is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientAddress {
    ip: Option<IpAddr>,
    origin: Origin,
    /// `x-forwarded-for` and `forwarded` of a trusted proxy name different clients.
    is_contradicted: bool,
}

/// What the address is the address of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Origin {
    /// Nothing that can be named.
    #[default]
    Unknown,
    /// One client, or the network in front of it.
    Client,
    /// This machine or a trusted proxy: many clients may be behind it.
    Shared,
    /// A peer that names a client, and is not trusted to do so.
    UntrustedProxy,
}

/// The headers in which proxies name the client, line by line, in their order.
///
/// Bytes that are no text are given as U+FFFD: their hop names no address, but counts as one.
#[derive(Clone, Debug, Default)]
pub struct ForwardedHeaders<'a> {
    /// The lines of `x-forwarded-for`.
    pub x_forwarded_for: Vec<&'a str>,
    /// The lines of `forwarded` (RFC 7239).
    pub forwarded: Vec<&'a str>,
}

impl ClientAddress {
    /// No address: where a credential is not presented by its holder, or there is no connection.
    pub const UNKNOWN: Self = Self { ip: None, origin: Origin::Unknown, is_contradicted: false };

    /// The address of the client of a connection from `peer` with these headers.
    ///
    /// An untrusted peer is the client, whatever it writes. A trusted one names the client: it is
    /// the rightmost hop that is not one of our own proxies. Each of those appends the address that
    /// connected to it, and what is left of that may be forged by any client. All lines of a header
    /// count as one list.
    ///
    /// `x-forwarded-for` counts where both headers are there, since most proxies write it, and pass
    /// on a `forwarded` of the client. The two must then agree before anything is compared with
    /// the address ([`compared`](Self::compared)).
    pub fn of_request(peer: IpAddr, headers: &ForwardedHeaders<'_>, trusted: &[Network]) -> Self {
        let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
        let peer = peer.to_canonical();
        let (for_hops, forwarded_hops) = (!headers.x_forwarded_for.is_empty(), !headers.forwarded.is_empty());
        if !is_trusted(peer) {
            let origin = match for_hops || forwarded_hops {
                true => Origin::UntrustedProxy,
                false if is_shared(peer) => Origin::Shared,
                false => Origin::Client,
            };
            return Self { ip: Some(peer), origin, is_contradicted: false };
        }
        let by_list = || {
            let hops = headers.x_forwarded_for.iter().rev().flat_map(|line| line.rsplit(','));
            client(hops.map(node), is_trusted)
        };
        let by_elements = || {
            let hops = headers.forwarded.iter().rev().flat_map(|line| Elements(Some(*line)));
            client(hops.map(forwarded_for), is_trusted)
        };
        let (ip, is_contradicted) = match (for_hops, forwarded_hops) {
            (false, false) => (Some(peer), false),
            (true, false) => (by_list(), false),
            (false, true) => (by_elements(), false),
            (true, true) => {
                let ip = by_list();
                (ip, ip != by_elements())
            }
        };
        let origin = match ip {
            None => Origin::Unknown,
            Some(ip) if is_shared(ip) || is_trusted(ip) => Origin::Shared,
            Some(_) => Origin::Client,
        };
        Self { ip, origin, is_contradicted }
    }

    /// The address for events, log lines and what limits no client: what can be told apart.
    pub fn shown(self) -> Option<IpAddr> {
        self.ip
    }

    /// The address of one client, for counts that refuse what comes from it.
    ///
    /// None where other clients may have it, too: they would be refused for its failures.
    pub fn known(self) -> Option<IpAddr> {
        self.ip.filter(|_| self.origin == Origin::Client)
    }

    /// The address that a token's `allowed_cidrs` are compared with: never one that an untrusted
    /// peer names, and none where the headers of a trusted proxy contradict each other.
    pub fn compared(self) -> Option<IpAddr> {
        self.ip.filter(|_| !self.is_contradicted)
    }

    /// The peer, where it names a client and is not trusted to.
    pub fn untrusted_proxy(self) -> Option<IpAddr> {
        self.ip.filter(|_| self.origin == Origin::UntrustedProxy)
    }
}

/// Whether an address is this machine's: of a proxy on it, or of any process.
fn is_shared(address: IpAddr) -> bool {
    address.is_loopback() || address.is_unspecified()
}

/// The first hop, from the right, that is not one of our own proxies, or the leftmost; none if a
/// hop before it is no address.
///
/// An empty hop is none, either: a proxy that knew no client wrote it, and what is left of it is
/// the word of that client.
fn client(hops: impl Iterator<Item = Option<IpAddr>>, is_trusted: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let mut last = None;
    for hop in hops {
        last = Some(hop?);
        if !last.is_some_and(&is_trusted) {
            break;
        }
    }
    last
}

/// The elements of a line of `forwarded`, from the right.
///
/// From the right, since that is where our own proxies write: a quote that a client left open
/// further left swallows nothing.
struct Elements<'a>(Option<&'a str>);

impl<'a> Iterator for Elements<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let line = self.0?;
        let (rest, element) = rsplit_outside_quotes(line, b',').map_or((None, line), |(r, e)| (Some(r), e));
        self.0 = rest;
        Some(element)
    }
}

/// Splits at the last separator that is not within quotes, read from the right.
fn rsplit_outside_quotes(text: &str, separator: u8) -> Option<(&str, &str)> {
    let bytes = text.as_bytes();
    let mut quoted = false;
    for (at, byte) in bytes.iter().enumerate().rev() {
        if *byte == b'"' {
            let escapes = bytes[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
            quoted ^= escapes % 2 == 0;
        } else if *byte == separator && !quoted {
            return Some((&text[..at], &text[at + 1..]));
        }
    }
    None
}

/// The address that an element of `forwarded` names: that of its only parameter `for`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let (mut rest, mut found) = (Some(element), None);
    while let Some(pairs) = rest {
        let (left, pair) = rsplit_outside_quotes(pairs, b';').map_or((None, pairs), |(l, p)| (Some(l), p));
        rest = left;
        let Some((name, value)) = pair.split_once('=') else { continue };
        if name.trim().eq_ignore_ascii_case("for") && found.replace(node(value)).is_some() {
            return None;
        }
    }
    found?
}

/// The address of a node: an IPv4 or IPv6 address, in quotes or not, with or without brackets,
/// port and zone. None for `unknown` and for a hidden name (`_proxy`).
fn node(text: &str) -> Option<IpAddr> {
    let text = trim(text);
    let text = match text.strip_prefix('"') {
        Some(quoted) => trim(quoted.strip_suffix('"')?),
        None => text,
    };
    let address = if let Some(bracketed) = text.strip_prefix('[') {
        let (inside, port) = bracketed.split_once(']')?;
        if !port.is_empty() && !port.strip_prefix(':').is_some_and(is_port) {
            return None;
        }
        without_zone(inside).parse().ok()?
    } else if let Ok(address) = without_zone(text).parse() {
        address
    } else {
        let (host, port) = text.rsplit_once(':')?;
        if !is_port(port) {
            return None;
        }
        IpAddr::V4(trim(host).parse().ok()?)
    };
    Some(address.to_canonical())
}

/// Without the spaces and tabs that may surround what is in a list.
fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// A port, or a hidden one (RFC 7239, section 6.3).
fn is_port(text: &str) -> bool {
    let hidden = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    match text.strip_prefix('_') {
        Some(name) => !name.is_empty() && name.bytes().all(hidden),
        None => (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

/// Without the zone of an IPv6 address (RFC 4007), which means something on the proxy's machine only.
fn without_zone(text: &str) -> &str {
    text.split_once('%')
        .filter(|(address, zone)| address.contains(':') && !zone.is_empty())
        .map_or(text, |(a, _)| a)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "x-forwarded-for";
    const ELEMENTS: &str = "forwarded";

    fn ours() -> Vec<Network> {
        ["10.0.0.0/8", "2001:db8::/32"].map(|text| Network::parse(text).unwrap()).to_vec()
    }

    fn of<'a>(peer: &str, lines: &[(&str, &'a str)]) -> ClientAddress {
        let named = |name: &str| -> Vec<&'a str> {
            lines.iter().filter(|(header, _)| *header == name).map(|(_, line)| *line).collect()
        };
        let headers = ForwardedHeaders { x_forwarded_for: named(LIST), forwarded: named(ELEMENTS) };
        ClientAddress::of_request(peer.parse().unwrap(), &headers, &ours())
    }

    fn text(ip: Option<IpAddr>) -> String {
        ip.map_or_else(String::new, |ip| ip.to_string())
    }

    /// What trusted proxies write, and which client it names; an empty one is not known.
    #[test]
    fn the_forms_of_both_headers() {
        let (v4, v6) = ("203.0.113.9", "2001:db9::9");
        for (lines, client) in [
            // x-forwarded-for, as proxies write it.
            (&[(LIST, "203.0.113.9")][..], v4),
            (&[(LIST, " 203.0.113.9\t")], v4),
            (&[(LIST, "203.0.113.9:4711")], v4),
            (&[(LIST, "203.0.113.9:0")], v4),
            (&[(LIST, "\"203.0.113.9\"")], v4),
            (&[(LIST, "\"203.0.113.9:4711\"")], v4),
            (&[(LIST, "::ffff:203.0.113.9")], v4),
            (&[(LIST, "::FFFF:203.0.113.9")], v4),
            (&[(LIST, "::ffff:cb00:7109")], v4),
            (&[(LIST, "[::ffff:203.0.113.9]:4711")], v4),
            (&[(LIST, "2001:db9::9")], v6),
            (&[(LIST, "2001:DB9::9")], v6),
            (&[(LIST, "2001:0db9:0000:0000:0000:0000:0000:0009")], v6),
            (&[(LIST, "[2001:db9::9]")], v6),
            (&[(LIST, "[2001:db9::9]:4711")], v6),
            (&[(LIST, "[2001:DB9::9]:4711")], v6),
            (&[(LIST, "\"[2001:db9::9]:4711\"")], v6),
            (&[(LIST, "fe80::9%eth0")], "fe80::9"),
            (&[(LIST, "[fe80::9%25eth0]:4711")], "fe80::9"),
            // Lists, of which the left is forged.
            (&[(LIST, "198.51.100.1, 203.0.113.9")], v4),
            (&[(LIST, "198.51.100.1,203.0.113.9")], v4),
            (&[(LIST, "unknown, 203.0.113.9")], v4),
            (&[(LIST, ",, ,203.0.113.9")], v4),
            (&[(LIST, "203.0.113.9, 10.0.0.2,10.0.0.3")], v4),
            (&[(LIST, "203.0.113.9, 10.0.0.2:80 , [2001:db8::2]:443")], v4),
            (&[(LIST, "203.0.113.9"), (LIST, "10.0.0.2")], v4),
            (&[(LIST, "198.51.100.1"), (LIST, "203.0.113.9")], v4),
            (&[(LIST, "\u{fffd}"), (LIST, "203.0.113.9")], v4),
            (&[(LIST, "\u{fffd}, 203.0.113.9")], v4),
            // What names no address, or comes from a proxy that knew none.
            (&[(LIST, "unknown")], ""),
            (&[(LIST, "_hidden")], ""),
            (&[(LIST, "")], ""),
            (&[(LIST, "203.0.113.9,")], ""),
            (&[(LIST, "203.0.113.9, , 10.0.0.2")], ""),
            (&[(LIST, "203.0.113.9, unix:")], ""),
            (&[(LIST, "203.0.113.9"), (LIST, "\u{fffd}")], ""),
            (&[(LIST, "203.0.113.9, \u{fffd}")], ""),
            (&[(LIST, "203.0.113.9:port")], ""),
            (&[(LIST, "203.0.113.9:123456")], ""),
            (&[(LIST, "203.0.113.09")], ""),
            (&[(LIST, "203.0.113.9/32")], ""),
            (&[(LIST, "\"203.0.113.9")], ""),
            (&[(LIST, "[2001:db9::9")], ""),
            (&[(LIST, "[2001:db9::9]4711")], ""),
            (&[(LIST, "for=203.0.113.9")], ""),
            // forwarded, as RFC 7239 has it.
            (&[(ELEMENTS, "for=203.0.113.9")], v4),
            (&[(ELEMENTS, "For=203.0.113.9")], v4),
            (&[(ELEMENTS, "FOR=\"203.0.113.9\"")], v4),
            (&[(ELEMENTS, "for=\"203.0.113.9:4711\"")], v4),
            (&[(ELEMENTS, "for=203.0.113.9:4711")], v4),
            (&[(ELEMENTS, "for=\"203.0.113.9:_port\"")], v4),
            (&[(ELEMENTS, "for=\"[2001:db9::9]\"")], v6),
            (&[(ELEMENTS, "for=\"[2001:DB9::9]:4711\"")], v6),
            (&[(ELEMENTS, "for=\"[2001:db9::9]:_gazonk\"")], v6),
            (&[(ELEMENTS, "for=[2001:db9::9]")], v6),
            (&[(ELEMENTS, "for=\"[::ffff:203.0.113.9]\"")], v4),
            (&[(ELEMENTS, "for=203.0.113.9;proto=https;by=10.0.0.1")], v4),
            (&[(ELEMENTS, "by=10.0.0.1; for = 203.0.113.9 ;host=\"a;for=1.1.1.1\"")], v4),
            (&[(ELEMENTS, "for=198.51.100.1, for=203.0.113.9")], v4),
            (&[(ELEMENTS, "for=203.0.113.9;host=\"a,b\", for=10.0.0.2")], v4),
            (&[(ELEMENTS, "for=203.0.113.9;host=\"a\\\",b\\\\\"")], v4),
            (&[(ELEMENTS, "for=\"198.51.100.1, for=203.0.113.9")], v4),
            (&[(ELEMENTS, "for=203.0.113.9"), (ELEMENTS, "for=10.0.0.2;by=_edge")], v4),
            (&[(ELEMENTS, "\u{fffd}, for=203.0.113.9")], v4),
            (&[(ELEMENTS, "for=\"\u{fffd}, for=203.0.113.9")], v4),
            (&[(ELEMENTS, "for=203.0.113.9, for=\u{fffd}")], ""),
            (&[(ELEMENTS, "for=unknown")], ""),
            (&[(ELEMENTS, "for=_SEVKISEK")], ""),
            (&[(ELEMENTS, "for=\"_gazonk\"")], ""),
            (&[(ELEMENTS, "proto=https;by=203.0.113.43")], ""),
            (&[(ELEMENTS, "for=203.0.113.9;for=198.51.100.1")], ""),
            (&[(ELEMENTS, "for=203.0.113.9, proto=https")], ""),
            (&[(ELEMENTS, "203.0.113.9")], ""),
            (&[(ELEMENTS, "")], ""),
        ] {
            for peer in ["10.0.0.1", "::ffff:10.0.0.1", "2001:db8::1"] {
                let address = of(peer, lines);
                assert_eq!(text(address.shown()), client, "{lines:?} of {peer}");
                assert_eq!((address.known(), address.compared()), (address.shown(), address.shown()));
                assert_eq!(address.untrusted_proxy(), None);
            }
            // Of a peer that is not trusted, nothing is believed.
            let address = of("192.0.2.1", lines);
            assert_eq!(text(address.shown()), "192.0.2.1", "{lines:?}");
            assert_eq!((text(address.compared()), address.known()), ("192.0.2.1".into(), None), "{lines:?}");
            assert_eq!(text(address.untrusted_proxy()), "192.0.2.1", "{lines:?}");
        }
    }

    #[test]
    fn an_address_of_many_clients_is_not_known() {
        for (peer, lines, shown, known) in [
            ("192.0.2.1", &[][..], "192.0.2.1", true),
            ("2001:db9::1", &[], "2001:db9::1", true),
            ("127.0.0.1", &[], "127.0.0.1", false),
            ("127.9.9.9", &[], "127.9.9.9", false),
            ("::1", &[], "::1", false),
            ("::ffff:127.0.0.1", &[], "127.0.0.1", false),
            ("127.0.0.1", &[(LIST, "203.0.113.9")], "127.0.0.1", false),
            // A proxy that names no client, or one of our proxies, or its own machine.
            ("10.0.0.1", &[], "10.0.0.1", false),
            ("10.0.0.1", &[(LIST, "10.0.0.3, 10.0.0.2")], "10.0.0.3", false),
            ("10.0.0.1", &[(LIST, "127.0.0.1")], "127.0.0.1", false),
            ("10.0.0.1", &[(ELEMENTS, "for=\"[::1]\"")], "::1", false),
            ("10.0.0.1", &[(LIST, "203.0.113.9")], "203.0.113.9", true),
        ] {
            let address = of(peer, lines);
            assert_eq!(
                (text(address.shown()).as_str(), address.known().is_some()),
                (shown, known),
                "{lines:?}"
            );
            assert_eq!(address.compared(), address.shown(), "{peer} {lines:?}");
        }
        let none = ClientAddress::UNKNOWN;
        assert_eq!((none.shown(), none.known(), none.compared()), (None, None, None));
        assert_eq!(none, ClientAddress::default());
    }

    #[test]
    fn where_both_headers_are_there_they_must_agree() {
        for (list, elements, shown, compared) in [
            ("203.0.113.9", "for=203.0.113.9", "203.0.113.9", "203.0.113.9"),
            ("198.51.100.1, 203.0.113.9", "for=203.0.113.9;proto=https", "203.0.113.9", "203.0.113.9"),
            ("203.0.113.9, 10.0.0.2", "for=203.0.113.9", "203.0.113.9", "203.0.113.9"),
            // A client that sends the header that the proxy does not write allows itself nothing,
            // and hides from no count.
            ("203.0.113.9", "for=198.51.100.1", "203.0.113.9", ""),
            ("203.0.113.9", "for=unknown", "203.0.113.9", ""),
            ("203.0.113.9", "", "203.0.113.9", ""),
            ("unknown", "for=203.0.113.9", "", ""),
        ] {
            let address = of("10.0.0.1", &[(LIST, list), (ELEMENTS, elements)]);
            assert_eq!((text(address.shown()), text(address.compared())), (shown.into(), compared.into()));
            assert_eq!(text(address.known()), shown, "{list:?} {elements:?}");
        }
    }
}
