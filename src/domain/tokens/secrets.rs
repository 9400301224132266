//! The secrets of a token, as they are stored: one, or two while a rotation overlaps.

use time::OffsetDateTime;

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

/// One secret of a token, with its expiry.
#[derive(Clone)]
pub struct Secret {
    /// Its number among the token's secrets, from 1; never reused.
    pub number: i32,
    /// When it expires, if before its token does: another one replaces it.
    pub expire_time: Option<OffsetDateTime>,
    pub record: SecretRecord,
}

impl Secret {
    /// Whether it no longer authenticates, whatever the state of its token.
    pub(crate) fn is_expired(&self, now: OffsetDateTime) -> bool {
        self.expire_time.is_some_and(|end| end <= now)
    }
}
