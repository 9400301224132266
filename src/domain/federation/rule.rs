//! Federation rules: which JWTs of an issuer act as which service account, and what they may then do.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::issuer_name::IssuerName;
use crate::domain::tokens::restrictions::Restrictions;
use crate::domain::values::ids::{AccountId, IssuerId, RuleId};
use crate::domain::values::names::{Audience, Invalid};
use crate::domain::values::text::{is_deceptive, texts};
use crate::error::Violations;

/// The most audiences of a rule.
pub const MAX_AUDIENCES: usize = 32;
/// The most claims that a rule names.
pub const MAX_CLAIMS: usize = 32;
/// The most segments of the path to a claim.
pub const MAX_PATH: usize = 8;
/// The most values that a claim may have.
pub const MAX_VALUES: usize = 100;
/// The longest subject, segment of a path or value, in bytes.
pub const MAX_TEXT: usize = 255;

/// The claims that a rule has fields for, or that identify no workload (RFC 7519, section 4.1).
pub(super) const REGISTERED: [&str; 7] = ["iss", "aud", "exp", "nbf", "iat", "jti", "sub"];

/// Which `sub` an assertion must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubjectMatch {
    /// Any: the claims identify the workload.
    Any,
    Exact(String),
    /// It begins with this, which ends in `:` or `/`.
    Prefix(String),
}

impl SubjectMatch {
    /// The exact subject.
    pub fn exact(&self) -> Option<&str> {
        if let Self::Exact(subject) = self { Some(subject) } else { None }
    }

    /// The prefix.
    pub fn prefix(&self) -> Option<&str> {
        if let Self::Prefix(prefix) = self { Some(prefix) } else { None }
    }
}

/// A value that a claim may have: of this type, and no other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ClaimValue {
    Bool(bool),
    Text(String),
}

/// What one claim of an assertion must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimMatch {
    path: Vec<String>,
    values: Vec<ClaimValue>,
    contains: bool,
}

impl ClaimMatch {
    /// Checks them; violations name the fields as they are called in a rule's claim.
    pub fn read(
        violations: &mut Violations,
        path: &[String],
        values: Vec<ClaimValue>,
        contains: bool,
    ) -> Option<Self> {
        let before = violations.count();
        match path {
            [] => violations.add("path", "is required: the names of the members that lead to the claim"),
            [first, ..] if REGISTERED.contains(&first.as_str()) => {
                violations.add("path", "must not be one of iss, aud, exp, nbf, iat, jti and sub");
            }
            _ => {}
        }
        let path = violations.check_each("path", path, MAX_PATH, |name| text(name).map(|()| name.to_owned()));
        if values.is_empty() {
            violations.add("values", "is required: 1 to 100 values, or a flag");
        }
        if values.len() > MAX_VALUES {
            violations.add("values", "holds more than 100 values");
        }
        for (i, value) in values.iter().enumerate().take(MAX_VALUES) {
            match value {
                ClaimValue::Text(value) => {
                    violations.check(&format!("values[{i}]"), text(value));
                }
                ClaimValue::Bool(_) if contains => {
                    violations.add("contains", "is for arrays of strings, and must not be given with a flag");
                }
                ClaimValue::Bool(_) => {}
            }
        }
        (violations.count() == before).then_some(Self { path, values, contains })
    }

    /// The names of the members that lead to the claim, from the outermost object.
    pub fn path(&self) -> &[String] {
        &self.path
    }

    /// The values of which it must have one.
    pub fn values(&self) -> &[ClaimValue] {
        &self.values
    }

    /// Whether it is an array of strings that must hold one of the values.
    pub fn contains(&self) -> bool {
        self.contains
    }

    /// Whether it says exactly what the claim at this path is.
    pub(super) fn pins(&self, path: &[&str]) -> bool {
        !self.contains && self.path == path
    }
}

/// What an assertion must satisfy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleMatch {
    audiences: Vec<Audience>,
    subject: SubjectMatch,
    claims: Vec<ClaimMatch>,
}

impl RuleMatch {
    /// Checks what was asked for, each and together: whether it identifies a workload. Violations name the fields as they
    /// are called in a rule. Whether it fits the issuer is checked by [`pins`](super::pins).
    pub fn read(
        violations: &mut Violations,
        audiences: &[String],
        subject: SubjectMatch,
        claims: Vec<ClaimMatch>,
    ) -> Option<Self> {
        let before = violations.count();
        if audiences.is_empty() {
            violations.add("audiences", "is required: 1 to 32 audiences");
        }
        let mut checked = violations.check_each("audiences", audiences, MAX_AUDIENCES, Audience::parse);
        checked.dedup();
        match &subject {
            SubjectMatch::Any => {}
            SubjectMatch::Exact(subject) => drop(violations.check("subject", text(subject))),
            SubjectMatch::Prefix(prefix) => {
                violations.check("subject_prefix", text(prefix).and_then(|()| identifies(prefix)));
            }
        }
        if claims.len() > MAX_CLAIMS {
            violations.add("claims", "holds more than 32 claims");
        }
        if subject == SubjectMatch::Any && claims.is_empty() {
            violations.add(
                "subject",
                "is required, or a subject_prefix or claims: an audience alone identifies no workload",
            );
        }
        (violations.count() == before).then_some(Self { audiences: checked, subject, claims })
    }

    /// The audiences of which each one of an assertion must be among.
    pub fn audiences(&self) -> &[Audience] {
        &self.audiences
    }

    /// Which subject it must have.
    pub fn subject(&self) -> &SubjectMatch {
        &self.subject
    }

    /// What its claims must be: all of them.
    pub fn claims(&self) -> &[ClaimMatch] {
        &self.claims
    }
}

/// A rule of an org: everything of it that counts for what it allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub id: RuleId,
    pub issuer_id: IssuerId,
    pub account_id: AccountId,
    pub matches: RuleMatch,
    /// Of the lists of a token it has scopes, resources, audiences and networks.
    pub restrictions: Restrictions,
    /// None: it never expires.
    pub expire_time: Option<OffsetDateTime>,
    /// The longest life of a JWT that it gives, where that is less than the policy's.
    pub access_token_lifetime: Option<Duration>,
}

impl Rule {
    /// All of it but its id as one text, which is sealed.
    pub fn sealed_text(&self) -> String {
        #[derive(Serialize)]
        struct Sealed<'a> {
            issuer_id: String,
            account_id: String,
            audiences: Vec<&'a str>,
            subject: Option<&'a str>,
            subject_prefix: Option<&'a str>,
            claims: &'a [ClaimMatch],
            scopes: Vec<String>,
            resources: Vec<String>,
            allowed_audiences: Vec<String>,
            allowed_cidrs: Vec<String>,
            /// As exact as the database is.
            expire_time: Option<i128>,
            access_token_lifetime: Option<u64>,
        }
        let sealed = Sealed {
            issuer_id: self.issuer_id.to_string(),
            account_id: self.account_id.to_string(),
            audiences: self.matches.audiences.iter().map(Audience::as_str).collect(),
            subject: self.matches.subject.exact(),
            subject_prefix: self.matches.subject.prefix(),
            claims: &self.matches.claims,
            scopes: texts(&self.restrictions.scopes),
            resources: texts(&self.restrictions.resources),
            allowed_audiences: texts(&self.restrictions.audiences),
            allowed_cidrs: texts(&self.restrictions.networks),
            expire_time: self.expire_time.map(|end| end.unix_timestamp_nanos().div_euclid(1_000)),
            access_token_lifetime: self.access_token_lifetime.map(|lifetime| lifetime.as_secs()),
        };
        serde_json::to_string(&sealed).expect("text, numbers and booleans are JSON")
    }
}

/// Whether a rule can name the text, which is compared byte by byte: it is neither empty nor too long, and has nothing
/// that cannot be seen.
pub(super) fn is_nameable(text: &str) -> bool {
    (1..=MAX_TEXT).contains(&text.len()) && !text.chars().any(is_deceptive)
}

fn text(text: &str) -> Result<(), Invalid> {
    let why = "must be 1 to 255 bytes without control or invisible characters";
    if is_nameable(text) { Ok(()) } else { Err(Invalid(why)) }
}

/// Whether a prefix says more than a kind of subject: it ends in `:` or `/`, and has a part that is not empty
/// after its first separator.
fn identifies(prefix: &str) -> Result<(), Invalid> {
    if !prefix.ends_with([':', '/']) {
        return Err(Invalid("must end in `:` or `/`: one that ends inside a name holds for other names"));
    }
    let mut parts = prefix.split([':', '/']);
    let (first, second) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if first.is_empty() || second.is_empty() {
        // That of SPIFFE is checked against the trust domain.
        let below = prefix.strip_prefix("spiffe://").and_then(|rest| rest.split_once('/'));
        if below.is_none_or(|(_, path)| path.trim_end_matches('/').is_empty()) {
            return Err(Invalid(
                "must have a part after its first separator that is not empty, such as repo:acme/",
            ));
        }
    }
    Ok(())
}

/// Whether the subject of a rule can be one of the trust domain.
pub(super) fn fits_trust_domain(
    subject: &SubjectMatch,
    domain: &IssuerName,
) -> Result<(), (&'static str, Invalid)> {
    match subject {
        SubjectMatch::Any => Ok(()),
        SubjectMatch::Exact(id) if domain.is_trust_domain_of(id) => Ok(()),
        SubjectMatch::Exact(_) => {
            Err(("subject", Invalid("must be a SPIFFE id of the issuer's trust domain")))
        }
        SubjectMatch::Prefix(prefix) => {
            let within = prefix.strip_suffix('/').is_some_and(|id| domain.is_trust_domain_of(id));
            let why = "must be a path below the issuer's trust domain, and end in `/`";
            if within { Ok(()) } else { Err(("subject_prefix", Invalid(why))) }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn texts(values: &[&str]) -> Vec<ClaimValue> {
        values.iter().map(|value| ClaimValue::Text((*value).to_owned())).collect()
    }

    pub(crate) fn claim(path: &[&str], values: &[&str]) -> ClaimMatch {
        let path: Vec<String> = path.iter().map(ToString::to_string).collect();
        ClaimMatch::read(&mut Violations::default(), &path, texts(values), false).unwrap()
    }

    fn exact(subject: &str) -> SubjectMatch {
        SubjectMatch::Exact(subject.to_owned())
    }

    fn prefix(prefix: &str) -> SubjectMatch {
        SubjectMatch::Prefix(prefix.to_owned())
    }

    pub(crate) fn matches(subject: SubjectMatch, claims: Vec<ClaimMatch>) -> RuleMatch {
        RuleMatch::read(&mut Violations::default(), &["https://id.example".to_owned()], subject, claims)
            .unwrap()
    }

    fn wrong(violations: Violations) -> Vec<String> {
        let Err(error) = violations.finish() else { return Vec::new() };
        error.into_parts().violations.into_iter().map(|wrong| wrong.field).collect()
    }

    #[test]
    fn a_rule_identifies_a_workload() {
        let role = || vec![claim(&["role"], &["deploy"])];
        for (audiences, subject, claims, expected) in [
            (&["a"][..], exact("s"), vec![], &[][..]),
            (&["a"], SubjectMatch::Any, role(), &[]),
            (&["a"], SubjectMatch::Any, vec![], &["subject"]),
            (&[], exact("s"), vec![], &["audiences"]),
            (&[""], exact("s"), vec![], &["audiences[0]"]),
            (&["a b"], exact("s"), vec![], &["audiences[0]"]),
            (&["a"; 33], exact("s"), vec![], &["audiences"]),
            (&["a"], exact(""), vec![], &["subject"]),
            (&["a"], exact("s\u{200b}"), vec![], &["subject"]),
            (&["a"], exact("s\n"), vec![], &["subject"]),
            (&["a"], prefix("repo:acme/"), vec![], &[]),
            (&["a"], prefix("repo:acme/app:"), vec![], &[]),
            (&["a"], prefix("system:serviceaccount:"), vec![], &[]),
            (&["a"], prefix("spiffe://example.org/ns/"), vec![], &[]),
            // Claims do not make up for a prefix that says nothing.
            (&["a"], prefix("repo:"), role(), &["subject_prefix"]),
            (&["a"], prefix("repo:acme"), vec![], &["subject_prefix"]),
            (&["a"], prefix("repo:/"), vec![], &["subject_prefix"]),
            (&["a"], prefix("repo::"), vec![], &["subject_prefix"]),
            (&["a"], prefix(":"), vec![], &["subject_prefix"]),
            (&["a"], prefix("/a/"), vec![], &["subject_prefix"]),
            (&["a"], prefix(""), vec![], &["subject_prefix"]),
            (&["a"], prefix("spiffe://example.org/"), vec![], &["subject_prefix"]),
            (&["a"], prefix("spiffe://"), vec![], &["subject_prefix"]),
            (&["a"], exact("s"), vec![claim(&["role"], &["deploy"]); 33], &["claims"]),
        ] {
            let audiences: Vec<String> = audiences.iter().map(ToString::to_string).collect();
            let mut violations = Violations::default();
            let read = RuleMatch::read(&mut violations, &audiences, subject.clone(), claims);
            assert_eq!(read.is_some(), expected.is_empty(), "{audiences:?} {subject:?}");
            assert_eq!(wrong(violations), expected, "{audiences:?} {subject:?}");
        }
    }

    #[test]
    fn a_claim_has_a_path_and_values() {
        let many = vec!["v"; 101];
        for (path, values, contains, expected) in [
            (&["a"][..], texts(&["v"]), false, &[][..]),
            (&["a.b", "https://c.example/"], texts(&["v", "w"]), true, &[]),
            (&["a"], vec![ClaimValue::Bool(false)], false, &[]),
            (&["kubernetes.io", "sub"], texts(&["v"]), false, &[]),
            (&["a"], vec![ClaimValue::Bool(true)], true, &["contains"]),
            (&[], texts(&["v"]), false, &["path"]),
            (&[""], texts(&["v"]), false, &["path[0]"]),
            (&["a"; 9], texts(&["v"]), false, &["path"]),
            (&["sub"], texts(&["v"]), false, &["path"]),
            (&["aud"], texts(&["v"]), true, &["path"]),
            (&["exp"], texts(&["v"]), false, &["path"]),
            (&["a"], vec![], false, &["values"]),
            (&["a"], texts(&[""]), false, &["values[0]"]),
            (&["a"], texts(&many), false, &["values"]),
        ] {
            let names: Vec<String> = path.iter().map(ToString::to_string).collect();
            let mut violations = Violations::default();
            let read = ClaimMatch::read(&mut violations, &names, values, contains);
            assert_eq!(read.is_some(), expected.is_empty(), "{path:?}");
            assert_eq!(wrong(violations), expected, "{path:?}");
        }
    }

    #[test]
    fn subjects_of_a_trust_domain_are_below_it() {
        let domain = IssuerName::parse("spiffe://example.org").unwrap();
        for (subject, good) in [
            (SubjectMatch::Any, true),
            (exact("spiffe://example.org/a"), true),
            (exact("spiffe://example.org"), false),
            (exact("spiffe://example.net/a"), false),
            (exact("a"), false),
            (prefix("spiffe://example.org/ns/"), true),
            (prefix("spiffe://example.org/"), false),
            (prefix("spiffe://example.net/ns/"), false),
            (prefix("spiffe://example.org/ns:"), false),
        ] {
            assert_eq!(fits_trust_domain(&subject, &domain).is_ok(), good, "{subject:?}");
        }
    }

    #[test]
    fn what_is_sealed_differs_with_each_field() {
        let base = Rule {
            id: RuleId::from_u128(1),
            issuer_id: IssuerId::from_u128(2),
            account_id: AccountId::from_u128(3),
            matches: matches(exact("s"), vec![claim(&["a", "b"], &["v"])]),
            restrictions: Restrictions::default(),
            expire_time: Some(OffsetDateTime::UNIX_EPOCH + time::Duration::nanoseconds(1_500)),
            access_token_lifetime: None,
        };
        let with = |change: fn(&mut Rule)| {
            let mut rule = base.clone();
            change(&mut rule);
            rule.sealed_text()
        };
        let mut all = vec![
            base.sealed_text(),
            with(|rule| rule.issuer_id = IssuerId::from_u128(9)),
            with(|rule| rule.account_id = AccountId::from_u128(9)),
            with(|rule| rule.matches.subject = SubjectMatch::Prefix("s".into())),
            with(|rule| rule.matches.subject = SubjectMatch::Any),
            with(|rule| rule.matches.audiences.push(Audience::parse("b").unwrap())),
            with(|rule| rule.matches.claims[0].contains = true),
            with(|rule| rule.matches.claims[0].path = vec!["a.b".into()]),
            with(|rule| rule.matches.claims[0].values = vec![ClaimValue::Text("true".into())]),
            with(|rule| rule.matches.claims[0].values = vec![ClaimValue::Bool(true)]),
            with(|rule| rule.restrictions.audiences.push(Audience::parse("b").unwrap())),
            with(|rule| rule.expire_time = None),
            with(|rule| rule.access_token_lifetime = Some(Duration::from_secs(60))),
        ];
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
        // The database has microseconds.
        let stored = with(|rule| {
            rule.expire_time = Some(OffsetDateTime::UNIX_EPOCH + time::Duration::microseconds(1));
        });
        assert_eq!(stored, base.sealed_text());
    }
}
