//! Loads of tokens: what waits for a connection is read together.
//!
//! A load goes to the database at once where a connection is free. Under load, those that wait are read by the
//! statements of one: a round trip costs more than what it brings.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::config::CredentialLimits;
use crate::crypto::seal::MasterKeys;
use crate::db::connections::Connection;
use crate::db::distribution::Engine;
use crate::db::pool::Db;
use crate::db::tokens::principals::{self, Found, LoadedWith};
use crate::domain::access::credential::Credential;
use crate::domain::tokens::policy::Ceilings;
use crate::domain::values::ids::{CredentialId, OrgId, TokenId};
use crate::error::{Error, Reason, Result};
use crate::state::locks::lock;

/// How many tokens are read together. They may be of as many orgs, each of which takes a round trip on a cluster.
const BATCH: usize = 16;

type Outcome = Result<Option<Credential>, Reason>;

/// The tokens that wait to be read. Each is waited for by a call, and calls are limited.
pub(super) struct TokenLoads {
    waiting: Mutex<VecDeque<Waiting>>,
    connections: Db,
    engine: Engine,
    /// How long one load from the database may take.
    limit: Duration,
    /// The token that was read last, used as a decoy for ids that do not exist.
    decoy: Mutex<Option<(OrgId, TokenId)>>,
    ceilings: Ceilings,
    master: Arc<MasterKeys>,
}

/// A token, and who waits for it.
struct Waiting {
    id: TokenId,
    answer: oneshot::Sender<Outcome>,
}

impl TokenLoads {
    pub(super) fn new(
        connections: Db,
        engine: Engine,
        limits: &CredentialLimits,
        master: Arc<MasterKeys>,
    ) -> Arc<Self> {
        let (waiting, decoy) = Default::default();
        let (limit, ceilings) = (limits.database_answers.load, limits.tokens.into());
        Arc::new(Self { waiting, connections, engine, limit, decoy, ceilings, master })
    }

    /// The credential of a token; none if there is no such token. How long that may take is for the caller to
    /// limit.
    ///
    /// # Errors
    /// `DATABASE_UNAVAILABLE` and its kin.
    pub(super) async fn load(self: &Arc<Self>, id: TokenId) -> Outcome {
        let (answer, mut outcome) = oneshot::channel();
        lock(&self.waiting).push_back(Waiting { id, answer });
        let mut is_read = false;
        loop {
            tokio::select! {
                biased;
                outcome = &mut outcome => return outcome.unwrap_or(Err(Reason::DatabaseUnavailable)),
                connection = self.connections.take(), if !is_read => match connection {
                    Ok(connection) => {
                        let batch = self.next();
                        is_read = batch.is_empty() || batch.iter().any(|waiting| waiting.id == id);
                        // A task of its own, which goes on where this call has ended: others wait for it.
                        let loads = self.clone();
                        tokio::spawn(async move { loads.read(connection, batch).await });
                    }
                    // Of the others, each tries itself; one that has a connection may read this one.
                    Err(error) => match self.leave(id) {
                        true => return Err(failed(error.into())),
                        false => is_read = true,
                    },
                }
            }
        }
    }

    /// Those that have waited longest; empty where no call waits.
    fn next(&self) -> Vec<Waiting> {
        let (mut waiting, mut batch) = (lock(&self.waiting), Vec::new());
        while batch.len() < BATCH
            && let Some(next) = waiting.pop_front()
        {
            // Many calls may have ended while they waited: those behind them are next.
            if !next.answer.is_closed() {
                batch.push(next);
            }
        }
        batch
    }

    /// Takes a token out that was not read yet. False if it is being read.
    fn leave(&self, id: TokenId) -> bool {
        let mut waiting = lock(&self.waiting);
        let place = waiting.iter().position(|waiting| waiting.id == id);
        place.and_then(|place| waiting.remove(place)).is_some()
    }

    /// Reads tokens, and answers those that wait for them, until none waits.
    async fn read(&self, mut connection: Connection, mut batch: Vec<Waiting>) {
        while !batch.is_empty() {
            let ids: Vec<TokenId> = batch.iter().map(|waiting| waiting.id).collect();
            let found = tokio::time::timeout(self.limit, self.find(&mut connection, &ids)).await;
            if connection.is_dropped() {
                // What was read may be of the former database: it is read again.
                match self.connections.take().await {
                    Ok(other) => connection = other,
                    Err(error) => {
                        let outcomes = vec![Err(failed(error.into())); batch.len()];
                        return answer(batch, outcomes);
                    }
                }
                batch.retain(|waiting| !waiting.answer.is_closed());
                continue;
            }
            let outcomes: Vec<Outcome> = match found {
                Ok(Ok(found)) => {
                    found.into_iter().map(|found| found.map_err(|error| error.reason())).collect()
                }
                Ok(Err(error)) => vec![Err(failed(error)); batch.len()],
                Err(_) => vec![Err(Reason::DatabaseUnavailable); batch.len()],
            };
            let works = outcomes.iter().all(Result::is_ok);
            answer(batch, outcomes);
            if !works {
                // It may have been left half-way.
                return;
            }
            batch = self.next();
        }
    }

    async fn find(&self, connection: &mut Connection, ids: &[TokenId]) -> Result<Vec<Found>> {
        let decoy = *lock(&self.decoy);
        let with = LoadedWith { ceilings: &self.ceilings, master: &self.master };
        let found = principals::find(connection, self.engine, ids, decoy, with).await?;
        if let Some(credential) = found.iter().flatten().flatten().next()
            && let CredentialId::Token(id) = credential.credential_id
        {
            *lock(&self.decoy) = Some((credential.account.org_id, id));
        }
        Ok(found)
    }
}

/// Answers each call with its outcome.
fn answer(batch: Vec<Waiting>, outcomes: Vec<Outcome>) {
    for (Waiting { answer, .. }, outcome) in batch.into_iter().zip(outcomes) {
        // The call may have ended.
        let _ = answer.send(outcome);
    }
}

fn failed(error: Error) -> Reason {
    tracing::warn!(?error, "credential not loaded");
    error.reason()
}
