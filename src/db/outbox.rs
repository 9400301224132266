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
use crate::domain::mail::Mail;
use crate::domain::values::ids::OrgId;
use crate::error::{Error, Result};

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

/// Inserts an email, to be sent at once.
pub async fn insert(tx: &mut PgConnection, new: &NewEmail<'_>, now: OffsetDateTime) -> Result<()> {
    let (template, parameters) = parts(new.mail)?;
    let query = sqlx::query!(
        "insert into outbox (mail_id, org_id, recipient, template, parameters, code_id, sealed, expire_time,
                attempts, next_time, create_time)
         values ($1, $2, $3, $4, $5, $6, $7, $8, 0, $9, $9)",
        new.mail_id,
        new.org_id.uuid(),
        new.recipient,
        template,
        parameters,
        new.code.map(|code| code.code_id),
        new.code.map(|code| code.sealed.as_slice()),
        new.code.map(|code| code.expire_time),
        now
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
