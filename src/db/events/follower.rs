//! A reader of the feed that gets every change at once, in whatever order they are committed.
//!
//! It remembers which transactions had ended when it last read everything. A row that it has not
//! returned yet is of a transaction that had not: it was in progress, or has a higher number. So
//! the rows above a transaction that stays open for long are read once, and not at each look.

use std::collections::HashSet;
use std::time::Instant;

use sqlx::PgConnection;

use super::feed::{
    FeedRow, LostPosition, Position, Selection, Snapshot, latest, look, note_system, raise_epoch,
};
use crate::db::sqlstate;
use crate::error::{Error, Reason, Result};

/// How many rows one read returns at most, which bounds the time that it takes.
pub const PAGE: usize = 5_000;

/// How many sessions of a pooler are remembered.
const MAX_SESSIONS: usize = 64;
/// How many times are remembered at which rows were returned before they were settled.
const MAX_EARLY: usize = 256;

/// A reader that gets every change at once, in whatever order they are committed.
#[derive(Debug)]
pub struct Follower {
    /// Everything up to here was returned.
    settled: Position,
    /// What had ended when everything was last returned; none: only what is settled is known to be.
    returned: Option<Snapshot>,
    /// The pages read since then, where the last one was full.
    pages: Option<Pages>,
    /// The sessions that the database has not been restarted without. After a crash PostgreSQL
    /// gives numbers out again that left no trace on disk: `returned` counts only in these.
    sessions: HashSet<(i32, i64)>,
    /// Rows that were returned before they were settled: the highest number of a read, and when.
    early: Vec<(i64, Instant)>,
}

/// A look that takes several pages.
#[derive(Debug)]
struct Pages {
    /// What had ended at the first page. What ended since may be returned twice.
    snapshot: Snapshot,
    /// The last settled row at that time.
    newest: Option<Position>,
    /// The last row that was returned.
    after: (i64, i32),
}

/// What one read of the feed returned to a follower.
#[derive(Debug, PartialEq, Eq)]
pub enum News {
    /// These changes have become visible since the last read.
    Changes(Vec<FeedRow>),
    /// The database is another one than at the last read, or too much was missed: nothing that is
    /// cached is valid.
    AnotherDatabase,
}

impl Follower {
    /// A follower that starts from everything that is committed now.
    pub async fn begin(db: &mut PgConnection) -> Result<Self> {
        note_system(db).await?;
        let settled = latest(db).await?;
        Ok(Self { settled, returned: None, pages: None, sessions: HashSet::new(), early: Vec::new() })
    }

    /// Everything up to here was returned.
    pub fn settled(&self) -> Position {
        self.settled
    }

    /// Since when a change is committed that resuming readers may not have yet, because an older
    /// transaction is still open.
    pub fn held_back_since(&self) -> Option<Instant> {
        self.early.iter().map(|(_, since)| *since).min()
    }

    /// Whether the last read returned a full page: there may be more, to be read at once.
    pub fn is_behind(&self) -> bool {
        self.pages.is_some()
    }

    /// Reads the next page of the rows that have become visible since everything was last read. A
    /// row is new when it was not returned yet, not when its number is high.
    ///
    /// # Errors
    /// `DATABASE_UNAVAILABLE` also where nothing can be written: on a standby, in a read-only
    /// session, or without the right to.
    pub async fn read(&mut self, db: &mut PgConnection) -> Result<News> {
        let found = loop {
            let found = {
                let (xids, from_xid) =
                    self.returned.as_ref().map_or((&[][..], 0), |known| (&*known.in_progress, known.xmax));
                let after = self.pages.as_ref().map_or(self.settled.order(), |pages| pages.after);
                let which = Selection { unsettled: true, xids, from_xid, after, limit: PAGE as i64 };
                look(db, &self.settled, &which).await?
            };
            if found.read_only {
                // Nor are the sessions that are opened until it is over.
                sqlstate::suspect_sessions();
                let error = Error::new(Reason::DatabaseUnavailable);
                return Err(error.because("the database is read-only, or the right to write was taken"));
            }
            match found.lost(&self.settled) {
                None => {}
                Some(LostPosition::Swept | LostPosition::OtherEpoch) => return self.begin_anew(db).await,
                Some(LostPosition::SetBack) => {
                    raise_epoch(db, Some(self.settled.epoch())).await?;
                    return self.begin_anew(db).await;
                }
            }
            if self.knows(found.session) || (self.returned.is_none() && self.pages.is_none()) {
                break found;
            }
            (self.returned, self.pages) = (None, None);
        };
        self.sessions.insert(found.session);
        let xmin = found.snapshot.xmin;
        let last = found.rows.last().map(|row| row.position.order());
        let is_full = found.rows.len() >= PAGE;
        let pages = match self.pages.take() {
            Some(pages) => pages,
            None => Pages { snapshot: found.snapshot, newest: found.newest, after: (0, -1) },
        };
        let changes = found.rows;
        if let Some(after) = last {
            self.remember_early(after.0, xmin);
            if is_full {
                self.pages = Some(Pages { after, ..pages });
                return Ok(News::Changes(changes));
            }
        }
        // Everything that had ended at the first page is returned.
        if let Some(newest) = pages.newest.filter(|newest| newest.order() > self.settled.order()) {
            self.settled = newest;
        }
        self.early.retain(|(xid, _)| *xid >= pages.snapshot.xmin);
        self.returned = Some(pages.snapshot);
        Ok(News::Changes(changes))
    }

    fn knows(&mut self, session: (i32, i64)) -> bool {
        if self.sessions.len() >= MAX_SESSIONS && !self.sessions.contains(&session) {
            self.sessions.clear();
        }
        self.sessions.contains(&session)
    }

    /// Remembers that rows up to this transaction were returned now, if it is not settled.
    fn remember_early(&mut self, highest: i64, xmin: i64) {
        if highest < xmin {
            return;
        }
        if self.early.len() >= MAX_EARLY {
            // Two become one: the later rows count as long as the earlier ones.
            self.early = self
                .early
                .chunks(2)
                .map(|two| (two.iter().map(|(xid, _)| *xid).max().unwrap_or_default(), two[0].1))
                .collect();
        }
        self.early.push((highest, Instant::now()));
    }

    /// Starts again from now. A caller that drops its caches after this has missed nothing.
    async fn begin_anew(&mut self, db: &mut PgConnection) -> Result<News> {
        *self = Self::begin(db).await?;
        Ok(News::AnotherDatabase)
    }
}
