//! `codes`: the stored form of codes that are sent by email.

use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::db::{one_row, outbox, stored_secret};
use crate::domain::sign_in::emailed_codes::{CodePurpose, End, check};
use crate::domain::tokens::secrets::SecretRecord;
use crate::domain::values::ids::OrgId;
use crate::error::{Error, Result};

/// A code to be inserted.
pub struct NewCode<'a> {
    pub code_id: Uuid,
    pub org_id: OrgId,
    /// The account whose password it sets, or the invitation that it accepts.
    pub subject_id: Uuid,
    pub purpose: CodePurpose,
    /// Whether the holder of the mailbox requested it.
    pub asked: bool,
    pub record: &'a SecretRecord,
    /// Whether it goes to the mailbox alone.
    pub proves_mailbox: bool,
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
    /// Whether it went to the mailbox alone: an operator was shown the others.
    pub proves_mailbox: bool,
    pub expire_time: OffsetDateTime,
    end_reason: Option<String>,
}

impl EmailedCode {
    /// Whether it was used, replaced or revoked.
    pub fn has_ended(&self) -> bool {
        self.end_reason.is_some()
    }

    /// The org of the account or invitation that the code is for.
    pub fn org(&self) -> OrgId {
        self.org_id.into()
    }

    /// What the code can be used for.
    pub fn purpose(&self) -> Result<CodePurpose> {
        CodePurpose::parse(&self.purpose)
            .ok_or_else(|| Error::internal("a stored purpose of a code is unknown"))
    }

    /// The stored form of the code string.
    pub fn record(&self) -> Result<SecretRecord> {
        stored_secret(self.mac.clone(), self.pepper_id)
    }

    /// Why the code ended, if it was used or revoked.
    pub fn end(&self) -> Result<Option<End>> {
        let parse =
            |name| End::parse(name).ok_or_else(|| Error::internal("a stored end of a code is unknown"));
        self.end_reason.as_deref().map(parse).transpose()
    }

    /// Refuses a code that is not valid any more.
    ///
    /// # Errors
    /// `TOKEN_REVOKED`, `TOKEN_EXPIRED`.
    pub fn check(&self, now: OffsetDateTime) -> Result<()> {
        check(self.end()?, self.expire_time, now)
    }
}

/// Inserts a code.
pub async fn insert(tx: &mut PgConnection, new: &NewCode<'_>, now: OffsetDateTime) -> Result<()> {
    let query = sqlx::query!(
        "insert into codes (code_id, org_id, subject_id, purpose, asked, mac, pepper_id, create_time, expire_time,
                proves_mailbox)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        new.code_id,
        new.org_id.uuid(),
        new.subject_id,
        new.purpose.name(),
        new.asked,
        &new.record.mac,
        new.record.pepper,
        now,
        new.expire_time,
        new.proves_mailbox
    );
    one_row(&query.execute(tx).await?, "inserting a code")
}

/// Finds the code of this id, whether it is still valid or not.
pub async fn find(db: impl PgExecutor<'_>, code_id: Uuid) -> Result<Option<EmailedCode>> {
    let query = sqlx::query_as!(
        EmailedCode,
        "select code_id, org_id, subject_id, purpose, mac, pepper_id, proves_mailbox, expire_time, end_reason
         from codes where code_id = $1",
        code_id
    );
    Ok(query.fetch_optional(db).await?)
}

/// Ends a valid code, and deletes its email if that was not sent. False if it is not valid any more.
///
/// Of two callers that use a code at once, only one gets true.
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

/// Ends all codes of a subject, which is locked. Returns how many there were.
///
/// Their emails are deleted if they were not sent.
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

/// Whether a code of a subject is valid.
pub async fn has_valid(
    db: impl PgExecutor<'_>,
    org_id: OrgId,
    subject_id: Uuid,
    now: OffsetDateTime,
) -> Result<bool> {
    let query = sqlx::query_scalar!(
        r#"select exists (select 1 from codes
                          where org_id = $1 and subject_id = $2 and end_time is null and expire_time > $3) as "is!""#,
        org_id.uuid(),
        subject_id,
        now
    );
    Ok(query.fetch_one(db).await?)
}

/// Ends all codes of these subjects of an org. Returns those that had one.
///
/// Their emails are deleted if they were not sent.
pub async fn end_all_of(
    tx: &mut PgConnection,
    org_id: OrgId,
    subjects: &[Uuid],
    end: End,
    now: OffsetDateTime,
) -> Result<Vec<Uuid>> {
    let query = sqlx::query!(
        "update codes set end_time = $3, end_reason = $4
         where org_id = $1 and subject_id = any($2) and end_time is null and expire_time > $3
         returning code_id, subject_id",
        org_id.uuid(),
        subjects,
        now,
        end.name()
    );
    let ended = query.fetch_all(&mut *tx).await?;
    let codes: Vec<Uuid> = ended.iter().map(|row| row.code_id).collect();
    outbox::withdraw(tx, &codes).await?;
    Ok(ended.into_iter().map(|row| row.subject_id).collect())
}

/// How many codes of a subject, which is locked, the holder of its mailbox has requested since then.
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
