//! Reminders of tokens that expire soon: which are due, and which were sent.

use sqlx::{PgConnection, PgExecutor};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::domain::tokens::reminders::THRESHOLDS;
use crate::domain::values::ids::{AccountId, OrgId, TokenId};
use crate::error::Result;

/// A token that expires soon, as it was when it was read.
#[derive(Clone, Copy, Debug)]
pub struct ExpiringToken {
    pub org_id: OrgId,
    pub token_id: TokenId,
    pub expire_time: OffsetDateTime,
    /// The last threshold that a reminder was sent for, or that needs none.
    pub reminded_days: Option<i32>,
}

/// A reminder that was claimed, with what its email says.
#[derive(Clone, Debug)]
pub struct Reminder {
    pub org_id: OrgId,
    pub token_id: TokenId,
    pub account_id: AccountId,
    pub display_name: Option<String>,
    pub expire_time: OffsetDateTime,
    /// The threshold: the token expires within so many days.
    pub days: i32,
}

/// Finds tokens of all orgs that have passed a threshold, after this one by org and token.
///
/// Only their expiry counts here, not whether anyone is to be notified.
pub async fn find_due(
    db: impl PgExecutor<'_>,
    now: OffsetDateTime,
    after: (Uuid, Uuid),
    limit: i64,
) -> Result<Vec<ExpiringToken>> {
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
    let ending = rows.into_iter().map(|row| ExpiringToken {
        org_id: row.org_id.into(),
        token_id: row.token_id.into(),
        expire_time: row.expire_time,
        reminded_days: row.reminded_days,
    });
    Ok(ending.collect())
}

/// Stores that the reminder for this threshold is sent; none if it is not needed any more.
///
/// It is not if another node was first, or if the token was revoked or got another expiry meanwhile. The
/// caller sends the reminder in the same transaction, so that it is sent exactly once.
pub async fn remind(tx: &mut PgConnection, token: &ExpiringToken, days: i32) -> Result<Option<Reminder>> {
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
    Ok(row.map(|row| Reminder {
        org_id: token.org_id,
        token_id: token.token_id,
        account_id: row.account_id.into(),
        display_name: row.display_name,
        expire_time: token.expire_time,
        days,
    }))
}
