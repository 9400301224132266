//! `GetJsonWebKeySet`.

use jsonwebtoken::jwk::{AlgorithmParameters, Jwk};

use crate::domain::signing_keys::JWKS_MAX_AGE;
use crate::error::{Error, Result};
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::state::State;
use crate::state::keyring::Keyring;

pub async fn get_json_web_key_set(
    state: &State,
    _: &Call,
    _: pb::GetJsonWebKeySetRequest,
) -> Result<pb::GetJsonWebKeySetResponse> {
    let pb::KeySet { keys, max_age } = key_set(&state.keyring)?;
    Ok(pb::GetJsonWebKeySetResponse { keys, max_age })
}

/// The message for the published keys.
pub(super) fn key_set(keyring: &Keyring) -> Result<pb::KeySet> {
    Ok(pb::KeySet {
        keys: keyring.signer.jwks().iter().map(key).collect::<Result<_>>()?,
        max_age: Some(prost_types::Duration { seconds: JWKS_MAX_AGE.into(), nanos: 0 }),
    })
}

fn key(jwk: &Jwk) -> Result<pb::JsonWebKey> {
    let common = pb::JsonWebKey {
        kid: jwk.common.key_id.clone().unwrap_or_default(),
        r#use: "sig".to_owned(),
        alg: jwk.common.key_algorithm.map(|algorithm| algorithm.to_string()).unwrap_or_default(),
        ..Default::default()
    };
    Ok(match &jwk.algorithm {
        AlgorithmParameters::OctetKeyPair(key) => {
            pb::JsonWebKey { kty: "OKP".to_owned(), crv: "Ed25519".to_owned(), x: key.x.clone(), ..common }
        }
        AlgorithmParameters::EllipticCurve(key) => pb::JsonWebKey {
            kty: "EC".to_owned(),
            crv: "P-256".to_owned(),
            x: key.x.clone(),
            y: key.y.clone(),
            ..common
        },
        AlgorithmParameters::RSA(key) => {
            pb::JsonWebKey { kty: "RSA".to_owned(), n: key.n.clone(), e: key.e.clone(), ..common }
        }
        _ => return Err(Error::internal("a published key is of an unknown kind")),
    })
}
