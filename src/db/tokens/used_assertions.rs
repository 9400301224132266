//! `used_assertions`: which assertions were used, each of which works once.

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::tokens::assertion::AssertionUse;
use crate::domain::values::ids::RuleId;
use crate::error::Result;

/// How many unexpired assertions are kept for one token, or for one rule.
pub const MOST_KEPT: i64 = 10_000;

/// What became of the use of an assertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spending {
    /// It was not used before, and is now.
    Spent,
    /// It was used before.
    Replayed,
    /// Too many others of the signer are kept.
    TooMany,
}

/// Uses an assertion, in one statement, unless it was used before or the signer has too many.
///
/// The signer is the token, or the issuer, within which a `jti` is unique; of an issuer with the rule that it counts
/// for. Where several are spent at the same moment a few more than [`MOST_KEPT`] may be kept.
pub async fn spend(
    db: impl PgExecutor<'_> + Copy,
    (signer, rule): (Uuid, Option<RuleId>),
    used: &AssertionUse,
    now: OffsetDateTime,
) -> Result<Spending> {
    let spent = match rule {
        None => {
            let query = sqlx::query!(
                "insert into used_assertions (signer_id, jti_hash, keep_until)
                 select $1, $2, $3
                 from (select count(*) as kept from (select 1 from used_assertions
                       where signer_id = $1 and keep_until > $4 limit $5) as unexpired) as of_signer
                 where of_signer.kept < $5
                 on conflict do nothing",
                signer,
                &used.jti_hash,
                used.keep_until,
                now,
                MOST_KEPT
            );
            query.execute(db).await?
        }
        Some(rule_id) => {
            let query = sqlx::query!(
                "insert into used_assertions (signer_id, jti_hash, keep_until, rule_id)
                 select $1, $2, $3, $6
                 from (select count(*) as kept from (select 1 from used_assertions
                       where signer_id = $1 and rule_id = $6 and keep_until > $4 limit $5) as unexpired) as of_rule
                 where of_rule.kept < $5
                 on conflict do nothing",
                signer,
                &used.jti_hash,
                used.keep_until,
                now,
                MOST_KEPT,
                rule_id.uuid()
            );
            query.execute(db).await?
        }
    };
    if spent.rows_affected() == 1 {
        return Ok(Spending::Spent);
    }
    Ok(if was_used(db, signer, used).await? { Spending::Replayed } else { Spending::TooMany })
}

/// Whether an assertion of this signer was used.
pub async fn was_used(db: impl PgExecutor<'_>, signer: Uuid, used: &AssertionUse) -> Result<bool> {
    let query = sqlx::query_scalar!(
        r#"select exists (select 1 from used_assertions where signer_id = $1 and jti_hash = $2) as "is_used!""#,
        signer,
        &used.jti_hash
    );
    Ok(query.fetch_one(db).await?)
}

/// Deletes the uses of assertions that have expired.
pub async fn sweep(db: impl PgExecutor<'_>, now: OffsetDateTime) -> Result<u64> {
    let query = sqlx::query!("delete from used_assertions where keep_until <= $1", now);
    Ok(query.execute(db).await?.rows_affected())
}
