//! `ListEvents`: the org's audit log.

use super::messages;
use crate::db;
use crate::db::events::log::{EventFilter, LogPosition};
use crate::db::references;
use crate::domain::event_types;
use crate::domain::values::names;
use crate::domain::values::permissions::Permission;
use crate::domain::values::references::AccountRef;
use crate::domain::values::resources::Node;
use crate::error::{Result, Violations};
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::grpc::wire::convert;
use crate::grpc::wire::page_token::Paging;
use crate::state::State;

pub async fn list_events(
    state: &State,
    call: &Call,
    request: pb::ListEventsRequest,
) -> Result<pb::ListEventsResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    acting.require(&Permission::EVENTS_READ, &Node::Org)?;
    let (mut filter, actor) = filter(&request)?;

    let same = pb::ListEventsRequest {
        org_id: String::new(),
        page_size: 0,
        page_token: String::new(),
        ..request.clone()
    };
    let paging = Paging::read(state, &acting, "ListEvents", &same, request.page_size, &request.page_token)?;
    let mut db = call.read(state).await?;
    if let Some(actor) = &actor {
        filter.actor_id = Some(references::account(&mut db, &acting, actor).await?);
    }
    let after = paging.after(str::parse::<LogPosition>);
    let page = db::events::log::page(&mut db, acting.org_id, &filter, after, paging.size).await?;
    let page = paging.answer(state, page, |event| Ok(messages::event(acting.org_id, event)))?;
    Ok(pb::ListEventsResponse {
        events: page.items,
        next_page_token: page.next_page_token,
        total_size: page.total_size,
    })
}

/// The filter without its actor, which may be named.
fn filter(request: &pb::ListEventsRequest) -> Result<(EventFilter, Option<AccountRef>)> {
    let mut violations = Violations::default();
    let time = |time: &Option<prost_types::Timestamp>| time.as_ref().map(convert::time).transpose();
    let actor = violations.check("actor_id", convert::optional(&request.actor_id, AccountRef::parse));
    let resource_id =
        violations.check("resource_id", convert::optional(&request.resource_id, names::resource_id));
    let kind = violations.check("type", convert::optional(&request.r#type, event_types::parse));
    let start = violations.check("start_time", time(&request.start_time)).flatten();
    let end = violations.check("end_time", time(&request.end_time)).flatten();
    if let (Some(start), Some(end)) = (start, end)
        && start >= end
    {
        violations.add("end_time", "must be after start_time");
    }
    violations.finish()?;
    let filter = EventFilter {
        actor_id: None,
        resource_id: resource_id.flatten(),
        kind: kind.flatten().map(str::to_owned),
        start,
        end,
    };
    Ok((filter, actor.flatten()))
}
