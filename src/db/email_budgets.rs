//! `email_budgets`: how many emails a mailbox is sent within an hour, whichever org sends them.
//!
//! A budget is counted where emails are sent, and not where they are written: so no caller learns what
//! other orgs have sent, and an email that was withdrawn before it was sent counts for nothing.

use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;

use crate::domain::mail::{BUDGET_WINDOW, Budget};
use crate::error::Result;

/// Takes a place in a budget. None if it was taken; else the time when the next place is free.
///
/// Transactions that take a place of the same budget wait for each other.
pub async fn take(
    tx: &mut PgConnection,
    wanted: &Budget,
    now: OffsetDateTime,
) -> Result<Option<OffsetDateTime>> {
    let row = sqlx::query!(
        "insert into email_budgets (mailbox, asked, sent_times, keep_until) values ($1, $2, '{}', $3)
         on conflict on constraint email_budgets_pk do nothing",
        wanted.mailbox,
        wanted.asked,
        now + BUDGET_WINDOW
    );
    row.execute(&mut *tx).await?;
    let mut sent = lock(&mut *tx, wanted).await?;
    sent.retain(|time| *time > now - BUDGET_WINDOW);
    sent.sort_unstable();
    if let Some(first) = sent.len().checked_sub(wanted.most()) {
        return Ok(Some(sent[first] + BUDGET_WINDOW));
    }
    sent.push(now);
    store(tx, wanted, &sent, now).await?;
    Ok(None)
}

/// Gives back the place that was taken at this time, for an email that was not sent.
pub async fn give_back(
    tx: &mut PgConnection,
    budget: &Budget,
    taken: OffsetDateTime,
    now: OffsetDateTime,
) -> Result<()> {
    let mut sent = lock(&mut *tx, budget).await?;
    let Some(place) = sent.iter().position(|time| *time == taken) else { return Ok(()) };
    sent.remove(place);
    store(tx, budget, &sent, now).await
}

async fn lock(tx: &mut PgConnection, budget: &Budget) -> Result<Vec<OffsetDateTime>> {
    let query = sqlx::query_scalar!(
        "select sent_times from email_budgets where mailbox = $1 and asked = $2 for update",
        budget.mailbox,
        budget.asked
    );
    Ok(query.fetch_optional(tx).await?.unwrap_or_default())
}

async fn store(
    tx: &mut PgConnection,
    budget: &Budget,
    sent: &[OffsetDateTime],
    now: OffsetDateTime,
) -> Result<()> {
    let query = sqlx::query!(
        "update email_budgets set sent_times = $3, keep_until = $4 where mailbox = $1 and asked = $2",
        budget.mailbox,
        budget.asked,
        sent,
        now + BUDGET_WINDOW
    );
    query.execute(tx).await?;
    Ok(())
}

/// Deletes the budgets that have no effect any more. Returns how many there were.
pub async fn sweep(db: impl PgExecutor<'_>, now: OffsetDateTime) -> Result<u64> {
    let query = sqlx::query!("delete from email_budgets where keep_until < $1", now);
    Ok(query.execute(db).await?.rows_affected())
}
