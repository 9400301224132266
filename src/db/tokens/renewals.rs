//! The renewal of a token: another expiry, from which its lifetime counts anew.

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::web_origins;
use crate::db::one_row;
use crate::domain::tokens::reminders::skipped_threshold;
use crate::domain::values::ids::{OrgId, TokenId};
use crate::error::Result;

/// Gives a token, whose row is locked, a later expiry. Its reminders are sent anew.
pub async fn renew(
    tx: &mut PgConnection,
    org_id: OrgId,
    token_id: TokenId,
    end: OffsetDateTime,
    now: OffsetDateTime,
) -> Result<()> {
    let query = sqlx::query!(
        "update tokens set expire_time = $3, renew_time = $4, reminded_days = $5
         where org_id = $1 and token_id = $2",
        org_id.uuid(),
        token_id.uuid(),
        end,
        now,
        skipped_threshold(end - now)
    );
    one_row(&query.execute(&mut *tx).await?, "renewing a token")?;
    web_origins::set_expiry(tx, token_id, end).await
}
