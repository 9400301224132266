//! The plain-HTTP edge, on the same port: what verifiers and probes fetch, and the pages that the
//! links in emails lead to.

pub mod metrics;
mod pages;
mod well_known;

use std::sync::Arc;

use axum::Router;
use axum::extract::State as Shared;
use axum::routing::get;
use http::StatusCode;

use crate::state::State;

pub use pages::PageSettings;

/// The routes of the edge, on a port that takes client certificates or not. What a browser opens and does not
/// exist is a page that says so.
pub fn router(state: Arc<State>, settings: PageSettings, takes_certificates: bool) -> Router {
    let elsewhere = pages::elsewhere(state.clone(), settings.clone());
    let pages = pages::router(state.clone(), settings);
    let documents = well_known::router(state.clone(), takes_certificates);
    Router::new()
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .with_state(state)
        .merge(documents)
        .merge(pages)
        .fallback_service(elsewhere)
}

/// Liveness: the process runs.
async fn alive() -> &'static str {
    "ok\n"
}

/// Readiness: whether exchanges continue, and how far this node is behind the feed of changes.
async fn ready(Shared(state): Shared<Arc<State>>) -> (StatusCode, String) {
    let (status, said) = match state.lifecycle.readiness() {
        Ok(()) if state.feed.answers() => (StatusCode::OK, "ready".to_owned()),
        Ok(()) => (StatusCode::OK, "ready: exchanges go on, though the database does not answer".to_owned()),
        Err(cause) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {cause}")),
    };
    let heard = state.feed.staleness().as_secs_f64();
    let lag = state.feed.cursor_lag().as_secs_f64();
    (status, format!("{said}\nfeed_heard_seconds_ago {heard:.3}\nfeed_cursor_lag_seconds {lag:.3}\n"))
}
