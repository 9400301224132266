//! What the streams of this node read: the changes of the last minutes, as the one reader of the feed has found them,
//! and the ends that were scheduled. Each stream has a place in it, and nothing is kept for one that reads slowly.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::{Notify, watch};

use crate::db::events::feed::{FeedRow, Position};
use crate::db::events::revocations::Ends;
use crate::domain::tokens::revocations::Revocation;
use crate::domain::values::ids::{CredentialId, OrgId};
use crate::error::{Error, Reason};
use crate::state::locks::lock;

/// The most that is kept: each change counts as one, with all that it touches.
const MOST_KEPT: usize = 65_536;
/// How many changes a stream takes at once.
const TAKEN: usize = 256;
/// The most streams of a credential, and of an org.
const MOST_OF_CREDENTIAL: usize = 20;
const MOST_OF_ORG: usize = 100;
/// When a stream that was one too many is to be opened again.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// How far ahead the scheduled ends are kept here. Those further away are read again in time.
pub const AHEAD: Duration = Duration::from_secs(180);

/// What a stream reads.
#[derive(Debug)]
pub enum News {
    Change(FeedRow),
    /// Scheduled ends that have come about.
    Ended(Ends),
}

impl News {
    fn weight(&self) -> usize {
        match self {
            Self::Change(row) => 1 + row.subjects.len() + row.revocations.len() + row.told.len(),
            Self::Ended(ends) => 1 + ends.revocations.len() + ends.told.len(),
        }
    }
}

/// Why a stream cannot go on from its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostPlace {
    /// What comes next is no longer kept.
    TooSlow,
    /// The database is another one, or more was missed than the feed stores.
    OtherDatabase,
}

impl From<LostPlace> for Error {
    fn from(lost: LostPlace) -> Self {
        match lost {
            LostPlace::TooSlow => Self::with_message(
                Reason::Overloaded,
                "the stream was read too slowly: resume it with its last cursor",
            )
            .retry_after(Duration::from_secs(1)),
            LostPlace::OtherDatabase => Reason::CursorExpired.into(),
        }
    }
}

/// How far the node is, for a checkpoint: all that came before is among the news before this place.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    place: u64,
    /// Everything settled up to here was read.
    pub settled: Position,
    /// Every scheduled end up to this time was checked.
    pub ends: OffsetDateTime,
}

/// The news of this node, and its streams.
pub struct Streams {
    kept: Mutex<Kept>,
    /// The number of the next news.
    head: watch::Sender<u64>,
    open: Mutex<Open>,
    /// Notified when an end is scheduled that is due soon.
    pub scheduled: Notify,
}

struct Kept {
    /// Raised when the database becomes another one.
    generation: u64,
    news: VecDeque<Arc<News>>,
    /// The number of the first that is kept.
    first: u64,
    weight: usize,
    /// Changes up to here may be missing.
    floor: Position,
    settled: Position,
    /// Scheduled ends up to this time may be missing.
    ends_floor: OffsetDateTime,
    /// Those after this time were not checked yet.
    ends: OffsetDateTime,
    /// Scheduled ends up to this time were checked, as far as their changes were visible.
    checked: OffsetDateTime,
    /// What is due soon, and what the same changes end later.
    due: BTreeMap<EndKey, (OrgId, Vec<OrgId>, Revocation)>,
}

/// A scheduled end: its time, and what it is.
type EndKey = (OffsetDateTime, String);

/// Scheduled ends that are due.
pub struct Due {
    /// By the org of their change.
    pub by_org: BTreeMap<OrgId, DueOfOrg>,
    /// When the next one is.
    pub next: Option<OffsetDateTime>,
}

/// Those of one org.
#[derive(Default)]
pub struct DueOfOrg {
    pub ends: Vec<Ends>,
    keys: Vec<EndKey>,
}

#[derive(Default)]
struct Open {
    credentials: HashMap<CredentialId, usize>,
    orgs: HashMap<OrgId, usize>,
    all: usize,
}

impl Kept {
    /// Nothing yet, from this position and time on.
    fn begin(generation: u64, first: u64, settled: Position, now: OffsetDateTime) -> Self {
        Self {
            generation,
            news: VecDeque::new(),
            first,
            weight: 0,
            floor: settled,
            settled,
            ends_floor: now,
            ends: now,
            checked: now,
            due: BTreeMap::new(),
        }
    }
}

impl Streams {
    /// A node that starts after this position.
    pub fn new(settled: Position, now: OffsetDateTime) -> Arc<Self> {
        let kept = Kept::begin(0, 0, settled, now);
        Arc::new(Self {
            kept: Mutex::new(kept),
            head: watch::Sender::new(0),
            open: Mutex::default(),
            scheduled: Notify::new(),
        })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        lock(&self.kept)
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        lock(&self.open)
    }

    /// These changes have become visible.
    pub fn changed(&self, rows: Vec<FeedRow>, now: OffsetDateTime) {
        if rows.is_empty() {
            return;
        }
        let mut kept = self.kept();
        let mut scheduled = false;
        for row in rows {
            // A row whose first end is due soon is not read again for the others.
            let ends = || row.revocations.iter().filter(|one| one.scheduled);
            if ends().any(|one| one.from <= now + AHEAD) {
                ends().for_each(|revocation| kept.schedule(row.org_id, &row.told, revocation));
                scheduled = true;
            }
            kept.push(News::Change(row));
        }
        let head = kept.head();
        drop(kept);
        self.head.send_replace(head);
        if scheduled {
            self.scheduled.notify_one();
        }
    }

    /// Everything up to this position was read.
    pub fn settled(&self, position: Position) {
        let mut kept = self.kept();
        if position.order() > kept.settled.order() {
            kept.settled = position;
            drop(kept);
            // Those who wait for settled changes.
            self.head.send_modify(|_| {});
        }
    }

    /// Wakes all streams: something that is read elsewhere has changed.
    pub fn wake(&self) {
        self.head.send_modify(|_| {});
    }

    /// The database is another one: all streams end.
    pub fn begin_anew(&self, settled: Position, now: OffsetDateTime) {
        let mut kept = self.kept();
        *kept = Kept::begin(kept.generation + 1, kept.head(), settled, now);
        drop(kept);
        self.wake();
        self.scheduled.notify_one();
    }

    /// Ends that are scheduled, as they are stored.
    pub fn schedule(&self, all: &[Ends]) {
        let mut kept = self.kept();
        for ends in all {
            for revocation in ends.revocations.iter().filter(|one| one.scheduled) {
                kept.schedule(ends.org_id, &ends.told, revocation);
            }
        }
    }

    /// The scheduled ends that are due, the earliest first and at most so many, except those of these orgs. They stay
    /// until [`ended`](Self::ended).
    pub fn due(&self, now: OffsetDateTime, most: usize, except: &BTreeSet<OrgId>) -> Due {
        let kept = self.kept();
        let mut scheduled = kept.due.iter().filter(|(_, (org_id, ..))| !except.contains(org_id));
        let mut by_org: BTreeMap<OrgId, DueOfOrg> = BTreeMap::new();
        let mut left = most;
        let next = scheduled.find_map(|(key, (org_id, told, revocation))| {
            if key.0 > now || left == 0 {
                return Some(key.0);
            }
            left -= 1;
            let of_org = by_org.entry(*org_id).or_default();
            let revocations = vec![revocation.clone()];
            of_org.ends.push(Ends { org_id: *org_id, told: told.clone(), revocations });
            of_org.keys.push(key.clone());
            None
        });
        Due { by_org, next }
    }

    /// What was due of an org was checked, of all that is scheduled up to this time; these have come about.
    pub fn ended(&self, due: &DueOfOrg, came_about: Vec<Ends>, at: OffsetDateTime) {
        let mut kept = self.kept();
        for key in &due.keys {
            kept.due.remove(key);
        }
        let is_new = !came_about.is_empty();
        came_about.into_iter().for_each(|ends| kept.push(News::Ended(ends)));
        kept.checked(at);
        let head = kept.head();
        drop(kept);
        if is_new {
            self.head.send_replace(head);
        }
    }

    /// What is due of all that is scheduled up to this time was checked, except what still waits for it.
    pub fn checked(&self, at: OffsetDateTime) {
        self.kept().checked(at);
    }

    /// How long ago scheduled ends have come about that may not have been announced yet.
    pub fn ends_lag(&self, now: OffsetDateTime) -> Duration {
        (now - self.kept().checked).max(time::Duration::ZERO).unsigned_abs()
    }

    /// Raised when the database becomes another one.
    pub fn generation(&self) -> u64 {
        self.kept().generation
    }

    /// A reader of what comes from now on, and how far the node is.
    pub fn reader(self: &Arc<Self>) -> (Reader, Mark) {
        let kept = self.kept();
        let reader = self.reader_at(&kept, kept.head());
        (reader, kept.mark())
    }

    /// A reader that goes on after a position: of all that is kept, where nothing between is missing.
    ///
    /// # Errors
    /// `CURSOR_EXPIRED` for a position in another database.
    pub fn resume(
        self: &Arc<Self>,
        after: &Position,
        ends_after: Option<OffsetDateTime>,
    ) -> Result<Option<Reader>, Error> {
        let kept = self.kept();
        if after.epoch() != kept.settled.epoch() {
            return Err(Reason::CursorExpired.into());
        }
        let missing = after.order() < kept.floor.order()
            || ends_after.is_some_and(|ends_after| ends_after < kept.ends_floor);
        Ok((!missing).then(|| self.reader_at(&kept, kept.first)))
    }

    fn reader_at(self: &Arc<Self>, kept: &Kept, next: u64) -> Reader {
        Reader { streams: self.clone(), next, generation: kept.generation, head: self.head.subscribe() }
    }

    /// Counts a stream of this credential in this org, until what is returned is dropped.
    ///
    /// # Errors
    /// `OVERLOADED` where it is one too many.
    pub fn enter(self: &Arc<Self>, credential_id: CredentialId, org_id: OrgId) -> Result<StreamPlace, Error> {
        let mut open = self.open();
        let of_credential = open.credentials.get(&credential_id).copied().unwrap_or_default();
        let of_org = open.orgs.get(&org_id).copied().unwrap_or_default();
        let full = if of_credential >= MOST_OF_CREDENTIAL {
            Some(format!("the credential has {MOST_OF_CREDENTIAL} streams on this server"))
        } else if of_org >= MOST_OF_ORG {
            Some(format!("the org has {MOST_OF_ORG} streams on this server"))
        } else {
            None
        };
        if let Some(message) = full {
            return Err(Error::with_message(Reason::Overloaded, message).retry_after(RETRY_AFTER));
        }
        *open.credentials.entry(credential_id).or_default() += 1;
        *open.orgs.entry(org_id).or_default() += 1;
        open.all += 1;
        Ok(StreamPlace { streams: self.clone(), credential_id, org_id })
    }

    /// How many streams there are.
    pub fn count(&self) -> usize {
        self.open().all
    }
}

impl Kept {
    fn head(&self) -> u64 {
        self.first + self.news.len() as u64
    }

    fn mark(&self) -> Mark {
        Mark { place: self.head(), settled: self.settled, ends: self.ends }
    }

    fn push(&mut self, news: News) {
        self.weight += news.weight();
        self.news.push_back(Arc::new(news));
        while self.weight > MOST_KEPT
            && let Some(gone) = self.news.pop_front()
        {
            self.first += 1;
            self.weight -= gone.weight();
            match &*gone {
                News::Change(row) if row.position.order() > self.floor.order() => self.floor = row.position,
                News::Change(_) => {}
                News::Ended(ends) => {
                    let latest = ends.revocations.iter().map(|one| one.from).max();
                    self.ends_floor = latest.map_or(self.ends_floor, |latest| latest.max(self.ends_floor));
                }
            }
        }
    }

    /// All up to this time was checked that does not wait.
    fn checked(&mut self, at: OffsetDateTime) {
        let first = self.due.keys().next().map(|(from, _)| *from - Duration::from_micros(1));
        let at = first.map_or(at, |first| first.min(at));
        self.ends = self.ends.max(at);
        self.checked = self.checked.max(at);
    }

    fn schedule(&mut self, org_id: OrgId, told: &[OrgId], revocation: &Revocation) {
        let key = (revocation.from, revocation.subject.to_string());
        self.due.insert(key, (org_id, told.to_vec(), revocation.clone()));
        // A checkpoint must not say that it was checked.
        self.ends = self.ends.min(revocation.from - Duration::from_micros(1));
    }
}

/// A place in the news.
pub struct Reader {
    streams: Arc<Streams>,
    next: u64,
    generation: u64,
    head: watch::Receiver<u64>,
}

impl Reader {
    /// The next news: none where all were read.
    pub fn take(&mut self) -> Result<Vec<Arc<News>>, LostPlace> {
        self.head.borrow_and_update();
        let kept = self.streams.kept();
        if kept.generation != self.generation {
            return Err(LostPlace::OtherDatabase);
        }
        if self.next < kept.first {
            return Err(LostPlace::TooSlow);
        }
        let from = (self.next - kept.first) as usize;
        let news: Vec<_> = kept.news.iter().skip(from).take(TAKEN).cloned().collect();
        self.next += news.len() as u64;
        Ok(news)
    }

    /// How far the node is.
    pub fn mark(&self) -> Mark {
        self.streams.kept().mark()
    }

    /// Whether everything before the mark was taken.
    pub fn has_reached(&self, mark: &Mark) -> bool {
        self.next >= mark.place
    }

    /// Done when there may be more than at the last [`take`](Self::take).
    pub async fn changed(&mut self) {
        if self.head.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The place of a stream among those of its credential and org.
pub struct StreamPlace {
    streams: Arc<Streams>,
    credential_id: CredentialId,
    org_id: OrgId,
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        let mut open = self.streams.open();
        open.all -= 1;
        if let Some(count) = open.credentials.get_mut(&self.credential_id) {
            *count -= 1;
            if *count == 0 {
                open.credentials.remove(&self.credential_id);
            }
        }
        if let Some(count) = open.orgs.get_mut(&self.org_id) {
            *count -= 1;
            if *count == 0 {
                open.orgs.remove(&self.org_id);
            }
        }
    }
}
