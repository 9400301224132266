//! `countersign mail`: managing emails that could not be sent, by hand.

use std::fmt;

use anyhow::{Result, bail, ensure};

use super::{database, issuer as recorded_issuer};
use crate::clock::Clock;
use crate::config::args::{MailCommand, MailListArgs, MailRetryArgs, MailShowLinkArgs};
use crate::config::{CredentialLimits, SigningAlgorithm, WebUrl};
use crate::crypto::seal::MasterKeys;
use crate::db::outbox;
use crate::db::outbox::UnsentEmail;
use crate::domain::sign_in::emailed_codes::CodePurpose;
use crate::domain::values::names::Email;
use crate::flows::shown_links;
use crate::flows::shown_links::{ShownLink, Wanted};
use crate::state::State;

/// How many emails are read at once.
const PAGE: i64 = 200;

/// An email that was not sent, printed as one line.
struct Line(UnsentEmail);

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let UnsentEmail { mail_id, recipient, template, attempts, create_time, next_time, last_error } =
            &self.0;
        write!(f, "{mail_id}  {template} to {recipient}, created {create_time}, ")?;
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
        MailCommand::ShowLink(args) => show_link(args).await,
    }
}

/// Prints each email that was given up, with `--waiting` also those that are still retried.
async fn list(args: MailListArgs) -> Result<()> {
    let pools = database::open(&args.database, 1, 1).await?;
    let db = &pools.main;
    let (mut count, mut after) = (0_usize, None);
    loop {
        let page = outbox::page_unsent(db, args.waiting, after, PAGE).await?;
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
    let retried = outbox::retry(&pools.main, ids, Clock::default().now()).await?;
    for id in &retried {
        println!("{id}: is retried");
    }
    let left: Vec<_> = args.ids.iter().filter(|id| !retried.contains(id)).map(ToString::to_string).collect();
    ensure!(left.is_empty(), "not given up, or their links have expired: {}", left.join(" "));
    eprintln!("{} emails are retried", retried.len());
    Ok(())
}

/// Prints a fresh link for each invitation or first password whose email was not sent.
async fn show_link(args: MailShowLinkArgs) -> Result<()> {
    let wanted = match (args.of.parse(), Email::parse(&args.of)) {
        (Ok(mail_id), _) => Wanted::Email(mail_id),
        (_, Ok(address)) => Wanted::Address(address),
        _ => bail!("{}: must be the id of an email, or an address", args.of),
    };
    let master = MasterKeys::read(&args.master_key.master_key_file)?;
    let pools = database::open(&args.database, 2, 1).await?;
    let issuer = args.issuer.issuer()?;
    recorded_issuer::require(&pools.main, &issuer).await?;
    let pages_url = args.pages_url.unwrap_or_else(|| WebUrl::from(&issuer));
    // The key that signs is there since the first server started: nothing new is signed here.
    let algorithm = SigningAlgorithm::EdDsa;
    let clock = Clock::default();
    let state = State::open(pools, master, algorithm, issuer, CredentialLimits::OF_COMMANDS, clock).await?;
    for shown in shown_links::show(&state, &wanted).await? {
        let ShownLink { org, recipient, purpose, code, expire_time } = shown;
        let what = if purpose == CodePurpose::Invitation { "invitation" } else { "first password" };
        println!("{what} for {recipient} at {org}, until {expire_time}:");
        println!("{pages_url}/{}?code={}", purpose.page(), code.expose());
    }
    eprintln!("a link works once; links in emails to the same person no longer do");
    Ok(())
}
