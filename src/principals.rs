//! From a credential to what is behind it.
//!
//! The order of the checks is the rule of `docs/architecture.md`: what costs nothing
//! first, and nothing is told about a token before its secret matched.

use std::sync::Arc;

use crate::db;
use crate::domain::access_token::AccessToken;
use crate::domain::principal::Principal;
use crate::domain::token_text::TokenText;
use crate::error::{Error, Reason, Result};
use crate::state::State;

/// The principal whose token text this is: length, shape and checksum (no database
/// call for junk), then the row by its id, then the secret in constant time.
///
/// # Errors
/// `TOKEN_INVALID`, whatever of this fails. Whether the token still works is the
/// caller's to check ([`Principal::check`]).
pub async fn by_text(state: &State, text: &str) -> Result<Arc<Principal>> {
    let text = TokenText::parse(text).map_err(|_| Reason::TokenInvalid)?;
    let found = db::principals::find(&state.db, text.id()).await?;
    let records = found.as_ref().map_or(&[][..], |principal| &principal.secrets);
    let mut peppers = state.peppers.load_full();
    if records.iter().any(|record| !peppers.knows(record.pepper)) {
        // Another node took a newer pepper up.
        state.reload_keys().await.map_err(Error::internal)?;
        peppers = state.peppers.load_full();
    }
    // Compared even where nothing was found, so that both take the same time.
    match (peppers.matches(&text, records), found) {
        (true, Some(principal)) => Ok(Arc::new(principal)),
        _ => Err(Reason::TokenInvalid.into()),
    }
}

/// The principal that a JWT of ours was made from, as it is now, and what the JWT says.
/// The audience is the caller's to check.
///
/// # Errors
/// `ACCESS_TOKEN_INVALID` for one that is not good or has nothing behind it; what
/// stops its token; `ACCESS_TOKEN_STALE` when rights were narrowed since.
pub async fn by_access_token(state: &State, jwt: &str) -> Result<(Arc<Principal>, AccessToken)> {
    let now = state.clock.now();
    let token = state.ring.verify(jwt, now)?;
    let principal =
        db::principals::find(&state.db, token.token_id).await?.ok_or(Reason::AccessTokenInvalid)?;
    if principal.org_id != token.org_id || principal.account_id != token.account_id {
        return Err(Reason::AccessTokenInvalid.into());
    }
    principal.check(now)?;
    if token.claims.org_ver < principal.org_version || token.claims.acct_ver < principal.account_version {
        return Err(Reason::AccessTokenStale.into());
    }
    Ok((Arc::new(principal), token))
}
