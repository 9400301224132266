//! `codes`: what is kept of codes that travel by mail.

use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::db::{one_row, outbox};
use crate::domain::sign_in::emailed_codes::{CodePurpose, End, check};
use crate::domain::tokens::secrets::SecretRecord;
use crate::domain::values::ids::OrgId;
use crate::error::{Error, Result};

/// A code to be kept.
pub struct NewCode<'a> {
    pub code_id: Uuid,
    pub org_id: OrgId,
    /// The account whose password it sets, or the invitation that it accepts.
    pub subject_id: Uuid,
    pub purpose: CodePurpose,
    /// Whether whoever has the mailbox asked for it.
    pub asked: bool,
    pub record: &'a SecretRecord,
    pub expire_time: OffsetDateTime,
}

/// A code, as it is stored.
pub struct EmailedCode {
    pub code_id: Uuid,
    org_id: Uuid,
    /// The account whose password it sets, or the invitation that it accepts.
    pub subject_id: Uuid,
    purpose: String,
    mac: Vec<u8>,
    pepper_id: i32,
    pub expire_time: OffsetDateTime,
    end_reason: Option<String>,
}

impl EmailedCode {
    /// Whose it is.
    pub fn org(&self) -> OrgId {
        self.org_id.into()
    }

    /// What it is for.
    pub fn purpose(&self) -> Result<CodePurpose> {
        CodePurpose::parse(&self.purpose)
            .ok_or_else(|| Error::internal("a stored purpose of a code is unknown"))
    }

    /// What is kept of its text.
    pub fn record(&self) -> SecretRecord {
        SecretRecord { mac: self.mac.clone(), pepper: self.pepper_id }
    }

    /// Why it ended, if it did.
    pub fn end(&self) -> Result<Option<End>> {
        let parse =
            |name| End::parse(name).ok_or_else(|| Error::internal("a stored end of a code is unknown"));
        self.end_reason.as_deref().map(parse).transpose()
    }

    /// Refuses one that works no more.
    ///
    /// # Errors
    /// `TOKEN_REVOKED`, `TOKEN_EXPIRED`.
    pub fn check(&self, now: OffsetDateTime) -> Result<()> {
        check(self.end()?, self.expire_time, now)
    }
}

/// Keeps a code.
pub async fn insert(tx: &mut PgConnection, new: &NewCode<'_>, now: OffsetDateTime) -> Result<()> {
    let query = sqlx::query!(
        "insert into codes (code_id, org_id, subject_id, purpose, asked, mac, pepper_id, create_time, expire_time)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        new.code_id,
        new.org_id.uuid(),
        new.subject_id,
        new.purpose.name(),
        new.asked,
        new.record.mac,
        new.record.pepper,
        now,
        new.expire_time
    );
    one_row(&query.execute(tx).await?, "keeping a code")
}

/// The code of this id, ended or not.
pub async fn find(db: impl PgExecutor<'_>, code_id: Uuid) -> Result<Option<EmailedCode>> {
    let query = sqlx::query_as!(
        EmailedCode,
        "select code_id, org_id, subject_id, purpose, mac, pepper_id, expire_time, end_reason
         from codes where code_id = $1",
        code_id
    );
    Ok(query.fetch_optional(db).await?)
}

/// Ends a code that works, and takes its mail back if that was not sent. False when it works
/// no more: of two that use it at once, one does.
pub async fn end(tx: &mut PgConnection, code_id: Uuid, end: End, now: OffsetDateTime) -> Result<bool> {
    let query = sqlx::query!(
        "update codes set end_time = $2, end_reason = $3
         where code_id = $1 and end_time is null and expire_time > $2",
        code_id,
        now,
        end.name()
    );
    let ended = query.execute(&mut *tx).await?.rows_affected() == 1;
    outbox::withdraw(tx, &[code_id]).await?;
    Ok(ended)
}

/// Ends all codes of a subject, and takes their mails back that were not sent. Returns how many
/// there were. The subject is locked.
pub async fn end_all(
    tx: &mut PgConnection,
    org_id: OrgId,
    subject_id: Uuid,
    end: End,
    now: OffsetDateTime,
) -> Result<usize> {
    let query = sqlx::query_scalar!(
        "update codes set end_time = $3, end_reason = $4
         where org_id = $1 and subject_id = $2 and end_time is null
         returning code_id",
        org_id.uuid(),
        subject_id,
        now,
        end.name()
    );
    let ended = query.fetch_all(&mut *tx).await?;
    outbox::withdraw(tx, &ended).await?;
    Ok(ended.len())
}

/// How many codes were asked for by whoever has the mailbox, since then. The subject is locked.
pub async fn count_asked(
    tx: &mut PgConnection,
    org_id: OrgId,
    subject_id: Uuid,
    since: OffsetDateTime,
) -> Result<i64> {
    let query = sqlx::query_scalar!(
        r#"select count(*) as "n!" from codes
           where org_id = $1 and subject_id = $2 and asked and create_time > $3"#,
        org_id.uuid(),
        subject_id,
        since
    );
    Ok(query.fetch_one(tx).await?)
}
