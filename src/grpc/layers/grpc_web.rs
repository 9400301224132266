//! gRPC-Web, which browser pages speak.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Bytes, HttpBody};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, Request, Response};
use http_body::Frame;
use hyper::body::Incoming;

use super::cors::Page;
use super::media_type::media_type;
use super::reply::Reply;
use super::status::trailers_of_success;
use crate::connections::Connection;
use crate::grpc::door::{Door, Protocol};

/// The headers of a refusal that belong into its last frame.
const TRAILERS: [HeaderName; 4] = [
    HeaderName::from_static("grpc-status"),
    HeaderName::from_static("grpc-message"),
    HeaderName::from_static("grpc-status-details-bin"),
    HeaderName::from_static("countersign-reason"),
];
/// The first byte of the frame that contains the trailers.
const TRAILERS_FRAME: u8 = 0x80;

/// How the messages of a call are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Binary,
    /// In base64.
    Text,
}

impl Encoding {
    /// That of a media type in lower case, without parameters; none for what is no gRPC-Web with protobuf.
    pub fn of(media_type: &str) -> Option<Self> {
        match media_type {
            "application/grpc-web" | "application/grpc-web+proto" => Some(Self::Binary),
            "application/grpc-web-text" | "application/grpc-web-text+proto" => Some(Self::Text),
            _ => None,
        }
    }

    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Binary => "application/grpc-web+proto",
            Self::Text => "application/grpc-web-text+proto",
        })
    }
}

/// Translates a call of a page, and its answer.
pub async fn answer(
    door: &Door,
    request: Request<Incoming>,
    connection: &Connection,
    encoding: Encoding,
) -> Response<Reply> {
    if request.method() != Method::POST {
        return Reply::only_post();
    }
    let page = Page::of(door, &request);
    // Where nothing is said about the answer, it is written as the request is.
    let accepted = Encoding::of(&media_type(request.headers(), ACCEPT)).unwrap_or(encoding);
    let request = request.map(|body| WebBody::new(body, encoding));
    let mut response = framed(door.answer(request, connection, Protocol::GrpcWeb).await, accepted);
    page.allow(response.headers_mut());
    response
}

/// Moves the status into the last frame of the body, where pages expect it. A refusal has it in
/// its headers, where it stays for a client that must read other responses first.
fn framed(response: Response<Reply>, encoding: Encoding) -> Response<Reply> {
    let (mut head, reply) = response.into_parts();
    head.headers.insert(CONTENT_TYPE, encoding.content_type());
    head.headers.remove(CONTENT_LENGTH);
    // The headers alone are an answer, too (Trailers-Only).
    let Some((message, unread)) = reply.into_unread() else {
        return Response::from_parts(head, Reply::default());
    };
    let (mut body, trailers) = match message {
        Some(message) => (message.to_vec(), trailers_of_success()),
        None => {
            let of_refusal = |name: HeaderName| head.headers.remove(&name).map(|value| (name, value));
            (Vec::new(), TRAILERS.into_iter().filter_map(of_refusal).collect())
        }
    };
    let mut block = Vec::new();
    for (name, value) in &trailers {
        block.extend_from_slice(name.as_str().as_bytes());
        block.push(b':');
        block.extend_from_slice(value.as_bytes());
        block.extend_from_slice(b"\r\n");
    }
    body.push(TRAILERS_FRAME);
    // The size limits of a status keep it far below 4 GiB.
    body.extend_from_slice(&(block.len() as u32).to_be_bytes());
    body.append(&mut block);
    // In one piece: not every client reads padding in the middle of base64.
    let body = if encoding == Encoding::Text { BASE64_STANDARD.encode(body).into() } else { body };
    Response::from_parts(head, Reply::bytes(body.into(), unread))
}

/// The body of a page's call, as a call without translation has it.
struct WebBody {
    body: Incoming,
    encoding: Encoding,
    /// What was received of a group of four digits that is not complete.
    rest: Vec<u8>,
}

/// What is no base64.
#[derive(Debug)]
struct NotBase64;

impl std::fmt::Display for NotBase64 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the body is not base64")
    }
}

impl std::error::Error for NotBase64 {}

impl WebBody {
    fn new(body: Incoming, encoding: Encoding) -> Self {
        Self { body, encoding, rest: Vec::new() }
    }
}

/// Decodes all complete groups of four digits, and leaves what follows them. A group with padding
/// ends what its client has encoded in one piece; another piece may follow.
fn decode_groups(text: &mut Vec<u8>) -> Result<Vec<u8>, NotBase64> {
    let complete = text.len() / 4 * 4;
    let mut bytes = Vec::with_capacity(complete / 4 * 3);
    let pieces = text[..complete].chunk_by(|a, b| *a != b'=' || *b == b'=');
    for piece in pieces {
        BASE64_STANDARD.decode_vec(piece, &mut bytes).map_err(|_| NotBase64)?;
    }
    text.drain(..complete);
    Ok(bytes)
}

impl HttpBody for WebBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            None if self.rest.is_empty() => return Poll::Ready(None),
            None => {
                self.rest.clear();
                return Poll::Ready(Some(Err(NotBase64.into())));
            }
        };
        if self.encoding == Encoding::Binary {
            return Poll::Ready(Some(Ok(frame)));
        }
        let Ok(text) = frame.into_data() else { return Poll::Ready(None) };
        self.rest.extend_from_slice(&text);
        let decoded = decode_groups(&mut self.rest);
        Poll::Ready(Some(decoded.map(|bytes| Frame::data(bytes.into())).map_err(Into::into)))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    #[test]
    fn base64_is_read_in_pieces() {
        let decoded = |parts: &[&str]| {
            let (mut rest, mut bytes) = (Vec::new(), Vec::new());
            for part in parts {
                rest.extend_from_slice(part.as_bytes());
                bytes.append(&mut decode_groups(&mut rest).ok()?);
            }
            rest.is_empty().then_some(bytes)
        };
        let bytes = Some(vec![0, 0, 0, 0, 2, 7, 8]);
        for good in
            [&["AAAAAAIHCA=="][..], &["AAA", "AAAIHCA", "=="], &["AAAAAA==", "AgcI"], &["AAA=AAACBwg="]]
        {
            assert_eq!(decoded(good), bytes, "{good:?}");
        }
        for bad in [&["AAA"][..], &["AAAA", "A"], &["AA=A"], &["A==="], &["===="], &["A A="], &["AAA=", "="]]
        {
            assert_eq!(decoded(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn media_types() {
        let encoding = |text: &str| {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, text.parse().unwrap())]);
            Encoding::of(&media_type(&headers, CONTENT_TYPE))
        };
        for text in
            ["application/grpc-web+proto; charset=utf-8", "Application/gRPC-Web", "application/grpc-web ;a=b"]
        {
            assert_eq!(encoding(text), Some(Encoding::Binary), "{text}");
        }
        assert_eq!(encoding("application/GRPC-web-text+proto;charset=utf-8"), Some(Encoding::Text));
        for text in ["application/grpc-web+json", "application/grpc", "application/grpc-web+proto+json", ""] {
            assert_eq!(encoding(text), None, "{text}");
        }
    }
}
