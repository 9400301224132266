//! The frames of a stream, between the task that fills it and the response that its client reads.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::error::{Error, Result};

/// The frames of a stream, as its client reads them.
pub(in crate::grpc) struct Frames {
    frames: mpsc::Receiver<Bytes>,
    end: oneshot::Receiver<Error>,
}

impl Frames {
    /// Those that are sent here, until an error or an end without one.
    pub(super) fn new(frames: mpsc::Receiver<Bytes>, end: oneshot::Receiver<Error>) -> Self {
        Self { frames, end }
    }

    /// The next frames. None: the stream ended without an error.
    pub(in crate::grpc) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        match self.frames.poll_recv(context) {
            Poll::Ready(Some(frames)) => Poll::Ready(Some(Ok(frames))),
            Poll::Ready(None) => Pin::new(&mut self.end).poll(context).map(|end| end.ok().map(Err)),
            Poll::Pending => Poll::Pending,
        }
    }
}
