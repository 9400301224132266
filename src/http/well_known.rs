//! What clients and verifiers read: the key set (RFC 7517), the documents that lead to it and to the
//! endpoints of OAuth 2.0 (OpenID Connect Discovery 1.0, RFC 8414), and what this API takes as a protected
//! resource (RFC 9728). They name only what exists.

use std::sync::Arc;

use axum::Router;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use http::StatusCode;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, CACHE_CONTROL, CONTENT_TYPE,
};
use serde_json::{Value, json};

use crate::domain::oauth::{self, ClientAuthentication, Endpoint, Grant};
use crate::domain::signing_keys::JWKS_MAX_AGE;
use crate::domain::tokens::public_key::KeyAlgorithm;
use crate::domain::values::permissions::Permission;
use crate::state::State;

/// How long a browser may cache a preflight response, in seconds.
const PREFLIGHT_MAX_AGE: &str = "86400";

/// The documents, at every address that a client may derive from the issuer. Whether the port takes client
/// certificates decides what works with them.
pub(super) fn router(state: Arc<State>, takes_certificates: bool) -> Router {
    let documents: [(&str, MethodRouter<Arc<State>>); 4] = [
        ("jwks.json", get(jwks)),
        ("openid-configuration", get(move |state| openid_configuration(state, takes_certificates))),
        ("oauth-authorization-server", get(move |state| authorization_server(state, takes_certificates))),
        ("oauth-protected-resource", get(move |state| protected_resource(state, takes_certificates))),
    ];
    let mut router = Router::new();
    for (name, document) in documents {
        for address in addresses(state.keyring.signer.issuer(), name) {
            router = router.route(&address, document.clone().options(preflight));
        }
    }
    router.with_state(state)
}

/// The paths of a document. For an issuer with a path: the path before it (OpenID Connect Discovery
/// 1.0, section 4.1), the path behind it (RFC 8414, section 3.1), and without the path, for a proxy
/// that removes it.
fn addresses(issuer: &str, document: &str) -> Vec<String> {
    let own = format!("/.well-known/{document}");
    match oauth::path_of(issuer) {
        "" => vec![own],
        path => vec![format!("{path}{own}"), format!("{own}{path}"), own],
    }
}

/// Any page may fetch the documents, which are the same for all clients.
async fn preflight() -> Response {
    let headers = [
        (ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD"),
        (ACCESS_CONTROL_ALLOW_HEADERS, "*"),
        (ACCESS_CONTROL_MAX_AGE, PREFLIGHT_MAX_AGE),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

async fn jwks(Shared(state): Shared<Arc<State>>) -> Response {
    document("application/jwk-set+json", state.keyring.signer.jwks_json())
}

async fn openid_configuration(Shared(state): Shared<Arc<State>>, takes_certificates: bool) -> Response {
    let mut metadata = metadata(state.keyring.signer.issuer(), takes_certificates);
    metadata["subject_types_supported"] = json!(["public"]);
    metadata["id_token_signing_alg_values_supported"] = json!(state.keyring.signer.algorithms());
    document("application/json", metadata.to_string())
}

async fn authorization_server(Shared(state): Shared<Arc<State>>, takes_certificates: bool) -> Response {
    document("application/json", metadata(state.keyring.signer.issuer(), takes_certificates).to_string())
}

/// There is no authorization endpoint, and so no response type: a list that would be empty is left out
/// (RFC 8414, section 3.2).
fn metadata(issuer: &str, takes_certificates: bool) -> Value {
    let address = |endpoint: Endpoint| format!("{issuer}{}", endpoint.path());
    let works =
        |method: &ClientAuthentication| takes_certificates || *method != ClientAuthentication::SelfSignedTls;
    let methods = ClientAuthentication::ALL.into_iter().filter(works).map(ClientAuthentication::name);
    let methods_and = |other: &'static str| methods.clone().chain([other]).collect::<Vec<_>>();
    let algorithms = KeyAlgorithm::ALL.map(KeyAlgorithm::name);
    json!({
        "issuer": issuer,
        "jwks_uri": format!("{issuer}/.well-known/jwks.json"),
        "token_endpoint": address(Endpoint::Token),
        "token_endpoint_auth_methods_supported": methods_and(oauth::NONE),
        "token_endpoint_auth_signing_alg_values_supported": algorithms,
        "grant_types_supported": Grant::ALL.map(Grant::name),
        "introspection_endpoint": address(Endpoint::Introspect),
        "introspection_endpoint_auth_methods_supported": methods_and(oauth::BEARER),
        "introspection_endpoint_auth_signing_alg_values_supported": algorithms,
        "revocation_endpoint": address(Endpoint::Revoke),
        "revocation_endpoint_auth_methods_supported": methods_and(oauth::NONE),
        "revocation_endpoint_auth_signing_alg_values_supported": algorithms,
        "tls_client_certificate_bound_access_tokens": takes_certificates,
    })
}

/// This API, as a protected resource (RFC 9728): a JWT of this issuer for itself, or a service token.
async fn protected_resource(Shared(state): Shared<Arc<State>>, takes_certificates: bool) -> Response {
    let issuer = state.keyring.signer.issuer();
    let metadata = json!({
        "resource": issuer,
        "authorization_servers": [issuer],
        "jwks_uri": format!("{issuer}/.well-known/jwks.json"),
        "bearer_methods_supported": ["header"],
        "scopes_supported": Permission::OWN.iter().map(Permission::as_str).collect::<Vec<_>>(),
        "tls_client_certificate_bound_access_tokens": takes_certificates,
    });
    document("application/json", metadata.to_string())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_with_a_path_is_found_at_both_forms() {
        let found = |issuer| addresses(issuer, "openid-configuration");
        for issuer in ["https://id.example", "https://id.example/"] {
            assert_eq!(found(issuer), ["/.well-known/openid-configuration"]);
        }
        for issuer in ["https://id.example/a/b", "https://id.example/a/b/"] {
            assert_eq!(
                found(issuer),
                [
                    "/a/b/.well-known/openid-configuration",
                    "/.well-known/openid-configuration/a/b",
                    "/.well-known/openid-configuration"
                ]
            );
        }
    }
}
