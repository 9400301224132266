//! When each secret was last used, from where, and how often.
//!
//! A use is buffered in memory, on the thread that authenticated it, and written periodically in
//! one statement for many secrets: a write for each call would cost more than the call. When a
//! process is killed its buffer is lost, which is the last interval at most.

use std::cell::Cell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::Notify;

use super::principals::Authenticated;
use crate::db::federation::uses;
use crate::db::federation::uses::RuleUse;
use crate::db::pool::Db;
use crate::db::sign_in::sessions;
use crate::db::sign_in::sessions::SessionUse;
use crate::db::tokens::secrets;
use crate::db::tokens::secrets::SecretUse;
use crate::db::{retrying, within};
use crate::domain::values::ids::{CredentialId, OrgId, TokenId};
use crate::error::Result;
use crate::state::locks::lock;

/// Each thread records in a stripe of its own, so that none waits for another.
const STRIPES: usize = 64;
/// The most secrets buffered in one stripe: some 4 MB. Half of that triggers a write at once.
const MAX_WAITING: usize = 1 << 15;
/// How long the database may take for one batch.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// The most secrets in one statement, so that its locks are short.
const BATCH: usize = 5_000;

/// One secret: its token or session, and its number there.
type Key = (CredentialId, i32);

/// The uses of one secret that wait to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct BufferedUse {
    org_id: OrgId,
    time: OffsetDateTime,
    address: Option<IpAddr>,
    count: i64,
}

impl BufferedUse {
    /// The time and address of the later use are stored.
    fn add(&mut self, other: BufferedUse) {
        self.count += other.count;
        if other.time >= self.time {
            (self.time, self.address) = (other.time, other.address);
        }
    }
}

type Stripe = HashMap<Key, BufferedUse>;

/// The uses that wait to be written.
pub struct LastUses {
    db: Db,
    stripes: Box<[Mutex<Stripe>]>,
    /// Notified when a stripe is half full: the writer need not wait for its period.
    crowded: Notify,
    /// Uses that were dropped for lack of room since that was last logged.
    lost: AtomicU64,
}

impl LastUses {
    /// An empty buffer, written with this pool.
    pub fn new(db: Db) -> Self {
        let stripes = (0..STRIPES).map(|_| Mutex::default()).collect();
        Self { db, stripes, crowded: Notify::new(), lost: AtomicU64::new(0) }
    }

    /// Records that a secret authenticated. A JWT is not recorded: the exchange that issued it
    /// was.
    pub fn record(&self, found: &Authenticated, from: Option<IpAddr>, now: OffsetDateTime) {
        let credential = &found.credential;
        // A rule has no secrets, and is counted as a whole.
        let is_rule = matches!(credential.credential_id, CredentialId::Rule(_));
        if let Some(number) = found.secret.or(is_rule.then_some(0)) {
            let address = from.map(|address| address.to_canonical());
            let used = BufferedUse { org_id: credential.account.org_id, time: now, address, count: 1 };
            self.add((credential.credential_id, number), used);
        }
    }

    fn add(&self, key: Key, used: BufferedUse) {
        let mut stripe = lock(&self.stripes[own_stripe()]);
        let waiting = stripe.len();
        match stripe.entry(key) {
            Entry::Occupied(mut known) => known.get_mut().add(used),
            Entry::Vacant(_) if waiting >= MAX_WAITING => {
                self.lost.fetch_add(used.count as u64, Ordering::Relaxed);
            }
            Entry::Vacant(place) => {
                place.insert(used);
                if waiting + 1 == MAX_WAITING / 2 {
                    self.crowded.notify_one();
                }
            }
        }
    }

    /// How many secrets wait to be written.
    pub fn len(&self) -> usize {
        self.stripes.iter().map(|stripe| lock(stripe).len()).sum()
    }

    /// Whether the buffer is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Done when a stripe is half full: the buffer is to be written earlier.
    pub async fn crowded(&self) {
        self.crowded.notified().await;
    }

    /// Writes the buffered uses. Those that could not be written stay buffered; where the answer
    /// to a statement was lost, its counts may be added twice.
    ///
    /// # Errors
    /// `DATABASE_UNAVAILABLE`, or `CONFLICT` with other nodes through all retries.
    pub async fn flush(&self) -> Result<()> {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(lost, "uses of tokens not counted: too many tokens were used at once");
        }
        let taken = self.take();
        for (i, batch) in taken.chunks(BATCH).enumerate() {
            // Not from outside: what is being written would be lost.
            if let Err(error) = within(WRITE_TIMEOUT, self.write(batch)).await {
                taken[i * BATCH..].iter().for_each(|(key, used)| self.add(*key, *used));
                return Err(error);
            }
        }
        Ok(())
    }

    /// Writes one statement for tokens, and one each for sessions and rules where there are any.
    async fn write(&self, batch: &[(Key, BufferedUse)]) -> Result<()> {
        let (mut tokens, mut of_sessions, mut of_rules) = (Vec::new(), Vec::new(), Vec::new());
        for ((id, number), used) in batch {
            match *id {
                CredentialId::Token(id) => tokens.push(of_secret((id, *number), used)),
                CredentialId::Session(session_id) => {
                    of_sessions.push(SessionUse { org_id: used.org_id, session_id, time: used.time });
                }
                CredentialId::Rule(rule_id) => of_rules.push(RuleUse {
                    org_id: used.org_id,
                    rule_id,
                    time: used.time,
                    address: used.address.map(|address| address.to_string()),
                    count: used.count,
                }),
            }
        }
        // Another node may write the same rows at the same time, in another order. Sessions first:
        // writing them twice adds nothing up.
        if !of_sessions.is_empty() {
            retrying(|| sessions::record_uses(&self.db, &of_sessions)).await?;
        }
        if !of_rules.is_empty() {
            retrying(|| uses::record_uses(&self.db, &of_rules)).await?;
        }
        if !tokens.is_empty() {
            retrying(|| secrets::record_uses(&self.db, &tokens)).await?;
        }
        Ok(())
    }

    /// Takes out all buffered uses, each secret once, in the order of their ids, so that nodes
    /// which write at the same time rarely deadlock.
    fn take(&self) -> Vec<(Key, BufferedUse)> {
        let mut all = Stripe::new();
        for stripe in &self.stripes {
            for (key, used) in std::mem::take(&mut *lock(stripe)) {
                all.entry(key).and_modify(|known| known.add(used)).or_insert(used);
            }
        }
        let mut all: Vec<_> = all.into_iter().collect();
        all.sort_unstable_by_key(|(key, used)| (used.org_id, *key));
        all
    }
}

/// The stripe of this thread.
fn own_stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: Cell<Option<usize>> = const { Cell::new(None) };
    }
    OWN.with(|own| {
        let stripe = own.get().unwrap_or_else(|| NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES);
        own.set(Some(stripe));
        stripe
    })
}

fn of_secret((token_id, number): (TokenId, i32), used: &BufferedUse) -> SecretUse {
    SecretUse {
        org_id: used.org_id,
        token_id,
        number,
        time: used.time,
        address: used.address.map(|address| address.to_string()),
        count: used.count,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::db::pool;
    use crate::domain::access::credential::tests::{credential, now};
    use crate::state::principals::Source;

    fn found(token: u128, secret: Option<i32>) -> Authenticated {
        let mut credential = credential(&[]);
        credential.credential_id = TokenId::from_u128(token).into();
        Authenticated { credential: Arc::new(credential), source: Source::Cache, secret }
    }

    /// With a database that is not queried.
    fn last_uses() -> LastUses {
        LastUses::new(Db::lazy(
            pool::options("postgres://countersign@127.0.0.1/none").unwrap(),
            1,
            Default::default(),
        ))
    }

    #[tokio::test]
    async fn uses_of_all_threads_add_up_and_the_latest_says_from_where() {
        let uses = last_uses();
        let address = |last: u8| Some(IpAddr::from([10, 0, 0, last]));
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let uses = &uses;
                scope.spawn(move || {
                    let own_time = now() + time::Duration::seconds(i64::from(thread));
                    for _ in 0..100 {
                        uses.record(&found(1, Some(1)), address(thread), own_time);
                        uses.record(&found(1, Some(1)), address(99), now() - time::Duration::HOUR);
                        uses.record(&found(2, Some(7)), None, own_time);
                        uses.record(&found(3, None), None, own_time);
                    }
                });
            }
        });
        let last = now() + time::Duration::seconds(7);
        let org_id = OrgId::from_u128(1);
        let expected = [
            (
                (TokenId::from_u128(1).into(), 1),
                BufferedUse { org_id, time: last, address: address(7), count: 1_600 },
            ),
            (
                (TokenId::from_u128(2).into(), 7),
                BufferedUse { org_id, time: last, address: None, count: 800 },
            ),
        ];
        assert_eq!(uses.take(), expected);
        assert!(uses.is_empty());
    }

    #[tokio::test]
    async fn it_is_bounded_and_calls_when_it_fills() {
        let uses = last_uses();
        let used = BufferedUse { org_id: OrgId::from_u128(1), time: now(), address: None, count: 1 };
        for token in 0..MAX_WAITING as u128 + 10 {
            uses.add((TokenId::from_u128(token).into(), 1), used);
        }
        // Secrets already buffered are still counted.
        uses.add((TokenId::from_u128(0).into(), 1), used);
        assert_eq!((uses.len(), uses.lost.load(Ordering::Relaxed)), (MAX_WAITING, 10));
        assert_eq!(uses.take()[0].1.count, 2);
        tokio::time::timeout(Duration::ZERO, uses.crowded.notified()).await.expect("the writer is woken");
    }

    #[tokio::test]
    async fn a_mapped_address_is_an_ipv4_address() {
        let uses = last_uses();
        uses.record(&found(1, Some(1)), Some("::ffff:192.0.2.1".parse().unwrap()), now());
        assert_eq!(uses.take()[0].1.address, Some(IpAddr::from([192, 0, 2, 1])));
    }
}
