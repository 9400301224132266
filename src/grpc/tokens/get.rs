//! `GetToken` and `ListTokens`.

use super::create::labels;
use super::messages;
use crate::db;
use crate::db::references;
use crate::db::tokens::TokenFilter;
use crate::domain::tokens::policy::{Rules, TokenState};
use crate::domain::values::ids::TokenId;
use crate::domain::values::kinds::TokenKind;
use crate::domain::values::names::Purpose;
use crate::domain::values::permissions::Permission;
use crate::domain::values::references::AccountRef;
use crate::domain::values::resources::Node;
use crate::error::{Error, Result, Violations};
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::grpc::wire::convert;
use crate::grpc::wire::page_token::Paging;
use crate::state::State;

pub async fn get_token(
    state: &State,
    call: &Call,
    request: pb::GetTokenRequest,
) -> Result<pb::GetTokenResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    let may_read = acting.require(&Permission::TOKENS_READ, &Node::Org);
    let token_id = match TokenId::parse(&request.token_id) {
        Ok(id) => id,
        Err(wrong) => {
            return Err(may_read.err().unwrap_or(Error::invalid("token_id", wrong.to_string())));
        }
    };
    let mut db = call.read(state).await?;
    let found = db::tokens::find(&mut *db, acting.org_id, token_id).await?;
    let own =
        found.as_ref().is_some_and(|token| acting.may_read_self(token.account(), &Permission::TOKENS_READ));
    if !own {
        // Checked before its existence is revealed: for other callers the answer must not depend
        // on whose it is.
        may_read?;
    }
    let token = found.ok_or_else(|| Error::not_found("token", token_id))?;
    let rules = db::orgs::policies::find_rules(&mut *db, acting.org_id, &state.ceilings).await?;
    Ok(pb::GetTokenResponse { token: Some(messages::token(&token, &rules, state.clock.now())?) })
}

pub async fn list_tokens(
    state: &State,
    call: &Call,
    mut request: pb::ListTokensRequest,
) -> Result<pb::ListTokensResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    let account = convert::optional(&request.account_id, AccountRef::parse);
    acting.require_reading(account.as_ref().ok().and_then(Option::as_ref), &Permission::TOKENS_READ)?;
    let now = state.clock.now();
    let mut violations = Violations::default();
    let mut db = call.read(state).await?;
    let rules = db::orgs::policies::find_rules(&mut *db, acting.org_id, &state.ceilings).await?;
    let account = violations.check("account_id", account).flatten();
    let mut filter = filter(&mut violations, &request, &rules);
    violations.finish()?;
    let (size, token) = (request.page_size, std::mem::take(&mut request.page_token));
    request.page_size = 0;
    let paging = Paging::read(state, &acting, "ListTokens", &request, size, &token)?;
    if let Some(named) = &account {
        let id = references::account(&mut db, &acting, named).await?;
        // A deleted account as well: what it had is asked about afterwards.
        let found = db::accounts::find_any(&mut *db, acting.org_id, id).await?;
        found.ok_or_else(|| Error::not_found("account", named))?;
        filter.account_id = Some(id);
    }
    let after = paging.after(TokenId::parse);
    let page = db::tokens::page(&mut db, acting.org_id, &filter, after, paging.size, now).await?;
    let page = paging.answer(state, page, |token| messages::token(&token, &rules, now))?;
    Ok(pb::ListTokensResponse {
        tokens: page.items,
        next_page_token: page.next_page_token,
        total_size: page.total_size,
    })
}

/// The filter without its account, which may be named.
fn filter(violations: &mut Violations, request: &pb::ListTokensRequest, rules: &Rules) -> TokenFilter {
    let time = |time: &Option<prost_types::Timestamp>| time.as_ref().map(convert::time).transpose();
    let kind = match pb::TokenKind::try_from(request.kind) {
        Ok(pb::TokenKind::Unspecified) => Ok(None),
        Ok(pb::TokenKind::Secret) => Ok(Some(TokenKind::Secret)),
        Ok(pb::TokenKind::Publishable) => Ok(Some(TokenKind::Publishable)),
        Ok(pb::TokenKind::Key) => Ok(Some(TokenKind::Key)),
        Err(_) => Err("is not a known kind"),
    };
    let state = match pb::TokenState::try_from(request.state) {
        Ok(pb::TokenState::Unspecified) => Ok(None),
        Ok(pb::TokenState::Active) => Ok(Some(TokenState::Active)),
        Ok(pb::TokenState::Expired) => Ok(Some(TokenState::Expired)),
        Ok(pb::TokenState::Revoked) => Ok(Some(TokenState::Revoked)),
        Ok(pb::TokenState::Blocked) => Ok(Some(TokenState::Blocked)),
        Err(_) => Err("is not a known state"),
    };
    TokenFilter {
        account_id: None,
        kind: violations.check("kind", kind).flatten(),
        purpose: violations.check("purpose", convert::optional(&request.purpose, Purpose::parse)).flatten(),
        states: violations
            .check("state", state)
            .flatten()
            .map(|state| (state, rules.clone()))
            .into_iter()
            .collect(),
        idle_since: violations.check("idle_since", time(&request.idle_since)).flatten(),
        expires_before: violations.check("expires_before", time(&request.expires_before)).flatten(),
        labels: labels(violations, &request.labels),
    }
}
