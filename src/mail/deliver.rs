//! Takes mails from the outbox and sends them. Every node that has a way to send does it.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, io};

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::sleep;
use uuid::Uuid;

use super::failure::Failure;
use super::mailer::{EmailDelivery, Mailer, Transport};
use super::message;
use super::message::Built;
use super::smtp;
use crate::db::outbox;
use crate::db::outbox::Claimed;
use crate::domain::mail::pause_after;
use crate::error::Result;
use crate::state::State;

/// How often the outbox is looked at when nobody says that something is in it: what other
/// nodes wrote and did not send, and what is to be tried again.
const POLL: Duration = Duration::from_secs(2);
/// Mails that one node sends at once.
const AT_ONCE: usize = 4;
/// Mails that are looked up at once.
const BATCH: i64 = 64;
/// How long a claim lasts: longer than sending one may take, so that no other node sends what
/// this one is sending. What a node that died had claimed waits as long.
const CLAIM: Duration = Duration::from_secs(300);
/// How soon it is tried again to note what was sent.
const AFTER_FAILURE: Duration = Duration::from_millis(200);

const _: () = assert!(smtp::LONGEST.as_secs() * 3 / 2 < CLAIM.as_secs());

/// Sends mails until `ended` is dropped; those under way it still sends, and notes.
pub async fn deliver(
    state: Arc<State>,
    delivery: EmailDelivery,
    mailer: Mailer,
    mut ended: oneshot::Receiver<()>,
) {
    let round = Arc::new(Round { state: state.clone(), delivery, mailer });
    loop {
        if state.feed.answers() {
            match round.clone().run().await {
                // There may be more.
                Ok(done) if done == BATCH as usize && !state.is_stopping() => continue,
                Ok(_) => {}
                Err(error) => tracing::warn!(?error, "the outbox cannot be read; it is tried again"),
            }
        }
        tokio::select! {
            _ = &mut ended => return,
            () = state.mails.notified() => {}
            () = sleep(POLL) => {}
        }
    }
}

struct Round {
    state: Arc<State>,
    delivery: EmailDelivery,
    mailer: Mailer,
}

impl Round {
    /// Sends what is due, some at once. Returns how many it did all that it could for.
    async fn run(self: Arc<Self>) -> Result<usize> {
        let due = outbox::find_due(&self.state.db.pool(), self.state.clock.now(), BATCH).await?;
        let mut due = due.into_iter();
        let mut done = 0;
        let mut sending = JoinSet::new();
        loop {
            // What was claimed is sent; nothing more is claimed when the server ends.
            while sending.len() < AT_ONCE
                && !self.state.is_stopping()
                && let Some(mail_id) = due.next()
            {
                let round = self.clone();
                sending.spawn(async move {
                    let outcome = round.one(mail_id).await;
                    if let Err(error) = &outcome {
                        tracing::warn!(?error, %mail_id, "a mail could not be looked after; it is tried again");
                    }
                    outcome.is_ok()
                });
            }
            match sending.join_next().await {
                Some(Ok(looked_after)) => done += usize::from(looked_after),
                Some(Err(error)) => tracing::error!(%error, "sending a mail broke off; it is tried again"),
                None => return Ok(done),
            }
        }
    }

    /// Claims one mail, sends it, and notes what came of it.
    async fn one(&self, mail_id: Uuid) -> Result<()> {
        let state = &self.state;
        let (claim_id, now) = (state.clock.new_id(), state.clock.now());
        let claimed = outbox::claim(&state.db.pool(), mail_id, claim_id, now, now + CLAIM).await?;
        let Some(claimed) = claimed else { return Ok(()) };
        let began = Instant::now();
        if claimed.expire_time.is_some_and(|end| end <= now) {
            let error = "its code ended before it could be sent";
            tracing::warn!(%mail_id, error, "a mail was given up");
            return outbox::give_up(&state.db.pool(), &claimed, now, error, true).await;
        }
        let (failure, lasts) = match self.send(&claimed).await {
            Ok(()) => {
                self.note_sent(mail_id, began).await;
                return Ok(());
            }
            Err(Failure::Passing(error)) => (error, false),
            Err(Failure::Lasting(error)) => (error, true),
        };
        let now = state.clock.now();
        match pause_after(claimed.attempts).filter(|_| !lasts) {
            Some(pause) => {
                tracing::warn!(%mail_id, error = failure, "a mail was not sent; it is tried again in {pause}");
                outbox::reschedule(&state.db.pool(), &claimed, now + pause, &failure).await
            }
            None => {
                tracing::error!(%mail_id, error = failure, "a mail was given up: `countersign mail list` shows it");
                outbox::give_up(&state.db.pool(), &claimed, now, &failure, false).await
            }
        }
    }

    async fn send(&self, claimed: &Claimed) -> std::result::Result<(), Failure> {
        let (from, now) = (&self.mailer.from, self.state.clock.now().into());
        let built = message::build(claimed, from, &self.delivery, &self.state.master, now)?;
        match &self.mailer.transport {
            Transport::Smtp(smtp) => smtp.send(&built.message).await,
            Transport::Files(dir) => keep(dir, claimed, &built)
                .map_err(|error| Failure::Passing(format!("writing a file into {}: {error}", dir.display()))),
        }
    }

    /// The mail is gone: this is said until it is heard, or the claim has ended.
    async fn note_sent(&self, mail_id: Uuid, began: Instant) {
        loop {
            match outbox::mark_sent(&self.state.db.pool(), mail_id, self.state.clock.now()).await {
                Ok(_) => return tracing::debug!(%mail_id, "a mail was sent"),
                Err(error) if began.elapsed() > CLAIM => {
                    return tracing::error!(?error, %mail_id, "a mail was sent and could not be noted: it may be sent twice");
                }
                Err(_) => sleep(AFTER_FAILURE).await,
            }
        }
    }
}

/// Writes a mail into a file that only its owner may read, and its link on the terminal.
fn keep(dir: &Path, claimed: &Claimed, built: &Built) -> io::Result<()> {
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
