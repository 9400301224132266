//! Which addresses keys may be fetched from: globally reachable unicast, in each form that an address has.
//!
//! A tenant names the host, so that the server must not be made to ask for what only it can reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::domain::values::networks::Network;

/// Networks of IPv4 that are not globally reachable, or no unicast (IANA's registry of special-purpose addresses),
/// as their first address and the length of their prefix.
const CLOSED_V4: [([u8; 4], u32); 16] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 31, 196, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
];

/// Networks within `2000::/3` that are not globally reachable, in the same way. Outside of that nothing is, but
/// for the prefix of NAT64.
const CLOSED_V6: [(u128, u32); 4] = [
    // Assignments of the IETF: Teredo, benchmarks, ORCHID and others. Teredo is checked before.
    (0x2001 << 112, 23),
    (0x2001_0db8 << 96, 32),
    (0x2620_004f_8000 << 80, 48),
    (0x3fff << 112, 20),
];

const NAT64: u128 = 0x0064_ff9b << 96;
const TEREDO: u128 = 0x2001 << 112;
const SIX_TO_FOUR: u128 = 0x2002 << 112;

/// Whether keys may be fetched from this address: each form of it is globally reachable unicast, or in one of
/// these networks, which an operator has opened.
pub fn is_open(address: IpAddr, opened: &[Network]) -> bool {
    let is_opened = |address: IpAddr| opened.iter().any(|network| network.contains(address));
    match address.to_canonical() {
        IpAddr::V4(v4) => is_global_v4(v4) || is_opened(v4.into()),
        IpAddr::V6(v6) => {
            let embedded = embedded(v6);
            // A prefix of a translator says nothing about where a packet arrives: what it embeds does.
            let reaches = if embedded.translates { true } else { is_global_v6(v6) || is_opened(v6.into()) };
            let inner = |v4: &Ipv4Addr| is_global_v4(*v4) || is_opened((*v4).into());
            reaches && embedded.addresses.iter().flatten().all(inner)
        }
    }
}

/// The IPv4 addresses within one of IPv6.
#[derive(Default)]
struct Embedded {
    /// Whether packets go to what is embedded, and not to the address itself.
    translates: bool,
    addresses: [Option<Ipv4Addr>; 2],
}

fn embedded(address: Ipv6Addr) -> Embedded {
    let bits = address.to_bits();
    let v4 = |bits: u128| Some(Ipv4Addr::from_bits(bits as u32));
    let is_in = |first: u128, length: u32| bits >> (128 - length) == first >> (128 - length);
    if is_in(NAT64, 96) {
        Embedded { translates: true, addresses: [v4(bits), None] }
    } else if is_in(SIX_TO_FOUR, 16) {
        Embedded { translates: true, addresses: [v4(bits >> 80), isatap(bits)] }
    } else if is_in(TEREDO, 32) {
        // Its server, and its client, which is written inverted (RFC 4380, section 4).
        Embedded { translates: true, addresses: [v4(bits >> 64), v4(!bits)] }
    } else {
        Embedded { translates: false, addresses: [isatap(bits), None] }
    }
}

/// The address in an interface identifier of ISATAP (RFC 5214, section 6.1).
fn isatap(bits: u128) -> Option<Ipv4Addr> {
    let marker = (bits >> 32) as u32 & !0x0200_0000;
    (marker == 0x0000_5efe).then(|| Ipv4Addr::from_bits(bits as u32))
}

fn is_global_v4(address: Ipv4Addr) -> bool {
    let bits = address.to_bits();
    let is_in = |(first, length): &([u8; 4], u32)| {
        bits >> (32 - length) == u32::from_be_bytes(*first) >> (32 - length)
    };
    !CLOSED_V4.iter().any(is_in)
}

fn is_global_v6(address: Ipv6Addr) -> bool {
    let bits = address.to_bits();
    let is_in = |(first, length): &(u128, u32)| bits >> (128 - length) == first >> (128 - length);
    bits >> 125 == 1 && !CLOSED_V6.iter().any(is_in)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(address: &str, opened: &[&str]) -> bool {
        let opened: Vec<Network> = opened.iter().map(|text| Network::parse(text).unwrap()).collect();
        is_open(address.parse().unwrap(), &opened)
    }

    #[test]
    fn only_what_is_globally_reachable_is_open() {
        for good in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "2606:4700:4700::1111",
            "2a00:1450:4001:80b::200e",
            "64:ff9b::8.8.8.8",
            "2002:0808:0808::1",
            "2001:4860:4860::8888",
            // Teredo: the server 8.8.8.8, and the client 1.1.1.1.
            "2001:0:808:808::fefe:fefe",
        ] {
            assert!(open(good, &[]), "{good}");
        }
        for bad in [
            "0.0.0.0",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::8.8.8.8",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:0:8.8.8.8",
            "64:ff9b::10.0.0.1",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::8.8.8.8",
            "100::1",
            "2001:db8::1",
            "2001:2::1",
            "2001:10::1",
            "2001:20::1",
            "2002:0a00:0001::1",
            "2002:a9fe:a9fe::1",
            "2001:0:a00:1::fefe:fefe",
            "2001:0:808:808::f5ff:fffe",
            "3fff::1",
            "2606:4700::5efe:10.0.0.1",
            "2606:4700::200:5efe:10.0.0.1",
            "5f00::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "4000::1",
        ] {
            assert!(!open(bad, &[]), "{bad}");
        }
    }

    #[test]
    fn an_operator_opens_networks_in_every_form() {
        let ten = &["10.0.0.0/8"];
        for good in ["10.0.0.1", "::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "2002:0a00:0001::1", "8.8.8.8"] {
            assert!(open(good, ten), "{good}");
        }
        for bad in ["127.0.0.1", "192.168.0.1", "::1", "fd00::1", "64:ff9b::192.168.0.1"] {
            assert!(!open(bad, ten), "{bad}");
        }
        assert!(open("fd00::1", &["fd00::/8"]) && open("::1", &["::1"]) && !open("::1", &["127.0.0.0/8"]));
        // An open network outside does not open what is within.
        assert!(!open("2002:a00:1::1", &["2002::/16"]));
    }
}
