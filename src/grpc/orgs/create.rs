//! `CreateOrg`: a tenant together with its first owner.

use crate::db;
use crate::db::accounts::NewAccount;
use crate::db::events::{Actor, Change, FieldChange};
use crate::db::retrying;
use crate::domain::access::rights::HeldGrant;
use crate::domain::accounts::Details;
use crate::domain::values::ids::{AccountId, GrantId, OrgId};
use crate::domain::values::names::{AccountName, DisplayName, Slug};
use crate::domain::values::permissions::{Permission, Right, SystemRole};
use crate::domain::values::resources::Node;
use crate::error::{Result, Violations};
use crate::flows::emailed_codes::send_first_password;
use crate::flows::transaction::Transaction;
use crate::grpc::accounts::details;
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::grpc::pb::create_org_request::Owner;
use crate::grpc::wire::convert;
use crate::grpc::wire::idempotency;
use crate::grpc::wire::idempotency::Idempotency;
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
    let (Some(slug), Some(display_name), Some(owner), Some(request_id)) =
        (slug, display_name, owner, request_id)
    else {
        return Err(violations.error());
    };

    let acting = caller.acting_in(None)?;
    let once = Idempotency::new(&acting, "CreateOrg", request_id, &request);
    let now = state.clock.now();
    retrying(|| async {
        let mut tx = Transaction::begin(state).await?;
        if let Some(before) = once.replayed(&mut tx, now).await? {
            return Ok(before);
        }
        let org_id: OrgId = state.clock.new_id();
        let org = db::orgs::insert(&mut tx, org_id, &slug, &display_name, now).await?;
        let new = NewAccount {
            account_id: state.clock.new_id::<AccountId>(),
            org_id,
            details: &owner,
            deactivated: false,
        };
        let account = db::accounts::insert(&mut tx, &new, now).await?;
        let ownership = HeldGrant {
            right: Right::System(SystemRole::Owner),
            node: Node::Org,
            role_permissions: Vec::new(),
        };
        let grant_id: GrantId = state.clock.new_id();
        db::accounts::grants::insert(&mut tx, org_id, new.account_id, &[(grant_id, &ownership)], now).await?;
        let change = Change {
            event_id: state.clock.new_id(),
            org_id,
            kind: "org.created",
            resource_ids: vec![org_id.to_string(), new.account_id.to_string(), grant_id.to_string()],
            fields: vec![
                FieldChange::set("slug", &slug),
                FieldChange::set("display_name", &display_name),
                FieldChange::set("owner", new.account_id),
                FieldChange::set("owner_username", &owner.username),
            ],
            subjects: vec![org_id.to_string(), new.account_id.to_string()],
        };
        tx.record(&Actor::from(caller), &[change], now).await?;
        send_first_password(state, &mut tx, &org, &account).await?;
        let response = pb::CreateOrgResponse {
            org: Some(convert::org(&org, &state.ceilings)?),
            owner: Some(convert::account(&account)?),
        };
        once.finish(&mut tx, &org_id.to_string(), &response).await?;
        tx.commit().await?;
        Ok(response)
    })
    .await
}

/// Who the first owner is: a workload of that name, or a person.
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
