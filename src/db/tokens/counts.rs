//! How many tokens an account has, and how many origins the tokens of an org name.

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::domain::limits::Limit;
use crate::domain::values::ids::{AccountId, OrgId};
use crate::error::Result;

/// Refuses more tokens than an account may have, with those that were just written.
///
/// The row of the account is locked, so that no other call writes one meanwhile.
///
/// # Errors
/// `LIMIT_REACHED`.
pub(super) async fn refuse_too_many(
    tx: &mut PgConnection,
    org_id: OrgId,
    account_id: AccountId,
    now: OffsetDateTime,
) -> Result<()> {
    let query = sqlx::query_scalar!(
        r#"select count(*) as "n!" from tokens
           where org_id = $1 and account_id = $2 and revoke_time is null and (expire_time is null or expire_time > $3)"#,
        org_id.uuid(),
        account_id.uuid(),
        now
    );
    Limit::ACTIVE_TOKENS_OF_ACCOUNT.refuse_above(query.fetch_one(tx).await?)
}

/// Refuses more origins than the active tokens of an org may name, with those just written.
///
/// The row of the org is locked. One that several tokens name counts several times.
///
/// # Errors
/// `LIMIT_REACHED`.
pub(super) async fn refuse_too_many_origins(
    tx: &mut PgConnection,
    org_id: OrgId,
    now: OffsetDateTime,
) -> Result<()> {
    let query = sqlx::query_scalar!(
        r#"select count(*) as "n!" from token_origins
           where org_id = $1 and (expire_time is null or expire_time > $2)"#,
        org_id.uuid(),
        now
    );
    Limit::ORIGINS_OF_ORG.refuse_above(query.fetch_one(tx).await?)
}
