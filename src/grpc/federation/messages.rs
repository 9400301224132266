//! Issuers, federation rules and presentations as protocol messages.

use std::collections::HashMap;

use time::OffsetDateTime;

use crate::db::federation::presentations::StoredPresentation;
use crate::db::federation::{StoredIssuer, StoredRule};
use crate::domain::federation::ceiling::Ceiling;
use crate::domain::federation::issuer::{Issuer, IssuerKind};
use crate::domain::federation::issuer_name::IssuerName;
use crate::domain::federation::pins::Warning;
use crate::domain::federation::presentation::Outcome;
use crate::domain::federation::rule::{ClaimMatch, ClaimValue};
use crate::domain::tokens::policy::{Rules, TokenState};
use crate::domain::values::ids::{IssuerId, OrgId};
use crate::error::{Error, Result};
use crate::grpc::pb;
use crate::grpc::pb::federation_rule::SubjectMatch;
use crate::grpc::wire::convert;

/// The message for an issuer.
pub fn issuer(stored: &StoredIssuer, issuer: &Issuer) -> pb::Issuer {
    let kind = match issuer.kind() {
        IssuerKind::Oidc => pb::IssuerKind::Oidc,
        IssuerKind::Jwks => pb::IssuerKind::Jwks,
        IssuerKind::Spiffe => pb::IssuerKind::Spiffe,
    };
    let key_ids = match issuer.inline_keys() {
        Some(keys) => keys.keys().iter().filter_map(|key| key.kid()).map(str::to_owned).collect(),
        None => stored.key_ids.clone().unwrap_or_default(),
    };
    pb::Issuer {
        id: stored.id().to_string(),
        org_id: OrgId::from(stored.org_id).to_string(),
        kind: kind.into(),
        issuer: issuer.name().to_string(),
        jwks: issuer.jwks().unwrap_or_default().to_owned(),
        bundle_uri: issuer.bundle_uri().map(str::to_owned),
        algorithms: issuer.algorithms().iter().map(|algorithm| algorithm.name().to_owned()).collect(),
        max_assertion_lifetime: Some(convert::proto_duration(issuer.max_assertion_lifetime())),
        single_use_jti: Some(issuer.single_use_jti()),
        shared: Some(issuer.shared()),
        display_name: stored.display_name.clone(),
        jwks_uri: stored.fetched_jwks_uri.clone().unwrap_or_default(),
        key_ids,
        fetch_time: stored.fetch_time.map(convert::timestamp),
        fetch_error: stored.fetch_error.clone().unwrap_or_default(),
        create_time: Some(convert::timestamp(stored.create_time)),
        update_time: Some(convert::timestamp(stored.update_time)),
        etag: stored.revision.to_string(),
    }
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
    /// The names of the issuers of the org.
    pub issuers: HashMap<IssuerId, IssuerName>,
    pub now: OffsetDateTime,
}

impl<'a> Standing<'a> {
    /// Reads the names of these issuers.
    pub fn new(
        rules: &'a Rules,
        ceiling: &'a Ceiling,
        issuers: &[StoredIssuer],
        now: OffsetDateTime,
    ) -> Result<Self> {
        let named = |stored: &StoredIssuer| Ok((stored.id(), stored.issuer()?.name().clone()));
        let issuers = issuers.iter().map(named).collect::<Result<_>>()?;
        Ok(Self { rules, ceiling, issuers, now })
    }

    /// The state of a rule.
    pub fn state(&self, rule: &StoredRule) -> Result<TokenState> {
        let issuer = self.issuers.get(&rule.issuer());
        let issuer = issuer.ok_or_else(|| Error::internal("a federation rule without its issuer"))?;
        Ok(match rule.state(self.rules, issuer, self.now) {
            TokenState::Active if self.ceiling.admits(issuer).is_none() => TokenState::Blocked,
            state => state,
        })
    }
}

/// The message for a federation rule.
pub fn rule(stored: &StoredRule, standing: &Standing<'_>) -> Result<pb::FederationRule> {
    let rule = stored.rule()?;
    let state = match standing.state(stored)? {
        TokenState::Active => pb::TokenState::Active,
        TokenState::Expired => pb::TokenState::Expired,
        TokenState::Revoked => pb::TokenState::Revoked,
        TokenState::Blocked => pb::TokenState::Blocked,
    };
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
        state: state.into(),
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
    let outcome = match stored.outcome()? {
        Outcome::Passed => pb::PresentationOutcome::Passed,
        Outcome::Refused => pb::PresentationOutcome::Refused,
    };
    let claims = match stored.subject.as_str() {
        "" => String::new(),
        _ => serde_json::to_string(&stored.claims.0).map_err(Error::internal)?,
    };
    Ok(pb::Presentation {
        subject: stored.subject.clone(),
        claims,
        outcome: outcome.into(),
        failed_check: stored.failed_check.clone(),
        count: stored.count,
        last_time: Some(convert::timestamp(stored.last_time)),
    })
}
