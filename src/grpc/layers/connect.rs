//! JSON in front of the door: what a request of the Connect protocol has to be, and who may read its answer.

use http::header::CONTENT_TYPE;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use super::cors::Page;
use super::reply::Reply;
use crate::connections::Connection;
use crate::grpc::door::{Door, Protocol};

/// What the paths of this API begin with, and those of the services beside it. A call of an RPC that is not
/// there is answered as one, and not as a page that is not found.
const PACKAGES: [&str; 2] = ["/countersign.", "/grpc."];

/// Whether a path is one of RPCs.
pub fn is_of_rpcs(path: &str) -> bool {
    PACKAGES.iter().any(|package| path.starts_with(package))
}

/// Answers a request whose content type is JSON.
pub async fn answer(door: &Door, request: Request<Incoming>, connection: &Connection) -> Response<Reply> {
    if request.method() != Method::POST || request.headers().get_all(CONTENT_TYPE).iter().count() > 1 {
        return refusal(request.method());
    }
    let page = Page::of(door, &request);
    let mut response = door.answer(request, connection, Protocol::Json).await;
    page.allow(response.headers_mut());
    response
}

/// The answer to a request for an RPC with another method, or in a content type that no RPC has.
pub fn refusal(method: &Method) -> Response<Reply> {
    if method != Method::POST {
        return Reply::only_post();
    }
    let mut response = Response::new(Reply::default());
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response
}
