//! `feed`, as read by nodes that keep caches up to date, and by readers that resume from a
//! position.
//!
//! A row is *settled* once it is below the oldest running transaction: no row can appear before it
//! any more. Settled rows have an order, and a reader can resume from a place in it. Rows that are
//! not settled yet are committed all the same, and caches are notified of them at once.

use sqlx::types::Json;
use sqlx::{Connection as _, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use super::ends::{self, Stored};
use crate::domain::tokens::revocations::Revocation;
use crate::domain::values::ids::{EventId, OrgId};
use crate::error::Result;

/// The channel on which changes wake the nodes.
pub const CHANNEL: &str = "countersign_feed";
/// How long a new epoch waits for writers of the previous one. They block others no longer than
/// that.
const WRITERS: &str = "set local lock_timeout = '500ms'";

/// A place in the feed: a row that was returned, with all rows before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    epoch: i64,
    xid: i64,
    seq: i32,
    /// Distinguishes the row from another one of the same number, in a database that was restored
    /// to an earlier state.
    event_id: Uuid,
}

impl Position {
    /// Before the first row of an epoch.
    const fn start(epoch: i64) -> Self {
        Self { epoch, xid: 0, seq: -1, event_id: Uuid::nil() }
    }

    /// The order within an epoch.
    pub const fn order(&self) -> (i64, i32) {
        (self.xid, self.seq)
    }

    /// The epoch that it is a place in.
    pub const fn epoch(&self) -> i64 {
        self.epoch
    }

    /// As bytes, for a client that stores it.
    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = self.epoch.to_be_bytes().to_vec();
        bytes.extend(self.xid.to_be_bytes());
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.event_id.as_bytes());
        bytes
    }

    /// From what [`to_bytes`](Self::to_bytes) gave.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (epoch, rest) = bytes.split_first_chunk()?;
        let (xid, rest) = rest.split_first_chunk()?;
        let (seq, event_id) = rest.split_first_chunk()?;
        Some(Self {
            epoch: i64::from_be_bytes(*epoch),
            xid: i64::from_be_bytes(*xid),
            seq: i32::from_be_bytes(*seq),
            event_id: Uuid::from_slice(event_id).ok()?,
        })
    }
}

/// A row of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedRow {
    pub position: Position,
    pub org_id: OrgId,
    pub event_id: EventId,
    pub kind: String,
    pub subjects: Vec<String>,
    /// What verifiers of JWTs are told.
    pub revocations: Vec<Revocation>,
    /// The other orgs in which the sessions among these are told.
    pub told: Vec<OrgId>,
    pub create_time: OffsetDateTime,
}

/// Which rows to read.
pub(super) struct Selection<'a> {
    /// Whether rows that are not settled are among them.
    pub unsettled: bool,
    /// Those of these transactions, and of all transactions from this number on.
    pub xids: &'a [i64],
    pub from_xid: i64,
    /// After this one in the order of rows.
    pub after: (i64, i32),
    /// At most so many.
    pub limit: i64,
}

/// What one query of the feed found.
pub(super) struct Look {
    epoch: i64,
    /// The database is in another cluster than the one last recorded.
    moved: bool,
    /// Nothing can be written: a standby, a read-only session, or the right was taken.
    pub read_only: bool,
    /// The session: its process, and when its server was started. Numbers of processes repeat.
    pub session: (i32, i64),
    /// What the query could see.
    pub snapshot: Snapshot,
    /// The last settled row.
    pub newest: Option<Position>,
    /// The last row that was deleted by the sweep.
    swept: Option<(i64, i32)>,
    /// The row of the position exists.
    there: bool,
    pub rows: Vec<FeedRow>,
}

/// Which transactions had ended: all below `xmax`, except those that were in progress.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// All transactions below it had ended.
    pub xmin: i64,
    pub xmax: i64,
    pub in_progress: Vec<i64>,
}

/// Why a reader cannot resume from a position.
pub(super) enum LostPosition {
    /// Rows that come after it were swept.
    Swept,
    /// It is of another epoch.
    OtherEpoch,
    /// It is of this epoch and its row does not exist: the database was restored to an earlier
    /// state.
    SetBack,
}

impl Look {
    pub(super) fn lost(&self, after: &Position) -> Option<LostPosition> {
        if self.moved || self.epoch != after.epoch {
            return Some(LostPosition::OtherEpoch);
        }
        match self.swept {
            Some(swept) if swept > after.order() => Some(LostPosition::Swept),
            Some(swept) if swept == after.order() => None,
            _ if self.there || *after == Position::start(after.epoch) => None,
            _ => Some(LostPosition::SetBack),
        }
    }
}

/// One statement, one snapshot: no row can become visible between its parts.
///
/// What is asked stands behind an `offset 0` or in a `select`, where the planner does not see it: it would plan each look
/// anew, for values that it expects few rows of, which takes longer than the look.
pub(super) async fn look(db: &mut PgConnection, at: &Position, which: &Selection<'_>) -> Result<Look> {
    let query = sqlx::query!(
        r#"select d.feed_epoch, d.system_identifier is distinct from c.system_identifier as "moved!",
                  (pg_is_in_recovery() or current_setting('transaction_read_only')::boolean
                   or not has_table_privilege('feed', 'insert')) as "read_only!",
                  pg_backend_pid() as "session!",
                  (extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint as "server_start!",
                  pg_snapshot_xmin(n.snapshot)::text::bigint as "xmin!",
                  pg_snapshot_xmax(n.snapshot)::text::bigint as "xmax!",
                  case when row_number() over (order by f.xid, f.seq) = 1
                       then array(select pg_snapshot_xip(n.snapshot)::text::bigint) end as "in_progress?: Vec<i64>",
                  s.xid as "swept_xid?", s.seq as "swept_seq?",
                  exists (select 1 from feed l where l.epoch = $1 and l.xid = $2 and l.seq = $3
                          and l.event_id = $4) as "there!",
                  l.xid as "newest_xid?", l.seq as "newest_seq?", l.event_id as "newest_event_id?",
                  f.xid as "xid?", f.seq as "seq?", f.org_id as "org_id?", f.event_id as "event_id?",
                  f.kind as "kind?", f.subjects as "subjects?", f.told as "told?",
                  f.revocations as "revocations?: Json<Vec<Stored>>", f.create_time as "create_time?"
           from deployment d cross join pg_control_system() c
           cross join (select pg_current_snapshot() as snapshot, $5::bigint[] as xids, $6::bigint as from_xid,
                              $7::bigint as after_xid, $8::integer as after_seq offset 0) n
           left join feed_sweeps s on s.epoch = d.feed_epoch
           left join lateral (
               select f.xid, f.seq, f.event_id from feed f
               where f.epoch = d.feed_epoch and f.xid < pg_snapshot_xmin(n.snapshot)::text::bigint
               order by f.xid desc, f.seq desc limit 1
           ) l on true
           left join lateral (
               (select f.xid, f.seq, f.org_id, f.event_id, f.kind, f.subjects, f.told, f.revocations,
                       f.create_time from feed f
                where f.epoch = d.feed_epoch and f.xid = any(n.xids) and (f.xid, f.seq) > (n.after_xid, n.after_seq)
                order by f.xid, f.seq limit (select $9::bigint))
               union all
               (select f.xid, f.seq, f.org_id, f.event_id, f.kind, f.subjects, f.told, f.revocations,
                       f.create_time from feed f
                where f.epoch = d.feed_epoch and f.xid >= n.from_xid and (f.xid, f.seq) > (n.after_xid, n.after_seq)
                  and ($10 or f.xid < pg_snapshot_xmin(n.snapshot)::text::bigint)
                order by f.xid, f.seq limit (select $9::bigint))
           ) f on true
           order by f.xid, f.seq
           limit (select $9::bigint)"#,
        at.epoch,
        at.xid,
        at.seq,
        at.event_id,
        which.xids,
        which.from_xid,
        which.after.0,
        which.after.1,
        which.limit,
        which.unsettled
    );
    let mut found = query.fetch_all(db).await?;
    let first = found.first_mut().ok_or(sqlx::Error::RowNotFound)?;
    let epoch = first.feed_epoch;
    let newest = match (first.newest_xid, first.newest_seq, first.newest_event_id) {
        (Some(xid), Some(seq), Some(event_id)) => Some(Position { epoch, xid, seq, event_id }),
        _ => None,
    };
    let in_progress = first.in_progress.take().unwrap_or_default();
    let mut look = Look {
        epoch,
        moved: first.moved,
        read_only: first.read_only,
        session: (first.session, first.server_start),
        snapshot: Snapshot { xmin: first.xmin, xmax: first.xmax, in_progress },
        newest,
        swept: first.swept_xid.zip(first.swept_seq),
        there: first.there,
        rows: Vec::new(),
    };
    for row in found {
        if let (
            Some(xid),
            Some(seq),
            Some(org_id),
            Some(event_id),
            Some(kind),
            Some(subjects),
            Some(create_time),
        ) = (row.xid, row.seq, row.org_id, row.event_id, row.kind, row.subjects, row.create_time)
        {
            let position = Position { epoch, xid, seq, event_id };
            let (org_id, event_id) = (OrgId::from(org_id), event_id.into());
            let stored = row.revocations.map(|stored| stored.0).unwrap_or_default();
            let revocations = ends::read(&stored, org_id, create_time);
            let told = row.told.unwrap_or_default().into_iter().map(OrgId::from).collect();
            look.rows.push(FeedRow {
                position,
                org_id,
                event_id,
                kind,
                subjects,
                revocations,
                told,
                create_time,
            });
        }
    }
    Ok(look)
}

/// The place after everything that is settled now.
pub async fn latest(db: &mut PgConnection) -> Result<Position> {
    let query = sqlx::query!(
        r#"select d.feed_epoch, s.xid as "swept_xid?", s.seq as "swept_seq?",
                  n.xid as "xid?", n.seq as "seq?", n.event_id as "event_id?"
           from deployment d
           left join feed_sweeps s on s.epoch = d.feed_epoch
           left join lateral (
               select f.xid, f.seq, f.event_id from feed f
               where f.epoch = d.feed_epoch and f.xid < pg_snapshot_xmin(pg_current_snapshot())::text::bigint
               order by f.xid desc, f.seq desc limit 1
           ) n on true"#
    );
    let row = query.fetch_one(db).await?;
    let (epoch, start) = (row.feed_epoch, Position::start(row.feed_epoch));
    let swept = match (row.swept_xid, row.swept_seq) {
        (Some(xid), Some(seq)) => Position { xid, seq, ..start },
        _ => start,
    };
    let newest = match (row.xid, row.seq, row.event_id) {
        (Some(xid), Some(seq), Some(event_id)) => Position { epoch, xid, seq, event_id },
        _ => start,
    };
    // Rows are swept by age, which is not exactly their order.
    Ok(if newest.order() >= swept.order() { newest } else { swept })
}

/// What a resuming reader gets.
#[derive(Debug, PartialEq, Eq)]
pub enum FeedPage {
    /// The rows after its position, in order, and its new position.
    Rows(Vec<FeedRow>, Position),
    /// Rows after its position were swept, or the database is another one: what the reader missed
    /// is unknown. It starts again ([`latest`]).
    CursorExpired,
}

/// The rows settled after a position, at most `limit` of them. Each is returned once, in the order
/// of their transactions, and none returned later belongs before one of them. An open transaction,
/// in any database of the server, holds back what came after it.
pub async fn resume(db: &mut PgConnection, after: &Position, limit: i64) -> Result<FeedPage> {
    let which = Selection { unsettled: false, xids: &[], from_xid: 0, after: after.order(), limit };
    let look = look(db, after, &which).await?;
    if look.lost(after).is_some() {
        return Ok(FeedPage::CursorExpired);
    }
    let at = look.rows.last().map_or(*after, |row| row.position);
    Ok(FeedPage::Rows(look.rows, at))
}

/// Whether a reader can go on from a position, and the last row that is settled now; none where it cannot.
pub async fn newest(db: &mut PgConnection, after: &Position) -> Result<Option<Position>> {
    let which = Selection { unsettled: false, xids: &[], from_xid: 0, after: after.order(), limit: 1 };
    let look = look(db, after, &which).await?;
    if look.lost(after).is_some() {
        return Ok(None);
    }
    let newest = look.newest.filter(|newest| newest.order() > after.order());
    Ok(Some(newest.unwrap_or(*after)))
}

/// The events of an org between two settled positions, the first excluded, of these types; none: of all. In order,
/// at most `limit` of them, each with its position.
pub async fn events_between(
    db: &mut PgConnection,
    org_id: OrgId,
    kinds: &[String],
    (after, until): (&Position, &Position),
    limit: i64,
) -> Result<Vec<(Position, EventId)>> {
    let query = sqlx::query!(
        "select xid, seq, event_id from feed
         where epoch = $1 and (xid, seq) > ($2, $3) and (xid, seq) <= ($4, $5) and org_id = $6
           and (cardinality($7::text[]) = 0 or kind = any($7))
         order by xid, seq limit $8",
        after.epoch,
        after.xid,
        after.seq,
        until.xid,
        until.seq,
        org_id.uuid(),
        kinds,
        limit
    );
    let epoch = after.epoch;
    let position = |xid, seq, event_id| Position { epoch, xid, seq, event_id };
    let rows = query.fetch_all(db).await?.into_iter();
    Ok(rows.map(|row| (position(row.xid, row.seq, row.event_id), row.event_id.into())).collect())
}

/// Records which cluster the database is in. In another one than before, as after restoring a
/// dump, the feed begins a new epoch.
pub(super) async fn note_system(db: &mut PgConnection) -> Result<()> {
    let query = sqlx::query!(
        r#"select d.system_identifier is null as "new!",
                  d.system_identifier is distinct from c.system_identifier as "moved!", d.feed_epoch
           from deployment d cross join pg_control_system() c"#
    );
    let known = query.fetch_one(&mut *db).await?;
    if known.new {
        let query = sqlx::query!(
            "update deployment d set system_identifier = c.system_identifier from pg_control_system() c
             where d.system_identifier is null"
        );
        query.execute(db).await?;
    } else if known.moved {
        raise_epoch(db, Some(known.feed_epoch)).await?;
    }
    Ok(())
}

/// Begins a new epoch of the feed, in the cluster that the database is in now. All nodes drop
/// their caches, and a reader with an older position is refused. `from` is the epoch to close: of
/// many concurrent calls with the same value, one takes effect. Returns the current epoch.
pub async fn raise_epoch(db: &mut PgConnection, from: Option<i64>) -> Result<i64> {
    let mut tx = db.begin().await?;
    sqlx::raw_sql(WRITERS).execute(&mut *tx).await?;
    // Writers to the previous epoch commit first: their rows would never be read later.
    sqlx::raw_sql("lock table feed in share mode").execute(&mut *tx).await?;
    let query = sqlx::query!(
        "update deployment d
         set feed_epoch = d.feed_epoch + 1, system_identifier = c.system_identifier
         from pg_control_system() c
         where $1::bigint is null or d.feed_epoch = $1",
        from
    );
    query.execute(&mut *tx).await?;
    let epoch = sqlx::query_scalar!("select feed_epoch from deployment").fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_comes_back_from_its_bytes() {
        let position = Position { epoch: 3, xid: 1 << 40, seq: 7, event_id: Uuid::from_u128(9) };
        let bytes = position.to_bytes();
        assert_eq!(Position::from_bytes(&bytes), Some(position));
        for length in 0..bytes.len() {
            assert_eq!(Position::from_bytes(&bytes[..length]), None, "{length}");
        }
        assert_eq!(Position::from_bytes(&[bytes, vec![0]].concat()), None);
    }

    #[test]
    fn who_can_go_on_and_who_cannot() {
        let at = Position { epoch: 2, xid: 10, seq: 1, event_id: Uuid::from_u128(1) };
        let can = |look: Look, at: &Position| look.lost(at).is_none();
        let look = |epoch, moved, swept, there| Look {
            epoch,
            moved,
            read_only: false,
            session: (1, 1),
            snapshot: Snapshot::default(),
            newest: None,
            swept,
            there,
            rows: Vec::new(),
        };
        assert!(can(look(2, false, None, true), &at));
        assert!(can(look(2, false, Some((10, 0)), true), &at));
        assert!(can(look(2, false, Some((10, 1)), false), &at), "the last that was swept is its own");
        assert!(can(look(2, false, None, false), &Position::start(2)), "nothing was given yet");
        for lost in [
            look(3, false, None, false),
            look(1, false, None, false),
            look(2, true, None, true),
            look(2, false, Some((10, 2)), false),
            look(2, false, Some((11, 0)), true),
            look(2, false, None, false),
            look(2, false, Some((9, 9)), false),
        ] {
            assert!(!can(lost, &at));
        }
        assert!(!can(look(2, false, Some((1, 0)), false), &Position::start(2)));
    }
}
