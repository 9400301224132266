//! `events` and `event_resources`, as read by callers that list what happened in an org.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use sqlx::PgConnection;
use sqlx::types::Json;
use time::{OffsetDateTime, PrimitiveDateTime};
use uuid::Uuid;

use crate::domain::paging::{COUNTED, Page};
use crate::domain::values::ids::{AccountId, EventId, OrgId};
use crate::error::Result;

/// A line of the log, as it is stored.
#[derive(Debug)]
pub struct Event {
    pub event_id: Uuid,
    pub kind: String,
    pub actor_id: Option<Uuid>,
    pub impersonator_id: Option<Uuid>,
    pub operator: bool,
    pub resource_ids: Vec<String>,
    pub changes: Json<Vec<StoredChange>>,
    pub address: Option<String>,
    pub request_id: Option<String>,
    pub create_time: OffsetDateTime,
}

/// A field that changed, as it is stored.
#[derive(Debug, Deserialize)]
pub struct StoredChange {
    pub field: String,
    pub old_value: Option<String>,
    pub new_value: Option<String>,
}

/// Which events to list: those that match all of these.
#[derive(Debug, Default)]
pub struct EventFilter {
    pub actor_id: Option<AccountId>,
    pub resource_id: Option<String>,
    pub kind: Option<String>,
    /// From this time on (inclusive).
    pub start: Option<OffsetDateTime>,
    /// Before this time.
    pub end: Option<OffsetDateTime>,
}

/// A place in the log. In a list, newest first, the following rows are below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPosition {
    time: OffsetDateTime,
    event_id: EventId,
}

impl LogPosition {
    /// Everything that happened before this time is below it.
    fn before(time: OffsetDateTime) -> Self {
        Self { time, event_id: EventId::from_u128(0) }
    }
}

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.time.unix_timestamp_nanos(), self.event_id)
    }
}

impl FromStr for LogPosition {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (nanos, id) = text.split_once('/').ok_or(())?;
        let nanos = nanos.parse().map_err(|_| ())?;
        Ok(Self {
            time: OffsetDateTime::from_unix_timestamp_nanos(nanos).map_err(|_| ())?,
            event_id: EventId::parse(id).map_err(|_| ())?,
        })
    }
}

// The count is ordered too: so it cannot be planned as a walk over the rows of all orgs.
/// A page of events, and how many there are in all; `$rest` says where they come from.
macro_rules! select_events {
    ($db:expr, $org_id:expr, ($from:expr, $end:expr, $start:expr, $size:expr), $rest:tt $(, $arg:expr)*) => {{
        let rows = sqlx::query_as!(
            Event,
            r#"select e.event_id, e.type as kind, e.actor_id, e.impersonator_id, e.operator, e.resource_ids,
                      e.changes as "changes: Json<Vec<StoredChange>>", e.address, e.request_id, e.create_time
               from "# + $rest + " order by e.create_time desc, e.event_id desc limit $5",
            $org_id, $from.time, $from.event_id.uuid(), $start, $size + 1 $(, $arg)*
        );
        let rows = rows.fetch_all(&mut *$db).await?;
        let counted = sqlx::query_scalar!(
            r#"select count(*) as "n!" from (select 1 from "# + $rest + " order by e.create_time desc, e.event_id desc limit $5) few",
            $org_id, $end.time, $end.event_id.uuid(), $start, COUNTED + 1 $(, $arg)*
        );
        (rows, counted.fetch_one(&mut *$db).await?)
    }};
}

/// A page of the org's events, newest first. Each kind of filter has its own statement, and each
/// statement an index that has its rows in order: however long the log is, a page is read from
/// where it begins. The remaining filters are applied from there on, the resource first, then the
/// actor.
pub async fn page(
    db: &mut PgConnection,
    org_id: OrgId,
    filter: &EventFilter,
    after: Option<LogPosition>,
    size: i64,
) -> Result<Page<Event>> {
    let start = filter.start.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let end = LogPosition::before(filter.end.unwrap_or(PrimitiveDateTime::MAX.assume_utc()));
    let from = after.map_or(end, |after| after.min(end));
    let org = org_id.uuid();
    let actor_id = filter.actor_id.map(AccountId::uuid);
    let kind = filter.kind.as_deref();
    let (rows, counted) = match (&filter.resource_id, actor_id, kind) {
        (Some(resource_id), _, _) => select_events!(
            db,
            org,
            (from, end, start, size),
            "event_resources r
             join events e on e.org_id = $1 and e.create_time = r.create_time and e.event_id = r.event_id
             where r.org_id = $1 and r.resource_id = $6 and (r.create_time, r.event_id) < ($2, $3)
               and r.create_time >= $4 and ($7::uuid is null or e.actor_id = $7)
               and ($8::text is null or e.type = $8)",
            resource_id,
            actor_id,
            kind
        ),
        (None, Some(actor_id), _) => select_events!(
            db,
            org,
            (from, end, start, size),
            "events e where e.org_id = $1 and e.actor_id = $6 and (e.create_time, e.event_id) < ($2, $3)
             and e.create_time >= $4 and ($7::text is null or e.type = $7)",
            actor_id,
            kind
        ),
        (None, None, Some(kind)) => select_events!(
            db,
            org,
            (from, end, start, size),
            "events e where e.org_id = $1 and e.type = $6 and (e.create_time, e.event_id) < ($2, $3)
             and e.create_time >= $4",
            kind
        ),
        (None, None, None) => select_events!(
            db,
            org,
            (from, end, start, size),
            "events e where e.org_id = $1 and (e.create_time, e.event_id) < ($2, $3) and e.create_time >= $4"
        ),
    };
    Ok(Page::of(rows, size, counted, |event| {
        LogPosition { time: event.create_time, event_id: event.event_id.into() }.to_string()
    }))
}

/// The events of an org with these ids, in the order of the ids, as far as they exist.
pub async fn find(db: &mut PgConnection, org_id: OrgId, ids: &[EventId]) -> Result<Vec<Event>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let rows = sqlx::query_as!(
        Event,
        r#"select event_id, type as kind, actor_id, impersonator_id, operator, resource_ids,
                  changes as "changes: Json<Vec<StoredChange>>", address, request_id, create_time
           from events where org_id = $1 and event_id = any($2)"#,
        org_id.uuid(),
        &ids
    );
    let mut found: HashMap<Uuid, Event> =
        rows.fetch_all(db).await?.into_iter().map(|event| (event.event_id, event)).collect();
    Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written() {
        let time = OffsetDateTime::from_unix_timestamp_nanos(1_800_000_000_123_456_000).unwrap();
        let place = LogPosition { time, event_id: EventId::from_u128(7) };
        assert_eq!(place.to_string().parse(), Ok(place));
        assert!(LogPosition::before(time) < place);
        for bad in ["", "1", "x/evt_0", "1/acct_00000000000000000000000000"] {
            assert_eq!(bad.parse::<LogPosition>(), Err(()));
        }
    }
}
