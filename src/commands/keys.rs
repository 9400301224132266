//! `countersign keys`: managing keys by hand, whether servers run or not.

use std::fmt;

use anyhow::ensure;
use sqlx::PgConnection;

use super::database;
use crate::clock::{Clock, random};
use crate::config::args::{KeysArgs, KeysCommand};
use crate::crypto::peppers;
use crate::crypto::seal::{MasterKeys, sealed_under};
use crate::db;
use crate::db::events::{Author, Change};
use crate::db::keys::sealed::Sealed;
use crate::db::keys::{find_peppers, sealed};
use crate::db::pool::Db;
use crate::db::{distribution, events, retrying};
use crate::domain::values::ids::SYSTEM_ORG;
use crate::domain::values::subject::Subject;
use crate::error::{Error, Reason, Result};
use crate::state::Pools;

/// How many rows are resealed in one transaction.
const BATCH: i64 = 100;

pub(super) async fn run(command: KeysCommand) -> anyhow::Result<()> {
    match command {
        KeysCommand::List(args) => print_list(args).await,
        KeysCommand::Reseal(args) => reseal_all(args).await,
        KeysCommand::NewPepper(args) => create_pepper(args).await,
    }
}

async fn open(args: &KeysArgs) -> anyhow::Result<(MasterKeys, Pools)> {
    let master = MasterKeys::read(&args.master_key.master_key_file)?;
    Ok((master, database::open(&args.database, 1, 1).await?))
}

async fn print_list(args: KeysArgs) -> anyhow::Result<()> {
    let (master, pools) = open(&args).await?;
    println!("the current master key is {}", master.current());
    let entries = list(&pools.main, &master).await?;
    for entry in &entries {
        println!("{entry}");
    }
    let closed = entries.iter().filter(|entry| !entry.opens).count();
    ensure!(closed == 0, "{closed} of {} do not open with the master keys of the file", entries.len());
    Ok(())
}

async fn reseal_all(args: KeysArgs) -> anyhow::Result<()> {
    let (master, pools) = open(&args).await?;
    let (db, current) = (&pools.main, master.current());
    let progress = |name: &str| println!("{name}: now sealed under master key {current}");
    let resealed = reseal(db, &master, &Clock::default(), progress).await?;
    let entries = list(db, &master).await?;
    let left: Vec<_> =
        entries.iter().filter(|entry| !entry.opens || entry.under.as_deref() != Some(current)).collect();
    println!("{resealed} of {} were resealed", entries.len());
    for entry in &left {
        eprintln!("{entry}");
    }
    ensure!(
        left.is_empty(),
        "{} of {} are not under master key {current}: leave their master keys in the file",
        left.len(),
        entries.len()
    );
    println!("nothing names another master key than {current}");
    Ok(())
}

async fn create_pepper(args: KeysArgs) -> anyhow::Result<()> {
    let (master, pools) = open(&args).await?;
    let number = new_pepper(&pools.main, &master, &Clock::default()).await?;
    println!("pepper {number} was created: new secrets are stored under it, older ones at their next use");
    Ok(())
}

/// One sealed value, without what is secret.
pub struct Entry {
    pub what: String,
    /// The master key that it names; none if the stored value was not sealed by us.
    pub under: Option<String>,
    /// Whether a master key of the file opens it.
    pub opens: bool,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.what)?;
        match (&self.under, self.opens) {
            (Some(id), true) => write!(f, "sealed under master key {id}"),
            (Some(id), false) => {
                write!(f, "names master key {id}, and DOES NOT OPEN with any of the file")
            }
            (None, _) => f.write_str("NOT SEALED by Countersign"),
        }
    }
}

/// Lists all sealed values of the database, and their master keys.
pub async fn list(db: &Db, master: &MasterKeys) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for table in Sealed::ALL {
        let mut after = None;
        loop {
            let rows = sealed::page(db, table, after.as_deref(), BATCH).await?;
            let Some(last) = rows.last() else { break };
            after = Some(last.id.clone());
            entries.extend(rows.iter().map(|row| Entry {
                what: row.name(table),
                under: sealed_under(&row.sealed).map(str::to_owned),
                opens: master.open(table.purpose(), &row.id, &row.sealed).is_ok(),
            }));
        }
    }
    Ok(entries)
}

/// Seals everything under the current master key. Returns how many values were resealed.
///
/// Rows that are sealed under it already stay as they are, so that the command continues where it was
/// interrupted. Rows that do not open stay as well. `progress` is called after each transaction.
pub async fn reseal(
    db: &Db,
    master: &MasterKeys,
    clock: &Clock,
    mut progress: impl FnMut(&str),
) -> Result<usize> {
    let mut resealed = 0;
    for table in Sealed::ALL {
        let mut after = None;
        loop {
            let (last, names) = retrying(|| batch(db, master, clock, table, after.as_deref())).await?;
            resealed += names.len();
            for name in &names {
                progress(name);
            }
            match last {
                Some(last) => after = Some(last),
                None => break,
            }
        }
    }
    Ok(resealed)
}

/// Reseals the next rows, in the order of their ids, in one transaction.
///
/// Returns the id of the last one, and the names of those that were resealed.
async fn batch(
    db: &Db,
    master: &MasterKeys,
    clock: &Clock,
    table: Sealed,
    after: Option<&str>,
) -> Result<(Option<String>, Vec<String>)> {
    let mut connection = db.acquire().await?;
    let mut tx = connection.begin().await?;
    let log = lock_log(&mut tx).await?;
    let rows = sealed::lock_page(&mut tx, table, after, BATCH).await?;
    let (mut ids, mut values, mut names) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows.iter().filter(|row| sealed_under(&row.sealed) != Some(master.current())) {
        let Ok(plain) = master.open(table.purpose(), &row.id, &row.sealed) else { continue };
        ids.push(row.id.clone());
        values.push(master.seal(table.purpose(), &row.id, &plain));
        names.push(row.name(table));
    }
    if !ids.is_empty() {
        sealed::replace(&mut tx, table, &ids, &values).await?;
        if log {
            // Nothing that a server caches has changed.
            record(&mut tx, clock, "master_key.resealed", &names, false).await?;
        }
    }
    tx.commit().await?;
    Ok((rows.last().map(|row| row.id.clone()), names))
}

/// Creates a pepper, and returns its number.
///
/// Every server stores new secrets under it as soon as it is notified of it, and re-hashes older ones
/// when they are next used.
pub async fn new_pepper(db: &Db, master: &MasterKeys, clock: &Clock) -> Result<i32> {
    retrying(|| async {
        let mut connection = db.acquire().await?;
        let mut tx = connection.begin().await?;
        let log = lock_log(&mut tx).await?;
        let peppers = find_peppers(&mut *tx, master).await.map_err(Error::internal)?;
        // A number that a row has which we cannot use is skipped.
        let mut number = peppers.newest().unwrap_or_default() + 1;
        while peppers.left_out.contains(&number) {
            number += 1;
        }
        let now = clock.now();
        db::keys::peppers::insert(&mut tx, number, &peppers::new_sealed(master, number, random()), now)
            .await?;
        if log {
            record(&mut tx, clock, "pepper.created", &[format!("pepper {number}")], true).await?;
        }
        tx.commit().await?;
        Ok(number)
    })
    .await
}

/// Locks the log of the system org, so that changes of keys take turns.
///
/// False before `bootstrap`, when there is no log yet.
pub(super) async fn lock_log(tx: &mut PgConnection) -> Result<bool> {
    match db::orgs::lock(tx, SYSTEM_ORG).await {
        Ok(_) => Ok(true),
        Err(error) if error.reason() == Reason::ResourceNotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Records the event. `wake_nodes` makes servers load their keys again.
async fn record(
    tx: &mut PgConnection,
    clock: &Clock,
    kind: &'static str,
    names: &[String],
    wake_nodes: bool,
) -> Result<()> {
    let change = Change::of(kind, names.iter().map(|name| name.replace(' ', "/")))
        .subjects(wake_nodes.then_some(Subject::Keys));
    let engine = distribution::engine(&mut *tx).await?;
    events::record(tx, engine, &Author::server(SYSTEM_ORG), &[change], clock, clock.now()).await?;
    Ok(())
}
