//! Tells the streams of this node of scheduled ends when they come about: that of a secret whose overlap is over, or
//! of a token whose life was shortened.
//!
//! Each node does it for its own streams, from the feed row of the change that scheduled it. Whether it has come about
//! is read then: a rotation may have been cancelled since.

use std::collections::BTreeSet;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::{sleep, timeout};

use super::context::JobContext;
use crate::clock::Clock;
use crate::db::events::revocations::{self, Ends, Orgs, Since};
use crate::db::within;
use crate::domain::tokens::revocations::IN_FORCE;
use crate::domain::values::ids::OrgId;
use crate::error::{Error, Reason, Result};
use crate::state::State;
use crate::state::streams::{AHEAD, Streams};

/// What is read again of what has been due: a change may become visible a little after its end.
const BEHIND: Duration = Duration::from_secs(60);
/// How long before the end of what was read it is read on.
const EARLY: Duration = Duration::from_secs(60);
/// How long the database may take for one page, or to say what has come about in one org.
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
///
/// # Errors
/// That of an org whose ends could not be checked, once all else is done; that of a page.
async fn round(state: &State, read: &mut Read) -> Result<Option<OffsetDateTime>> {
    let (generation, db) = (state.streams.generation(), state.feed.db());
    if read.generation != generation {
        *read = Read::begin(generation, state.clock.now());
    }
    let check = |ends, now| {
        let db = db.clone();
        async move {
            // In an outage each would take its whole time.
            if !state.feed.answers() {
                return Err(Reason::DatabaseUnavailable.into());
            }
            let check = async { revocations::that_came_about(&mut *db.acquire().await?, ends, now).await };
            within(TIMEOUT, check).await
        }
    };
    let mut failed = Failed::default();
    loop {
        read.extend(state.clock.now());
        let next = tell(&state.streams, &state.clock, read, &mut failed, check).await;
        let Some(from) = read.next else {
            return failed.error.map_or(Ok(next), Err);
        };
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

/// The orgs whose ends could not be checked in a round, and why the first of them could not.
#[derive(Default)]
struct Failed {
    orgs: BTreeSet<OrgId>,
    error: Option<Error>,
}

/// Tells what has come about, org by org: one whose ends cannot be checked holds up no other one, and is left to the
/// next round. Returns when the next end is due that is known.
async fn tell<F: Future<Output = Result<Vec<Ends>>>>(
    streams: &Streams,
    clock: &Clock,
    read: &Read,
    failed: &mut Failed,
    check: impl Fn(Vec<Ends>, OffsetDateTime) -> F,
) -> Option<OffsetDateTime> {
    loop {
        let now = clock.now();
        let due = streams.due(now, MOST_DUE, &failed.orgs);
        for (org_id, due) in due.by_org {
            match check(due.ends.clone(), now).await {
                Ok(came) => streams.ended(&due, came, read.known(now)),
                Err(error) => {
                    failed.orgs.insert(org_id);
                    failed.error.get_or_insert(error);
                }
            }
        }
        streams.checked(read.known(now));
        if due.next.is_none_or(|next| next > now) {
            return due.next;
        }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::db::events::feed::Position;
    use crate::domain::tokens::revocations::{Revocation, Revoked};
    use crate::domain::values::ids::TokenId;
    use crate::state::streams::Reader;

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

    fn end(org_id: OrgId, number: u128, from: OffsetDateTime) -> Ends {
        let subject = Revoked::Token(TokenId::from_u128(number));
        let reason = Reason::TokenRevoked;
        let revocation = Revocation { org_id, subject, min_version: 0, reason, from, scheduled: true };
        Ends { org_id, told: Vec::new(), revocations: vec![revocation] }
    }

    fn count(reader: &mut Reader) -> usize {
        let mut count = 0;
        loop {
            match reader.take().unwrap().len() {
                0 => return count,
                more => count += more,
            }
        }
    }

    /// Also where it has more of them than are checked at once.
    #[tokio::test]
    async fn ends_that_cannot_be_checked_hold_up_no_other_org() {
        let clock = Clock::standing();
        let now = clock.now();
        let position = Position::from_bytes(&[0; 36]).unwrap();
        let streams = Streams::new(position, now - BEHIND);
        let (stuck, other) = (OrgId::from_u128(1), OrgId::from_u128(2));
        let first = now - Duration::from_secs(10);
        let of_stuck = MOST_DUE as u128 + 1;
        streams.schedule(&(0..of_stuck).map(|n| end(stuck, n, first)).collect::<Vec<_>>());
        streams.schedule(&[end(other, of_stuck, now - Duration::from_secs(1))]);
        let read = Read { generation: 0, next: None, until: now + AHEAD, floor: now };
        let (mut reader, _) = streams.reader();

        let mut failed = Failed::default();
        let check = |ends: Vec<Ends>, _| async move {
            if ends[0].org_id == stuck { Err(Reason::DatabaseUnavailable.into()) } else { Ok(ends) }
        };
        assert_eq!(tell(&streams, &clock, &read, &mut failed, check).await, None);
        assert_eq!((count(&mut reader), failed.orgs.len()), (1, 1));
        assert!(
            failed.error.is_some() && reader.mark().ends < first,
            "no checkpoint says that they were checked"
        );

        let mut failed = Failed::default();
        let check = |ends, _| std::future::ready(Ok(ends));
        assert_eq!(tell(&streams, &clock, &read, &mut failed, check).await, None);
        assert_eq!((count(&mut reader), reader.mark().ends), (of_stuck as usize, now));
        assert!(failed.error.is_none());
    }
}
