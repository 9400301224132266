//! Everything that is sealed under the master key, table by table: what to re-seal when that key
//! changes. A test compares the list with the columns of the schema.

use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use crate::crypto::seal::SealPurpose;
use crate::error::{Error, Result};

/// A table with a column `sealed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealed {
    Peppers,
    SigningKeys,
    Outbox,
    Passwords,
    PublicKeys,
    Issuers,
    FederationRules,
}

impl Sealed {
    pub const ALL: [Self; 7] = [
        Self::FederationRules,
        Self::Issuers,
        Self::Outbox,
        Self::Passwords,
        Self::Peppers,
        Self::SigningKeys,
        Self::PublicKeys,
    ];

    /// Its name in the schema.
    pub const fn table(self) -> &'static str {
        match self {
            Self::Peppers => "peppers",
            Self::SigningKeys => "signing_keys",
            Self::Outbox => "outbox",
            Self::Passwords => "passwords",
            Self::PublicKeys => "token_secrets",
            Self::Issuers => "issuers",
            Self::FederationRules => "federation_rules",
        }
    }

    /// What its values are sealed for.
    pub const fn purpose(self) -> SealPurpose {
        match self {
            Self::Peppers => SealPurpose::Pepper,
            Self::SigningKeys => SealPurpose::SigningKey,
            Self::Outbox => SealPurpose::Mail,
            Self::Passwords => SealPurpose::Password,
            Self::PublicKeys => SealPurpose::PublicKey,
            Self::Issuers | Self::FederationRules => SealPurpose::Federation,
        }
    }
}

/// A sealed value, with the id that it is bound to.
pub struct SealedRow {
    pub id: String,
    pub sealed: Vec<u8>,
}

impl SealedRow {
    /// Its name in messages.
    pub fn name(&self, table: Sealed) -> String {
        match table {
            Sealed::Peppers => format!("pepper {}", self.id),
            Sealed::SigningKeys => format!("signing_key {}", self.id),
            Sealed::Outbox => format!("mail {}", self.id),
            Sealed::Passwords => format!("password {}", self.id),
            Sealed::PublicKeys => format!("public_key {}", self.id),
            // Its id begins with what it is.
            Sealed::Issuers | Sealed::FederationRules => format!("federation {}", self.id),
        }
    }
}

/// A page of a table's rows, in order of their ids, with what comes after `limit`; those of
/// passwords are read by `$passwords`, public keys by `$keys`, and what is federation's by `$issuers` and `$rules`.
macro_rules! select_page {
    ($db:expr, $table:expr, $after:expr, $size:expr, $lock:literal, $passwords:expr, $keys:expr, $issuers:expr,
     $rules:expr) => {
        match $table {
            Sealed::Peppers => {
                let query = sqlx::query_as!(
                    SealedRow,
                    r#"select pepper_id::text as "id!", sealed from peppers
                   where $1::integer is null or pepper_id > $1 order by pepper_id limit $2"# + $lock,
                    number($after)?,
                    $size
                );
                query.fetch_all($db).await?
            }
            Sealed::SigningKeys => {
                // Nothing of a revoked one is stored.
                let query = sqlx::query_as!(
                    SealedRow,
                    "select kid as id, sealed from signing_keys
                 where state <> 'REVOKED' and ($1::text is null or kid > $1) order by kid limit $2" + $lock,
                    $after,
                    $size
                );
                query.fetch_all($db).await?
            }
            Sealed::Outbox => {
                // The code of a sent one is erased.
                let query = sqlx::query_as!(
                    SealedRow,
                    r#"select mail_id::text as "id!", sealed as "sealed!" from outbox
                   where sealed is not null and ($1::uuid is null or mail_id > $1) order by mail_id limit $2"# + $lock,
                    uuid($after)?,
                    $size
                );
                query.fetch_all($db).await?
            }
            Sealed::Passwords => $passwords.await?,
            Sealed::PublicKeys => $keys.await?,
            Sealed::Issuers => $issuers.await?,
            Sealed::FederationRules => $rules.await?,
        }
    };
}

/// The rows after this id.
pub async fn page(
    db: impl PgExecutor<'_>,
    table: Sealed,
    after: Option<&str>,
    size: i64,
) -> Result<Vec<SealedRow>> {
    Ok(select_page!(
        db,
        table,
        after,
        size,
        "",
        page_of_passwords(db, after, size),
        page_of_keys(db, after, size),
        page_of_issuers(db, after, size),
        page_of_rules(db, after, size)
    ))
}

async fn page_of_passwords(
    db: impl PgExecutor<'_>,
    after: Option<&str>,
    size: i64,
) -> Result<Vec<SealedRow>> {
    let (org_id, account_id) = owner(after)?.unzip();
    let query = sqlx::query_as!(
        SealedRow,
        r#"select org_id::text || '/' || account_id::text as "id!", sealed from passwords
                   where $1::uuid is null or (org_id, account_id) > ($1, $2::uuid)
                   order by org_id, account_id limit $3"#,
        org_id,
        account_id,
        size
    );
    Ok(query.fetch_all(db).await?)
}

/// The rows after this id, locked against changes until the transaction ends.
pub async fn lock_page(
    tx: &mut PgConnection,
    table: Sealed,
    after: Option<&str>,
    size: i64,
) -> Result<Vec<SealedRow>> {
    Ok(select_page!(
        &mut *tx,
        table,
        after,
        size,
        " for update",
        lock_page_of_passwords(tx, after, size),
        lock_page_of_keys(tx, after, size),
        lock_page_of_issuers(tx, after, size),
        lock_page_of_rules(tx, after, size)
    ))
}

/// One org at a time: rows are locked where the org is named.
async fn lock_page_of_passwords(
    tx: &mut PgConnection,
    after: Option<&str>,
    size: i64,
) -> Result<Vec<SealedRow>> {
    let (org_id, account_id) = owner(after)?.unzip();
    let next = sqlx::query_scalar!(
        "select org_id from passwords where $1::uuid is null or (org_id, account_id) > ($1, $2::uuid)
                 order by org_id, account_id limit 1",
        org_id,
        account_id
    );
    let Some(next) = next.fetch_optional(&mut *tx).await? else { return Ok(Vec::new()) };
    let query = sqlx::query_as!(
        SealedRow,
        r#"select org_id::text || '/' || account_id::text as "id!", sealed from passwords
                   where org_id = $1 and ($2::uuid is null or account_id > $2)
                   order by account_id limit $3 for update"#,
        next,
        account_id.filter(|_| org_id == Some(next)),
        size
    );
    Ok(query.fetch_all(tx).await?)
}

async fn page_of_keys(db: impl PgExecutor<'_>, after: Option<&str>, size: i64) -> Result<Vec<SealedRow>> {
    let (org_id, token_id, number) = place(after)?;
    let query = sqlx::query_as!(
        SealedRow,
        r#"select org_id::text || '/' || token_id::text || '/' || secret_number::text as "id!", sealed as "sealed!"
           from token_secrets
           where sealed is not null
             and ($1::uuid is null or (org_id, token_id, secret_number) > ($1, $2::uuid, $3::integer))
           order by org_id, token_id, secret_number limit $4"#,
        org_id,
        token_id,
        number,
        size
    );
    Ok(query.fetch_all(db).await?)
}

/// One org at a time, as [`lock_page_of_passwords`].
async fn lock_page_of_keys(tx: &mut PgConnection, after: Option<&str>, size: i64) -> Result<Vec<SealedRow>> {
    let (org_id, token_id, number) = place(after)?;
    let next = sqlx::query_scalar!(
        "select org_id from token_secrets
         where sealed is not null
           and ($1::uuid is null or (org_id, token_id, secret_number) > ($1, $2::uuid, $3::integer))
         order by org_id, token_id, secret_number limit 1",
        org_id,
        token_id,
        number
    );
    let Some(next) = next.fetch_optional(&mut *tx).await? else { return Ok(Vec::new()) };
    let is_same = org_id == Some(next);
    let query = sqlx::query_as!(
        SealedRow,
        r#"select org_id::text || '/' || token_id::text || '/' || secret_number::text as "id!", sealed as "sealed!"
           from token_secrets
           where org_id = $1 and sealed is not null
             and ($2::uuid is null or (token_id, secret_number) > ($2, $3::integer))
           order by token_id, secret_number limit $4 for update"#,
        next,
        token_id.filter(|_| is_same),
        number.filter(|_| is_same),
        size
    );
    Ok(query.fetch_all(tx).await?)
}

async fn page_of_issuers(db: impl PgExecutor<'_>, after: Option<&str>, size: i64) -> Result<Vec<SealedRow>> {
    let (org_id, issuer_id) = federated(after)?.unzip();
    let query = sqlx::query_as!(
        SealedRow,
        r#"select 'issuer/' || org_id::text || '/' || issuer_id::text as "id!", sealed from issuers
           where $1::uuid is null or (org_id, issuer_id) > ($1, $2::uuid) order by org_id, issuer_id limit $3"#,
        org_id,
        issuer_id,
        size
    );
    Ok(query.fetch_all(db).await?)
}

/// One org at a time, as [`lock_page_of_passwords`].
async fn lock_page_of_issuers(
    tx: &mut PgConnection,
    after: Option<&str>,
    size: i64,
) -> Result<Vec<SealedRow>> {
    let (org_id, issuer_id) = federated(after)?.unzip();
    let next = sqlx::query_scalar!(
        "select org_id from issuers where $1::uuid is null or (org_id, issuer_id) > ($1, $2::uuid)
         order by org_id, issuer_id limit 1",
        org_id,
        issuer_id
    );
    let Some(next) = next.fetch_optional(&mut *tx).await? else { return Ok(Vec::new()) };
    let query = sqlx::query_as!(
        SealedRow,
        r#"select 'issuer/' || org_id::text || '/' || issuer_id::text as "id!", sealed from issuers
           where org_id = $1 and ($2::uuid is null or issuer_id > $2) order by issuer_id limit $3 for update"#,
        next,
        issuer_id.filter(|_| org_id == Some(next)),
        size
    );
    Ok(query.fetch_all(tx).await?)
}

async fn page_of_rules(db: impl PgExecutor<'_>, after: Option<&str>, size: i64) -> Result<Vec<SealedRow>> {
    let (org_id, rule_id) = federated(after)?.unzip();
    let query = sqlx::query_as!(
        SealedRow,
        r#"select 'rule/' || org_id::text || '/' || rule_id::text as "id!", sealed from federation_rules
           where $1::uuid is null or (org_id, rule_id) > ($1, $2::uuid) order by org_id, rule_id limit $3"#,
        org_id,
        rule_id,
        size
    );
    Ok(query.fetch_all(db).await?)
}

/// One org at a time, as [`lock_page_of_passwords`].
async fn lock_page_of_rules(tx: &mut PgConnection, after: Option<&str>, size: i64) -> Result<Vec<SealedRow>> {
    let (org_id, rule_id) = federated(after)?.unzip();
    let next = sqlx::query_scalar!(
        "select org_id from federation_rules where $1::uuid is null or (org_id, rule_id) > ($1, $2::uuid)
         order by org_id, rule_id limit 1",
        org_id,
        rule_id
    );
    let Some(next) = next.fetch_optional(&mut *tx).await? else { return Ok(Vec::new()) };
    let query = sqlx::query_as!(
        SealedRow,
        r#"select 'rule/' || org_id::text || '/' || rule_id::text as "id!", sealed from federation_rules
           where org_id = $1 and ($2::uuid is null or rule_id > $2) order by rule_id limit $3 for update"#,
        next,
        rule_id.filter(|_| org_id == Some(next)),
        size
    );
    Ok(query.fetch_all(tx).await?)
}

/// Replaces these values with others. The rows are locked.
pub async fn replace(tx: &mut PgConnection, table: Sealed, ids: &[String], anew: &[Vec<u8>]) -> Result<()> {
    let done = match table {
        Sealed::Peppers => {
            let query = sqlx::query!(
                "update peppers p set sealed = n.sealed
                 from unnest($1::text[], $2::bytea[]) as n (id, sealed) where p.pepper_id = n.id::integer",
                ids,
                anew
            );
            query.execute(tx).await?
        }
        Sealed::SigningKeys => {
            let query = sqlx::query!(
                "update signing_keys k set sealed = n.sealed
                 from unnest($1::text[], $2::bytea[]) as n (id, sealed) where k.kid = n.id",
                ids,
                anew
            );
            query.execute(tx).await?
        }
        Sealed::Outbox => {
            let query = sqlx::query!(
                "update outbox m set sealed = n.sealed
                 from unnest($1::text[], $2::bytea[]) as n (id, sealed) where m.mail_id = n.id::uuid",
                ids,
                anew
            );
            query.execute(tx).await?
        }
        Sealed::Passwords => {
            let owners: Vec<_> = ids.iter().map(|id| owner(Some(id))).collect::<Result<_>>()?;
            let (orgs, accounts): (Vec<Uuid>, Vec<Uuid>) = owners.into_iter().flatten().unzip();
            let query = sqlx::query!(
                "update passwords p set sealed = n.sealed
                 from unnest($1::uuid[], $2::uuid[], $3::bytea[]) as n (org_id, account_id, sealed)
                 where p.org_id = n.org_id and p.account_id = n.account_id",
                &orgs,
                &accounts,
                anew
            );
            query.execute(tx).await?
        }
        Sealed::PublicKeys => {
            let (mut orgs, mut tokens, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
            for id in ids {
                let (org_id, token_id, number) = place(Some(id))?;
                orgs.extend(org_id);
                tokens.extend(token_id);
                numbers.extend(number);
            }
            let query = sqlx::query!(
                "update token_secrets s set sealed = n.sealed
                 from unnest($1::uuid[], $2::uuid[], $3::integer[], $4::bytea[])
                      as n (org_id, token_id, secret_number, sealed)
                 where s.org_id = n.org_id and s.token_id = n.token_id and s.secret_number = n.secret_number",
                &orgs,
                &tokens,
                &numbers,
                anew
            );
            query.execute(tx).await?
        }
        Sealed::Issuers => {
            let (orgs, issuers) = all_federated(ids)?;
            let query = sqlx::query!(
                "update issuers i set sealed = n.sealed
                 from unnest($1::uuid[], $2::uuid[], $3::bytea[]) as n (org_id, issuer_id, sealed)
                 where i.org_id = n.org_id and i.issuer_id = n.issuer_id",
                &orgs,
                &issuers,
                anew
            );
            query.execute(tx).await?
        }
        Sealed::FederationRules => {
            let (orgs, rules) = all_federated(ids)?;
            let query = sqlx::query!(
                "update federation_rules r set sealed = n.sealed
                 from unnest($1::uuid[], $2::uuid[], $3::bytea[]) as n (org_id, rule_id, sealed)
                 where r.org_id = n.org_id and r.rule_id = n.rule_id",
                &orgs,
                &rules,
                anew
            );
            query.execute(tx).await?
        }
    };
    match done.rows_affected() {
        rows if rows == ids.len() as u64 => Ok(()),
        rows => Err(Error::internal(format!("sealing anew touched {rows} rows instead of {}", ids.len()))),
    }
}

fn number(after: Option<&str>) -> Result<Option<i32>> {
    after.map(|id| id.parse().map_err(Error::internal)).transpose()
}

fn uuid(after: Option<&str>) -> Result<Option<Uuid>> {
    after.map(|id| id.parse().map_err(Error::internal)).transpose()
}

/// The two halves of the id of a password.
fn owner(id: Option<&str>) -> Result<Option<(Uuid, Uuid)>> {
    let halves =
        id.map(|id| id.split_once('/').ok_or_else(|| Error::internal("the id of a password is damaged")));
    let owner = |(org, account): (&str, &str)| -> Result<(Uuid, Uuid)> {
        Ok((org.parse().map_err(Error::internal)?, account.parse().map_err(Error::internal)?))
    };
    halves.transpose()?.map(owner).transpose()
}

/// The parts of the id of a public key, which is that of its seal.
fn place(id: Option<&str>) -> Result<(Option<Uuid>, Option<Uuid>, Option<i32>)> {
    let Some(id) = id else { return Ok((None, None, None)) };
    let mut parts = id.split('/');
    let mut part = || parts.next().ok_or_else(|| Error::internal("the id of a public key is damaged"));
    let (org, token, number) = (part()?, part()?, part()?);
    Ok((
        Some(org.parse().map_err(Error::internal)?),
        Some(token.parse().map_err(Error::internal)?),
        Some(number.parse().map_err(Error::internal)?),
    ))
}

/// The org and the id in the id of the seal of an issuer or a rule, which follow what it is.
fn federated(id: Option<&str>) -> Result<Option<(Uuid, Uuid)>> {
    owner(id.map(|id| id.split_once('/').map_or(id, |(_, rest)| rest)))
}

fn all_federated(ids: &[String]) -> Result<(Vec<Uuid>, Vec<Uuid>)> {
    let parts: Vec<_> = ids.iter().map(|id| federated(Some(id))).collect::<Result<_>>()?;
    Ok(parts.into_iter().flatten().unzip())
}
