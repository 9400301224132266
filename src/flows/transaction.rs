//! A transaction whose changes reach the log, the feed, and the caches of this node before its
//! outcome is returned; and with them the emails about them.

use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::time::Duration;

use sqlx::PgConnection;
use time::OffsetDateTime;
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::db::events::{Actor, Author, Change};
use crate::db::orgs::Org;
use crate::db::sqlstate::{self, AtCommit};
use crate::db::{self, events, orgs};
use crate::domain::access::work::Work;
use crate::domain::limits::Limit;
use crate::domain::values::ids::{EventId, OrgId};
use crate::domain::values::subject::Subject;
use crate::error::{Error, Reason, Result};
use crate::flows::standing;
use crate::mail::OutgoingEmail;
use crate::state::State;
use crate::state::shares::{Group, Member, Place};

/// Carries out a transaction of this author, and retries it, with the same time, after a conflict
/// with another one: a deadlock or a serialization failure. If it still fails, the error is
/// `CONFLICT`.
///
/// The block is given the transaction begun, and commits it. If it returns an answer or an error
/// without a commit, the transaction is rolled back: nothing is changed, recorded or emailed.
///
/// A macro, since the compiler does not see that an async closure which borrows can be sent to
/// another thread. The block's future is boxed: its statements are no part of the caller's future.
macro_rules! transact {
    ($state:expr, $author:expr, |$tx:pat_param| $work:block) => {{
        let attempts = $crate::flows::transaction::Attempts::of($state, $author);
        $crate::db::retrying(|| {
            $crate::flows::transaction::boxed(async {
                let $tx = attempts.begin().await?;
                $work
            })
        })
        .await
    }};
}
pub(crate) use transact;

/// The attempts of [`transact`]: transactions of one author at one time.
pub struct Attempts<'a> {
    state: &'a State,
    author: Author,
    now: OffsetDateTime,
}

impl<'a> Attempts<'a> {
    pub fn of(state: &'a State, author: impl Into<Author>) -> Self {
        Self { state, author: author.into(), now: state.clock.now() }
    }

    pub async fn begin(&self) -> Result<Transaction<'a>> {
        Transaction::begin_at(self.state, self.author.clone(), self.now).await
    }
}

/// The future of an attempt, on the heap.
pub fn boxed<T, F: Future<Output = Result<T>>>(attempt: F) -> Pin<Box<F>> {
    Box::pin(attempt)
}

/// How long a rollback may take before its place is given to others: longer than any statement of a call.
const ROLLBACK_TIMEOUT: Duration = Duration::from_secs(60);
/// Only `commit` and `drop` take the transaction out, and both end this value.
const OPEN: &str = "a transaction is open until it is committed or dropped";

/// The changes of one author at one time. Rolled back when it is dropped.
pub struct Transaction<'a> {
    state: &'a State,
    /// None once it was committed or rolled back.
    inner: Option<db::transaction::Transaction>,
    /// Its place in the share of its org; none for the server's own work.
    place: Option<Place>,
    /// The org that it locked when it began, until that is asked for.
    locked: Option<Org>,
    author: Author,
    now: OffsetDateTime,
    touched: Vec<Subject>,
    /// The events that it has written.
    events: Vec<EventId>,
    mailed: bool,
}

impl<'a> Transaction<'a> {
    /// Begins a transaction that is not retried after a conflict.
    ///
    /// That of a caller begins with the lock of the org that it acts in, unless it only stops something; and
    /// with a check that the caller is what it was when it authenticated ([`standing::check`]).
    ///
    /// # Errors
    /// Those of that check; `DATABASE_UNAVAILABLE`, at once where the outage is known already; `OVERLOADED`
    /// when too many calls of the org wait.
    pub async fn begin(state: &'a State, author: impl Into<Author>) -> Result<Self> {
        Self::begin_at(state, author.into(), state.clock.now()).await
    }

    async fn begin_at(state: &'a State, author: Author, now: OffsetDateTime) -> Result<Self> {
        if !state.feed.answers() {
            return Err(Reason::DatabaseUnavailable.into());
        }
        let place = place(state, &author).await?;
        let inner = match place {
            Some(_) => state.db.begin().await?,
            None => state.db.begin_job().await?,
        };
        let mut tx = Self {
            state,
            inner: Some(inner),
            place,
            locked: None,
            author,
            now,
            touched: Vec::new(),
            events: Vec::new(),
            mailed: false,
        };
        // What only stops something does not wait behind changes: it locks its org if it has to.
        let locks = tx.author.actor.work != Some(Work::Stops);
        tx.check_caller(locks).await?;
        Ok(tx)
    }

    /// Checks that the caller, if it is one, is what it was when it authenticated.
    async fn check_caller(&mut self, locks: bool) -> Result<()> {
        let Some(caller) = self.author.actor.standing.clone() else { return Ok(()) };
        let (state, org_id) = (self.state, self.author.org_id);
        let credential = if locks {
            let (org, held) = standing::lock(self, &caller, org_id).await?;
            self.locked = org;
            held
        } else {
            standing::hold(self, &caller).await?
        };
        standing::check(state, self, &caller, credential).await
    }

    /// Locks the org in which its author acts, and checks its caller, who may have waited.
    ///
    /// # Errors
    /// `RESOURCE_NOT_FOUND` where there is no such org; those of [`begin`](Self::begin).
    pub async fn lock_org(&mut self) -> Result<Org> {
        let org_id = self.author.org_id;
        // Since then its author has changed nothing of it.
        if let Some(locked) = self.locked.take().filter(|locked| locked.id() == org_id) {
            return Ok(locked);
        }
        if let Some(caller) = self.author.actor.standing.clone()
            && self.author.actor.work == Some(Work::Stops)
        {
            let (locked, held) = standing::lock(self, &caller, org_id).await?;
            standing::check(self.state, self, &caller, held).await?;
            return locked.ok_or_else(|| Error::not_found("org", org_id));
        }
        orgs::lock(self, org_id).await
    }

    /// The time of everything that it writes.
    pub fn now(&self) -> OffsetDateTime {
        self.now
    }

    /// The org whose log its changes go to.
    pub fn org_id(&self) -> OrgId {
        self.author.org_id
    }

    /// Replaces its author, where the transaction itself has found out who that is.
    pub fn set_author(&mut self, author: Author) {
        self.author = author;
    }

    /// Who makes its changes.
    pub fn actor(&self) -> &Actor {
        &self.author.actor
    }

    /// Writes the event and the feed row of a change. Called once in a transaction: several
    /// changes go to [`record_all`](Self::record_all) together.
    pub async fn record(&mut self, change: Change) -> Result<()> {
        self.record_all(&[change]).await
    }

    /// Writes the event and the feed row of each change, and wakes the other nodes when it commits. Called once in a
    /// transaction.
    pub async fn record_all(&mut self, changes: &[Change]) -> Result<()> {
        let inner = self.inner.as_mut().expect(OPEN);
        let written = events::record(
            inner,
            self.state.feed.engine(),
            &self.author,
            changes,
            &self.state.clock,
            self.now,
        )
        .await?;
        self.events.extend(written);
        self.touched.extend(changes.iter().flat_map(Change::touched));
        Ok(())
    }

    /// Writes an email to the outbox. It is sent once the change is committed, and not before.
    ///
    /// # Errors
    /// `LIMIT_REACHED` for a link, where the org has written too many emails. A notice is left out then:
    /// what it informs of, such as a revocation, is not refused for want of an email.
    pub async fn mail(&mut self, email: &OutgoingEmail) -> Result<()> {
        let (inner, mail_id) = (self.inner.as_mut().expect(OPEN), self.state.clock.new_id());
        match email.enqueue(inner, &self.state.keyring.master, mail_id, self.now).await {
            Err(error) if email.is_notice() && Limit::is_reached(&error) => {
                tracing::warn!(org_id = %email.org_id(), "notice left out: the org has sent its emails of this day");
            }
            outcome => {
                outcome?;
                self.mailed = true;
            }
        }
        Ok(())
    }

    /// Commits, and invalidates at once what was touched on this node.
    pub async fn commit(mut self) -> Result<()> {
        let outcome = self.inner.take().expect(OPEN).commit().await.map_err(AtCommit::error);
        if let (Ok(()), Some(call)) = (&outcome, &self.author.actor.call) {
            call.facts.add_events(&self.events);
        }
        // Also when it failed: the commit may have succeeded though the answer was lost.
        self.state.principals.invalidate(&self.touched);
        if self.mailed {
            self.state.outbox_filled.notify_one();
        }
        if self.touched.contains(&Subject::Keys)
            && let Err(error) = self.state.keyring.reload().await
        {
            tracing::error!(%error, "changed keys not loaded, the feed follower will retry");
        }
        outcome
    }
}

/// Waits for the place of a transaction in the share of the org that it acts in, before it takes a
/// connection. The server's own work has none.
async fn place(state: &State, author: &Author) -> Result<Option<Place>> {
    let Some(work) = author.actor.work else { return Ok(None) };
    // The access table says that the call does not change anything.
    if matches!(work, Work::Cached | Work::Reads) {
        return Err(Error::internal("a call whose work is to read began a transaction"));
    }
    let Author { actor, org_id } = author;
    let address = || actor.address.as_deref().and_then(|address| address.parse().ok());
    let (group, member) = match (actor.credential_id, actor.account_id) {
        (Some(credential), _) => (Group::Org(*org_id), Member::Credential(credential)),
        (None, Some(account)) => (Group::Org(*org_id), Member::Account(account)),
        (None, None) => (Group::Unauthenticated, Member::at(address())),
    };
    state.shares.place(group, member, work).await.map(Some)
}

impl Deref for Transaction<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.inner.as_ref().expect(OPEN)
    }
}

impl DerefMut for Transaction<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.inner.as_mut().expect(OPEN)
    }
}

impl Drop for Transaction<'_> {
    /// Rolls back what was not committed, and leaves the place only then.
    ///
    /// The call may have gone in the middle of a statement, and its session is busy until that ends:
    /// without the place, a caller that cancels call after call would have all connections.
    fn drop(&mut self) {
        let (Some(inner), Some(place)) = (self.inner.take(), self.place.take()) else { return };
        // Without a runtime the process ends.
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(async move {
            if let Ok(Err(error)) = timeout(ROLLBACK_TIMEOUT, inner.rollback()).await {
                sqlstate::note(&error);
            }
            drop(place);
        });
    }
}
