//! The plain-HTTP edge, on the same port: what verifiers and probes fetch.

mod well_known;

use std::sync::Arc;

use axum::Router;
use axum::extract::State as Shared;
use axum::routing::get;
use http::StatusCode;

use crate::state::State;

/// The routes of the edge.
pub fn router(state: Arc<State>) -> Router {
    Router::new()
        .route("/.well-known/jwks.json", get(well_known::jwks))
        .route("/.well-known/openid-configuration", get(well_known::openid_configuration))
        .route("/.well-known/oauth-authorization-server", get(well_known::authorization_server))
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .with_state(state)
}

/// The process lives.
async fn alive() -> &'static str {
    "ok\n"
}

/// The process can do its work: exchanges go on.
async fn ready(Shared(state): Shared<Arc<State>>) -> (StatusCode, &'static str) {
    if state.is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready: the database does not answer, or the server stops\n")
    }
}
