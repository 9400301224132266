//! Places for requests that wait on their clients, shared fairly: where there are too many, the client
//! that has the most, or is in the network that has the most for its size, loses the one that has waited longest.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::clients::{Client, Clients, Part};

/// What part of a room's bytes the settled calls of one client, and all in its widest network, may hold: one of so
/// many.
const SHARES: usize = 4;

/// A number of places, and of bytes that they hold together.
pub struct Room {
    most_calls: usize,
    most_bytes: usize,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    next_id: u64,
    /// In the order of their arrival.
    calls: BTreeMap<u64, WaitingCall>,
    clients: Clients<Held>,
    all: Held,
}

/// What the calls of a client, or of all clients, have of the room.
#[derive(Clone, Copy, Default)]
struct Held {
    calls: usize,
    waiting: usize,
    bytes: usize,
    settled_bytes: usize,
}

impl Part for Held {
    fn is_nothing(&self) -> bool {
        self.calls == 0
    }
}

struct WaitingCall {
    client: Client,
    bytes: usize,
    /// It no longer waits for its client.
    settled: bool,
    /// What else it holds. It is freed with the place, whatever the client does meanwhile.
    permit: Option<OwnedSemaphorePermit>,
    /// Dropped with the place: it makes the call give way.
    _gives_way: oneshot::Sender<Infallible>,
}

/// A place in a room, given back when it is dropped.
pub struct Place {
    room: Arc<Room>,
    id: u64,
}

/// Done when a call has to give way.
pub type GaveWay = oneshot::Receiver<Infallible>;

impl Room {
    /// A room in which so many calls may wait, and all that are in it may hold so many bytes.
    pub fn new(most_calls: usize, most_bytes: usize) -> Arc<Self> {
        Arc::new(Self { most_calls, most_bytes, inside: Mutex::default() })
    }

    /// A place for a call of this client, which may have to give way at once.
    pub fn enter(self: &Arc<Self>, client: impl Into<Client>, bytes: usize) -> (Place, GaveWay) {
        let (sender, gave_way) = oneshot::channel();
        let mut inside = self.inside();
        let id = inside.next_id;
        inside.next_id += 1;
        let client = client.into();
        let call = WaitingCall { client, bytes, settled: false, permit: None, _gives_way: sender };
        inside.calls.insert(id, call);
        inside.count(client, |held| {
            held.calls += 1;
            held.waiting += 1;
            held.bytes += bytes;
        });
        self.make_room(&mut inside);
        (Place { room: self.clone(), id }, gave_way)
    }

    fn make_room(&self, inside: &mut Inside) {
        while inside.all.waiting > self.most_calls && inside.make_one_give_way(|held| held.waiting) {}
        while inside.all.bytes > self.most_bytes && inside.make_one_give_way(|held| held.bytes) {}
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn count(&mut self, client: Client, change: impl Fn(&mut Held)) {
        change(&mut self.all);
        self.clients.count(client, change);
    }

    /// False if no call waits.
    fn make_one_give_way(&mut self, measure: impl Fn(&Held) -> usize) -> bool {
        let with_waiting = self.clients.all().filter(|(_, held)| held.waiting > 0);
        let most = with_waiting.max_by_key(|(client, _)| self.clients.weight(*client, &measure));
        let Some((client, _)) = most else { return false };
        let mut of_client = self.calls.iter_mut().filter(|(_, call)| call.client == client);
        let Some((&id, _)) = of_client.find(|(_, call)| !call.settled) else { return false };
        self.leave(id);
        true
    }

    fn leave(&mut self, id: u64) {
        let Some(call) = self.calls.remove(&id) else { return };
        self.count(call.client, |held| {
            held.calls -= 1;
            held.waiting -= usize::from(!call.settled);
            held.bytes -= call.bytes;
            held.settled_bytes -= if call.settled { call.bytes } else { 0 };
        });
    }
}

impl Place {
    /// Notes that the call holds more bytes.
    pub fn grow(&self, bytes: usize) {
        let mut inside = self.room.inside();
        let Some(call) = inside.calls.get_mut(&self.id) else { return };
        call.bytes += bytes;
        let client = call.client;
        inside.count(client, |held| held.bytes += bytes);
        self.room.make_room(&mut inside);
    }

    /// Keeps a permit until the place is given back or taken away. A response that the client does
    /// not read is not polled: what it held itself would be freed late.
    pub fn hold(&self, permit: OwnedSemaphorePermit) {
        if let Some(call) = self.room.inside().calls.get_mut(&self.id) {
            call.permit = Some(permit);
        }
    }

    /// Notes that the call no longer waits for its client: it gives way to no other.
    ///
    /// False, and the place is lost, if as many calls are settled as there are places, or those of
    /// its client would hold more than a quarter of the bytes.
    #[must_use]
    pub fn settle(&self) -> bool {
        let mut inside = self.room.inside();
        let Some(call) = inside.calls.get(&self.id) else { return false };
        if call.settled {
            return true;
        }
        let (client, bytes) = (call.client, call.bytes);
        let of_client = inside.clients.of_widest(client).settled_bytes;
        let settled = inside.all.calls - inside.all.waiting;
        if settled >= self.room.most_calls || of_client + bytes > self.room.most_bytes / SHARES {
            inside.leave(self.id);
            return false;
        }
        if let Some(call) = inside.calls.get_mut(&self.id) {
            call.settled = true;
        }
        inside.count(client, |held| {
            held.waiting -= 1;
            held.settled_bytes += bytes;
        });
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.inside().leave(self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::domain::values::ids::OrgId;

    fn enter(room: &Arc<Room>, from: &str, bytes: usize) -> (Place, GaveWay) {
        room.enter(from.parse::<IpAddr>().unwrap(), bytes)
    }

    fn waits((_, gave_way): &mut (Place, GaveWay)) -> bool {
        gave_way.try_recv() == Err(oneshot::error::TryRecvError::Empty)
    }

    #[test]
    fn the_call_that_has_waited_longest_gives_way() {
        let room = Room::new(2, 0);
        let mut first = enter(&room, "192.0.2.1", 0);
        drop(enter(&room, "192.0.2.1", 0));
        let mut third = enter(&room, "192.0.2.1", 0);
        assert!(waits(&mut first), "a place became free");
        let mut fourth = enter(&room, "192.0.2.1", 0);
        assert!(!waits(&mut first) && waits(&mut third) && waits(&mut fourth));
        drop((first, third, fourth));
        assert!(room.inside().calls.is_empty() && room.inside().clients.is_empty());
    }

    #[test]
    fn the_client_with_the_most_loses_a_place() {
        let room = Room::new(3, 0);
        let mut other = enter(&room, "192.0.2.1", 0);
        let mut many = ["2001:db8::1", "2001:db8::2", "2001:db8::3"].map(|from| enter(&room, from, 0));
        assert!(waits(&mut other), "it has waited longest, and has only one");
        assert_eq!(many.each_mut().map(waits), [false, true, true]);
    }

    #[test]
    fn a_network_with_many_hosts_loses_its_places() {
        let room = Room::new(64, 0);
        let mut fleet = [(); 2].map(|()| enter(&room, "192.0.2.1", 0));
        let hosts = (0..256_u32).map(|host| enter(&room, &format!("2001:db8:0:{host:x}00::1"), 0));
        let mut hosts: Vec<_> = hosts.collect();
        assert_eq!(fleet.each_mut().map(waits), [true, true]);
        assert_eq!(hosts.iter_mut().filter_map(|host| waits(host).then_some(())).count(), 62);
    }

    #[test]
    fn the_org_with_the_most_loses_a_place() {
        let room = Room::new(3, 0);
        let enter = |org: u128| room.enter(Client::Org(OrgId::from_u128(org)), 0);
        let mut one = enter(1);
        let mut many = [(); 3].map(|()| enter(2));
        assert!(waits(&mut one));
        assert_eq!(many.each_mut().map(waits), [false, true, true]);
    }

    #[test]
    fn bytes_are_shared_as_places_are() {
        let room = Room::new(10, 100);
        let mut small = enter(&room, "192.0.2.1", 10);
        let mut large = enter(&room, "192.0.2.2", 0);
        large.0.grow(60);
        let mut growing = enter(&room, "192.0.2.3", 20);
        assert!(waits(&mut large));
        growing.0.grow(20);
        assert!(!waits(&mut large) && waits(&mut growing) && waits(&mut small));
        // Those whose messages have arrived keep their bytes: the next one gives way itself.
        drop(growing);
        let full = ["192.0.2.6", "192.0.2.7", "192.0.2.8"].map(|from| enter(&room, from, 25));
        assert!(full.iter().all(|(place, _)| place.settle()));
        growing = enter(&room, "192.0.2.3", 14);
        assert!(growing.0.settle());
        let mut late = enter(&room, "192.0.2.4", 5);
        assert!(!waits(&mut small) && waits(&mut late), "the one that had more");
        let mut larger = enter(&room, "192.0.2.5", 50);
        assert!(!waits(&mut larger) && waits(&mut late));
        assert_eq!(room.inside().all.bytes, 94);
        drop((small, large, growing, late, larger, full));
        let inside = room.inside();
        assert_eq!((inside.all.bytes, inside.all.settled_bytes), (0, 0));
        assert!(inside.clients.is_empty());
    }

    #[test]
    fn settled_calls_of_one_client_take_a_quarter_of_the_bytes() {
        let room = Room::new(10, 100);
        let mut first = enter(&room, "192.0.2.1", 20);
        assert!(first.0.settle() && waits(&mut first), "it was not told to give way");
        let mut second = enter(&room, "192.0.2.1", 10);
        assert!(!second.0.settle() && !waits(&mut second));
        let other = enter(&room, "192.0.2.2", 10);
        assert!(other.0.settle());
        drop(first);
        assert!(enter(&room, "192.0.2.1", 25).0.settle());
    }

    #[test]
    fn no_more_calls_are_settled_than_there_are_places() {
        let room = Room::new(1, 0);
        let first = enter(&room, "192.0.2.1", 0);
        assert!(first.0.settle() && first.0.settle());
        let second = enter(&room, "192.0.2.2", 0);
        assert!(!second.0.settle());
        drop(first);
        assert!(enter(&room, "192.0.2.2", 0).0.settle());
    }

    #[test]
    fn a_call_that_gives_way_loses_its_permit_at_once() {
        let permits = Arc::new(tokio::sync::Semaphore::new(2));
        let room = Room::new(1, 0);
        let enter = || {
            let entered = enter(&room, "192.0.2.1", 0);
            entered.0.hold(permits.clone().try_acquire_owned().unwrap());
            entered
        };
        // None of them is polled or dropped.
        let held = [(); 10].map(|()| enter());
        assert_eq!(permits.available_permits(), 1);
        held[0].0.hold(permits.clone().try_acquire_owned().unwrap());
        assert_eq!(permits.available_permits(), 1, "it has no place to hold it with");
        drop(held);
        assert_eq!(permits.available_permits(), 2);
    }
}
