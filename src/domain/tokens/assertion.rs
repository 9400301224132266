//! The assertion by which the holder of a key authenticates: a JWT that it signs for this issuer (RFC 7523).
//!
//! All that stands in it is checked before anything is looked up: its text alone decides.

use aws_lc_rs::digest::{SHA256, digest};
use time::{Duration, OffsetDateTime};

use super::public_key::{KeyAlgorithm, PublicKey};
use super::secrets::Secret;
use crate::domain::values::ids::TokenId;
use crate::domain::values::signed_jwt::SignedJwt;
use crate::domain::values::text::Invalid;

/// How long after `iat` an assertion is good, in seconds, whatever its `exp` says.
pub const MAX_LIFETIME: i64 = 300;
/// How many seconds ahead of our clock `iat` and `nbf` may be: clocks of two machines differ.
pub const LEEWAY: i64 = 60;
/// How many seconds longer than the assertion is good its `jti` is kept: nodes differ in their clocks.
const KEPT_LONGER: i64 = 120;

/// A check of the text of an assertion, in the order in which they are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssertionCheck {
    /// It is a JWT that can be read in one way only, without `crit` and `jwk`.
    Shape,
    /// Its `typ`, `alg` and `kid` are those of an assertion.
    Header,
    /// `iss` and `sub` are the id of a token.
    Subject,
    /// `aud` is one string, the issuer.
    Audience,
    /// `exp`, `iat` and `nbf`.
    Time,
    /// It has a `jti`.
    Once,
    /// There is a token of this id that has keys.
    Known,
    /// One of the keys of that token signed it.
    Signature,
}

impl AssertionCheck {
    pub const ALL: [AssertionCheck; 8] = [
        Self::Shape,
        Self::Header,
        Self::Subject,
        Self::Audience,
        Self::Time,
        Self::Once,
        Self::Known,
        Self::Signature,
    ];

    /// Those that depend on the token.
    pub const OF_TOKEN: [AssertionCheck; 2] = [Self::Known, Self::Signature];

    /// Its name in an explanation.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shape => "shape",
            Self::Header => "header",
            Self::Subject => "subject",
            Self::Audience => "aud",
            Self::Time => "time",
            Self::Once => "jti",
            Self::Known => "known",
            Self::Signature => "signature",
        }
    }
}

/// Why the text of an assertion is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AssertionFault {
    pub check: AssertionCheck,
    /// What follows "the assertion".
    pub why: &'static str,
}

impl AssertionFault {
    fn at(check: AssertionCheck, why: &'static str) -> Self {
        Self { check, why }
    }
}

/// That an assertion is used, which it can be once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssertionUse {
    /// SHA-256 of its `jti`.
    pub jti_hash: [u8; 32],
    /// Until when the use has to be known: by then the assertion has expired by every clock.
    pub keep_until: OffsetDateTime,
}

/// An assertion whose text is in order, and whose signature was not verified yet.
pub struct Assertion<'a> {
    jwt: SignedJwt<'a>,
    algorithm: KeyAlgorithm,
    kid: Option<String>,
    /// The token that it claims to be from.
    pub token_id: TokenId,
    pub used: AssertionUse,
}

impl<'a> Assertion<'a> {
    /// Reads an assertion for this issuer, as of now.
    ///
    /// It is good until the earlier of its `exp` and 300 s after its `iat`; without `iat`, if its `exp` is at
    /// most 300 s ahead. `iat` and `nbf` may be 60 s ahead.
    ///
    /// # Errors
    /// The first check that its text fails.
    pub fn read(text: &'a str, issuer: &str, now: OffsetDateTime) -> Result<Self, AssertionFault> {
        use AssertionCheck::{Audience, Header, Shape, Subject};
        let jwt = SignedJwt::read(text).map_err(|Invalid(why)| AssertionFault::at(Shape, why))?;
        let of_header = |name| {
            jwt.header_text(name)
                .map_err(|_| AssertionFault::at(Header, "has a header whose members are no strings"))
        };
        if !matches!(of_header("typ")?, None | Some("JWT" | "client-authentication+jwt")) {
            return Err(AssertionFault::at(
                Header,
                "must have the typ JWT or client-authentication+jwt, or none",
            ));
        }
        let algorithm = of_header("alg")?.and_then(KeyAlgorithm::parse);
        let algorithm = algorithm.filter(|algorithm| algorithm.may_sign_with(jwt.signature.len()));
        let algorithm =
            algorithm.ok_or(AssertionFault::at(Header, "must be signed by EdDSA, ES256, RS256 or PS256"))?;
        let kid = of_header("kid")?.map(str::to_owned);

        let subject =
            jwt.claim_text("sub").ok().flatten().filter(|sub| jwt.claim_text("iss") == Ok(Some(*sub)));
        let token_id = subject.and_then(|sub| TokenId::parse(sub).ok());
        let token_id =
            token_id.ok_or(AssertionFault::at(Subject, "must have the id of the token as iss and as sub"))?;
        if jwt.claim_text("aud") != Ok(Some(issuer)) {
            let why = "must have one string as aud, the issuer: no list, and not the URL that it is sent to";
            return Err(AssertionFault::at(Audience, why));
        }
        let end =
            end(&jwt, now.unix_timestamp()).map_err(|why| AssertionFault::at(AssertionCheck::Time, why))?;
        let jti = jwt.claim_text("jti").ok().flatten().filter(|jti| !jti.is_empty());
        let jti =
            jti.ok_or(AssertionFault::at(AssertionCheck::Once, "must have a jti, which no other one has"))?;
        let used = AssertionUse {
            jti_hash: digest(&SHA256, jti.as_bytes()).as_ref().try_into().expect("SHA-256 gives 32 bytes"),
            keep_until: now + Duration::seconds(end - now.unix_timestamp() + KEPT_LONGER),
        };
        Ok(Self { algorithm, kid, token_id, used, jwt })
    }

    /// The algorithm by which it says that it is signed.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// What is signed, and the signature.
    pub fn signed(&self) -> (&str, &[u8]) {
        (self.jwt.signed, &self.jwt.signature)
    }

    /// Whether the key may have signed it: it is for that algorithm, and is the one that the header names.
    ///
    /// The key determines the algorithm, never the JWT: otherwise a sender could have the public part of one
    /// kind of key used as the secret of another.
    pub fn may_be_by(&self, key: &PublicKey) -> bool {
        key.algorithm() == self.algorithm
            && key.signature_len() == self.jwt.signature.len()
            && self.kid.as_ref().is_none_or(|kid| *kid == key.thumbprint().to_string())
    }

    /// The secrets of a token that are keys which may have signed it, the newest first.
    pub fn may_be_by_each<'s>(&self, secrets: &'s [Secret]) -> impl Iterator<Item = &'s Secret> {
        secrets.iter().rev().filter(|secret| secret.key().is_some_and(|key| self.may_be_by(key)))
    }
}

/// When it ends, in seconds since 1970, which is after now.
fn end(jwt: &SignedJwt<'_>, now: i64) -> Result<i64, &'static str> {
    let time = |name| jwt.claim_integer(name).map_err(|_| "must have integers as exp, iat and nbf");
    let (exp, iat, nbf) = (time("exp")?.ok_or("must have an exp")?, time("iat")?, time("nbf")?);
    let earliest = iat.max(nbf).unwrap_or(now);
    if earliest > now.saturating_add(LEEWAY) {
        return Err("is not good yet: its iat or nbf is more than 60 s ahead");
    }
    let longest = now.saturating_add(MAX_LIFETIME);
    let end = match iat {
        None if exp > longest => return Err("must have an iat where its exp is more than 5 minutes ahead"),
        None => exp,
        Some(iat) => exp.min(iat.saturating_add(MAX_LIFETIME)),
    };
    if end <= now {
        Err("has expired: it is good until its exp, and for 5 minutes after its iat")
    } else {
        Ok(end)
    }
}

#[cfg(test)]
mod tests;
