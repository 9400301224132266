//! The web origins that active publishable tokens name, known on every node without a query of the
//! database: a browser asks about its page's origin before it sends anything that authenticates
//! (CORS).
//!
//! All of them are loaded at the start; then those of each token that the feed names; and all
//! again every ten minutes, so that a missed change does not stay missed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio::time::timeout;
use uuid::Uuid;

use crate::clock::Clock;
use crate::db::pool::Db;
use crate::db::tokens::web_origins::{NamedOrigin, find_all, find_of};
use crate::domain::values::ids::{CredentialId, TokenId};
use crate::domain::values::subject::Subject;
use crate::domain::values::web_origin::WebOrigin;
use crate::error::{Reason, Result};
use crate::state::locks::lock;

/// How long loading them may take.
const LOAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The web origins that active publishable tokens name.
pub struct CorsOrigins {
    /// The feed's pool: a busy server still loads them.
    db: Db,
    clock: Clock,
    named: RwLock<OriginIndex>,
    stale: Mutex<StaleOrigins>,
    stale_added: Notify,
}

/// What is to be loaded again.
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

impl CorsOrigins {
    /// Loads all of them.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn load(db: Db, clock: Clock) -> Result<Self> {
        let named = OriginIndex::of(find_all(&db, clock.now()).await?);
        Ok(Self {
            db,
            clock,
            named: RwLock::new(named),
            stale: Mutex::new(StaleOrigins::default()),
            stale_added: Notify::new(),
        })
    }

    /// Whether an active publishable token names it.
    pub fn are_active(&self, origin: &WebOrigin, now: OffsetDateTime) -> bool {
        self.named.read().unwrap_or_else(PoisonError::into_inner).is_active(origin, now)
    }

    /// These subjects were touched: the origins of the tokens among them are loaded again.
    pub fn invalidate(&self, subjects: &[Subject]) {
        let mut tokens = subjects
            .iter()
            .filter_map(|subject| match subject {
                Subject::Credential(CredentialId::Token(id)) => Some(*id),
                _ => None,
            })
            .peekable();
        if tokens.peek().is_some() {
            self.mark(|stale| stale.tokens.extend(tokens.map(TokenId::uuid)));
        }
    }

    /// All of them are loaded again.
    pub fn invalidate_all(&self) {
        self.mark(|stale| *stale = StaleOrigins::of_all());
    }

    /// Done when there is something to load again.
    pub async fn stale(&self) {
        self.stale_added.notified().await;
    }

    fn mark(&self, change: impl FnOnce(&mut StaleOrigins)) {
        change(&mut lock(&self.stale));
        self.stale_added.notify_one();
    }

    /// Loads what is stale. Only one job calls it: of two concurrent loads the older result could
    /// stay.
    ///
    /// # Errors
    /// When the database does not answer: then it stays stale.
    pub async fn reload_stale(&self) -> Result<()> {
        let stale = std::mem::take(&mut *lock(&self.stale));
        let outcome = self.reload(&stale).await;
        if outcome.is_err() {
            self.mark(|later| {
                later.all |= stale.all;
                later.tokens.extend(stale.tokens);
            });
        }
        outcome
    }

    async fn reload(&self, stale: &StaleOrigins) -> Result<()> {
        let db = &self.db;
        let unavailable = |_| Reason::DatabaseUnavailable;
        if stale.all {
            let rows = timeout(LOAD_TIMEOUT, find_all(db, self.clock.now())).await.map_err(unavailable)??;
            let named = OriginIndex::of(rows);
            *self.named.write().unwrap_or_else(PoisonError::into_inner) = named;
        } else if !stale.tokens.is_empty() {
            let tokens: Vec<Uuid> = stale.tokens.iter().copied().collect();
            let rows = timeout(LOAD_TIMEOUT, find_of(db, &tokens)).await.map_err(unavailable)??;
            let mut named = self.named.write().unwrap_or_else(PoisonError::into_inner);
            tokens.iter().for_each(|token| named.forget(*token));
            named.learn(rows);
        }
        Ok(())
    }
}

/// Which token names which origin, and until when.
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

    fn is_active(&self, origin: &WebOrigin, now: OffsetDateTime) -> bool {
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
            [a, b].map(|origin| named.is_active(&WebOrigin::parse(origin).unwrap(), now))
        };
        assert_eq!(live(&named, 9), [true, true]);
        // Nothing happens when it expires, and yet it is no longer active.
        assert_eq!(live(&named, 10), [true, false]);
        assert_eq!(live(&named, 20), [false, false]);
        named.forget(Uuid::from_u128(2));
        assert_eq!(live(&named, 9), [true, true]);
        assert_eq!(live(&named, 10), [false, false]);
        // Loaded again, with other origins than before.
        named.forget(Uuid::from_u128(1));
        named.learn(vec![row(b, 1, None)]);
        assert_eq!(live(&named, i64::from(u32::MAX)), [false, true]);
        named.forget(Uuid::from_u128(1));
        assert!(named.ends.is_empty() && named.by_token.is_empty());
        // Neither a prefix nor a longer origin is the same.
        let named =
            OriginIndex::of(vec![row("https://a.example:8443", 3, None), row("https://a.exampl", 3, None)]);
        assert_eq!(live(&named, 1), [false, false]);
    }
}
