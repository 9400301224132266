//! `login_buckets`: the counts of failed logins, which all nodes share.

use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;

use crate::db::one_row;
use crate::domain::sign_in::throttle::{Bucket, KNOWN_FOR, NAME_LIMIT, address_limit};
use crate::domain::values::networks::Reach;
use crate::error::{Error, Reason, Result};

/// The key of a bucket in the table.
pub type Key = [u8; 32];

/// The buckets that one attempt may be counted in.
#[derive(Clone)]
pub struct Keys {
    pub name: Key,
    /// None if the address of the client is not known.
    pub address: Option<AddressKeys>,
}

/// The buckets of an address: those for all usernames, one for each network around it, and the one
/// for this username.
#[derive(Clone)]
pub struct AddressKeys {
    pub any_name: Vec<(Key, Reach)>,
    pub with_name: Key,
}

/// An attempt that may be made, and is counted as a failure until it succeeds.
#[derive(Clone)]
pub struct Admission {
    keys: Keys,
    counted_in: Vec<Key>,
    at: OffsetDateTime,
    /// What is throttled from now on, if the attempt fails.
    pub begins: Vec<Counted>,
}

/// What a bucket counts the failures of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    Name,
    Address(Reach),
    /// The username at an address where it has signed in lately.
    KnownAddress,
}

impl Counted {
    /// Its name in an event.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Name => "username",
            Self::Address(_) => "address",
            Self::KnownAddress => "username at a known address",
        }
    }

    const fn limit(self) -> usize {
        match self {
            Self::Name | Self::KnownAddress => NAME_LIMIT,
            Self::Address(reach) => address_limit(reach),
        }
    }
}

/// A bucket as it is stored.
struct BucketRow {
    bucket: Vec<u8>,
    failures: Vec<OffsetDateTime>,
    further: i32,
    blocked_until: Option<OffsetDateTime>,
    success_time: Option<OffsetDateTime>,
}

impl BucketRow {
    fn counts(&self) -> Bucket {
        let Self { failures, further, blocked_until, .. } = self;
        Bucket { failures: failures.clone(), further: *further, blocked_until: *blocked_until }
    }

    fn is_known(&self, now: OffsetDateTime) -> bool {
        self.success_time.is_some_and(|time| now < time + KNOWN_FOR)
    }
}

impl Admission {
    /// Whether the address has succeeded with the username lately.
    pub fn is_at_known_address(&self) -> bool {
        let known = self.keys.address.as_ref().map(|address| address.with_name);
        known.is_some_and(|known| self.counted_in == [known])
    }
}

/// Whether an attempt would be at an address where the username has signed in lately.
pub async fn is_at_known_address(db: impl PgExecutor<'_>, keys: &Keys, now: OffsetDateTime) -> Result<bool> {
    let Some(address) = &keys.address else { return Ok(false) };
    Ok(find(db, &[address.with_name.to_vec()]).await?.iter().any(|row| row.is_known(now)))
}

/// Counts an attempt, unless it is throttled.
///
/// At an address where the username has signed in lately, the attempt counts only in the bucket of
/// both: guesses from other addresses, or of other usernames, do not lock its owner out. The buckets
/// are locked in the order of their keys.
///
/// # Errors
/// `THROTTLED`, with how long to wait; then the attempt was not counted.
pub async fn admit(tx: &mut PgConnection, keys: &Keys, now: OffsetDateTime) -> Result<Admission> {
    // Read without a lock first: an attempt that is throttled locks nothing, and makes no other one wait.
    let rows = find(&mut *tx, &all(keys)).await?;
    let counted = counted(keys, &rows, now);
    refuse_blocked(&rows, &counted, now)?;
    let rows = insert_and_lock(&mut *tx, &counted, now).await?;
    refuse_blocked(&rows, &counted, now)?;
    let begins = count(tx, &rows, &counted, now).await?;
    let counted_in = counted.iter().map(|(key, _)| *key).collect();
    Ok(Admission { keys: keys.clone(), counted_in, at: now, begins })
}

/// Undoes the count of an attempt that was not carried out.
pub async fn withdraw(tx: &mut PgConnection, admission: &Admission, now: OffsetDateTime) -> Result<()> {
    let buckets: Vec<Vec<u8>> = admission.counted_in.iter().map(|key| key.to_vec()).collect();
    for row in lock(&mut *tx, &buckets).await? {
        let mut bucket = row.counts();
        bucket.withdraw(admission.at);
        store(&mut *tx, &row, &bucket, now).await?;
    }
    Ok(())
}

/// Undoes the count of an attempt that has succeeded.
///
/// Its address is known for the username from now on.
pub async fn succeed(tx: &mut PgConnection, admission: &Admission, now: OffsetDateTime) -> Result<()> {
    withdraw(&mut *tx, admission, now).await?;
    let Some(address) = &admission.keys.address else { return Ok(()) };
    let known = sqlx::query!(
        "insert into login_buckets (bucket, failures, further, success_time, keep_until)
         values ($1, '{}', 0, $2, $3)
         on conflict on constraint login_buckets_pk do update
         set failures = excluded.failures, further = excluded.further, blocked_until = excluded.blocked_until,
             success_time = excluded.success_time, keep_until = excluded.keep_until",
        &address.with_name[..],
        now,
        now + KNOWN_FOR
    );
    one_row(&known.execute(tx).await?, "storing a known address")
}

fn all(keys: &Keys) -> Vec<Vec<u8>> {
    let mut all = vec![keys.name.to_vec()];
    if let Some(address) = &keys.address {
        all.extend(address.any_name.iter().map(|(key, _)| key.to_vec()));
        all.push(address.with_name.to_vec());
    }
    all
}

/// The buckets that an attempt is counted in.
fn counted(keys: &Keys, rows: &[BucketRow], now: OffsetDateTime) -> Vec<(Key, Counted)> {
    let row = |key: &Key| rows.iter().find(|row| row.bucket == key);
    match &keys.address {
        Some(address) if row(&address.with_name).is_some_and(|row| row.is_known(now)) => {
            vec![(address.with_name, Counted::KnownAddress)]
        }
        Some(address) => {
            let networks = address.any_name.iter().map(|(key, reach)| (*key, Counted::Address(*reach)));
            std::iter::once((keys.name, Counted::Name)).chain(networks).collect()
        }
        None => vec![(keys.name, Counted::Name)],
    }
}

fn of(counted: &[(Key, Counted)], row: &BucketRow) -> Result<(Key, Counted)> {
    let found = counted.iter().find(|(key, _)| row.bucket == key);
    found.copied().ok_or_else(|| Error::internal("a bucket was read that was not asked for"))
}

fn refuse_blocked(rows: &[BucketRow], counted: &[(Key, Counted)], now: OffsetDateTime) -> Result<()> {
    let rows = rows.iter().filter(|row| of(counted, row).is_ok());
    let wait = rows.filter_map(|row| row.counts().wait(now)).max();
    match wait {
        None => Ok(()),
        Some(wait) => Err(Error::with_message(Reason::Throttled, "too many failed logins: try again later")
            .retry_after(wait.unsigned_abs())),
    }
}

async fn find(db: impl PgExecutor<'_>, buckets: &[Vec<u8>]) -> Result<Vec<BucketRow>> {
    let query = sqlx::query_as!(
        BucketRow,
        "select bucket, failures, further, blocked_until, success_time from login_buckets
         where bucket = any($1)",
        buckets
    );
    Ok(query.fetch_all(db).await?)
}

/// Locks the rows of these buckets, which were inserted before.
///
/// # Errors
/// `CONFLICT` when a row has been swept meanwhile.
async fn lock(tx: &mut PgConnection, buckets: &[Vec<u8>]) -> Result<Vec<BucketRow>> {
    let query = sqlx::query_as!(
        BucketRow,
        "select bucket, failures, further, blocked_until, success_time from login_buckets
         where bucket = any($1) order by bucket for update",
        buckets
    );
    let rows = query.fetch_all(tx).await?;
    if rows.len() == buckets.len() { Ok(rows) } else { Err(Reason::Conflict.into()) }
}

async fn store(tx: &mut PgConnection, row: &BucketRow, bucket: &Bucket, now: OffsetDateTime) -> Result<()> {
    let known_until = row.success_time.map(|time| time + KNOWN_FOR);
    let keep_until = bucket.forgotten_at().max(known_until).unwrap_or(now);
    let query = sqlx::query!(
        "update login_buckets set failures = $2, further = $3, blocked_until = $4, keep_until = $5
         where bucket = $1",
        row.bucket,
        &bucket.failures,
        bucket.further,
        bucket.blocked_until,
        keep_until
    );
    one_row(&query.execute(tx).await?, "counting a login")
}

/// Counts a request in the buckets of its address, unless it is throttled.
///
/// For requests that always succeed, whatever they name. The limits and the waiting time are those of
/// failed logins of one address.
///
/// # Errors
/// `THROTTLED`, with how long to wait; then the attempt was not counted.
pub async fn admit_request(tx: &mut PgConnection, keys: &[(Key, Reach)], now: OffsetDateTime) -> Result<()> {
    let counted: Vec<_> = keys.iter().map(|(key, reach)| (*key, Counted::Address(*reach))).collect();
    let rows = insert_and_lock(&mut *tx, &counted, now).await?;
    if let Some(wait) = rows.iter().filter_map(|row| row.counts().wait(now)).max() {
        let error = Error::with_message(Reason::Throttled, "too many requests: try again later");
        return Err(error.retry_after(wait.unsigned_abs()));
    }
    count(tx, &rows, &counted, now).await.map(drop)
}

/// Locks the rows of these buckets, in the order of their keys, and inserts those that are missing.
async fn insert_and_lock(
    tx: &mut PgConnection,
    counted: &[(Key, Counted)],
    now: OffsetDateTime,
) -> Result<Vec<BucketRow>> {
    let buckets: Vec<Vec<u8>> = counted.iter().map(|(key, _)| key.to_vec()).collect();
    let missing = sqlx::query!(
        "insert into login_buckets (bucket, failures, further, keep_until)
         select bucket, '{}', 0, $2 from unnest($1::bytea[]) as new (bucket) order by bucket
         on conflict on constraint login_buckets_pk do nothing",
        &buckets,
        now
    );
    missing.execute(&mut *tx).await?;
    lock(tx, &buckets).await
}

/// Counts an attempt in each of these rows. Returns what is throttled from now on.
async fn count(
    tx: &mut PgConnection,
    rows: &[BucketRow],
    counted: &[(Key, Counted)],
    now: OffsetDateTime,
) -> Result<Vec<Counted>> {
    let mut begins = Vec::new();
    for row in rows {
        let (_, counted) = of(counted, row)?;
        let mut bucket = row.counts();
        if bucket.count(counted.limit(), now) {
            begins.push(counted);
        }
        store(&mut *tx, row, &bucket, now).await?;
    }
    Ok(begins)
}
