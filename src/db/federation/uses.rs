//! How rules are used: counts in `federation_rules`, and what was presented in `presentations`.

use std::collections::HashMap;

use sqlx::PgExecutor;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::federation::presentation::Outcome;
use crate::domain::values::ids::{OrgId, RuleId};
use crate::error::Result;

/// The most subjects of a rule that are kept which passed.
const MOST_PASSED: i64 = 1_000;
/// The most subjects of a rule that are kept which did not.
const MOST_REFUSED: i64 = 100;

/// The uses of one rule since the last write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleUse {
    pub org_id: OrgId,
    pub rule_id: RuleId,
    /// The time of the last use.
    pub time: OffsetDateTime,
    pub address: Option<String>,
    pub count: i64,
}

/// Stores the uses of many rules in one statement. Each rule occurs once.
///
/// A stored time only moves forward, and the counts add up. A rule that has been deleted is skipped.
pub async fn record_uses(db: impl PgExecutor<'_>, uses: &[RuleUse]) -> Result<()> {
    fn column<T>(uses: &[RuleUse], value: impl Fn(&RuleUse) -> T) -> Vec<T> {
        uses.iter().map(value).collect()
    }
    let query = sqlx::query!(
        r#"update federation_rules r
           set last_use_address = case when r.last_use_time > u.time then r.last_use_address else u.address end,
               last_use_time = greatest(r.last_use_time, u.time),
               use_count = r.use_count + u.count
           from unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::text[], $5::bigint[])
                as u (org_id, rule_id, time, address, count)
           where r.org_id = u.org_id and r.rule_id = u.rule_id"#,
        &column(uses, |used| used.org_id.uuid()),
        &column(uses, |used| used.rule_id.uuid()),
        &column(uses, |used| used.time),
        &column(uses, |used| used.address.clone()) as &[Option<String>],
        &column(uses, |used| used.count)
    );
    query.execute(db).await?;
    Ok(())
}

/// What was presented to a rule by one subject since the last write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPresentation {
    pub org_id: OrgId,
    pub rule_id: RuleId,
    pub outcome: Outcome,
    pub subject: String,
    /// Empty where it passed.
    pub failed_check: String,
    /// Of the last one, as an array of JSON.
    pub audiences: String,
    /// The same, as an object.
    pub claims: String,
    pub count: i64,
    pub first_time: OffsetDateTime,
    pub last_time: OffsetDateTime,
}

/// Stores what was presented to rules, in one statement. Each subject, outcome and check of a rule occurs once. A rule
/// that has been deleted is skipped. Returns the rules that have more subjects than before, which may repeat.
pub async fn record_presentations(
    db: impl PgExecutor<'_>,
    new: &[NewPresentation],
) -> Result<Vec<(OrgId, RuleId)>> {
    fn column<T>(new: &[NewPresentation], value: impl Fn(&NewPresentation) -> T) -> Vec<T> {
        new.iter().map(value).collect()
    }
    let query = sqlx::query!(
        r#"insert into presentations (org_id, rule_id, outcome, subject, failed_check, audiences, claims, count,
                                      first_time, last_time)
           select u.org_id, u.rule_id, u.outcome, u.subject, u.failed_check,
                  array(select jsonb_array_elements_text(u.audiences::jsonb)), u.claims::jsonb, u.count, u.first_time,
                  u.last_time
           from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[],
                       $9::timestamptz[], $10::timestamptz[])
                as u (org_id, rule_id, outcome, subject, failed_check, audiences, claims, count, first_time, last_time)
           join federation_rules r on r.org_id = u.org_id and r.rule_id = u.rule_id
           on conflict (org_id, rule_id, outcome, subject, failed_check) do update
           set count = presentations.count + excluded.count,
               audiences = excluded.audiences, claims = excluded.claims,
               last_time = greatest(presentations.last_time, excluded.last_time)
           returning org_id, rule_id, first_time"#,
        &column(new, |new| new.org_id.uuid()),
        &column(new, |new| new.rule_id.uuid()),
        &column(new, |new| new.outcome.name().to_owned()),
        &column(new, |new| new.subject.clone()),
        &column(new, |new| new.failed_check.clone()),
        &column(new, |new| new.audiences.clone()),
        &column(new, |new| new.claims.clone()),
        &column(new, |new| new.count),
        &column(new, |new| new.first_time),
        &column(new, |new| new.last_time)
    );
    let stored = query.fetch_all(db).await?;
    // One that came before has an earlier time.
    let mut earliest: HashMap<Uuid, OffsetDateTime> = HashMap::new();
    for new in new {
        let known = earliest.entry(new.rule_id.uuid()).or_insert(new.first_time);
        *known = (*known).min(new.first_time);
    }
    let new =
        stored.into_iter().filter(|row| earliest.get(&row.rule_id).is_some_and(|at| row.first_time >= *at));
    Ok(new.map(|row| (row.org_id.into(), row.rule_id.into())).collect())
}

/// Which of these rules have too many subjects, by a tenth or more, so that what is too much is not deleted one by one;
/// once for each outcome.
pub async fn find_overfull(
    db: impl PgExecutor<'_>,
    rules: &[(OrgId, RuleId)],
) -> Result<Vec<(OrgId, RuleId)>> {
    let query = sqlx::query!(
        r#"select p.org_id, p.rule_id from presentations p
           join unnest($1::uuid[], $2::uuid[]) as u (org_id, rule_id) on p.org_id = u.org_id and p.rule_id = u.rule_id
           group by p.org_id, p.rule_id, p.outcome
           having count(*) > case p.outcome when 'PASSED' then $3::bigint else $4::bigint end"#,
        &rules.iter().map(|(org_id, _)| org_id.uuid()).collect::<Vec<_>>(),
        &rules.iter().map(|(_, rule_id)| rule_id.uuid()).collect::<Vec<_>>(),
        MOST_PASSED + MOST_PASSED / 10,
        MOST_REFUSED + MOST_REFUSED / 10
    );
    let rows = query.fetch_all(db).await?;
    Ok(rows.into_iter().map(|row| (row.org_id.into(), row.rule_id.into())).collect())
}

/// Deletes what is too much of these rules, each of which occurs once: the subjects that came longest ago, of those that passed and of those that
/// did not.
pub async fn trim_presentations(db: impl PgExecutor<'_>, rules: &[(OrgId, RuleId)]) -> Result<u64> {
    let query = sqlx::query!(
        r#"delete from presentations p
           using (select k.org_id, k.rule_id, k.outcome, k.subject, k.failed_check,
                         row_number() over (partition by k.org_id, k.rule_id, k.outcome order by k.last_time desc) as place
                  from presentations k
                  join unnest($1::uuid[], $2::uuid[]) as u (org_id, rule_id)
                    on k.org_id = u.org_id and k.rule_id = u.rule_id) as ranked
           where p.org_id = ranked.org_id and p.rule_id = ranked.rule_id and p.outcome = ranked.outcome
             and p.subject = ranked.subject and p.failed_check = ranked.failed_check
             and ranked.place > case ranked.outcome when 'PASSED' then $3::bigint else $4::bigint end"#,
        &rules.iter().map(|(org_id, _)| org_id.uuid()).collect::<Vec<_>>(),
        &rules.iter().map(|(_, rule_id)| rule_id.uuid()).collect::<Vec<_>>(),
        MOST_PASSED,
        MOST_REFUSED
    );
    Ok(query.execute(db).await?.rows_affected())
}
