//! `WatchEvents`: the org's audit log, as it grows.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::messages;
use crate::db;
use crate::db::events::feed::{self, Position};
use crate::db::events::log;
use crate::domain::event_types;
use crate::domain::values::ids::{EventId, OrgId};
use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::Node;
use crate::error::{Error, Reason, Result, Violations};
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::grpc::pb::watch_events_response::Item;
use crate::grpc::streams::cursor::{Binding, Cursor};
use crate::grpc::streams::frames::Frames;
use crate::grpc::streams::{self, Over, Session};
use crate::state::State;
use crate::state::streams::{Mark, News};

const RPC: &str = "WatchEvents";
/// The most types that a caller names.
const MOST_TYPES: usize = 100;
/// How many events are read from the database at once.
const PAGE: usize = 100;
/// How many events that are not settled yet are remembered. Further ones are read again when they are.
const MOST_PENDING: usize = 4_096;
/// How often an event is looked for: on a cluster its feed row may become visible a little before it.
const ATTEMPTS: u32 = 20;
const BETWEEN: Duration = Duration::from_millis(100);

pub(in crate::grpc) async fn watch_events(
    state: &Arc<State>,
    call: &Call,
    request: pb::WatchEventsRequest,
) -> Result<Frames> {
    let org_id = authorise(state, call, &request.org_id).await?;
    let mut violations = Violations::default();
    let mut types = violations
        .check_each("types", &request.types, MOST_TYPES, |text| event_types::parse(text).map(str::to_owned));
    violations.finish()?;
    types.sort_unstable();
    types.dedup();
    let binding = Binding::new(RPC, org_id, &types);
    let cursor = binding.open(state, &request.cursor)?;
    let at = match cursor {
        Some(cursor) => cursor.position,
        None => feed::latest(&mut *call.read(state).await?).await?,
    };
    let (reader, _) = state.streams.reader();
    streams::begin(state, call, reader, |session| {
        let watch = Watch { session, org_id, types, binding, at, pending: Vec::new() };
        Box::pin(watch.run())
    })
}

/// The org, whose log the caller may read.
async fn authorise(state: &State, call: &Call, org_id: &str) -> Result<OrgId> {
    let acting = call.acting_in(state, org_id).await?;
    acting.require(&Permission::EVENTS_READ, &Node::Org)?;
    Ok(acting.org_id)
}

/// A stream under way.
struct Watch {
    session: Session,
    org_id: OrgId,
    /// Empty: all.
    types: Vec<String>,
    binding: Binding,
    /// Everything up to here was sent.
    at: Position,
    /// What came after it, as far as it was read.
    pending: Vec<(Position, EventId)>,
}

impl Watch {
    async fn run(mut self) -> Over {
        match self.follow().await {
            Ok(never) => match never {},
            Err(over) => over,
        }
    }

    async fn follow(&mut self) -> Result<Infallible, Over> {
        self.go_on().await?;
        let mut mark = self.session.reader.mark();
        let mut to_checkpoint = true;
        loop {
            let news = self.session.reader.take()?;
            let is_touched = news.iter().any(|news| match &**news {
                News::Change(row) => self.session.is_touched_by(row),
                News::Ended(_) => true,
            });
            if is_touched {
                self.authorise_again().await?;
            }
            news.iter().for_each(|news| self.note(news));
            if self.pending.len() > MOST_PENDING {
                // An old transaction holds them back: they are read again when it has ended.
                self.pending.clear();
                self.wait_until_settled().await?;
                self.go_on().await?;
            }
            let now = self.session.reader.mark();
            if self.session.reader.has_reached(&now) {
                self.send_settled(&now).await?;
            }
            if !to_checkpoint && self.session.is_checkpoint_due() {
                (mark, to_checkpoint) = (now, true);
            }
            if to_checkpoint && self.session.reader.has_reached(&mark) {
                self.authorise_again().await?;
                self.send_checkpoint(&mark).await?;
                to_checkpoint = false;
            }
            self.session.flush().await?;
            if news.is_empty() && !to_checkpoint {
                self.session.wait().await?;
            }
        }
    }

    /// Authenticates the caller again, who must be allowed to read the same log as before.
    async fn authorise_again(&mut self) -> Result<()> {
        self.session.authenticate_again().await?;
        let org_id = self.org_id.to_string();
        match authorise(&self.session.state, &self.session.call, &org_id).await {
            Ok(_) => Ok(()),
            Err(error) if error.reason() == Reason::DatabaseUnavailable => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Goes on after what was sent: from the database, until the news hold all that follows.
    async fn go_on(&mut self) -> Result<(), Over> {
        loop {
            if let Some(reader) = self.session.state.streams.resume(&self.at, None)? {
                self.session.reader = reader;
                return Ok(());
            }
            let newest = {
                let mut db = self.session.read().await?;
                feed::newest(&mut db, &self.at).await?
            };
            let Some(newest) = newest else { return Err(Error::from(Reason::CursorExpired).into()) };
            loop {
                let found = {
                    let mut db = self.session.read().await?;
                    let span = (&self.at, &newest);
                    feed::events_between(&mut db, self.org_id, &self.types, span, PAGE as i64).await?
                };
                let is_last = found.len() < PAGE;
                self.send_events(&found).await?;
                if is_last {
                    break;
                }
            }
            self.at = newest;
        }
    }

    async fn wait_until_settled(&mut self) -> Result<(), Over> {
        loop {
            let mark = self.session.reader.mark();
            if mark.settled.order() > self.at.order() {
                return Ok(());
            }
            if self.session.is_checkpoint_due() {
                self.authorise_again().await?;
                self.send_checkpoint(&mark).await?;
                self.session.flush().await?;
            }
            self.session.reader.take()?;
            self.session.wait().await?;
        }
    }

    fn note(&mut self, news: &News) {
        if let News::Change(row) = news
            && row.org_id == self.org_id
            && row.position.order() > self.at.order()
            && (self.types.is_empty() || self.types.binary_search(&row.kind).is_ok())
        {
            self.pending.push((row.position, row.event_id));
        }
    }

    /// Sends what is settled of what was read.
    async fn send_settled(&mut self, mark: &Mark) -> Result<(), Over> {
        if mark.settled.order() <= self.at.order() {
            return Ok(());
        }
        let is_settled = |(position, _): &(Position, EventId)| position.order() <= mark.settled.order();
        let (mut ready, later) =
            std::mem::take(&mut self.pending).into_iter().partition::<Vec<_>, _>(is_settled);
        self.pending = later;
        ready.sort_unstable_by_key(|(position, _)| position.order());
        ready.dedup();
        for some in ready.chunks(PAGE) {
            self.send_events(some).await?;
        }
        self.at = mark.settled;
        Ok(())
    }

    async fn send_events(&mut self, some: &[(Position, EventId)]) -> Result<(), Over> {
        let Some((last, _)) = some.last() else { return Ok(()) };
        let ids: Vec<EventId> = some.iter().map(|(_, id)| *id).collect();
        for event in self.find(&ids).await? {
            let item = Item::Event(messages::event(self.org_id, event));
            self.session.send(&pb::WatchEventsResponse { item: Some(item) }).await?;
        }
        self.at = *last;
        Ok(())
    }

    /// The events with these ids, in their order.
    async fn find(&self, ids: &[EventId]) -> Result<Vec<log::Event>> {
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                sleep(BETWEEN).await;
            }
            let mut db = self.session.read().await?;
            let found = db::events::log::find(&mut db, self.org_id, ids).await?;
            if found.len() == ids.len() {
                return Ok(found);
            }
        }
        Err(Error::internal("an event of the feed is not in the log"))
    }

    async fn send_checkpoint(&mut self, mark: &Mark) -> Result<(), Over> {
        let state = &self.session.state;
        let cursor = Cursor { position: self.at, ends: mark.ends, time: state.clock.now() };
        let cursor = self.binding.seal(state, &cursor);
        let item = Item::Checkpoint(self.session.checkpoint(cursor));
        self.session.send(&pb::WatchEventsResponse { item: Some(item) }).await
    }
}
