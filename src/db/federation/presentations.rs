//! `presentations`: which JWTs were shown to a rule, counted by subject.

use sqlx::PgConnection;
use sqlx::types::Json;
use time::{Duration, OffsetDateTime};

use serde_json::{Map, Value};

use crate::domain::federation::claims::Recorded;
use crate::domain::federation::presentation::Outcome;
use crate::domain::paging::Page;
use crate::domain::values::ids::{OrgId, RuleId};
use crate::error::{Error, Result};

/// For how long they are kept after the last one.
pub const KEPT: Duration = Duration::days(30);

/// What was presented by one subject, as it is stored.
#[derive(Clone, Debug)]
pub struct StoredPresentation {
    pub outcome: String,
    pub subject: String,
    pub failed_check: String,
    pub audiences: Vec<String>,
    pub claims: Json<Map<String, Value>>,
    pub count: i64,
    pub first_time: OffsetDateTime,
    pub last_time: OffsetDateTime,
}

impl StoredPresentation {
    /// Whether it passed.
    pub fn outcome(&self) -> Result<Outcome> {
        Outcome::parse(&self.outcome).ok_or_else(|| Error::internal("a stored outcome is unknown"))
    }

    /// What was recorded of it.
    pub fn into_recorded(self) -> Recorded {
        Recorded { subject: self.subject, audiences: self.audiences, claims: self.claims.0 }
    }

    /// What it follows and precedes in a list.
    pub fn key(&self) -> String {
        serde_json::to_string(&[&self.subject, &self.outcome, &self.failed_check]).expect("text is JSON")
    }
}

/// The key of a presentation in a list: subject, outcome and failed check.
pub fn read_key(text: &str) -> Option<[String; 3]> {
    serde_json::from_str(text).ok()
}

/// A query for the columns of [`StoredPresentation`], with what follows.
macro_rules! presentations {
    ($rest:tt, $($arg:expr),* $(,)?) => {
        sqlx::query_as!(
            StoredPresentation,
            r#"select outcome, subject, failed_check, audiences, claims as "claims: Json<Map<String, Value>>", count,
                      first_time, last_time from presentations "# + $rest,
            $($arg),*
        )
    };
}

/// A page of what was presented to a rule in the last 30 days, in the order of subjects. Their number is limited.
pub async fn page(
    db: &mut PgConnection,
    (org_id, rule_id): (OrgId, RuleId),
    outcome: Option<Outcome>,
    after: Option<[String; 3]>,
    size: i64,
    now: OffsetDateTime,
) -> Result<Page<StoredPresentation>> {
    let [subject, after_outcome, check] = match after {
        Some(key) => key.map(Some),
        None => [None, None, None],
    };
    let outcome = outcome.map(Outcome::name);
    let rows = presentations!(
        "where org_id = $1 and rule_id = $2 and last_time > $3 and ($4::text is null or outcome = $4)
           and ($5::text is null or (subject, outcome, failed_check) > ($5, $6::text, $7::text))
         order by subject, outcome, failed_check limit $8",
        org_id.uuid(),
        rule_id.uuid(),
        now - KEPT,
        outcome,
        subject,
        after_outcome,
        check,
        size + 1
    );
    let rows = rows.fetch_all(&mut *db).await?;
    let counted = sqlx::query_scalar!(
        r#"select count(*) as "n!" from presentations
           where org_id = $1 and rule_id = $2 and last_time > $3 and ($4::text is null or outcome = $4)"#,
        org_id.uuid(),
        rule_id.uuid(),
        now - KEPT,
        outcome
    );
    let counted = counted.fetch_one(db).await?;
    Ok(Page::of(rows, size, counted, StoredPresentation::key))
}

/// Finds all that was presented to a rule in the last 30 days. Their number is limited.
pub async fn find_recent(
    db: &mut PgConnection,
    org_id: OrgId,
    rule_id: RuleId,
    now: OffsetDateTime,
) -> Result<Vec<StoredPresentation>> {
    let rows = presentations!(
        "where org_id = $1 and rule_id = $2 and last_time > $3 order by subject, outcome, failed_check limit 2000",
        org_id.uuid(),
        rule_id.uuid(),
        now - KEPT
    );
    Ok(rows.fetch_all(db).await?)
}

/// Deletes what was last presented before this time.
pub async fn sweep(db: &mut PgConnection, now: OffsetDateTime) -> Result<u64> {
    let query = sqlx::query!("delete from presentations where last_time <= $1", now - KEPT);
    Ok(query.execute(db).await?.rows_affected())
}
