//! The body of a response, which notes whether the client reads it.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Bytes, HttpBody};
use http_body::{Frame, SizeHint};

use super::activity::Exchange;

/// A body that holds its exchange: when it is dropped, the response is done.
///
/// The transport asks for the next frame when the client has made room for it. As long as it does not
/// ask, the client does not read.
pub(super) struct TrackedBody<B> {
    body: B,
    exchange: Exchange,
}

impl<B> TrackedBody<B> {
    pub(super) fn new(body: B, exchange: Exchange) -> Self {
        exchange.handed_over(0);
        Self { body, exchange }
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for TrackedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                self.exchange.handed_over(bytes);
            }
            // A stream that has nothing to send.
            _ => self.exchange.was_read(),
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
