//! `outbox`: emails that are to be sent, and for a while those that were.
//!
//! Any number of nodes drain it. A claim is a conditional update that moves the time of the next try
//! to the end of the claim: a second node finds that the email is not due, and an email that was
//! claimed by a node that died is due again when the claim has expired. No lock is held meanwhile.

use serde_json::Value;
use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

use super::one_row;
use crate::domain::limits::Limit;
use crate::domain::mail::{BUDGET_WINDOW, Budget, Mail, ORG_WINDOW};
use crate::domain::values::ids::OrgId;
use crate::error::{Error, Result};
use crate::metrics::Queued;

/// The code that the link of an email carries.
pub struct SealedCode {
    pub code_id: Uuid,
    /// Its string, sealed for the email.
    pub sealed: Vec<u8>,
    /// When it expires.
    pub expire_time: OffsetDateTime,
}

/// An email to be inserted.
pub struct NewEmail<'a> {
    pub mail_id: Uuid,
    pub org_id: OrgId,
    pub recipient: &'a str,
    pub budget: &'a Budget,
    pub mail: &'a Mail,
    pub code: Option<&'a SealedCode>,
}

/// An email that was claimed.
pub struct Claimed {
    pub mail_id: Uuid,
    /// Tells this claim from a later one of the same email.
    pub claim_id: Uuid,
    pub recipient: String,
    template: String,
    parameters: Json<Value>,
    pub sealed: Option<Vec<u8>>,
    pub expire_time: Option<OffsetDateTime>,
    /// The number of tries, this one included.
    pub attempts: i32,
}

impl Claimed {
    /// The template and its parameters.
    ///
    /// # Errors
    /// When a newer binary has written an email that this one does not know.
    pub fn mail(&self) -> Result<Mail> {
        let stored = serde_json::json!({ "template": self.template, "parameters": self.parameters.0 });
        serde_json::from_value(stored).map_err(Error::internal)
    }
}

/// Refuses another email of an org that has written as many as it may within a day. Those that the
/// holders of mailboxes requested do not count.
///
/// # Errors
/// `LIMIT_REACHED`.
pub async fn refuse_too_many(tx: &mut PgConnection, org_id: OrgId, now: OffsetDateTime) -> Result<()> {
    let query = sqlx::query_scalar!(
        r#"select count(*) as "n!" from (
               select 1 from outbox where org_id = $1 and not asked and create_time > $2 limit $3
           ) few"#,
        org_id.uuid(),
        now - ORG_WINDOW,
        Limit::EMAILS_OF_ORG.most
    );
    Limit::EMAILS_OF_ORG.refuse_above(query.fetch_one(tx).await? + 1)
}

/// Inserts an email, to be sent at once.
///
/// # Errors
/// `LIMIT_REACHED` when the org has written too many.
pub async fn insert(tx: &mut PgConnection, new: &NewEmail<'_>, now: OffsetDateTime) -> Result<()> {
    if !new.budget.asked {
        refuse_too_many(&mut *tx, new.org_id, now).await?;
    }
    let (template, parameters) = parts(new.mail)?;
    let query = sqlx::query!(
        "insert into outbox (mail_id, org_id, recipient, template, parameters, code_id, sealed, expire_time,
                attempts, next_time, create_time, mailbox, asked)
         values ($1, $2, $3, $4, $5, $6, $7, $8, 0, $9, $9, $10, $11)",
        new.mail_id,
        new.org_id.uuid(),
        new.recipient,
        template,
        parameters,
        new.code.map(|code| code.code_id),
        new.code.map(|code| code.sealed.as_slice()),
        new.code.map(|code| code.expire_time),
        now,
        new.budget.mailbox,
        new.budget.asked
    );
    one_row(&query.execute(tx).await?, "inserting an email")
}

/// The name of the template of an email, and its parameters.
fn parts(mail: &Mail) -> Result<(String, Value)> {
    let mut value = serde_json::to_value(mail).map_err(Error::internal)?;
    match (value["template"].take(), value["parameters"].take()) {
        (Value::String(template), parameters) => Ok((template, parameters)),
        _ => Err(Error::internal("an email has no template")),
    }
}

/// Whether an email of the same template was inserted for the mailbox since then.
pub async fn has_since(
    tx: &mut PgConnection,
    recipient: &str,
    mail: &Mail,
    since: OffsetDateTime,
) -> Result<bool> {
    let (template, _) = parts(mail)?;
    let query = sqlx::query_scalar!(
        r#"select exists (
               select 1 from outbox where recipient = $1 and create_time > $3 and template = $2
           ) as "there!""#,
        recipient,
        template,
        since
    );
    Ok(query.fetch_one(tx).await?)
}

/// The emails that are due, those that have waited longest first.
pub async fn find_due(db: impl PgExecutor<'_>, now: OffsetDateTime, limit: i64) -> Result<Vec<Uuid>> {
    let query = sqlx::query_scalar!(
        "select mail_id from outbox where next_time <= $1 order by next_time limit $2",
        now,
        limit
    );
    Ok(query.fetch_all(db).await?)
}

/// An email that may be sent next, with the budget that it counts towards.
pub struct Next {
    pub mail_id: Uuid,
    pub budget: Budget,
    /// Whether its code has expired, so that it is not sent.
    pub expired: bool,
}

/// The email that is sent next to the mailbox of a due email; none when no email of it is due any more.
///
/// The orgs for which least was sent within the last hour, or is being sent, come first, so that none fills a mailbox and
/// keeps the emails of others from it; then the oldest.
pub async fn find_next(tx: &mut PgConnection, due: Uuid, now: OffsetDateTime) -> Result<Option<Next>> {
    let budget = sqlx::query_as!(
        Budget,
        r#"select coalesce(mailbox, recipient) as "mailbox!", asked from outbox
           where mail_id = $1 and next_time <= $2"#,
        due,
        now
    );
    let Some(budget) = budget.fetch_optional(&mut *tx).await? else { return Ok(None) };
    let next = sqlx::query!(
        r#"select mail_id, coalesce(expire_time <= $3, false) as "expired!" from outbox w
           where coalesce(w.mailbox, w.recipient) = $1 and w.asked = $2 and w.sent_time is null
             and w.next_time <= $3
           order by (select count(*) from outbox s
                     where coalesce(s.mailbox, s.recipient) = $1 and s.asked = $2
                       and (s.sent_time > $4 or s.claim_id is not null)
                       and s.org_id = w.org_id),
                    mail_id
           limit 1"#,
        budget.mailbox,
        budget.asked,
        now,
        now - BUDGET_WINDOW
    );
    let next = next.fetch_optional(tx).await?;
    Ok(next.map(|row| Next { mail_id: row.mail_id, budget, expired: row.expired }))
}

/// Has the due emails of a budget wait until a place in it is free.
pub async fn wait_for_place(
    db: impl PgExecutor<'_>,
    budget: &Budget,
    free: OffsetDateTime,
    now: OffsetDateTime,
) -> Result<u64> {
    let query = sqlx::query!(
        "update outbox set next_time = $3, last_error = 'waits: the mailbox was sent its emails of this hour'
         where coalesce(mailbox, recipient) = $1 and asked = $2 and sent_time is null and next_time <= $4",
        budget.mailbox,
        budget.asked,
        free,
        now
    );
    Ok(query.execute(db).await?.rows_affected())
}

/// Claims an email until `end`; none when it is not due, because another node was first.
pub async fn claim(
    db: impl PgExecutor<'_>,
    mail_id: Uuid,
    claim_id: Uuid,
    now: OffsetDateTime,
    end: OffsetDateTime,
) -> Result<Option<Claimed>> {
    let query = sqlx::query_as!(
        Claimed,
        r#"update outbox set claim_id = $2, next_time = $4, attempts = attempts + 1
           where mail_id = $1 and next_time <= $3
           returning mail_id, claim_id as "claim_id!", recipient, template, parameters as "parameters: Json<Value>",
                     sealed, expire_time, attempts"#,
        mail_id,
        claim_id,
        now,
        end
    );
    Ok(query.fetch_optional(db).await?)
}

/// Marks an email as sent, and erases its code. False when it was marked before, or was deleted.
///
/// It is marked even if another node has claimed it meanwhile.
pub async fn mark_sent(db: impl PgExecutor<'_>, mail_id: Uuid, now: OffsetDateTime) -> Result<bool> {
    let query = sqlx::query!(
        "update outbox set sent_time = $2, dead_time = null, next_time = null, claim_id = null, sealed = null,
                last_error = null
         where mail_id = $1 and sent_time is null",
        mail_id,
        now
    );
    Ok(query.execute(db).await?.rows_affected() == 1)
}

/// Releases a claim, and sets the time of the next try.
///
/// Does nothing when another node has claimed the email meanwhile.
pub async fn reschedule(
    db: impl PgExecutor<'_>,
    claimed: &Claimed,
    next: OffsetDateTime,
    error: &str,
) -> Result<()> {
    let query = sqlx::query!(
        "update outbox set next_time = $3, claim_id = null, last_error = $4
         where mail_id = $1 and claim_id = $2 and next_time is not null",
        claimed.mail_id,
        claimed.claim_id,
        next,
        error
    );
    query.execute(db).await?;
    Ok(())
}

/// Gives an email up: it is not retried any more.
///
/// `erase` erases its code, where that can no longer be used.
pub async fn give_up(
    db: impl PgExecutor<'_>,
    claimed: &Claimed,
    now: OffsetDateTime,
    error: &str,
    erase: bool,
) -> Result<()> {
    let query = sqlx::query!(
        "update outbox set dead_time = $3, next_time = null, claim_id = null, last_error = $4,
                sealed = case when $5::boolean then null else sealed end
         where mail_id = $1 and claim_id = $2 and next_time is not null",
        claimed.mail_id,
        claimed.claim_id,
        now,
        error,
        erase
    );
    query.execute(db).await?;
    Ok(())
}

/// Deletes the emails with these codes that were not sent, because the codes are not valid any more.
pub async fn withdraw(tx: &mut PgConnection, code_ids: &[Uuid]) -> Result<()> {
    let query = sqlx::query!("delete from outbox where code_id = any($1) and sent_time is null", code_ids);
    query.execute(tx).await?;
    Ok(())
}

/// An email that was not sent, as `countersign mail list` displays it.
pub struct UnsentEmail {
    pub mail_id: Uuid,
    pub recipient: String,
    pub template: String,
    pub attempts: i32,
    pub create_time: OffsetDateTime,
    /// When it is tried next; none if it was given up.
    pub next_time: Option<OffsetDateTime>,
    pub last_error: Option<String>,
}

/// A page of the emails that were given up, oldest first, after this one.
///
/// With `waiting` it also holds those that are still retried.
pub async fn page_unsent(
    db: impl PgExecutor<'_>,
    waiting: bool,
    after: Option<Uuid>,
    size: i64,
) -> Result<Vec<UnsentEmail>> {
    let query = sqlx::query_as!(
        UnsentEmail,
        "select mail_id, recipient, template, attempts, create_time, next_time, last_error from outbox
         where sent_time is null and ($1 or dead_time is not null) and ($2::uuid is null or mail_id > $2)
         order by mail_id limit $3",
        waiting,
        after,
        size
    );
    Ok(query.fetch_all(db).await?)
}

/// The code of an email that was not sent.
pub struct UnsentCode {
    pub org_id: Uuid,
    /// The account whose password it sets, or the invitation that it accepts.
    pub subject_id: Uuid,
    pub purpose: String,
}

/// Finds the code of an email that was not sent.
pub async fn find_unsent_code(db: impl PgExecutor<'_>, mail_id: Uuid) -> Result<Option<UnsentCode>> {
    let query = sqlx::query_as!(
        UnsentCode,
        "select c.org_id, c.subject_id, c.purpose from outbox o join codes c on c.code_id = o.code_id
         where o.mail_id = $1 and o.sent_time is null",
        mail_id
    );
    Ok(query.fetch_optional(db).await?)
}

/// Finds the codes of the emails to an address that were not sent, the oldest first.
pub async fn find_unsent_codes(db: impl PgExecutor<'_>, recipient: &str) -> Result<Vec<UnsentCode>> {
    let query = sqlx::query_as!(
        UnsentCode,
        "select c.org_id, c.subject_id, c.purpose from outbox o join codes c on c.code_id = o.code_id
         where o.recipient = $1 and o.sent_time is null order by o.mail_id",
        recipient
    );
    Ok(query.fetch_all(db).await?)
}

/// Has emails that were given up retried from the start, and returns their ids.
///
/// Without ids, all of them are. An email whose code has expired is not.
pub async fn retry(
    db: impl PgExecutor<'_>,
    mail_ids: Option<&[Uuid]>,
    now: OffsetDateTime,
) -> Result<Vec<Uuid>> {
    let query = sqlx::query_scalar!(
        "update outbox set dead_time = null, next_time = $2, attempts = 0
         where dead_time is not null and ($1::uuid[] is null or mail_id = any($1))
           and (expire_time is null or expire_time > $2)
         returning mail_id",
        mail_ids,
        now
    );
    Ok(query.fetch_all(db).await?)
}

/// Counts the emails of each state, in the order of [`QueueState::ALL`](crate::metrics::QueueState::ALL).
pub async fn count_queue(db: impl PgExecutor<'_>, now: OffsetDateTime) -> Result<[Queued; 3]> {
    let query = sqlx::query!(
        r#"select count(*) filter (where next_time is not null and attempts = 0) as "new!",
                  min(next_time) filter (where attempts = 0) as due_new,
                  count(*) filter (where next_time is not null and attempts > 0) as "retried!",
                  min(next_time) filter (where attempts > 0) as due_retried,
                  count(*) filter (where dead_time is not null) as "given_up!"
           from outbox where next_time is not null or dead_time is not null"#
    );
    let found = query.fetch_one(db).await?;
    // One that is put off, such as over the budget of its mailbox, is due later, however old it is.
    let waiting = |emails: i64, due: Option<OffsetDateTime>| Queued {
        emails: emails.unsigned_abs(),
        overdue_seconds: Some(due.map_or(0.0, |due| (now - due).as_seconds_f64().max(0.0))),
    };
    Ok([
        waiting(found.new, found.due_new),
        waiting(found.retried, found.due_retried),
        Queued { emails: found.given_up.unsigned_abs(), overdue_seconds: None },
    ])
}
