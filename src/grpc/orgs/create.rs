//! `CreateOrg`: creates a tenant together with its first owner.

use crate::db;
use crate::db::accounts::NewAccount;
use crate::db::events::{Actor, Change, FieldChange};
use crate::domain::access::rights::HeldGrant;
use crate::domain::accounts::Details;
use crate::domain::values::ids::{AccountId, GrantId, OrgId};
use crate::domain::values::kinds::AccountKind;
use crate::domain::values::names::{AccountName, DisplayName, Slug};
use crate::domain::values::permissions::{Permission, PermissionSet, Right, SystemRole};
use crate::domain::values::resources::Node;
use crate::domain::values::subject::Subject;
use crate::error::{Result, Violations};
use crate::flows::emailed_codes::send_first_password;
use crate::flows::transaction::transact;
use crate::grpc::accounts::details;
use crate::grpc::accounts::messages::account as account_message;
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::grpc::pb::create_org_request::Owner;
use crate::grpc::wire::idempotency::Idempotency;
use crate::grpc::wire::{idempotency, org};
use crate::state::State;

pub async fn create_org(
    state: &State,
    call: &Call,
    mut request: pb::CreateOrgRequest,
) -> Result<pb::CreateOrgResponse> {
    let caller = call.caller()?;
    caller.require_platform(&Permission::PLATFORM_ORGS)?;

    let request_id = std::mem::take(&mut request.request_id);
    let mut violations = Violations::default();
    let slug = violations.check("slug", Slug::parse(&request.slug));
    let display_name = violations.check("display_name", DisplayName::parse(&request.display_name));
    let owner = owner(state, &mut violations, request.owner.as_ref(), slug.as_ref());
    let request_id = violations.check("request_id", idempotency::parse(&request_id));
    let (slug, display_name, owner, request_id) = violations.all((slug, display_name, owner, request_id))?;

    let acting = caller.acting_in(None)?;
    if owner.kind() == AccountKind::User {
        acting.may_send_code()?;
    }
    let once = Idempotency::new(&acting, "CreateOrg", request_id, &request);
    let org_id: OrgId = state.clock.new_id();
    transact!(state, Actor::from(caller).in_org(org_id), |mut tx| {
        let now = tx.now();
        if let Some(before) = once.replayed(&mut tx, now).await? {
            return Ok(before);
        }
        let org = db::orgs::insert(&mut tx, org_id, &slug, &display_name, now).await?;
        let new = NewAccount {
            account_id: state.clock.new_id::<AccountId>(),
            org_id,
            details: &owner,
            deactivated: false,
            made_by: Some(caller.credential_id().uuid()),
        };
        let account = db::accounts::insert(&mut tx, &new, now).await?;
        let ownership = HeldGrant {
            right: Right::System(SystemRole::Owner),
            node: Node::Org,
            role_permissions: PermissionSet::default(),
        };
        let grant_id: GrantId = state.clock.new_id();
        db::accounts::grants::insert(&mut tx, org_id, new.account_id, &[(grant_id, &ownership)], now).await?;
        let change =
            Change::of("org.created", [org_id.to_string(), new.account_id.to_string(), grant_id.to_string()])
                .fields([
                    FieldChange::set("slug", &slug),
                    FieldChange::set("display_name", &display_name),
                    FieldChange::set("owner", new.account_id),
                    FieldChange::set("owner_username", &owner.username),
                ])
                .subjects([Subject::from(org_id), new.account_id.into()]);
        tx.record(change).await?;
        send_first_password(state, &mut tx, &org, &account).await?;
        let response = pb::CreateOrgResponse {
            org: Some(org::message(&org, &state.ceilings)?),
            owner: Some(account_message(&account)?),
        };
        once.finish(&mut tx, &org_id.to_string(), &response).await?;
        tx.commit().await?;
        Ok(response)
    })
}

/// The first owner: a service account with that name, or a user.
fn owner(
    state: &State,
    violations: &mut Violations,
    owner: Option<&Owner>,
    slug: Option<&Slug>,
) -> Option<Details> {
    match owner {
        Some(Owner::OwnerServiceAccountName(name)) => {
            let name = violations.check("owner_service_account_name", AccountName::parse(name))?;
            let username = details::default_username(state, &name, slug?.as_str());
            let username = violations.check("owner_service_account_name", username)?;
            Some(Details::new(Some(name), username))
        }
        Some(Owner::OwnerEmail(email)) => {
            let email = violations.check("owner_email", details::mailbox(state, email))?;
            Some(Details::new(None, email))
        }
        None => violations.check("owner", Err("is required: owner_email or owner_service_account_name")),
    }
}
