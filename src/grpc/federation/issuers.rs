//! Issuers: whose JWTs the federation rules of an org accept.

use std::collections::HashMap;
use std::fmt;

use sqlx::{PgConnection, PgExecutor};

use super::messages;
use super::probes::{probe, warnings};
use crate::db;
use crate::db::events::{Change, FieldChange};
use crate::db::federation::issuers::{self, NewIssuer, StoredIssuer};
use crate::db::federation::{StoredRule, rules};
use crate::domain::access::acting::Acting;
use crate::domain::federation::ceiling::Admitted;
use crate::domain::federation::issuer::{Issuer, KeySource, Trust, TrustFields};
use crate::domain::federation::jwk_set::KeySet;
use crate::domain::federation::pins::{self, Place};
use crate::domain::tokens::policy::Rules;
use crate::domain::values::ids::{AccountId, IssuerId, OrgId, RuleId, SYSTEM_ORG};
use crate::domain::values::names::DisplayName;
use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::Node;
use crate::domain::values::subject::Subject;
use crate::error::{Error, Precondition, Reason, Result, Violations};
use crate::flows::transaction::transact;
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::grpc::wire::idempotency::Idempotency;
use crate::grpc::wire::page_token::Paging;
use crate::grpc::wire::update_mask::{Mask, check_etag};
use crate::grpc::wire::{convert, idempotency};
use crate::state::State;

/// The fields that an update may change.
const UPDATABLE: [&str; 7] = [
    "algorithms",
    "bundle_uri",
    "display_name",
    "jwks",
    "max_assertion_lifetime",
    "shared",
    "single_use_jti",
];

/// At most this many rules are listed in a refusal.
const MAX_LISTED: usize = 100;

pub async fn create_issuer(
    state: &State,
    call: &Call,
    mut request: pb::CreateIssuerRequest,
) -> Result<pb::CreateIssuerResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    acting.require_federation()?;

    let request_id = std::mem::take(&mut request.request_id);
    let message = request.issuer.clone().unwrap_or_default();
    let mut violations = Violations::default();
    let request_id = violations.check("request_id", idempotency::parse(&request_id));
    let mut inner = Violations::default();
    if !message.org_id.is_empty() {
        inner.add("org_id", "must be empty: the org is that of the request");
    }
    let kind = inner.check("kind", messages::issuer_kind(message.kind));
    let display_name =
        inner.check("display_name", convert::optional(message.display_name(), DisplayName::parse));
    let lifetime = inner.check("max_assertion_lifetime", lifetime(message.max_assertion_lifetime.as_ref()));
    let trust = kind.zip(lifetime).and_then(|(kind, max_assertion_lifetime)| {
        let fields = TrustFields {
            kind,
            issuer: &message.issuer,
            jwks: &message.jwks,
            bundle_uri: message.bundle_uri(),
            algorithms: &message.algorithms,
            max_assertion_lifetime,
            single_use_jti: message.single_use_jti(),
            shared: message.shared(),
        };
        Trust::restore(&mut inner, &fields)
    });
    let mut keys = None;
    if let Some(trust) = &trust {
        inner.check("issuer", admitted(state, trust));
        let read = state.issuer_keys.read(acting.org_id, vec![trust.clone()]).await?;
        keys = inner.check("jwks", read.keys(trust));
    }
    violations.take_in("issuer", inner);
    let (trust, keys, display_name, request_id) = violations.all((trust, keys, display_name, request_id))?;
    let keys = keys.as_deref();
    refuse_own(state, &trust, keys)?;

    request.org_id.clear();
    let once = Idempotency::new(&acting, "CreateIssuer", request_id, &request);
    let (mut response, issuer) = transact!(state, &acting, |mut tx| {
        let now = tx.now();
        tx.lock_org().await?;
        if let Some(before) = once.replayed(&mut tx, now).await? {
            return Ok((before, None));
        }
        let policy = db::orgs::policies::find_rules(&mut *tx, acting.org_id, &state.ceilings).await?;
        allowed(&policy, &trust).map_err(|why| Error::invalid("issuer.issuer", why))?;
        let issuer = Issuer::new(state.clock.new_id(), trust.clone());
        let new = NewIssuer {
            issuer: &issuer,
            keys,
            display_name: display_name.as_ref(),
            made_by: acting.caller.credential_id(),
            master: &state.keyring.master,
        };
        let stored = issuers::insert(&mut tx, acting.org_id, &new, now).await?;
        let response = pb::CreateIssuerResponse {
            issuer: Some(messages::issuer(&stored)?),
            warnings: messages::warnings("issuer", warnings(keys)),
        };
        if request.validate_only {
            // Never committed: the response is the issuer that would have been created.
            return Ok((response, Some(issuer)));
        }
        let change = Change::of("issuer.created", [issuer.id()])
            .fields(changes(None, Some((&stored, &issuer, keys))))
            .subjects([Subject::from(issuer.id())]);
        tx.record(change).await?;
        once.finish(&mut tx, &issuer.id().to_string(), &response).await?;
        tx.commit().await?;
        Ok((response, None))
    })?;
    if let (Some(issuer), Some(message)) = (issuer, &mut response.issuer) {
        // Nothing of the database waits for it.
        let found = probe(state, acting.org_id, &issuer, message).await?;
        response.warnings.extend(messages::warnings("issuer", found));
    }
    Ok(response)
}

pub async fn get_issuer(
    state: &State,
    call: &Call,
    request: pb::GetIssuerRequest,
) -> Result<pb::GetIssuerResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    acting.require(&Permission::FEDERATION_READ, &Node::Org)?;
    let issuer_id = parse_id("issuer_id", &request.issuer_id)?;
    let stored = find(&mut *call.read(state).await?, acting.org_id, issuer_id).await?;
    Ok(pb::GetIssuerResponse { issuer: Some(messages::issuer(&stored)?) })
}

async fn find(db: impl PgExecutor<'_>, org_id: OrgId, issuer_id: IssuerId) -> Result<StoredIssuer> {
    let found = issuers::find(db, org_id, issuer_id).await?;
    found.ok_or_else(|| Error::not_found("issuer", issuer_id))
}

pub async fn list_issuers(
    state: &State,
    call: &Call,
    request: pb::ListIssuersRequest,
) -> Result<pb::ListIssuersResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    acting.require(&Permission::FEDERATION_READ, &Node::Org)?;
    let filter = pb::ListIssuersRequest::default();
    let paging =
        Paging::read(state, &acting, "ListIssuers", &filter, request.page_size, &request.page_token)?;
    let mut db = call.read(state).await?;
    let page = issuers::page(&mut db, acting.org_id, paging.after(IssuerId::parse), paging.size).await?;
    let page = paging.answer(state, page, |stored| messages::issuer(&stored))?;
    Ok(pb::ListIssuersResponse {
        issuers: page.items,
        next_page_token: page.next_page_token,
        total_size: page.total_size,
    })
}

pub async fn update_issuer(
    state: &State,
    call: &Call,
    request: pb::UpdateIssuerRequest,
) -> Result<pb::UpdateIssuerResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    acting.require_federation()?;

    let asked = request.issuer.unwrap_or_default();
    let mut violations = Violations::default();
    let issuer_id = violations.check("issuer.id", IssuerId::parse(&asked.id));
    let mask =
        Mask::read(&mut violations, request.update_mask.as_ref(), &UPDATABLE, |path| is_set(&asked, path));
    let display_name = convert::optional(asked.display_name(), DisplayName::parse);
    let display_name = violations.check("issuer.display_name", display_name);
    let lifetime = lifetime(asked.max_assertion_lifetime.as_ref());
    let lifetime = violations.check("issuer.max_assertion_lifetime", lifetime);
    let (issuer_id, display_name, lifetime) = violations.all((issuer_id, display_name, lifetime))?;

    // The keys as they are and as they are to be, before the org is locked.
    let known = find(&mut *call.read(state).await?, acting.org_id, issuer_id).await?.issuer()?;
    let planned = over(&mut Violations::default(), &known, (&asked, lifetime), &mask);
    let both = [Some(known.trust()), planned.as_ref()].into_iter().flatten();
    let read = state.issuer_keys.read(acting.org_id, both.cloned().collect()).await?;
    let (mut response, issuer) = transact!(state, &acting, |mut tx| {
        let now = tx.now();
        tx.lock_org().await?;
        let stored = find(&mut *tx, acting.org_id, issuer_id).await?;
        let before = stored.issuer()?;
        if !stored.is_ours(&state.keyring.master, &before) {
            return Err(not_ours("issuer", acting.org_id, issuer_id));
        }
        let mut violations = Violations::default();
        let mut inner = Violations::default();
        let after = over(&mut inner, &before, (&asked, lifetime), &mask);
        let keys = after.as_ref().and_then(|after| inner.check("jwks", read.keys(after)));
        violations.take_in("issuer", inner);
        let (trust, keys) = violations.all((after, keys))?;
        let (after, keys) = (Issuer::new(issuer_id, trust), keys.as_deref());
        let named = rules::find_active_of_issuer(&mut *tx, acting.org_id, issuer_id, now).await?;
        covers_all(&mut tx, &acting, &named).await?;
        check_etag(&asked.etag, stored.revision)?;
        refuse_own(state, &after, keys)?;
        still_pinned(state, &acting, &before, &after, &named)?;

        let name = if mask.has("display_name") {
            display_name.clone()
        } else {
            stored.display_name.as_deref().map(DisplayName::from_stored)
        };
        let is_trust_changed = before != after;
        let mut response = pb::UpdateIssuerResponse {
            issuer: Some(messages::issuer(&stored)?),
            warnings: messages::warnings("issuer", warnings(keys)),
        };
        if !is_trust_changed && name.as_ref().map(DisplayName::as_str) == stored.display_name.as_deref() {
            return Ok((response, request.validate_only.then_some(after)));
        }
        let new = NewIssuer {
            issuer: &after,
            keys,
            display_name: name.as_ref(),
            made_by: acting.caller.credential_id(),
            master: &state.keyring.master,
        };
        let updated = issuers::update(&mut tx, acting.org_id, &stored, &new, is_trust_changed, now).await?;
        response.issuer = Some(messages::issuer(&updated)?);
        if request.validate_only {
            return Ok((response, Some(after)));
        }
        let mut subjects = vec![Subject::from(issuer_id)];
        if is_trust_changed {
            let stale = rules::raise_versions(&mut tx, acting.org_id, issuer_id).await?;
            subjects.extend(stale.into_iter().map(Subject::from));
        }
        let keys_before = read.keys(&before).unwrap_or_default();
        let before = (&stored, &before, keys_before.as_deref());
        let change = Change::of("issuer.updated", [issuer_id])
            .fields(changes(Some(before), Some((&updated, &after, keys))))
            .subjects(subjects);
        tx.record(change).await?;
        tx.commit().await?;
        Ok((response, None))
    })?;
    if let (Some(issuer), Some(message)) = (issuer, &mut response.issuer) {
        let found = probe(state, acting.org_id, &issuer, message).await?;
        response.warnings.extend(messages::warnings("issuer", found));
    }
    Ok(response)
}

pub async fn delete_issuer(
    state: &State,
    call: &Call,
    request: pb::DeleteIssuerRequest,
) -> Result<pb::DeleteIssuerResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    acting.require_federation()?;
    let issuer_id = parse_id("issuer_id", &request.issuer_id)?;
    // For the event, before the org is locked.
    let known = find(&mut *call.read(state).await?, acting.org_id, issuer_id).await?.issuer();
    let known = known.iter().map(|known| known.trust().clone()).collect();
    let read = state.issuer_keys.read(acting.org_id, known).await?;
    transact!(state, &acting, |mut tx| {
        tx.lock_org().await?;
        let stored = find(&mut *tx, acting.org_id, issuer_id).await?;
        check_etag(&request.etag, stored.revision)?;
        in_use(&rules::find_naming(&mut *tx, acting.org_id, issuer_id, MAX_LISTED as i64).await?)?;
        issuers::delete(&mut tx, acting.org_id, issuer_id).await?;
        let issuer = stored.issuer()?;
        let keys = read.keys(&issuer).unwrap_or_default();
        let change = Change::of("issuer.deleted", [issuer_id])
            .fields(changes(Some((&stored, &issuer, keys.as_deref())), None))
            .subjects([Subject::from(issuer_id)]);
        tx.record(change).await?;
        tx.commit().await?;
        Ok(pb::DeleteIssuerResponse {})
    })
}

fn parse_id(field: &'static str, id: &str) -> Result<IssuerId> {
    IssuerId::parse(id).map_err(|wrong| Error::invalid(field, wrong.to_string()))
}

fn lifetime(asked: Option<&prost_types::Duration>) -> Result<Option<std::time::Duration>, &'static str> {
    let Some(asked) = asked else { return Ok(None) };
    std::time::Duration::try_from(convert::duration(asked)?).map(Some).map_err(|_| "must not be negative")
}

fn is_set(issuer: &pb::Issuer, path: &str) -> bool {
    match path {
        "algorithms" => !issuer.algorithms.is_empty(),
        "bundle_uri" => issuer.bundle_uri.is_some(),
        "display_name" => issuer.display_name.is_some(),
        "jwks" => !issuer.jwks.is_empty(),
        "max_assertion_lifetime" => issuer.max_assertion_lifetime.is_some(),
        "shared" => issuer.shared.is_some(),
        _ => issuer.single_use_jti.is_some(),
    }
}

/// What is believed of an issuer with the fields that the mask names taken from the request; its keys are not read.
fn over(
    violations: &mut Violations,
    before: &Issuer,
    (asked, lifetime): (&pb::Issuer, Option<std::time::Duration>),
    mask: &Mask,
) -> Option<Trust> {
    if asked.kind != 0 && messages::issuer_kind(asked.kind) != Ok(before.kind()) {
        violations.add("kind", "cannot be changed");
    }
    if !asked.issuer.is_empty() && asked.issuer != before.name().as_str() {
        violations.add("issuer", "cannot be changed");
    }
    let old = before.algorithm_names();
    let fields = TrustFields {
        kind: before.kind(),
        issuer: before.name().as_str(),
        jwks: if mask.has("jwks") { &asked.jwks } else { before.jwks().unwrap_or_default() },
        bundle_uri: if mask.has("bundle_uri") {
            asked.bundle_uri()
        } else {
            before.bundle_uri().unwrap_or_default()
        },
        algorithms: if mask.has("algorithms") { &asked.algorithms } else { &old },
        max_assertion_lifetime: if mask.has("max_assertion_lifetime") {
            lifetime
        } else {
            Some(before.max_assertion_lifetime())
        },
        single_use_jti: if mask.has("single_use_jti") {
            asked.single_use_jti()
        } else {
            before.single_use_jti()
        },
        shared: if mask.has("shared") { asked.shared() } else { before.shared() },
    };
    Trust::restore(violations, &fields)
}

/// The error for a row that others wrote: changed through here, it would be sealed as if it were ours.
pub(super) fn not_ours(what: &str, org_id: OrgId, id: impl fmt::Display) -> Error {
    Error::internal(format!(
        "the {what} {id} of {org_id} is not as it was stored, and is not changed: delete it"
    ))
}

/// Whether the deployment admits the issuer.
pub(super) fn admitted(state: &State, issuer: &Trust) -> Result<Admitted, &'static str> {
    let ceiling = &state.federation_ceiling;
    if let KeySource::Bundle(uri) = issuer.keys()
        && uri.is_local()
        && !ceiling.is_dev()
    {
        return Err("must have its bundle on another machine");
    }
    ceiling.admits(issuer.name()).ok_or(if ceiling.is_off() {
        "is not admitted: federation is off in this deployment, which lists no issuers"
    } else {
        "is not among the issuers that this deployment admits"
    })
}

/// Whether the policy of the org allows the issuer.
pub(super) fn allowed(policy: &Rules, issuer: &Trust) -> Result<(), &'static str> {
    if policy.allow_issuer(issuer.name()) {
        return Ok(());
    }
    Err(if policy.federation {
        "is not among the issuers that the org's token policy allows"
    } else {
        "is not allowed: the org's token policy does not allow federation"
    })
}

/// Refuses this deployment as an issuer, and keys of it.
///
/// # Errors
/// `SUBJECT_NOT_EXCHANGEABLE`.
fn refuse_own(state: &State, issuer: &Trust, keys: Option<&KeySet>) -> Result<()> {
    if issuer.name().is_own(&state.issuer.to_string()) {
        let message = "this deployment is no issuer for its own rules: its JWTs are not exchanged";
        return Err(Error::with_message(Reason::SubjectNotExchangeable, message));
    }
    if keys.is_some_and(|keys| state.issuer_keys.holds_our_own(keys)) {
        let message = "the key set holds a key of this deployment, whose JWTs are not exchanged";
        return Err(Error::with_message(Reason::SubjectNotExchangeable, message));
    }
    Ok(())
}

/// Refuses a change of an issuer by a caller that could not make each of its rules as it is.
///
/// # Errors
/// `TARGET_EXCEEDS_CALLER`, the rules listed.
async fn covers_all(tx: &mut PgConnection, acting: &Acting<'_>, rules: &[StoredRule]) -> Result<()> {
    let mut accounts: Vec<AccountId> = rules.iter().map(StoredRule::account).collect();
    accounts.sort_unstable();
    accounts.dedup();
    let held: HashMap<AccountId, _> =
        db::accounts::grants::find_held_of_all(tx, acting.org_id, &accounts).await?;
    let mut beyond = Vec::new();
    for stored in rules {
        let rule = stored.rule()?;
        let held = held.get(&rule.account_id).map(|held| held.rights().clone()).unwrap_or_default();
        if acting.covers_rule(&held, &rule.restrictions, rule.expire_time).is_err() {
            beyond.push(rule.id);
        }
    }
    if beyond.is_empty() {
        return Ok(());
    }
    let message = format!(
        "{}: {} federation rules of the issuer give more than the caller could give",
        Reason::TargetExceedsCaller.message(),
        beyond.len()
    );
    let listed = beyond.iter().take(MAX_LISTED).map(|id| Precondition {
        kind: "FEDERATION_RULE",
        subject: id.to_string(),
        description: "gives more than the caller could give".into(),
    });
    Err(Error::with_message(Reason::TargetExceedsCaller, message).with_preconditions(listed))
}

/// Refuses to say that strangers share an issuer while a rule of it does not say whose workload it means.
fn still_pinned(
    state: &State,
    acting: &Acting<'_>,
    before: &Issuer,
    after: &Issuer,
    rules: &[StoredRule],
) -> Result<()> {
    if !after.shared() || before.shared() {
        return Ok(());
    }
    let admitted = state.federation_ceiling.admits(after.name()).unwrap_or(Admitted::ByWildcard);
    let place = Place { admitted, in_system_org: acting.org_id == SYSTEM_ORG };
    for stored in rules {
        let mut violations = Violations::default();
        pins::check(&mut violations, after, &stored.rule()?.matches, place);
        if violations.count() > 0 {
            let why =
                format!("must be false while the rule {} does not say whose workload it means", stored.id());
            return Err(Error::invalid("issuer.shared", why));
        }
    }
    Ok(())
}

fn in_use(rules: &[RuleId]) -> Result<()> {
    if rules.is_empty() {
        return Ok(());
    }
    let naming = rules.iter().map(|id| Precondition {
        kind: "FEDERATION_RULE",
        subject: id.to_string(),
        description: "is for the issuer".into(),
    });
    let message = format!("{} or more federation rules are for the issuer: delete them first", rules.len());
    Err(Error::with_message(Reason::ResourceInUse, message).with_preconditions(naming))
}

/// An issuer for an event: its row, what is believed of it, and the keys that are stored with it.
type WithKeys<'a> = (&'a StoredIssuer, &'a Issuer, Option<&'a KeySet>);

/// The changed fields for the event. Of keys that are stored, their ids.
fn changes(before: Option<WithKeys<'_>>, after: Option<WithKeys<'_>>) -> Vec<FieldChange> {
    fn prints((_, _, keys): WithKeys<'_>) -> Vec<String> {
        keys.iter().flat_map(|keys| keys.thumbprints()).map(|thumbprint| thumbprint.to_string()).collect()
    }
    fn algorithms((_, issuer, _): WithKeys<'_>) -> Vec<String> {
        issuer.algorithm_names()
    }
    let text = |field, read: fn(WithKeys<'_>) -> Option<String>| {
        FieldChange::between(field, before.and_then(read), after.and_then(read))
    };
    let texts = [
        text("kind", |(_, issuer, _)| Some(format!("ISSUER_KIND_{}", issuer.kind().name()))),
        text("issuer", |(_, issuer, _)| Some(issuer.name().to_string())),
        text("bundle_uri", |(_, issuer, _)| issuer.bundle_uri().map(str::to_owned)),
        text("max_assertion_lifetime", |(_, issuer, _)| {
            Some(format!("{}s", issuer.max_assertion_lifetime().as_secs()))
        }),
        text("single_use_jti", |(_, issuer, _)| Some(issuer.single_use_jti().to_string())),
        text("shared", |(_, issuer, _)| Some(issuer.shared().to_string())),
        text("display_name", |(stored, _, _)| stored.display_name.clone()),
    ];
    let mut all: Vec<_> = texts.into_iter().flatten().collect();
    for (field, read) in [("jwks", prints as fn(WithKeys<'_>) -> Vec<String>), ("algorithms", algorithms)] {
        let list = |pair: Option<WithKeys<'_>>| pair.map(read).unwrap_or_default();
        all.extend(FieldChange::of_lists(field, &list(before), &list(after)));
    }
    all
}
