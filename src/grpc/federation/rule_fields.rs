//! The fields of a rule as a request gives them.

use std::time::Duration;

use time::OffsetDateTime;

use crate::domain::federation::rule::{ClaimMatch, ClaimValue, MAX_CLAIMS, Rule, RuleMatch, SubjectMatch};
use crate::domain::tokens::limits::MAX_ACCESS_TOKEN_LIFETIME;
use crate::domain::tokens::policy::MIN_ACCESS_TOKEN_LIFETIME;
use crate::domain::tokens::restrictions::Restrictions;
use crate::domain::values::names::DisplayName;
use crate::domain::values::text::texts;
use crate::error::{Result, Violations};
use crate::grpc::pb;
use crate::grpc::pb::federation_rule::SubjectMatch as PbSubject;
use crate::grpc::wire::convert;
use crate::grpc::wire::restrictions::GivenLists;
use crate::grpc::wire::update_mask::Mask;

/// The fields that an update may change.
pub(super) const UPDATABLE: [&str; 12] = [
    "access_token_lifetime",
    "allowed_audiences",
    "allowed_cidrs",
    "audiences",
    "claims",
    "disabled",
    "display_name",
    "expire_time",
    "resources",
    "scopes",
    "subject",
    "subject_prefix",
];

/// The fields of a request that can be read without the rule before.
pub(super) struct GivenRuleFields {
    pub(super) lists: Restrictions,
    pub(super) expire_time: Option<OffsetDateTime>,
    pub(super) access_token_lifetime: Option<Duration>,
    pub(super) display_name: Option<DisplayName>,
    pub(super) claims: Vec<ClaimMatch>,
}

impl GivenRuleFields {
    /// Reads the fields; violations name them as they are called in a rule.
    pub(super) fn read(violations: &mut Violations, message: &pb::FederationRule) -> Self {
        let lists = GivenLists {
            scopes: &message.scopes,
            resources: &message.resources,
            allowed_audiences: &message.allowed_audiences,
            allowed_cidrs: &message.allowed_cidrs,
            ..GivenLists::default()
        };
        let lists = lists.read(violations, "");
        let display_name = convert::optional(message.display_name(), DisplayName::parse);
        let expire_time = message.expire_time.as_ref().map(convert::time).transpose();
        let lifetime = message.access_token_lifetime.as_ref().map(access_token_lifetime).transpose();
        Self {
            lists,
            expire_time: violations.check("expire_time", expire_time).flatten(),
            access_token_lifetime: violations.check("access_token_lifetime", lifetime).flatten(),
            display_name: violations.check("display_name", display_name).flatten(),
            claims: claims(violations, &message.claims),
        }
    }
}

fn access_token_lifetime(asked: &prost_types::Duration) -> Result<Duration, &'static str> {
    let bounds = MIN_ACCESS_TOKEN_LIFETIME..=MAX_ACCESS_TOKEN_LIFETIME;
    match Duration::try_from(convert::duration(asked)?) {
        Ok(lifetime) if lifetime.subsec_nanos() == 0 && bounds.contains(&lifetime) => Ok(lifetime),
        _ => Err("must be 10 s to 1 h, in whole seconds"),
    }
}

fn claims(violations: &mut Violations, messages: &[pb::ClaimMatch]) -> Vec<ClaimMatch> {
    if messages.len() > MAX_CLAIMS {
        violations
            .add("claims", format!("holds {} claims; at most {MAX_CLAIMS} are allowed", messages.len()));
        return Vec::new();
    }
    let mut claims = Vec::with_capacity(messages.len());
    for (i, message) in messages.iter().enumerate() {
        let mut inner = Violations::default();
        let mut values: Vec<_> = message.values.iter().cloned().map(ClaimValue::Text).collect();
        if message.flag.is_some() && !values.is_empty() {
            inner.add("flag", "must not be given with values: a claim is one or the other");
        }
        values.extend(message.flag.map(ClaimValue::Bool));
        claims.extend(ClaimMatch::read(&mut inner, &message.path, values, message.contains));
        violations.take_in(&format!("claims[{i}]"), inner);
    }
    claims
}

pub(super) fn subject(message: &pb::FederationRule) -> SubjectMatch {
    match &message.subject_match {
        None => SubjectMatch::Any,
        Some(PbSubject::Subject(subject)) => SubjectMatch::Exact(subject.clone()),
        Some(PbSubject::SubjectPrefix(prefix)) => SubjectMatch::Prefix(prefix.clone()),
    }
}

/// The rule with the fields that the mask names taken from the request.
pub(super) fn over(
    violations: &mut Violations,
    before: &Rule,
    (asked, given): (&pb::FederationRule, &GivenRuleFields),
    mask: &Mask,
) -> Option<Rule> {
    if !asked.issuer_id.is_empty() && asked.issuer_id != before.issuer_id.to_string() {
        violations.add("issuer_id", "cannot be changed");
    }
    if !asked.account_id.is_empty() && asked.account_id != before.account_id.to_string() {
        violations.add("account_id", "cannot be changed");
    }
    let old_audiences = texts(before.matches.audiences());
    let audiences = if mask.has("audiences") { &asked.audiences } else { &old_audiences };
    let subject = if mask.has("subject") || mask.has("subject_prefix") {
        subject(asked)
    } else {
        before.matches.subject().clone()
    };
    let claims = if mask.has("claims") { given.claims.clone() } else { before.matches.claims().to_vec() };
    let (old, new) = (&before.restrictions, &given.lists);
    let pick = |path: &str| if mask.has(path) { new } else { old };
    Some(Rule {
        matches: RuleMatch::read(violations, audiences, subject, claims)?,
        restrictions: Restrictions {
            scopes: pick("scopes").scopes.clone(),
            resources: pick("resources").resources.clone(),
            audiences: pick("allowed_audiences").audiences.clone(),
            networks: pick("allowed_cidrs").networks.clone(),
            ..Restrictions::default()
        },
        expire_time: if mask.has("expire_time") { given.expire_time } else { before.expire_time },
        access_token_lifetime: if mask.has("access_token_lifetime") {
            given.access_token_lifetime
        } else {
            before.access_token_lifetime
        },
        ..before.clone()
    })
}

/// Whether a request gives the field of this path.
pub(super) fn is_set(rule: &pb::FederationRule, path: &str) -> bool {
    match path {
        "access_token_lifetime" => rule.access_token_lifetime.is_some(),
        "allowed_audiences" => !rule.allowed_audiences.is_empty(),
        "allowed_cidrs" => !rule.allowed_cidrs.is_empty(),
        "audiences" => !rule.audiences.is_empty(),
        "claims" => !rule.claims.is_empty(),
        "disabled" => rule.disabled.is_some(),
        "display_name" => rule.display_name.is_some(),
        "expire_time" => rule.expire_time.is_some(),
        "resources" => !rule.resources.is_empty(),
        "scopes" => !rule.scopes.is_empty(),
        "subject" => matches!(rule.subject_match, Some(PbSubject::Subject(_))),
        _ => matches!(rule.subject_match, Some(PbSubject::SubjectPrefix(_))),
    }
}
