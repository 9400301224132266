//! All connections of a server: how many there are, and which one gives way to the next.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::activity::{Activity, Phase};
use super::clients::{Client, Clients};

/// How many connections are compared to find the one that gives way.
const SAMPLE: usize = 1_024;

pub(super) struct Table {
    max: usize,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    all: Vec<Entry>,
    /// Where the entry of each id is.
    places: HashMap<u64, usize>,
    /// How many connections there are from each client.
    clients: Clients<usize>,
    next_id: u64,
    /// Where the next comparison begins.
    cursor: usize,
}

struct Entry {
    id: u64,
    client: Client,
    activity: Arc<Activity>,
}

/// A connection's place in the table, given back when it is dropped.
pub(super) struct Place {
    table: Arc<Table>,
    id: u64,
    pub(super) activity: Arc<Activity>,
}

pub(super) struct Entered {
    pub(super) place: Place,
    /// Whether another connection had to give way.
    pub(super) made_room: bool,
}

impl Table {
    pub(super) fn new(max: usize) -> Self {
        Self { max, entries: Mutex::default() }
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }

    pub(super) fn len(&self) -> usize {
        self.entries().all.len()
    }

    /// A place for a connection from this address. None if all others answer requests.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Entered> {
        let mut entries = self.entries();
        let made_room = entries.all.len() >= self.max;
        if made_room && !entries.make_room() {
            return None;
        }
        let activity = Arc::new(Activity::new(Instant::now));
        let id = entries.add(address.into(), activity.clone());
        drop(entries);
        Some(Entered { place: Place { table: self.clone(), id, activity }, made_room })
    }

    /// Makes one connection give way that answers no request; false if there is none.
    pub(super) fn make_room(&self) -> bool {
        self.entries().make_room()
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn add(&mut self, client: Client, activity: Arc<Activity>) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.places.insert(id, self.all.len());
        self.all.push(Entry { id, client, activity });
        self.clients.count(client, |connections| *connections += 1);
        id
    }

    fn remove(&mut self, id: u64) {
        let Some(at) = self.places.remove(&id) else { return };
        let Entry { client, .. } = self.all.swap_remove(at);
        if let Some(moved) = self.all.get(at) {
            self.places.insert(moved.id, at);
        }
        self.clients.count(client, |connections| *connections -= 1);
    }

    /// Of the client with the most connections, or in the network with the most for its size, the one that has waited
    /// longest for its first request, else for another one. The client that opens the most is the one that loses them.
    fn make_room(&mut self) -> bool {
        let length = self.all.len();
        // Where all of one sample answer requests, those of the next one may not.
        for _ in 0..length.div_ceil(SAMPLE) {
            let begin = self.cursor;
            self.cursor = (begin + SAMPLE) % length;
            let sample = (0..length.min(SAMPLE)).map(|step| &self.all[(begin + step) % length]);
            let waiting = sample.filter(|entry| entry.activity.phase() != Phase::Busy);
            let first = waiting.max_by_key(|entry| {
                let of_client = self.clients.weight(entry.client, |connections| *connections);
                (of_client, entry.activity.phase(), Reverse(entry.id))
            });
            let Some(Entry { id, activity, .. }) = first else { continue };
            activity.give_way();
            let id = *id;
            self.remove(id);
            return true;
        }
        false
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.table.entries().remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    use http::Version;

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    async fn gave_way(place: &Place) -> bool {
        tokio::time::timeout(std::time::Duration::ZERO, place.activity.gave_way()).await.is_ok()
    }

    #[tokio::test]
    async fn the_client_with_the_most_gives_way() {
        let table = Arc::new(Table::new(4));
        let enter = |from: &str| table.enter(address(from)).unwrap();
        let busy = enter("2001:db8::1").place;
        let request = busy.activity.begin(Version::HTTP_2);
        let idle = enter("2001:db8::2").place;
        drop(idle.activity.begin(Version::HTTP_2));
        let silent = enter("2001:db8::3").place;
        let other = enter("192.0.2.1");
        assert!(!other.made_room);
        // Three of one network: the one without a request first, then the idle one.
        let fifth = enter("192.0.2.2");
        assert!(fifth.made_room && gave_way(&silent).await && !gave_way(&idle).await);
        let sixth = enter("192.0.2.3");
        assert!(sixth.made_room && gave_way(&idle).await);
        // Each has one: the oldest of those that wait.
        let seventh = enter("192.0.2.4");
        assert!(seventh.made_room && gave_way(&other.place).await && !gave_way(&busy).await);
        assert_eq!(table.len(), 4);
        drop((fifth, sixth));
        assert_eq!(table.len(), 2);
        drop(request);
        // Those that gave way have no place any more.
        drop((silent, idle, other, seventh, busy));
        assert_eq!(table.len(), 0);
        assert!(table.entries().clients.is_empty() && table.entries().places.is_empty());
    }

    #[tokio::test]
    async fn a_network_of_many_hosts_is_one_that_opens_many() {
        let table = Arc::new(Table::new(64));
        let pool = [(); 2].map(|()| table.enter(address("192.0.2.1")).unwrap().place);
        let site = |host: u32| format!("2001:db8:0:{host:x}::1");
        let mut many: Vec<_> =
            (0..62_u32).map(|host| table.enter(address(&site(host * 256))).unwrap().place).collect();
        // Each is the only one of its /56, and their /48 has more for its size than the other client has.
        for host in 62..80 {
            let entered = table.enter(address(&site(host * 256))).unwrap();
            assert!(entered.made_room);
            many.push(entered.place);
        }
        for idle in &pool {
            assert!(!gave_way(idle).await);
        }
        drop(many);
    }

    #[test]
    fn where_all_answer_requests_the_next_is_refused() {
        let table = Arc::new(Table::new(2));
        let places = [(); 2].map(|()| table.enter(address("192.0.2.1")).unwrap().place);
        let requests = places.each_ref().map(|place| place.activity.begin(Version::HTTP_11));
        assert!(table.enter(address("192.0.2.2")).is_none());
        drop(requests);
        assert!(table.enter(address("192.0.2.2")).is_some());
        assert!(!Table::new(1).make_room());
    }

    #[test]
    fn a_connection_that_waits_behind_many_that_do_not_gives_way() {
        let most = 3 * SAMPLE;
        let table = Arc::new(Table::new(most));
        let places: Vec<_> = (0..most).map(|_| table.enter(address("192.0.2.1")).unwrap().place).collect();
        let requests: Vec<_> =
            places[..most - 1].iter().map(|place| place.activity.begin(Version::HTTP_2)).collect();
        assert!(table.make_room());
        assert!(!table.make_room(), "it was the only one");
        drop(requests);
    }
}
