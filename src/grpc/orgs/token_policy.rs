//! `UpdateTokenPolicy`, and the policy as callers see it.

use std::time::Duration;

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::db;
use crate::db::events::{Actor, Change, FieldChange};
use crate::db::retrying;
use crate::db::tokens::{Token, TokenFilter};
use crate::domain::paging::Page;
use crate::domain::tokens::limits::{MAX_LIST, MAX_TOKEN_LIFE, spelled};
use crate::domain::tokens::policy::{
    Ceilings, MIN_ACCESS_TOKEN_LIFE, MIN_IDLE, MIN_TOKEN_LIFE, Rules, TokenPolicy, TokenState,
};
use crate::domain::values::ids::OrgId;
use crate::domain::values::names::Audience;
use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::Node;
use crate::error::{Result, Violations};
use crate::flows::transaction::Transaction;
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::grpc::wire::convert;
use crate::grpc::wire::update_mask::{Mask, check_etag};
use crate::state::State;

/// How many of the tokens that a change stops are listed; their number is told beside.
const MAX_LISTED: i64 = 100;

/// What may be updated.
const KNOWN: [&str; 8] = [
    "access_token_lifetime",
    "allow_endless",
    "allow_user_tokens",
    "allowed_audiences",
    "default_lifetime",
    "idle_limit",
    "max_publishable_lifetime",
    "max_secret_lifetime",
];

fn is_set(policy: &pb::TokenPolicy, path: &str) -> bool {
    match path {
        "access_token_lifetime" => policy.access_token_lifetime.is_some(),
        "allow_endless" => policy.allow_endless.is_some(),
        "allow_user_tokens" => policy.allow_user_tokens.is_some(),
        "allowed_audiences" => !policy.allowed_audiences.is_empty(),
        "default_lifetime" => policy.default_lifetime.is_some(),
        "idle_limit" => policy.idle_limit.is_some(),
        "max_publishable_lifetime" => policy.max_publishable_lifetime.is_some(),
        _ => policy.max_secret_lifetime.is_some(),
    }
}

/// The policy as callers see it: what holds, whatever was stored. `revision` is the org's.
pub fn message(policy: &TokenPolicy, ceilings: &Ceilings, revision: i64) -> pb::TokenPolicy {
    let rules = policy.within(ceilings);
    let access_token = policy.access_token_lifetime.map(|life| rules.access_token_life(Some(life)));
    pb::TokenPolicy {
        max_secret_lifetime: Some(convert::proto_duration(rules.max_secret_lifetime)),
        max_publishable_lifetime: Some(convert::proto_duration(rules.max_publishable_lifetime)),
        default_lifetime: Some(convert::proto_duration(rules.default_lifetime)),
        allow_endless: Some(rules.endless),
        allow_user_tokens: Some(rules.user_tokens),
        access_token_lifetime: access_token.map(convert::proto_duration),
        allowed_audiences: rules.audiences.iter().map(ToString::to_string).collect(),
        idle_limit: rules.idle.map(convert::proto_duration),
        etag: revision.to_string(),
    }
}

pub async fn update_token_policy(
    state: &State,
    call: &Call,
    request: pb::UpdateTokenPolicyRequest,
) -> Result<pb::UpdateTokenPolicyResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    acting.require(&Permission::ORGS_WRITE, &Node::Org)?;
    let asked = request.policy.unwrap_or_default();
    let mut violations = Violations::default();
    let mask = Mask::read(&mut violations, request.update_mask.as_ref(), &KNOWN, |path| is_set(&asked, path));
    let given = read(&mut violations, &asked, &mask, &state.ceilings);
    violations.finish()?;

    let in_full = acting.require(&Permission::TOKENS_READ, &Node::Org).is_ok();
    let now = state.clock.now();
    retrying(|| async {
        let mut tx = Transaction::begin(state).await?;
        let org = db::orgs::lock(&mut tx, acting.org_id).await?;
        check_etag(&asked.etag, org.revision)?;
        let before = org.policy()?;
        let after = over(&before, &given, &mask);
        let fields = changes(&before, &after);
        let (old, new) = (before.within(&state.ceilings), after.within(&state.ceilings));
        let stopped = stopped(&mut tx, acting.org_id, &old, &new, now).await?;
        let mut revision = org.revision;
        if !fields.is_empty() && !request.validate_only {
            // Verifiers that keep JWTs from before learn that some are good no more.
            let stale = stopped.total != Some(0) || new.cut_access_tokens_of(&old);
            db::orgs::policies::set(&mut tx, acting.org_id, &after, stale, now).await?;
            revision += 1;
            let change = Change {
                event_id: state.clock.new_id(),
                org_id: acting.org_id,
                kind: "org.token_policy_updated",
                resource_ids: vec![acting.org_id.to_string()],
                fields,
                // One row for all tokens of the org.
                subjects: vec![acting.org_id.to_string()],
            };
            tx.record(&Actor::from(&acting), &[change], now).await?;
            tx.commit().await?;
        }
        let Page { rows, total, .. } = stopped;
        let token = |token: &Token| Ok(seen(convert::token(token, &new, now)?, in_full));
        Ok(pb::UpdateTokenPolicyResponse {
            policy: Some(message(&after, &state.ceilings, revision)),
            affected_tokens: rows.iter().map(token).collect::<Result<_>>()?,
            affected_count: total,
        })
    })
    .await
}

/// The tokens that the new rules stop and the old ones did not.
async fn stopped(
    tx: &mut PgConnection,
    org_id: OrgId,
    old: &Rules,
    new: &Rules,
    now: OffsetDateTime,
) -> Result<Page<Token>> {
    if new.stop_no_more_than(old) {
        // Without a look at all tokens of the org, which may be many.
        return Ok(Page { rows: Vec::new(), next: None, total: Some(0) });
    }
    let states = vec![(TokenState::Active, old.clone()), (TokenState::Blocked, new.clone())];
    let filter = TokenFilter { states, ..TokenFilter::default() };
    db::tokens::page(tx, org_id, &filter, None, MAX_LISTED, now).await
}

/// A token that is stopped, as whoever changes the policy sees it: in full with `tokens.read`.
fn seen(token: pb::Token, in_full: bool) -> pb::Token {
    if in_full {
        return token;
    }
    let pb::Token { id, org_id, account_id, kind, state, .. } = token;
    pb::Token { id, org_id, account_id, kind, state, ..Default::default() }
}

/// The fields that the mask names, each checked by itself; those that are absent get their
/// default.
fn read(
    violations: &mut Violations,
    asked: &pb::TokenPolicy,
    mask: &Mask,
    ceilings: &Ceilings,
) -> TokenPolicy {
    let mut time = |path: &str, asked: &Option<prost_types::Duration>, least: Duration, most: Duration| {
        let asked = asked.as_ref().filter(|_| mask.has(path))?;
        violations.check(&format!("policy.{path}"), within(asked, least, most))
    };
    let mut policy = TokenPolicy {
        max_secret_lifetime: time(
            "max_secret_lifetime",
            &asked.max_secret_lifetime,
            MIN_TOKEN_LIFE,
            ceilings.token_life,
        ),
        max_publishable_lifetime: time(
            "max_publishable_lifetime",
            &asked.max_publishable_lifetime,
            MIN_TOKEN_LIFE,
            ceilings.token_life,
        ),
        default_lifetime: time(
            "default_lifetime",
            &asked.default_lifetime,
            MIN_TOKEN_LIFE,
            ceilings.token_life,
        ),
        access_token_lifetime: time(
            "access_token_lifetime",
            &asked.access_token_lifetime,
            MIN_ACCESS_TOKEN_LIFE,
            ceilings.access_token_life,
        ),
        idle_limit: time("idle_limit", &asked.idle_limit, MIN_IDLE, ceilings.idle.unwrap_or(MAX_TOKEN_LIFE)),
        allow_endless: asked.allow_endless(),
        allow_user_tokens: asked.allow_user_tokens(),
        allowed_audiences: Vec::new(),
    };
    for (path, wanted, allowed) in [
        ("allow_endless", policy.allow_endless, ceilings.endless),
        ("allow_user_tokens", policy.allow_user_tokens, ceilings.user_tokens),
    ] {
        if mask.has(path) && wanted && !allowed {
            violations.add(format!("policy.{path}"), "must be false: this deployment does not allow it");
        }
    }
    if mask.has("allowed_audiences") {
        let field = "policy.allowed_audiences";
        let listed = violations.check_each(field, &asked.allowed_audiences, MAX_LIST, Audience::parse);
        for audience in listed {
            if !policy.allowed_audiences.contains(&audience) {
                policy.allowed_audiences.push(audience);
            }
        }
    }
    policy
}

/// A time in whole seconds within these bounds; the error is the sentence after the field's name.
fn within(asked: &prost_types::Duration, least: Duration, most: Duration) -> Result<Duration, String> {
    let time = Duration::try_from(convert::duration(asked)?);
    match time {
        Ok(time) if time.subsec_nanos() == 0 && (least..=most).contains(&time) => Ok(time),
        _ => Err(format!(
            "must be {} to {}, the most that this deployment allows, in whole seconds",
            spelled(least),
            spelled(most)
        )),
    }
}

/// The policy with what the mask names from the request.
fn over(before: &TokenPolicy, given: &TokenPolicy, mask: &Mask) -> TokenPolicy {
    let pick = |path: &str| if mask.has(path) { given } else { before };
    TokenPolicy {
        max_secret_lifetime: pick("max_secret_lifetime").max_secret_lifetime,
        max_publishable_lifetime: pick("max_publishable_lifetime").max_publishable_lifetime,
        default_lifetime: pick("default_lifetime").default_lifetime,
        allow_endless: pick("allow_endless").allow_endless,
        allow_user_tokens: pick("allow_user_tokens").allow_user_tokens,
        access_token_lifetime: pick("access_token_lifetime").access_token_lifetime,
        allowed_audiences: pick("allowed_audiences").allowed_audiences.clone(),
        idle_limit: pick("idle_limit").idle_limit,
    }
}

/// What an event says of a change: what the org has decided, times in seconds.
fn changes(before: &TokenPolicy, after: &TokenPolicy) -> Vec<FieldChange> {
    let time = |field, old: Option<Duration>, new: Option<Duration>| {
        let text = |time: Option<Duration>| time.map(|time| format!("{}s", time.as_secs()));
        FieldChange::between(field, text(old), text(new))
    };
    let flag = |field, old: bool, new: bool| {
        FieldChange::between(field, Some(old.to_string()), Some(new.to_string()))
    };
    let each = [
        time("max_secret_lifetime", before.max_secret_lifetime, after.max_secret_lifetime),
        time("max_publishable_lifetime", before.max_publishable_lifetime, after.max_publishable_lifetime),
        time("default_lifetime", before.default_lifetime, after.default_lifetime),
        flag("allow_endless", before.allow_endless, after.allow_endless),
        flag("allow_user_tokens", before.allow_user_tokens, after.allow_user_tokens),
        time("access_token_lifetime", before.access_token_lifetime, after.access_token_lifetime),
        time("idle_limit", before.idle_limit, after.idle_limit),
    ];
    let mut fields: Vec<_> = each.into_iter().flatten().collect();
    let (old, new) = (&before.allowed_audiences, &after.allowed_audiences);
    fields.extend(FieldChange::of_lists("allowed_audiences", old, new));
    fields
}
