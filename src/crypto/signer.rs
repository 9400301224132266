//! The issuer's signing keys: access tokens are signed and verified here.
//!
//! Signing uses a key pair that is held ready, without the JWT library: a library that parses the
//! key on each call costs twice the signature. Verification uses the library, with everything that
//! it leaves open set and checked here.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine as _};
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use time::OffsetDateTime;

use super::key_pair::{BadRecord, KeyPair, Record, jose};
use super::seal::{MasterKeys, Unopenable};
use crate::config::SigningAlgorithm;
use crate::domain::access::access_token::{AccessToken, Claims, MAX_LEN, TYP};
use crate::domain::signing_keys::{KeyState, KeyTimes, is_kid};
use crate::domain::values::client_certificate::Sha256Digest;
use crate::error::{Reason, Result};
use crate::telemetry::spans::span;

/// How many seconds ahead of our clock that of the node which signed may be: clocks of two machines
/// differ.
const LEEWAY: i64 = 60;

/// A published key.
#[derive(Clone)]
struct PublicKey {
    kid: String,
    algorithm: SigningAlgorithm,
    jwk: Jwk,
    decoding: DecodingKey,
}

struct SigningKey {
    pair: KeyPair,
    /// The encoded header with its trailing dot: the same for every token of the key.
    header: String,
}

/// A set of keys as it was loaded at one time.
pub struct KeySet {
    active: SigningKey,
    published: Vec<PublicKey>,
    json: String,
    /// Those of all published keys: a `kid` is one (RFC 7638).
    thumbprints: Vec<Sha256Digest>,
    /// The data that the schedule uses, for all published keys.
    key_times: Vec<KeyTimes>,
    /// The ids of keys whose rows do not open. They are not published.
    ///
    /// They were not sealed by us, or were sealed under a master key that is not loaded.
    pub left_out: Vec<String>,
}

/// Why stored keys cannot be used.
#[derive(Debug)]
pub enum BadKeys {
    Unopenable(Unopenable),
    Damaged(String),
    NoneActive,
}

impl fmt::Display for BadKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unopenable(error) => write!(f, "signing keys: {error}"),
            Self::Damaged(kid) => write!(f, "signing key {kid} is damaged"),
            Self::NoneActive => f.write_str("no signing key is active"),
        }
    }
}

impl std::error::Error for BadKeys {}

impl KeySet {
    /// Opens the rows of the table: the times of a key, and its sealed record.
    ///
    /// Those that do not open are left out.
    ///
    /// # Errors
    /// If there is no active key, or it does not open; if one of ours is damaged.
    pub fn open<'a>(
        master: &MasterKeys,
        rows: impl IntoIterator<Item = (KeyTimes, &'a [u8])>,
    ) -> Result<Self, BadKeys> {
        let (mut active, mut published) = (None, Vec::new());
        let (mut key_times, mut left_out) = (Vec::new(), Vec::new());
        for (times, sealed) in rows.into_iter().filter(|(times, _)| times.state != KeyState::Revoked) {
            let damaged = || BadKeys::Damaged(times.kid.clone());
            let record = match Record::open(master, &times.kid, sealed) {
                Ok(record) => record,
                Err(BadRecord::Unopenable(error)) if times.state == KeyState::Active => {
                    return Err(BadKeys::Unopenable(error));
                }
                Err(BadRecord::Unopenable(_)) => {
                    left_out.push(times.kid);
                    continue;
                }
                Err(BadRecord::Damaged) => return Err(damaged()),
            };
            let algorithm = record.algorithm().ok_or_else(damaged)?;
            if times.state == KeyState::Active {
                active = Some(SigningKey::new(&times.kid, record.pair().ok_or_else(damaged)?));
            }
            let decoding = DecodingKey::from_jwk(&record.jwk).map_err(|_| damaged())?;
            published.push(PublicKey { kid: times.kid.clone(), algorithm, jwk: record.jwk, decoding });
            key_times.push(times);
        }
        let keys = published.iter().map(|key| key.jwk.clone()).collect();
        let json = serde_json::to_string(&JwkSet { keys }).expect("a key set is JSON");
        let thumbprints = published.iter().filter_map(|key| Sha256Digest::parse(&key.kid).ok()).collect();
        let active = active.ok_or(BadKeys::NoneActive)?;
        Ok(Self { active, published, json, thumbprints, key_times, left_out })
    }

    /// The data that the schedule uses, for all published keys.
    pub fn key_times(&self) -> &[KeyTimes] {
        &self.key_times
    }

    /// The algorithm of the active key.
    pub fn signs_with(&self) -> SigningAlgorithm {
        self.active.pair.algorithm()
    }
}

impl SigningKey {
    fn new(kid: &str, pair: KeyPair) -> Self {
        let header = format!(r#"{{"typ":"{TYP}","alg":"{}","kid":"{kid}"}}"#, pair.algorithm());
        Self { pair, header: BASE64URL.encode(header) + "." }
    }
}

/// The header of our own tokens.
///
/// No other fields are accepted, so that `crit`, `jku` and the like are refused unread.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    typ: String,
    alg: Algorithm,
    kid: String,
}

/// The keys of the issuer, as all threads see them now.
pub struct Signer {
    issuer: String,
    keys: ArcSwap<KeySet>,
}

impl Signer {
    /// A signer for one issuer.
    pub fn new(issuer: String, keys: KeySet) -> Self {
        Self { issuer, keys: ArcSwap::from_pointee(keys) }
    }

    /// `iss` of what is signed, and the audience of Countersign's own API.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The algorithm of the key that signs now.
    pub fn signs_with(&self) -> SigningAlgorithm {
        self.keys.load().signs_with()
    }

    /// Replaces the set of keys.
    pub fn replace(&self, keys: KeySet) {
        self.keys.store(Arc::new(keys));
    }

    /// Signs claims, in JSON, and returns a JWT in compact form (RFC 7515).
    ///
    /// # Errors
    /// `SCOPE_TOO_WIDE` if it would be longer than 4 KiB: then nothing is signed.
    pub fn sign(&self, json: &[u8]) -> Result<String> {
        let keys = self.keys.load();
        let SigningKey { pair, header } = &keys.active;
        // Three bytes become four characters, without padding. The header has its dot already.
        let encoded = |bytes: usize| (bytes * 4).div_ceil(3);
        let length = header.len() + encoded(json.len()) + 1 + encoded(pair.signature_len());
        if length > MAX_LEN {
            return Err(Reason::ScopeTooWide.into());
        }
        let _span = span!("sign").entered();
        let mut jwt = String::with_capacity(length);
        jwt.push_str(header);
        BASE64URL.encode_string(json, &mut jwt);
        pair.sign(&mut jwt)?;
        debug_assert_eq!(jwt.len(), length, "the length is known before anything is signed");
        Ok(jwt)
    }

    /// The data that the schedule uses, for all published keys.
    pub fn key_times(&self) -> Vec<KeyTimes> {
        self.keys.load().key_times.clone()
    }

    /// Whether one of the thumbprints of the published keys is one that `is_one` knows.
    pub fn holds_any(&self, is_one: impl Fn(Sha256Digest) -> bool) -> bool {
        self.keys.load().thumbprints.iter().any(|own| is_one(*own))
    }

    /// Whether the unverified JWT has the form of our own and names a key that is not loaded here.
    ///
    /// Another node may have made the key.
    pub fn names_another_key(&self, jwt: &str) -> bool {
        let header = jwt.split('.').next().filter(|_| jwt.len() <= MAX_LEN);
        let header = header.and_then(|header| BASE64URL.decode(header).ok());
        let header = header.and_then(|header| serde_json::from_slice::<Header>(&header).ok());
        let known = |kid: &str| self.keys.load().published.iter().any(|key| key.kid == kid);
        header.is_some_and(|header| header.typ == TYP && is_kid(&header.kid) && !known(&header.kid))
    }

    /// Verifies a JWT of this issuer: form, header, signature, issuer and time.
    ///
    /// The caller must check the audience, and the credential from which the JWT was made.
    ///
    /// # Errors
    /// `ACCESS_TOKEN_INVALID`, whatever is wrong with it.
    pub fn verify(&self, jwt: &str, now: OffsetDateTime) -> Result<AccessToken, Reason> {
        let refuse = Reason::AccessTokenInvalid;
        if jwt.len() > MAX_LEN {
            return Err(refuse);
        }
        let header = jwt.split('.').next().unwrap_or("");
        let header = BASE64URL.decode(header).map_err(|_| refuse)?;
        let header: Header = serde_json::from_slice(&header).map_err(|_| refuse)?;
        if header.typ != TYP {
            return Err(refuse);
        }
        let keys = self.keys.load();
        let key = keys.published.iter().find(|key| key.kid == header.kid).ok_or(refuse)?;
        // The key determines the algorithm, never the JWT: otherwise a sender could have the public
        // part of one kind of key used as the secret of another.
        let algorithm = jose(key.algorithm);
        if header.alg != algorithm {
            return Err(refuse);
        }
        let mut validation = Validation::new(algorithm);
        // Time is checked below with our own clock; the audience is checked by the caller.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        let verified = jsonwebtoken::decode::<Claims>(jwt, &key.decoding, &validation).map_err(|_| refuse)?;
        let claims = verified.claims;
        let now = now.unix_timestamp();
        let earliest = claims.nbf.max(claims.iat);
        if claims.iss != self.issuer || claims.exp <= now || earliest > now.saturating_add(LEEWAY) {
            return Err(refuse);
        }
        AccessToken::from_claims(claims).map_err(|_| refuse)
    }

    /// The published keys as a JWK set (RFC 7517), in JSON.
    pub fn jwks_json(&self) -> String {
        self.keys.load().json.clone()
    }

    /// The algorithms of the published keys, by their JOSE names.
    pub fn algorithms(&self) -> Vec<String> {
        let mut names: Vec<_> =
            self.keys.load().published.iter().map(|key| key.algorithm.to_string()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// The published keys.
    pub fn jwks(&self) -> Vec<Jwk> {
        self.keys.load().published.iter().map(|key| key.jwk.clone()).collect()
    }
}

#[cfg(test)]
mod tests;
