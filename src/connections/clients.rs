//! How much each client has of what all of them share: told apart by their networks, or by their orgs.

use std::net::IpAddr;

use foldhash::HashMap;

use crate::domain::values::ids::OrgId;
use crate::domain::values::networks::{Neighbourhood, Reach};

/// Who has a part of what is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Client {
    /// What one host is likely to have: an IPv4 address, or a /64 of IPv6.
    Host(Neighbourhood),
    /// An org, for the callers of which it counts.
    Org(OrgId),
    /// Its address is not known.
    Unknown,
}

impl From<IpAddr> for Client {
    fn from(address: IpAddr) -> Self {
        Self::Host(Neighbourhood::of_host(address))
    }
}

impl From<Option<IpAddr>> for Client {
    fn from(address: Option<IpAddr>) -> Self {
        address.map_or(Self::Unknown, Self::from)
    }
}

impl Client {
    /// The networks around it, which count as well: a /48 of IPv6 holds 65 536 hosts.
    fn networks(self) -> impl Iterator<Item = Neighbourhood> {
        let host = match self {
            Self::Host(host) => Some(host),
            Self::Org(_) | Self::Unknown => None,
        };
        host.into_iter().flat_map(|host| host.and_wider().skip(1))
    }
}

/// What a client has, where it is counted: a number, or several. The default is nothing.
pub trait Part: Copy + Default {
    fn is_nothing(&self) -> bool;
}

impl Part for usize {
    fn is_nothing(&self) -> bool {
        *self == 0
    }
}

/// What all clients have, and the networks around them.
#[derive(Debug)]
pub struct Clients<T> {
    clients: HashMap<Client, T>,
    /// None for those of IPv4, which have no network around them.
    networks: HashMap<Neighbourhood, T>,
}

impl<T> Default for Clients<T> {
    fn default() -> Self {
        Self { clients: HashMap::default(), networks: HashMap::default() }
    }
}

impl<T: Part> Clients<T> {
    /// Changes what a client has, and each network around it.
    pub fn count(&mut self, client: Client, change: impl Fn(&mut T)) {
        let part = self.clients.entry(client).or_default();
        change(part);
        if part.is_nothing() {
            self.clients.remove(&client);
        }
        for network in client.networks() {
            let part = self.networks.entry(network).or_default();
            change(part);
            if part.is_nothing() {
                self.networks.remove(&network);
            }
        }
    }

    /// What a client has itself.
    pub fn of(&self, client: Client) -> T {
        self.clients.get(&client).copied().unwrap_or_default()
    }

    /// What the widest network around a client has, or the client where there is none.
    pub fn of_widest(&self, client: Client) -> T {
        let widest = client.networks().last();
        widest.map_or_else(|| self.of(client), |widest| self.of_network(widest))
    }

    fn of_network(&self, network: Neighbourhood) -> T {
        self.networks.get(&network).copied().unwrap_or_default()
    }

    /// How much a client has, compared with others: of it and the networks around it the one that has most for its
    /// size, in twentieths of what a host has; then what it has itself.
    pub fn weight(&self, client: Client, measure: impl Fn(&T) -> usize) -> (usize, usize) {
        let scale = |reach: Reach| (Reach::MOST_HOSTS / reach.hosts()) as usize;
        let own = measure(&self.of(client));
        let around = client.networks();
        let around =
            around.map(|network| measure(&self.of_network(network)).saturating_mul(scale(network.reach)));
        let most = around.fold(own.saturating_mul(scale(Reach::Host)), usize::max);
        (most, own)
    }

    /// Whether a client has at least so much of it, or a network around it that much for its size.
    pub fn has(&self, client: Client, most: usize, measure: impl Fn(&T) -> usize) -> bool {
        self.weight(client, measure).0 >= most.saturating_mul(Reach::MOST_HOSTS as usize)
    }

    /// All that have any of it.
    pub fn all(&self) -> impl Iterator<Item = (Client, &T)> {
        self.clients.iter().map(|(client, part)| (*client, part))
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty() && self.networks.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(text: &str) -> Client {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn a_network_counts_as_its_hosts_do() {
        let mut clients = Clients::<usize>::default();
        let all: Vec<Client> = (0..64_u32).map(|nth| client(&format!("2001:db8:0:{nth:x}::1"))).collect();
        for one in &all {
            clients.count(*one, |held| *held += 1);
        }
        clients.count(client("192.0.2.1"), |held| *held += 2);
        clients.count(client("::ffff:192.0.2.1"), |held| *held += 1);
        let weight = |clients: &Clients<usize>, of: &str| clients.weight(client(of), |held| *held);
        // Each of the 64 has one. Their /56 has 64, a quarter of which weighs as much as a host with 16.
        assert_eq!(weight(&clients, "2001:db8:0:1::2"), (16 * 20, 1));
        assert_eq!(weight(&clients, "2001:db8:0:ff::"), (16 * 20, 0), "one that has nothing is in their /56");
        assert_eq!(weight(&clients, "2001:db8:0:100::"), (64, 0), "one in their /48");
        assert_eq!(weight(&clients, "2001:db8:1::"), (0, 0));
        assert_eq!(weight(&clients, "192.0.2.1"), (60, 3));
        assert!(clients.has(all[0], 16, |held| *held) && !clients.has(all[0], 17, |held| *held));
        assert!(clients.has(client("192.0.2.1"), 3, |held| *held));
        assert_eq!((clients.of(all[0]), clients.of_widest(all[0])), (1, 64));
        assert_eq!(clients.of_widest(client("192.0.2.1")), 3);
        clients.count(client("192.0.2.1"), |held| *held = 0);
        for one in all {
            clients.count(one, |held| *held -= 1);
        }
        assert!(clients.is_empty());
    }

    #[test]
    fn an_org_and_what_is_not_known_have_no_network() {
        let mut clients = Clients::<usize>::default();
        let orgs = [1, 2].map(|id| Client::Org(OrgId::from_u128(id)));
        clients.count(orgs[0], |held| *held += 2);
        clients.count(Client::from(None), |held| *held += 1);
        let weights = [orgs[0], orgs[1], Client::Unknown].map(|of| clients.weight(of, |held| *held));
        assert_eq!(weights, [(40, 2), (0, 0), (20, 1)]);
        assert_eq!(clients.all().count(), 2);
    }
}
