//! Networks in CIDR notation (RFC 4632, RFC 4291), from which a credential works.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use super::names::Invalid;

/// A network, or one address: IPv4 or IPv6. An IPv4-mapped IPv6 network is stored as IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network(IpNet);

impl Network {
    /// Parses `address/length`, or an address without a length, which is a network of one.
    ///
    /// # Errors
    /// The sentence that follows the field's name. Bits after the prefix must be zero: `10.0.0.1/8`
    /// is more likely an error than intended.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        const WRONG: Invalid = Invalid("must be an address or network such as 192.0.2.7 or 2001:db8::/32");
        // The standard library rejects `010`, which some parsers read as 8.
        let (address, length) = text.split_once('/').map_or((text, None), |(a, n)| (a, Some(n)));
        let address: IpAddr = address.parse().map_err(|_| WRONG)?;
        let net = match length {
            None => IpNet::from(address),
            Some(length) if length.bytes().all(|b| b.is_ascii_digit()) => {
                IpNet::new(address, length.parse().map_err(|_| WRONG)?).map_err(|_| WRONG)?
            }
            Some(_) => return Err(WRONG),
        };
        let net = canonical(net);
        if net != net.trunc() {
            return Err(Invalid("must have no bits set behind its prefix length"));
        }
        Ok(Self(net))
    }

    /// Whether the address is in the network.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }

    /// Whether the whole other network is in this one.
    pub fn covers(&self, other: &Network) -> bool {
        self.0.contains(&other.0)
    }
}

/// A network in which failures of its clients are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Neighbourhood {
    /// Its first address.
    pub first: IpAddr,
    pub reach: Reach,
}

/// How far a neighbourhood reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reach {
    /// What one host is likely to have: an IPv4 address, or a /64 of IPv6.
    Host,
    /// A /56 of IPv6, which a household is given.
    Home,
    /// A /48 of IPv6, which a company is given, or a customer of a tunnel broker.
    Site,
}

impl Reach {
    /// How many times as much as a host a network of this size may have of what is counted.
    pub const fn hosts(self) -> u32 {
        match self {
            Self::Host => 1,
            Self::Home => 4,
            Self::Site => Self::MOST_HOSTS,
        }
    }

    /// That of the widest.
    pub const MOST_HOSTS: u32 = 20;
}

impl Neighbourhood {
    /// That of one host, which has the address.
    pub fn of_host(address: IpAddr) -> Self {
        Self::around(address.to_canonical(), Reach::Host)
    }

    /// The widest around an address.
    pub fn widest(address: IpAddr) -> Self {
        let host = Self::of_host(address);
        host.and_wider().last().unwrap_or(host)
    }

    /// All of this one: it, and those around it, the narrowest first.
    pub fn and_wider(self) -> impl Iterator<Item = Self> {
        let wider = match self.first {
            IpAddr::V6(_) => &[Reach::Home, Reach::Site][..],
            IpAddr::V4(_) => &[],
        };
        [self].into_iter().chain(wider.iter().map(move |reach| Self::around(self.first, *reach)))
    }

    fn around(address: IpAddr, reach: Reach) -> Self {
        let rest = match reach {
            Reach::Host => 64,
            Reach::Home => 72,
            Reach::Site => 80,
        };
        let first = match address {
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> rest << rest).into(),
            v4 @ IpAddr::V4(_) => v4,
        };
        Self { first, reach }
    }
}

/// The networks in which failures of an address are counted, the narrowest first.
///
/// Who has a network of IPv6 can use each host network in it, and so has as many counts as it holds.
pub fn neighbourhoods(address: IpAddr) -> Vec<Neighbourhood> {
    Neighbourhood::of_host(address).and_wider().collect()
}

impl fmt::Display for Neighbourhood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reach {
            Reach::Host => write!(f, "{}", self.first),
            Reach::Home => write!(f, "{}/56", self.first),
            Reach::Site => write!(f, "{}/48", self.first),
        }
    }
}

/// Converts an IPv4-mapped network: `::ffff:192.0.2.0/120` is `192.0.2.0/24`.
///
/// A prefix shorter than 96 holds more than IPv4 and stays as it is: no canonical address is in it
/// as IPv6.
fn canonical(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    let mapped = v6.addr().to_ipv4_mapped().filter(|_| v6.prefix_len() >= 96);
    let v4 = mapped.and_then(|address| IpNet::new(address.into(), v6.prefix_len() - 96).ok());
    v4.unwrap_or(net)
}

impl From<IpNet> for Network {
    fn from(net: IpNet) -> Self {
        Self(canonical(net).trunc())
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn network(text: &str) -> Network {
        Network::parse(text).unwrap()
    }

    #[test]
    fn parsing() {
        for (text, canonical_text) in [
            ("192.0.2.7", "192.0.2.7/32"),
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:DB8::/32", "2001:db8::/32"),
            ("::1", "::1/128"),
            ("::/0", "::/0"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ] {
            assert_eq!(network(text).to_string(), canonical_text);
        }
        for bad in [
            "",
            "*",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0/8",
            "010.0.0.0/8",
            "10.0.0.0/08 ",
            "10.0.0.0/",
            "2001:db8::1/32",
            "2001:db8::/129",
            "fe80::1%eth0",
            "localhost",
            "10.0.0.0-10.0.0.9",
            "::ffff:192.0.2.7/120",
        ] {
            assert!(Network::parse(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn membership() {
        let in_net = |net: &str, address: &str| network(net).contains(address.parse().unwrap());
        assert!(in_net("192.0.2.0/24", "192.0.2.255") && !in_net("192.0.2.0/24", "192.0.3.0"));
        assert!(in_net("192.0.2.0/24", "::ffff:192.0.2.9"), "a mapped address is the IPv4 one");
        assert!(in_net("::ffff:192.0.2.0/120", "192.0.2.9"), "a mapped network too");
        assert!(!in_net("::/0", "192.0.2.9"), "all of IPv6 is not IPv4");
        assert!(in_net("2001:db8::/32", "2001:db8:1::2") && !in_net("2001:db8::/32", "2001:db9::"));
        assert!(network("10.0.0.0/8").covers(&network("10.1.0.0/16")));
        assert!(!network("10.1.0.0/16").covers(&network("10.0.0.0/8")));
        assert!(!network("::/0").covers(&network("10.0.0.0/8")));
    }

    #[test]
    fn where_failures_are_counted() {
        for (address, networks) in [
            ("192.0.2.7", &["192.0.2.7"][..]),
            ("::ffff:192.0.2.7", &["192.0.2.7"]),
            ("2001:db8:a:bcde:1:2:3:4", &["2001:db8:a:bcde::", "2001:db8:a:bc00::/56", "2001:db8:a::/48"]),
            ("2001:db8:a:bcdf::", &["2001:db8:a:bcdf::", "2001:db8:a:bc00::/56", "2001:db8:a::/48"]),
            ("2001:db8:a:ffff::1", &["2001:db8:a:ffff::", "2001:db8:a:ff00::/56", "2001:db8:a::/48"]),
            ("2001:db8:b::1", &["2001:db8:b::", "2001:db8:b::/56", "2001:db8:b::/48"]),
            ("::1", &["::", "::/56", "::/48"]),
        ] {
            let found: Vec<_> =
                neighbourhoods(address.parse().unwrap()).iter().map(Neighbourhood::to_string).collect();
            assert_eq!(found, networks, "{address}");
        }
    }

    proptest! {
        #[test]
        fn parsing_round_trips(text in "[0-9a-f:./]{0,48}") {
            if let Ok(network) = Network::parse(&text) {
                prop_assert_eq!(Network::parse(&network.to_string()), Ok(network));
            }
        }
    }
}
