//! `GetAccount` and `ListAccounts`.

use crate::db;
use crate::domain::ids::AccountId;
use crate::domain::permissions::Permission;
use crate::domain::resources::Node;
use crate::error::{Error, Result};
use crate::grpc::auth::Call;
use crate::grpc::paging::Paging;
use crate::grpc::{convert, pb};
use crate::state::State;

pub async fn account(
    state: &State,
    call: &Call,
    request: pb::GetAccountRequest,
) -> Result<pb::GetAccountResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    let account_id = AccountId::parse(&request.account_id);
    if !account_id.is_ok_and(|id| acting.is_self(id)) {
        acting.require(&Permission::ACCOUNTS_READ, &Node::Org)?;
    }
    let account_id = account_id.map_err(|wrong| Error::invalid("account_id", wrong.to_string()))?;
    let found = db::accounts::find_any(&state.db, acting.org_id, account_id).await?;
    let account = found.ok_or_else(|| Error::not_found("account", account_id))?;
    Ok(pb::GetAccountResponse { account: Some(convert::account(&account)?) })
}

pub async fn accounts(
    state: &State,
    call: &Call,
    request: pb::ListAccountsRequest,
) -> Result<pb::ListAccountsResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    acting.require(&Permission::ACCOUNTS_READ, &Node::Org)?;
    let filter = pb::ListAccountsRequest::default();
    let paging =
        Paging::read(state, &acting, "ListAccounts", &filter, (request.page_size, &request.page_token))?;
    let mut db = state.db.acquire().await?;
    let page =
        db::accounts::page(&mut db, acting.org_id, paging.after(AccountId::parse), paging.size).await?;
    Ok(pb::ListAccountsResponse {
        accounts: page.rows.iter().map(convert::account).collect::<Result<_>>()?,
        next_page_token: paging.next(state, &page),
        total_size: page.total,
    })
}
