//! `GetAccount` and `ListAccounts`.

use time::OffsetDateTime;

use super::messages;
use crate::db;
use crate::db::accounts::AccountFilter;
use crate::db::accounts::updated::UpdatePosition;
use crate::db::references;
use crate::domain::accounts::search::Needle;
use crate::domain::values::ids::{AccountId, OrgId};
use crate::domain::values::names::ExternalId;
use crate::domain::values::permissions::Permission;
use crate::domain::values::references::{AccountRef, RoleRef};
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
    let named = AccountRef::parse(&request.account_id);
    let own = acting.require_reading(named.as_ref().ok(), &Permission::ACCOUNTS_READ)?;
    let named = named.map_err(|wrong| Error::invalid("account_id", wrong.to_string()))?;
    let mut db = call.read(state).await?;
    let account_id = references::account(&mut db, &acting, &named).await?;
    // A guest's own settings are stored in its home org.
    let home = if own { acting.caller.account_home() } else { acting.org_id };
    let found = db::accounts::find_any(&mut *db, home, account_id).await?;
    let account = found.ok_or_else(|| Error::not_found("account", &named))?;
    Ok(pb::GetAccountResponse { account: Some(messages::account(&account)?) })
}

pub async fn list_accounts(
    state: &State,
    call: &Call,
    request: pb::ListAccountsRequest,
) -> Result<pb::ListAccountsResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    acting.require(&Permission::ACCOUNTS_READ, &Node::Org)?;
    let (mut filter, role, since) = filter(acting.org_id, &request)?;
    let (page_size, page_token) = (request.page_size, request.page_token.as_str());
    let same = pb::ListAccountsRequest {
        kind: request.kind,
        state: request.state,
        query: request.query.clone(),
        role_id: request.role_id.clone(),
        external_id: request.external_id.clone(),
        updated_since: request.updated_since,
        ..Default::default()
    };
    let paging = Paging::read(state, &acting, "ListAccounts", &same, page_size, page_token)?;
    let mut db = call.read(state).await?;
    if let Some(role) = &role {
        filter.role = Some(references::role(&mut db, acting.org_id, role).await?);
    }
    let page = match since {
        Some(since) => {
            let after = paging.after(str::parse::<UpdatePosition>);
            db::accounts::updated::page(&mut db, acting.org_id, &filter, since, after, paging.size).await?
        }
        None => {
            let after = paging.after(AccountId::parse);
            db::accounts::page(db.connection(), acting.org_id, &filter, after, paging.size).await?
        }
    };
    let page = paging.answer(state, page, |account| messages::account(&account))?;
    Ok(pb::ListAccountsResponse {
        accounts: page.items,
        next_page_token: page.next_page_token,
        total_size: page.total_size,
    })
}

/// The filter without its role, which may be named.
fn filter(
    org_id: OrgId,
    request: &pb::ListAccountsRequest,
) -> Result<(AccountFilter, Option<RoleRef>, Option<OffsetDateTime>)> {
    let mut violations = Violations::default();
    let filter = AccountFilter {
        kind: violations.check("kind", convert::kind(request.kind)).flatten(),
        state: violations.check("state", convert::state(request.state)).flatten(),
        role: None,
        external_id: violations
            .check("external_id", convert::optional(&request.external_id, ExternalId::parse))
            .flatten(),
        query: violations
            .check("query", convert::optional(&request.query, |query| Needle::parse(org_id, query)))
            .flatten(),
    };
    let role = violations.check("role_id", convert::optional(&request.role_id, RoleRef::parse)).flatten();
    let since = request.updated_since.as_ref().map(convert::time).transpose();
    let since = violations.check("updated_since", since).flatten();
    violations.finish()?;
    Ok((filter, role, since))
}
