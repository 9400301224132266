//! `ListMembers` and `RemoveMember`: who may act in the org.

use super::messages;
use crate::db;
use crate::db::accounts::grants::Grant;
use crate::domain::values::ids::{AccountId, OrgId};
use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::Node;
use crate::error::{Error, Reason, Result};
use crate::flows::transaction::transact;
use crate::grpc::accounts::owners;
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::grpc::wire::page_token::Paging;
use crate::state::State;

pub async fn list_members(
    state: &State,
    call: &Call,
    request: pb::ListMembersRequest,
) -> Result<pb::ListMembersResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    acting.require(&Permission::ACCOUNTS_READ, &Node::Org)?;
    let filter = pb::ListMembersRequest::default();
    let paging =
        Paging::read(state, &acting, "ListMembers", &filter, request.page_size, &request.page_token)?;
    let mut db = state.db.acquire().await?;
    let after = paging.after(AccountId::parse);
    let page = db::orgs::memberships::page(&mut db, acting.org_id, after, paging.size).await?;
    Ok(pb::ListMembersResponse {
        members: page.rows.iter().map(messages::member).collect::<Result<_>>()?,
        next_page_token: paging.next(state, &page),
        total_size: page.total,
    })
}

pub async fn remove_member(
    state: &State,
    call: &Call,
    request: pb::RemoveMemberRequest,
) -> Result<pb::RemoveMemberResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    acting.require(&Permission::ACCOUNTS_WRITE, &Node::Org)?;
    let account_id = AccountId::parse(&request.account_id);
    let account_id = account_id.map_err(|wrong| Error::invalid("account_id", wrong.to_string()))?;

    transact!(state, &acting, |mut tx| {
        let now = tx.now();
        tx.lock_org().await?;
        let member = db::orgs::memberships::find(&mut *tx, acting.org_id, account_id).await?;
        let member = member.ok_or_else(|| Error::not_found("member", account_id))?;
        let held = db::accounts::grants::find_held(&mut tx, acting.org_id, account_id).await?;
        acting.may_stop(&held)?;
        if member.home_org_id == acting.org_id.uuid() {
            return Err(Reason::HomeOrg.into());
        }
        owners::refuse_live_tokens(&mut tx, &[acting.org_id], account_id, now).await?;
        owners::keep_one_without_guest(&mut tx, acting.org_id, account_id, &held).await?;

        let grants = db::accounts::grants::find_of(&mut *tx, acting.org_id, account_id).await?;
        let ids: Vec<_> = grants.iter().map(Grant::id).collect();
        db::accounts::grants::delete(&mut tx, acting.org_id, &ids).await?;
        db::orgs::memberships::remove(&mut tx, acting.org_id, account_id, now).await?;
        let home = OrgId::from(member.home_org_id);
        let change = db::orgs::memberships::removed(acting.org_id, (home, account_id), &grants);
        tx.record(change).await?;
        tx.commit().await?;
        Ok(pb::RemoveMemberResponse {})
    })
}
