//! Buffers the bodies of calls before anything else is done with them. A client that opens calls
//! and delays their messages takes no place from others, and its rights are checked only once the
//! message is there, not as they were before.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use tokio::sync::oneshot;

use crate::error::{Error, Reason, Result};

/// The prefix of a message: its compression flag and its length (gRPC over HTTP/2).
const MESSAGE_HEAD: usize = 5;

pub struct BodyBuffer {
    /// How many calls may wait.
    room: usize,
    /// The longest body, in bytes.
    max_size: usize,
    waiting: Mutex<WaitingCalls>,
}

#[derive(Default)]
struct WaitingCalls {
    next: u64,
    /// In order of arrival. Dropping the sender gives up the call.
    calls: BTreeMap<u64, oneshot::Sender<Infallible>>,
}

impl BodyBuffer {
    /// A buffer for at most `room` waiting calls, with messages of at most `max_message_size`
    /// bytes.
    pub fn new(room: usize, max_message_size: usize) -> Self {
        Self { room, max_size: max_message_size.saturating_add(MESSAGE_HEAD), waiting: Mutex::default() }
    }

    /// The complete body of a call.
    ///
    /// # Errors
    /// `MESSAGE_TOO_LARGE`; `MALFORMED_REQUEST` if it breaks off; `OVERLOADED` if more calls wait
    /// than there is room for and this one has waited longest. A message that is on its way
    /// arrives soon, so calls without a message give way to calls with one in a flood.
    pub async fn whole(&self, body: Body) -> Result<Vec<u8>> {
        let mut reading = pin!(read(body, self.max_size));
        // The body usually arrives together with its headers.
        let at_once = poll_fn(|context| Poll::Ready(reading.as_mut().poll(context))).await;
        if let Poll::Ready(body) = at_once {
            return body;
        }
        let (_place, given_up) = self.enter();
        tokio::select! {
            body = reading => body,
            _ = given_up => Err(overloaded()),
        }
    }

    fn enter(&self) -> (WaitingCall<'_>, oneshot::Receiver<Infallible>) {
        let (sender, given_up) = oneshot::channel();
        let mut waiting = self.waiting();
        let id = waiting.next;
        waiting.next += 1;
        waiting.calls.insert(id, sender);
        if waiting.calls.len() > self.room {
            waiting.calls.pop_first();
        }
        (WaitingCall { arrivals: self, id }, given_up)
    }

    fn waiting(&self) -> MutexGuard<'_, WaitingCalls> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A waiting call.
struct WaitingCall<'a> {
    arrivals: &'a BodyBuffer,
    id: u64,
}

impl Drop for WaitingCall<'_> {
    fn drop(&mut self) {
        self.arrivals.waiting().calls.remove(&self.id);
    }
}

/// The error for too many calls that wait or are being processed.
pub fn overloaded() -> Error {
    Error::new(Reason::Overloaded).retry_after(Duration::from_secs(1))
}

async fn read(mut body: Body, max_size: usize) -> Result<Vec<u8>> {
    let mut whole = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let Ok(data) = frame.map_err(|_| Reason::MalformedRequest)?.into_data() else { continue };
        if whole.len() + data.len() > max_size {
            return Err(Reason::MessageTooLarge.into());
        }
        // Copied: a one-byte frame may hold much more than one byte of memory.
        whole.extend_from_slice(&data);
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_that_has_waited_longest_gives_way() {
        let arrivals = BodyBuffer::new(2, 0);
        let (first, mut given_up) = arrivals.enter();
        let (second, mut second_given_up) = arrivals.enter();
        drop(second);
        let (_third, mut third_given_up) = arrivals.enter();
        assert!(given_up.try_recv() == Err(oneshot::error::TryRecvError::Empty), "a place became free");
        let (_fourth, mut fourth_given_up) = arrivals.enter();
        assert!(given_up.try_recv() == Err(oneshot::error::TryRecvError::Closed));
        drop(first);
        for waits in [&mut third_given_up, &mut fourth_given_up] {
            assert!(waits.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        }
        assert!(second_given_up.try_recv().is_err(), "it left by itself");
        assert_eq!(arrivals.waiting().calls.len(), 2);
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_limit() {
        let arrivals = BodyBuffer::new(1, 10);
        assert_eq!(arrivals.whole(Body::from(vec![7; 15])).await.unwrap(), [7; 15]);
        let error = arrivals.whole(Body::from(vec![7; 16])).await.unwrap_err();
        assert_eq!(error.reason(), Reason::MessageTooLarge);
    }
}
