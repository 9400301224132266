//! `CloneAccount`: copies an account, as far as the caller may pass on what it holds.

use std::collections::HashSet;

use super::grants::{NamedGrant, named, rights_of, split};
use super::{details, messages};
use crate::db;
use crate::db::accounts::grants::{Grant, described, subjects, touched};
use crate::db::accounts::{Account, NewAccount};
use crate::db::events::{Change, FieldChange};
use crate::db::orgs::Org;
use crate::db::references;
use crate::domain::access::acting::Acting;
use crate::domain::access::grant_transfer::Divided;
use crate::domain::access::rights::HeldGrant;
use crate::domain::accounts::{Details, cloning};
use crate::domain::values::ids::{AccountId, GrantId};
use crate::domain::values::kinds::AccountKind;
use crate::domain::values::names::{AccountName, Profile};
use crate::domain::values::permissions::{Permission, Right};
use crate::domain::values::references::AccountRef;
use crate::domain::values::resources::Node;
use crate::error::{Error, Reason, Result, Violations};
use crate::flows::emailed_codes::{refuse_beyond_budget, send_first_password};
use crate::flows::transaction::{Transaction, transact};
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::grpc::wire::idempotency;
use crate::grpc::wire::idempotency::Idempotency;
use crate::state::State;

/// The request, checked as far as possible without the source account.
struct CloneRequest {
    source: AccountRef,
    name: String,
    email: String,
    profile: Profile,
    deactivated: bool,
    excluded: Vec<NamedGrant>,
    validate_only: bool,
}

impl CloneRequest {
    fn check(request: &pb::CloneAccountRequest) -> Result<Self> {
        let mut violations = Violations::default();
        let source = violations.check("account_id", AccountRef::parse(&request.account_id));
        match (request.name.as_str(), request.email.as_str()) {
            ("", "") => violations.add("name", "is required: for a user, an email"),
            ("", _) => {}
            (name, email) => {
                violations.check("name", AccountName::parse(name));
                if !email.is_empty() {
                    violations.add("email", "must be absent beside a name: an account has one of them");
                }
            }
        }
        let profile = messages::profile(&mut violations, request.profile.as_ref());
        let excluded = named(&mut violations, "excluded_grants", &request.excluded_grants);
        violations.check("request_id", idempotency::parse(&request.request_id));
        let (source,) = violations.all((source,))?;
        let (name, email) = (request.name.clone(), request.email.clone());
        Ok(Self {
            source,
            name,
            email,
            profile,
            deactivated: request.deactivated,
            excluded,
            validate_only: request.validate_only,
        })
    }

    /// The details of the clone of this source. `slug` is that of the org.
    fn details(&self, state: &State, source: &Account, slug: &str) -> Result<Details> {
        let mut violations = Violations::default();
        let (name, username) = match (source.kind()?, self.name.as_str()) {
            (AccountKind::ServiceAccount, "") => {
                violations.add("name", "is required: the account is a service account");
                violations.add("email", "is for users: the account is a service account");
                (None, None)
            }
            (AccountKind::ServiceAccount, text) => {
                let name = violations.check("name", AccountName::parse(text));
                let username = name.as_ref().map(|name| details::default_username(state, name, slug));
                (name, username.and_then(|username| violations.check("name", username)))
            }
            (AccountKind::User, "") => {
                (None, violations.check("email", details::mailbox(state, &self.email)))
            }
            (AccountKind::User, _) => {
                violations.add("name", "is for service accounts: the account is a user");
                violations.add("email", "is required: the account is a user");
                (None, None)
            }
        };
        let (username,) = violations.all((username,))?;
        let settings = cloning::settings(&source.settings()?, name.as_ref());
        Ok(Details { profile: self.profile.clone(), settings, ..Details::new(name, username) })
    }
}

pub async fn clone_account(
    state: &State,
    call: &Call,
    mut request: pb::CloneAccountRequest,
) -> Result<pb::CloneAccountResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    acting.require(&Permission::ACCOUNTS_WRITE, &Node::Org)?;
    acting.require(&Permission::ACCOUNTS_READ, &Node::Org)?;
    if !request.email.is_empty() {
        acting.may_send_code()?;
    }
    let new = CloneRequest::check(&request)?;
    let request_id = idempotency::parse(&std::mem::take(&mut request.request_id)).unwrap_or_default();
    // A preview does not count as the first call.
    let request_id = request_id.filter(|_| !request.validate_only);
    request.org_id.clear();
    request.account_id.clear();
    request.excluded_grants.clear();
    let once = Idempotency::new(&acting, "CloneAccount", request_id, &request);
    transact!(state, &acting, |mut tx| {
        let source_id = references::account(&mut tx, &acting, &new.source).await?;
        if acting.is_self(source_id) {
            return Err(Reason::CannotCloneSelf.into());
        }
        let rights = rights_of(&mut tx, acting.org_id, &new.excluded).await?;
        let excluded = new.excluded.iter().zip(&rights).map(|(named, right)| named.bound(right.as_ref()));
        let once = once.bound_to(std::iter::once(source_id.to_string()).chain(excluded));
        let org = tx.lock_org().await?;
        let now = tx.now();
        if let Some(before) = once.replayed(&mut tx, now).await? {
            return Ok(before);
        }
        let mut response = clone(state, &acting, &mut tx, (&new, source_id, &rights), &org).await?;
        if request.validate_only {
            // Everything was carried out, and is rolled back with the transaction.
            for account in response.account.iter_mut() {
                (account.id, account.etag) = Default::default();
                (account.create_time, account.update_time) = (None, None);
            }
            return Ok(response);
        }
        let made = response.account.as_ref().map(|account| account.id.as_str()).unwrap_or_default();
        once.finish(&mut tx, made, &response).await?;
        tx.commit().await?;
        Ok(response)
    })
}

/// Creates the clone, and records it. The org is locked.
async fn clone(
    state: &State,
    acting: &Acting<'_>,
    tx: &mut Transaction<'_>,
    (new, source_id, rights): (&CloneRequest, AccountId, &[Option<Right>]),
    org: &Org,
) -> Result<pb::CloneAccountResponse> {
    let (org_id, now) = (acting.org_id, tx.now());
    let source = db::accounts::find(&mut **tx, org_id, source_id).await?;
    let source = source.ok_or_else(|| Error::not_found("account", &new.source))?;
    let details = new.details(state, &source, &org.slug)?;
    if details.kind() == AccountKind::User {
        acting.may_send_code()?;
    }
    let Divided { given, dropped, .. } = divide(acting, tx, (new, source_id, rights)).await?;
    refuse_beyond_budget(tx, org, details.kind()).await?;

    let account_id: AccountId = state.clock.new_id();
    let row = NewAccount {
        account_id,
        org_id,
        details: &details,
        deactivated: new.deactivated,
        preview: new.validate_only,
        made_by: Some(acting.caller.credential_id().uuid()),
    };
    let account = db::accounts::insert(&mut *tx, &row, now).await?;
    let numbered: Vec<_> = given.iter().map(|(_, held)| (state.clock.new_id::<GrantId>(), held)).collect();
    let given = db::accounts::grants::insert(&mut *tx, org_id, account_id, &numbered, now).await?;
    let mut fields = details::given(&details);
    fields.push(FieldChange::set("cloned_from", source_id));
    fields.extend(new.deactivated.then(|| FieldChange::set("deactivated", true)));
    fields.extend(given.iter().map(|grant| FieldChange::set("grants", described(grant))));
    let mut resource_ids = touched(account_id, &given);
    resource_ids.push(source_id.to_string());
    let change = Change::of("account.created", resource_ids)
        .fields(fields)
        .subjects(subjects(org_id, account_id, &given));
    tx.record(change).await?;
    send_first_password(state, tx, org, &account).await?;
    Ok(pb::CloneAccountResponse {
        account: Some(messages::account(&account)?),
        dropped_grants: dropped.iter().map(|(grant, _)| messages::grant(grant)).collect::<Result<_>>()?,
    })
}

/// The source's grants: which the clone gets, which it does not get, and why.
async fn divide(
    acting: &Acting<'_>,
    tx: &mut Transaction<'_>,
    (new, source_id, rights): (&CloneRequest, AccountId, &[Option<Right>]),
) -> Result<Divided<(Grant, HeldGrant)>> {
    let grants = db::accounts::grants::find_of(&mut **tx, acting.org_id, source_id).await?;
    let (excluded, _) = split(source_id, grants.clone(), &new.excluded, rights)?;
    let excluded: HashSet<_> = excluded.iter().map(Grant::id).collect();
    // In the same order: the org is locked, so these are the same grants.
    let held = db::accounts::grants::find_held(&mut *tx, acting.org_id, source_id).await?;
    let opened = grants.into_iter().zip(held.iter().cloned()).collect();
    Ok(acting.divide(opened, |grant: &Grant| excluded.contains(&grant.id())))
}
