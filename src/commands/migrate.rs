//! `countersign migrate`: creating or updating the schema, and distributing it where the database is a cluster.

use anyhow::Result;
use sqlx::Connection as _;

use super::database;
use crate::config::args::MigrateArgs;
use crate::db::events::feed;
use crate::db::{distribution, schema};

/// Migrates the schema. After a restore it also makes servers drop their caches.
pub(super) async fn run(args: MigrateArgs) -> Result<()> {
    let mut connection = database::connect(&args.database).await?;
    if distribution::is_begun(&mut connection).await? {
        let version = schema::version(&mut connection).await?;
        // A key can refer to a new table only when that is distributed, too: after each step.
        for next in schema::versions().filter(|next| *next > version) {
            schema::migrate_to(&mut connection, next).await?;
            print_distributed(&distribution::distribute(&mut connection).await?);
        }
    } else {
        schema::migrate(&mut connection).await?;
    }
    println!("the schema is at migration {}", schema::newest());
    if schema::version(&mut connection).await? > schema::newest() {
        // A newer binary has migrated it further, and knows how its tables are distributed.
        distribution::check(&mut connection).await?;
    } else {
        print_distributed(&distribution::distribute(&mut connection).await?);
    }
    if args.after_restore {
        let epoch = feed::raise_epoch(&mut connection, None).await?;
        println!("the feed is in epoch {epoch}: servers drop their caches, and cursors from before expire");
    }
    connection.close().await?;
    Ok(())
}

fn print_distributed(tables: &[&str]) {
    if !tables.is_empty() {
        println!("distributed over the workers: {}", tables.join(", "));
    }
}
