//! Counts the responses that each client has not read yet: they take memory until it reads them.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::HashMap;

use crate::connections::client_of;

/// None where the address is not known.
type Client = Option<IpAddr>;

/// The responses that were not read yet, by client.
pub(in crate::grpc) struct UnreadResponses {
    most: usize,
    clients: Mutex<HashMap<Client, usize>>,
}

impl UnreadResponses {
    /// At most so many for each client.
    pub(in crate::grpc) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, clients: Mutex::default() })
    }

    /// Whether a client must read before it may ask for more.
    pub(in crate::grpc) fn too_many(&self, address: Option<IpAddr>) -> bool {
        self.clients().get(&address.map(client_of)).is_some_and(|unread| *unread >= self.most)
    }

    /// Counts a response of this client until it is dropped: the transport drops it when the client
    /// has read it, or its connection has ended.
    pub(in crate::grpc) fn count(self: &Arc<Self>, address: Option<IpAddr>) -> Unread {
        let client = address.map(client_of);
        *self.clients().entry(client).or_default() += 1;
        Unread { of: self.clone(), client }
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<Client, usize>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A response that was not read yet.
pub(in crate::grpc) struct Unread {
    of: Arc<UnreadResponses>,
    client: Client,
}

impl Drop for Unread {
    fn drop(&mut self) {
        let mut clients = self.of.clients();
        if let Some(unread) = clients.get_mut(&self.client) {
            *unread -= 1;
            if *unread == 0 {
                clients.remove(&self.client);
            }
        }
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
        drop(first);
        assert!(!unread.too_many(client("2001:db8::1")));
        drop(second);
        assert!(unread.clients().is_empty());
    }
}
