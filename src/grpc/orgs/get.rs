//! `GetOrg` and `ListOrgs`.

use crate::db;
use crate::domain::values::ids::OrgId;
use crate::error::{Error, Result};
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::grpc::wire::org;
use crate::grpc::wire::page_token::{Answer, Paging};
use crate::state::State;

pub async fn get_org(state: &State, call: &Call, request: pb::GetOrgRequest) -> Result<pb::GetOrgResponse> {
    // A caller that may act in an org is a member of it, or an operator.
    let acting = call.acting_in(state, &request.org_id).await?;
    let found = db::orgs::find(&mut *call.read(state).await?, acting.org_id).await?;
    let org = found.ok_or_else(|| Error::not_found("org", acting.org_id))?;
    Ok(pb::GetOrgResponse { org: Some(org::message(&org, &state.ceilings)?) })
}

pub async fn list_orgs(
    state: &State,
    call: &Call,
    request: pb::ListOrgsRequest,
) -> Result<pb::ListOrgsResponse> {
    let caller = call.caller()?;
    let acting = caller.acting_in(None)?;
    let filter = pb::ListOrgsRequest::default();
    let paging = Paging::read(state, &acting, "ListOrgs", &filter, request.page_size, &request.page_token)?;
    let seen = |org: db::orgs::Org| org::message(&org, &state.ceilings);
    let response = |page: Answer<pb::Org>| pb::ListOrgsResponse {
        orgs: page.items,
        next_page_token: page.next_page_token,
        total_size: page.total_size,
    };
    if caller.has_signed_in() && !caller.is_operator() {
        // A session acts in every org in which its account is a member.
        let mut db = call.read(state).await?;
        let after = paging.after(OrgId::parse);
        let page = db::orgs::page_of_member(&mut db, caller.account_id(), after, paging.size).await?;
        return Ok(response(paging.answer(state, page, seen)?));
    }
    if !caller.is_operator() {
        let own = db::orgs::find(&mut *call.read(state).await?, acting.org_id).await?;
        let orgs: Vec<_> = own.into_iter().map(seen).collect::<Result<_>>()?;
        return Ok(pb::ListOrgsResponse {
            total_size: Some(orgs.len() as i32),
            orgs,
            next_page_token: String::new(),
        });
    }
    let mut db = call.read(state).await?;
    let page = db::orgs::page(&mut db, paging.after(OrgId::parse), paging.size).await?;
    Ok(response(paging.answer(state, page, seen)?))
}
