//! Buffers the bodies of calls before anything else is done with them. A client that opens calls
//! and delays their messages takes no place from others, and its rights are checked only once the
//! message is there, not as they were before.

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use tokio::sync::oneshot;

use crate::connections::{GaveWay, Place, Room};
use crate::error::{Error, Reason, Result};

/// The prefix of a message: its compression flag and its length (gRPC over HTTP/2).
pub const MESSAGE_HEAD: usize = 5;
/// The memory of all messages that are larger than [`SMALL`] or have not arrived yet. More are
/// refused, the largest client's first.
const MEMORY: usize = 64 << 20;
/// However large messages may be, so many of the largest fit.
const LEAST_MESSAGES: usize = 4;
/// A message up to this size, in bytes, that arrives together with its call is not counted: the
/// number of calls bounds these.
const SMALL: usize = 16 << 10;

pub struct BodyBuffer {
    /// The longest body, in bytes.
    max_size: usize,
    room: Arc<Room>,
}

/// The complete body of a call.
pub struct WholeBody {
    pub bytes: Bytes,
    /// What it has of the memory, until the call is done.
    _place: Option<Place>,
}

impl BodyBuffer {
    /// A buffer for at most `room` waiting calls, with messages of at most `max_message_size`
    /// bytes.
    pub fn new(room: usize, max_message_size: usize) -> Self {
        let max_size = max_message_size.saturating_add(MESSAGE_HEAD);
        let memory = MEMORY.max(max_size.saturating_mul(LEAST_MESSAGES));
        Self { max_size, room: Room::new(room, memory) }
    }

    /// The complete body of a call from this address: a message with its prefix, or as `is_framed` says
    /// something else of the size of a message.
    ///
    /// # Errors
    /// `MESSAGE_TOO_LARGE`; `MALFORMED_REQUEST` if it breaks off; `OVERLOADED` if more calls wait
    /// than there is room for, or they take more memory, and this one gives way: it is of the client
    /// that has the most, and has waited longest of its calls, or the complete messages of its
    /// client have a quarter of the memory. A message that is on its way arrives
    /// soon, so calls without a message give way to calls with one in a flood.
    pub async fn whole<B>(&self, address: Option<IpAddr>, body: B, is_framed: bool) -> Result<WholeBody>
    where
        B: HttpBody<Data = Bytes> + Unpin,
    {
        self.whole_within(address, body, is_framed, usize::MAX).await
    }

    /// The same, of a body that may have so many bytes at most.
    ///
    /// # Errors
    /// Those of [`whole`](Self::whole).
    pub async fn whole_within<B>(
        &self,
        address: Option<IpAddr>,
        mut body: B,
        is_framed: bool,
        most: usize,
    ) -> Result<WholeBody>
    where
        B: HttpBody<Data = Bytes> + Unpin,
    {
        let max_size = if is_framed { self.max_size } else { self.max_size - MESSAGE_HEAD };
        let max_size = max_size.min(most);
        let mut bytes = Vec::new();
        let mut waiting: Option<(Place, GaveWay)> = None;
        loop {
            let mut next = pin!(poll_fn(|context| Pin::new(&mut body).poll_frame(context)));
            // The body usually arrives together with its headers.
            let at_once = poll_fn(|context| Poll::Ready(next.as_mut().poll(context))).await;
            let frame = match at_once {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    let (_, gave_way) = waiting.get_or_insert_with(|| self.room.enter(address, bytes.len()));
                    tokio::select! {
                        frame = next => frame,
                        _ = gave_way => return Err(overloaded()),
                    }
                }
            };
            let Some(frame) = frame else { break };
            let Ok(data) = frame.map_err(|_| Reason::MalformedRequest)?.into_data() else { continue };
            if bytes.len() + data.len() > max_size {
                return Err(Reason::MessageTooLarge.into());
            }
            let is_whole = bytes.is_empty() && waiting.is_none() && body.is_end_stream();
            if is_whole && data.len() <= SMALL {
                self.check_announced(&data, is_framed)?;
                return Ok(WholeBody { bytes: data, _place: None });
            }
            // Copied: a one-byte frame may hold much more than one byte of memory.
            bytes.extend_from_slice(&data);
            self.check_announced(&bytes, is_framed)?;
            match &waiting {
                Some((place, _)) => place.grow(data.len()),
                None if bytes.len() > SMALL => waiting = Some(self.room.enter(address, bytes.len())),
                None => {}
            }
            if let Some((_, gave_way)) = &mut waiting
                && gave_way.try_recv() == Err(oneshot::error::TryRecvError::Closed)
            {
                return Err(overloaded());
            }
        }
        let place = waiting.map(|(place, _)| place);
        if place.as_ref().is_some_and(|place| !place.settle()) {
            return Err(overloaded());
        }
        Ok(WholeBody { bytes: bytes.into(), _place: place })
    }

    /// Refuses a message whose prefix announces too much: that need not arrive.
    fn check_announced(&self, body: &[u8], is_framed: bool) -> Result<()> {
        match body.first_chunk::<MESSAGE_HEAD>() {
            Some(&[_, a, b, c, d])
                if is_framed && u32::from_be_bytes([a, b, c, d]) as usize > self.max_size - MESSAGE_HEAD =>
            {
                Err(Reason::MessageTooLarge.into())
            }
            _ => Ok(()),
        }
    }
}

/// The error for too many calls that wait or are being processed.
pub fn overloaded() -> Error {
    Error::new(Reason::Overloaded).retry_after(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::Body;
    use tokio::sync::mpsc;
    use tokio_stream::StreamExt as _;
    use tokio_stream::wrappers::ReceiverStream;

    use super::*;

    const ADDRESS: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

    #[tokio::test]
    async fn a_body_is_read_up_to_its_limit() {
        let arrivals = BodyBuffer::new(1, 10);
        assert_eq!(arrivals.whole(ADDRESS, Body::from(vec![0; 15]), true).await.unwrap().bytes, vec![0; 15]);
        let error = arrivals.whole(ADDRESS, Body::from(vec![0; 16]), true).await.err().unwrap();
        assert_eq!(error.reason(), Reason::MessageTooLarge);
        for (most, is_read) in [(9, true), (8, false)] {
            let read = arrivals.whole_within(ADDRESS, Body::from(vec![0; 9]), false, most).await;
            assert_eq!(read.is_ok(), is_read, "{most}");
        }
    }

    /// A body whose frames are sent one after the other.
    fn held() -> (mpsc::Sender<Bytes>, Body) {
        let (sender, receiver) = mpsc::channel(1);
        (sender, Body::from_stream(ReceiverStream::new(receiver).map(Ok::<_, Infallible>)))
    }

    #[tokio::test]
    async fn bodies_that_wait_share_the_memory() {
        let largest = MEMORY / LEAST_MESSAGES;
        let arrivals = Arc::new(BodyBuffer::new(100, largest - MESSAGE_HEAD));
        let mut waiting = Vec::new();
        // The first is the largest, and no two are of one client.
        for (nth, last) in (0..=LEAST_MESSAGES).zip(1_u8..) {
            let (sender, body) = held();
            let arrivals = arrivals.clone();
            let address = Some(IpAddr::from([192, 0, 2, last]));
            let reading = tokio::spawn(async move { arrivals.whole(address, body, true).await });
            // The second frame is taken when the first one was read.
            for part in [largest - 1 - nth.min(1), 0, 0] {
                let _ = sender.send(Bytes::from(vec![0; part])).await;
            }
            waiting.push((sender, reading));
        }
        let (_, first) = waiting.remove(0);
        assert_eq!(first.await.unwrap().err().unwrap().reason(), Reason::Overloaded);
        // The others are complete, and hold their memory until they are done.
        let mut done = Vec::new();
        for (sender, reading) in waiting {
            drop(sender);
            done.push(reading.await.unwrap().unwrap());
        }
        let large = || Body::from(vec![0; largest]);
        assert_eq!(arrivals.whole(ADDRESS, large(), true).await.err().unwrap().reason(), Reason::Overloaded);
        assert!(arrivals.whole(ADDRESS, Body::from(vec![0; SMALL]), true).await.is_ok());
        done.pop();
        assert!(arrivals.whole(ADDRESS, large(), true).await.is_ok());
    }

    #[tokio::test]
    async fn complete_bodies_of_one_client_leave_memory_to_others() {
        let arrivals = BodyBuffer::new(100, 1 << 20);
        let large = || Body::from(vec![0; 1 << 20]);
        let mut held = Vec::new();
        let refusal = loop {
            match arrivals.whole(ADDRESS, large(), true).await {
                Ok(whole) => held.push(whole),
                Err(error) => break error,
            }
        };
        assert_eq!((refusal.reason(), held.len()), (Reason::Overloaded, MEMORY / (1 << 20) / 4));
        assert!(arrivals.whole(Some(IpAddr::from([192, 0, 2, 1])), large(), true).await.is_ok());
        held.pop();
        assert!(arrivals.whole(ADDRESS, large(), true).await.is_ok());
    }
}
