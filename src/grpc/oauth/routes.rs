//! Which requests are those of an endpoint.

use axum::body::Body;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use super::json::json;
use crate::domain::oauth::{Endpoint, path_of};
use crate::grpc::layers::media_type::media_type;

/// What the paths of all endpoints begin with.
const PREFIX: &str = "/oauth2/";

/// The path of an endpoint without that of the issuer, which a proxy may have removed already. None for a path
/// of something else.
pub fn path<'a>(issuer: &str, path: &'a str) -> Option<&'a str> {
    let below = path.strip_prefix(path_of(issuer)).filter(|below| below.starts_with(PREFIX));
    below.or_else(|| path.starts_with(PREFIX).then_some(path))
}

/// What a path below [`PREFIX`] leads to.
///
/// # Errors
/// The answer to a request that is none of an endpoint.
pub fn endpoint(
    method: &Method,
    path: &str,
    headers: &HeaderMap,
) -> std::result::Result<Endpoint, Box<Response<Body>>> {
    let Some(endpoint) = Endpoint::ALL.into_iter().find(|endpoint| endpoint.path() == path) else {
        return Err(Box::new(refused(StatusCode::NOT_FOUND, "there is no such endpoint")));
    };
    if method != Method::POST {
        let mut response = refused(StatusCode::METHOD_NOT_ALLOWED, "an endpoint takes POST only");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return Err(Box::new(response));
    }
    if media_type(headers, CONTENT_TYPE) != "application/x-www-form-urlencoded" {
        let what = "the content type must be application/x-www-form-urlencoded";
        return Err(Box::new(refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, what)));
    }
    Ok(endpoint)
}

fn refused(status: StatusCode, what: &'static str) -> Response<Body> {
    let body = serde_json::json!({ "error": "invalid_request", "error_description": what });
    json(status, Body::from(body.to_string()))
}
