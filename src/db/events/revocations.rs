//! What changes have ended, as it is read for those who verify JWTs offline.

use std::collections::BTreeMap;

use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

use super::ends::{Stored, read};
use super::feed::Position;
use crate::domain::tokens::revocations::{Revocation, Revoked};
use crate::domain::values::ids::{OrgId, SYSTEM_ORG, SessionId, TokenId};
use crate::error::Result;

/// The revocations of one change.
#[derive(Clone, Debug)]
pub struct Ends {
    pub org_id: OrgId,
    /// The other orgs in which the sessions among them are told.
    pub told: Vec<OrgId>,
    pub revocations: Vec<Revocation>,
}

/// Which changes to read.
#[derive(Clone, Copy, Debug)]
pub enum Orgs<'a> {
    All,
    /// What concerns one of these.
    These(&'a [OrgId]),
}

impl Orgs<'_> {
    fn uuids(self) -> Option<Vec<Uuid>> {
        match self {
            Self::All => None,
            // Operators act in every org.
            Self::These(orgs) => Some(orgs.iter().map(|org| org.uuid()).chain([SYSTEM_ORG.uuid()]).collect()),
        }
    }
}

/// A place among the changes of a time, from which the next page begins.
#[derive(Clone, Copy, Debug)]
pub struct Since {
    time: OffsetDateTime,
    epoch: i64,
    order: (i64, i32),
}

impl Since {
    /// From this time on.
    pub fn from(time: OffsetDateTime) -> Self {
        Self { time, epoch: 0, order: (0, -1) }
    }

    /// Everything before this time comes before the place.
    pub fn time(self) -> OffsetDateTime {
        self.time
    }
}

/// What a page has read, and where the next one begins; none: it was the last.
pub struct Page<T> {
    pub changes: Vec<Ends>,
    pub next: Option<T>,
}

/// A row of the feed, as far as it is read here.
struct Row {
    epoch: i64,
    xid: i64,
    seq: i32,
    org_id: Uuid,
    told: Option<Vec<Uuid>>,
    create_time: OffsetDateTime,
    /// The time by which the rows are in order, where they are.
    at: OffsetDateTime,
    revocations: Json<Vec<Stored>>,
}

impl Row {
    fn order(&self) -> (i64, i32) {
        (self.xid, self.seq)
    }

    fn since(&self) -> Since {
        Since { time: self.at, epoch: self.epoch, order: self.order() }
    }
}

/// A page of these rows: where they are as many as were asked for, there may be more after the last.
fn page<T>(rows: Vec<Row>, limit: i64, next: impl Fn(&Row) -> T) -> Page<T> {
    let is_full = rows.len() as i64 == limit;
    let next = rows.last().filter(|_| is_full).map(next);
    let ends = rows.into_iter().map(|row| ends(row.org_id, row.told, &row.revocations, row.create_time));
    Page { changes: ends.collect(), next }
}

/// Reads the rows that end something and meet a condition, in an order that has the limit.
///
/// Those of some orgs are asked for by a statement of its own: one plan for both would read the rows of all orgs.
macro_rules! rows {
    ($db:ident, $at:tt, $orgs:ident $of_orgs:tt, $condition:tt, $order:tt, $($arg:expr),* $(,)?) => {
        match $orgs.uuids() {
            None => rows!(@read $db, $at $condition "" $order, $($arg),*),
            Some(orgs) => rows!(@read $db, $at $condition $of_orgs $order, $($arg),*, &orgs),
        }
    };
    (@read $db:ident, $at:tt $condition:tt $of_orgs:tt $order:tt, $($arg:expr),*) => {
        sqlx::query_as!(
            Row,
            r#"select epoch, xid, seq, org_id, told, create_time, revocations as "revocations!: Json<Vec<Stored>>", "#
                + $at + r#" as "at!" from feed where revocations is not null and "# + $condition + $of_orgs + $order,
            $($arg),*
        )
        .fetch_all($db)
        .await?
    };
}

/// The changes since a time that end something, as they are visible now.
pub async fn since(db: &mut PgConnection, from: Since, orgs: Orgs<'_>, limit: i64) -> Result<Page<Since>> {
    let rows = rows!(
        db,
        "create_time",
        orgs " and (org_id = any($6) or told && $6)",
        "create_time >= $1 and (create_time, epoch, xid, seq) > ($1, $2, $3, $4)",
        " order by create_time, epoch, xid, seq limit $5",
        from.time,
        from.epoch,
        from.order.0,
        from.order.1,
        limit
    );
    Ok(page(rows, limit, Row::since))
}

/// The changes after a position that end something, as they are visible now: also those that are not settled.
pub async fn after(
    db: &mut PgConnection,
    at: (i64, (i64, i32)),
    orgs: Orgs<'_>,
    limit: i64,
) -> Result<Page<(i64, (i64, i32))>> {
    let (epoch, (xid, seq)) = at;
    let rows = rows!(
        db,
        "create_time",
        orgs " and (org_id = any($5) or told && $5)",
        "epoch = $1 and (xid, seq) > ($2, $3)",
        " order by xid, seq limit $4",
        epoch,
        xid,
        seq,
        limit
    );
    Ok(page(rows, limit, |row| (epoch, row.order())))
}

/// Where [`after`] begins for a cursor.
pub fn place(at: &Position) -> (i64, (i64, i32)) {
    (at.epoch(), at.order())
}

/// The changes whose first scheduled end comes after a place and until a time, in the order of those ends, with all
/// that they end, whether it comes about or not.
pub async fn scheduled(
    db: &mut PgConnection,
    (from, until): (Since, OffsetDateTime),
    orgs: Orgs<'_>,
    limit: i64,
) -> Result<Page<Since>> {
    let rows = rows!(
        db,
        "effective_time",
        orgs " and (org_id = any($7) or told && $7)",
        "effective_time >= $1 and (effective_time, epoch, xid, seq) > ($1, $2, $3, $4) and effective_time <= $5",
        " order by effective_time, epoch, xid, seq limit $6",
        from.time,
        from.epoch,
        from.order.0,
        from.order.1,
        until,
        limit
    );
    Ok(page(rows, limit, Row::since))
}

/// Those of these ends that were scheduled for a time within this span, the first time excluded.
pub fn within(all: Vec<Ends>, from: OffsetDateTime, until: OffsetDateTime) -> Vec<Ends> {
    let within = |ends: Ends| {
        let revocations = ends.revocations.into_iter();
        let revocations = revocations.filter(|one| one.scheduled && one.from > from && one.from <= until);
        Ends { revocations: revocations.collect(), ..ends }
    };
    all.into_iter().map(within).filter(|ends| !ends.revocations.is_empty()).collect()
}

fn ends(org_id: Uuid, told: Option<Vec<Uuid>>, stored: &[Stored], create_time: OffsetDateTime) -> Ends {
    let org_id = OrgId::from(org_id);
    let told = told.unwrap_or_default().into_iter().map(OrgId::from).collect();
    Ends { org_id, told, revocations: read(stored, org_id, create_time) }
}

/// Those of these scheduled ends that have come about: a rotation may have been cancelled since, or a token renewed.
pub async fn that_came_about(
    db: &mut PgConnection,
    scheduled: Vec<Ends>,
    now: OffsetDateTime,
) -> Result<Vec<Ends>> {
    let mut by_org: BTreeMap<OrgId, Vec<Ends>> = BTreeMap::new();
    for ends in scheduled {
        by_org.entry(ends.org_id).or_default().push(ends);
    }
    let mut came = Vec::new();
    for (org_id, all) in by_org {
        let state = State::read(&mut *db, org_id, all.iter().flat_map(|ends| &ends.revocations)).await?;
        for mut ends in all {
            ends.revocations.retain(|one| state.has_ended(&one.subject, now));
            if !ends.revocations.is_empty() {
                came.push(ends);
            }
        }
    }
    Ok(came)
}

/// When what is scheduled to end does, as it is stored now.
struct State {
    /// None: it never ends, or has not been revoked.
    tokens: BTreeMap<TokenId, Option<OffsetDateTime>>,
    secrets: BTreeMap<(TokenId, i32), Option<OffsetDateTime>>,
    sessions: BTreeMap<SessionId, OffsetDateTime>,
}

impl State {
    async fn read(
        db: &mut PgConnection,
        org_id: OrgId,
        revocations: impl Iterator<Item = &Revocation>,
    ) -> Result<Self> {
        let (mut tokens, mut sessions) = (Vec::new(), Vec::new());
        for revocation in revocations {
            match &revocation.subject {
                Revoked::Token(id) | Revoked::Secret(id, _) => tokens.push(id.uuid()),
                Revoked::Session(id) => sessions.push(id.uuid()),
                // The others are read all the same: it would be found again, and would hold them up for ever.
                subject @ (Revoked::Rule(_) | Revoked::Account(_) | Revoked::Org | Revoked::Key(_)) => {
                    tracing::error!(%org_id, %subject, "end skipped: scheduled though it comes with a change");
                }
            }
        }
        let mut state = Self { tokens: BTreeMap::new(), secrets: BTreeMap::new(), sessions: BTreeMap::new() };
        if !tokens.is_empty() {
            let query = sqlx::query!(
                r#"select t.token_id, least(t.revoke_time, t.expire_time) as end_time, s.secret_number as "number?",
                          s.expire_time as "secret_end?"
                   from tokens t left join token_secrets s on s.org_id = $1 and s.token_id = t.token_id
                   where t.org_id = $1 and t.token_id = any($2)"#,
                org_id.uuid(),
                &tokens
            );
            for row in query.fetch_all(&mut *db).await? {
                let token_id = TokenId::from(row.token_id);
                state.tokens.insert(token_id, row.end_time);
                if let Some(number) = row.number {
                    state.secrets.insert((token_id, number), row.secret_end);
                }
            }
        }
        if !sessions.is_empty() {
            let query = sqlx::query!(
                r#"select s.session_id, least(s.end_time, s.expire_time, t.revoke_time, t.expire_time) as "end_time!"
                   from sessions s left join tokens t on t.org_id = $1 and t.token_id = s.ends_with
                   where s.org_id = $1 and s.session_id = any($2)"#,
                org_id.uuid(),
                &sessions
            );
            for row in query.fetch_all(db).await? {
                state.sessions.insert(row.session_id.into(), row.end_time);
            }
        }
        Ok(state)
    }

    /// What is gone has ended. What comes with a change is announced with it.
    fn has_ended(&self, subject: &Revoked, now: OffsetDateTime) -> bool {
        let is_over = |end: Option<OffsetDateTime>| end.is_some_and(|end| end <= now);
        match subject {
            Revoked::Token(id) => self.tokens.get(id).is_none_or(|end| is_over(*end)),
            Revoked::Secret(id, number) => {
                self.tokens.get(id).is_none_or(|end| is_over(*end))
                    || self.secrets.get(&(*id, *number)).is_none_or(|end| is_over(*end))
            }
            Revoked::Session(id) => self.sessions.get(id).is_none_or(|end| *end <= now),
            Revoked::Rule(_) | Revoked::Account(_) | Revoked::Org | Revoked::Key(_) => false,
        }
    }
}

/// The keys that were revoked.
pub async fn revoked_keys(db: impl PgExecutor<'_>) -> Result<Vec<(String, Option<OffsetDateTime>)>> {
    let query =
        sqlx::query!("select kid, revoke_time from signing_keys where state = 'REVOKED' order by kid");
    Ok(query.fetch_all(db).await?.into_iter().map(|row| (row.kid, row.revoke_time)).collect())
}
