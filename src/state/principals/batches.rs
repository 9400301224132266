//! Which of many ids exist: one query at a time, for all that ask meanwhile.
//!
//! From where too many failures come, and from everywhere when too many ids that do not exist are
//! asked for, an id is looked up here first. However many there are, they take one connection, and
//! the next batch waits for the one before it; but each is looked up, so that a credential that does
//! exist works, whatever others at its address do.

use std::collections::{HashSet, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::oneshot;
use uuid::Uuid;

use crate::db;
use crate::db::pool::Db;
use crate::error::Reason;
use crate::state::locks::lock;

/// How many ids one query asks for.
const BATCH: usize = 1_000;

type Outcome = Result<bool, Reason>;

/// The ids that wait for the next query.
///
/// Each is asked for by a call, and calls are limited.
#[derive(Default)]
pub struct Batches {
    waiting: Mutex<VecDeque<(Uuid, oneshot::Sender<Outcome>)>>,
    /// Held during a query.
    turn: tokio::sync::Mutex<()>,
}

impl Batches {
    /// Whether a credential or a code has this id. A query may take so long.
    ///
    /// # Errors
    /// `DATABASE_UNAVAILABLE`.
    pub async fn exists(&self, db: &Db, id: Uuid, limit: Duration) -> Outcome {
        loop {
            let (answer, mut outcome) = oneshot::channel();
            self.queue().push_back((id, answer));
            loop {
                tokio::select! {
                    biased;
                    outcome = &mut outcome => match outcome {
                        Ok(outcome) => return outcome,
                        // The call that asked for it was dropped: the next one asks again.
                        Err(_) => break,
                    },
                    _turn = self.turn.lock() => self.ask(db, limit).await,
                }
            }
        }
    }

    /// Asks for the ids that have waited longest.
    async fn ask(&self, db: &Db, limit: Duration) {
        let batch: Vec<_> = {
            let mut queue = self.queue();
            let count = queue.len().min(BATCH);
            queue.drain(..count).filter(|(_, answer)| !answer.is_closed()).collect()
        };
        if batch.is_empty() {
            return;
        }
        let ids: Vec<Uuid> = batch.iter().map(|(id, _)| *id).collect();
        let find = async {
            let mut connection = db.take().await?;
            db::tokens::credentials::find_existing(&mut connection, &ids).await
        };
        let found = tokio::time::timeout(limit, find).await;
        let found: Result<HashSet<Uuid>, Reason> = match found {
            Ok(Ok(found)) => Ok(found.into_iter().collect()),
            Ok(Err(error)) => {
                tracing::warn!(?error, "ids not looked up");
                Err(error.reason())
            }
            Err(_) => Err(Reason::DatabaseUnavailable),
        };
        for (id, answer) in batch {
            // The call may have ended.
            let _ = answer.send(found.as_ref().map(|found| found.contains(&id)).map_err(|reason| *reason));
        }
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, VecDeque<(Uuid, oneshot::Sender<Outcome>)>> {
        lock(&self.waiting)
    }
}
