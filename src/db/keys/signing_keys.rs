//! `signing_keys`, and the changes of their lifecycle. A caller that writes here has locked the
//! system org, whose log records it: changes of keys are serialized.

use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;

use crate::crypto::key_pair::{NewKey, without_private_part};
use crate::crypto::seal::MasterKeys;
use crate::db::one_row;
use crate::domain::paging::{COUNTED, Page};
use crate::domain::signing_keys::KeyState;
use crate::error::{Error, Result};

/// A signing key, as it may be returned to clients.
#[derive(Clone, Debug)]
pub struct SigningKey {
    pub kid: String,
    pub state: String,
    pub algorithm: String,
    pub create_time: OffsetDateTime,
    pub activate_time: Option<OffsetDateTime>,
    pub retire_time: Option<OffsetDateTime>,
    pub revoke_time: Option<OffsetDateTime>,
    pub revoke_reason: Option<String>,
}

impl SigningKey {
    /// Its lifecycle state; none for an unknown state.
    pub fn state(&self) -> Option<KeyState> {
        KeyState::parse(&self.state)
    }

    /// The position from which a page continues: the order is by time of creation, and then by id.
    fn place(&self) -> String {
        format!("{}/{}", self.create_time.unix_timestamp_nanos(), self.kid)
    }
}

/// A key's place in the list, read back from [`Listed::next`](crate::domain::paging::Listed::next).
pub type KeyPosition = (OffsetDateTime, String);

/// Reads a place. A place that this server sealed itself parses.
pub fn parse_place(text: &str) -> Result<KeyPosition> {
    let wrong = || Error::internal("a place in the list of keys is damaged");
    let (time, kid) = text.split_once('/').ok_or_else(wrong)?;
    let nanos = time.parse().map_err(|_| wrong())?;
    Ok((OffsetDateTime::from_unix_timestamp_nanos(nanos).map_err(|_| wrong())?, kid.to_owned()))
}

/// Finds one key, in any state.
pub async fn find(db: impl PgExecutor<'_>, kid: &str) -> Result<Option<SigningKey>> {
    let query = sqlx::query_as!(
        SigningKey,
        "select kid, state, algorithm, create_time, activate_time, retire_time, revoke_time, revoke_reason
         from signing_keys where kid = $1",
        kid
    );
    Ok(query.fetch_optional(db).await?)
}

/// A page of all keys, oldest first.
pub async fn page(db: &mut PgConnection, after: Option<KeyPosition>, size: i64) -> Result<Page<SigningKey>> {
    let (time, kid) = after.unzip();
    let rows = sqlx::query_as!(
        SigningKey,
        "select kid, state, algorithm, create_time, activate_time, retire_time, revoke_time, revoke_reason
         from signing_keys where $1::timestamptz is null or (create_time, kid) > ($1, $2::text)
         order by create_time, kid limit $3",
        time,
        kid,
        size + 1
    );
    let rows = rows.fetch_all(&mut *db).await?;
    let counted = sqlx::query_scalar!(
        r#"select count(*) as "n!" from (select 1 from signing_keys limit $1) few"#,
        COUNTED + 1
    );
    let counted = counted.fetch_one(db).await?;
    Ok(Page::of(rows, size, counted, SigningKey::place))
}

/// The sealed part of a key that is not revoked.
pub async fn find_sealed(db: impl PgExecutor<'_>, kid: &str) -> Result<Option<Vec<u8>>> {
    let query =
        sqlx::query_scalar!("select sealed from signing_keys where kid = $1 and state <> 'REVOKED'", kid);
    Ok(query.fetch_optional(db).await?)
}

/// Inserts a new key: published as the next one, or active at once.
pub async fn insert(tx: &mut PgConnection, new: &NewKey, state: KeyState, now: OffsetDateTime) -> Result<()> {
    let query = sqlx::query!(
        "insert into signing_keys (kid, state, algorithm, sealed, create_time, activate_time)
         values ($1, $2, $3, $4, $5, $6)",
        new.kid,
        state.name(),
        new.algorithm.name(),
        new.sealed,
        now,
        (state == KeyState::Active).then_some(now)
    );
    one_row(&query.execute(tx).await?, "keeping a signing key")
}

/// Retires the active key: it signs no more, and its private part is erased. Returns its kid.
pub async fn retire_active(
    tx: &mut PgConnection,
    master: &MasterKeys,
    now: OffsetDateTime,
) -> Result<String> {
    let active = sqlx::query!("select kid, sealed from signing_keys where state = 'ACTIVE' for update");
    let active = active.fetch_optional(&mut *tx).await?;
    let active = active.ok_or_else(|| Error::internal("no signing key is active"))?;
    let erased = without_private_part(master, &active.kid, &active.sealed)?;
    let query = sqlx::query!(
        "update signing_keys set state = 'RETIRING', sealed = $2, retire_time = $3
         where kid = $1 and state = 'ACTIVE'",
        active.kid,
        erased,
        now
    );
    one_row(&query.execute(tx).await?, "retiring a signing key")?;
    Ok(active.kid)
}

/// Activates the next key, which signs from now on. No other key may be active.
pub async fn activate(tx: &mut PgConnection, kid: &str, now: OffsetDateTime) -> Result<()> {
    let query = sqlx::query!(
        "update signing_keys set state = 'ACTIVE', activate_time = $2 where kid = $1 and state = 'NEXT'",
        kid,
        now
    );
    one_row(&query.execute(tx).await?, "activating a signing key")
}

/// Deletes a retiring key.
pub async fn delete_retiring(tx: &mut PgConnection, kid: &str) -> Result<()> {
    let query = sqlx::query!("delete from signing_keys where kid = $1 and state = 'RETIRING'", kid);
    one_row(&query.execute(tx).await?, "unpublishing a signing key")
}

/// Revokes a key, which is not to be trusted any more: neither half of its pair stays stored.
pub async fn revoke(tx: &mut PgConnection, kid: &str, reason: &str, now: OffsetDateTime) -> Result<()> {
    let query = sqlx::query!(
        "update signing_keys
         set sealed = '', revoke_time = $2, revoke_reason = $3, state = 'REVOKED',
             retire_time = case when state = 'ACTIVE' then $2 else retire_time end
         where kid = $1 and state <> 'REVOKED'",
        kid,
        now,
        reason
    );
    one_row(&query.execute(tx).await?, "revoking a signing key")
}
