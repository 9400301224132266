//! The org's catalogue of resources.

use super::messages;
use crate::db;
use crate::db::events::{Change, FieldChange};
use crate::db::orgs::resources::ResourceUse;
use crate::domain::values::ids::{GrantId, RuleId, TokenId};
use crate::domain::values::names::DisplayName;
use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::{Node, ResourcePath};
use crate::error::{Error, Precondition, Reason, Result, Violations};
use crate::flows::transaction::transact;
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::grpc::wire::idempotency::Idempotency;
use crate::grpc::wire::page_token::Paging;
use crate::grpc::wire::update_mask::{Mask, check_etag};
use crate::grpc::wire::{convert, idempotency};
use crate::state::State;

/// How many uses that prevent a deletion are listed at most.
const LISTED: i64 = 100;

pub async fn create_resource(
    state: &State,
    call: &Call,
    mut request: pb::CreateResourceRequest,
) -> Result<pb::CreateResourceResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    // The right is held on the path or above it. If the path is invalid, it is required on the
    // whole org.
    let path = ResourcePath::parse(&request.path);
    let node = Node::from(path.clone().ok());
    acting.require(&Permission::RESOURCES_WRITE, &node)?;

    let request_id = std::mem::take(&mut request.request_id);
    let mut violations = Violations::default();
    let path = violations.check("path", path);
    let display_name =
        violations.check("display_name", convert::optional(&request.display_name, DisplayName::parse));
    let request_id = violations.check("request_id", idempotency::parse(&request_id));
    let (path, display_name, request_id) = violations.all((path, display_name, request_id))?;

    request.org_id.clear();
    let once = Idempotency::new(&acting, "CreateResource", request_id, &request);
    transact!(state, &acting, |mut tx| {
        let now = tx.now();
        tx.lock_org().await?;
        if let Some(before) = once.replayed(&mut tx, now).await? {
            return Ok(before);
        }
        let (resource, above) =
            db::orgs::resources::insert(&mut tx, acting.org_id, &path, display_name.as_ref(), now).await?;
        let change = Change::of("resource.created", above.into_iter().chain([path.to_string()])).fields(
            [FieldChange::set("path", &path)]
                .into_iter()
                .chain(display_name.as_ref().map(|name| FieldChange::set("display_name", name))),
        );
        tx.record(change).await?;
        let response = pb::CreateResourceResponse { resource: Some(messages::resource(&resource)) };
        once.finish(&mut tx, path.as_str(), &response).await?;
        tx.commit().await?;
        Ok(response)
    })
}

pub async fn list_resources(
    state: &State,
    call: &Call,
    request: pb::ListResourcesRequest,
) -> Result<pb::ListResourcesResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    let parent = convert::optional(&request.parent, ResourcePath::parse);
    let node = Node::from(parent.clone().ok().flatten());
    acting.require(&Permission::RESOURCES_READ, &node)?;
    let parent = parent.map_err(|invalid| Error::invalid("parent", invalid.to_string()))?;

    let filter = pb::ListResourcesRequest { parent: request.parent, ..Default::default() };
    let paging =
        Paging::read(state, &acting, "ListResources", &filter, request.page_size, &request.page_token)?;
    let after = paging.after(ResourcePath::parse);
    let mut db = call.read(state).await?;
    let page =
        db::orgs::resources::page(&mut db, acting.org_id, parent.as_ref(), after.as_ref(), paging.size)
            .await?;
    let page = paging.answer(state, page, |row| Ok(messages::resource(&row)))?;
    Ok(pb::ListResourcesResponse {
        resources: page.items,
        next_page_token: page.next_page_token,
        total_size: page.total_size,
    })
}

pub async fn update_resource(
    state: &State,
    call: &Call,
    request: pb::UpdateResourceRequest,
) -> Result<pb::UpdateResourceResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    let message = request.resource.unwrap_or_default();
    let path = ResourcePath::parse(&message.path);
    acting.require(&Permission::RESOURCES_WRITE, &Node::from(path.clone().ok()))?;

    let mut violations = Violations::default();
    let path = violations.check("resource.path", path);
    let is_set = |_: &str| message.display_name.is_some();
    // There is only one field to change: a valid mask names it.
    Mask::read(&mut violations, request.update_mask.as_ref(), &["display_name"], is_set);
    let display_name = convert::optional(message.display_name(), DisplayName::parse);
    let display_name = violations.check("resource.display_name", display_name);
    let (path, display_name) = violations.all((path, display_name))?;

    transact!(state, &acting, |mut tx| {
        let now = tx.now();
        let found = db::orgs::resources::lock(&mut tx, acting.org_id, &path).await?;
        let found = found.ok_or_else(|| Error::not_found("resource", &path))?;
        check_etag(&message.etag, found.revision)?;
        let new = display_name.as_ref().map(DisplayName::to_string);
        let field = FieldChange::between("display_name", found.display_name.clone(), new);
        let Some(field) = field else {
            return Ok(pb::UpdateResourceResponse { resource: Some(messages::resource(&found)) });
        };
        let resource =
            db::orgs::resources::update(&mut tx, acting.org_id, &path, display_name.as_ref(), now).await?;
        let change = Change::of("resource.updated", [&path]).fields([field]);
        tx.record(change).await?;
        tx.commit().await?;
        Ok(pb::UpdateResourceResponse { resource: Some(messages::resource(&resource)) })
    })
}

pub async fn delete_resource(
    state: &State,
    call: &Call,
    request: pb::DeleteResourceRequest,
) -> Result<pb::DeleteResourceResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    let path = ResourcePath::parse(&request.path);
    acting.require(&Permission::RESOURCES_WRITE, &Node::from(path.clone().ok()))?;
    let path = path.map_err(|wrong| Error::invalid("path", wrong.to_string()))?;

    transact!(state, &acting, |mut tx| {
        let now = tx.now();
        tx.lock_org().await?;
        // A token being created with a restriction to this resource holds a lock on it. This call
        // waits for it, and finds the token.
        let found = db::orgs::resources::lock(&mut tx, acting.org_id, &path).await?;
        let found = found.ok_or_else(|| Error::not_found("resource", &path))?;
        check_etag(&request.etag, found.revision)?;
        in_use(&db::orgs::resources::find_uses(&mut tx, acting.org_id, &path, LISTED, now).await?)?;
        db::orgs::resources::delete(&mut tx, acting.org_id, &path).await?;
        let shown = found.display_name.map(|name| FieldChange::cleared("display_name", name));
        let change = Change::of("resource.deleted", [&path])
            .fields([FieldChange::cleared("path", &path)].into_iter().chain(shown));
        tx.record(change).await?;
        tx.commit().await?;
        Ok(pb::DeleteResourceResponse {})
    })
}

/// Refuses to delete a resource that is in use.
fn in_use(uses: &[ResourceUse]) -> Result<()> {
    if uses.is_empty() {
        return Ok(());
    }
    let standing = uses.iter().map(|found| match found {
        ResourceUse::Below(path) => ("RESOURCE", path.clone(), "is below the resource"),
        ResourceUse::Grant(id) => ("GRANT", GrantId::from(*id).to_string(), "is on the resource"),
        ResourceUse::Rule(id) => {
            ("FEDERATION_RULE", RuleId::from(*id).to_string(), "is restricted to the resource")
        }
        ResourceUse::Token(id) => ("TOKEN", TokenId::from(*id).to_string(), "is restricted to the resource"),
    });
    let standing =
        standing.map(|(kind, subject, why)| Precondition { kind, subject, description: why.into() });
    let message = format!("the resource has {} or more dependents: remove them first", uses.len());
    Err(Error::with_message(Reason::ResourceInUse, message).with_preconditions(standing))
}
