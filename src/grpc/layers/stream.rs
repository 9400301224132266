//! The response of a call that has no end of its own: it ends with its connection.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;

use crate::connections::{Closing, GaveWay, Place};

/// Ends a stream, without an error, when its connection is being closed or another stream needs its
/// place: the client opens it again elsewhere.
pub(super) struct EndingStream {
    body: Body,
    over: Pin<Box<dyn Future<Output = ()> + Send>>,
    ended: bool,
    /// Given back when the stream has ended. It holds the permit, which another stream frees by taking
    /// the place: this one is not polled while its client does not read.
    _place: Place,
}

impl EndingStream {
    pub(super) fn new(body: Body, closing: Option<Closing>, gave_way: GaveWay, place: Place) -> Self {
        let over = Box::pin(async move {
            let closing = async {
                match closing {
                    Some(closing) => closing.begun().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = closing => {}
                _ = gave_way => {}
            }
        });
        Self { body, over, ended: false, _place: place }
    }
}

impl HttpBody for EndingStream {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        // What was said before is sent before the end.
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame);
        }
        if self.over.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        self.ended = true;
        let ok = (HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
        Poll::Ready(Some(Ok(Frame::trailers(HeaderMap::from_iter([ok])))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }
}
