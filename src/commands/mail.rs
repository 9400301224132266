//! `countersign mail`: what is done by hand about mails that could not be sent.

use std::fmt;

use anyhow::{Result, ensure};

use super::database;
use crate::clock::Clock;
use crate::config::args::{MailCommand, MailListArgs, MailRetryArgs};
use crate::db::outbox;
use crate::db::outbox::Unsent;

/// How many are read at once.
const PAGE: i64 = 200;

/// An email that was not sent, as a line of its own.
struct Line(Unsent);

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unsent { mail_id, recipient, template, attempts, create_time, next_time, last_error } = &self.0;
        write!(f, "{mail_id}  {template} to {recipient}, of {create_time}, ")?;
        match next_time {
            Some(next) => write!(f, "next try {next}")?,
            None => f.write_str("given up")?,
        }
        write!(f, " after {attempts} tries")?;
        match last_error {
            Some(error) => write!(f, ": {error}"),
            None => Ok(()),
        }
    }
}

pub(super) async fn run(command: MailCommand) -> Result<()> {
    match command {
        MailCommand::List(args) => list(args).await,
        MailCommand::Retry(args) => retry(args).await,
    }
}

/// Prints each email that was given up, with `--waiting` also those that are still retried.
async fn list(args: MailListArgs) -> Result<()> {
    let pools = database::open(&args.database, 1, 1).await?;
    let db = pools.main.pool();
    let (mut count, mut after) = (0_usize, None);
    loop {
        let page = outbox::page_unsent(&db, args.waiting, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.mail_id);
        count += page.len();
        page.into_iter().for_each(|email| println!("{}", Line(email)));
    }
    let which = if args.waiting { "wait or were given up" } else { "were given up" };
    eprintln!("{count} emails {which}");
    Ok(())
}

/// Has emails retried, which servers notice within seconds. Those whose link has expired are not.
async fn retry(args: MailRetryArgs) -> Result<()> {
    let pools = database::open(&args.database, 1, 1).await?;
    let ids = (!args.all).then_some(args.ids.as_slice());
    let retried = outbox::retry(&pools.main.pool(), ids, Clock::default().now()).await?;
    for id in &retried {
        println!("{id}: is retried");
    }
    let left: Vec<_> = args.ids.iter().filter(|id| !retried.contains(id)).map(ToString::to_string).collect();
    ensure!(left.is_empty(), "not given up, or their links have expired: {}", left.join(" "));
    eprintln!("{} emails are retried", retried.len());
    Ok(())
}
