//! `countersign migrate`.

use anyhow::Result;
use sqlx::Connection as _;

use super::database;
use crate::config::args::MigrateArgs;
use crate::db::events::feed;
use crate::db::schema;

/// Migrates the schema. After a restore it has servers drop their caches, too.
pub(super) async fn run(args: MigrateArgs) -> Result<()> {
    let mut connection = database::connect(&args.database).await?;
    schema::migrate(&mut connection).await?;
    println!("the schema is at migration {}", schema::newest());
    if args.after_restore {
        let epoch = feed::raise_epoch(&mut connection, None).await?;
        println!("the feed is in epoch {epoch}: servers drop their caches, and cursors from before expire");
    }
    connection.close().await?;
    Ok(())
}
