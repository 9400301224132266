//! Clients that authenticate by a key at other doors than `ExchangeToken`: by an assertion, or by a certificate.

use aws_lc_rs::rsa::KeySize;
use countersign::domain::access::presentation::Presentation;
use countersign::domain::values::client_address::ClientAddress;
use countersign::domain::values::client_certificate::ClientCertificate;
use countersign::domain::values::ids::TokenId;
use countersign::error::{Error, Reason};
use countersign::grpc::pb;
use countersign::state::principals::Authenticated;

use super::keys::World;
use crate::harness::{Signer, by_id};

#[tokio::test]
async fn a_client_authenticates_by_assertion_or_certificate() {
    let world = World::new().await;
    let (authenticator, now) = (&world.server.state.authenticator, world.server.state.clock.now());
    let id = TokenId::parse(&world.token.id).unwrap();
    let from = ClientAddress::UNKNOWN;
    let anywhere = Presentation::default();
    let reason = |found: Result<Authenticated, Error>| found.map(drop).unwrap_err().reason();
    let by_assertion = async |text: &str| authenticator.client_by_assertion(text, from, &anywhere, now).await;
    let assertion = world.assertion();
    let found = by_assertion(&assertion).await.unwrap();
    assert_eq!((found.credential.credential_id, found.secret), (id.into(), Some(1)));
    assert_eq!(reason(by_assertion(&assertion).await), Reason::TokenInvalid);
    assert_eq!(reason(by_assertion("a.b.c").await), Reason::TokenInvalid);

    let by_key = async |id: TokenId, spki: [u8; 32]| {
        let certificate = ClientCertificate { thumbprint: [1; 32].into(), public_key: spki.into() };
        authenticator.client_by_certificate(id, &certificate, from, &anywhere, now).await
    };
    let found = by_key(id, world.signer.spki()).await.unwrap();
    assert_eq!((found.credential.credential_id, found.secret), (id.into(), Some(1)));
    assert_eq!(reason(by_key(id, Signer::p256().spki()).await), Reason::TokenInvalid);
    assert_eq!(reason(by_key(TokenId::from_u128(1), world.signer.spki()).await), Reason::TokenInvalid);
    // While a rotation overlaps, either.
    let (p256, rsa) = (Signer::p256(), Signer::rsa(KeySize::Rsa2048, "RS256").await);
    world.rotate(&p256, Some(60)).await.unwrap();
    assert_eq!(by_key(id, world.signer.spki()).await.unwrap().secret, Some(1));
    assert_eq!(by_key(id, p256.spki()).await.unwrap().secret, Some(2));
    world.rotate(&rsa, Some(0)).await.unwrap();
    assert_eq!(by_key(id, rsa.spki()).await.unwrap().secret, Some(3));
    assert_eq!(reason(by_key(id, p256.spki()).await), Reason::TokenExpired);
    // A restriction of the token holds, and the true reason is said once the key matched.
    let request = pb::UpdateTokenRequest {
        token: Some(pb::Token {
            id: world.token.id.clone(),
            allowed_cidrs: vec!["192.0.2.0/24".into()],
            ..Default::default()
        }),
        ..Default::default()
    };
    world.org.owner.tokens().update_token(request).await.unwrap();
    assert_eq!(reason(by_key(id, rsa.spki()).await), Reason::AddressNotAllowed);
    let assertion = rsa.assertion(&world.server, &world.token.id);
    assert_eq!(reason(by_assertion(&assertion).await), Reason::AddressNotAllowed);
    let there = Presentation { address: "192.0.2.1".parse().ok(), ..Presentation::default() };
    // It was not spent by that.
    authenticator.client_by_assertion(&assertion, from, &there, now).await.unwrap();
    world.server.operator.tokens().revoke_token(by_id(&world.org.id, &world.token.id)).await.unwrap();
    assert_eq!(reason(by_key(id, rsa.spki()).await), Reason::TokenRevoked);
}
