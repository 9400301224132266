//! `GetAccount` and `ListAccounts`.

use super::messages;
use crate::db;
use crate::db::accounts::AccountFilter;
use crate::domain::accounts::search::Needle;
use crate::domain::values::ids::{AccountId, OrgId};
use crate::domain::values::permissions::{Permission, Right};
use crate::domain::values::resources::Node;
use crate::error::{Error, Result, Violations};
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::grpc::wire::convert;
use crate::grpc::wire::page_token::Paging;
use crate::state::State;

pub async fn get_account(
    state: &State,
    call: &Call,
    request: pb::GetAccountRequest,
) -> Result<pb::GetAccountResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    let account_id = AccountId::parse(&request.account_id);
    let own = account_id.is_ok_and(|id| acting.may_read_self(id, &Permission::ACCOUNTS_READ));
    if !own {
        acting.require(&Permission::ACCOUNTS_READ, &Node::Org)?;
    }
    let account_id = account_id.map_err(|wrong| Error::invalid("account_id", wrong.to_string()))?;
    // A guest's own settings are stored in its home org.
    let home = if own { acting.caller.account_home() } else { acting.org_id };
    let found = db::accounts::find_any(&state.db, home, account_id).await?;
    let account = found.ok_or_else(|| Error::not_found("account", account_id))?;
    Ok(pb::GetAccountResponse { account: Some(messages::account(&account)?) })
}

pub async fn list_accounts(
    state: &State,
    call: &Call,
    request: pb::ListAccountsRequest,
) -> Result<pb::ListAccountsResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    acting.require(&Permission::ACCOUNTS_READ, &Node::Org)?;
    let filter = filter(acting.org_id, &request)?;
    let (page_size, page_token) = (request.page_size, request.page_token.as_str());
    let same = pb::ListAccountsRequest {
        kind: request.kind,
        state: request.state,
        query: request.query.clone(),
        role_id: request.role_id.clone(),
        ..Default::default()
    };
    let paging = Paging::read(state, &acting, "ListAccounts", &same, page_size, page_token)?;
    let mut db = state.db.acquire().await?;
    let after = paging.after(AccountId::parse);
    let page = db::accounts::page(&mut db, acting.org_id, &filter, after, paging.size).await?;
    let page = paging.answer(state, page, |account| messages::account(&account))?;
    Ok(pb::ListAccountsResponse {
        accounts: page.items,
        next_page_token: page.next_page_token,
        total_size: page.total_size,
    })
}

fn filter(org_id: OrgId, request: &pb::ListAccountsRequest) -> Result<AccountFilter> {
    let mut violations = Violations::default();
    let filter = AccountFilter {
        kind: violations.check("kind", convert::kind(request.kind)).flatten(),
        state: violations.check("state", convert::state(request.state)).flatten(),
        role: violations.check("role_id", convert::optional(&request.role_id, Right::parse_role)).flatten(),
        query: violations
            .check("query", convert::optional(&request.query, |query| Needle::parse(org_id, query)))
            .flatten(),
    };
    violations.finish()?;
    Ok(filter)
}
