//! Federation rules: which JWTs of an issuer act as which service account.

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::issuers::{admitted, allowed, not_ours};
use super::messages::{self, Standing};
use super::rule_changes::{changes, updated_event};
use super::rule_fields::{GivenRuleFields, UPDATABLE, is_set, over, subject};
use super::trial::tried;
use crate::db;
use crate::db::events::{Author, Change};
use crate::db::federation::rules::{self, NewRule, RuleFilter};
use crate::db::federation::{StoredIssuer, StoredRule, issuers};
use crate::db::{named_permissions, references};
use crate::domain::access::acting::Acting;
use crate::domain::access::rights::HeldGrants;
use crate::domain::access::work::Work;
use crate::domain::federation::evaluation::RuleChange;
use crate::domain::federation::issuer::Issuer;
use crate::domain::federation::pins::{self, Place, Warning};
use crate::domain::federation::rule::{Rule, RuleMatch};
use crate::domain::tokens::expiration::Expiration;
use crate::domain::tokens::narrowing::{RestrictionsAndExpiry, may_become};
use crate::domain::tokens::policy::Rules;
use crate::domain::values::ids::{AccountId, IssuerId, OrgId, RuleId, SYSTEM_ORG};
use crate::domain::values::kinds::{AccountKind, TokenKind};
use crate::domain::values::names::DisplayName;
use crate::domain::values::permissions::Permission;
use crate::domain::values::references::AccountRef;
use crate::domain::values::resources::Node;
use crate::error::{Error, Reason, Result, Violations};
use crate::flows::transaction::transact;
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::grpc::tokens::create::{audiences_within_policy, existing};
use crate::grpc::wire::idempotency::Idempotency;
use crate::grpc::wire::page_token::Paging;
use crate::grpc::wire::update_mask::{Mask, check_etag};
use crate::grpc::wire::{convert, idempotency};
use crate::state::State;

pub async fn create_federation_rule(
    state: &State,
    call: &Call,
    mut request: pb::CreateFederationRuleRequest,
) -> Result<pb::CreateFederationRuleResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    acting.require_federation()?;

    let request_id = std::mem::take(&mut request.request_id);
    let message = request.rule.clone().unwrap_or_default();
    let mut violations = Violations::default();
    let request_id = violations.check("request_id", idempotency::parse(&request_id));
    let mut inner = Violations::default();
    if !message.org_id.is_empty() {
        inner.add("org_id", "must be empty: the org is that of the request");
    }
    let issuer_id = inner.check("issuer_id", IssuerId::parse(&message.issuer_id));
    let named = inner.check("account_id", AccountRef::parse(&message.account_id));
    let given = GivenRuleFields::read(&mut inner, &message);
    let matches = RuleMatch::read(&mut inner, &message.audiences, subject(&message), given.claims.clone());
    violations.take_in("rule", inner);
    let (issuer_id, named, matches, request_id) = violations.all((issuer_id, named, matches, request_id))?;
    acting.may_make(&given.lists, false)?;

    request.org_id.clear();
    if let Some(rule) = &mut request.rule {
        rule.account_id.clear();
    }
    let once = Idempotency::new(&acting, "CreateFederationRule", request_id, &request);
    transact!(state, &acting, |mut tx| {
        let now = tx.now();
        tx.lock_org().await?;
        let account_id = references::account(&mut tx, &acting, &named).await?;
        let once = once.bound_to([account_id]);
        let stored_issuer = issuers::find(&mut *tx, acting.org_id, issuer_id).await?;
        let stored_issuer = stored_issuer.ok_or_else(|| Error::not_found("issuer", issuer_id))?;
        let issuer = stored_issuer.issuer()?;
        let (kind, held) = account(&mut tx, acting.org_id, (account_id, &named)).await?;
        let policy = db::orgs::policies::find_rules(&mut *tx, acting.org_id, &state.ceilings).await?;
        acting.may_make_rule(
            kind,
            held.rights(),
            &given.lists,
            given.expire_time.or(acting.token_ceiling()),
        )?;
        if let Some(before) = once.replayed(&mut tx, now).await? {
            return Ok(before);
        }
        // After the replay check: the expiry of the first call may have passed since.
        let mut violations = Violations::default();
        let expiration = given.expire_time.map_or(Expiration::Unspecified, Expiration::At);
        let end = expiration.resolve(TokenKind::Federated, &policy, now, acting.token_ceiling());
        let end = violations.check("rule.expire_time", end);
        let warnings = fits(state, &acting, &mut violations, (&issuer, &matches), &policy);
        audiences_within_policy(
            &mut violations,
            "rule.allowed_audiences",
            &[],
            &given.lists.audiences,
            &policy,
        );
        let (expire_time,) = violations.all((end,))?;
        existing(&mut tx, acting.org_id, "rule.resources", &given.lists.resources).await?;
        let rule = Rule {
            id: state.clock.new_id(),
            issuer_id,
            account_id,
            matches: matches.clone(),
            restrictions: given.lists.clone(),
            expire_time,
            access_token_lifetime: given.access_token_lifetime,
        };
        let new = NewRule {
            rule: &rule,
            display_name: given.display_name.as_ref(),
            disabled: message.disabled(),
            made_by: acting.caller.credential_id(),
            master: &state.keyring.master,
        };
        let stored = rules::insert(&mut tx, acting.org_id, &new, now).await?;
        let standing = standing(state, &policy, std::slice::from_ref(&stored_issuer), now);
        let response = pb::CreateFederationRuleResponse {
            rule: Some(messages::rule(&stored, &standing)?),
            warnings: messages::warnings("rule", warnings),
            first_seen_permissions: named_permissions::note(&mut tx, acting.org_id, &given.lists.scopes)
                .await?,
        };
        if request.validate_only {
            // Never committed: the response is the rule that would have been created.
            return Ok(response);
        }
        let change = Change::of("federation_rule.created", [rule.id])
            .fields(changes(None, Some((&stored, &rule))))
            .subjects([rule.id]);
        tx.record(change).await?;
        once.finish(&mut tx, &rule.id.to_string(), &response).await?;
        tx.commit().await?;
        Ok(response)
    })
}

/// The account of a rule: its kind, and what it holds. It stays as it is until the transaction ends.
async fn account(
    tx: &mut PgConnection,
    org_id: OrgId,
    (account_id, named): (AccountId, &AccountRef),
) -> Result<(AccountKind, HeldGrants)> {
    let Some(account) = db::accounts::lock(&mut *tx, org_id, account_id).await? else {
        let guest = db::orgs::memberships::find(tx, org_id, account_id).await?;
        let refusal = guest.map(|_| Error::from(Reason::TargetNotServiceAccount));
        return Err(refusal.unwrap_or_else(|| Error::not_found("account", named)));
    };
    Ok((account.kind()?, db::accounts::grants::find_held(tx, org_id, account_id).await?))
}

/// Refuses a rule for an issuer that the deployment or the policy does not allow, or that does not say whose
/// workload it means. Returns what to warn of.
fn fits(
    state: &State,
    acting: &Acting<'_>,
    violations: &mut Violations,
    (issuer, matches): (&Issuer, &RuleMatch),
    policy: &Rules,
) -> Vec<Warning> {
    violations.check("rule.issuer_id", allowed(policy, issuer));
    let Some(admitted) = violations.check("rule.issuer_id", admitted(state, issuer)) else {
        return Vec::new();
    };
    let place = Place { admitted, in_system_org: acting.org_id == SYSTEM_ORG };
    let mut inner = Violations::default();
    let warnings = pins::check(&mut inner, issuer, matches, place);
    violations.take_in("rule", inner);
    warnings
}

pub async fn get_federation_rule(
    state: &State,
    call: &Call,
    request: pb::GetFederationRuleRequest,
) -> Result<pb::GetFederationRuleResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    acting.require(&Permission::FEDERATION_READ, &Node::Org)?;
    let rule_id = parse_id("rule_id", &request.rule_id)?;
    let mut db = call.read(state).await?;
    let found = rules::find(&mut *db, acting.org_id, rule_id).await?;
    let stored = found.ok_or_else(|| Error::not_found("federation rule", rule_id))?;
    let rule = shown(state, &mut db, acting.org_id, &stored).await?;
    Ok(pb::GetFederationRuleResponse { rule: Some(rule) })
}

/// Under what the rules of these issuers work.
fn standing<'a>(
    state: &'a State,
    rules: &'a Rules,
    issuers: &[StoredIssuer],
    now: OffsetDateTime,
) -> Standing<'a> {
    let (ceiling, master) = (&*state.federation_ceiling, &*state.keyring.master);
    Standing { rules, ceiling, master, issuers: messages::names(issuers, master), now }
}

/// The issuers of these rules, each once.
pub fn issuers_of(rules: &[StoredRule]) -> Vec<IssuerId> {
    let mut issuers: Vec<_> = rules.iter().map(StoredRule::issuer).collect();
    issuers.sort_unstable();
    issuers.dedup();
    issuers
}

/// The message for a rule as of now.
pub async fn shown(
    state: &State,
    db: &mut PgConnection,
    org_id: OrgId,
    stored: &StoredRule,
) -> Result<pb::FederationRule> {
    let policy = db::orgs::policies::find_rules(&mut *db, org_id, &state.ceilings).await?;
    let issuers = issuers::find_each(db, org_id, &[stored.issuer()]).await?;
    messages::rule(stored, &standing(state, &policy, &issuers, state.clock.now()))
}

pub async fn list_federation_rules(
    state: &State,
    call: &Call,
    request: pb::ListFederationRulesRequest,
) -> Result<pb::ListFederationRulesResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    acting.require(&Permission::FEDERATION_READ, &Node::Org)?;
    let mut violations = Violations::default();
    let named = violations.check("account_id", convert::optional(&request.account_id, AccountRef::parse));
    let issuer_id = violations.check("issuer_id", convert::optional(&request.issuer_id, IssuerId::parse));
    let (named, issuer_id) = violations.all((named, issuer_id))?;
    let filter = pb::ListFederationRulesRequest {
        account_id: request.account_id,
        issuer_id: request.issuer_id,
        ..Default::default()
    };
    let paging =
        Paging::read(state, &acting, "ListFederationRules", &filter, request.page_size, &request.page_token)?;
    let mut db = call.read(state).await?;
    let account_id = match &named {
        Some(named) => Some(references::account(&mut db, &acting, named).await?),
        None => None,
    };
    let filter = RuleFilter { account_id, issuer_id };
    let after = paging.after(RuleId::parse);
    let page = rules::page(&mut db, acting.org_id, &filter, after, paging.size).await?;
    let policy = db::orgs::policies::find_rules(&mut *db, acting.org_id, &state.ceilings).await?;
    let issuers = issuers::find_each(&mut *db, acting.org_id, &issuers_of(page.rows())).await?;
    let standing = standing(state, &policy, &issuers, state.clock.now());
    let page = paging.answer(state, page, |stored| messages::rule(&stored, &standing))?;
    Ok(pb::ListFederationRulesResponse {
        rules: page.items,
        next_page_token: page.next_page_token,
        total_size: page.total_size,
    })
}

pub async fn update_federation_rule(
    state: &State,
    call: &Call,
    request: pb::UpdateFederationRuleRequest,
) -> Result<pb::UpdateFederationRuleResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    let asked = request.rule.unwrap_or_default();
    let mut violations = Violations::default();
    let mask =
        Mask::read(&mut violations, request.update_mask.as_ref(), &UPDATABLE, |path| is_set(&asked, path));
    // To disable a rule is to stop something, and asks for less than to make one.
    let only_disables = mask.paths().eq(["disabled"]) && asked.disabled();
    if only_disables {
        acting.require(&Permission::FEDERATION_WRITE, &Node::Org)?;
    } else {
        acting.require_federation()?;
    }
    if request.validate_only {
        // It answers with what was presented.
        acting.require(&Permission::FEDERATION_READ, &Node::Org)?;
    }
    let mut inner = Violations::default();
    let rule_id = inner.check("id", RuleId::parse(&asked.id));
    let given = GivenRuleFields::read(&mut inner, &asked);
    violations.take_in("rule", inner);
    let (rule_id,) = violations.all((rule_id,))?;
    if only_disables {
        return disable(state, &acting, rule_id, &asked.etag, request.validate_only).await;
    }

    transact!(state, &acting, |mut tx| {
        let now = tx.now();
        // An issuer is changed under the same lock, so that of both changes one sees the other.
        tx.lock_org().await?;
        let stored = lock_active(&mut tx, acting.org_id, rule_id, now).await?;
        let before = stored.rule()?;
        let stored_issuer = issuers::find(&mut *tx, acting.org_id, stored.issuer()).await?;
        let stored_issuer =
            stored_issuer.ok_or_else(|| Error::internal("a federation rule without its issuer"))?;
        let issuer = stored_issuer.issuer()?;
        let master = &*state.keyring.master;
        if !stored.is_ours(master, &before) || !stored_issuer.is_ours(master, &issuer) {
            return Err(not_ours("federation rule, or its issuer,", acting.org_id, rule_id));
        }
        let policy = db::orgs::policies::find_rules(&mut *tx, acting.org_id, &state.ceilings).await?;
        let owner = AccountRef::Id(before.account_id);
        let (kind, held) = account(&mut tx, acting.org_id, (before.account_id, &owner)).await?;
        let mut violations = Violations::default();
        let mut inner = Violations::default();
        let after = over(&mut inner, &before, (&asked, &given), &mask);
        violations.take_in("rule", inner);
        let (after,) = violations.all((after,))?;
        acting.may_make_rule(kind, held.rights(), &after.restrictions, after.expire_time)?;
        check_etag(&asked.etag, stored.revision)?;
        let limits = |rule: &Rule| RestrictionsAndExpiry {
            restrictions: rule.restrictions.clone(),
            expire_time: rule.expire_time,
        };
        may_become(&limits(&before), &limits(&after))?;
        let mut violations = Violations::default();
        let (had, has) = (&before.restrictions.audiences, &after.restrictions.audiences);
        audiences_within_policy(&mut violations, "rule.allowed_audiences", had, has, &policy);
        if let Some(end) = after.expire_time.filter(|end| before.expire_time != Some(*end)) {
            let end = if end > now {
                policy.check_expiry(TokenKind::Federated, stored.create_time, end)
            } else {
                Err("must be after now".into())
            };
            violations.check("rule.expire_time", end);
        }
        let warnings = fits(state, &acting, &mut violations, (&issuer, &after.matches), &policy);
        violations.finish()?;
        existing(&mut tx, acting.org_id, "rule.resources", &after.restrictions.resources).await?;

        let display_name = if mask.has("display_name") {
            given.display_name.clone()
        } else {
            stored.display_name.as_deref().map(DisplayName::from_stored)
        };
        let disabled = if mask.has("disabled") { asked.disabled() } else { stored.disabled };
        let is_remade = before != after || disabled != stored.disabled;
        let is_renamed = display_name.as_ref().map(DisplayName::as_str) != stored.display_name.as_deref();
        let standing = standing(state, &policy, std::slice::from_ref(&stored_issuer), now);
        let response = |stored: &StoredRule| -> Result<pb::UpdateFederationRuleResponse> {
            Ok(pb::UpdateFederationRuleResponse {
                rule: Some(messages::rule(stored, &standing)?),
                warnings: messages::warnings("rule", warnings.clone()),
                ..Default::default()
            })
        };
        if !is_remade && !is_renamed {
            return response(&stored);
        }
        let new = NewRule {
            rule: &after,
            display_name: display_name.as_ref(),
            disabled,
            made_by: acting.caller.credential_id(),
            master: &state.keyring.master,
        };
        let updated = rules::update(&mut tx, acting.org_id, &stored, &new, is_remade, now).await?;
        if request.validate_only {
            let change = RuleChange {
                before: &before.matches,
                was_disabled: stored.disabled,
                after: &after.matches,
                is_disabled: disabled,
            };
            let (would_stop, would_start) = tried(&mut tx, (acting.org_id, rule_id), &change, now).await?;
            return Ok(pb::UpdateFederationRuleResponse { would_stop, would_start, ..response(&updated)? });
        }
        tx.record(updated_event((&stored, &before), (&updated, &after))).await?;
        named_permissions::note(&mut tx, acting.org_id, &after.restrictions.scopes).await?;
        let response = response(&updated)?;
        tx.commit().await?;
        Ok(response)
    })
}

/// Locks the rule of this id until the transaction ends.
///
/// # Errors
/// `RESOURCE_NOT_FOUND` also for one that is revoked or expired.
async fn lock_active(
    tx: &mut PgConnection,
    org_id: OrgId,
    rule_id: RuleId,
    now: OffsetDateTime,
) -> Result<StoredRule> {
    let found = rules::lock(tx, org_id, rule_id).await?.filter(|rule| rule.is_active(now));
    found.ok_or_else(|| Error::not_found("active federation rule", rule_id))
}

/// Disables a rule: what stops something does not wait behind changes, and asks for nothing of what the rule says.
async fn disable(
    state: &State,
    acting: &Acting<'_>,
    rule_id: RuleId,
    etag: &str,
    validate_only: bool,
) -> Result<pb::UpdateFederationRuleResponse> {
    let mut author = Author::from(acting);
    author.actor.work = Some(Work::Stops);
    transact!(state, author.clone(), |mut tx| {
        let now = tx.now();
        let stored = lock_active(&mut tx, acting.org_id, rule_id, now).await?;
        let held = db::accounts::grants::find_held(&mut tx, acting.org_id, stored.account()).await?;
        acting.may_stop(&held)?;
        check_etag(etag, stored.revision)?;
        let before = stored.rule()?;
        let updated = if stored.disabled {
            stored.clone()
        } else {
            rules::disable(&mut tx, acting.org_id, rule_id, now).await?
        };
        let mut response = pb::UpdateFederationRuleResponse {
            rule: Some(shown(state, &mut tx, acting.org_id, &updated).await?),
            ..Default::default()
        };
        if validate_only {
            let change = RuleChange {
                before: &before.matches,
                was_disabled: stored.disabled,
                after: &before.matches,
                is_disabled: true,
            };
            (response.would_stop, _) = tried(&mut tx, (acting.org_id, rule_id), &change, now).await?;
            return Ok(response);
        }
        if stored.disabled {
            return Ok(response);
        }
        tx.record(updated_event((&stored, &before), (&updated, &before))).await?;
        tx.commit().await?;
        Ok(response)
    })
}

pub async fn delete_federation_rule(
    state: &State,
    call: &Call,
    request: pb::DeleteFederationRuleRequest,
) -> Result<pb::DeleteFederationRuleResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    acting.require(&Permission::FEDERATION_WRITE, &Node::Org)?;
    let rule_id = parse_id("rule_id", &request.rule_id)?;
    transact!(state, &acting, |mut tx| {
        let found = rules::lock(&mut tx, acting.org_id, rule_id).await?;
        let stored = found.ok_or_else(|| Error::not_found("federation rule", rule_id))?;
        let held = db::accounts::grants::find_held(&mut tx, acting.org_id, stored.account()).await?;
        acting.may_stop(&held)?;
        check_etag(&request.etag, stored.revision)?;
        rules::delete(&mut tx, acting.org_id, rule_id).await?;
        let change = Change::of("federation_rule.deleted", [rule_id])
            .fields(changes(Some((&stored, &stored.rule()?)), None))
            .subjects([rule_id]);
        tx.record(change).await?;
        tx.commit().await?;
        Ok(pb::DeleteFederationRuleResponse {})
    })
}

fn parse_id(field: &'static str, id: &str) -> Result<RuleId> {
    RuleId::parse(id).map_err(|wrong| Error::invalid(field, wrong.to_string()))
}
