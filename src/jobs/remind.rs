//! Reminders of tokens that end soon.

use uuid::Uuid;

use crate::db;
use crate::db::events::{Actor, Change, FieldChange};
use crate::db::retrying;
use crate::db::tokens::reminders::{ExpiringToken, Reminder};
use crate::domain::mail::Mail;
use crate::domain::tokens::reminders::due;
use crate::error::Result;
use crate::flows::notify;
use crate::flows::transaction::Transaction;
use crate::state::State;

/// How many tokens are looked up at once.
const BATCH: i64 = 500;

/// Writes an event, and a mail to whoever is to be told, for each token and threshold that has come. Any number of nodes may do it
/// at once: each is written once. One that fails does not keep the others. Returns how many
/// were written.
///
/// # Errors
/// When the tokens could not be found.
pub async fn remind(state: &State) -> Result<u64> {
    let mut after = (Uuid::nil(), Uuid::nil());
    let mut told = 0;
    loop {
        let ending = db::tokens::reminders::find_due(&state.db, state.clock.now(), after, BATCH).await?;
        let Some(last) = ending.last() else {
            return Ok(told);
        };
        after = (last.org_id.uuid(), last.token_id.uuid());
        for token in ending {
            match remind_of(state, &token).await {
                Ok(done) => told += u64::from(done),
                Err(error) => {
                    tracing::warn!(?error, token_id = %token.token_id, "a reminder was not written")
                }
            }
        }
    }
}

async fn remind_of(state: &State, token: &ExpiringToken) -> Result<bool> {
    let now = state.clock.now();
    let Some(days) = due(token.expire_time, token.reminded_days, now) else { return Ok(false) };
    retrying(|| async {
        let mut tx = Transaction::begin(state).await?;
        let Some(reminded) = db::tokens::reminders::remind(&mut tx, token, days).await? else {
            return Ok(false);
        };
        tx.record(&Actor::default(), &[change(state, &reminded)], now).await?;
        let name = reminded.display_name.clone().unwrap_or_else(|| reminded.token_id.to_string());
        let say = |org, account| Mail::token_expiring(org, account, name, reminded.expire_time);
        notify::tell(&mut tx, (reminded.org_id, reminded.account_id), now, say).await?;
        tx.commit().await?;
        Ok(true)
    })
    .await
}

fn change(state: &State, reminded: &Reminder) -> Change {
    let name = reminded.display_name.as_ref();
    let mut fields = vec![
        FieldChange::set("expire_time", reminded.expire_time),
        FieldChange::set("expires_within_days", reminded.days),
    ];
    fields.extend(name.map(|name| FieldChange::set("display_name", name)));
    Change {
        event_id: state.clock.new_id(),
        org_id: reminded.org_id,
        kind: "token.expiring",
        resource_ids: vec![reminded.token_id.to_string(), reminded.account_id.to_string()],
        fields,
        // What the token can do is what it was.
        subjects: Vec::new(),
    }
}
