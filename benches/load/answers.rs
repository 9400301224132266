//! The requests, and what the answers of the server look like.

use anyhow::{Context as _, Result, ensure};
use countersign::grpc::pb;
use prost::Message as _;

use crate::common::{AUDIENCE, Client, Served, progress};
use crate::tenant::Tenant;

pub fn exchange_of(token: &str) -> pb::ExchangeTokenRequest {
    let audiences = vec![AUDIENCE.to_owned()];
    pb::ExchangeTokenRequest { subject_token: Some(token.to_owned()), audiences, ..Default::default() }
}

pub fn introspection_of(token: &str) -> pb::IntrospectTokenRequest {
    pb::IntrospectTokenRequest { token_text: token.to_owned(), ..Default::default() }
}

/// What the answers of the server look like.
pub struct Answers {
    /// The bytes of the answer to an exchange.
    pub exchange: usize,
    /// The same for an introspection.
    pub introspection: usize,
    /// How many bytes of a JWT are signed.
    pub signed: usize,
}

/// Checks that the responses are correct.
pub async fn check(tenant: &Tenant, server: &Served, token: &str) -> Result<Answers> {
    let client: Client = server.client(&tenant.verifier).await?;
    let exchanged = client.tokens().exchange_token(exchange_of(token)).await?.into_inner();
    let introspected = client.tokens().introspect_token(introspection_of(token)).await?;
    let introspected = introspected.into_inner();
    ensure!(introspected.active, "one of our tokens is not active");
    let (signed, _) = exchanged.access_token.rsplit_once('.').context("the access token is not a JWT")?;
    let answers = Answers {
        exchange: exchanged.encoded_len(),
        introspection: introspected.encoded_len(),
        signed: signed.len(),
    };
    progress(format_args!(
        "an exchange is answered with {} bytes, an introspection with {}; a JWT has {}",
        answers.exchange,
        answers.introspection,
        exchanged.access_token.len()
    ));
    Ok(answers)
}
