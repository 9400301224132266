//! Counts the responses that each client has not read yet: they take memory until it reads them.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::connections::{Client, Clients};

/// The responses that were not read yet, by client.
pub(in crate::grpc) struct UnreadResponses {
    most: usize,
    clients: Mutex<Clients<usize>>,
}

impl UnreadResponses {
    /// At most so many for each client, and for each network around it what its size allows.
    pub(in crate::grpc) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, clients: Mutex::default() })
    }

    /// Whether a client must read before it may ask for more.
    pub(in crate::grpc) fn too_many(&self, address: Option<IpAddr>) -> bool {
        self.clients().has(address.into(), self.most, |unread| *unread)
    }

    /// Counts a response of this client until it is dropped: the transport drops it when the client
    /// has read it, or its connection has ended.
    pub(in crate::grpc) fn count(self: &Arc<Self>, address: Option<IpAddr>) -> Unread {
        self.count_in(&mut self.clients(), address.into())
    }

    /// The same; none if the client must read first: then its response has no body.
    pub(in crate::grpc) fn count_one_more(self: &Arc<Self>, address: Option<IpAddr>) -> Option<Unread> {
        let (client, mut clients) = (address.into(), self.clients());
        (!clients.has(client, self.most, |unread| *unread)).then(|| self.count_in(&mut clients, client))
    }

    fn count_in(self: &Arc<Self>, clients: &mut Clients<usize>, client: Client) -> Unread {
        clients.count(client, |unread| *unread += 1);
        Unread { of: self.clone(), client }
    }

    fn clients(&self) -> MutexGuard<'_, Clients<usize>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A response that was not read yet.
pub struct Unread {
    of: Arc<UnreadResponses>,
    client: Client,
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.of.clients().count(self.client, |unread| *unread -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_does_not_read_takes_nothing_from_others() {
        let unread = UnreadResponses::new(2);
        let client = |text: &str| Some(text.parse().unwrap());
        let first = unread.count(client("2001:db8::1"));
        assert!(!unread.too_many(client("2001:db8::1")));
        let second = unread.count(client("2001:db8::2"));
        assert!(unread.too_many(client("2001:db8::3")), "they are of one network");
        assert!(!unread.too_many(client("192.0.2.1")) && !unread.too_many(None));
        assert!(unread.count_one_more(client("2001:db8::1")).is_none());
        drop(first);
        assert!(unread.count_one_more(client("2001:db8::1")).is_some());
        drop(second);
        // A /48 has 65 536 of them.
        let host = |nth: u32| client(&format!("2001:db8:0:{:x}::1", nth * 256));
        let held: Vec<_> = (0..1_000).map_while(|nth| unread.count_one_more(host(nth))).collect();
        assert_eq!(held.len(), 40, "what twenty hosts may have");
        assert!(!unread.too_many(client("2001:db8:1::1")));
        drop(held);
        assert!(unread.clients().is_empty());
    }
}
