//! Counts the responses that each client has not read yet: they take memory until it reads them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};

use crate::connections::client_of;

/// None where the address is not known.
type Client = Option<IpAddr>;

/// The responses that were not read yet, by client.
pub(super) struct UnreadResponses {
    most: usize,
    clients: Mutex<HashMap<Client, usize>>,
}

impl UnreadResponses {
    /// At most so many for each client.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, clients: Mutex::default() })
    }

    /// Whether a client must read before it may ask for more.
    pub(super) fn too_many(&self, address: Option<IpAddr>) -> bool {
        self.clients().get(&address.map(client_of)).is_some_and(|unread| *unread >= self.most)
    }

    /// The same body, which is counted until it was handed over.
    pub(super) fn count(self: &Arc<Self>, address: Option<IpAddr>, body: Body) -> Body {
        if body.is_end_stream() {
            return body;
        }
        let client = address.map(client_of);
        *self.clients().entry(client).or_default() += 1;
        Body::new(UnreadBody { body, of: self.clone(), client })
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<Client, usize>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The transport drops it when the client has read it, or its connection has ended.
struct UnreadBody {
    body: Body,
    of: Arc<UnreadResponses>,
    client: Client,
}

impl HttpBody for UnreadBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for UnreadBody {
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
        let first = unread.count(client("2001:db8::1"), Body::from("1"));
        let empty = unread.count(client("2001:db8::1"), Body::empty());
        assert!(!unread.too_many(client("2001:db8::1")));
        let second = unread.count(client("2001:db8::2"), Body::from("2"));
        assert!(unread.too_many(client("2001:db8::3")), "they are of one network");
        assert!(!unread.too_many(client("192.0.2.1")) && !unread.too_many(None));
        drop(first);
        assert!(!unread.too_many(client("2001:db8::1")));
        drop((empty, second));
        assert!(unread.clients().is_empty());
    }
}
