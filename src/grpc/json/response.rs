//! What every answer has.

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Response, StatusCode};

use crate::grpc::layers::reply::Reply;

/// The media type of requests and answers.
pub const MEDIA_TYPE: &str = "application/json";

/// An answer. It may hold a secret: no cache keeps it.
pub(super) fn json(status: StatusCode, body: Reply) -> Response<Reply> {
    const HEADERS: [(HeaderName, &str); 2] = [(CONTENT_TYPE, MEDIA_TYPE), (CACHE_CONTROL, "no-store")];
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = HEADERS.map(|(name, value)| (name, HeaderValue::from_static(value)));
    response.headers_mut().extend(headers);
    response
}
