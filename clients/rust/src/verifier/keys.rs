//! The key set of the issuer, with keys that are ready to verify.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine as _};
use serde::Deserialize;

use crate::pb;

/// The largest key set that is read, as JSON.
pub(super) const MOST_BYTES: usize = 1_000_000;
/// The most keys of a set.
const MOST_KEYS: usize = 1_000;

#[derive(Clone, Debug, Default)]
pub(super) struct KeySet {
    by_id: HashMap<String, Arc<Key>>,
}

#[derive(Debug)]
pub(super) struct Key {
    pub(super) algorithm: &'static str,
    pub(super) key: ParsedPublicKey,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Jwk {
    kty: String,
    kid: String,
    r#use: Option<String>,
    alg: String,
    crv: String,
    x: String,
    y: String,
    n: String,
    e: String,
}

impl KeySet {
    /// The keys of a set that can be used: those of an unknown kind are left out.
    pub(super) fn new(keys: &[pb::JsonWebKey]) -> Self {
        Self::of(keys.iter().map(|key| Jwk {
            kty: key.kty.clone(),
            kid: key.kid.clone(),
            r#use: Some(key.r#use.clone()).filter(|text| !text.is_empty()),
            alg: key.alg.clone(),
            crv: key.crv.clone(),
            x: key.x.clone(),
            y: key.y.clone(),
            n: key.n.clone(),
            e: key.e.clone(),
        }))
    }

    /// A set in JSON (RFC 7517). `None` when it is none.
    pub(super) fn from_json(text: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }
        if text.len() > MOST_BYTES {
            return None;
        }
        let set: Set = serde_json::from_slice(text).ok()?;
        // A key of another kind may have members of other types.
        Some(Self::of(set.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok())))
    }

    fn of(keys: impl Iterator<Item = Jwk>) -> Self {
        let mut by_id = HashMap::new();
        for jwk in keys {
            if by_id.len() < MOST_KEYS
                && !jwk.kid.is_empty()
                && let Some(key) = jwk.parse()
            {
                by_id.entry(jwk.kid).or_insert(Arc::new(key));
            }
        }
        Self { by_id }
    }

    pub(super) fn get(&self, kid: &str) -> Option<&Arc<Key>> {
        self.by_id.get(kid)
    }

    pub(super) fn remove(&mut self, kid: &str) {
        self.by_id.remove(kid);
    }

    /// Adds the keys of a set that was fetched beside the stream, which may be older than what the stream brought.
    pub(super) fn add(&mut self, other: Self) {
        for (kid, key) in other.by_id {
            self.by_id.entry(kid).or_insert(key);
        }
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = &str> {
        self.by_id.keys().map(String::as_str)
    }
}

impl Jwk {
    fn parse(&self) -> Option<Key> {
        if self.r#use.as_deref().is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let bytes = |text: &str| BASE64URL.decode(text).ok();
        let (algorithm, key) = match (self.kty.as_str(), self.crv.as_str(), self.alg.as_str()) {
            ("OKP", "Ed25519", "EdDSA") => ("EdDSA", ParsedPublicKey::new(&ED25519, bytes(&self.x)?).ok()?),
            ("EC", "P-256", "ES256") => {
                let (x, y) = (bytes(&self.x)?, bytes(&self.y)?);
                if (x.len(), y.len()) != (32, 32) {
                    return None;
                }
                let point = [&[4], x.as_slice(), y.as_slice()].concat();
                ("ES256", ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).ok()?)
            }
            ("RSA", _, "RS256") => {
                let parts = PublicKeyComponents { n: bytes(&self.n)?, e: bytes(&self.e)? };
                // 2048 to 4096 bits, with the exponent 65537.
                if !(256..=512).contains(&parts.n.len()) || parts.n[0] == 0 || parts.e != [1, 0, 1] {
                    return None;
                }
                ("RS256", parts.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).ok()?)
            }
            _ => return None,
        };
        Some(Key { algorithm, key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","use":"sig","kid":"a",
        "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

    #[test]
    fn keys_of_unknown_kinds_are_left_out_and_the_others_stay() {
        let text = format!(
            r#"{{"keys":[{GOOD},
                {{"kty":"OKP","crv":"X25519","alg":"ECDH-ES","kid":"b","x":"AAAA"}},
                {{"kty":"oct","k":"AAAA","alg":"HS256","kid":"c"}},
                {{"kty":7,"kid":"d"}}, null, "e",
                {{"kty":"RSA","alg":"RS256","n":"AQAB","e":"AQAB","kid":"f"}},
                {},
                {}]}}"#,
            GOOD.replace("\"sig\"", "\"enc\"").replace("\"a\"", "\"g\""),
            GOOD.replace("EdDSA", "ES256").replace("\"a\"", "\"h\""),
        );
        let set = KeySet::from_json(text.as_bytes()).unwrap();
        assert_eq!(set.ids().collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn what_is_no_set_or_too_large_is_none() {
        for text in ["", "[]", "{}", r#"{"keys":{}}"#, "null"] {
            assert!(KeySet::from_json(text.as_bytes()).is_none(), "{text}");
        }
        let padded = format!(r#"{{"keys":[{GOOD}]{}}}"#, " ".repeat(MOST_BYTES));
        assert!(KeySet::from_json(padded.as_bytes()).is_none());
    }
}
