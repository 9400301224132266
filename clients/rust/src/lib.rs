//! Client library of Countersign, an identity service for workloads.
//!
//! - [`TokenSource`] exchanges a credential for short-lived JWTs and keeps them fresh; [`TokenLayer`] and
//!   [`TokenInterceptor`] put them on the calls of gRPC and HTTP clients.
//! - [`Verifier`] verifies JWTs without asking the server, and hears within a moment when one ends.
//! - [`GrpcGuard`] and [`HttpGuard`] are tower layers that authenticate and authorise the calls of a service.
//! - [`Client`] calls Countersign's own API, with [retries](Client::call), [pages](Client::list) and
//!   [creates that are made once](Client::create).
//! - [`Error`] has the reason of every refusal.
//!
//! It runs within a Tokio runtime, and works in the background of it.
#![forbid(unsafe_code)]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod api;
mod bearer;
mod call_credentials;
mod clock;
mod connect;
mod credential;
mod error;
mod guard;
mod random;
mod sign;
mod thumbprint;
mod token_source;
mod verifier;

/// The messages and stubs of the API, generated from its protos.
#[allow(missing_docs, unreachable_pub, clippy::all, rustdoc::all, reason = "generated")]
#[path = "generated.rs"]
pub mod pb;

pub use api::{Authenticated, Client, Create, List, Pages, retry};
pub use call_credentials::{TokenInterceptor, TokenLayer, TokenService};
pub use clock::{Clock, ManualClock};
pub use connect::Endpoint;
pub use credential::Credential;
pub use error::{Error, FieldViolation, Precondition, Result, reason};
pub use guard::{
    Access, GrpcGuard, GrpcGuardBuilder, GrpcGuarded, HttpGuard, HttpGuardBuilder, HttpGuarded,
    ProtectedResource, path_resource,
};
pub use thumbprint::Thumbprint;
pub use token_source::{
    AccessToken, TokenRequest, TokenSource, TokenSourceBuilder, TokenSourceStatistics, Transport,
};
pub use verifier::{AuthorizationDetail, Claims, Orgs, Verifier, VerifierBuilder, VerifierStatus};

#[cfg(test)]
mod tests {
    use super::pb;

    #[test]
    fn messages_do_not_show_their_secrets() {
        let secret = "hunter2";
        let target = Some(pb::revoke_token_request::Target::TokenText(secret.into()));
        let shown = [
            format!("{:?}", pb::CreateTokenResponse { secret: secret.into(), ..Default::default() }),
            format!(
                "{:?}",
                pb::ExchangeTokenRequest { subject_token: Some(secret.into()), ..Default::default() }
            ),
            format!("{:?}", pb::ExchangeTokenResponse { access_token: secret.into(), ..Default::default() }),
            format!("{:?}", pb::RevokeTokenRequest { target, ..Default::default() }),
        ];
        for text in shown {
            assert!(!text.contains(secret) && text.contains("redacted"), "{text}");
        }
    }
}
