//! `CreateOrg`: a tenant together with its first owner.

use crate::db::accounts::NewAccount;
use crate::db::events::{Actor, Change, FieldChange};
use crate::db::{self, retrying};
use crate::domain::accounts::Settings;
use crate::domain::ids::{AccountId, GrantId, OrgId};
use crate::domain::names::{AccountName, DisplayName, Profile, Slug};
use crate::domain::permissions::{Permission, Right, SystemRole};
use crate::domain::resources::Node;
use crate::domain::rights::HeldGrant;
use crate::error::{Error, Result, Violations};
use crate::grpc::accounts::create::default_username;
use crate::grpc::auth::Call;
use crate::grpc::once::{self, Once};
use crate::grpc::pb::create_org_request::Owner;
use crate::grpc::{convert, pb};
use crate::state::State;
use crate::transaction::Transaction;

pub async fn org(
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
    let owner = match &request.owner {
        Some(Owner::OwnerServiceAccountName(name)) => {
            violations.check("owner_service_account_name", AccountName::parse(name))
        }
        None => violations.check("owner", Err("is required: owner_service_account_name")),
    };
    let request_id = violations.check("request_id", once::parse(&request_id));
    let (Some(slug), Some(display_name), Some(owner), Some(request_id)) =
        (slug, display_name, owner, request_id)
    else {
        return Err(violations.error());
    };
    let username = default_username(state, &owner, slug.as_str());
    let username = username.map_err(|wrong| Error::invalid("owner_service_account_name", wrong))?;

    let acting = caller.acting_in(None)?;
    let once = Once::new(&acting, "CreateOrg", request_id, &request);
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
            name: Some(&owner),
            username: &username,
            profile: &Profile::default(),
            contact_email: None,
            description: None,
            settings: &Settings::default(),
            deactivated: false,
        };
        let account = db::accounts::insert(&mut tx, &new, now).await?;
        let ownership = HeldGrant {
            right: Right::System(SystemRole::Owner),
            node: Node::Org,
            role_permissions: Vec::new(),
        };
        let grant_id: GrantId = state.clock.new_id();
        db::grants::insert(&mut tx, org_id, new.account_id, &[(grant_id, &ownership)], now).await?;
        let change = Change {
            event_id: state.clock.new_id(),
            org_id,
            kind: "org.created",
            resource_ids: vec![org_id.to_string(), new.account_id.to_string(), grant_id.to_string()],
            fields: vec![
                FieldChange::set("slug", &slug),
                FieldChange::set("display_name", &display_name),
                FieldChange::set("owner", new.account_id),
            ],
            subjects: vec![org_id.to_string(), new.account_id.to_string()],
        };
        tx.record(&Actor::from(caller), &[change], now).await?;
        let response =
            pb::CreateOrgResponse { org: Some(convert::org(&org)), owner: Some(convert::account(&account)?) };
        once.finish(&mut tx, &org_id.to_string(), &response).await?;
        tx.commit().await?;
        Ok(response)
    })
    .await
}
