//! A connection to read over: the one place where a call that holds no transaction gets one.
//!
//! The place comes before the connection, and is left after it. So what one org reads, or a client of which nothing is
//! known, waits for its own, however much it asks for, and others find connections free.

use std::ops::{Deref, DerefMut};

use sqlx::PgConnection;
use tokio::runtime::Handle;

use crate::db::connections::Connection;
use crate::domain::access::caller::Caller;
use crate::domain::access::request_context::RequestContext;
use crate::domain::access::work::Work;
use crate::error::Result;
use crate::state::State;
use crate::state::shares::{Group, Member, Place};

/// A connection, with its place in the share of its reader. Given back before a transaction begins, which takes
/// a place of its own.
pub struct Reading {
    /// None once it was given back.
    connection: Option<Connection>,
    /// None where the call has one for as long as it lasts ([`Work::Reads`]).
    place: Option<Place>,
}

/// Only `drop` takes the connection out.
const OPEN: &str = "a connection is there until it is given back";

impl Reading {
    /// For a call of this caller, in the share of its org.
    ///
    /// # Errors
    /// `OVERLOADED` when too many calls of the org wait; `DATABASE_UNAVAILABLE`.
    pub async fn by(state: &State, caller: &Caller) -> Result<Self> {
        Self::begin(state, caller.context.work, of_caller(caller)).await
    }

    /// For a call or a page without a caller, in the share of all of them.
    ///
    /// # Errors
    /// Those of [`by`](Self::by).
    pub async fn anonymously(state: &State, origin: &RequestContext) -> Result<Self> {
        Self::begin(state, origin.work, of_client(origin)).await
    }

    /// For a call that does this, and reads as this member of a group.
    ///
    /// # Errors
    /// Those of [`by`](Self::by).
    pub async fn begin(state: &State, work: Work, (group, member): (Group, Member)) -> Result<Self> {
        let among = match work {
            Work::Reads => None,
            Work::Cached | Work::Changes => Some(Work::Reads),
            // It does not wait among reads: it has places of its own, with or without a transaction.
            Work::Stops => Some(Work::Stops),
        };
        let place = match among {
            None => None,
            Some(among) => Some(state.shares.place(group, member, among).await?),
        };
        Ok(Self { connection: Some(state.db.acquire().await?), place })
    }

    /// The connection itself.
    pub fn connection(&mut self) -> &mut Connection {
        self.connection.as_mut().expect(OPEN)
    }
}

impl Drop for Reading {
    /// Gives the connection back, and leaves the place only then.
    ///
    /// The call may have gone in the middle of a statement: without the place, a caller that cancels call after call
    /// would have all connections.
    fn drop(&mut self) {
        let (connection, place) = (self.connection.take(), self.place.take());
        // Without a runtime the process ends.
        if let Some(settling) = connection.and_then(Connection::give_back)
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(async move {
                settling.await;
                drop(place);
            });
        }
    }
}

/// Whose share the reads of a caller are in.
pub fn of_caller(caller: &Caller) -> (Group, Member) {
    (Group::Org(caller.home()), Member::Credential(caller.credential_id()))
}

/// Whose share they are in where there is no caller.
pub fn of_client(origin: &RequestContext) -> (Group, Member) {
    (Group::Unauthenticated, Member::at(origin.address.shown()))
}

impl Deref for Reading {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.connection.as_ref().expect(OPEN)
    }
}

impl DerefMut for Reading {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection()
    }
}
