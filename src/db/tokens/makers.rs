//! Tokens as the makers of other things, and which of them are compromised.

use sqlx::PgExecutor;
use uuid::Uuid;

use crate::domain::values::ids::{OrgId, TokenId};
use crate::error::Result;

/// Finds the tokens that these tokens have created, in any org, whatever their state.
pub async fn find_made_by(db: impl PgExecutor<'_>, makers: &[Uuid]) -> Result<Vec<(OrgId, TokenId)>> {
    let query = sqlx::query!(
        "select org_id, credential_id from credentials where made_by = any($1) order by credential_id",
        makers
    );
    let rows = query.fetch_all(db).await?;
    Ok(rows.into_iter().map(|row| (row.org_id.into(), row.credential_id.into())).collect())
}

/// Whether the token was revoked because someone else had it.
pub async fn is_compromised(db: impl PgExecutor<'_>, org_id: OrgId, token_id: TokenId) -> Result<bool> {
    let query = sqlx::query_scalar!(
        r#"select exists (select 1 from tokens
                          where org_id = $1 and token_id = $2 and revoke_reason = 'KEY_COMPROMISE') as "is!""#,
        org_id.uuid(),
        token_id.uuid()
    );
    Ok(query.fetch_one(db).await?)
}
