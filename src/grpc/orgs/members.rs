//! `ListMembers` and `RemoveMember`: who may act in the org.

use super::messages;
use crate::db;
use crate::db::accounts::grants::Grant;
use crate::db::references;
use crate::domain::values::ids::{AccountId, OrgId};
use crate::domain::values::permissions::Permission;
use crate::domain::values::references::AccountRef;
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
    let mut db = call.read(state).await?;
    let after = paging.after(AccountId::parse);
    let page = db::orgs::memberships::page(&mut db, acting.org_id, after, paging.size).await?;
    let page = paging.answer(state, page, |row| messages::member(&row))?;
    Ok(pb::ListMembersResponse {
        members: page.items,
        next_page_token: page.next_page_token,
        total_size: page.total_size,
    })
}

pub async fn remove_member(
    state: &State,
    call: &Call,
    request: pb::RemoveMemberRequest,
) -> Result<pb::RemoveMemberResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    acting.require(&Permission::ACCOUNTS_WRITE, &Node::Org)?;
    let named = AccountRef::parse(&request.account_id);
    let named = named.map_err(|wrong| Error::invalid("account_id", wrong.to_string()))?;

    transact!(state, &acting, |mut tx| {
        let now = tx.now();
        let account_id = references::account(&mut tx, &acting, &named).await?;
        tx.lock_org().await?;
        let member = db::orgs::memberships::find(&mut *tx, acting.org_id, account_id).await?;
        let member = member.ok_or_else(|| Error::not_found("member", &named))?;
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
