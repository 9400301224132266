//! The checks of a JWT that need no news: its form, header, signature and claims.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine as _};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::Orgs;
use super::claims::{Claims, Payload, present};
use super::keys::Key;
use crate::error::{Error, reason::ACCESS_TOKEN_INVALID};

/// The most characters of a JWT. The issuer's own are 4 KiB at most.
const MOST_BYTES: usize = 16 << 10;
/// How far ahead `nbf` and `iat` may be, in seconds.
const LEEWAY: i64 = 60;

/// A JWT of the right form, whose key has to be found.
pub(super) struct Unverified<'a> {
    signed: &'a str,
    payload: &'a str,
    signature: [u8; MOST_SIGNATURE],
    signature_length: usize,
    header: Header,
}

/// An RSA key of 4096 bits, and what the decoder of base64 wants to have left.
const MOST_SIGNATURE: usize = 516;

#[derive(Deserialize)]
struct Header {
    #[serde(default, deserialize_with = "text")]
    typ: Option<String>,
    #[serde(default, deserialize_with = "text")]
    alg: Option<String>,
    #[serde(default, deserialize_with = "text")]
    kid: Option<String>,
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

/// A string; anything else counts as absent.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Value::deserialize(deserializer)
        .map(|value| if let Value::String(text) = value { Some(text) } else { None })
}

pub(super) fn invalid(check: &'static str, message: &'static str) -> Error {
    Error::refused(ACCESS_TOKEN_INVALID, check, message)
}

fn malformed() -> Error {
    invalid("format", "the access token is no JWT")
}

impl<'a> Unverified<'a> {
    /// The parts of a JWT, with a header that is in order.
    pub(super) fn parse(jwt: &'a str) -> Result<Self, Error> {
        if jwt.len() > MOST_BYTES {
            return Err(malformed());
        }
        let (signed, signature) = jwt.rsplit_once('.').ok_or_else(malformed)?;
        let (header, payload) = signed.split_once('.').ok_or_else(malformed)?;
        if header.is_empty() || payload.is_empty() || payload.contains('.') {
            return Err(malformed());
        }
        let header: Header = object(&BASE64URL.decode(header).map_err(|_| malformed())?, "format")?;
        let mut bytes = [0; MOST_SIGNATURE];
        let signature_length =
            BASE64URL.decode_slice(signature, &mut bytes).map_err(|error| match error {
                base64::DecodeSliceError::DecodeError(_) => malformed(),
                base64::DecodeSliceError::OutputSliceTooSmall => wrong_signature(),
            })?;
        if header.crit {
            return Err(invalid("crit", "the access token demands an extension"));
        }
        if header.typ.as_deref() != Some("at+jwt") {
            return Err(invalid("typ", "the JWT is no access token"));
        }
        Ok(Self { signed, payload, signature: bytes, signature_length, header })
    }

    pub(super) fn kid(&self) -> Option<&str> {
        self.header.kid.as_deref()
    }

    /// The claims, once the signature is found to be the key's.
    pub(super) fn verify(&self, key: &Key) -> Result<Claims, Error> {
        // The algorithm is the key's, and never what the JWT says.
        if self.header.alg.as_deref() != Some(key.algorithm) {
            return Err(invalid("alg", "the access token names another algorithm than its key has"));
        }
        key.key
            .verify_sig(self.signed.as_bytes(), &self.signature[..self.signature_length])
            .map_err(|_| wrong_signature())?;
        let payload = BASE64URL.decode(self.payload).map_err(|_| malformed())?;
        let mut claims: Claims = object(&payload, "claims")?;
        claims.json = Payload(payload.into());
        Ok(claims)
    }
}

fn wrong_signature() -> Error {
    invalid("signature", "the signature is wrong")
}

/// A JSON object. `check` is what a member of another type, or one that is named twice, fails.
fn object<T: for<'de> Deserialize<'de>>(text: &[u8], check: &'static str) -> Result<T, Error> {
    // An array would do for a struct.
    if text.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(malformed());
    }
    serde_json::from_slice(text).map_err(|error| {
        if error.is_data() {
            invalid(check, "a member of the access token is of another type")
        } else {
            malformed()
        }
    })
}

/// What the claims must say.
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) audience: &'a str,
    pub(super) orgs: &'a Orgs,
    /// Whether revocations are checked, for which more claims are needed.
    pub(super) with_revocations: bool,
    /// The thumbprint of the peer's certificate.
    pub(super) certificate: Option<&'a str>,
}

impl Expected<'_> {
    pub(super) fn check(&self, claims: &Claims, now: i64) -> Result<(), Error> {
        let missing = || invalid("claims", "the access token lacks a claim");
        let (Some(exp), Some(iat), Some(nbf)) = (claims.exp, claims.iat, claims.nbf) else {
            return Err(missing());
        };
        let required = [&claims.iss, &claims.sub, &claims.jti, &claims.client_id, &claims.org];
        if required.iter().any(|claim| claim.is_empty()) {
            return Err(missing());
        }
        if claims.aud.is_empty() && claims.json()["aud"].is_null() {
            return Err(missing());
        }
        if claims.iss != self.issuer {
            return Err(invalid("iss", "the access token is of another issuer"));
        }
        if !claims.aud.iter().any(|audience| audience == self.audience) {
            return Err(invalid("aud", "the access token is for another audience"));
        }
        if exp <= now {
            return Err(invalid("exp", "the access token has expired"));
        }
        if nbf > now.saturating_add(LEEWAY) {
            return Err(invalid("nbf", "the access token is not valid yet"));
        }
        if iat > now.saturating_add(LEEWAY) {
            return Err(invalid("iat", "the access token was issued in the future"));
        }
        if claims.act {
            return Err(invalid("act", "the access token is of an impersonation, and for the issuer alone"));
        }
        let is_of = |kind: &str| claims.client_id.starts_with(kind);
        let (of_token, of_rule) = (is_of("tok_"), is_of("fed_"));
        if (claims.secret.is_some() && !of_token) || (claims.rule_ver.is_some() && !of_rule) {
            return Err(invalid("claims", "the access token has a claim of another kind of credential"));
        }
        if claims.rule_ver.is_some_and(|version| version < 1) {
            return Err(invalid("claims", "the access token names no version of its rule"));
        }
        if self.with_revocations {
            // Without them its end could not be heard, nor could that of another kind of credential.
            let lacks = claims.secret.is_some() != of_token || claims.rule_ver.is_some() != of_rule;
            let is_known = of_token || of_rule || is_of("ses_");
            if claims.org_ver.is_none() || claims.acct_ver.is_none() || lacks || !is_known {
                return Err(missing());
            }
        }
        if !self.orgs.contains(&claims.org) {
            return Err(invalid("org", "the access token is of another org"));
        }
        if claims.cnf && !self.is_bound_to_peer(claims) {
            return Err(Error::refused(
                "CLIENT_CERTIFICATE_NOT_ALLOWED",
                "cnf",
                "the access token is bound to a client certificate, which is not that of the connection",
            ));
        }
        Ok(())
    }

    /// Whether `cnf` is the thumbprint of the peer's certificate, and nothing else.
    fn is_bound_to_peer(&self, claims: &Claims) -> bool {
        #[derive(Deserialize)]
        struct Bound {
            cnf: Map<String, Value>,
        }
        let bound = serde_json::from_slice::<Bound>(&claims.json.0);
        bound.is_ok_and(|bound| {
            let thumbprint = bound.cnf.get("x5t#S256").and_then(|value| value.as_str());
            bound.cnf.len() == 1 && thumbprint.is_some() && thumbprint == self.certificate
        })
    }
}
