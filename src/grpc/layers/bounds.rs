//! Bounds the elements of every repeated field of a message, once its caller is authenticated and
//! before the message is decoded.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;

use super::body::MESSAGE_HEAD;
use super::status;
use crate::domain::access::request_context::RequestContext;
use crate::error::Reason;
use crate::grpc::wire::bounds;

/// The layer function. Streams are left out: their messages are not here yet, and none has a
/// repeated field.
pub async fn check(request: Request, next: Next) -> Response {
    if super::request::is_stream(request.uri().path()) {
        return next.run(request).await;
    }
    let (head, body) = request.into_parts();
    let refusal = |error| {
        let context = head.extensions.get::<RequestContext>().cloned().unwrap_or_default();
        status::answer(error, &context).into_http()
    };
    // It is in memory, and of a bounded size (`layers/body.rs`).
    let Ok(body) = to_bytes(body, usize::MAX).await else { return refusal(Reason::MalformedRequest.into()) };
    let checked = messages(&body).try_for_each(|message| bounds::check(head.uri.path(), message));
    match checked {
        Ok(()) => next.run(Request::from_parts(head, Body::from(body))).await,
        Err(error) => refusal(error),
    }
}

/// The messages of a body. The framework decodes all of them, and not only the first.
fn messages(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = body;
    std::iter::from_fn(move || {
        let (head, after) = rest.split_at_checked(MESSAGE_HEAD)?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        // A compressed message is refused, and one that breaks off is never decoded.
        let (message, after) = after.split_at_checked(length).filter(|_| head[0] == 0)?;
        rest = after;
        Some(message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_messages_of_a_body() {
        let found = |body: &[u8]| messages(body).map(<[u8]>::to_vec).collect::<Vec<_>>();
        assert_eq!(found(&[0, 0, 0, 0, 2, 7, 8, 0, 0, 0, 0, 0]), [vec![7, 8], vec![]]);
        assert!(found(&[0, 0, 0, 0, 2, 7]).is_empty());
        assert!(found(&[1, 0, 0, 0, 1, 7]).is_empty());
        assert!(found(&[]).is_empty());
    }
}
