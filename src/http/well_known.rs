//! What a verifier reads: the key set (RFC 7517) and the documents that lead to it (OpenID Connect
//! Discovery 1.0, RFC 8414). They name only what exists.

use std::sync::Arc;

use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE};
use serde_json::{Value, json};

use crate::domain::signing_keys::JWKS_MAX_AGE;
use crate::state::State;

pub(super) async fn jwks(Shared(state): Shared<Arc<State>>) -> Response {
    document("application/jwk-set+json", state.keyring.signer.jwks_json())
}

pub(super) async fn openid_configuration(Shared(state): Shared<Arc<State>>) -> Response {
    let mut metadata = metadata(state.keyring.signer.issuer());
    metadata["subject_types_supported"] = json!(["public"]);
    metadata["id_token_signing_alg_values_supported"] = json!(state.keyring.signer.algorithms());
    document("application/json", metadata.to_string())
}

pub(super) async fn authorization_server(Shared(state): Shared<Arc<State>>) -> Response {
    document("application/json", metadata(state.keyring.signer.issuer()).to_string())
}

/// There is no authorization endpoint: tokens are exchanged over gRPC, which these documents have
/// no field for.
fn metadata(issuer: &str) -> Value {
    json!({
        "issuer": issuer,
        "jwks_uri": format!("{issuer}/.well-known/jwks.json"),
        "response_types_supported": [],
        "grant_types_supported": [],
    })
}

/// Any page may read it: it is the same for all clients.
fn document(content_type: &'static str, body: String) -> Response {
    let max_age = format!("public, max-age={JWKS_MAX_AGE}");
    let headers = [
        (CONTENT_TYPE, content_type.to_owned()),
        (CACHE_CONTROL, max_age),
        (ACCESS_CONTROL_ALLOW_ORIGIN, "*".to_owned()),
    ];
    (headers, body).into_response()
}
