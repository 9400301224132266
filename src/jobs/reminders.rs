//! Reminders of tokens that expire soon.

use std::time::Duration;

use uuid::Uuid;

use super::context::{JobContext, Limits};
use crate::db;
use crate::db::events::{Author, Change, FieldChange};
use crate::db::tokens::reminders::{ExpiringToken, Reminder};
use crate::db::within;
use crate::domain::mail::Mail;
use crate::domain::tokens::reminders::due;
use crate::error::Result;
use crate::flows::notify;
use crate::flows::transaction::transact;
use crate::state::State;

/// How many tokens are read per batch.
const BATCH: i64 = 500;

pub(super) async fn run(context: JobContext, period: Duration) {
    let mut ticks = context.ticks(period);
    loop {
        ticks.next().await;
        let outcome = remind_within(&context.state, context.limits).await;
        context.ran(&outcome);
        match outcome {
            Ok(0) => {}
            Ok(reminders) => tracing::info!(reminders, "reminders written of tokens that expire soon"),
            Err(error) => {
                tracing::warn!(?error, "reminders not written; it is retried");
                ticks.retry();
            }
        }
    }
}

/// Writes the reminders that are due: for each token and threshold an event, and a message to the
/// account's mailbox where it is to be notified.
///
/// Any number of nodes may do it concurrently: each reminder is written once. One that fails does
/// not hold up the others. Returns how many were written.
///
/// # Errors
/// When the tokens could not be found.
pub async fn remind(state: &State) -> Result<u64> {
    remind_within(state, Limits::default()).await
}

async fn remind_within(state: &State, limits: Limits) -> Result<u64> {
    let mut after = (Uuid::nil(), Uuid::nil());
    let mut written = 0;
    loop {
        let find = async {
            let mut tx = state.db.begin_job().await?;
            db::tokens::reminders::find_due(&mut *tx, state.clock.now(), after, BATCH).await
        };
        let ending = within(limits.long, find).await?;
        let Some(last) = ending.last() else {
            return Ok(written);
        };
        after = (last.org_id.uuid(), last.token_id.uuid());
        for token in ending {
            match within(limits.short, remind_of(state, &token)).await {
                Ok(done) => written += u64::from(done),
                Err(error) => {
                    tracing::warn!(?error, token_id = %token.token_id, "reminder not written; it is retried")
                }
            }
        }
    }
}

async fn remind_of(state: &State, token: &ExpiringToken) -> Result<bool> {
    let now = state.clock.now();
    let Some(days) = due(token.expire_time, token.reminded_days, now) else { return Ok(false) };
    transact!(state, Author::server(token.org_id), |mut tx| {
        let Some(reminded) = db::tokens::reminders::remind(&mut tx, token, days).await? else {
            return Ok(false);
        };
        tx.record(change(&reminded)).await?;
        let name = reminded.display_name.clone().unwrap_or_else(|| reminded.token_id.to_string());
        let say = |org, account| Mail::token_expiring(org, account, name, reminded.expire_time);
        notify::send(&mut tx, reminded.org_id, reminded.account_id, say).await?;
        tx.commit().await?;
        Ok(true)
    })
}

fn change(reminded: &Reminder) -> Change {
    let name = reminded.display_name.as_ref();
    let mut fields = vec![
        FieldChange::set("expire_time", reminded.expire_time),
        FieldChange::set("expires_within_days", reminded.days),
    ];
    fields.extend(name.map(|name| FieldChange::set("display_name", name)));
    // The rights of the token are unchanged.
    Change::of("token.expiring", [reminded.token_id.to_string(), reminded.account_id.to_string()])
        .fields(fields)
}
