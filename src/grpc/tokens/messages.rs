//! Tokens and signing keys as protocol messages.

use time::OffsetDateTime;

use crate::db;
use crate::db::tokens::SecretInfo;
use crate::domain::signing_keys::KeyState;
use crate::domain::tokens::policy::Rules;
use crate::domain::tokens::rotation::SecretState;
use crate::domain::tokens::secrets::shown;
use crate::domain::values::ids::OrgId;
use crate::domain::values::kinds::TokenKind;
use crate::error::Result;
use crate::grpc::pb;
use crate::grpc::wire::convert;

/// The message for a token as of now, under the rules of its org.
pub fn token(token: &db::tokens::Token, rules: &Rules, now: OffsetDateTime) -> Result<pb::Token> {
    let kind = token.kind()?;
    let secrets = token.secrets().map(|secret| token_secret(token, kind, &secret, now));
    let reason = token.revoke_reason.as_deref().and_then(convert::revoke_reason);
    // The one that a rotation leaves.
    let stays = token.secrets().filter(|secret| secret.expire_time.is_none()).last();
    Ok(pb::Token {
        id: token.id().to_string(),
        org_id: OrgId::from(token.org_id).to_string(),
        account_id: token.account().to_string(),
        kind: token_kind(kind).into(),
        state: convert::token_state(token.state(rules, now)?).into(),
        display_name: token.display_name.clone().unwrap_or_default(),
        purpose: token.purpose.clone().unwrap_or_default(),
        labels: token.labels.iter().flat_map(|labels| labels.0.clone()).collect(),
        scopes: token.scopes.clone(),
        resources: token.resources.clone(),
        allowed_origins: token.allowed_origins.clone(),
        allowed_cidrs: token.allowed_cidrs.clone(),
        allowed_audiences: token.allowed_audiences.clone(),
        allowed_client_certs: token.allowed_client_certs.clone(),
        may_manage_tokens: token.may_manage_tokens,
        secrets: secrets.collect(),
        create_time: Some(convert::timestamp(token.create_time)),
        expire_time: token.expire_time.map(convert::timestamp),
        revoke_time: token.revoke_time.map(convert::timestamp),
        revoke_reason: reason.unwrap_or(pb::RevokeReason::Unspecified).into(),
        etag: token.revision.to_string(),
        public_jwk: stays.and_then(|secret| secret.public_jwk).unwrap_or_default().to_owned(),
    })
}

fn token_kind(kind: TokenKind) -> pb::TokenKind {
    match kind {
        TokenKind::Secret => pb::TokenKind::Secret,
        TokenKind::Publishable => pb::TokenKind::Publishable,
        TokenKind::Key => pb::TokenKind::Key,
        // Never returned as a token.
        TokenKind::Session | TokenKind::Federated => pb::TokenKind::Unspecified,
    }
}

fn token_secret(
    token: &db::tokens::Token,
    kind: TokenKind,
    secret: &SecretInfo<'_>,
    now: OffsetDateTime,
) -> pb::TokenSecret {
    let state = match SecretState::of(secret.expire_time, now) {
        SecretState::Active => pb::TokenSecretState::Active,
        SecretState::Retiring => pb::TokenSecretState::Retiring,
        SecretState::Expired => pb::TokenSecretState::Expired,
    };
    pb::TokenSecret {
        obfuscated: shown(kind, token.id(), secret.hint),
        state: state.into(),
        create_time: Some(convert::timestamp(secret.create_time)),
        expire_time: secret.expire_time.map(convert::timestamp),
        last_use_time: secret.last_use_time.map(convert::timestamp),
        last_use_address: secret.last_use_address.unwrap_or_default().to_owned(),
        use_count: secret.use_count,
    }
}

/// The message for a signing key.
pub fn signing_key(key: &db::keys::signing_keys::SigningKey) -> pb::SigningKey {
    let state = match key.state() {
        Some(KeyState::Next) => pb::SigningKeyState::Next,
        Some(KeyState::Active) => pb::SigningKeyState::Active,
        Some(KeyState::Retiring) => pb::SigningKeyState::Retiring,
        Some(KeyState::Revoked) => pb::SigningKeyState::Revoked,
        None => pb::SigningKeyState::Unspecified,
    };
    let reason = key.revoke_reason.as_deref().and_then(convert::revoke_reason);
    pb::SigningKey {
        kid: key.kid.clone(),
        algorithm: key.algorithm.clone(),
        state: state.into(),
        create_time: Some(convert::timestamp(key.create_time)),
        activate_time: key.activate_time.map(convert::timestamp),
        retire_time: key.retire_time.map(convert::timestamp),
        revoke_time: key.revoke_time.map(convert::timestamp),
        revoke_reason: reason.unwrap_or(pb::RevokeReason::Unspecified).into(),
    }
}
