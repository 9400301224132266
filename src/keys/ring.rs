//! The issuer's signing keys: access tokens are signed here, and verified.
//!
//! Signing is by hand with a key pair that is kept ready: a library that prepares
//! the key on each call costs twice the signature. Verification is the library's,
//! with everything that it leaves open set and checked here.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine as _};
use jsonwebtoken::jwk::{
    AlgorithmParameters, CommonParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, OctetKeyPairParameters,
    OctetKeyPairType, PublicKeyUse, ThumbprintHash,
};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::seal::{MasterKeys, Purpose, Unopenable};
use crate::domain::access_token::{AccessToken, Claims, MAX_LEN, TYP};
use crate::error::{Error, Reason, Result};

/// How long a published key set may be kept, in seconds.
pub const JWKS_MAX_AGE: u32 = 300;

/// Where a key is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// Published, and soon to sign.
    Next,
    /// Signs.
    Active,
    /// Signs no more; what it signed may still be under way.
    Retiring,
    /// Not to be trusted, and not published.
    Revoked,
}

impl KeyState {
    /// The reverse of its name in the database.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "NEXT" => Some(Self::Next),
            "ACTIVE" => Some(Self::Active),
            "RETIRING" => Some(Self::Retiring),
            "REVOKED" => Some(Self::Revoked),
            _ => None,
        }
    }
}

/// What is sealed of a key: all that is published is read from here.
#[derive(Serialize, Deserialize)]
struct Record {
    jwk: Jwk,
    /// PKCS #8, base64url. Erased when the key retires.
    private: Option<Zeroizing<String>>,
}

/// A new key, for its row.
pub struct NewKey {
    pub kid: String,
    pub algorithm: &'static str,
    pub sealed: Vec<u8>,
}

impl NewKey {
    /// Makes an Ed25519 pair and seals it.
    pub fn generate(master: &MasterKeys) -> Result<Self> {
        let pair = Ed25519KeyPair::generate().map_err(|_| Error::internal("making an Ed25519 key failed"))?;
        let pkcs8 = pair.to_pkcs8v1().map_err(|_| Error::internal("encoding an Ed25519 key failed"))?;
        let mut jwk = Jwk {
            common: CommonParameters {
                public_key_use: Some(PublicKeyUse::Signature),
                key_algorithm: Some(KeyAlgorithm::EdDSA),
                ..CommonParameters::default()
            },
            algorithm: AlgorithmParameters::OctetKeyPair(OctetKeyPairParameters {
                key_type: OctetKeyPairType::OctetKeyPair,
                curve: EllipticCurve::Ed25519,
                x: BASE64URL.encode(pair.public_key().as_ref()),
            }),
        };
        let kid = jwk.thumbprint(ThumbprintHash::SHA256).map_err(Error::internal)?;
        jwk.common.key_id = Some(kid.clone());
        let private = Some(Zeroizing::new(BASE64URL.encode(pkcs8.as_ref())));
        let record =
            serde_json::to_vec(&Record { jwk, private }).map(Zeroizing::new).map_err(Error::internal)?;
        let sealed = master.seal(Purpose::SigningKey, &kid, &record);
        Ok(Self { kid, algorithm: "EdDSA", sealed })
    }
}

/// A published key.
#[derive(Clone)]
struct PublicKey {
    kid: String,
    jwk: Jwk,
    decoding: DecodingKey,
}

struct SigningKey {
    pair: Ed25519KeyPair,
    /// The encoded header with the dot behind it: the same for every token of the key.
    header: String,
}

/// A set of keys as it was read at one time.
pub struct KeySet {
    active: SigningKey,
    published: Vec<PublicKey>,
    json: String,
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
    /// Opens the rows of the table: kid, state, sealed record.
    pub fn open<'a>(
        master: &MasterKeys,
        rows: impl IntoIterator<Item = (&'a str, KeyState, &'a [u8])>,
    ) -> Result<Self, BadKeys> {
        let mut active = None;
        let mut published = Vec::new();
        for (kid, state, sealed) in rows {
            if state == KeyState::Revoked {
                continue;
            }
            let damaged = || BadKeys::Damaged(kid.to_owned());
            let bytes = master.open(Purpose::SigningKey, kid, sealed).map_err(BadKeys::Unopenable)?;
            let record: Record = serde_json::from_slice(&bytes).map_err(|_| damaged())?;
            if state == KeyState::Active {
                let private = record.private.as_ref().ok_or_else(damaged)?;
                active = Some(SigningKey::new(kid, private).ok_or_else(damaged)?);
            }
            let decoding = DecodingKey::from_jwk(&record.jwk).map_err(|_| damaged())?;
            published.push(PublicKey { kid: kid.to_owned(), jwk: record.jwk, decoding });
        }
        let keys = published.iter().map(|key| key.jwk.clone()).collect();
        let json = serde_json::to_string(&JwkSet { keys }).expect("a key set is JSON");
        Ok(Self { active: active.ok_or(BadKeys::NoneActive)?, published, json })
    }
}

impl SigningKey {
    fn new(kid: &str, pkcs8: &str) -> Option<Self> {
        let pkcs8 = Zeroizing::new(BASE64URL.decode(pkcs8).ok()?);
        let pair = Ed25519KeyPair::from_pkcs8(&pkcs8).ok()?;
        let header = format!(r#"{{"typ":"{TYP}","alg":"EdDSA","kid":"{kid}"}}"#);
        Some(Self { pair, header: BASE64URL.encode(header) + "." })
    }
}

/// The header of our own tokens: nothing else may stand in it, so that `crit`,
/// `jku` and their like are refused unread.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    typ: String,
    alg: Algorithm,
    kid: String,
}

/// The keys of the issuer, as all threads see them now.
pub struct Ring {
    issuer: String,
    keys: ArcSwap<KeySet>,
}

impl Ring {
    /// A ring of one issuer.
    pub fn new(issuer: String, keys: KeySet) -> Self {
        Self { issuer, keys: ArcSwap::from_pointee(keys) }
    }

    /// `iss` of what is signed, and the audience of Countersign's own API.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Takes another set of keys into use.
    pub fn replace(&self, keys: KeySet) {
        self.keys.store(Arc::new(keys));
    }

    /// Signs claims: a JWT in compact form (RFC 7515). Fails with `SCOPE_TOO_WIDE` above 4 KiB.
    pub fn sign(&self, claims: &Claims) -> Result<String> {
        let keys = self.keys.load();
        let json = serde_json::to_vec(claims).map_err(Error::internal)?;
        let header = &keys.active.header;
        let mut jwt = String::with_capacity(header.len() + json.len() * 4 / 3 + 96);
        jwt.push_str(header);
        BASE64URL.encode_string(&json, &mut jwt);
        let signature = keys.active.pair.sign(jwt.as_bytes());
        jwt.push('.');
        BASE64URL.encode_string(signature.as_ref(), &mut jwt);
        if jwt.len() > MAX_LEN { Err(Reason::ScopeTooWide.into()) } else { Ok(jwt) }
    }

    /// Verifies a JWT of this issuer: form, header, signature, issuer and time. Whom
    /// it is meant for and what is behind it is for the caller to check.
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
        let algorithm =
            key.jwk.common.key_algorithm.and_then(|alg| Algorithm::try_from(alg).ok()).ok_or(refuse)?;
        if header.alg != algorithm {
            return Err(refuse);
        }
        let mut validation = Validation::new(algorithm);
        // Time is checked below with our own clock, without leeway; the audience by the caller.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        let verified = jsonwebtoken::decode::<Claims>(jwt, &key.decoding, &validation).map_err(|_| refuse)?;
        let claims = verified.claims;
        let now = now.unix_timestamp();
        if claims.iss != self.issuer || claims.exp <= now || claims.nbf > now {
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
            self.jwks().iter().filter_map(|jwk| jwk.common.key_algorithm).map(|a| a.to_string()).collect();
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
mod tests {
    use aws_lc_rs::hmac;

    use super::*;
    use crate::domain::ids::{AccountId, OrgId, TokenId};

    const NOW: i64 = 1_800_000_000;

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(NOW).unwrap()
    }

    fn ring() -> Ring {
        let master = MasterKeys::for_tests();
        let key = NewKey::generate(&master).unwrap();
        let keys =
            KeySet::open(&master, [(key.kid.as_str(), KeyState::Active, key.sealed.as_slice())]).unwrap();
        Ring::new("https://id.example".into(), keys)
    }

    fn claims() -> Claims {
        Claims {
            iss: "https://id.example".into(),
            sub: AccountId::from_u128(2).to_string(),
            aud: vec!["https://id.example".to_owned()].into(),
            exp: NOW + 300,
            iat: NOW,
            nbf: NOW,
            jti: "j".into(),
            client_id: TokenId::from_u128(3).to_string(),
            scope: "tokens.read".into(),
            org: OrgId::from_u128(1).to_string(),
            account_kind: "SERVICE_ACCOUNT".into(),
            token_kind: "SECRET".into(),
            org_ver: 1,
            acct_ver: 1,
            roles: None,
            authorization_details: Vec::new(),
        }
    }

    /// A JWT with this header and these claims, under the ring's own key.
    fn forge(ring: &Ring, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", BASE64URL.encode(header), BASE64URL.encode(claims));
        let signature = ring.keys.load().active.pair.sign(signed.as_bytes());
        format!("{signed}.{}", BASE64URL.encode(signature.as_ref()))
    }

    #[test]
    fn what_is_signed_verifies() {
        let ring = ring();
        let jwt = ring.sign(&claims()).unwrap();
        assert_eq!(ring.verify(&jwt, now()).unwrap().claims, claims());
        let jwks: serde_json::Value = serde_json::from_str(&ring.jwks_json()).unwrap();
        let key = &jwks["keys"][0];
        assert_eq!(
            (&key["kty"], &key["crv"], &key["alg"], &key["use"]),
            (&"OKP".into(), &"Ed25519".into(), &"EdDSA".into(), &"sig".into())
        );
        assert!(key.get("d").is_none() && key["kid"].as_str().unwrap().len() == 43);
    }

    #[test]
    fn time_is_checked_without_leeway() {
        let ring = ring();
        let jwt = ring.sign(&claims()).unwrap();
        let at = |seconds| now() + time::Duration::seconds(seconds);
        assert!(ring.verify(&jwt, at(299)).is_ok());
        assert_eq!(ring.verify(&jwt, at(300)).unwrap_err(), Reason::AccessTokenInvalid);
        assert_eq!(ring.verify(&jwt, at(-1)).unwrap_err(), Reason::AccessTokenInvalid);
    }

    #[test]
    fn forgeries_are_refused() {
        let ring = ring();
        let kid = ring.keys.load().published[0].kid.clone();
        let header = format!(r#"{{"typ":"at+jwt","alg":"EdDSA","kid":"{kid}"}}"#);
        let body = serde_json::to_string(&claims()).unwrap();
        assert!(ring.verify(&forge(&ring, &header, &body), now()).is_ok());

        let public = BASE64URL.decode(match &ring.jwks()[0].algorithm {
            AlgorithmParameters::OctetKeyPair(key) => key.x.clone(),
            other => panic!("{other:?}"),
        });
        let hs_header = header.replace("EdDSA", "HS256");
        let hs_signed = format!("{}.{}", BASE64URL.encode(&hs_header), BASE64URL.encode(&body));
        let hs_key = hmac::Key::new(hmac::HMAC_SHA256, &public.unwrap());
        let hs =
            format!("{hs_signed}.{}", BASE64URL.encode(hmac::sign(&hs_key, hs_signed.as_bytes()).as_ref()));
        let none =
            format!("{}.{}.", BASE64URL.encode(header.replace("EdDSA", "none")), BASE64URL.encode(&body));
        let good = ring.sign(&claims()).unwrap();
        let other_key = self::ring().sign(&claims()).unwrap();
        let with_header = |extra: &str| forge(&ring, &header.replacen('{', &format!("{{{extra},"), 1), &body);
        for (what, jwt) in [
            ("alg none", none),
            ("HS256 with the public key", hs),
            ("another issuer's key", other_key),
            ("another typ", forge(&ring, &header.replace("at+jwt", "JWT"), &body)),
            ("no kid", forge(&ring, r#"{"typ":"at+jwt","alg":"EdDSA"}"#, &body)),
            ("crit", with_header(r#""crit":["exp"]"#)),
            ("jku", with_header(r#""jku":"https://evil.example""#)),
            ("x5u", with_header(r#""x5u":"https://evil.example""#)),
            ("typ twice", with_header(r#""typ":"at+jwt""#)),
            ("another issuer", forge(&ring, &header, &body.replace("id.example", "evil.example"))),
            ("a claim twice", forge(&ring, &header, &body.replacen('{', r#"{"iss":"x","#, 1))),
            ("no exp", forge(&ring, &header, &body.replace(r#""exp""#, r#""exq""#))),
            ("a signature cut", good[..good.len() - 2].to_owned()),
            ("four parts", format!("{good}.x")),
            ("padding", format!("{good}=")),
            ("1 MB", "a.".repeat(500_000)),
            ("nothing", String::new()),
        ] {
            assert_eq!(ring.verify(&jwt, now()).unwrap_err(), Reason::AccessTokenInvalid, "{what}");
        }
    }

    #[test]
    fn a_token_above_four_kib_is_refused() {
        let wide = Claims { scope: "invoices.read ".repeat(300), ..claims() };
        assert_eq!(ring().sign(&wide).unwrap_err().reason(), Reason::ScopeTooWide);
    }

    #[test]
    fn a_planted_row_publishes_nothing() {
        let (ours, theirs) = (MasterKeys::for_tests(), MasterKeys::for_tests());
        let planted = NewKey::generate(&theirs).unwrap();
        let open =
            |kid: &str, sealed: &[u8]| KeySet::open(&ours, [(kid, KeyState::Active, sealed)]).map(|_| ());
        assert!(matches!(open(&planted.kid, &planted.sealed), Err(BadKeys::Unopenable(_))));
        let (a, b) = (NewKey::generate(&ours).unwrap(), NewKey::generate(&ours).unwrap());
        assert!(matches!(open(&a.kid, &b.sealed), Err(BadKeys::Unopenable(_))));
        assert!(matches!(KeySet::open(&ours, []), Err(BadKeys::NoneActive)));
    }
}
