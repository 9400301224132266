//! The message of an org, which `OrgService` and `GetCaller` both return.

use crate::db;
use crate::domain::tokens::policy::{Ceilings, TokenPolicy};
use crate::domain::values::text::texts;
use crate::error::Result;
use crate::grpc::pb;
use crate::grpc::wire::convert;

/// The message for an org, with its policy limited to the ceilings of the deployment.
pub fn message(org: &db::orgs::Org, ceilings: &Ceilings) -> Result<pb::Org> {
    let state = match (org.delete_time, org.suspend_time) {
        (Some(_), _) => pb::OrgState::Deleted,
        (None, Some(_)) => pb::OrgState::Suspended,
        (None, None) => pb::OrgState::Active,
    };
    Ok(pb::Org {
        id: org.id().to_string(),
        slug: org.slug.clone(),
        display_name: org.display_name.clone(),
        state: state.into(),
        token_policy: Some(policy(&org.policy()?, ceilings, org.revision)),
        create_time: Some(convert::timestamp(org.create_time)),
        update_time: Some(convert::timestamp(org.update_time)),
        delete_time: org.delete_time.map(convert::timestamp),
        etag: org.revision.to_string(),
    })
}

/// The message for a policy: the effective values, not the stored ones. `revision` is the org's.
pub fn policy(policy: &TokenPolicy, ceilings: &Ceilings, revision: i64) -> pb::TokenPolicy {
    let rules = policy.within(ceilings);
    let access_token =
        policy.access_token_lifetime.map(|lifetime| rules.access_token_lifetime(Some(lifetime)));
    pb::TokenPolicy {
        max_secret_lifetime: Some(convert::proto_duration(rules.max_secret_lifetime)),
        max_publishable_lifetime: Some(convert::proto_duration(rules.max_publishable_lifetime)),
        default_lifetime: Some(convert::proto_duration(rules.default_lifetime)),
        allow_endless: Some(rules.endless),
        allow_user_tokens: Some(rules.user_tokens),
        access_token_lifetime: access_token.map(convert::proto_duration),
        allowed_audiences: texts(&rules.audiences),
        idle_limit: rules.idle.map(convert::proto_duration),
        etag: revision.to_string(),
        allow_self_renewal: Some(rules.self_renewal),
        max_renewed_lifetime: Some(convert::proto_duration(rules.max_renewed_lifetime)),
        allow_federation: Some(rules.federation),
        allowed_issuers: texts(&rules.issuers),
    }
}
