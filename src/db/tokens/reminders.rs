//! Which tokens are to be told of because they end soon, and that it was done.

use sqlx::{PgConnection, PgExecutor};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::domain::tokens::reminders::THRESHOLDS;
use crate::domain::values::ids::{AccountId, OrgId, TokenId};
use crate::error::Result;

/// A token that ends soon, as it was when somebody looked.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    pub org_id: OrgId,
    pub token_id: TokenId,
    pub expire_time: OffsetDateTime,
    /// The last threshold that was told of, or need not be.
    pub told: Option<i32>,
}

/// What was told: enough to tell it to somebody.
#[derive(Clone, Debug)]
pub struct Reminded {
    pub org_id: OrgId,
    pub token_id: TokenId,
    pub account_id: AccountId,
    pub display_name: Option<String>,
    pub expire_time: OffsetDateTime,
    /// The threshold: it ends within so many days.
    pub days: i32,
}

/// Tokens of all orgs for which a threshold has come, by age alone, after this one in the
/// order of org and token.
pub async fn find_due(
    db: impl PgExecutor<'_>,
    now: OffsetDateTime,
    after: (Uuid, Uuid),
    limit: i64,
) -> Result<Vec<Ending>> {
    let [first, second, last] = THRESHOLDS.map(|days| now + Duration::days(days.into()));
    let query = sqlx::query!(
        r#"select org_id, token_id, expire_time as "expire_time!", reminded_days from tokens
           where revoke_time is null and expire_time > $1 and (org_id, token_id) > ($5, $6)
             and (reminded_days is null and expire_time <= $2
                  or reminded_days = 30 and expire_time <= $3
                  or reminded_days = 7 and expire_time <= $4)
           order by org_id, token_id limit $7"#,
        now,
        first,
        second,
        last,
        after.0,
        after.1,
        limit
    );
    let rows = query.fetch_all(db).await?;
    let ending = rows.into_iter().map(|row| Ending {
        org_id: row.org_id.into(),
        token_id: row.token_id.into(),
        expire_time: row.expire_time,
        told: row.reminded_days,
    });
    Ok(ending.collect())
}

/// Notes that this threshold is told of. None when it need not be any more: another node was
/// first, or the token was revoked or got another end meanwhile. Whoever gets an answer tells
/// it in the same transaction: then it is told once, whatever happens.
pub async fn remind(tx: &mut PgConnection, token: &Ending, days: i32) -> Result<Option<Reminded>> {
    let query = sqlx::query!(
        "update tokens set reminded_days = $4
         where org_id = $1 and token_id = $2 and expire_time = $3 and revoke_time is null
           and (reminded_days is null or reminded_days > $4)
         returning account_id, display_name",
        token.org_id.uuid(),
        token.token_id.uuid(),
        token.expire_time,
        days
    );
    let row = query.fetch_optional(tx).await?;
    Ok(row.map(|row| Reminded {
        org_id: token.org_id,
        token_id: token.token_id,
        account_id: row.account_id.into(),
        display_name: row.display_name,
        expire_time: token.expire_time,
        days,
    }))
}
