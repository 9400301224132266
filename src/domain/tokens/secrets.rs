//! The secrets of a token, as they are stored: it has one, or two while a rotation overlaps.

use time::OffsetDateTime;

/// What is stored of a secret instead of its plaintext, with the number of the pepper.
#[derive(Clone)]
pub struct SecretRecord {
    pub mac: Vec<u8>,
    pub pepper: i32,
}

/// One secret of a token, and until when it works.
#[derive(Clone)]
pub struct Secret {
    /// Its place among the token's secrets, from 1 on; never used again.
    pub number: i32,
    /// When it ends before its token does: another one takes its place.
    pub expire_time: Option<OffsetDateTime>,
    pub record: SecretRecord,
}

impl Secret {
    /// Whether it authenticates no more, whatever its token does.
    pub(crate) fn has_ended(&self, now: OffsetDateTime) -> bool {
        self.expire_time.is_some_and(|end| end <= now)
    }
}
