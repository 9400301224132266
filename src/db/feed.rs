//! `feed`, as those read it who keep caches true.

use std::collections::HashSet;

use sqlx::PgPool;

use crate::error::Result;

/// Where a reader of the feed is.
#[derive(Debug, Default)]
pub struct Cursor {
    /// Of which feed; none before the first look.
    at: Option<At>,
    /// The rows at or above `xmin` that were given already.
    given: HashSet<(i64, i32)>,
}

impl Cursor {
    /// Whether nothing was read with it yet.
    pub fn is_new(&self) -> bool {
        self.at.is_none()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct At {
    epoch: i64,
    system: Option<i64>,
    /// All transactions below it have ended: no row of theirs will come any more.
    xmin: i64,
}

/// What a look at the feed gave.
#[derive(Debug, PartialEq, Eq)]
pub enum News {
    /// These subjects were touched since the last look.
    Touched(Vec<String>),
    /// The database is another one than at the last look: nothing that is known counts.
    AnotherDatabase,
}

/// Reads every row that has become visible since the last look, in whatever order its
/// transactions committed: a row is new when it was not given yet, not when its number
/// is high. Rows below the oldest running transaction are not looked at again.
pub async fn read(db: &PgPool, cursor: &mut Cursor) -> Result<News> {
    // One statement, one snapshot: no row can become visible between its parts.
    let query = sqlx::query!(
        r#"select d.feed_epoch, c.system_identifier,
                  d.system_identifier is distinct from c.system_identifier as "moved!",
                  pg_snapshot_xmin(pg_current_snapshot())::text::bigint as "xmin!",
                  f.xid as "xid?", f.seq as "seq?", f.subjects as "subjects?"
           from deployment d cross join pg_control_system() c
           left join feed f on f.epoch = d.feed_epoch
               and f.xid >= coalesce($1, pg_snapshot_xmin(pg_current_snapshot())::text::bigint)
           order by f.xid, f.seq"#,
        cursor.at.map(|at| at.xmin)
    );
    let rows = query.fetch_all(db).await?;
    let Some(first) = rows.first() else { return Ok(News::Touched(Vec::new())) };
    if first.moved {
        note_system(db).await?;
    }
    let now = At { epoch: first.feed_epoch, system: first.system_identifier, xmin: first.xmin };
    let before = cursor.at.replace(now);
    let other = before.is_some_and(|before| {
        // Transaction numbers of one cluster never go back.
        before.epoch != now.epoch || before.system != now.system || before.xmin > now.xmin
    });
    if other {
        *cursor = Cursor { at: None, given: HashSet::new() };
        return Ok(News::AnotherDatabase);
    }
    let mut touched = Vec::new();
    for row in rows {
        if let (Some(xid), Some(seq), Some(subjects)) = (row.xid, row.seq, row.subjects)
            && cursor.given.insert((xid, seq))
        {
            touched.extend(subjects);
        }
    }
    cursor.given.retain(|(xid, _)| *xid >= now.xmin);
    Ok(News::Touched(touched))
}

/// Notes which cluster the database is in. In another one than before, which is what a
/// restored dump finds itself in, the feed begins a new epoch.
pub async fn note_system(db: &PgPool) -> Result<()> {
    let query = sqlx::query!(
        "update deployment d
         set feed_epoch = d.feed_epoch + case when d.system_identifier is null then 0 else 1 end,
             system_identifier = c.system_identifier
         from pg_control_system() c
         where d.system_identifier is distinct from c.system_identifier"
    );
    query.execute(db).await?;
    Ok(())
}
