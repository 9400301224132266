//! The secrets of a token, as they are stored: one, or two while a rotation overlaps.
//!
//! Those of a token of kind `KEY` are no secrets: a public key stands in the place of each.

use std::sync::Arc;

use time::OffsetDateTime;

use super::public_key::PublicKey;
use crate::domain::values::ids::TokenId;
use crate::domain::values::kinds::TokenKind;
use crate::domain::values::token_string::{TokenStringKind, obfuscated};

/// What is stored of a secret instead of its plaintext, with the number of the pepper.
#[derive(Clone)]
pub struct SecretRecord {
    pub mac: [u8; 32],
    pub pepper: i32,
}

impl SecretRecord {
    /// The record as it was stored; none if its MAC has another length.
    pub fn new(mac: Vec<u8>, pepper: i32) -> Option<Self> {
        Some(Self { mac: mac.try_into().ok()?, pepper })
    }
}

/// What the holder of a secret proves.
#[derive(Clone)]
pub enum Proof {
    /// That it knows the token string with this record.
    Secret(SecretRecord),
    /// That it can sign for this key.
    Key(Arc<PublicKey>),
    /// Nothing that counts: there is a public key that no server of this deployment has stored.
    Untrusted,
}

impl From<SecretRecord> for Proof {
    fn from(record: SecretRecord) -> Self {
        Self::Secret(record)
    }
}

/// One secret of a token, with its expiry.
#[derive(Clone)]
pub struct Secret {
    /// Its number among the token's secrets, from 1; never reused.
    pub number: i32,
    /// When it expires, if before its token does: another one replaces it.
    pub expire_time: Option<OffsetDateTime>,
    pub proof: Proof,
}

impl Secret {
    /// Whether it no longer authenticates, whatever the state of its token.
    pub(crate) fn is_expired(&self, now: OffsetDateTime) -> bool {
        self.expire_time.is_some_and(|end| end <= now)
    }

    /// Whether a JWT that was made with it may still be good.
    pub(crate) fn vouches(&self, now: OffsetDateTime) -> bool {
        !self.is_expired(now) && !matches!(self.proof, Proof::Untrusted)
    }

    /// What is stored of its token string; none of a key.
    pub fn record(&self) -> Option<&SecretRecord> {
        match &self.proof {
            Proof::Secret(record) => Some(record),
            Proof::Key(_) | Proof::Untrusted => None,
        }
    }

    /// The public key in its place, if it is one that may be trusted.
    pub fn key(&self) -> Option<&Arc<PublicKey>> {
        match &self.proof {
            Proof::Key(key) => Some(key),
            Proof::Secret(_) | Proof::Untrusted => None,
        }
    }

    /// The bytes that it takes in a cache beside its own size.
    pub(crate) fn weight(&self) -> usize {
        self.key().map_or(0, |key| key.weight())
    }
}

/// How people recognise a secret: a part of its token string, or the thumbprint of a key.
pub fn shown(kind: TokenKind, id: TokenId, hint: &str) -> String {
    match TokenStringKind::of(kind) {
        Some(kind) => obfuscated(kind, id, hint),
        None => hint.to_owned(),
    }
}
