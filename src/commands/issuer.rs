//! The issuer of a deployment: recorded at the first start, and changed by `countersign issuer set`.

use anyhow::{Result, bail};

use super::{database, keys};
use crate::clock::Clock;
use crate::config::Issuer;
use crate::config::args::{IssuerCommand, IssuerSetArgs};
use crate::db::events::{Author, Change, FieldChange};
use crate::db::pool::Db;
use crate::db::{self, distribution, events};
use crate::domain::values::ids::SYSTEM_ORG;

pub(super) async fn run(command: IssuerCommand) -> Result<()> {
    match command {
        IssuerCommand::Set(args) => set(args).await,
    }
}

/// Refuses an issuer other than the recorded one.
///
/// # Errors
/// A sentence that names both, and the way to change it.
pub(super) async fn require(db: &Db, issuer: &Issuer) -> Result<()> {
    match db::deployment::find_issuer(db).await? {
        Some(recorded) if recorded != issuer.to_string() => bail!(
            "--issuer {issuer}: the issuer of this database is {recorded}. Start with that one, or change it on \
             all servers: `countersign issuer set {issuer}`"
        ),
        _ => Ok(()),
    }
}

/// Records the issuer where none is recorded, and refuses another one than the recorded.
///
/// # Errors
/// Those of [`require`].
pub(super) async fn claim(db: &Db, issuer: &Issuer) -> Result<()> {
    db::deployment::record_issuer(db, &issuer.to_string()).await?;
    require(db, issuer).await
}

/// Records the issuer of this start, whatever it was before: `dev` owns its database.
pub(super) async fn own(db: &Db, issuer: &Issuer) -> Result<()> {
    Ok(db::deployment::replace_issuer(db, &issuer.to_string()).await?)
}

async fn set(args: IssuerSetArgs) -> Result<()> {
    let issuer = args.issuer()?;
    let text = issuer.to_string();
    let pools = database::open(&args.database, 1, 1).await?;
    let mut connection = pools.main.acquire().await?;
    let mut tx = connection.begin().await?;
    let log = keys::lock_log(&mut tx).await?;
    let before = db::deployment::find_issuer(&mut *tx).await?;
    if before.as_ref() == Some(&text) {
        println!("the issuer is {text} already");
        return Ok(());
    }
    db::deployment::replace_issuer(&mut *tx, &text).await?;
    if log {
        let clock = Clock::default();
        let change = Change::of("issuer.changed", [SYSTEM_ORG]).fields(FieldChange::between(
            "issuer",
            before.clone(),
            Some(text.clone()),
        ));
        let engine = distribution::engine(&mut tx).await?;
        let author = Author::server(SYSTEM_ORG);
        events::record(&mut tx, engine, &author, &[change], &clock, clock.now()).await?;
    }
    tx.commit().await?;
    match before {
        Some(before) => println!(
            "the issuer is {text}, and was {before}: restart every server with --issuer {text}. JWTs that were \
             issued before are invalid then"
        ),
        None => println!("the issuer is {text}"),
    }
    Ok(())
}
