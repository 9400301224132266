//! The response of a call that has no end of its own: it ends with its connection.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Bytes, HttpBody};
use http_body::Frame;
use tonic::body::Body;

use super::status::{error_of_framework, trailers_of, trailers_of_success};
use crate::connections::{Closing, GaveWay, Place};
use crate::domain::access::request_context::RequestContext;
use crate::error::Error;
use crate::flows::access_log::{AccessLog, Subject};
use crate::grpc::streams::frames::Frames;

/// The most frames of a stream that is over which are sent before its end.
const MOST_AFTER: u8 = 8;

/// What a stream sends.
pub(in crate::grpc) enum Source {
    /// The response of a service of the framework.
    Framework(Body),
    Ours(Frames),
}

/// Ends a stream, without an error, when its connection is being closed or another stream needs its
/// place: the client opens it again elsewhere.
pub(in crate::grpc) struct EndingStream {
    source: Source,
    over: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// How many frames are sent at most before the end, once it is over.
    left: u8,
    ended: bool,
    context: Arc<RequestContext>,
    /// Where its refusal is logged and counted, with the row of its RPC.
    log: (Arc<AccessLog>, usize),
    /// Whether the headers of the call name an encoding of its messages.
    encoded: bool,
    /// Given back when the stream has ended. It holds the permit, which another stream frees by taking
    /// the place: this one is not polled while its client does not read.
    _place: Place,
}

impl EndingStream {
    /// The body, until the connection is being closed, or the place is taken. `encoded`: the headers of the
    /// call name an encoding of its messages.
    pub(in crate::grpc) fn new(
        source: Source,
        closing: Closing,
        (place, gave_way): (Place, GaveWay),
        context: Arc<RequestContext>,
        log: (Arc<AccessLog>, usize),
        encoded: bool,
    ) -> Self {
        let over = Box::pin(async move {
            tokio::select! {
                () = closing.begun() => {}
                _ = gave_way => {}
            }
        });
        Self { source, over, left: MOST_AFTER, ended: false, context, log, encoded, _place: place }
    }
}

impl EndingStream {
    /// A refusal of the framework gets its form.
    fn with_details(&self, frame: Frame<Bytes>) -> Frame<Bytes> {
        match frame.into_trailers() {
            Ok(trailers) => match error_of_framework(&trailers, self.encoded) {
                Some(error) => self.failed(error),
                None => Frame::trailers(trailers),
            },
            Err(data) => data,
        }
    }

    /// The trailers of an error.
    fn failed(&self, error: Error) -> Frame<Bytes> {
        let (parts, (log, row)) = (error.into_parts(), &self.log);
        log.rpcs()[*row].refused(parts.reason);
        log.record(Subject::Rpc(*row), &self.context, Some(&parts), None);
        Frame::trailers(trailers_of(&parts, &self.context))
    }

    /// The next frame of what it sends.
    fn poll_source(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match &mut self.source {
            Source::Framework(body) => {
                let frame = ready!(Pin::new(body).poll_frame(context));
                Poll::Ready(
                    frame.map(|frame| frame.map(|frame| self.with_details(frame)).map_err(axum::Error::new)),
                )
            }
            Source::Ours(frames) => {
                let frames = ready!(frames.poll_next(context));
                let frame = match frames {
                    Some(Ok(messages)) => Frame::data(messages),
                    Some(Err(error)) => {
                        self.ended = true;
                        self.failed(error)
                    }
                    None => {
                        self.ended = true;
                        Frame::trailers(trailers_of_success())
                    }
                };
                Poll::Ready(Some(Ok(frame)))
            }
        }
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
        let over = self.left < MOST_AFTER || self.over.as_mut().poll(context).is_ready();
        // What was said before is sent before the end: not more, of a client that goes on asking.
        if self.left > 0
            && let Poll::Ready(frame) = self.poll_source(context)
        {
            self.left -= u8::from(over);
            return Poll::Ready(frame);
        }
        if !over {
            return Poll::Pending;
        }
        self.ended = true;
        Poll::Ready(Some(Ok(Frame::trailers(trailers_of_success()))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || matches!(&self.source, Source::Framework(body) if body.is_end_stream())
    }
}
