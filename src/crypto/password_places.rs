//! Who may compute a hash of a password next, or verify a slow signature: places that are shared fairly.
//!
//! A hash takes memory and 20 ms of a core, and every client can ask for one. So the places have parts
//! for three kinds of work, none of which takes the others', and within a part all take turns:
//!
//! - checking passwords of clients that are known: their address succeeded on that account lately, or
//!   they have a session. The orgs of the accounts take turns;
//! - checking passwords of strangers, which share **one** part, whichever account or org they name.
//!   Their networks take turns;
//! - setting passwords. The orgs take turns.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::domain::values::client_address::ClientAddress;
use crate::domain::values::ids::OrgId;
use crate::domain::values::networks::Neighbourhood;
use crate::error::{Error, Reason, Result};

/// When to retry after too many waited. A turn comes much sooner.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How many may wait of one org, or of one network of strangers. With two places they take 200 ms.
const MAX_WAITING: usize = 16;
/// How many strangers may wait in all. Where so many do, the network that has most of them gives way.
const MAX_STRANGERS: usize = 128;

/// On whose behalf a hash is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A client that is known, for an account of this org.
    Known(OrgId),
    /// Any other client that types a password.
    Stranger(ClientAddress),
    /// An account of this org is given a password.
    Setting(OrgId),
}

/// Those that wait for the same turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Turn {
    Org(OrgId),
    /// The widest network that an address may be counted in; none if it is not known.
    Network(Option<Neighbourhood>),
}

impl Asker {
    /// The part of the places that it takes its place from.
    pub(super) const fn part(self) -> usize {
        match self {
            Self::Known(_) => 0,
            Self::Stranger(_) => 1,
            Self::Setting(_) => 2,
        }
    }

    fn turn(self) -> Turn {
        match self {
            Self::Known(org_id) | Self::Setting(org_id) => Turn::Org(org_id),
            Self::Stranger(address) => Turn::Network(address.known().map(Neighbourhood::widest)),
        }
    }
}

/// The places. Clones share them.
#[derive(Clone)]
pub struct Places {
    shared: Arc<Mutex<Shared>>,
    all: u32,
}

struct Shared {
    free: u32,
    parts: [Part; 3],
    /// The part whose turn is next.
    next: usize,
}

/// A part of the places, and who waits for one.
struct Part {
    most: u32,
    used: u32,
    /// The most that may wait in all, and of one turn.
    room: usize,
    room_of_turn: usize,
    waiting: usize,
    queues: HashMap<Turn, VecDeque<Waiter>>,
    /// The turns of which any waits, the next one first.
    round: VecDeque<Turn>,
}

/// One that waits. Its receiver is dropped when it has given up.
struct Waiter {
    weight: u32,
    place: oneshot::Sender<Place>,
}

/// Places that are taken, and free again when it is dropped.
pub struct Place {
    places: Places,
    part: usize,
    weight: u32,
    /// Whether more of the same turn waited when it was granted.
    more_wait: bool,
}

impl Place {
    /// Whether more of the same org or network waited for a place when it was granted.
    pub fn more_wait(&self) -> bool {
        self.more_wait
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let granted = {
            let mut shared = self.places.lock();
            shared.free += self.weight;
            shared.parts[self.part].used -= self.weight;
            shared.grant(&self.places)
        };
        hand_over(granted);
    }
}

impl Places {
    /// This many places. With three or more, each part has its own; with fewer, the parts take turns.
    pub fn new(all: u32) -> Self {
        Self::with_room(all, (all / 4).max(1), MAX_WAITING, MAX_STRANGERS)
    }

    /// The same, where so many places are for setting passwords, and so many may wait of one org or network, and of
    /// all strangers.
    pub fn with_room(all: u32, setting: u32, of_turn: usize, of_strangers: usize) -> Self {
        let strangers = (all / 3).max(1);
        let known = all.saturating_sub(strangers + setting).max(1);
        let part = |most, room| Part {
            most,
            used: 0,
            room,
            room_of_turn: of_turn,
            waiting: 0,
            queues: HashMap::new(),
            round: VecDeque::new(),
        };
        let parts = [part(known, usize::MAX), part(strangers, of_strangers), part(setting, usize::MAX)];
        Self { shared: Arc::new(Mutex::new(Shared { free: all, parts, next: 0 })), all }
    }

    /// How many there are in all.
    pub fn all(&self) -> u32 {
        self.all
    }

    /// Waits for a place of this weight.
    ///
    /// # Errors
    /// `OVERLOADED`, at once, if too many wait already; later, where it gives way to another turn.
    pub async fn take(&self, asker: Asker, weight: u32) -> Result<Place> {
        let (place, granted) = oneshot::channel();
        let weight = weight.clamp(1, self.all);
        let others = {
            let mut shared = self.lock();
            if !shared.parts[asker.part()].has_room(asker.turn()) {
                return Err(overloaded());
            }
            shared.parts[asker.part()].push(asker.turn(), Waiter { weight, place });
            shared.grant(self)
        };
        hand_over(others);
        // Dropped without a place where another turn's waits instead.
        granted.await.map_err(|_| overloaded())
    }

    /// Whether one more may wait.
    pub fn have_room(&self, asker: Asker) -> bool {
        self.lock().parts[asker.part()].has_room(asker.turn())
    }

    /// How many are free.
    pub fn free(&self) -> u32 {
        self.lock().free
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting_by_part().iter().sum()
    }

    /// How many wait, by part.
    pub fn waiting_by_part(&self) -> [usize; 3] {
        self.lock().parts.each_ref().map(|part| part.waiting)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The refusal where too many wait.
pub fn overloaded() -> Error {
    Error::new(Reason::Overloaded).retry_after(RETRY_AFTER)
}

/// Without the lock: one that has given up meanwhile drops its place, which takes the lock.
fn hand_over(granted: Vec<(oneshot::Sender<Place>, Place)>) {
    for (waiter, place) in granted {
        let _ = waiter.send(place);
    }
}

impl Shared {
    /// Gives the free places to those whose turn it is.
    fn grant(&mut self, places: &Places) -> Vec<(oneshot::Sender<Place>, Place)> {
        let mut granted = Vec::new();
        while let Some(part) = self.part_of_next_turn() {
            // One that takes more than is free is not overtaken: it might never begin.
            let Some((waiter, more_wait)) = self.parts[part].pop_if(self.free) else { break };
            self.free -= waiter.weight;
            self.parts[part].used += waiter.weight;
            self.next = (part + 1) % self.parts.len();
            let place = Place { places: places.clone(), part, weight: waiter.weight, more_wait };
            granted.push((waiter.place, place));
        }
        granted
    }

    /// The first part, from the one whose turn is next, of which any waits that may begin.
    fn part_of_next_turn(&mut self) -> Option<usize> {
        let (next, count) = (self.next, self.parts.len());
        let mut in_turn = (0..count).map(|step| (next + step) % count);
        in_turn.find(|part| self.parts[*part].may_begin())
    }
}

impl Part {
    /// Whether one more may wait for this turn. Those that have given up are removed first.
    fn has_room(&mut self, turn: Turn) -> bool {
        if let Some(queue) = self.queues.get_mut(&turn).filter(|queue| queue.len() >= self.room_of_turn) {
            let before = queue.len();
            queue.retain(|waiter| !waiter.place.is_closed());
            self.waiting -= before - queue.len();
            if queue.len() >= self.room_of_turn {
                return false;
            }
        }
        if self.waiting >= self.room {
            let mut left = 0;
            for queue in self.queues.values_mut() {
                queue.retain(|waiter| !waiter.place.is_closed());
                left += queue.len();
            }
            self.waiting = left;
        }
        self.waiting < self.room || self.greediest(turn).is_some()
    }

    /// The turn of which most wait, where that is more than of this one with one more.
    fn greediest(&self, turn: Turn) -> Option<Turn> {
        let own = self.queues.get(&turn).map_or(0, VecDeque::len);
        let most = self.queues.iter().max_by_key(|(_, queue)| queue.len());
        most.filter(|(_, queue)| queue.len() > own + 1).map(|(greediest, _)| *greediest)
    }

    /// Adds one that waits. Where there is no room, the newest one of the greediest turn gives way.
    fn push(&mut self, turn: Turn, waiter: Waiter) {
        if self.waiting >= self.room
            && let Some(queue) = self.greediest(turn).and_then(|greediest| self.queues.get_mut(&greediest))
            && queue.pop_back().is_some()
        {
            self.waiting -= 1;
        }
        if !self.queues.contains_key(&turn) {
            self.round.push_back(turn);
        }
        self.queues.entry(turn).or_default().push_back(waiter);
        self.waiting += 1;
    }

    /// Whether any waits, and the part has a place for it. One that takes more than the whole part
    /// begins when no other of the part runs.
    fn may_begin(&mut self) -> bool {
        self.first().is_some_and(|weight| self.used == 0 || self.used + weight <= self.most)
    }

    /// The weight of the one whose turn it is. Those that have given up are removed.
    fn first(&mut self) -> Option<u32> {
        while let Some(turn) = self.round.front() {
            if let Some(queue) = self.queues.get_mut(turn) {
                while queue.front().is_some_and(|waiter| waiter.place.is_closed()) {
                    queue.pop_front();
                    self.waiting -= 1;
                }
                if let Some(waiter) = queue.front() {
                    return Some(waiter.weight);
                }
                self.queues.remove(turn);
            }
            self.round.pop_front();
        }
        None
    }

    /// Takes the one whose turn it is out of the queue if that many places are enough for it. Says also whether more
    /// of its turn wait.
    fn pop_if(&mut self, free: u32) -> Option<(Waiter, bool)> {
        let turn = *self.round.front()?;
        let queue = self.queues.get_mut(&turn)?;
        let waiter = queue.pop_front_if(|waiter| waiter.weight <= free)?;
        self.waiting -= 1;
        self.round.pop_front();
        let more_wait = !queue.is_empty();
        if more_wait {
            self.round.push_back(turn);
        } else {
            self.queues.remove(&turn);
        }
        Some((waiter, more_wait))
    }
}

#[cfg(test)]
mod tests;
