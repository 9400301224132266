//! Answers that several pages give.

use std::time::Duration;

use axum::response::{IntoResponse as _, Response};
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};

use super::html::HtmlPage;
use crate::domain::access::request_context::RequestContext;
use crate::error::{Error, Reason};
use crate::flows::failure_log;

/// A page with this status.
pub(super) fn page(status: StatusCode, page: &HtmlPage<'_>) -> Response {
    (status, page.render()).into_response()
}

/// A page that says why the request cannot be completed.
pub(super) fn sorry(status: StatusCode, heading: &str, text: &str) -> Response {
    page(status, &HtmlPage { org: None, done: false, heading, paragraphs: vec![text.to_owned()], form: None })
}

/// A page that confirms success.
pub(super) fn done(heading: &str, text: &str) -> Response {
    page(
        StatusCode::OK,
        &HtmlPage { org: None, done: true, heading, paragraphs: vec![text.to_owned()], form: None },
    )
}

/// A link that is in no email.
pub(super) fn no_such_link() -> Response {
    sorry(
        StatusCode::NOT_FOUND,
        "This link does not work",
        "It may have been cut off on its way. Open it from the mail once more, or copy all of it into \
         the address bar.",
    )
}

/// The server is overloaded; a later attempt succeeds.
pub(super) fn busy(status: StatusCode, retry_after: Option<Duration>) -> Response {
    let seconds = retry_after.map_or(1, |wait| wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1);
    let wait = match seconds {
        1..=5 => "a moment".to_owned(),
        6..=90 => format!("{seconds} seconds"),
        more => format!("{} minutes", more.div_ceil(60)),
    };
    let text = format!("Please try again in {wait}. The link is still valid.");
    let mut response = sorry(status, "Please try again", &text);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// The page for an error that concerns no field of a form. Its cause is logged, once.
pub(super) fn failed(error: Error, origin: &RequestContext) -> Response {
    let reason = error.reason();
    let parts = error.into_parts();
    failure_log::record(&parts, origin);
    match reason {
        Reason::TokenExpired => sorry(
            StatusCode::GONE,
            "This link has expired",
            "Links in emails are valid for a limited time. Request a new one where you got this one.",
        ),
        Reason::TokenRevoked => sorry(
            StatusCode::GONE,
            "This link was used already",
            "Each link works once, and a newer link replaces an older one. If you did not use it, look for a newer email, or request another one.",
        ),
        Reason::OrgSuspended | Reason::AccountDeactivated => sorry(
            StatusCode::FORBIDDEN,
            "This account cannot be used now",
            "Ask the administrator of your organisation.",
        ),
        Reason::Throttled => busy(StatusCode::TOO_MANY_REQUESTS, parts.retry_after),
        Reason::Overloaded | Reason::DatabaseUnavailable | Reason::Conflict => {
            busy(StatusCode::SERVICE_UNAVAILABLE, parts.retry_after)
        }
        Reason::TokenInvalid => no_such_link(),
        _ => sorry(
            StatusCode::INTERNAL_SERVER_ERROR,
            "Something went wrong",
            "Please try again later: the link is still valid.",
        ),
    }
}
