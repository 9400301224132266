//! `UpdateTokenPolicy`, and the policy's message.

use std::time::Duration;

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::db;
use crate::db::events::{Change, FieldChange};
use crate::db::federation::StoredRule;
use crate::db::tokens::{Token, TokenFilter};
use crate::domain::federation::issuer_name::IssuerName;
use crate::domain::paging::Page;
use crate::domain::tokens::limits::{MAX_LIST, MAX_TOKEN_LIFETIME, format_lifetime};
use crate::domain::tokens::policy::{
    Ceilings, MIN_ACCESS_TOKEN_LIFETIME, MIN_IDLE, MIN_TOKEN_LIFETIME, Rules, TokenPolicy, TokenState,
};
use crate::domain::values::ids::OrgId;
use crate::domain::values::names::Audience;
use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::Node;
use crate::error::{Result, Violations};
use crate::flows::transaction::transact;
use crate::grpc::federation::messages::{Standing, names, rule as rule_message};
use crate::grpc::federation::rules::issuers_of;
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::grpc::tokens::messages::token as token_message;
use crate::grpc::wire::update_mask::{Mask, check_etag};
use crate::grpc::wire::{answer_size, convert, org};
use crate::state::State;

/// At most this many of the tokens that a change blocks are listed; their count is returned too.
const MAX_LISTED: i64 = 100;

/// The fields that may be updated.
const KNOWN: [&str; 12] = [
    "access_token_lifetime",
    "allow_endless",
    "allow_federation",
    "allow_self_renewal",
    "allow_user_tokens",
    "allowed_audiences",
    "allowed_issuers",
    "default_lifetime",
    "idle_limit",
    "max_publishable_lifetime",
    "max_renewed_lifetime",
    "max_secret_lifetime",
];

fn is_set(policy: &pb::TokenPolicy, path: &str) -> bool {
    match path {
        "access_token_lifetime" => policy.access_token_lifetime.is_some(),
        "allow_endless" => policy.allow_endless.is_some(),
        "allow_federation" => policy.allow_federation.is_some(),
        "allow_self_renewal" => policy.allow_self_renewal.is_some(),
        "allow_user_tokens" => policy.allow_user_tokens.is_some(),
        "allowed_issuers" => !policy.allowed_issuers.is_empty(),
        "allowed_audiences" => !policy.allowed_audiences.is_empty(),
        "default_lifetime" => policy.default_lifetime.is_some(),
        "idle_limit" => policy.idle_limit.is_some(),
        "max_publishable_lifetime" => policy.max_publishable_lifetime.is_some(),
        "max_renewed_lifetime" => policy.max_renewed_lifetime.is_some(),
        _ => policy.max_secret_lifetime.is_some(),
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
    transact!(state, &acting, |mut tx| {
        let now = tx.now();
        let org = tx.lock_org().await?;
        check_etag(&asked.etag, org.revision)?;
        let before = org.policy()?;
        let after = over(&before, &given, &mask);
        let fields = changes(&before, &after);
        let (old, new) = (before.within(&state.ceilings), after.within(&state.ceilings));
        let stopped = stopped(&mut tx, acting.org_id, &old, &new, now).await?;
        let rules = match new.allow_all_rules_that(&old) {
            true => Vec::new(),
            false => db::federation::rules::find_active(&mut *tx, acting.org_id, now).await?,
        };
        let issuers =
            db::federation::issuers::find_each(&mut *tx, acting.org_id, &issuers_of(&rules)).await?;
        let master = &*state.keyring.master;
        let standing = Standing {
            rules: &new,
            ceiling: &state.federation_ceiling,
            master,
            issuers: names(&issuers, master),
            now,
        };
        let stopped_rules = stopped_rules(rules, &old, &standing);
        let mut revision = org.revision;
        if !fields.is_empty() && !request.validate_only {
            // Verifiers that cache JWTs must learn that some issued earlier are no longer valid.
            let stale =
                stopped.total() != Some(0) || !stopped_rules.is_empty() || new.cut_access_tokens_of(&old);
            db::orgs::policies::set(&mut tx, acting.org_id, &after, stale, now).await?;
            revision += 1;
            let change = Change::of("org.token_policy_updated", [acting.org_id])
                .fields(fields)
                // One row for all tokens of the org.
                .subjects([acting.org_id]);
            tx.record(change).await?;
            tx.commit().await?;
        }
        let token = |token: Token| token_message(&token, &new, now).map(|token| seen(token, in_full));
        let listed = stopped.fit(answer_size::MOST / 2, answer_size::in_list, token)?;
        let all_rules = acting.require(&Permission::FEDERATION_READ, &Node::Org).is_ok();
        let rule = |rule: &StoredRule| rule_message(rule, &standing).map(|rule| seen_rule(rule, all_rules));
        let first = stopped_rules.iter().take(MAX_LISTED as usize);
        let rules = first.map(rule).collect::<Result<Vec<_>>>()?;
        Ok(pb::UpdateTokenPolicyResponse {
            policy: Some(org::policy(&after, &state.ceilings, revision)),
            affected_tokens: listed.items,
            affected_count: listed.total,
            affected_rule_count: Some(stopped_rules.len() as i32),
            affected_rules: answer_size::fitting_within(rules, answer_size::MOST / 2),
        })
    })
}

/// The tokens that the new rules block and the old ones did not.
async fn stopped(
    tx: &mut PgConnection,
    org_id: OrgId,
    old: &Rules,
    new: &Rules,
    now: OffsetDateTime,
) -> Result<Page<Token>> {
    if new.allow_all_that(old) {
        // Avoids reading all tokens of the org, of which there may be many.
        return Ok(Page::of(Vec::new(), 0, 0, |token: &Token| token.id().to_string()));
    }
    let states = vec![(TokenState::Active, old.clone()), (TokenState::Blocked, new.clone())];
    let filter = TokenFilter { states, ..TokenFilter::default() };
    db::tokens::page(tx, org_id, &filter, None, MAX_LISTED, now).await
}

/// Those of these federation rules that the new rules block and the old ones did not, in their order.
///
/// One that is disabled is not stopped.
fn stopped_rules(active: Vec<StoredRule>, old: &Rules, standing: &Standing<'_>) -> Vec<StoredRule> {
    let before = Standing { rules: old, issuers: standing.issuers.clone(), ..*standing };
    let is_stopped = |rule: &StoredRule| {
        // One that cannot be read opens nothing, and keeps no policy from being changed.
        let Ok(read) = rule.rule() else { return false };
        let states = (before.state(rule, &read), standing.state(rule, &read));
        !rule.disabled && states == (TokenState::Active, TokenState::Blocked)
    };
    active.into_iter().filter(is_stopped).collect()
}

/// The same of a blocked federation rule, in full with `federation.read`.
fn seen_rule(rule: pb::FederationRule, in_full: bool) -> pb::FederationRule {
    if in_full {
        return rule;
    }
    let pb::FederationRule { id, org_id, account_id, state, .. } = rule;
    pb::FederationRule { id, org_id, account_id, state, ..Default::default() }
}

/// A blocked token as returned to the caller who changes the policy: in full with `tokens.read`.
fn seen(token: pb::Token, in_full: bool) -> pb::Token {
    if in_full {
        return token;
    }
    let pb::Token { id, org_id, account_id, kind, state, .. } = token;
    pb::Token { id, org_id, account_id, kind, state, ..Default::default() }
}

/// The fields that the mask names, each checked separately. Absent fields get their default.
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
            MIN_TOKEN_LIFETIME,
            ceilings.token_lifetime,
        ),
        max_publishable_lifetime: time(
            "max_publishable_lifetime",
            &asked.max_publishable_lifetime,
            MIN_TOKEN_LIFETIME,
            ceilings.token_lifetime,
        ),
        default_lifetime: time(
            "default_lifetime",
            &asked.default_lifetime,
            MIN_TOKEN_LIFETIME,
            ceilings.token_lifetime,
        ),
        access_token_lifetime: time(
            "access_token_lifetime",
            &asked.access_token_lifetime,
            MIN_ACCESS_TOKEN_LIFETIME,
            ceilings.access_token_lifetime,
        ),
        idle_limit: time(
            "idle_limit",
            &asked.idle_limit,
            MIN_IDLE,
            ceilings.idle.unwrap_or(MAX_TOKEN_LIFETIME),
        ),
        max_renewed_lifetime: time(
            "max_renewed_lifetime",
            &asked.max_renewed_lifetime,
            MIN_TOKEN_LIFETIME,
            MAX_TOKEN_LIFETIME,
        ),
        allow_self_renewal: asked.allow_self_renewal(),
        allow_endless: asked.allow_endless(),
        allow_user_tokens: asked.allow_user_tokens(),
        allowed_audiences: Vec::new(),
        allow_federation: asked.allow_federation(),
        allowed_issuers: Vec::new(),
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
    if mask.has("allowed_issuers") {
        let field = "policy.allowed_issuers";
        policy.allowed_issuers =
            violations.check_each(field, &asked.allowed_issuers, MAX_LIST, IssuerName::parse);
        policy.allowed_issuers.sort_unstable();
        policy.allowed_issuers.dedup();
    }
    policy
}

/// A time in whole seconds within these bounds. The error is the sentence after the field's name.
fn within(asked: &prost_types::Duration, least: Duration, most: Duration) -> Result<Duration, String> {
    let time = Duration::try_from(convert::duration(asked)?);
    match time {
        Ok(time) if time.subsec_nanos() == 0 && (least..=most).contains(&time) => Ok(time),
        _ => Err(format!(
            "must be {} to {}, the most that this deployment allows, in whole seconds",
            format_lifetime(least),
            format_lifetime(most)
        )),
    }
}

/// The policy with the fields that the mask names taken from the request.
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
        allow_self_renewal: pick("allow_self_renewal").allow_self_renewal,
        max_renewed_lifetime: pick("max_renewed_lifetime").max_renewed_lifetime,
        allow_federation: pick("allow_federation").allow_federation,
        allowed_issuers: pick("allowed_issuers").allowed_issuers.clone(),
    }
}

/// The changed fields for the event: the org's own settings, with times in seconds.
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
        flag("allow_self_renewal", before.allow_self_renewal, after.allow_self_renewal),
        time("max_renewed_lifetime", before.max_renewed_lifetime, after.max_renewed_lifetime),
        flag("allow_federation", before.allow_federation, after.allow_federation),
    ];
    let mut fields: Vec<_> = each.into_iter().flatten().collect();
    let (old, new) = (&before.allowed_audiences, &after.allowed_audiences);
    fields.extend(FieldChange::of_lists("allowed_audiences", old, new));
    let (old, new) = (&before.allowed_issuers, &after.allowed_issuers);
    fields.extend(FieldChange::of_lists("allowed_issuers", old, new));
    fields
}
