//! `peppers` and `signing_keys`, decrypted; and the creation of the first of each.

pub mod peppers;
pub mod sealed;
pub mod signing_keys;

use std::sync::Arc;

use sqlx::PgExecutor;
use time::OffsetDateTime;

use crate::clock::{Clock, random};
use crate::config::SigningAlgorithm;
use crate::crypto::key_pair::NewKey;
use crate::crypto::peppers::{self as pepper, Peppers};
use crate::crypto::seal::{MasterKeys, Unopenable};
use crate::crypto::signer::{BadKeys, KeySet};
use crate::db::pool::Db;
use crate::domain::signing_keys::{KeyState, KeyTimes};
use crate::error::Result;

/// Why the keys of the database cannot be used.
#[derive(Debug)]
pub enum KeysError {
    Peppers(Unopenable),
    SigningKeys(BadKeys),
    /// Rows that do not decrypt, while others do.
    Unopenable(Vec<String>),
    Other(crate::error::Error),
}

impl std::fmt::Display for KeysError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Peppers(error) => write!(f, "peppers: {error}"),
            Self::SigningKeys(error) => error.fmt(f),
            Self::Unopenable(rows) => write!(f, "{}: {Unopenable}", rows.join(", ")),
            Self::Other(error) => write!(f, "{error:?}"),
        }
    }
}

impl std::error::Error for KeysError {}

impl<E: Into<crate::error::Error>> From<E> for KeysError {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

/// The rows that were left out because they do not decrypt, by name.
pub fn unopenable(peppers: &Peppers, keys: &KeySet) -> Vec<String> {
    let peppers = peppers.left_out.iter().map(|number| format!("pepper {number}"));
    peppers.chain(keys.left_out.iter().map(|kid| format!("signing key {kid}"))).collect()
}

/// Opens all peppers.
pub async fn find_peppers(db: impl PgExecutor<'_>, master: &MasterKeys) -> Result<Peppers, KeysError> {
    let rows = sqlx::query!("select pepper_id, sealed from peppers order by pepper_id").fetch_all(db).await?;
    Peppers::open(master, rows.iter().map(|row| (row.pepper_id, row.sealed.as_slice())))
        .map_err(KeysError::Peppers)
}

/// Opens all keys that are not revoked.
pub async fn find_signing_keys(db: impl PgExecutor<'_>, master: &MasterKeys) -> Result<KeySet, KeysError> {
    let rows = sqlx::query!(
        "select kid, state, sealed, create_time, activate_time, retire_time
         from signing_keys where state <> 'REVOKED' order by create_time, kid"
    );
    let rows = rows.fetch_all(db).await?;
    let known = rows.iter().filter_map(|row| {
        let times = KeyTimes {
            kid: row.kid.clone(),
            state: KeyState::parse(&row.state)?,
            create_time: row.create_time,
            activate_time: row.activate_time,
            retire_time: row.retire_time,
        };
        Some((times, row.sealed.as_slice()))
    });
    KeySet::open(master, known).map_err(KeysError::SigningKeys)
}

/// Creates the first pepper and the first signing key, of this algorithm, where there is none.
/// Servers that start concurrently create one of each: the unique index on the active key decides.
pub async fn ensure(
    db: &Db,
    master: &Arc<MasterKeys>,
    algorithm: SigningAlgorithm,
    clock: &Clock,
) -> Result<(), KeysError> {
    let now: OffsetDateTime = clock.now();
    let missing = sqlx::query!(
        r#"select not exists (select 1 from peppers) as "pepper!",
                  not exists (select 1 from signing_keys where state = 'ACTIVE') as "key!""#
    );
    let missing = missing.fetch_one(db).await?;
    if missing.pepper {
        let sealed = pepper::new_sealed(master, 1, random());
        let query = sqlx::query!(
            "insert into peppers (pepper_id, sealed, create_time) values (1, $1, $2) on conflict do nothing",
            sealed,
            now
        );
        query.execute(db).await?;
    }
    if missing.key {
        let key = NewKey::make(master, algorithm).await?;
        let query = sqlx::query!(
            "insert into signing_keys (kid, state, algorithm, sealed, create_time, activate_time)
             values ($1, 'ACTIVE', $2, $3, $4, $4) on conflict do nothing",
            key.kid,
            key.algorithm.name(),
            key.sealed,
            now
        );
        query.execute(db).await?;
    }
    Ok(())
}
