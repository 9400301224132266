//! `token_secrets`: the stored form of the secrets of a token, and their use.

use std::sync::Arc;

use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

use super::keys;
use crate::crypto::public_keys::KeyPlace;
use crate::db::one_row;
use crate::domain::tokens::public_key::PublicKey;
use crate::domain::tokens::secrets::SecretRecord;
use crate::domain::values::ids::{AccountId, OrgId, TokenId};
use crate::error::{Error, Result};

/// What is stored of a secret, or in its place.
pub enum NewProof {
    /// The record of a token string, with the part of that by which people recognise it.
    Secret(SecretRecord, String),
    /// A public key, with its seal for the place where it is stored.
    Key(Arc<PublicKey>, Vec<u8>),
}

impl NewProof {
    /// By what people recognise it: a part of the token string, or the thumbprint of the key.
    pub fn hint(&self) -> String {
        match self {
            Self::Secret(_, hint) => hint.clone(),
            Self::Key(key, _) => key.thumbprint().to_string(),
        }
    }

    /// The thumbprint of the key, if it is one.
    pub fn thumbprint(&self) -> Option<String> {
        match self {
            Self::Secret(..) => None,
            Self::Key(..) => Some(self.hint()),
        }
    }
}

/// A secret to be inserted.
pub struct NewSecret<'a> {
    pub number: i32,
    pub proof: &'a NewProof,
    /// The other token or session that is responsible for it because it rotated this token, if any.
    pub made_by: Option<Uuid>,
    /// Whether the token rotated itself.
    pub made_by_itself: bool,
}

/// Inserts another secret of a token.
///
/// # Errors
/// `RESOURCE_EXISTS` for a public key that another active token has.
pub async fn insert(
    tx: &mut PgConnection,
    org_id: OrgId,
    token_id: TokenId,
    new: &NewSecret<'_>,
    now: OffsetDateTime,
) -> Result<()> {
    let (record, key) = match new.proof {
        NewProof::Secret(record, _) => (Some(record), None),
        NewProof::Key(key, sealed) => (None, Some((key, sealed))),
    };
    if let Some((key, _)) = key {
        keys::claim(&mut *tx, KeyPlace { org_id, token_id, number: new.number }, key, now).await?;
    }
    let query = sqlx::query!(
        "insert into token_secrets (org_id, token_id, secret_number, mac, pepper_id, hint, made_by, create_time,
                                    made_by_itself, public_jwk, sealed)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        org_id.uuid(),
        token_id.uuid(),
        new.number,
        record.map(|record| record.mac.as_slice()),
        record.map(|record| record.pepper),
        new.proof.hint(),
        new.made_by,
        now,
        new.made_by_itself,
        key.map(|(key, _)| key.jwk()),
        key.map(|(_, sealed)| sealed.as_slice())
    );
    one_row(&query.execute(tx).await?, "inserting a secret")
}

/// Locks the token whose secrets are to change, and returns its account.
///
/// Transactions that rotate or revoke the token at once take turns.
pub async fn lock(tx: &mut PgConnection, org_id: OrgId, token_id: TokenId) -> Result<Option<AccountId>> {
    let query = sqlx::query_scalar!(
        "select account_id from tokens where org_id = $1 and token_id = $2 for no key update",
        org_id.uuid(),
        token_id.uuid()
    );
    Ok(query.fetch_optional(tx).await?.map(AccountId::from))
}

/// Increments the revision of the token, whose row is locked, because its secrets have changed.
pub async fn revise(tx: &mut PgConnection, org_id: OrgId, token_id: TokenId) -> Result<()> {
    let query = sqlx::query!(
        "update tokens set revision = revision + 1 where org_id = $1 and token_id = $2",
        org_id.uuid(),
        token_id.uuid()
    );
    one_row(&query.execute(tx).await?, "revising a token")
}

/// Finds the other token or session that is responsible for the newest secret, if any.
pub async fn find_maker(tx: &mut PgConnection, org_id: OrgId, token_id: TokenId) -> Result<Option<Uuid>> {
    let query = sqlx::query_scalar!(
        "select made_by from token_secrets where org_id = $1 and token_id = $2 order by secret_number desc limit 1",
        org_id.uuid(),
        token_id.uuid()
    );
    Ok(query.fetch_optional(tx).await?.flatten())
}

/// Finds the numbers of the secrets that these tokens created by rotating themselves.
pub async fn find_made_by_themselves(
    tx: &mut PgConnection,
    org_id: OrgId,
    token_ids: &[TokenId],
) -> Result<Vec<(TokenId, i32)>> {
    let ids: Vec<Uuid> = token_ids.iter().map(|id| id.uuid()).collect();
    let query = sqlx::query!(
        "select token_id, secret_number from token_secrets
         where org_id = $1 and token_id = any($2) and made_by_itself",
        org_id.uuid(),
        &ids
    );
    let rows = query.fetch_all(tx).await?;
    Ok(rows.into_iter().map(|row| (row.token_id.into(), row.secret_number)).collect())
}

/// Deletes the expired secrets of a token, because its next rotation begins.
pub async fn delete_expired(
    tx: &mut PgConnection,
    org_id: OrgId,
    token_id: TokenId,
    now: OffsetDateTime,
) -> Result<()> {
    let query = sqlx::query!(
        "delete from token_secrets where org_id = $1 and token_id = $2 and expire_time <= $3
         returning token_id, hint",
        org_id.uuid(),
        token_id.uuid(),
        now
    );
    let deleted = query.fetch_all(&mut *tx).await?;
    let deleted: Vec<_> = deleted.into_iter().map(|row| (row.token_id, row.hint)).collect();
    keys::free(tx, &deleted).await
}

/// Deletes the secrets that expired before this time. Returns how many there were.
pub async fn sweep(tx: &mut PgConnection, expired_before: OffsetDateTime) -> Result<u64> {
    let query = sqlx::query!(
        "delete from token_secrets where expire_time < $1 returning token_id, hint",
        expired_before
    );
    let deleted = query.fetch_all(&mut *tx).await?;
    let deleted: Vec<_> = deleted.into_iter().map(|row| (row.token_id, row.hint)).collect();
    keys::free(tx, &deleted).await?;
    Ok(deleted.len() as u64)
}

/// Sets when these secrets expire; none means with their token.
pub async fn set_end(
    tx: &mut PgConnection,
    org_id: OrgId,
    token_id: TokenId,
    numbers: &[i32],
    end: Option<OffsetDateTime>,
) -> Result<()> {
    let query = sqlx::query!(
        "update token_secrets set expire_time = $4
         where org_id = $1 and token_id = $2 and secret_number = any($3)",
        org_id.uuid(),
        token_id.uuid(),
        numbers,
        end
    );
    let rows = query.execute(tx).await?.rows_affected();
    if rows == numbers.len() as u64 {
        return Ok(());
    }
    Err(Error::internal(format!("setting the expiry of {} secrets touched {rows} rows", numbers.len())))
}

/// Finds the tokens with a valid secret that these tokens are responsible for, as they rotated it.
///
/// Searches all orgs, because the token of an operator can rotate tokens in any.
pub async fn find_made_by(
    db: impl PgExecutor<'_>,
    makers: &[Uuid],
    now: OffsetDateTime,
) -> Result<Vec<(OrgId, TokenId)>> {
    let query = sqlx::query!(
        "select org_id, token_id from token_secrets
         where made_by = any($1) and (expire_time is null or expire_time > $2)
         order by org_id, token_id",
        makers,
        now
    );
    let rows = query.fetch_all(db).await?;
    Ok(rows.into_iter().map(|row| (row.org_id.into(), row.token_id.into())).collect())
}

/// The uses of one secret since the last write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretUse {
    pub org_id: OrgId,
    pub token_id: TokenId,
    pub number: i32,
    /// The time of the last use.
    pub time: OffsetDateTime,
    pub address: Option<String>,
    pub count: i64,
}

/// Stores the uses of many secrets in one statement. Each secret occurs once.
///
/// A stored time only moves forward, whatever this node or another one wrote before, and the counts add
/// up. A secret that has been deleted is skipped.
pub async fn record_uses(db: impl PgExecutor<'_>, uses: &[SecretUse]) -> Result<()> {
    fn column<T>(uses: &[SecretUse], value: impl Fn(&SecretUse) -> T) -> Vec<T> {
        uses.iter().map(value).collect()
    }
    let query = sqlx::query!(
        r#"update token_secrets s
           set last_use_address = case when s.last_use_time > u.time then s.last_use_address else u.address end,
               last_use_time = greatest(s.last_use_time, u.time),
               use_count = coalesce(s.use_count, 0) + u.count
           from unnest($1::uuid[], $2::uuid[], $3::integer[], $4::timestamptz[], $5::text[], $6::bigint[])
                as u (org_id, token_id, secret_number, time, address, count)
           where s.org_id = u.org_id and s.token_id = u.token_id and s.secret_number = u.secret_number"#,
        &column(uses, |used| used.org_id.uuid()),
        &column(uses, |used| used.token_id.uuid()),
        &column(uses, |used| used.number),
        &column(uses, |used| used.time),
        &column(uses, |used| used.address.clone()) as &[Option<String>],
        &column(uses, |used| used.count)
    );
    query.execute(db).await?;
    Ok(())
}
