//! Issuers, federation rules and presentations as protocol messages.

use std::collections::HashMap;

use time::OffsetDateTime;

use crate::crypto::seal::MasterKeys;
use crate::db::federation::presentations::StoredPresentation;
use crate::db::federation::{StoredIssuer, StoredRule};
use crate::domain::federation::assertion::RuleCheck;
use crate::domain::federation::ceiling::Ceiling;
use crate::domain::federation::issuer::IssuerKind;
use crate::domain::federation::issuer_name::IssuerName;
use crate::domain::federation::pins::Warning;
use crate::domain::federation::presentation::Outcome;
use crate::domain::federation::rule::{ClaimMatch, ClaimValue, Rule};
use crate::domain::tokens::policy::{Rules, TokenState};
use crate::domain::values::ids::{IssuerId, OrgId};
use crate::error::{Error, Result};
use crate::grpc::pb;
use crate::grpc::pb::federation_rule::SubjectMatch;
use crate::grpc::wire::convert;

/// The message for an issuer. Its stored keys are not read again for it: what was checked when they came in is shown.
pub fn issuer(stored: &StoredIssuer) -> Result<pb::Issuer> {
    let kind = match stored.kind()? {
        IssuerKind::Oidc => pb::IssuerKind::Oidc,
        IssuerKind::Jwks => pb::IssuerKind::Jwks,
        IssuerKind::Spiffe => pb::IssuerKind::Spiffe,
    };
    Ok(pb::Issuer {
        id: stored.id().to_string(),
        org_id: OrgId::from(stored.org_id).to_string(),
        kind: kind.into(),
        issuer: stored.issuer.clone(),
        jwks: stored.jwks.clone().unwrap_or_default(),
        bundle_uri: stored.bundle_uri.clone(),
        algorithms: stored.algorithms.clone(),
        max_assertion_lifetime: Some(convert::proto_duration(stored.max_assertion_lifetime())),
        single_use_jti: Some(stored.single_use_jti),
        shared: Some(stored.shared),
        display_name: stored.display_name.clone(),
        jwks_uri: stored.fetched_jwks_uri.clone().unwrap_or_default(),
        key_ids: stored.key_ids.clone().unwrap_or_default(),
        fetch_time: stored.fetch_time.map(convert::timestamp),
        fetch_error: stored.fetch_error.clone().unwrap_or_default(),
        create_time: Some(convert::timestamp(stored.create_time)),
        update_time: Some(convert::timestamp(stored.update_time)),
        etag: stored.revision.to_string(),
    })
}

/// The requested kind of an issuer.
pub fn issuer_kind(kind: i32) -> Result<IssuerKind, &'static str> {
    match pb::IssuerKind::try_from(kind) {
        Ok(pb::IssuerKind::Oidc) => Ok(IssuerKind::Oidc),
        Ok(pb::IssuerKind::Jwks) => Ok(IssuerKind::Jwks),
        Ok(pb::IssuerKind::Spiffe) => Ok(IssuerKind::Spiffe),
        Ok(pb::IssuerKind::Unspecified) | Err(_) => {
            Err("must be ISSUER_KIND_OIDC, ISSUER_KIND_JWKS or ISSUER_KIND_SPIFFE")
        }
    }
}

/// Under what a rule works, beside itself.
pub struct Standing<'a> {
    pub rules: &'a Rules,
    pub ceiling: &'a Ceiling,
    /// The keys under which a rule is sealed.
    pub master: &'a MasterKeys,
    /// The names of the rules' issuers ([`names`]).
    pub issuers: HashMap<IssuerId, IssuerName>,
    pub now: OffsetDateTime,
}

/// The names of issuers as they were stored by us. Those are left out that others wrote, or that cannot be read.
pub fn names(stored: &[StoredIssuer], master: &MasterKeys) -> HashMap<IssuerId, IssuerName> {
    let name = |stored: &StoredIssuer| {
        let issuer = stored.issuer().ok().filter(|issuer| stored.is_ours(master, issuer))?;
        Some((issuer.id(), issuer.name().clone()))
    };
    stored.iter().filter_map(name).collect()
}

impl Standing<'_> {
    /// The state of a rule. One that others wrote opens nothing, nor one whose issuer they did: it is blocked.
    pub fn state(&self, stored: &StoredRule, rule: &Rule) -> TokenState {
        let issuer = self.issuers.get(&stored.issuer());
        let works =
            |issuer: &&IssuerName| self.ceiling.admits(issuer).is_some() && stored.is_ours(self.master, rule);
        match stored.state(self.rules, self.now) {
            TokenState::Active
                if issuer.filter(|issuer| self.rules.allow_issuer(issuer)).filter(works).is_none() =>
            {
                TokenState::Blocked
            }
            state => state,
        }
    }
}

/// The message for a federation rule.
pub fn rule(stored: &StoredRule, standing: &Standing<'_>) -> Result<pb::FederationRule> {
    let rule = stored.rule()?;
    let subject = rule.matches.subject();
    let exact = subject.exact().map(|subject| SubjectMatch::Subject(subject.to_owned()));
    let prefix = subject.prefix().map(|prefix| SubjectMatch::SubjectPrefix(prefix.to_owned()));
    let reason = stored.revoke_reason.as_deref().and_then(convert::revoke_reason);
    Ok(pb::FederationRule {
        id: stored.id().to_string(),
        org_id: OrgId::from(stored.org_id).to_string(),
        issuer_id: stored.issuer().to_string(),
        account_id: stored.account().to_string(),
        audiences: stored.audiences.clone(),
        subject_match: exact.or(prefix),
        claims: rule.matches.claims().iter().map(claim).collect(),
        scopes: stored.scopes.clone(),
        resources: stored.resources.clone(),
        allowed_audiences: stored.allowed_audiences.clone(),
        allowed_cidrs: stored.allowed_cidrs.clone(),
        expire_time: stored.expire_time.map(convert::timestamp),
        access_token_lifetime: rule.access_token_lifetime.map(convert::proto_duration),
        disabled: Some(stored.disabled),
        display_name: stored.display_name.clone(),
        r#use: Some(pb::FederationRuleUse {
            last_use_time: stored.last_use_time.map(convert::timestamp),
            last_use_address: stored.last_use_address.clone().unwrap_or_default(),
            count: stored.use_count,
        }),
        state: convert::token_state(standing.state(stored, &rule)).into(),
        create_time: Some(convert::timestamp(stored.create_time)),
        update_time: Some(convert::timestamp(stored.update_time)),
        revoke_time: stored.revoke_time.map(convert::timestamp),
        revoke_reason: reason.unwrap_or(pb::RevokeReason::Unspecified).into(),
        etag: stored.revision.to_string(),
    })
}

fn claim(claim: &ClaimMatch) -> pb::ClaimMatch {
    let text =
        |value: &ClaimValue| if let ClaimValue::Text(text) = value { Some(text.clone()) } else { None };
    let flag = |value: &ClaimValue| if let ClaimValue::Bool(flag) = value { Some(*flag) } else { None };
    pb::ClaimMatch {
        path: claim.path().to_vec(),
        values: claim.values().iter().filter_map(text).collect(),
        contains: claim.contains(),
        flag: claim.values().iter().find_map(flag),
    }
}

/// The messages for warnings about what the request calls `what`.
pub fn warnings(what: &str, warnings: Vec<Warning>) -> Vec<pb::FederationWarning> {
    let message = |warning: Warning| pb::FederationWarning {
        field: format!("{what}.{}", warning.field),
        description: warning.description,
    };
    warnings.into_iter().map(message).collect()
}

/// The message for what was presented.
pub fn presentation(stored: &StoredPresentation) -> Result<pb::Presentation> {
    // What failed before its claims were recorded has none.
    let claims = match stored.outcome()? {
        Outcome::Refused
            if !RuleCheck::is_name_of_rule(&stored.failed_check) && stored.claims.0.is_empty() =>
        {
            String::new()
        }
        Outcome::Passed | Outcome::Refused => {
            serde_json::to_string(&stored.claims.0).map_err(Error::internal)?
        }
    };
    Ok(pb::Presentation { claims, ..presentation_without_claims(stored)? })
}

/// The same without claims.
pub fn presentation_without_claims(stored: &StoredPresentation) -> Result<pb::Presentation> {
    let outcome = match stored.outcome()? {
        Outcome::Passed => pb::PresentationOutcome::Passed,
        Outcome::Refused => pb::PresentationOutcome::Refused,
    };
    Ok(pb::Presentation {
        subject: stored.subject.clone(),
        claims: String::new(),
        outcome: outcome.into(),
        failed_check: stored.failed_check.clone(),
        count: stored.count,
        last_time: Some(convert::timestamp(stored.last_time)),
    })
}
