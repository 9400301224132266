//! Reads the first message of a gRPC call, and gives the body back whole.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tonic::Code;

use crate::error::{Error, Result};

/// The flag of compression, and the length.
const PREFIX: usize = 5;

/// The frames that were read, and then the rest.
pub(super) struct Replay<B> {
    read: VecDeque<Frame<Bytes>>,
    rest: B,
}

/// The first message, of at most so many bytes, and the body with it.
pub(super) async fn first_message<B>(mut body: B, most: usize) -> Result<(Bytes, Replay<B>)>
where
    B: Body<Data = Bytes> + Unpin,
{
    let malformed =
        || Error::new(Code::InvalidArgument, "MALFORMED_REQUEST", "the call has no whole message");
    let mut read = VecDeque::new();
    let mut bytes = BytesMut::new();
    loop {
        if bytes.len() >= PREFIX {
            if bytes[0] != 0 {
                let message = "the message is compressed";
                return Err(Error::new(Code::Unimplemented, "COMPRESSION_UNSUPPORTED", message));
            }
            let length = (&bytes[1..PREFIX]).get_u32() as usize;
            if length > most {
                let message = "the message is too large";
                return Err(Error::new(Code::ResourceExhausted, "MESSAGE_TOO_LARGE", message));
            }
            if bytes.len() >= PREFIX + length {
                let message = bytes.split_to(PREFIX + length).split_off(PREFIX).freeze();
                return Ok((message, Replay { read, rest: body }));
            }
        }
        let Some(Ok(frame)) = body.frame().await else { return Err(malformed()) };
        if let Some(data) = frame.data_ref() {
            bytes.extend_from_slice(data);
        }
        read.push_back(frame);
    }
}

impl<B> Body for Replay<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.read.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let read = self.read.iter().filter_map(Frame::data_ref).map(|data| data.len() as u64).sum::<u64>();
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(read + rest.lower());
        if let Some(upper) = rest.upper() {
            hint.set_upper(read + upper);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// A body of these pieces.
    struct Pieces(VecDeque<Bytes>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(|bytes| Ok(Frame::data(bytes))))
        }
    }

    fn pieces(bytes: &[u8], size: usize) -> Pieces {
        Pieces(bytes.chunks(size).map(Bytes::copy_from_slice).collect())
    }

    #[tokio::test]
    async fn the_first_message_is_read_however_it_is_cut_and_nothing_is_lost() {
        let two = [&[0, 0, 0, 0, 3][..], b"abc", &[0, 0, 0, 0, 2], b"de"].concat();
        for size in 1..=two.len() {
            let (message, body) = first_message(pieces(&two, size), 100).await.unwrap();
            assert_eq!(&message[..], b"abc");
            assert_eq!(body.collect().await.unwrap().to_bytes(), two);
        }
        let (message, _) = first_message(pieces(&[0; 5], 2), 100).await.unwrap();
        assert!(message.is_empty());
    }

    #[tokio::test]
    async fn what_is_no_whole_message_is_refused() {
        for (bytes, reason) in [
            (&b""[..], "MALFORMED_REQUEST"),
            (&[0, 0, 0], "MALFORMED_REQUEST"),
            (&[0, 0, 0, 0, 9, 1], "MALFORMED_REQUEST"),
            (&[1, 0, 0, 0, 1, 1], "COMPRESSION_UNSUPPORTED"),
            (&[0, 0xff, 0xff, 0xff, 0xff], "MESSAGE_TOO_LARGE"),
        ] {
            let Err(error) = first_message(pieces(bytes, 4), 100).await else { panic!("{bytes:?}") };
            assert_eq!(error.reason(), reason, "{bytes:?}");
        }
    }
}
