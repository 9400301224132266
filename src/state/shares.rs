//! Shares of the database connections: how many of them the calls of one org, and of all callers
//! that have not authenticated, may use at once.
//!
//! A call gets its place before it gets a connection. So the calls of one org wait for each other,
//! however many they are, and other orgs find connections free.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::domain::access::work::Work;
use crate::domain::values::ids::{AccountId, CredentialId, OrgId};
use crate::domain::values::networks::Neighbourhood;
use crate::error::{Error, Reason, Result};
use crate::metrics;
use crate::state::locks::lock;

/// How many calls of one kind of a group may wait.
pub const MAX_WAITING: usize = 256;

/// When a call that found too many waiting is to be retried.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The callers that share connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// The calls that act in an org.
    Org(OrgId),
    /// All calls without a caller: sign-ins, for example.
    Unauthenticated,
}

/// A caller among those of its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Member {
    Credential(CredentialId),
    Account(AccountId),
    /// The first address of its widest network, since a client can have all of it; none where the address is
    /// unknown.
    Address(Option<IpAddr>),
}

impl Member {
    /// The client at this address, of which nothing else is known.
    pub fn at(address: Option<IpAddr>) -> Self {
        let widest = address.map(Neighbourhood::widest);
        Self::Address(widest.map(|network| network.first))
    }
}

/// How many places a group has for each kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limits {
    reads: usize,
    changes: usize,
    stops: usize,
}

impl Limits {
    /// A quarter of the connections for changes and for reads, an eighth for what only stops something.
    ///
    /// Reads have at most two places for each core: encoding a long list keeps it as busy as the database.
    fn of(connections: u32, cores: usize) -> Self {
        let connections = connections as usize;
        Self {
            reads: (connections / 4).min(2 * cores).max(2),
            changes: (connections / 4).max(2),
            stops: (connections / 8).max(1),
        }
    }

    /// How many places a group has.
    fn of_group(self, work: Work) -> usize {
        match work {
            Work::Cached => usize::MAX,
            Work::Reads => self.reads,
            Work::Changes => self.changes,
            Work::Stops => self.stops,
        }
    }

    /// How many of them one member may have.
    fn of_member(self, work: Work) -> usize {
        match work {
            Work::Cached => self.of_group(work),
            Work::Reads | Work::Changes | Work::Stops => (self.of_group(work) / 2).max(1),
        }
    }
}

/// The shares of all groups.
#[derive(Clone)]
pub struct Shares(Arc<Inner>);

struct Inner {
    limits: Limits,
    groups: Mutex<HashMap<Group, InGroup>>,
    /// The id of the next call that waits, of whichever group.
    next_id: AtomicU64,
    counts: metrics::Shares,
}

/// What the calls of a group have, and wait for.
#[derive(Default)]
struct InGroup {
    /// Whether its calls wait for one row, that of their org.
    is_org: bool,
    held: HashMap<Work, usize>,
    by_member: HashMap<(Work, Member), usize>,
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    id: u64,
    work: Work,
    member: Member,
    /// Dropped without a place where another member's call waits instead.
    ready: oneshot::Sender<Place>,
}

impl InGroup {
    fn of(group: Group) -> Self {
        Self { is_org: matches!(group, Group::Org(_)), ..Self::default() }
    }

    fn held(&self, work: Work) -> usize {
        self.held.get(&work).copied().unwrap_or(0)
    }

    fn held_by(&self, work: Work, member: Member) -> usize {
        self.by_member.get(&(work, member)).copied().unwrap_or(0)
    }

    fn waiting(&self, work: Work) -> usize {
        self.waiting.iter().filter(|waiting| waiting.work == work).count()
    }

    fn has_room(&self, limits: Limits, work: Work, member: Member) -> bool {
        // What only stops something waits for the org's row behind one change at most.
        let stopping = self.is_org && (self.held(Work::Stops) + self.waiting(Work::Stops) > 0);
        let limit = if work == Work::Changes && stopping { 1 } else { limits.of_group(work) };
        self.held(work) < limit && self.held_by(work, member) < limits.of_member(work)
    }

    fn add(&mut self, work: Work, member: Member) {
        *self.held.entry(work).or_default() += 1;
        *self.by_member.entry((work, member)).or_default() += 1;
    }

    fn remove(&mut self, work: Work, member: Member) {
        if let Some(held) = self.held.get_mut(&work) {
            *held -= 1;
        }
        if let Some(held) = self.by_member.get_mut(&(work, member)) {
            *held -= 1;
            if *held == 0 {
                self.by_member.remove(&(work, member));
            }
        }
    }

    /// The next call that gets a place: what stops something comes first, then a call of the member
    /// that has the fewest places, and of those the one that has waited longest.
    fn next(&mut self, limits: Limits) -> Option<Waiting> {
        for work in [Work::Stops, Work::Changes, Work::Reads] {
            let candidates = self.waiting.iter().enumerate();
            let candidates = candidates.filter(|(_, waiting)| waiting.work == work);
            let first = candidates.min_by_key(|(_, waiting)| self.held_by(work, waiting.member));
            if let Some((i, waiting)) = first
                && self.has_room(limits, work, waiting.member)
            {
                return self.waiting.remove(i);
            }
        }
        None
    }

    /// Makes room for one more waiting call of this member.
    ///
    /// # Errors
    /// When too many wait, and no other member has more of them than this one.
    fn make_room(&mut self, work: Work, member: Member) -> Result<()> {
        if self.waiting(work) < MAX_WAITING {
            return Ok(());
        }
        let mut by_member: HashMap<Member, usize> = HashMap::new();
        for waiting in self.waiting.iter().filter(|waiting| waiting.work == work) {
            *by_member.entry(waiting.member).or_default() += 1;
        }
        let own = by_member.get(&member).copied().unwrap_or(0);
        let most = by_member.into_iter().max_by_key(|(_, count)| *count);
        let Some((greediest, count)) = most.filter(|(_, count)| *count > own + 1) else {
            return Err(overloaded());
        };
        debug_assert!(count > own);
        let last = self.waiting.iter().rposition(|w| w.work == work && w.member == greediest);
        last.and_then(|i| self.waiting.remove(i));
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.held.values().all(|held| *held == 0)
    }
}

fn overloaded() -> Error {
    Error::with_message(Reason::Overloaded, "too many calls wait for the database: try again")
        .retry_after(RETRY_AFTER)
}

/// A place in the share of a group, until it is dropped.
#[must_use]
pub struct Place {
    shares: Arc<Inner>,
    group: Group,
    work: Work,
    member: Member,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut groups = self.shares.lock();
        if let Some(group) = groups.get_mut(&self.group) {
            group.remove(self.work, self.member);
        }
        self.shares.admit(groups, self.group);
    }
}

/// A call in the queue of its group. It leaves also when its caller has gone.
struct Queued<'a> {
    shares: &'a Arc<Inner>,
    group: Group,
    work: Work,
    id: u64,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.shares.counts.left[self.work as usize].one();
        let mut groups = self.shares.lock();
        if let Some(group) = groups.get_mut(&self.group) {
            group.waiting.retain(|waiting| waiting.id != self.id);
        }
        // Changes may have waited only because this one was to stop something.
        self.shares.admit(groups, self.group);
    }
}

impl Inner {
    /// No code under this lock panics half-way.
    fn lock(&self) -> MutexGuard<'_, HashMap<Group, InGroup>> {
        lock(&self.groups)
    }

    /// Gives free places to waiting calls of a group.
    fn admit(self: &Arc<Self>, mut groups: MutexGuard<'_, HashMap<Group, InGroup>>, key: Group) {
        let mut admitted = Vec::new();
        if let Some(group) = groups.get_mut(&key) {
            while let Some(waiting) = group.next(self.limits) {
                group.add(waiting.work, waiting.member);
                admitted.push(waiting);
            }
            if group.is_empty() {
                groups.remove(&key);
            }
        }
        drop(groups);
        for Waiting { work, member, ready, .. } in admitted {
            // Where the caller has gone, this drops the place, and the next one gets it.
            drop(ready.send(Place { shares: self.clone(), group: key, work, member }));
        }
    }
}

impl Shares {
    /// Shares of a pool of so many connections.
    pub fn new(connections: u32) -> Self {
        Self(Arc::new(Inner {
            limits: Limits::of(connections, available_parallelism().map_or(1, NonZero::get)),
            groups: Mutex::default(),
            next_id: AtomicU64::new(0),
            counts: Default::default(),
        }))
    }

    /// Waits for a place in the share of a group. It is to be taken before a connection is.
    ///
    /// # Errors
    /// `OVERLOADED` when too many calls of the group wait already.
    pub async fn place(&self, group: Group, member: Member, work: Work) -> Result<Place> {
        self.counts().asked[work as usize].one();
        let refused = |_: &Error| self.counts().refused[work as usize].one();
        let Some((_queued, ready)) = self.enter(group, member, work).inspect_err(refused)? else {
            return Ok(Place { shares: self.0.clone(), group, work, member });
        };
        ready.await.map_err(|_| overloaded()).inspect_err(refused)
    }

    /// How many calls asked, waited and were refused.
    pub fn counts(&self) -> &metrics::Shares {
        &self.0.counts
    }

    /// Takes a place, or else a place in the queue.
    fn enter(
        &self,
        key: Group,
        member: Member,
        work: Work,
    ) -> Result<Option<(Queued<'_>, oneshot::Receiver<Place>)>> {
        let mut groups = self.0.lock();
        let group = groups.entry(key).or_insert_with(|| InGroup::of(key));
        // A waiting call that could have a place has got it already.
        if group.has_room(self.0.limits, work, member) {
            group.add(work, member);
            return Ok(None);
        }
        group.make_room(work, member)?;
        let (sender, ready) = oneshot::channel();
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        group.waiting.push_back(Waiting { id, work, member, ready: sender });
        self.0.counts.waited[work as usize].one();
        Ok(Some((Queued { shares: &self.0, group: key, work, id }, ready)))
    }

    /// How many places a group has for this work.
    pub fn limit(&self, work: Work) -> usize {
        self.0.limits.of_group(work)
    }

    /// How many calls of a group have a place for this work, and how many wait for one.
    pub fn count(&self, group: Group, work: Work) -> (usize, usize) {
        let groups = self.0.lock();
        groups.get(&group).map_or((0, 0), |group| (group.held(work), group.waiting(work)))
    }
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use proptest::prelude::*;

    use super::*;
    use crate::domain::values::ids::TokenId;

    fn org(n: u128) -> Group {
        Group::Org(OrgId::from_u128(n))
    }

    fn by(n: u128) -> Member {
        Member::Credential(TokenId::from_u128(n).into())
    }

    /// What the future returns now, if anything.
    trait PollOnce: Future + Unpin + Sized {
        fn poll_once(mut self) -> Option<Self::Output> {
            match pin!(&mut self).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(output) => Some(output),
                Poll::Pending => None,
            }
        }
    }

    impl<F: Future + Unpin> PollOnce for F {}

    /// Moves those that have got their place.
    fn admit<F: Future<Output = Result<Place>>>(waiting: &mut Vec<Pin<Box<F>>>, places: &mut Vec<Place>) {
        waiting.retain_mut(|place| match place.poll_once() {
            Some(place) => {
                places.push(place.unwrap());
                false
            }
            None => true,
        });
    }

    /// The place, where one is free now.
    fn now(shares: &Shares, group: Group, member: Member, work: Work) -> Option<Place> {
        Box::pin(shares.place(group, member, work)).poll_once().map(Result::unwrap)
    }

    #[test]
    fn the_shares_of_pools() {
        let of = |connections, cores| {
            let Limits { reads, changes, stops } = Limits::of(connections, cores);
            (reads, changes, stops)
        };
        assert_eq!(of(16, 4), (4, 4, 2));
        assert_eq!(of(16, 1), (2, 4, 2));
        assert_eq!(of(100, 64), (25, 25, 12));
        assert_eq!(of(100, 4), (8, 25, 12));
        assert_eq!(of(1, 1), (2, 2, 1));
        // One org leaves connections to the others.
        for connections in 8..200 {
            let Limits { reads, changes, stops } = Limits::of(connections, 1_000);
            assert!(reads + changes + stops < connections as usize, "{connections}");
        }
    }

    #[test]
    fn an_org_waits_for_itself_alone_and_a_credential_leaves_half_of_it() {
        let shares = Shares::new(16);
        let mut held: Vec<_> = (0..2).map(|_| now(&shares, org(1), by(1), Work::Changes).unwrap()).collect();
        assert!(now(&shares, org(1), by(1), Work::Changes).is_none(), "half of the share");
        held.extend((0..2).map(|_| now(&shares, org(1), by(2), Work::Changes).unwrap()));
        assert!(now(&shares, org(1), by(3), Work::Changes).is_none());
        assert!(now(&shares, org(2), by(4), Work::Changes).is_some());
        assert!(now(&shares, Group::Unauthenticated, Member::at(None), Work::Changes).is_some());
        // What it stops or reads has other places.
        assert!(now(&shares, org(1), by(1), Work::Stops).is_some());
        assert!(now(&shares, org(1), by(1), Work::Reads).is_some());
        drop(held);
        assert_eq!(shares.0.lock().len(), 0);
    }

    #[test]
    fn what_stops_something_holds_back_changes() {
        let shares = Shares::new(16);
        let stop = now(&shares, org(1), by(1), Work::Stops).unwrap();
        let one = now(&shares, org(1), by(1), Work::Changes).unwrap();
        let mut second = pin!(shares.place(org(1), by(2), Work::Changes));
        assert!(second.as_mut().poll_once().is_none(), "one change goes on");
        drop(stop);
        assert!(second.poll_once().is_some());
        drop(one);
    }

    #[test]
    fn the_member_with_the_fewest_places_comes_first() {
        let shares = Shares::new(16);
        let mut held: Vec<_> =
            [1, 1, 2, 2].map(|n| now(&shares, org(1), by(n), Work::Changes).unwrap()).into();
        let mut greedy = pin!(shares.place(org(1), by(2), Work::Changes));
        assert!(greedy.as_mut().poll_once().is_none());
        let mut modest = pin!(shares.place(org(1), by(3), Work::Changes));
        assert!(modest.as_mut().poll_once().is_none());
        drop(held.remove(0));
        assert!(greedy.as_mut().poll_once().is_none());
        assert!(modest.poll_once().is_some());
    }

    #[test]
    fn those_who_wait_are_bounded_and_leave_with_their_caller() {
        let shares = Shares::new(16);
        let _held: Vec<_> = [1, 1, 2, 2].map(|n| now(&shares, org(1), by(n), Work::Changes).unwrap()).into();
        let mut waiting: Vec<_> =
            (0..MAX_WAITING).map(|_| Box::pin(shares.place(org(1), by(1), Work::Changes))).collect();
        assert!(waiting.iter_mut().all(|place| place.as_mut().poll_once().is_none()));
        let refused = Box::pin(shares.place(org(1), by(1), Work::Changes)).poll_once().unwrap();
        let refused = refused.err().unwrap();
        assert_eq!(refused.reason(), Reason::Overloaded);
        assert!(refused.into_parts().retry_after.is_some());
        // Another credential takes a place in the queue from the one that has most of them.
        let mut other = Box::pin(shares.place(org(1), by(3), Work::Changes));
        assert!(other.as_mut().poll_once().is_none());
        assert!(waiting.pop().unwrap().poll_once().unwrap().is_err());
        assert_eq!(shares.count(org(1), Work::Changes), (4, MAX_WAITING));
        drop((other, waiting));
        assert_eq!(shares.count(org(1), Work::Changes), (4, 0));
    }

    proptest! {
        /// Whatever comes and goes, no share is exceeded, and no call waits for a place that is free.
        #[test]
        fn shares_hold(steps in prop::collection::vec((0_u128..3, 0_u128..4, 0_usize..3, any::<bool>()), 1..200)) {
            let shares = Shares::new(16);
            let works = [Work::Reads, Work::Changes, Work::Stops];
            let mut places = Vec::new();
            let mut waiting = Vec::new();
            for (group, member, work, ends) in steps {
                if ends && !places.is_empty() {
                    drop(places.remove(group as usize % places.len()));
                } else {
                    waiting.push(Box::pin(shares.place(org(group), by(member), works[work])));
                }
                admit(&mut waiting, &mut places);
                for group in 0..3 {
                    for work in works {
                        prop_assert!(shares.count(org(group), work).0 <= shares.limit(work));
                    }
                }
            }
            while !(places.is_empty() && waiting.is_empty()) {
                prop_assert!(!places.is_empty(), "those who wait, wait for ever");
                places.clear();
                admit(&mut waiting, &mut places);
            }
            prop_assert_eq!(shares.0.lock().len(), 0);
        }
    }
}
