//! `countersign mail`: what is done by hand about mails that could not be sent.

use std::fmt;

use sqlx::PgPool;
use uuid::Uuid;

use crate::clock::Clock;
use crate::db::outbox;
use crate::db::outbox::Unsent;
use crate::error::Result;

/// How many are read at once.
const PAGE: i64 = 200;

/// A mail that was not sent, as a line of its own.
pub struct Line(Unsent);

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

/// Tells of each mail that was given up; with `waiting`, of those that are still tried as well.
pub async fn list(db: &PgPool, waiting: bool, mut tell: impl FnMut(Line)) -> Result<()> {
    let mut after = None;
    loop {
        let page = outbox::page_unsent(db, waiting, after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.mail_id);
        page.into_iter().for_each(|mail| tell(Line(mail)));
    }
}

/// Has these mails tried again, or all that were given up. Servers look each few seconds.
/// Returns which were; those whose link has ended are not.
pub async fn retry(db: &PgPool, mail_ids: Option<&[Uuid]>, clock: &Clock) -> Result<Vec<Uuid>> {
    outbox::retry(db, mail_ids, clock.now()).await
}
