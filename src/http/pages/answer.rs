//! Answers that several pages give.

use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse as _, Response};
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};

use super::html::{HtmlPage, Ways};
use crate::error::{Error, Parts, Reason};

/// A page with this status. The layer around the pages writes its document.
pub(super) fn page(status: StatusCode, page: &HtmlPage<'_>) -> Response {
    let mut response = status.into_response();
    response.extensions_mut().insert(page.document());
    response
}

/// A page that says why the request cannot be completed.
pub(super) fn sorry(status: StatusCode, heading: &str, text: &str) -> Response {
    text_page(status, heading, text, false, Ways::default())
}

/// The same, with a way to another link.
pub(super) fn sorry_with_way(status: StatusCode, heading: &str, text: &str, ways: Ways) -> Response {
    text_page(status, heading, text, false, ways)
}

/// A page that confirms success, with the way on.
pub(super) fn done(heading: &str, text: &str, ways: Ways) -> Response {
    text_page(StatusCode::OK, heading, text, true, ways)
}

fn text_page(status: StatusCode, heading: &str, text: &str, done: bool, ways: Ways) -> Response {
    let paragraphs = vec![text.to_owned()];
    page(status, &HtmlPage { org: None, done, heading, paragraphs, form: None, ways })
}

/// A link that is in no email.
pub(super) fn no_such_link() -> Response {
    sorry(
        StatusCode::NOT_FOUND,
        "This link does not work",
        "Part of it may be missing. Open it from the email once more, or copy all of it into the address \
         bar.",
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

/// What ended a request, for its line in the log.
#[derive(Clone)]
pub(super) struct Failed(pub(super) Arc<Parts>);

/// What ended a request whose answer does not say so, by its status; none where it succeeded.
pub(super) fn failure_of(status: StatusCode) -> Option<Failed> {
    let reason = match status {
        _ if !status.is_client_error() && !status.is_server_error() => return None,
        StatusCode::FORBIDDEN => Reason::PermissionMissing,
        StatusCode::NOT_FOUND => Reason::ResourceNotFound,
        StatusCode::METHOD_NOT_ALLOWED => Reason::MethodUnknown,
        StatusCode::PAYLOAD_TOO_LARGE => Reason::MessageTooLarge,
        StatusCode::TOO_MANY_REQUESTS => Reason::Throttled,
        StatusCode::SERVICE_UNAVAILABLE => Reason::Overloaded,
        _ if status.is_client_error() => Reason::MalformedRequest,
        _ => Reason::Internal,
    };
    Some(Failed(Arc::new(Error::from(reason).into_parts())))
}

/// The page for an error that concerns no field of a form. Its cause is logged with the request.
pub(super) fn failed(error: Error) -> Response {
    let parts = error.into_parts();
    let page = page_of(&parts);
    ended_by(page, parts)
}

/// The page, whose line in the log says that this error was the reason for it.
pub(super) fn because(page: Response, error: Error) -> Response {
    ended_by(page, error.into_parts())
}

fn ended_by(mut page: Response, parts: Parts) -> Response {
    page.extensions_mut().insert(Failed(Arc::new(parts)));
    page
}

fn page_of(parts: &Parts) -> Response {
    match parts.reason {
        Reason::TokenExpired => sorry(
            StatusCode::GONE,
            "This link has expired",
            "Links in emails are valid for a limited time. Ask the person who invited you to send another one.",
        ),
        Reason::TokenRevoked => sorry(
            StatusCode::GONE,
            "This link no longer works",
            "Each link works once, and a newer link replaces an older one. Look for a newer email, or ask the person who invited you.",
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
