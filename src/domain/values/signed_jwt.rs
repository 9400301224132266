//! A JWT that another party signed, read strictly and not verified yet (RFC 7515, RFC 7519).

use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine as _};
use serde_json::{Map, Value};

use super::names::Invalid;
use super::strict_json;

/// The longest one, in bytes.
pub const MAX_LEN: usize = 16 << 10;

/// The header, claims and signature of a JWT in compact form. Nothing in it is to be believed before its
/// signature was verified.
pub struct SignedJwt<'a> {
    pub header: Map<String, Value>,
    pub claims: Map<String, Value>,
    /// What is signed: header and claims as they were sent.
    pub signed: &'a str,
    pub signature: Vec<u8>,
}

impl<'a> SignedJwt<'a> {
    /// Reads a JWT of at most 16 KiB.
    ///
    /// `jku` and `x5u` of its header are never followed. A key in the header would be the sender's own, and an
    /// extension that its sender calls critical is not known here: both are refused.
    ///
    /// # Errors
    /// Unless it has three parts in base64url, of which the first two are JSON objects that name no member
    /// twice; and for `crit` and `jwk` in its header.
    pub fn read(text: &'a str) -> Result<Self, Invalid> {
        const SHAPE: Invalid = Invalid("must have three parts in base64url, of which two are JSON objects");
        if text.len() > MAX_LEN {
            return Err(Invalid("must be at most 16 KiB"));
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(SHAPE)?;
        let (header, claims) = signed.split_once('.').ok_or(SHAPE)?;
        let decode = |part: &str| BASE64URL.decode(part).map_err(|_| SHAPE);
        let header = strict_json::object(&decode(header)?)?;
        if header.contains_key("crit") || header.contains_key("jwk") {
            return Err(Invalid("must have neither crit nor jwk in its header"));
        }
        let claims = strict_json::object(&decode(claims)?)?;
        Ok(Self { header, claims, signed, signature: decode(signature)? })
    }

    /// A string of the header; none where it is missing.
    ///
    /// # Errors
    /// Where it is something else.
    pub fn header_text(&self, name: &str) -> Result<Option<&str>, Invalid> {
        text(&self.header, name)
    }

    /// A string among the claims; none where it is missing.
    ///
    /// # Errors
    /// Where it is something else.
    pub fn claim_text(&self, name: &str) -> Result<Option<&str>, Invalid> {
        text(&self.claims, name)
    }

    /// An integer among the claims; none where it is missing.
    ///
    /// # Errors
    /// Where it is something else: `1.0` and `1e9` are no integers.
    pub fn claim_integer(&self, name: &str) -> Result<Option<i64>, Invalid> {
        match self.claims.get(name) {
            None => Ok(None),
            Some(value) => value.as_i64().map(Some).ok_or(Invalid("must be an integer")),
        }
    }
}

fn text<'a>(members: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, Invalid> {
    match members.get(name) {
        None => Ok(None),
        Some(value) => value.as_str().map(Some).ok_or(Invalid("must be a string")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(header: &str, claims: &str) -> String {
        format!("{}.{}.{}", BASE64URL.encode(header), BASE64URL.encode(claims), BASE64URL.encode("signature"))
    }

    #[test]
    fn a_jwt_is_read_and_what_is_ambiguous_is_not() {
        let good = jwt(r#"{"alg":"EdDSA","jku":"https://a.example","x5u":1}"#, r#"{"exp":5,"aud":["a"]}"#);
        let read = SignedJwt::read(&good).unwrap();
        assert_eq!(read.header_text("alg"), Ok(Some("EdDSA")));
        assert_eq!((read.header_text("kid"), read.header_text("x5u").is_err()), (Ok(None), true));
        assert_eq!((read.claim_integer("exp"), read.claim_integer("iat")), (Ok(Some(5)), Ok(None)));
        assert!(read.claim_text("aud").is_err());
        assert_eq!(read.signature, b"signature");
        assert!(good.starts_with(read.signed));

        let signature = BASE64URL.encode("signature");
        for bad in [
            String::new(),
            "..".to_owned(),
            good.replacen('.', "", 1),
            format!("{good}.{signature}"),
            format!("{good}="),
            format!(" {good}"),
            jwt("{}", "[]"),
            jwt(r#"{"crit":["b64"]}"#, "{}"),
            jwt(r#"{"jwk":{}}"#, "{}"),
            jwt(r#"{"alg":"none","alg":"EdDSA"}"#, "{}"),
            jwt("{}", r#"{"a":{"sub":"a","sub":"b"}}"#),
        ] {
            assert!(SignedJwt::read(&bad).is_err(), "{bad}");
        }
        for number in ["1.0", "1e3", "\"1\"", "99999999999999999999", "null"] {
            let text = jwt("{}", &format!(r#"{{"exp":{number}}}"#));
            assert!(SignedJwt::read(&text).unwrap().claim_integer("exp").is_err(), "{number}");
        }
    }

    #[test]
    fn its_length_is_limited() {
        let of = |claims: usize| jwt("{}", &format!(r#"{{"a":"{}"}}"#, "a".repeat(claims)));
        let mut claims = MAX_LEN * 3 / 4 - 40;
        while of(claims).len() <= MAX_LEN {
            assert!(SignedJwt::read(&of(claims)).is_ok());
            claims += 1;
        }
        assert!(SignedJwt::read(&of(claims)).is_err());
    }
}
