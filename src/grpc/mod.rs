//! The gRPC transport. Messages of the protocol are visible here and in tests, nowhere else.

pub mod access;
mod account_service;
mod accounts;
mod arrivals;
mod auth;
mod boundary;
mod convert;
mod once;
mod org_service;
mod orgs;
mod paging;
pub mod status;
mod token_service;
mod tokens;
mod update;
mod web;

use std::sync::Arc;

use axum::middleware::from_fn_with_state;
use tonic_health::pb::health_server::{Health, HealthServer};

pub use account_service::Accounts;
pub use boundary::{Boundary, Limits};
pub use org_service::Orgs;
pub use token_service::Tokens;

use crate::state::State;

/// Everything that reflection shows: our protos with their comments, and the health service.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The generated code.
pub mod pb {
    #![allow(clippy::all, clippy::pedantic, rustdoc::all, reason = "generated")]
    tonic::include_proto!("countersign.v1");
    include!(concat!(env!("OUT_DIR"), "/redacted.rs"));
}

use pb::account_service_server::AccountServiceServer;
use pb::org_service_server::OrgServiceServer;
use pb::token_service_server::TokenServiceServer;

/// The names of the services, for health.
pub const SERVICES: [&str; 3] =
    ["countersign.v1.AccountService", "countersign.v1.OrgService", "countersign.v1.TokenService"];

/// All RPCs behind authentication, the boundary that gives every answer its form, and
/// what pages in browsers need.
pub fn router<H: Health>(
    state: &Arc<State>,
    limits: Limits,
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
                // With these, grpcurl shows the details of an error instead of their bytes.
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        };
        // Older grpcurl builds and Python's client speak v1alpha alone.
        routes
            .add_service(describe().build_v1().expect("our descriptors are well-formed"))
            .add_service(describe().build_v1alpha().expect("our descriptors are well-formed"));
    }
    let boundary = Arc::new(Boundary::new(state.clone(), limits));
    routes
        .routes()
        .into_axum_router()
        .layer(from_fn_with_state(state.clone(), auth::authenticate))
        .layer(from_fn_with_state(boundary, boundary::guard))
        .layer(from_fn_with_state(state.clone(), web::translate))
}

/// Implements a service: a table of contents, a line for each RPC.
macro_rules! service {
    ($(#[$doc:meta])* $name:ident: $service:path { $($rpc:ident($request:ident) -> $response:ident = $handler:path;)* }) => {
        $(#[$doc])*
        pub struct $name(pub std::sync::Arc<$crate::state::State>);

        #[tonic::async_trait]
        impl $service for $name {
            $(async fn $rpc(
                &self,
                request: tonic::Request<$crate::grpc::pb::$request>,
            ) -> Result<tonic::Response<$crate::grpc::pb::$response>, tonic::Status> {
                let (_, mut extensions, message) = request.into_parts();
                let call = $crate::grpc::auth::Call::take(&mut extensions);
                match $handler(&self.0, &call, message).await {
                    Ok(response) => Ok(tonic::Response::new(response)),
                    Err(error) => Err($crate::grpc::status::answer(error, &call.origin)),
                }
            })*
        }
    };
}
pub(crate) use service;
