//! `UpdateToken`: renames or narrows a token, shortens its lifetime, or changes where it works
//! from.

use time::OffsetDateTime;

use super::create::{audiences_within_policy, existing, labels};
use super::messages;
use crate::db;
use crate::db::events::{Change, EventValue, FieldChange};
use crate::db::named_permissions;
use crate::db::tokens::{Labels, Token, TokenUpdate};
use crate::domain::access::exchange::refuse_scopes;
use crate::domain::tokens::narrowing::{RestrictionsAndExpiry, may_become, same};
use crate::domain::tokens::policy::Rules;
use crate::domain::tokens::restrictions::Restrictions;
use crate::domain::values::ids::TokenId;
use crate::domain::values::kinds::TokenKind;
use crate::domain::values::names::DisplayName;
use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::Node;
use crate::domain::values::subject::Subject;
use crate::domain::values::text::texts;
use crate::error::{Error, Result, Violations};
use crate::flows::transaction::transact;
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::grpc::wire::convert;
use crate::grpc::wire::restrictions::GivenLists;
use crate::grpc::wire::update_mask::{Mask, check_etag};
use crate::state::State;

/// The fields that may be updated.
const KNOWN: [&str; 9] = [
    "display_name",
    "labels",
    "scopes",
    "resources",
    "allowed_audiences",
    "allowed_cidrs",
    "allowed_client_certs",
    "allowed_origins",
    "expire_time",
];

fn is_set(token: &pb::Token, path: &str) -> bool {
    match path {
        "display_name" => !token.display_name.is_empty(),
        "labels" => !token.labels.is_empty(),
        "scopes" => !token.scopes.is_empty(),
        "resources" => !token.resources.is_empty(),
        "allowed_audiences" => !token.allowed_audiences.is_empty(),
        "allowed_cidrs" => !token.allowed_cidrs.is_empty(),
        "allowed_client_certs" => !token.allowed_client_certs.is_empty(),
        "allowed_origins" => !token.allowed_origins.is_empty(),
        _ => token.expire_time.is_some(),
    }
}

/// The fields of the request, each checked separately.
struct GivenTokenFields {
    display_name: Option<DisplayName>,
    labels: Labels,
    limits: RestrictionsAndExpiry,
}

impl GivenTokenFields {
    fn read(violations: &mut Violations, mask: &Mask, asked: &pb::Token, now: OffsetDateTime) -> Self {
        let display_name = convert::optional(&asked.display_name, DisplayName::parse);
        let display_name = violations.check("token.display_name", display_name).flatten();
        let end = match &asked.expire_time {
            Some(end) if mask.has("expire_time") => {
                let end = convert::time(end)
                    .and_then(|end| if end > now { Ok(end) } else { Err("must be after now") });
                violations.check("token.expire_time", end)
            }
            _ => None,
        };
        let lists = GivenLists {
            scopes: &asked.scopes,
            resources: &asked.resources,
            allowed_audiences: &asked.allowed_audiences,
            allowed_cidrs: &asked.allowed_cidrs,
            allowed_client_certs: &asked.allowed_client_certs,
            allowed_origins: &asked.allowed_origins,
        };
        let lists = lists.read(violations, "token.");
        let labels = labels(violations, &asked.labels);
        Self { display_name, labels, limits: RestrictionsAndExpiry { restrictions: lists, expire_time: end } }
    }

    /// The limits with the fields that the mask names taken from the request.
    fn over(&self, before: &RestrictionsAndExpiry, mask: &Mask) -> RestrictionsAndExpiry {
        let (old, new) = (&before.restrictions, &self.limits.restrictions);
        let pick = |path: &str| if mask.has(path) { new } else { old };
        RestrictionsAndExpiry {
            restrictions: Restrictions {
                scopes: pick("scopes").scopes.clone(),
                resources: pick("resources").resources.clone(),
                audiences: pick("allowed_audiences").audiences.clone(),
                networks: pick("allowed_cidrs").networks.clone(),
                certificates: pick("allowed_client_certs").certificates.clone(),
                origins: pick("allowed_origins").origins.clone(),
                purpose: old.purpose.clone(),
            },
            expire_time: if mask.has("expire_time") { self.limits.expire_time } else { before.expire_time },
        }
    }
}

pub async fn update_token(
    state: &State,
    call: &Call,
    request: pb::UpdateTokenRequest,
) -> Result<pb::UpdateTokenResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    acting.require(&Permission::TOKENS_WRITE, &Node::Org)?;
    acting.require_token_management()?;
    let asked = request.token.unwrap_or_default();
    let now = state.clock.now();
    let mut violations = Violations::default();
    let token_id = violations.check("token.id", TokenId::parse(&asked.id));
    let mask = Mask::read(&mut violations, request.update_mask.as_ref(), &KNOWN, |path| is_set(&asked, path));
    let given = GivenTokenFields::read(&mut violations, &mask, &asked, now);
    let (token_id,) = violations.all((token_id,))?;

    transact!(state, &acting, |mut tx| {
        let live = db::tokens::lock_active(&mut tx, acting.org_id, &[token_id], now).await?;
        let token = live.into_iter().next().ok_or_else(|| Error::not_found("live token", token_id))?;
        let before =
            RestrictionsAndExpiry { restrictions: token.restrictions()?, expire_time: token.expire_time };
        let after = given.over(&before, &mask);
        let held = db::accounts::grants::find_held(&mut tx, acting.org_id, token.account()).await?;
        let held = held.rights();
        acting.may_narrow(held, &before.restrictions, &after.restrictions)?;
        let Restrictions { scopes, origins, .. } = &before.restrictions;
        check_etag(&asked.etag, token.revision)?;
        if token.kind()? != TokenKind::Publishable && after.restrictions.origins != *origins {
            let why = "must be empty: it is for publishable tokens";
            return Err(Error::invalid("token.allowed_origins", why));
        }
        may_become(&before, &after)?;
        let rules = db::orgs::policies::find_rules(&mut *tx, acting.org_id, &state.ceilings).await?;
        within_policy(&token, &before, &after, &rules)?;
        // What the token had is not checked again: reducing it is always allowed.
        let new_scopes = after.restrictions.scopes.iter().filter(|scope| !scopes.contains(scope));
        refuse_scopes(new_scopes.filter(|scope| !held.hold_somewhere(scope)))?;
        existing(&mut tx, acting.org_id, "token.resources", &after.restrictions.resources).await?;

        let named = if mask.has("display_name") {
            given.display_name.as_ref().map(DisplayName::as_str)
        } else {
            token.display_name.as_deref()
        };
        let old_labels = token.labels.as_ref().map(|labels| labels.0.clone()).unwrap_or_default();
        let new_labels = if mask.has("labels") { &given.labels } else { &old_labels };
        let mut fields = changed(&before, &after);
        fields.extend(differ("display_name", token.display_name.as_deref(), named));
        fields.extend(differ("labels", shown(&old_labels).as_deref(), shown(new_labels).as_deref()));
        if fields.is_empty() {
            let token = Some(messages::token(&token, &rules, now)?);
            return Ok(pb::UpdateTokenResponse { token, first_seen_permissions: Vec::new() });
        }
        let new = TokenUpdate { display_name: named, labels: new_labels, limits: &after };
        db::tokens::update(&mut tx, acting.org_id, token_id, &new, now).await?;
        let mut subjects = vec![Subject::from(token_id)];
        if after.narrow_rights_of(&before) {
            // Verifiers that cache JWTs must learn that those issued earlier carry too many
            // rights.
            db::accounts::raise_version(&mut tx, acting.org_id, token.account()).await?;
            subjects.push(token.account().into());
        }
        if before.expire_time != after.expire_time {
            // The sessions of passwords that end with it are cached with its expiry.
            let ids = [token_id.uuid()];
            let tied = db::sign_in::passwords::find_ending_with(&mut *tx, acting.org_id, &ids).await?;
            subjects.extend(tied.into_iter().map(Subject::from));
        }
        let change = Change::of("token.updated", [token_id]).fields(fields).subjects(subjects);
        tx.record(change).await?;
        let first_seen_permissions =
            named_permissions::note(&mut tx, acting.org_id, &after.restrictions.scopes).await?;
        let token = db::tokens::find(&mut *tx, acting.org_id, token_id).await?;
        let token = token.ok_or_else(|| Error::internal("a locked token is gone"))?;
        tx.commit().await?;
        let token = Some(messages::token(&token, &rules, now)?);
        Ok(pb::UpdateTokenResponse { token, first_seen_permissions })
    })
}

/// Refuses a new expiry with which the org's policy would block the token, and audiences for
/// which it allows no JWT. What the token had is not checked again.
fn within_policy(
    token: &Token,
    before: &RestrictionsAndExpiry,
    after: &RestrictionsAndExpiry,
    rules: &Rules,
) -> Result<()> {
    let mut violations = Violations::default();
    if let Some(end) = after.expire_time.filter(|end| before.expire_time != Some(*end)) {
        violations.check("token.expire_time", rules.check_expiry(token.kind()?, token.since(), end));
    }
    let (had, has) = (&before.restrictions.audiences, &after.restrictions.audiences);
    audiences_within_policy(&mut violations, "token.allowed_audiences", had, has, rules);
    violations.finish()
}

/// The limits that changed, for the event.
fn changed(before: &RestrictionsAndExpiry, after: &RestrictionsAndExpiry) -> Vec<FieldChange> {
    let (old, new) = (&before.restrictions, &after.restrictions);
    let times = |limits: &RestrictionsAndExpiry| limits.expire_time.map(|end| end.event_value());
    [
        lists("scopes", &old.scopes, &new.scopes),
        lists("resources", &old.resources, &new.resources),
        lists("allowed_audiences", &old.audiences, &new.audiences),
        lists("allowed_cidrs", &old.networks, &new.networks),
        lists("allowed_client_certs", &old.certificates, &new.certificates),
        lists("allowed_origins", &old.origins, &new.origins),
        differ("expire_time", times(before).as_deref(), times(after).as_deref()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn lists<T: ToString + PartialEq>(field: &'static str, old: &[T], new: &[T]) -> Option<FieldChange> {
    if same(old, new) { None } else { differ(field, listed(old).as_deref(), listed(new).as_deref()) }
}

fn differ(field: &'static str, old: Option<&str>, new: Option<&str>) -> Option<FieldChange> {
    (old != new).then(|| FieldChange {
        field,
        old_value: old.map(str::to_owned),
        new_value: new.map(str::to_owned),
    })
}

fn listed(items: &[impl ToString]) -> Option<String> {
    (!items.is_empty()).then(|| texts(items).join(" "))
}

fn shown(labels: &Labels) -> Option<String> {
    let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    (!pairs.is_empty()).then(|| pairs.join(" "))
}
