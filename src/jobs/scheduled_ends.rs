//! Tells the streams of this node of scheduled ends when they come about: that of a secret whose overlap is over, or
//! of a token whose life was shortened.
//!
//! Each node does it for its own streams, from the feed row of the change that scheduled it. Whether it has come about
//! is read then: a rotation may have been cancelled since.

use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::{sleep, timeout};

use super::context::JobContext;
use crate::db::events::revocations::{self, Ends, Orgs, Since};
use crate::db::pool::Db;
use crate::db::within;
use crate::domain::tokens::revocations::IN_FORCE;
use crate::error::Result;
use crate::state::State;
use crate::state::streams::AHEAD;

/// What is read again of what has been due: a change may become visible a little after its end.
const BEHIND: Duration = Duration::from_secs(60);
/// How long before the end of what was read it is read on.
const EARLY: Duration = Duration::from_secs(60);
/// How long the database may take for one page, or to say what has come about.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How many changes are read at once.
const PAGE: i64 = 2_000;
/// How many ends are checked at once.
const MOST_DUE: usize = 1_000;

/// How far the scheduled ends were read: those of a span, up to a place in it.
struct Read {
    /// Of which database: another one is read anew.
    generation: u64,
    /// Where the next page begins; none: all of the span was read.
    next: Option<Since>,
    until: OffsetDateTime,
    /// What comes before is of no JWT that is still in force.
    floor: OffsetDateTime,
}

impl Read {
    /// Nothing yet. A change names its first end, and others that come within the life of a JWT: those of changes
    /// whose first one is over are read as well.
    fn begin(generation: u64, now: OffsetDateTime) -> Self {
        let floor = now - BEHIND;
        Self { generation, next: Some(Since::from(floor - IN_FORCE)), until: now + AHEAD, floor }
    }

    /// Goes on to the next span where this one is nearly over.
    fn extend(&mut self, now: OffsetDateTime) {
        if self.next.is_none() && now + EARLY > self.until {
            self.floor = self.until.min(now) - BEHIND;
            self.next = Some(Since::from(self.floor));
            self.until = now + AHEAD;
        }
    }

    /// Up to when all that is scheduled is known.
    fn known(&self, now: OffsetDateTime) -> OffsetDateTime {
        self.next.map_or(now, |next| now.min(next.time()))
    }
}

pub(super) async fn run(context: JobContext, period: Duration) {
    let state = &context.state;
    let mut read = Read::begin(state.streams.generation(), state.clock.now());
    loop {
        let outcome = round(state, &mut read).await;
        context.ran(&outcome);
        let pause = match outcome {
            Ok(next) => {
                let until = |next: OffsetDateTime| next - state.clock.now();
                next.map_or(period, |next| until(next).max(time::Duration::ZERO).unsigned_abs())
            }
            Err(error) => {
                // An outage is logged by the reader of the feed.
                if state.feed.answers() {
                    tracing::warn!(?error, "scheduled ends not read; it is retried");
                }
                sleep(context.jitter.spread(period)).await;
                continue;
            }
        };
        let _ = timeout(pause.min(period), state.streams.scheduled.notified()).await;
    }
}

/// Announces what has come about, and reads on what is due soon, page by page: what is known is announced first, whatever
/// becomes of the reading, and a page that was read is not read again. Returns when the next one is due.
async fn round(state: &State, read: &mut Read) -> Result<Option<OffsetDateTime>> {
    let (generation, db) = (state.streams.generation(), state.feed.db());
    if read.generation != generation {
        *read = Read::begin(generation, state.clock.now());
    }
    loop {
        read.extend(state.clock.now());
        let next = tell(state, db, read).await?;
        let Some(from) = read.next else { return Ok(next) };
        let page = async {
            let mut db = db.acquire().await?;
            revocations::scheduled(&mut db, (from, read.until), Orgs::All, PAGE).await
        };
        let page = within(TIMEOUT, page).await?;
        // Also what a change ends later than soon: it is not read again.
        state.streams.schedule(&revocations::within(page.changes, read.floor, read.until + IN_FORCE));
        read.next = page.next;
    }
}

/// Tells what has come about. Returns when the next end is due that is known.
async fn tell(state: &State, db: &Db, read: &Read) -> Result<Option<OffsetDateTime>> {
    loop {
        let now = state.clock.now();
        let due = state.streams.due(now, MOST_DUE);
        let came: Vec<Ends> = if due.ends.is_empty() {
            Vec::new()
        } else {
            let check = async {
                revocations::that_came_about(&mut *db.acquire().await?, due.ends.clone(), now).await
            };
            within(TIMEOUT, check).await?
        };
        state.streams.ended(&due, came, read.known(now));
        if due.next.is_none_or(|next| next > now) {
            return Ok(due.next);
        }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_span_that_is_not_read_to_its_end_is_not_known() {
        let start = datetime!(2026-01-01 00:00 UTC);
        let mut read = Read::begin(0, start);
        assert!(read.known(start) < start - IN_FORCE, "what was scheduled before the start is not known");
        read.next = Some(Since::from(start + AHEAD / 2));
        assert_eq!(read.known(start), start, "all that is due was read");
        assert_eq!(read.known(start + AHEAD), start + AHEAD / 2);
        // It goes on where it was, however long that takes.
        read.extend(start + AHEAD * 3);
        assert_eq!(read.known(start + AHEAD * 3), start + AHEAD / 2);
        read.next = None;
        assert_eq!(read.known(start + AHEAD), start + AHEAD);
        read.extend(start + AHEAD - EARLY);
        assert!(read.next.is_none());
        read.extend(start + AHEAD);
        assert_eq!((read.floor, read.until), (start + AHEAD - BEHIND, start + AHEAD * 2));
        assert_eq!(read.next.unwrap().time(), read.floor);
    }
}
