//! The body of a response to an RPC.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use http::header::ALLOW;
use http::{HeaderValue, Response, StatusCode};
use http_body::{Frame, SizeHint};

use super::status::trailers_of_success;
use super::stream::EndingStream;
use super::unread::Unread;

/// The longest frame that the transport copies beside others, to write them all at once. A longer one is
/// written by itself.
const COPIED: usize = 1_023;
/// The longest message that is sent in frames of this length: the copies of a longer one cost more than
/// writing it by itself.
const SPLIT: usize = 8 * COPIED;

/// The body of a response to an RPC. The default is empty: the headers say everything.
#[derive(Default)]
pub struct Reply(Content);

#[derive(Default)]
enum Content {
    #[default]
    Empty,
    /// The answer to a unary call: its message, and then the trailers of success.
    Message {
        frame: Option<Bytes>,
        unread: Unread,
    },
    /// A body without trailers.
    Bytes {
        bytes: Bytes,
        unread: Unread,
    },
    Stream(Box<EndingStream>),
    /// The answer to a request of plain HTTP.
    Http {
        body: Body,
        _unread: Unread,
    },
}

impl Reply {
    /// A message with its prefix, counted until it was read.
    pub(in crate::grpc) fn message(frame: Bytes, unread: Unread) -> Self {
        Self(Content::Message { frame: Some(frame), unread })
    }

    /// A body without trailers, counted until it was read.
    pub(in crate::grpc) fn bytes(bytes: Bytes, unread: Unread) -> Self {
        Self(Content::Bytes { bytes, unread })
    }

    /// The body of a refusal, counted until it was read. The headers alone say it to a client that must read
    /// first: it has no body for them.
    pub(in crate::grpc) fn refusal(bytes: Bytes, unread: Option<Unread>) -> Self {
        unread.map_or_else(Self::default, |unread| Self::bytes(bytes, unread))
    }

    pub(in crate::grpc) fn stream(stream: EndingStream) -> Self {
        Self(Content::Stream(Box::new(stream)))
    }

    /// The answer to a request of plain HTTP, on the same port, counted until it was read.
    pub fn http(body: Body, unread: Unread) -> Self {
        if body.is_end_stream() { Self::default() } else { Self(Content::Http { body, _unread: unread }) }
    }

    /// The answer to a request for an RPC with another method than POST.
    pub(super) fn only_post() -> Response<Self> {
        let mut response = Response::new(Self::default());
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        response
    }

    /// What a page reads of it, if nothing of it was sent: the message of an answer, and none of a refusal. None
    /// where its client must read first.
    pub(super) fn into_unread(self) -> Option<(Option<Bytes>, Unread)> {
        match self.0 {
            Content::Message { frame, unread } => Some((frame, unread)),
            Content::Bytes { unread, .. } => Some((None, unread)),
            Content::Empty | Content::Stream(_) | Content::Http { .. } => None,
        }
    }
}

/// Takes the next frame of what is left.
fn next_frame(rest: &mut Bytes) -> Bytes {
    let length = if (COPIED + 1..=SPLIT).contains(&rest.len()) { COPIED } else { rest.len() };
    rest.split_to(length)
}

impl HttpBody for Reply {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = match &mut self.0 {
            Content::Empty => return Poll::Ready(None),
            Content::Message { frame, .. } => match frame.take() {
                Some(mut rest) => {
                    let first = next_frame(&mut rest);
                    *frame = Some(rest).filter(|rest| !rest.is_empty());
                    Frame::data(first)
                }
                None => {
                    self.0 = Content::Empty;
                    Frame::trailers(trailers_of_success())
                }
            },
            Content::Bytes { bytes, .. } if bytes.is_empty() => {
                self.0 = Content::Empty;
                return Poll::Ready(None);
            }
            Content::Bytes { bytes, .. } => Frame::data(next_frame(bytes)),
            Content::Stream(stream) => return Pin::new(stream).poll_frame(context),
            Content::Http { body, .. } => {
                let frame = Pin::new(body).poll_frame(context);
                if matches!(frame, Poll::Ready(None)) {
                    self.0 = Content::Empty;
                }
                return frame;
            }
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Content::Empty => true,
            // The transport may take the last frame before its client has room for it, and would drop a body that
            // has no more: it asks for the end once there is room.
            Content::Message { .. } | Content::Bytes { .. } | Content::Http { .. } => false,
            Content::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            // With its length, the transport would not expect the trailers.
            Content::Message { .. } | Content::Stream(_) => SizeHint::default(),
            Content::Empty => SizeHint::with_exact(0),
            Content::Bytes { bytes, .. } => SizeHint::with_exact(bytes.len() as u64),
            Content::Http { body, .. } => body.size_hint(),
        }
    }
}
