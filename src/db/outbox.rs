//! `outbox`: mails that are to be sent, and for a while those that were.
//!
//! Any number of nodes drain it. A claim is a conditional update that moves the time of the
//! next try to the claim's own end: whoever comes second finds that it is not due, and what a
//! node claimed that died is due again when the claim has ended. No lock is held meanwhile.

use serde_json::Value;
use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

use super::one_row;
use crate::domain::mail::Mail;
use crate::domain::values::ids::OrgId;
use crate::error::{Error, Result};

/// The code that the link of a mail carries.
pub struct SealedCode {
    pub code_id: Uuid,
    /// Its text, sealed for the mail.
    pub sealed: Vec<u8>,
    /// When it ends.
    pub expire_time: OffsetDateTime,
}

/// A mail to be written down.
pub struct NewMail<'a> {
    pub mail_id: Uuid,
    pub org_id: OrgId,
    pub recipient: &'a str,
    pub mail: &'a Mail,
    pub code: Option<&'a SealedCode>,
}

/// A mail that was claimed.
pub struct Claimed {
    pub mail_id: Uuid,
    /// Which claim it is.
    pub claim_id: Uuid,
    pub recipient: String,
    template: String,
    parameters: Json<Value>,
    pub sealed: Option<Vec<u8>>,
    pub expire_time: Option<OffsetDateTime>,
    /// Tries, this one included.
    pub attempts: i32,
}

impl Claimed {
    /// What it says.
    ///
    /// # Errors
    /// A newer binary has written one that this one does not know.
    pub fn mail(&self) -> Result<Mail> {
        let kept = serde_json::json!({ "template": self.template, "parameters": self.parameters.0 });
        serde_json::from_value(kept).map_err(Error::internal)
    }
}

/// Writes a mail down, to be sent at once.
pub async fn insert(tx: &mut PgConnection, new: &NewMail<'_>, now: OffsetDateTime) -> Result<()> {
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
    one_row(&query.execute(tx).await?, "writing a mail down")
}

/// The name of a mail, and what it says.
fn parts(mail: &Mail) -> Result<(String, Value)> {
    let mut kept = serde_json::to_value(mail).map_err(Error::internal)?;
    match (kept["template"].take(), kept["parameters"].take()) {
        (Value::String(template), parameters) => Ok((template, parameters)),
        _ => Err(Error::internal("a mail without a name")),
    }
}

/// Whether a mail of the same kind was written down for the mailbox since then.
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

/// The mails that are due, those that wait longest first.
pub async fn find_due(db: impl PgExecutor<'_>, now: OffsetDateTime, limit: i64) -> Result<Vec<Uuid>> {
    let query = sqlx::query_scalar!(
        "select mail_id from outbox where next_time <= $1 order by next_time limit $2",
        now,
        limit
    );
    Ok(query.fetch_all(db).await?)
}

/// Claims a mail until `end`. None when it is not due: another node was first.
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

/// Notes that email sent, whoever else has claimed it meanwhile, and erases its code.
/// False when it was noted before, or is gone.
pub async fn sent(db: impl PgExecutor<'_>, mail_id: Uuid, now: OffsetDateTime) -> Result<bool> {
    let query = sqlx::query!(
        "update outbox set sent_time = $2, dead_time = null, next_time = null, claim_id = null, sealed = null,
                last_error = null
         where mail_id = $1 and sent_time is null",
        mail_id,
        now
    );
    Ok(query.execute(db).await?.rows_affected() == 1)
}

/// Gives a claim back: the mail is tried again then. One that was taken over stays.
pub async fn put_off(
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

/// Gives a mail up. `erase` its code where that is worth nothing any more.
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

/// Takes the mails with these codes back that were not sent: the codes work no more.
pub async fn withdraw(tx: &mut PgConnection, code_ids: &[Uuid]) -> Result<()> {
    let query = sqlx::query!("delete from outbox where code_id = any($1) and sent_time is null", code_ids);
    query.execute(tx).await?;
    Ok(())
}

/// A mail that was not sent, as people look at it.
pub struct Unsent {
    pub mail_id: Uuid,
    pub recipient: String,
    pub template: String,
    pub attempts: i32,
    pub create_time: OffsetDateTime,
    /// When it is tried next; none: it was given up.
    pub next_time: Option<OffsetDateTime>,
    pub last_error: Option<String>,
}

/// The mails that were given up; with `waiting`, those that are still tried as well. Oldest
/// first, after this one.
pub async fn page_unsent(
    db: impl PgExecutor<'_>,
    waiting: bool,
    after: Option<Uuid>,
    size: i64,
) -> Result<Vec<Unsent>> {
    let query = sqlx::query_as!(
        Unsent,
        "select mail_id, recipient, template, attempts, create_time, next_time, last_error from outbox
         where sent_time is null and ($1 or dead_time is not null) and ($2::uuid is null or mail_id > $2)
         order by mail_id limit $3",
        waiting,
        after,
        size
    );
    Ok(query.fetch_all(db).await?)
}

/// Has mails that were given up tried again from the start; none of these ids: all of them.
/// One whose code has ended stays. Returns which they are.
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
