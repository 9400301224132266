//! How many fetches are in progress, how many key sets are read, and how many calls wait for a fetch: of an org no more
//! than leave others theirs.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;

use crate::domain::federation::fetching::{
    FLIGHTS, FLIGHTS_OF_ORG, READINGS, READINGS_OF_ORG, WAITING_ALWAYS, WAITING_FOR_ISSUER, WAITING_IN_ALL,
    WAITING_OF_ORG,
};
use crate::domain::values::ids::{IssuerId, OrgId};
use crate::error::{Error, Result};
use crate::state::locks::lock;

/// How many orgs' places are kept before those are dropped that are not used.
const MANY: usize = 1_000;

/// Places of work, which come in turn: an org stands in the line for as many as it may have.
pub(super) struct Turns {
    all: Arc<Semaphore>,
    of_org: usize,
    orgs: Mutex<HashMap<OrgId, Arc<Semaphore>>>,
}

/// A place, given back when it is dropped.
pub(super) struct Place {
    _of_org: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Turns {
    /// Those of fetches.
    pub(super) fn of_flights() -> Self {
        Self::new(FLIGHTS, FLIGHTS_OF_ORG)
    }

    /// Those of reading key sets.
    pub(super) fn of_readings() -> Self {
        Self::new(READINGS, READINGS_OF_ORG)
    }

    fn new(all: usize, of_org: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), of_org, orgs: Mutex::default() }
    }

    /// A place for this org. Those that the org has too many of wait for the org's own.
    pub(super) async fn place(&self, org_id: OrgId) -> Arc<Place> {
        let of_org = {
            let mut orgs = lock(&self.orgs);
            if orgs.len() >= MANY {
                // A place has a reference, and so has one that waits for it.
                orgs.retain(|_, places| Arc::strong_count(places) > 1);
            }
            orgs.entry(org_id).or_insert_with(|| Arc::new(Semaphore::new(self.of_org))).clone()
        };
        const OPEN: &str = "these semaphores are never closed";
        let of_org = of_org.acquire_owned().await.expect(OPEN);
        let of_all = self.all.clone().acquire_owned().await.expect(OPEN);
        Arc::new(Place { _of_org: of_org, _of_all: of_all })
    }

    /// Does this in a place of the org, beside the task of a connection, which has other calls to answer. A caller that
    /// goes away leaves its place taken until it is done.
    ///
    /// # Errors
    /// `INTERNAL` where it panicked.
    pub(super) async fn beside<T: Send + 'static>(
        &self,
        org_id: OrgId,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let place = self.place(org_id).await;
        let done = spawn_blocking(move || {
            let _place = place;
            work()
        });
        done.await.map_err(Error::internal)
    }
}

/// The calls that wait for keys. Each holds a permit of the server, which others need.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    orgs: HashMap<OrgId, usize>,
    issuers: HashMap<IssuerId, usize>,
}

/// A call that waits, for as long as this is not dropped.
#[derive(Debug)]
pub(super) struct Waits<'a> {
    waiting: &'a Waiting,
    org_id: OrgId,
    issuer_id: IssuerId,
}

impl Waiting {
    /// Counts one more call that waits; none where too many do.
    pub(super) fn enter(&self, org_id: OrgId, issuer_id: IssuerId) -> Option<Waits<'_>> {
        let mut counts = lock(&self.0);
        let of_org = counts.orgs.get(&org_id).copied().unwrap_or_default();
        let of_issuer = counts.issuers.get(&issuer_id).copied().unwrap_or_default();
        let is_full = counts.all >= WAITING_IN_ALL && of_org >= WAITING_ALWAYS;
        if is_full || of_org >= WAITING_OF_ORG || of_issuer >= WAITING_FOR_ISSUER {
            return None;
        }
        counts.all += 1;
        counts.orgs.insert(org_id, of_org + 1);
        counts.issuers.insert(issuer_id, of_issuer + 1);
        Some(Waits { waiting: self, org_id, issuer_id })
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let mut counts = lock(&self.waiting.0);
        counts.all -= 1;
        one_less(&mut counts.orgs, self.org_id);
        one_less(&mut counts.issuers, self.issuer_id);
    }
}

fn one_less<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::error::Reason;

    #[tokio::test]
    async fn an_org_has_some_of_the_places_and_others_come_in_turn() {
        let flights = Turns::of_flights();
        let place = async |org: u128| at_once(&mut pin!(flights.place(OrgId::from_u128(org)))).await;
        let mut held = Vec::new();
        for org in 0..(FLIGHTS / FLIGHTS_OF_ORG) as u128 {
            for _ in 0..FLIGHTS_OF_ORG {
                held.push(place(org).await.unwrap());
            }
            assert!(place(org).await.is_none(), "it has its own");
        }
        assert!(place(100).await.is_none(), "there are no more");
        // One that waits has the next one, whatever those want that had them all.
        let mut waits = pin!(flights.place(OrgId::from_u128(100)));
        let mut greedy = pin!(flights.place(OrgId::from_u128(0)));
        assert!(at_once(&mut waits).await.is_none() && at_once(&mut greedy).await.is_none());
        drop(held.remove(0));
        let (greedy, waited) = (at_once(&mut greedy).await, at_once(&mut waits).await);
        assert!(waited.is_some() && greedy.is_none());
    }

    /// A place, if there is one without waiting.
    async fn at_once(place: &mut (impl Future<Output = Arc<Place>> + Unpin)) -> Option<Arc<Place>> {
        tokio::task::yield_now().await;
        timeout(Duration::ZERO, place).await.ok()
    }

    #[tokio::test]
    async fn work_is_done_beside_the_task_and_no_org_holds_up_another() {
        let readings = Arc::new(Turns::of_readings());
        let (go, waits) = std::sync::mpsc::channel::<()>();
        // One org has more to do than there are places, and all of it takes long.
        let waits = Arc::new(Mutex::new(waits));
        let busy: Vec<_> = (0..READINGS * 2)
            .map(|_| {
                let (readings, waits) = (readings.clone(), waits.clone());
                let work = move || lock(&waits).recv().is_ok();
                tokio::spawn(async move { readings.beside(OrgId::from_u128(1), work).await.unwrap() })
            })
            .collect();
        tokio::task::yield_now().await;
        let here = std::thread::current().id();
        let there = readings.beside(OrgId::from_u128(2), || std::thread::current().id());
        assert_ne!(there.await.unwrap(), here);
        assert!(busy.iter().all(|one| !one.is_finished()));
        busy.iter().for_each(|_| go.send(()).unwrap());
        for one in busy {
            assert!(one.await.unwrap());
        }
        let damaged = readings.beside::<()>(OrgId::from_u128(1), || panic!("it is damaged"));
        assert_eq!(damaged.await.unwrap_err().reason(), Reason::Internal);
        readings.beside(OrgId::from_u128(1), || ()).await.unwrap();
    }

    #[test]
    fn waiting_calls_are_bounded_for_an_issuer_an_org_and_in_all() {
        let waiting = Waiting::default();
        let enter =
            |org: u128, issuer: u128| waiting.enter(OrgId::from_u128(org), IssuerId::from_u128(issuer));
        let many = |org, issuer| (0..1_000).map_while(|_| enter(org, issuer)).collect::<Vec<_>>();
        let of_one = many(1, 11);
        assert_eq!(of_one.len(), WAITING_FOR_ISSUER);
        let of_two = many(1, 12);
        assert_eq!((of_two.len(), many(1, 13).len()), (WAITING_OF_ORG - WAITING_FOR_ISSUER, 0));
        let others: Vec<_> = (2..20).flat_map(|org| [many(org, org * 10), many(org, org * 10 + 1)]).collect();
        // They were too many in all; each org has a few, whatever others have.
        assert!(enter(19, 500).is_none());
        assert_eq!(many(100, 1_000).len(), WAITING_ALWAYS);
        drop((of_one, of_two, others));
        assert_eq!(many(1, 11).len(), WAITING_FOR_ISSUER);
        let counts = lock(&waiting.0);
        assert_eq!((counts.all, counts.orgs.len(), counts.issuers.len()), (0, 0, 0));
    }
}
