//! `CreateToken`: creates a long-lived credential, whose secret is returned once.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message as _;
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::messages;
use super::new_secret::{FOR_KEYS, MadeSecret, NOT_FOR_SECRETS};
use crate::crypto::public_keys::KeyPlace;
use crate::db;
use crate::db::requests::Replay;
use crate::db::tokens::{Labels, NewToken};
use crate::db::{named_permissions, references};
use crate::domain::access::acting::Acting;
use crate::domain::tokens::expiration::Expiration;
use crate::domain::tokens::limits::{MAX_LABELS, MAX_LIST};
use crate::domain::tokens::policy::Rules;
use crate::domain::tokens::public_key::PublicKey;
use crate::domain::tokens::restrictions::Restrictions;
use crate::domain::values::ids::{AccountId, OrgId};
use crate::domain::values::kinds::TokenKind;
use crate::domain::values::names;
use crate::domain::values::names::{Audience, DisplayName, Purpose};
use crate::domain::values::permissions::Permission;
use crate::domain::values::references::AccountRef;
use crate::domain::values::resources::{Node, ResourcePath};
use crate::error::{Error, Reason, Result, Violations};
use crate::flows::transaction::transact;
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::grpc::pb::create_token_request::Expiration as PbExpiration;
use crate::grpc::wire::idempotency::Idempotency;
use crate::grpc::wire::restrictions::GivenLists;
use crate::grpc::wire::{convert, idempotency};
use crate::state::State;

/// The checked request for a new token.
struct NewTokenRequest {
    account: Option<AccountRef>,
    kind: TokenKind,
    display_name: Option<DisplayName>,
    labels: Labels,
    lists: Restrictions,
    expiration: Expiration,
    public_key: Option<Arc<PublicKey>>,
}

impl TryFrom<&pb::CreateTokenRequest> for NewTokenRequest {
    type Error = Error;

    fn try_from(request: &pb::CreateTokenRequest) -> Result<Self> {
        let mut violations = Violations::default();
        let account =
            violations.check("account_id", convert::optional(&request.account_id, AccountRef::parse));
        let display_name =
            violations.check("display_name", convert::optional(&request.display_name, DisplayName::parse));
        let kind = violations.check("kind", kind(request.kind));
        let purpose = violations.check("purpose", convert::optional(&request.purpose, Purpose::parse));
        let labels = labels(&mut violations, &request.labels);
        let lists = GivenLists {
            scopes: &request.scopes,
            resources: &request.resources,
            allowed_audiences: &request.allowed_audiences,
            allowed_cidrs: &request.allowed_cidrs,
            allowed_client_certs: &request.allowed_client_certs,
            allowed_origins: &request.allowed_origins,
        };
        let lists = Restrictions { purpose: purpose.flatten(), ..lists.read(&mut violations, "") };
        if let Some(kind) = kind {
            fits_kind(&mut violations, kind, request);
        }
        let key = |jwk: &str| PublicKey::parse(jwk).map(Arc::new);
        let public_key = violations.check("public_jwk", convert::optional(&request.public_jwk, key));
        let expiration = match &request.expiration {
            None => Some(Expiration::Unspecified),
            Some(PbExpiration::Ttl(ttl)) => violations.check("ttl", lifetime(ttl)),
            Some(PbExpiration::ExpireTime(end)) => {
                violations.check("expire_time", convert::time(end)).map(Expiration::At)
            }
            Some(PbExpiration::NeverExpires(true)) => Some(Expiration::Never),
            Some(PbExpiration::NeverExpires(false)) => {
                violations.add("never_expires", "must be true where it is given");
                None
            }
        };
        violations.check("request_id", idempotency::parse(&request.request_id));
        let (account, kind, display_name, expiration, public_key) =
            violations.all((account, kind, display_name, expiration, public_key))?;
        Ok(Self { account, kind, display_name, labels, lists, expiration, public_key })
    }
}

fn kind(kind: i32) -> Result<TokenKind, &'static str> {
    match pb::TokenKind::try_from(kind) {
        Ok(pb::TokenKind::Unspecified | pb::TokenKind::Secret) => Ok(TokenKind::Secret),
        Ok(pb::TokenKind::Publishable) => Ok(TokenKind::Publishable),
        Ok(pb::TokenKind::Key) => Ok(TokenKind::Key),
        Err(_) => Err("must be TOKEN_KIND_SECRET, TOKEN_KIND_PUBLISHABLE or TOKEN_KIND_KEY"),
    }
}

/// What a token of this kind must have, and must not have.
fn fits_kind(violations: &mut Violations, kind: TokenKind, request: &pb::CreateTokenRequest) {
    match (kind, request.public_jwk.is_empty()) {
        (TokenKind::Key, true) => violations.add("public_jwk", FOR_KEYS),
        (TokenKind::Secret | TokenKind::Publishable, false) => violations.add("public_jwk", NOT_FOR_SECRETS),
        _ => {}
    }
    if kind != TokenKind::Publishable {
        if !request.allowed_origins.is_empty() {
            violations
                .add("allowed_origins", "must be empty: only a publishable token is limited to origins");
        }
        return;
    }
    if request.allowed_origins.is_empty() {
        violations.add("allowed_origins", "is required for a publishable token");
    }
    if request.scopes.is_empty() {
        violations.add("scopes", "is required for a publishable token");
    }
    for (i, scope) in request.scopes.iter().enumerate().take(MAX_LIST) {
        if Permission::parse(scope).is_ok_and(|permission| !permission.is_application()) {
            violations.add(format!("scopes[{i}]"), "must be an application's: a publishable token is public");
        }
    }
    if request.may_manage_tokens {
        violations.add("may_manage_tokens", "must not be set for a publishable token");
    }
}

/// Checked labels: at most 16.
pub fn labels(violations: &mut Violations, asked: &BTreeMap<String, String>) -> Labels {
    if asked.len() > MAX_LABELS {
        violations.add("labels", format!("holds {} labels; at most {MAX_LABELS} are allowed", asked.len()));
        return Labels::new();
    }
    let checked = asked.iter().filter_map(|(key, value)| {
        let key = violations.check("labels", names::label_key(key));
        let value = violations.check("labels", names::label_value(value));
        Some((key?, value?))
    });
    checked.collect()
}

fn lifetime(ttl: &prost_types::Duration) -> Result<Expiration, &'static str> {
    let ttl = convert::duration(ttl)?;
    std::time::Duration::try_from(ttl).map_err(|_| "must not be negative").and_then(Expiration::after)
}

pub async fn create_token(
    state: &State,
    call: &Call,
    mut request: pb::CreateTokenRequest,
) -> Result<pb::CreateTokenResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    match convert::optional(&request.account_id, AccountRef::parse) {
        Ok(Some(named)) => acting.require_token_creation(acting.before_look_up(&named))?,
        Ok(None) => acting.require_token_creation(acting.caller.account_id())?,
        Err(_) => acting.require(&Permission::TOKENS_WRITE, &Node::Org)?,
    }
    acting.require_token_management()?;
    let new = NewTokenRequest::try_from(&request)?;
    acting.may_make(&new.lists, request.may_manage_tokens)?;

    let request_id = idempotency::parse(&std::mem::take(&mut request.request_id)).unwrap_or_default();
    request.org_id.clear();
    request.account_id.clear();
    let once = Idempotency::new(&acting, "CreateToken", request_id, &request);
    let own = AccountRef::Id(acting.caller.account_id());
    let named = new.account.as_ref().unwrap_or(&own);
    transact!(state, &acting, |mut tx| {
        let now = tx.now();
        let account_id = references::account(&mut tx, &acting, named).await?;
        let once = once.bound_to([account_id]);
        let rules = db::orgs::policies::find_rules(&mut *tx, acting.org_id, &state.ceilings).await?;
        authorise(&mut tx, &acting, (account_id, named), &new.lists, &rules).await?;
        if let Some(replay) = once.claim(&mut tx, now).await? {
            return replayed(&new, replay);
        }
        // After the replay check: the expiry of the first call may have passed since.
        let expire_time = within_policy(&new, &rules, now, acting.token_ceiling())?;
        let place = KeyPlace { org_id: acting.org_id, token_id: state.clock.new_id(), number: 1 };
        let secret = MadeSecret::make(state, new.kind, place, new.public_key.as_ref())?;
        let row = NewToken {
            token_id: place.token_id,
            org_id: acting.org_id,
            account_id,
            kind: new.kind,
            display_name: new.display_name.as_ref(),
            labels: &new.labels,
            restrictions: &new.lists,
            may_manage_tokens: request.may_manage_tokens,
            expire_time,
            made_by: Some(acting.caller.credential_id()),
            maker_expire_time: acting.token_ceiling(),
            proof: &secret.proof,
        };
        let token = db::tokens::insert(&mut tx, &row, now).await?;
        let token = Some(messages::token(&token, &rules, now)?);
        let first_seen_permissions =
            named_permissions::note(&mut tx, acting.org_id, &new.lists.scopes).await?;
        let response = pb::CreateTokenResponse { token, secret: String::new(), first_seen_permissions };
        if request.validate_only {
            // Never committed: the response is the token that would have been created.
            return Ok(response);
        }
        tx.record(row.created()).await?;
        // Without the secret, which is not stored.
        once.finish(&mut tx, &place.token_id.to_string(), &response).await?;
        tx.commit().await?;
        Ok(pb::CreateTokenResponse { secret: secret.exposed(), ..response })
    })
}

/// The answer to a request that was carried out before: what it was then, for a key. A secret is gone.
fn replayed(new: &NewTokenRequest, replay: Replay) -> Result<pb::CreateTokenResponse> {
    match new.kind {
        TokenKind::Key => {
            pb::CreateTokenResponse::decode(replay.response.as_slice()).map_err(Error::internal)
        }
        TokenKind::Secret | TokenKind::Publishable | TokenKind::Session | TokenKind::Federated => {
            Err(replay.secret_is_gone())
        }
    }
}

/// When the token expires; none if it does not expire.
///
/// # Errors
/// `INVALID_FIELD` for an expiry or an audience that the org's policy does not allow, or an
/// expiry after that of the credential that creates the token.
fn within_policy(
    new: &NewTokenRequest,
    rules: &Rules,
    now: OffsetDateTime,
    ceiling: Option<OffsetDateTime>,
) -> Result<Option<OffsetDateTime>> {
    let mut violations = Violations::default();
    audiences_within_policy(&mut violations, "allowed_audiences", &[], &new.lists.audiences, rules);
    let end = new.expiration.resolve(new.kind, rules, now, ceiling);
    let end = violations.check(new.expiration.field(), end);
    let (end,) = violations.all((end,))?;
    Ok(end)
}

/// Refuses audiences for which the org's policy allows no JWT, unless the token had them before.
pub fn audiences_within_policy(
    violations: &mut Violations,
    field: &str,
    before: &[Audience],
    after: &[Audience],
    rules: &Rules,
) {
    for (i, audience) in after.iter().enumerate() {
        if !before.contains(audience) && !rules.allow_audience(audience) {
            violations
                .add(format!("{field}[{i}]"), "is not among the audiences that the org's policy allows");
        }
    }
}

/// The checks that need the account: that it exists, that the caller covers what the token could
/// do for it, that it holds the scopes, and that the resources exist.
async fn authorise(
    tx: &mut PgConnection,
    acting: &Acting<'_>,
    (account_id, named): (AccountId, &AccountRef),
    lists: &Restrictions,
    rules: &Rules,
) -> Result<()> {
    let Some(account) = db::accounts::lock(&mut *tx, acting.org_id, account_id).await? else {
        let guest = db::orgs::memberships::find(tx, acting.org_id, account_id).await?;
        let message = "a guest cannot own tokens in this org: create one for a service account";
        let refusal = guest.map(|_| Error::with_message(Reason::TargetNotServiceAccount, message));
        return Err(refusal.unwrap_or_else(|| Error::not_found("account", named)));
    };
    let held = db::accounts::grants::find_held(tx, acting.org_id, account_id).await?;
    acting.may_make_for(rules, account.kind()?, held.rights(), lists)?;
    existing(tx, acting.org_id, "resources", &lists.resources).await
}

/// Refuses resources that are not in the org; the others stay until the transaction ends.
///
/// # Errors
/// `INVALID_FIELD`, naming each in the list `field`.
pub async fn existing(
    tx: &mut PgConnection,
    org_id: OrgId,
    field: &str,
    resources: &[ResourcePath],
) -> Result<()> {
    let found = db::orgs::resources::hold(tx, org_id, resources).await?;
    let mut violations = Violations::default();
    for (i, path) in resources.iter().enumerate() {
        if !found.iter().any(|found| found == path.as_str()) {
            violations.add(format!("{field}[{i}]"), "no such resource in the org: create it first");
        }
    }
    violations.finish()
}
