//! The JWT of another issuer by which a workload authenticates, and what a rule checks of it.
//!
//! The checks have one list and one order. An exchange stops at the first that fails; an explanation lists the
//! outcome of each; a change of a rule is tried with the same checks on what was recorded.

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Map, Value};
use time::{Duration, OffsetDateTime};

use super::algorithm::Algorithm;
use super::claims::{audiences, claim_passes, subject};
use super::issuer::{IssuerKind, Trust};
use super::issuer_name::IssuerName;
use super::rule::{MAX_TEXT, RuleMatch, SubjectMatch};
use crate::domain::tokens::assertion::AssertionUse;
use crate::domain::values::signed_jwt::SignedJwt;

/// How many seconds ahead of our clock `iat` and `nbf` may be: clocks of two machines differ.
const LEEWAY: i64 = 60;
/// How many seconds longer than its issuer's longest an assertion may seem to live: some date it back, so that it is good
/// at once where clocks are behind.
const DATED_BACK: i64 = 600;
/// How many seconds longer than the assertion is good its `jti` is kept: nodes differ in their clocks.
const KEPT_LONGER: i64 = 120;

/// A check of an assertion, in the order in which they are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleCheck {
    /// It is a JWT that can be read in one way only, without `crit` and `jwk`.
    Shape,
    /// Its `alg` is asymmetric, and one of the issuer's.
    Algorithm,
    /// The issuer has the key that its `kid` names, for that algorithm.
    Key,
    Signature,
    /// `iss` is the issuer; of SPIFFE, `sub` is an id of the trust domain.
    Issuer,
    /// Each `aud` is one of the rule's.
    Audience,
    /// `exp`, `iat` and `nbf`.
    Time,
    /// It has a `jti` where it works once, and was not used before.
    Replay,
    /// `sub` is that of the rule.
    Subject,
    /// The claim with this place in the rule.
    Claim(usize),
}

impl RuleCheck {
    /// Those of whether the issuer signed it.
    pub const OF_SIGNATURE: [RuleCheck; 4] = [Self::Shape, Self::Algorithm, Self::Key, Self::Signature];
    /// Those that come before an assertion is counted by its subject.
    const OF_PROOF: [RuleCheck; 3] = [Self::Issuer, Self::Audience, Self::Time];

    /// Those of what an assertion with a good signature says, for this rule.
    pub fn of_claims(rule: &RuleMatch) -> impl Iterator<Item = RuleCheck> {
        let once = [Self::Replay, Self::Subject];
        Self::OF_PROOF.into_iter().chain(once).chain((0..rule.claims().len()).map(Self::Claim))
    }

    /// Whether all that comes before the subject has passed where this is the first check that fails.
    pub fn is_after_proof(self) -> bool {
        matches!(self, Self::Replay | Self::Subject | Self::Claim(_))
    }

    /// Whether this is the name of a check that depends on what the assertion says and on the rule alone, and comes
    /// after all others.
    pub fn is_name_of_rule(name: &str) -> bool {
        name == Self::Subject.name(None) || name.starts_with("claims/")
    }

    /// Its name as it is recorded with what was presented: a longer one than a subject may be is cut, and kept apart from
    /// others by its hash.
    pub fn recorded_name(self, rule: &RuleMatch) -> String {
        let mut name = self.name(Some(rule));
        if name.len() > MAX_TEXT {
            let hash = digest(&SHA256, name.as_bytes());
            let hash: String = hash.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            name.truncate(name.floor_char_boundary(MAX_TEXT - 3 - hash.len()));
            name.push('\u{2026}');
            name.push_str(&hash);
        }
        name
    }

    /// Its name in an explanation: that of a claim has its path, as a JSON pointer (RFC 6901).
    pub fn name(self, rule: Option<&RuleMatch>) -> String {
        let name = match self {
            Self::Shape => "shape",
            Self::Algorithm => "algorithm",
            Self::Key => "key",
            Self::Signature => "signature",
            Self::Issuer => "issuer",
            Self::Audience => "aud",
            Self::Time => "time",
            Self::Replay => "replay",
            Self::Subject => "subject",
            Self::Claim(place) => {
                let claim = rule.and_then(|rule| rule.claims().get(place));
                let path = claim.map(|claim| claim.path()).unwrap_or_default();
                let segment = |name: &String| format!("/{}", name.replace('~', "~0").replace('/', "~1"));
                return format!("claims{}", path.iter().map(segment).collect::<String>());
            }
        };
        name.to_owned()
    }
}

/// The JWT of another issuer, whose text is in order, and whose signature was not verified yet.
pub struct ForeignAssertion<'a> {
    jwt: SignedJwt<'a>,
    algorithm: Algorithm,
}

impl<'a> ForeignAssertion<'a> {
    /// Reads an assertion.
    ///
    /// # Errors
    /// The check that its text fails: its shape, or an algorithm that is none of the asymmetric ones.
    pub fn read(text: &'a str) -> Result<Self, RuleCheck> {
        let jwt = SignedJwt::read(text).map_err(|_| RuleCheck::Shape)?;
        // A `kid` that is no text names no key, and an empty one is none.
        if jwt.header_text("kid").is_err() || jwt.header_text("typ").is_err() {
            return Err(RuleCheck::Shape);
        }
        let algorithm = jwt.header_text("alg").ok().flatten().and_then(Algorithm::parse);
        let algorithm = algorithm.ok_or(RuleCheck::Algorithm)?;
        Ok(Self { jwt, algorithm })
    }

    /// The algorithm by which it says that it is signed.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key that it says that it is signed by.
    pub fn kid(&self) -> Option<&str> {
        self.jwt.header_text("kid").ok().flatten()
    }

    /// What is signed, and the signature.
    pub fn signed(&self) -> (&str, &[u8]) {
        (self.jwt.signed, &self.jwt.signature)
    }

    /// Its claims, which are to be believed once its signature was verified.
    pub fn claims(&self) -> &Map<String, Value> {
        &self.jwt.claims
    }

    /// Whether it says that it is of the issuer with this URL, our own, in whatever spelling.
    pub fn is_our_own(&self, own: &str) -> bool {
        let iss = self.jwt.claim_text("iss").ok().flatten();
        iss.is_some_and(|iss| iss == own || IssuerName::parse(iss).is_ok_and(|name| name.is_own(own)))
    }

    /// Whether it passes a check of what it says.
    ///
    /// Whether it was used before is not known here: of that only its `jti` is checked.
    pub fn passes(&self, check: RuleCheck, trust: &Trust, rule: &RuleMatch, now: OffsetDateTime) -> bool {
        match check {
            RuleCheck::Shape | RuleCheck::Algorithm | RuleCheck::Key | RuleCheck::Signature => true,
            RuleCheck::Issuer => match trust.kind() {
                IssuerKind::Spiffe => {
                    subject(&self.jwt.claims).is_some_and(|id| trust.name().is_trust_domain_of(id))
                }
                IssuerKind::Oidc | IssuerKind::Jwks => {
                    self.jwt.claim_text("iss") == Ok(Some(trust.name().as_str()))
                }
            },
            RuleCheck::Time => self.end(trust, now).is_some(),
            RuleCheck::Replay => !trust.single_use_jti() || self.jti().is_some(),
            RuleCheck::Audience | RuleCheck::Subject | RuleCheck::Claim(_) => {
                passes_rule(check, &self.jwt.claims, rule)
            }
        }
    }

    /// The first check of what it says that it fails.
    pub fn first_failure(&self, trust: &Trust, rule: &RuleMatch, now: OffsetDateTime) -> Option<RuleCheck> {
        RuleCheck::of_claims(rule).find(|check| !self.passes(*check, trust, rule, now))
    }

    /// That it is used, where its issuer says that it works once.
    pub fn used(&self, trust: &Trust, now: OffsetDateTime) -> Option<AssertionUse> {
        let jti = self.jti().filter(|_| trust.single_use_jti())?;
        let end = self.end(trust, now)?;
        Some(AssertionUse {
            jti_hash: digest(&SHA256, jti.as_bytes()).as_ref().try_into().expect("SHA-256 gives 32 bytes"),
            keep_until: now + Duration::seconds(end - now.unix_timestamp() + KEPT_LONGER),
        })
    }

    fn jti(&self) -> Option<&str> {
        self.jwt.claim_text("jti").ok().flatten().filter(|jti| !jti.is_empty())
    }

    /// When it ends, in seconds since 1970; none where it is not good now.
    fn end(&self, trust: &Trust, now: OffsetDateTime) -> Option<i64> {
        let now = now.unix_timestamp();
        let time = |name| self.jwt.claim_integer(name).ok();
        let (exp, iat, nbf) = (time("exp")??, time("iat")?, time("nbf")?);
        let longest = i64::try_from(trust.max_assertion_lifetime().as_secs()).ok()?;
        let begins = iat.max(nbf).unwrap_or(now);
        let lives = exp.checked_sub(iat.unwrap_or(now))?;
        let is_bounded = lives <= longest + DATED_BACK && exp.checked_sub(now)? <= longest + LEEWAY;
        let is_good = exp > now && begins <= now.saturating_add(LEEWAY) && is_bounded;
        is_good.then_some(exp)
    }
}

/// Whether claims pass a check that depends on them and on the rule alone. Of recorded ones a subject that was left out
/// passes nothing.
pub(super) fn passes_rule(check: RuleCheck, claims: &Map<String, Value>, rule: &RuleMatch) -> bool {
    match check {
        RuleCheck::Audience => audiences(claims).is_some_and(|audiences| {
            let is_one = |audience: &&str| rule.audiences().iter().any(|known| known.as_str() == *audience);
            !audiences.is_empty() && audiences.iter().all(is_one)
        }),
        RuleCheck::Subject => match rule.subject() {
            SubjectMatch::Any => true,
            SubjectMatch::Exact(exact) => subject(claims) == Some(exact),
            SubjectMatch::Prefix(prefix) => subject(claims)
                .and_then(|subject| subject.strip_prefix(prefix.as_str()))
                .is_some_and(|rest| !rest.is_empty()),
        },
        RuleCheck::Claim(place) => rule.claims().get(place).is_some_and(|claim| claim_passes(claim, claims)),
        _ => true,
    }
}

#[cfg(test)]
mod tests;
