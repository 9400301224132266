//! The router: all services behind their layers.

use std::sync::Arc;

use axum::middleware::from_fn_with_state;
use tonic_health::pb::health_server::{Health, HealthServer};

use super::accounts::service::Accounts;
use super::layers::request::{RequestLayer, RequestLimits};
use super::layers::{auth, grpc_web, request};
use super::orgs::service::Orgs;
use super::pb::DESCRIPTORS;
use super::pb::account_service_server::AccountServiceServer;
use super::pb::org_service_server::OrgServiceServer;
use super::pb::token_service_server::TokenServiceServer;
use super::tokens::service::Tokens;
use crate::state::State;

/// The names of the services, for health checks.
pub const SERVICES: [&str; 3] =
    ["countersign.v1.AccountService", "countersign.v1.OrgService", "countersign.v1.TokenService"];

/// All RPCs behind authentication, the request layer, which normalises every response, and
/// gRPC-Web, which browser pages need.
pub fn router<H: Health>(
    state: &Arc<State>,
    limits: RequestLimits,
    health: HealthServer<H>,
    reflection: bool,
) -> axum::Router {
    let size = limits.max_message_size;
    let mut routes = tonic::service::Routes::builder();
    routes
        .add_service(AccountServiceServer::new(Accounts(state.clone())).max_decoding_message_size(size))
        .add_service(OrgServiceServer::new(Orgs(state.clone())).max_decoding_message_size(size))
        .add_service(TokenServiceServer::new(Tokens(state.clone())).max_decoding_message_size(size))
        .add_service(health);
    if reflection {
        let describe = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                // With these, grpcurl prints the details of an error instead of their bytes.
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        };
        // Older grpcurl builds and Python's client speak only v1alpha.
        routes
            .add_service(describe().build_v1().expect("our descriptors are well-formed"))
            .add_service(describe().build_v1alpha().expect("our descriptors are well-formed"));
    }
    let boundary = Arc::new(RequestLayer::new(state.clone(), limits));
    routes
        .routes()
        .into_axum_router()
        .layer(from_fn_with_state(state.clone(), auth::authenticate))
        .layer(from_fn_with_state(boundary, request::guard))
        .layer(from_fn_with_state(state.clone(), grpc_web::translate))
}
