//! Sends the messages of the outbox. Every node that has a mailer does it.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, io};

use time::OffsetDateTime;
use tokio::task::JoinSet;
use tokio::time::sleep;
use uuid::Uuid;

use super::failure::Failure;
use super::mailer::{EmailDelivery, Mailer, Transport};
use super::message::Built;
use super::{message, smtp};
use crate::clock::Jitter;
use crate::db::outbox::{Claimed, Next};
use crate::db::{email_budgets, outbox, within};
use crate::domain::mail::{Budget, pause_after};
use crate::error::Result;
use crate::state::State;

/// How many messages one node sends concurrently.
const AT_ONCE: usize = 4;
/// How many messages are read per batch.
const BATCH: i64 = 64;
/// How long a claim lasts: longer than sending one message may take, so that no other node sends
/// it meanwhile. Messages claimed by a node that died wait as long.
const CLAIM: Duration = Duration::from_secs(300);
/// How long one statement or transaction may take.
const STATEMENTS_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause before marking a sent message is retried.
const AFTER_FAILURE: Duration = Duration::from_millis(200);

const _: () = assert!(smtp::LONGEST.as_secs() * 3 / 2 < CLAIM.as_secs());

/// Sends what is due in the outbox.
pub struct Delivery {
    state: Arc<State>,
    settings: EmailDelivery,
    mailer: Mailer,
    jitter: Jitter,
}

impl Delivery {
    /// Sends this node's outbox, over this mailer.
    pub fn new(state: Arc<State>, settings: EmailDelivery, mailer: Mailer, jitter: Jitter) -> Self {
        Self { state, settings, mailer, jitter }
    }

    /// Sends the due messages, several concurrently. Returns whether there may be more.
    ///
    /// # Errors
    /// When the outbox could not be read.
    pub async fn send_due(self: Arc<Self>) -> Result<bool> {
        let due = within(STATEMENTS_TIMEOUT, outbox::find_due(&self.state.db, self.state.clock.now(), BATCH))
            .await?;
        let mut due = due.into_iter();
        let mut processed = 0;
        let mut sending = JoinSet::new();
        loop {
            // Claimed messages are sent; nothing more is claimed when the server stops.
            while sending.len() < AT_ONCE
                && !self.state.lifecycle.is_stopping()
                && let Some(mail_id) = due.next()
            {
                let delivery = self.clone();
                sending.spawn(async move {
                    let outcome = delivery.process(mail_id).await;
                    if let Err(error) = &outcome {
                        tracing::warn!(?error, %mail_id, "message not processed; it is retried");
                    }
                    outcome.is_ok()
                });
            }
            match sending.join_next().await {
                Some(Ok(ok)) => processed += usize::from(ok),
                Some(Err(error)) => tracing::error!(%error, "sending a message panicked; it is retried"),
                // Failed messages are still due: there are more only where none failed.
                None => return Ok(processed == BATCH as usize),
            }
        }
    }

    /// Claims the message that is next for the mailbox of a due one, if its budget has a place. Returns it
    /// with its budget, and the time at which the place was taken.
    async fn claim(&self, due: Uuid) -> Result<Option<(Claimed, Budget, OffsetDateTime)>> {
        let state = &self.state;
        loop {
            let (claim_id, now) = (state.clock.new_id(), state.clock.now());
            let mut tx = state.db.begin_job().await?;
            let Some(Next { mail_id, budget, expired }) = outbox::find_next(&mut tx, due, now).await? else {
                return Ok(None);
            };
            // One whose code has expired is not sent, and takes no place.
            if !expired && let Some(free) = email_budgets::take(&mut tx, &budget, now).await? {
                let waiting = outbox::wait_for_place(&mut *tx, &budget, free, now).await?;
                tx.commit().await?;
                tracing::info!(waiting, until = %free, "messages wait: their mailbox was sent its messages of this hour");
                return Ok(None);
            }
            // Another node may have claimed it meanwhile; then the next one is looked up.
            if let Some(claimed) = outbox::claim(&mut *tx, mail_id, claim_id, now, now + CLAIM).await? {
                tx.commit().await?;
                return Ok(Some((claimed, budget, now)));
            }
        }
    }

    /// Gives back the place of a message that was not sent.
    async fn give_back(&self, budget: &Budget, taken: OffsetDateTime) -> Result<()> {
        let mut tx = self.state.db.begin_job().await?;
        email_budgets::give_back(&mut tx, budget, taken, self.state.clock.now()).await?;
        Ok(tx.commit().await?)
    }

    /// Claims one message, sends it, and writes the outcome.
    async fn process(&self, due: Uuid) -> Result<()> {
        let state = &self.state;
        let Some((claimed, budget, now)) = within(STATEMENTS_TIMEOUT, self.claim(due)).await? else {
            return Ok(());
        };
        let (mail_id, db) = (claimed.mail_id, &state.db);
        let began = Instant::now();
        if claimed.expire_time.is_some_and(|end| end <= now) {
            let error = "its code expired before it could be sent";
            tracing::warn!(%mail_id, error, "message given up");
            state.metrics.mail.given_up.one();
            let given_up = outbox::give_up(db, &claimed, now, error, true);
            return within(STATEMENTS_TIMEOUT, given_up).await;
        }
        let (failure, lasts) = match self.send(&claimed).await {
            Ok(()) => {
                state.metrics.mail.sent.one();
                self.mark_sent(mail_id, began).await;
                return Ok(());
            }
            Err(Failure::Passing(error)) => (error, false),
            Err(Failure::Lasting(error)) => (error, true),
        };
        let (taken, now) = (now, state.clock.now());
        let outcome = match pause_after(claimed.attempts).filter(|_| !lasts) {
            Some(pause) => {
                let pause = self.jitter.spread(pause.unsigned_abs());
                state.metrics.mail.postponed.one();
                tracing::warn!(%mail_id, error = failure, retry_in = ?pause, "message not sent");
                let rescheduled = outbox::reschedule(db, &claimed, now + pause, &failure);
                within(STATEMENTS_TIMEOUT, rescheduled).await
            }
            None => {
                state.metrics.mail.given_up.one();
                tracing::error!(%mail_id, error = failure, "message given up: `countersign mail list` shows it");
                let given_up = outbox::give_up(db, &claimed, now, &failure, false);
                within(STATEMENTS_TIMEOUT, given_up).await
            }
        };
        within(STATEMENTS_TIMEOUT, self.give_back(&budget, taken)).await?;
        outcome
    }

    async fn send(&self, claimed: &Claimed) -> std::result::Result<(), Failure> {
        let (from, now) = (&self.mailer.from, self.state.clock.now().into());
        let built = message::build(claimed, from, &self.settings, &self.state.keyring.master, now)?;
        match &self.mailer.transport {
            Transport::Smtp(smtp) => smtp.send(&built.message).await,
            Transport::Files(dir) => write_file(dir, claimed, &built)
                .map_err(|error| Failure::Passing(format!("writing a file into {}: {error}", dir.display()))),
        }
    }

    /// Marks a message as sent. This is retried until it succeeds, or the claim has expired.
    async fn mark_sent(&self, mail_id: Uuid, began: Instant) {
        loop {
            let db = &self.state.db;
            let marked = outbox::mark_sent(db, mail_id, self.state.clock.now());
            match within(STATEMENTS_TIMEOUT, marked).await {
                Ok(_) => return tracing::debug!(%mail_id, "message sent"),
                Err(error) if began.elapsed() > CLAIM => {
                    return tracing::error!(?error, %mail_id, "message sent and not marked: it may be sent twice");
                }
                Err(_) => sleep(self.jitter.spread(AFTER_FAILURE)).await,
            }
        }
    }
}

/// Writes a message into a file that only its owner may read, and prints its link on the terminal.
fn write_file(dir: &Path, claimed: &Claimed, built: &Built) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let path = dir.join(format!("{}.eml", claimed.mail_id));
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    file.write_all(&built.message.formatted())?;
    let mut out = io::stdout().lock();
    writeln!(out, "Mail to {}: {}, {}", claimed.recipient, built.subject, path.display())?;
    if let Some(link) = &built.link {
        writeln!(out, "  {}", link.as_str())?;
    }
    out.flush()
}
