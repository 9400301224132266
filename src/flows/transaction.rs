//! A transaction whose changes reach the log, the feed, and the caches of this node
//! before its outcome is answered; and with them the mails that tell of them.

use std::ops::{Deref, DerefMut};

use sqlx::{PgConnection, Postgres};
use time::OffsetDateTime;

use crate::db::events;
use crate::db::events::feed::KEYS;
use crate::db::events::feed::wake;
use crate::db::events::{Actor, Change};
use crate::error::{Reason, Result};
use crate::mail::OutgoingEmail;
use crate::state::State;

/// Rolled back when it is dropped.
pub struct Transaction<'a> {
    state: &'a State,
    inner: sqlx::Transaction<'static, Postgres>,
    touched: Vec<String>,
    mailed: bool,
}

impl<'a> Transaction<'a> {
    /// Begins one.
    ///
    /// # Errors
    /// `DATABASE_UNAVAILABLE`, at once where it is known already.
    pub async fn begin(state: &'a State) -> Result<Self> {
        if !state.feed.answers() {
            return Err(Reason::DatabaseUnavailable.into());
        }
        Ok(Self { state, inner: state.db.begin().await?, touched: Vec::new(), mailed: false })
    }

    /// Writes the event and the feed row of each change. Called once in a transaction.
    pub async fn record(&mut self, actor: &Actor, changes: &[Change], now: OffsetDateTime) -> Result<()> {
        events::record(&mut self.inner, actor, changes, now).await?;
        self.touched.extend(changes.iter().flat_map(|change| change.subjects.iter().cloned()));
        Ok(())
    }

    /// Writes a mail down, which is sent when the change is made, and not before.
    pub async fn mail(&mut self, letter: &OutgoingEmail, now: OffsetDateTime) -> Result<()> {
        letter.post(&mut self.inner, &self.state.keyring.master, self.state.clock.new_id(), now).await?;
        self.mailed = true;
        Ok(())
    }

    /// Commits, wakes the other nodes, and drops what was touched here at once.
    pub async fn commit(mut self) -> Result<()> {
        if !self.touched.is_empty() {
            wake(&mut self.inner).await?;
        }
        let outcome = self.inner.commit().await;
        // Also when it failed: an answer that was lost on the way may have been a yes.
        self.state.principals.invalidate(&self.touched);
        if self.mailed {
            self.state.outbox_filled.notify_one();
        }
        if self.touched.iter().any(|subject| subject == KEYS)
            && let Err(error) = self.state.keyring.reload().await
        {
            tracing::error!(%error, "changed keys cannot be read; whoever follows the feed tries again");
        }
        Ok(outcome?)
    }
}

impl Deref for Transaction<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.inner
    }
}

impl DerefMut for Transaction<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.inner
    }
}
