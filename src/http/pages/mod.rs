//! The pages that the links in emails lead to, for operators that have none of their own.
//!
//! They work without JavaScript and set no cookie. So another site cannot misuse a visitor's
//! browser: a client that submits a form must have the code, and a client that has the code needs
//! no visitor. That is why there is no token against forged requests; a form of another site is
//! refused all the same. Fetching a page does not use a code: email scanners fetch links.

mod answer;
mod forgot_password;
mod form;
mod html;
mod invitation;
mod look;
mod password;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State as Shared};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY};
use http::{HeaderValue, StatusCode, header};
use tracing::Instrument as _;

use crate::client_addr::TrustedProxies;
use crate::config::{Appearance, WebUrl};
use crate::connections::{Connection, Room};
use crate::domain::values::web_origin::WebOrigin;
use crate::error::Reason;
use crate::flows::access_log::{AccessLog, Subject};
use crate::flows::request::{EntryPoint, RequestUnderWay, logged_path, name_response};
use crate::state::State;
use crate::telemetry::spans;
use answer::{Failed, because, busy, failure_of, no_such_link, page, sorry, sorry_with_way};
use html::{Document, HtmlPage, Ways};
use look::Look;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The headers of every answer: store no copy, send no referrer to other sites, load nothing,
/// allow no frame.
const HEADERS: [(HeaderName, &str); 6] = [
    (CONTENT_TYPE, "text/html; charset=utf-8"),
    (CACHE_CONTROL, "no-store"),
    (REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// What the pages need beside the state.
#[derive(Clone)]
pub struct PageSettings {
    pub trusted_proxies: Arc<TrustedProxies>,
    /// The longest that a request may take.
    pub timeout: Duration,
    /// The places of requests.
    pub places: Arc<Room>,
    /// The origins of the pages: forms come from there.
    pub own_origins: Vec<WebOrigin>,
    access_log: Arc<AccessLog>,
    look: Arc<Look>,
}

impl PageSettings {
    /// The settings of a server whose pages are reached at these URLs, with so many requests at once.
    pub fn new(
        trusted_proxies: Arc<TrustedProxies>,
        timeout: Duration,
        places: usize,
        urls: [&WebUrl; 2],
        appearance: Appearance,
        access_log: Arc<AccessLog>,
    ) -> Self {
        let origin = |url: &WebUrl| {
            let mut parts = url.as_str().splitn(4, '/');
            let (scheme, host) = (parts.next()?, parts.nth(1)?);
            WebOrigin::parse(&format!("{scheme}//{host}")).ok()
        };
        let own_origins = urls.into_iter().filter_map(origin).collect();
        let (places, look) = (Room::new(places, usize::MAX), Arc::new(Look::new(appearance)));
        Self { trusted_proxies, timeout, places, own_origins, access_log, look }
    }
}

/// The routes of the pages, without that for all other paths.
pub(super) fn router(state: Arc<State>, settings: PageSettings) -> Router {
    let nowhere = any(|| async { no_such_link() });
    let look = settings.look.clone();
    let icon = get(move || async move { look.icon() });
    let look = settings.look.clone();
    let logo =
        get(move || async move { look.logo().unwrap_or_else(|| StatusCode::NOT_FOUND.into_response()) });
    Router::new()
        .route("/", get(home).fallback(not_here))
        .route("/set-password", get(password::show).post(password::set).fallback(not_here))
        .route("/accept-invitation", get(invitation::show).post(invitation::accept).fallback(not_here))
        .route(
            "/forgot-password",
            get(forgot_password::show).post(forgot_password::request).fallback(not_here),
        )
        // Almost the address of a page: it may hold a code, which the answer protects as a page
        // does.
        .route("/set-password/", nowhere.clone())
        .route("/accept-invitation/", nowhere)
        .layer(from_fn_with_state((state.clone(), Arc::new(settings)), guard))
        .route("/favicon", icon.clone())
        .route("/favicon.ico", icon)
        .route("/logo", logo)
        .with_state(state)
}

/// The page for every path that does not exist.
pub(super) fn elsewhere(state: Arc<State>, settings: PageSettings) -> Router {
    Router::new()
        .fallback(not_found)
        .layer(from_fn_with_state((state.clone(), Arc::new(settings)), guard))
        .with_state(state)
}

async fn home() -> Response {
    let paragraphs =
        vec!["Accounts are created by invitation: open the link in the email that you got.".to_owned()];
    let heading = "Sign-in service";
    page(
        StatusCode::OK,
        &HtmlPage { org: None, done: false, heading, paragraphs, form: None, ways: Ways::BOTH },
    )
}

async fn not_found() -> Response {
    let mut response = sorry_with_way(
        StatusCode::NOT_FOUND,
        "Page not found",
        "There is nothing at this address. If you followed a link in an email, copy all of it into the address bar.",
        Ways::SIGN_IN,
    );
    response.extensions_mut().insert(Elsewhere);
    response
}

/// Marks a page that is at none of the addresses of the pages.
#[derive(Clone)]
struct Elsewhere;

/// The answer to a method that the page does not support.
async fn not_here() -> Response {
    sorry(StatusCode::METHOD_NOT_ALLOWED, "This cannot be done here", "Open the link from the email again.")
}

/// Middleware of every page: assigns a request id, bounds its time and their number, refuses forms of
/// other sites, writes the document, sets the headers, and logs the request without its query, which may
/// hold a code.
async fn guard(
    Shared((state, settings)): Shared<(Arc<State>, Arc<PageSettings>)>,
    mut request: Request,
    next: Next,
) -> Response {
    let RequestUnderWay { mut context, began } = RequestUnderWay::begin(
        logged_path(request.uri().path()),
        request.headers(),
        request.extensions().get::<Connection>(),
        EntryPoint::Page,
        &settings.trusted_proxies,
        &state.clock,
    );
    let (span, trace) = spans::of_call(&context.method, context.trace);
    context.trace = trace;
    let context = Arc::new(context);
    request.extensions_mut().insert(context.clone());
    let method = request.method().clone();
    let mut response = if method == http::Method::POST && is_of_another_site(&request, &settings.own_origins)
    {
        sorry(
            StatusCode::FORBIDDEN,
            "This form came from another site",
            "Open the link from the email again.",
        )
    } else {
        // A form that is sent slowly gives way to others when there are too many.
        let (place, gave_way) = settings.places.enter(context.address.shown(), 0);
        let place = Arc::new(place);
        // Once it is read, what it asks for is completed (`form`).
        request.extensions_mut().insert(place.clone());
        let answered = tokio::time::timeout(settings.timeout, next.run(request).instrument(span.clone()));
        let answered = tokio::select! {
            answered = answered => answered.map_err(|_| Reason::DeadlineExceeded),
            _ = gave_way => Err(Reason::Overloaded),
        };
        answered.unwrap_or_else(|reason| because(busy(StatusCode::SERVICE_UNAVAILABLE, None), reason.into()))
    };
    if let Some(document) = response.extensions_mut().remove::<Document>() {
        let elsewhere = response.extensions_mut().remove::<Elsewhere>().is_some();
        *response.body_mut() = document.render(&settings.look, elsewhere).into();
    }
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(CONTENT_SECURITY_POLICY, settings.look.policy.clone());
    name_response(&context, &mut response);
    let took = began.elapsed();
    let status = response.status();
    state.metrics.pages.record(status.as_u16(), took);
    let failed = response.extensions_mut().remove::<Failed>().or_else(|| failure_of(status));
    let ended = failed.as_ref().map(|Failed(parts)| parts.reason);
    spans::end_call(&span, ended.map_or("OK", |reason| reason.code().name()), ended.map(Reason::name));
    let failure = failed.as_ref().map(|Failed(parts)| parts.as_ref());
    let subject = Subject::Page { status: status.as_u16(), http_method: logged_method(&method) };
    settings.access_log.record(subject, &context, failure, Some(took));
    response
}

/// The method as it is logged: a client may send any word.
fn logged_method(method: &http::Method) -> &'static str {
    match *method {
        http::Method::GET => "GET",
        http::Method::HEAD => "HEAD",
        http::Method::POST => "POST",
        _ => "other",
    }
}

/// Whether a browser says that a form was sent from another site. For a page that sends no
/// referrer, as these do, it sends `null`, which another site can send, too: then `Sec-Fetch-Site`
/// decides, where it is present.
fn is_of_another_site(request: &Request, own: &[WebOrigin]) -> bool {
    let values = |name| request.headers().get_all(name).iter().map(|value: &HeaderValue| value.to_str().ok());
    let other_site = values(SEC_FETCH_SITE).any(|site| !matches!(site, Some("same-origin" | "none")));
    let other_origin = values(header::ORIGIN).any(|origin| match origin {
        Some("null") => false,
        origin => {
            !origin.and_then(|text| WebOrigin::parse(text).ok()).is_some_and(|origin| own.contains(&origin))
        }
    });
    other_site || other_origin
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use crate::config::AccessLogLevel;

    use super::*;

    #[test]
    fn forms_of_other_sites() {
        let url = |text: &str| text.parse::<WebUrl>().unwrap();
        let (issuer, pages) = (url("https://id.example/auth"), url("https://sign-up.example:8443"));
        let settings = PageSettings::new(
            Arc::new(TrustedProxies::new(Vec::new())),
            Duration::from_secs(1),
            1,
            [&issuer, &pages],
            Appearance::default(),
            Arc::new(AccessLog::new(AccessLogLevel::Errors, Arc::from([]))),
        );
        for (headers, refused) in [
            (&[][..], false),
            (&[("origin", "https://id.example")], false),
            (&[("origin", "https://sign-up.example:8443")], false),
            (&[("origin", "https://sign-up.example")], true),
            (&[("origin", "http://id.example")], true),
            (&[("origin", "https://evil.example")], true),
            (&[("origin", "https://id.example"), ("origin", "https://evil.example")], true),
            (&[("origin", "null")], false),
            (&[("origin", "null"), ("sec-fetch-site", "same-origin")], false),
            (&[("origin", "null"), ("sec-fetch-site", "none")], false),
            (&[("origin", "null"), ("sec-fetch-site", "cross-site")], true),
            (&[("origin", "null"), ("sec-fetch-site", "same-site")], true),
            (&[("sec-fetch-site", "cross-site")], true),
            (&[("origin", "rubbish")], true),
        ] {
            let mut request = Request::new(Body::empty());
            for (name, value) in headers {
                request.headers_mut().append(*name, HeaderValue::from_static(value));
            }
            assert_eq!(is_of_another_site(&request, &settings.own_origins), refused, "{headers:?}");
        }
    }
}
