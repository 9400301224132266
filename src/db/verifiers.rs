//! `verifiers`: what the programs that check JWTs offline hold, as they last said.

use sqlx::{PgConnection, PgExecutor};
use time::{Duration, OffsetDateTime};

use super::one_row;
use crate::domain::limits::Limit;
use crate::domain::paging::{COUNTED, Page};
use crate::domain::values::ids::{AccountId, CredentialId, OrgId};
use crate::error::Result;

/// How long a verifier is known that says nothing.
pub const RETENTION: Duration = Duration::hours(1);
/// Between a credential's id and the name.
const SEPARATOR: char = '/';

/// What a verifier says that it holds.
pub struct Acknowledgement<'a> {
    pub org_id: OrgId,
    pub credential_id: CredentialId,
    pub account_id: AccountId,
    pub name: &'a str,
    /// When the checkpoint was made that it has applied.
    pub cursor_time: Option<OffsetDateTime>,
    pub held_key_ids: &'a [String],
}

/// A verifier, as it is stored.
#[derive(Debug)]
pub struct Verifier {
    pub credential_id: String,
    pub name: String,
    pub account_id: uuid::Uuid,
    pub cursor_time: Option<OffsetDateTime>,
    pub held_key_ids: Vec<String>,
    pub seen_time: OffsetDateTime,
}

/// Stores what a verifier says.
///
/// # Errors
/// `LIMIT_REACHED` for a new one where its credential or org has too many. Where several begin at the same moment a
/// few more may be stored.
pub async fn acknowledge(
    db: &mut PgConnection,
    said: &Acknowledgement<'_>,
    now: OffsetDateTime,
) -> Result<()> {
    let credential_id = said.credential_id.to_string();
    let known = sqlx::query!(
        "update verifiers set account_id = $4, cursor_time = $5, held_key_ids = $6, seen_time = $7
         where org_id = $1 and credential_id = $2 and name = $3",
        said.org_id.uuid(),
        credential_id,
        said.name,
        said.account_id.uuid(),
        said.cursor_time,
        said.held_key_ids,
        now
    );
    if known.execute(&mut *db).await?.rows_affected() == 1 {
        return Ok(());
    }
    let count = sqlx::query!(
        r#"select count(*) as "of_org!", count(*) filter (where credential_id = $2) as "of_credential!"
           from verifiers where org_id = $1 and seen_time > $3"#,
        said.org_id.uuid(),
        credential_id,
        now - RETENTION
    );
    let count = count.fetch_one(&mut *db).await?;
    Limit::VERIFIERS_OF_CREDENTIAL.refuse_above(count.of_credential + 1)?;
    Limit::VERIFIERS_OF_ORG.refuse_above(count.of_org + 1)?;
    let new = sqlx::query!(
        "insert into verifiers (org_id, credential_id, name, account_id, cursor_time, held_key_ids, seen_time)
         values ($1, $2, $3, $4, $5, $6, $7)
         on conflict (org_id, credential_id, name) do update
         set account_id = excluded.account_id, cursor_time = excluded.cursor_time,
             held_key_ids = excluded.held_key_ids, seen_time = excluded.seen_time",
        said.org_id.uuid(),
        credential_id,
        said.name,
        said.account_id.uuid(),
        said.cursor_time,
        said.held_key_ids,
        now
    );
    one_row(&new.execute(db).await?, "storing a verifier")
}

/// A place in a list: a credential's id and a name.
pub type VerifierPosition = (String, String);

/// Reads the key of a page.
pub fn parse_place(text: &str) -> Option<VerifierPosition> {
    let (credential_id, name) = text.split_once(SEPARATOR)?;
    Some((credential_id.to_owned(), name.to_owned()))
}

/// A page of the verifiers of an org, by credential and name.
pub async fn page(
    db: &mut PgConnection,
    org_id: OrgId,
    after: Option<VerifierPosition>,
    size: i64,
    now: OffsetDateTime,
) -> Result<Page<Verifier>> {
    let (credential_id, name) = after.unwrap_or_default();
    let rows = sqlx::query_as!(
        Verifier,
        "select credential_id, name, account_id, cursor_time, held_key_ids, seen_time from verifiers
         where org_id = $1 and (credential_id, name) > ($2, $3) and seen_time > $4
         order by credential_id, name limit $5",
        org_id.uuid(),
        credential_id,
        name,
        now - RETENTION,
        size + 1
    );
    let rows = rows.fetch_all(&mut *db).await?;
    let counted = sqlx::query_scalar!(
        r#"select count(*) as "n!" from
           (select 1 from verifiers where org_id = $1 and seen_time > $2 limit $3) few"#,
        org_id.uuid(),
        now - RETENTION,
        COUNTED + 1
    );
    let counted = counted.fetch_one(db).await?;
    Ok(Page::of(rows, size, counted, |verifier| {
        format!("{}{SEPARATOR}{}", verifier.credential_id, verifier.name)
    }))
}

/// The verifiers of an org that hold a key, at most `limit` of them.
pub async fn find_holding(
    db: &mut PgConnection,
    org_id: OrgId,
    kid: &str,
    limit: i64,
    now: OffsetDateTime,
) -> Result<Vec<Verifier>> {
    let rows = sqlx::query_as!(
        Verifier,
        "select credential_id, name, account_id, cursor_time, held_key_ids, seen_time from verifiers
         where org_id = $1 and $2 = any(held_key_ids) and seen_time > $3
         order by credential_id, name limit $4",
        org_id.uuid(),
        kid,
        now - RETENTION,
        limit
    );
    Ok(rows.fetch_all(db).await?)
}

/// How many verifiers of all orgs hold a key.
pub async fn count_holding(db: &mut PgConnection, kid: &str, now: OffsetDateTime) -> Result<i64> {
    let count = sqlx::query_scalar!(
        r#"select count(*) as "n!" from verifiers where $1 = any(held_key_ids) and seen_time > $2"#,
        kid,
        now - RETENTION
    );
    Ok(count.fetch_one(db).await?)
}

/// Deletes the verifiers that have said nothing for long.
pub async fn sweep(db: impl PgExecutor<'_>, now: OffsetDateTime) -> Result<u64> {
    let query = sqlx::query!("delete from verifiers where seen_time <= $1", now - RETENTION);
    Ok(query.execute(db).await?.rows_affected())
}
