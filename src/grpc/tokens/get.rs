//! `GetToken` and `ListTokens`.

use crate::db;
use crate::domain::ids::{AccountId, TokenId};
use crate::domain::permissions::Permission;
use crate::domain::resources::Node;
use crate::error::{Error, Result};
use crate::grpc::auth::Call;
use crate::grpc::paging::Paging;
use crate::grpc::{convert, pb};
use crate::state::State;

pub async fn token(state: &State, call: &Call, request: pb::GetTokenRequest) -> Result<pb::GetTokenResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    let may_read = acting.require(&Permission::TOKENS_READ, &Node::Org);
    let token_id = match TokenId::parse(&request.token_id) {
        Ok(id) => id,
        Err(wrong) => {
            return Err(may_read.err().unwrap_or(Error::invalid("token_id", wrong.to_string())));
        }
    };
    let found = db::tokens::find(&state.db, acting.org_id, token_id).await?;
    let own = found.as_ref().is_some_and(|token| acting.is_self(token.account()));
    if !own {
        // Before its existence is told: whose it is makes no difference to anybody else.
        may_read?;
    }
    let token = found.ok_or_else(|| Error::not_found("token", token_id))?;
    Ok(pb::GetTokenResponse { token: Some(convert::token(&token, state.clock.now())?) })
}

pub async fn tokens(
    state: &State,
    call: &Call,
    request: pb::ListTokensRequest,
) -> Result<pb::ListTokensResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    let account_id = convert::optional(&request.account_id, AccountId::parse);
    if !matches!(account_id, Ok(Some(id)) if acting.is_self(id)) {
        acting.require(&Permission::TOKENS_READ, &Node::Org)?;
    }
    let account_id = account_id.map_err(|wrong| Error::invalid("account_id", wrong.to_string()))?;
    let filter = pb::ListTokensRequest { account_id: request.account_id, ..Default::default() };
    let paging =
        Paging::read(state, &acting, "ListTokens", &filter, (request.page_size, &request.page_token))?;
    let mut db = state.db.acquire().await?;
    if let Some(id) = account_id {
        let account = db::accounts::find(&mut *db, acting.org_id, id).await?;
        account.ok_or_else(|| Error::not_found("account", id))?;
    }
    let after = paging.after(TokenId::parse);
    let page = db::tokens::page(&mut db, acting.org_id, account_id, after, paging.size).await?;
    let now = state.clock.now();
    Ok(pb::ListTokensResponse {
        tokens: page.rows.iter().map(|token| convert::token(token, now)).collect::<Result<_>>()?,
        next_page_token: paging.next(state, &page),
        total_size: page.total,
    })
}
