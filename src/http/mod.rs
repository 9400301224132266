//! The plain-HTTP edge, on the same port: what verifiers and probes fetch, and the pages that the
//! links in emails lead to.

mod pages;
mod well_known;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State as Shared};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use tower::ServiceExt as _;

use crate::state::State;

pub use pages::PageSettings;

/// The RPCs, and beside them the routes of the edge. What a browser opens and does not exist is a page
/// that says so: RPCs are not fetched.
pub fn beside(rpcs: Router, state: &Arc<State>, pages: PageSettings) -> Router {
    let edge = router(state.clone(), pages.clone());
    let fetched = edge.clone().fallback_service(pages::elsewhere(state.clone(), pages));
    rpcs.merge(edge).layer(from_fn_with_state(fetched, fetch))
}

/// Answers what is fetched, and passes everything else on.
async fn fetch(Shared(fetched): Shared<Router>, request: Request, next: Next) -> Response {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let is_rpc = kind.is_some_and(|kind| kind.starts_with("application/grpc"));
    if matches!(*request.method(), Method::GET | Method::HEAD) && !is_rpc {
        let Ok(response) = fetched.oneshot(request).await;
        response
    } else {
        next.run(request).await
    }
}

/// The routes of the edge.
fn router(state: Arc<State>, pages: PageSettings) -> Router {
    let pages = pages::router(state.clone(), pages);
    Router::new()
        .route("/.well-known/jwks.json", get(well_known::jwks))
        .route("/.well-known/openid-configuration", get(well_known::openid_configuration))
        .route("/.well-known/oauth-authorization-server", get(well_known::authorization_server))
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .with_state(state)
        .merge(pages)
}

/// Liveness: the process runs.
async fn alive() -> &'static str {
    "ok\n"
}

/// Readiness: whether exchanges continue, and how far this node is behind the feed of changes.
async fn ready(Shared(state): Shared<Arc<State>>) -> (StatusCode, String) {
    let (status, said) = if state.lifecycle.is_ready() {
        (StatusCode::OK, "ready")
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "not ready: the database does not answer, or the server is stopping",
        )
    };
    let heard = state.feed.staleness().as_secs_f64();
    let lag = state.feed.cursor_lag().as_secs_f64();
    (status, format!("{said}\nfeed_heard_seconds_ago {heard:.3}\nfeed_cursor_lag_seconds {lag:.3}\n"))
}
