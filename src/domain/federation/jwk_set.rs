//! The keys of an issuer: a JWK set (RFC 7517, section 5) or a SPIFFE bundle, read, checked, and held ready to
//! verify.
//!
//! A set is made for all clients of the issuer, so that a key which is of no use here is left out, and is no
//! error of the set.

use std::fmt;

use serde_json::Value;

use super::algorithm::Algorithm;
use super::jwk::{IssuerKey, KeyUse, Unusable, read_key};
use crate::domain::values::client_certificate::Sha256Digest;
use crate::domain::values::strict_json;

/// The longest set, in bytes.
pub const MAX_SET: usize = 256 << 10;
/// The most keys of a set, those that are left out among them.
pub const MAX_KEYS: usize = 100;

/// Why a text is no set of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadKeySet {
    TooLarge,
    /// No JSON object with an array of objects as `keys`, or one that names a member twice.
    Malformed,
    TooManyKeys,
}

impl fmt::Display for BadKeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "must be at most 256 KiB",
            Self::Malformed => {
                "must be a JSON object with an array of objects as keys, that names no member twice"
            }
            Self::TooManyKeys => "must have at most 100 keys",
        })
    }
}

impl std::error::Error for BadKeySet {}

/// The keys of an issuer that may have signed its JWTs.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Vec<IssuerKey>,
    left_out: Vec<Unusable>,
    /// How often the set is to be fetched, in seconds, where a SPIFFE bundle says so.
    refresh_hint: Option<u64>,
}

/// Which key of a set a JWT names.
#[derive(Clone, Copy, Debug)]
pub enum Named<'a> {
    Key(&'a IssuerKey),
    /// No key has this `kid`: the issuer may have made it since the set was fetched.
    Unknown,
    /// The key with this `kid`, or the only one, is for something else; or none is named and there are several.
    Unfit,
}

impl KeySet {
    /// Reads a set, of which the keys for these algorithms are of use.
    ///
    /// # Errors
    /// When it is too large, has too many keys, or is no set. A set without a key that is of use is none: its
    /// issuer may have withdrawn them all.
    pub fn parse(text: &[u8], key_use: KeyUse, algorithms: &[Algorithm]) -> Result<Self, BadKeySet> {
        if text.len() > MAX_SET {
            return Err(BadKeySet::TooLarge);
        }
        let members = strict_json::object(text).map_err(|_| BadKeySet::Malformed)?;
        let Some(Value::Array(listed)) = members.get("keys") else { return Err(BadKeySet::Malformed) };
        if listed.len() > MAX_KEYS {
            return Err(BadKeySet::TooManyKeys);
        }
        let mut set = Self::default();
        for jwk in listed {
            let Value::Object(jwk) = jwk else { return Err(BadKeySet::Malformed) };
            match read_key(jwk, key_use, algorithms) {
                Ok(key) => set.keys.push(key),
                Err(why) => set.left_out.push(why),
            }
        }
        set.leave_out_shared_kids();
        if key_use == KeyUse::JwtSvid {
            set.refresh_hint = members.get("spiffe_refresh_hint").and_then(Value::as_u64);
        }
        Ok(set)
    }

    /// Which of two keys a `kid` means is not for the sender of a JWT to choose.
    fn leave_out_shared_kids(&mut self) {
        let mut kids: Vec<_> = self.keys.iter().filter_map(|key| key.kid.clone()).collect();
        kids.sort_unstable();
        let shared: Vec<_> =
            kids.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0].clone()).collect();
        let before = self.keys.len();
        self.keys.retain(|key| key.kid.as_ref().is_none_or(|kid| !shared.contains(kid)));
        self.left_out.extend(std::iter::repeat_n(Unusable::SharedKid, before - self.keys.len()));
    }

    /// The keys that are of use.
    pub fn keys(&self) -> &[IssuerKey] {
        &self.keys
    }

    /// The `kid` of each key that has one.
    pub fn key_ids(&self) -> Vec<String> {
        self.keys.iter().filter_map(|key| key.kid().map(str::to_owned)).collect()
    }

    /// The thumbprints of the keys.
    pub fn thumbprints(&self) -> impl Iterator<Item = Sha256Digest> {
        self.keys.iter().map(|key| key.thumbprint)
    }

    /// The same set without these keys, by their thumbprints.
    #[must_use]
    pub fn without(&self, gone: &[Sha256Digest]) -> Self {
        let stays = |key: &&IssuerKey| !gone.contains(&key.thumbprint);
        Self {
            keys: self.keys.iter().filter(stays).cloned().collect(),
            left_out: self.left_out.clone(),
            refresh_hint: self.refresh_hint,
        }
    }

    /// Why others are left out.
    pub fn left_out(&self) -> &[Unusable] {
        &self.left_out
    }

    /// How often the set is to be fetched, in seconds, where a SPIFFE bundle says so.
    pub fn refresh_hint(&self) -> Option<u64> {
        self.refresh_hint
    }

    /// The key that a JWT with this `kid`, algorithm and signature names: by `kid` alone; without one, the only
    /// key that fits.
    pub fn named(&self, kid: Option<&str>, algorithm: Algorithm, signature: &[u8]) -> Named<'_> {
        let fits = |key: &&IssuerKey| key.may_have_signed(algorithm, signature);
        match kid {
            Some(kid) => match self.keys.iter().find(|key| key.kid() == Some(kid)) {
                None => Named::Unknown,
                Some(key) => Some(key).filter(fits).map_or(Named::Unfit, Named::Key),
            },
            None => {
                let mut fitting =
                    self.keys.iter().filter(|key| key.algorithms().any(|known| known == algorithm));
                match (fitting.next(), fitting.next()) {
                    (Some(only), None) => Some(only).filter(fits).map_or(Named::Unfit, Named::Key),
                    _ => Named::Unfit,
                }
            }
        }
    }

    /// Whether one of its keys has this thumbprint.
    pub fn holds(&self, thumbprint: Sha256Digest) -> bool {
        self.thumbprints().any(|known| known == thumbprint)
    }

    /// The bytes that it takes in a cache.
    pub fn weight(&self) -> usize {
        size_of::<Self>() + self.keys.iter().map(IssuerKey::weight).sum::<usize>() + self.left_out.len()
    }
}

#[cfg(test)]
mod tests;
