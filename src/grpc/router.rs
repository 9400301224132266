//! The router: all services behind their layers.

use std::sync::Arc;

use axum::middleware::{from_fn, from_fn_with_state};
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::HealthReporter;
use tonic_reflection::pb::{v1, v1alpha};

use super::accounts::service::Accounts;
use super::health::HealthOf;
use super::layers::request::{RequestLayer, RequestLimits};
use super::layers::{auth, bounds, grpc_web, request};
use super::orgs::service::Orgs;
use super::pb::account_service_server::AccountServiceServer;
use super::pb::org_service_server::OrgServiceServer;
use super::pb::token_service_server::TokenServiceServer;
use super::reflection::Reflection;
use super::tokens::service::Tokens;
use super::{health, reflection};
use crate::state::State;

/// The names of the services, for health checks.
pub const SERVICES: [&str; 3] =
    ["countersign.v1.AccountService", "countersign.v1.OrgService", "countersign.v1.TokenService"];

/// All RPCs behind authentication, the request layer, which normalises every response, and
/// gRPC-Web, which browser pages need.
pub fn router(
    state: &Arc<State>,
    limits: RequestLimits,
    reporter: HealthReporter,
    describes_itself: bool,
) -> axum::Router {
    let size = limits.max_message_size;
    let mut routes = tonic::service::Routes::builder();
    routes
        .add_service(AccountServiceServer::new(Accounts(state.clone())).max_decoding_message_size(size))
        .add_service(OrgServiceServer::new(Orgs(state.clone())).max_decoding_message_size(size))
        .add_service(TokenServiceServer::new(Tokens(state.clone())).max_decoding_message_size(size))
        .add_service(
            HealthServer::new(HealthOf::new(reporter)).max_decoding_message_size(health::MAX_REQUEST),
        );
    if describes_itself {
        let reflection = Reflection::new();
        let version1 = v1::server_reflection_server::ServerReflectionServer::new(reflection.clone());
        // Older grpcurl builds and Python's client speak only v1alpha.
        let version1alpha = v1alpha::server_reflection_server::ServerReflectionServer::new(reflection);
        routes
            .add_service(version1.max_decoding_message_size(reflection::MAX_REQUEST))
            .add_service(version1alpha.max_decoding_message_size(reflection::MAX_REQUEST));
    }
    let boundary = Arc::new(RequestLayer::new(state.clone(), limits));
    routes
        .routes()
        .into_axum_router()
        .layer(from_fn(bounds::check))
        .layer(from_fn_with_state(state.clone(), auth::authenticate))
        .layer(from_fn_with_state(boundary, request::guard))
        .layer(from_fn_with_state(state.clone(), grpc_web::translate))
}
