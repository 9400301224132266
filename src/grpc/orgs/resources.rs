//! `CreateResource` and `ListResources`: the org's catalogue.

use crate::db::events::{Actor, Change, FieldChange};
use crate::db::{self, retrying};
use crate::domain::names::DisplayName;
use crate::domain::permissions::Permission;
use crate::domain::resources::{Node, ResourcePath};
use crate::error::{Error, Result, Violations};
use crate::grpc::auth::Call;
use crate::grpc::once::{self, Once};
use crate::grpc::paging::Paging;
use crate::grpc::{convert, pb};
use crate::state::State;
use crate::transaction::Transaction;

pub async fn create(
    state: &State,
    call: &Call,
    mut request: pb::CreateResourceRequest,
) -> Result<pb::CreateResourceResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    // The right is held on the path or above it: where the path is none, on the whole org.
    let path = ResourcePath::parse(&request.path);
    let node = Node::from(path.clone().ok());
    acting.require(&Permission::RESOURCES_WRITE, &node)?;

    let request_id = std::mem::take(&mut request.request_id);
    let mut violations = Violations::default();
    let path = violations.check("path", path);
    let display_name =
        violations.check("display_name", convert::optional(&request.display_name, DisplayName::parse));
    let request_id = violations.check("request_id", once::parse(&request_id));
    let (Some(path), Some(display_name), Some(request_id)) = (path, display_name, request_id) else {
        return Err(violations.error());
    };

    let once = Once::new(&acting, "CreateResource", request_id, &request);
    let now = state.clock.now();
    retrying(|| async {
        let mut tx = Transaction::begin(state).await?;
        db::orgs::lock(&mut tx, acting.org_id).await?;
        if let Some(before) = once.replayed(&mut tx, now).await? {
            return Ok(before);
        }
        let (resource, above) =
            db::resources::insert(&mut tx, acting.org_id, &path, display_name.as_ref(), now).await?;
        let change = Change {
            event_id: state.clock.new_id(),
            org_id: acting.org_id,
            kind: "resource.created",
            resource_ids: above.into_iter().chain([path.to_string()]).collect(),
            fields: [FieldChange::set("path", &path)]
                .into_iter()
                .chain(display_name.as_ref().map(|name| FieldChange::set("display_name", name)))
                .collect(),
            subjects: Vec::new(),
        };
        tx.record(&Actor::from(&acting), &[change], now).await?;
        let response = pb::CreateResourceResponse { resource: Some(convert::resource(&resource)) };
        once.finish(&mut tx, path.as_str(), &response).await?;
        tx.commit().await?;
        Ok(response)
    })
    .await
}

pub async fn list(
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
        Paging::read(state, &acting, "ListResources", &filter, (request.page_size, &request.page_token))?;
    let after = paging.after(ResourcePath::parse);
    let mut db = state.db.acquire().await?;
    let page =
        db::resources::page(&mut db, acting.org_id, parent.as_ref(), after.as_ref(), paging.size).await?;
    Ok(pb::ListResourcesResponse {
        resources: page.rows.iter().map(convert::resource).collect(),
        next_page_token: paging.next(state, &page),
        total_size: page.total,
    })
}
