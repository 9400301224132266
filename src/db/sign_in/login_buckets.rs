//! `login_buckets`: failed logins, counted for all nodes.

use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;

use crate::db::one_row;
use crate::domain::sign_in::throttle::{ADDRESS_LIMIT, Bucket, KNOWN_FOR, NAME_LIMIT};
use crate::error::{Error, Reason, Result};

/// What stands for a bucket in the table.
pub type Key = [u8; 32];

/// The buckets that one attempt may count in.
#[derive(Clone, Copy)]
pub struct Keys {
    pub name: Key,
    /// None where the address is not known.
    pub address: Option<AddressKeys>,
}

/// Those of an address: for whatever name, and for this one.
#[derive(Clone, Copy)]
pub struct AddressKeys {
    pub any_name: Key,
    pub with_name: Key,
}

/// An attempt that may be made, and is counted as a failure until it succeeds.
#[derive(Clone)]
pub struct Admission {
    keys: Keys,
    counted_in: Vec<Key>,
    at: OffsetDateTime,
    /// What has to wait from now on, if it is a failure.
    pub begins: Vec<Counted>,
}

/// For what a bucket counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    Name,
    Address,
    /// The name at an address that it has succeeded at.
    KnownAddress,
}

impl Counted {
    /// How an event calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Name => "username",
            Self::Address => "address",
            Self::KnownAddress => "username at a known address",
        }
    }

    const fn limit(self) -> usize {
        match self {
            Self::Name | Self::KnownAddress => NAME_LIMIT,
            Self::Address => ADDRESS_LIMIT,
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

/// Counts an attempt, unless it has to wait. At an address that has succeeded with the name lately
/// it counts there alone: whoever guesses from elsewhere, or with other names, does not lock its
/// owner out. The buckets are locked in the order of their keys.
///
/// # Errors
/// `THROTTLED`, with how long to wait; then nothing was counted.
pub async fn admit(tx: &mut PgConnection, keys: Keys, now: OffsetDateTime) -> Result<Admission> {
    // A look without a lock: whoever has to wait takes none, and makes no one else wait.
    let rows = find(&mut *tx, &all(keys)).await?;
    let counted = counted(keys, &rows, now);
    refuse_blocked(&rows, &counted, now)?;
    let buckets: Vec<Vec<u8>> = counted.iter().map(|(key, _)| key.to_vec()).collect();
    let there = sqlx::query!(
        "insert into login_buckets (bucket, failures, further, keep_until)
         select bucket, '{}', 0, $2 from unnest($1::bytea[]) as new (bucket) order by bucket
         on conflict on constraint login_buckets_pk do nothing",
        &buckets,
        now
    );
    there.execute(&mut *tx).await?;
    let rows = lock(&mut *tx, &buckets).await?;
    refuse_blocked(&rows, &counted, now)?;
    let mut begins = Vec::new();
    for row in &rows {
        let (_, counted) = of(&counted, row)?;
        let mut bucket = row.counts();
        if bucket.count(counted.limit(), now) {
            begins.push(counted);
        }
        keep(&mut *tx, row, &bucket, now).await?;
    }
    let counted_in = counted.iter().map(|(key, _)| *key).collect();
    Ok(Admission { keys, counted_in, at: now, begins })
}

/// Takes the count back of an attempt that came to nothing.
pub async fn withdraw(tx: &mut PgConnection, admission: &Admission, now: OffsetDateTime) -> Result<()> {
    let buckets: Vec<Vec<u8>> = admission.counted_in.iter().map(|key| key.to_vec()).collect();
    for row in lock(&mut *tx, &buckets).await? {
        let mut bucket = row.counts();
        bucket.withdraw(admission.at);
        keep(&mut *tx, &row, &bucket, now).await?;
    }
    Ok(())
}

/// The attempt has succeeded: it was no failure, and its address is known for the name from now on.
pub async fn succeed(tx: &mut PgConnection, admission: &Admission, now: OffsetDateTime) -> Result<()> {
    withdraw(&mut *tx, admission, now).await?;
    let Some(address) = admission.keys.address else { return Ok(()) };
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
    one_row(&known.execute(tx).await?, "knowing an address")
}

fn all(keys: Keys) -> Vec<Vec<u8>> {
    let address = keys.address.into_iter().flat_map(|address| [address.any_name, address.with_name]);
    std::iter::once(keys.name).chain(address).map(Vec::from).collect()
}

/// Where an attempt counts.
fn counted(keys: Keys, rows: &[BucketRow], now: OffsetDateTime) -> Vec<(Key, Counted)> {
    let row = |key: &Key| rows.iter().find(|row| row.bucket == key);
    match keys.address {
        Some(address) if row(&address.with_name).is_some_and(|row| row.is_known(now)) => {
            vec![(address.with_name, Counted::KnownAddress)]
        }
        Some(address) => vec![(keys.name, Counted::Name), (address.any_name, Counted::Address)],
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

/// The rows of these, which are there.
///
/// # Errors
/// `CONFLICT` when one has been swept meanwhile.
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

async fn keep(tx: &mut PgConnection, row: &BucketRow, bucket: &Bucket, now: OffsetDateTime) -> Result<()> {
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

/// Counts a request of an address that succeeds whatever it asks for, unless it has to wait: as
/// many as failed logins of one address may there be, and then it waits as long.
///
/// # Errors
/// `THROTTLED`, with how long to wait; then nothing was counted.
pub async fn admit_request(tx: &mut PgConnection, key: Key, now: OffsetDateTime) -> Result<()> {
    let there = sqlx::query!(
        "insert into login_buckets (bucket, failures, further, keep_until) values ($1, '{}', 0, $2)
         on conflict on constraint login_buckets_pk do nothing",
        &key[..],
        now
    );
    there.execute(&mut *tx).await?;
    for row in lock(&mut *tx, &[key.to_vec()]).await? {
        let mut bucket = row.counts();
        if let Some(wait) = bucket.wait(now) {
            let error = Error::with_message(Reason::Throttled, "too many requests: try again later");
            return Err(error.retry_after(wait.unsigned_abs()));
        }
        bucket.count(ADDRESS_LIMIT, now);
        keep(&mut *tx, &row, &bucket, now).await?;
    }
    Ok(())
}
