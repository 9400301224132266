//! The web origins that live publishable tokens name, known on every node without a
//! question to the database: a browser asks about its page's origin before it sends
//! anything that authenticates (CORS).
//!
//! All of them are read at the start; then those of each token that the feed tells of;
//! and all again every ten minutes, so that nothing that was missed stays wrong.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use sqlx::PgPool;
use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio::time::timeout;
use uuid::Uuid;

use super::State;
use crate::db::tokens::web_origins::{NamedOrigin, find_all, find_of};
use crate::domain::values::ids::{CredentialId, TokenId};
use crate::domain::values::subject::Subject;
use crate::domain::values::web_origin::WebOrigin;
use crate::error::{Reason, Result};

/// How often all are read, whatever the feed says.
const REREAD: Duration = Duration::from_secs(600);
/// When to try again after a failure.
const RETRY: Duration = Duration::from_secs(1);
/// How long a reading may take.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// What this node knows.
pub struct Origins {
    named: RwLock<OriginIndex>,
    doubts: Mutex<StaleOrigins>,
    doubted: Notify,
}

/// What is to be read again.
#[derive(Default)]
struct StaleOrigins {
    all: bool,
    tokens: HashSet<Uuid>,
}

impl StaleOrigins {
    fn of_all() -> Self {
        Self { all: true, tokens: HashSet::new() }
    }
}

impl Origins {
    /// Reads all of them.
    pub async fn read(db: &PgPool, now: OffsetDateTime) -> Result<Self> {
        let named = OriginIndex::of(find_all(db, now).await?);
        Ok(Self {
            named: RwLock::new(named),
            doubts: Mutex::new(StaleOrigins::default()),
            doubted: Notify::new(),
        })
    }

    /// Whether some live publishable token names it.
    pub fn are_live(&self, origin: &WebOrigin, now: OffsetDateTime) -> bool {
        self.named.read().unwrap_or_else(PoisonError::into_inner).is_live(origin, now)
    }

    /// These subjects were touched: the origins of the tokens among them are read again.
    pub fn touched(&self, subjects: &[Subject]) {
        let mut tokens = subjects
            .iter()
            .filter_map(|subject| match subject {
                Subject::Credential(CredentialId::Token(id)) => Some(*id),
                _ => None,
            })
            .peekable();
        if tokens.peek().is_some() {
            self.doubt(|doubts| doubts.tokens.extend(tokens.map(TokenId::uuid)));
        }
    }

    /// Nothing that is known is sure any more.
    pub fn doubt_all(&self) {
        self.doubt(|doubts| *doubts = StaleOrigins::of_all());
    }

    fn doubt(&self, change: impl FnOnce(&mut StaleOrigins)) {
        change(&mut self.doubts.lock().unwrap_or_else(PoisonError::into_inner));
        self.doubted.notify_one();
    }

    /// Reads what is in doubt. Only [`keep`] calls it: of two readings at once the older
    /// one could be kept.
    async fn settle(&self, db: &PgPool, now: OffsetDateTime) -> Result<()> {
        let doubts = std::mem::take(&mut *self.doubts.lock().unwrap_or_else(PoisonError::into_inner));
        let outcome = self.reread(db, &doubts, now).await;
        if outcome.is_err() {
            self.doubt(|later| {
                later.all |= doubts.all;
                later.tokens.extend(doubts.tokens);
            });
        }
        outcome
    }

    async fn reread(&self, db: &PgPool, doubts: &StaleOrigins, now: OffsetDateTime) -> Result<()> {
        let unavailable = |_| Reason::DatabaseUnavailable;
        if doubts.all {
            let rows = timeout(READ_TIMEOUT, find_all(db, now)).await.map_err(unavailable)??;
            let named = OriginIndex::of(rows);
            *self.named.write().unwrap_or_else(PoisonError::into_inner) = named;
        } else if !doubts.tokens.is_empty() {
            let tokens: Vec<Uuid> = doubts.tokens.iter().copied().collect();
            let rows = timeout(READ_TIMEOUT, find_of(db, &tokens)).await.map_err(unavailable)??;
            let mut named = self.named.write().unwrap_or_else(PoisonError::into_inner);
            tokens.iter().for_each(|token| named.forget(*token));
            named.learn(rows);
        }
        Ok(())
    }
}

/// Keeps what is known true, until it is dropped.
pub async fn keep(state: Arc<State>) {
    let origins = &state.origins;
    let mut reread = Instant::now();
    loop {
        if reread.elapsed() >= REREAD {
            origins.doubt_all();
            reread = Instant::now();
        }
        let failed = match origins.settle(&state.feed.db(), state.clock.now()).await {
            Ok(()) => false,
            Err(error) => {
                tracing::warn!(?error, "the origins of publishable tokens could not be read");
                true
            }
        };
        if failed {
            tokio::time::sleep(RETRY).await;
        } else {
            let _ = timeout(REREAD.saturating_sub(reread.elapsed()), origins.doubted.notified()).await;
        }
    }
}

/// Which token names which origin, until when.
#[derive(Default)]
struct OriginIndex {
    ends: BTreeMap<(Arc<str>, Uuid), Option<OffsetDateTime>>,
    by_token: HashMap<Uuid, Vec<Arc<str>>>,
}

impl OriginIndex {
    fn of(rows: Vec<NamedOrigin>) -> Self {
        let mut named = Self::default();
        named.learn(rows);
        named
    }

    fn learn(&mut self, rows: Vec<NamedOrigin>) {
        for row in rows {
            let origin: Arc<str> = row.origin.into();
            self.by_token.entry(row.token_id).or_default().push(origin.clone());
            self.ends.insert((origin, row.token_id), row.expire_time);
        }
    }

    fn forget(&mut self, token: Uuid) {
        for origin in self.by_token.remove(&token).unwrap_or_default() {
            self.ends.remove(&(origin, token));
        }
    }

    fn is_live(&self, origin: &WebOrigin, now: OffsetDateTime) -> bool {
        let origin: Arc<str> = origin.as_str().into();
        let by_all = (origin.clone(), Uuid::nil())..=(origin, Uuid::max());
        self.ends.range(by_all).any(|(_, end)| end.is_none_or(|end| end > now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(origin: &str, token: u128, end: Option<i64>) -> NamedOrigin {
        let expire_time = end.map(|end| OffsetDateTime::from_unix_timestamp(end).unwrap());
        NamedOrigin { origin: origin.into(), token_id: Uuid::from_u128(token), expire_time }
    }

    #[test]
    fn an_origin_is_live_while_one_token_that_names_it_is() {
        let (a, b) = ("https://a.example", "https://b.example");
        let mut named = OriginIndex::of(vec![row(a, 1, Some(10)), row(b, 1, Some(10)), row(a, 2, Some(20))]);
        let live = |named: &OriginIndex, at: i64| {
            let now = OffsetDateTime::from_unix_timestamp(at).unwrap();
            [a, b].map(|origin| named.is_live(&WebOrigin::parse(origin).unwrap(), now))
        };
        assert_eq!(live(&named, 9), [true, true]);
        // Nothing happens at its end, and yet it is over.
        assert_eq!(live(&named, 10), [true, false]);
        assert_eq!(live(&named, 20), [false, false]);
        named.forget(Uuid::from_u128(2));
        assert_eq!(live(&named, 9), [true, true]);
        assert_eq!(live(&named, 10), [false, false]);
        // Read anew, with other origins than before.
        named.forget(Uuid::from_u128(1));
        named.learn(vec![row(b, 1, None)]);
        assert_eq!(live(&named, i64::from(u32::MAX)), [false, true]);
        named.forget(Uuid::from_u128(1));
        assert!(named.ends.is_empty() && named.by_token.is_empty());
        // Neither a beginning nor a longer one is the same.
        let named =
            OriginIndex::of(vec![row("https://a.example:8443", 3, None), row("https://a.exampl", 3, None)]);
        assert_eq!(live(&named, 1), [false, false]);
    }
}
