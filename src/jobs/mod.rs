//! The loops that run in the background: one table of all of them, and their supervision.

mod context;
mod cors_origins;
mod drop_peppers;
mod feed_follower;
mod figures;
pub mod health;
mod issuer_keys;
mod last_use;
mod mail_delivery;
mod password_resets;
mod pepper_renewals;
mod purge;
mod reload_certificates;
mod reload_keys;
mod reminders;
mod scheduled_ends;
mod searchable_backfill;
mod second_invalidations;
mod signing_keys;
mod sweep;

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, timeout_at};

pub use context::{JobContext, Limits};
pub use purge::purge;
pub use reminders::remind;
pub use searchable_backfill::fill_searchable;

/// A loop that runs until the server stops.
#[derive(Clone, Copy)]
pub struct Job {
    pub name: &'static str,
    /// The longest time between two runs; some also run when there is something to do.
    pub period: Duration,
    pub run: fn(JobContext, Duration) -> Running,
    pub at_stop: AtStop,
}

/// The future of a running job.
pub type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What happens to a job when the server stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtStop {
    /// It is aborted: no data is lost.
    Abort,
    /// It finishes its current work, within this time.
    Finish(Duration),
}

/// All jobs. `last_use_interval` is the period of that job, which operators choose.
pub fn table(last_use_interval: Duration) -> Vec<Job> {
    use AtStop::{Abort, Finish};
    const MILLI: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);
    let job = |name, period, at_stop, run| Job { name, period, run, at_stop };
    vec![
        job("health", MILLI * 100, Abort, |c, p| Box::pin(health::run(c, p))),
        job("feed_follower", MILLI * 800, Abort, |c, p| Box::pin(feed_follower::run(c, p))),
        job("scheduled_ends", SECOND, Abort, |c, p| Box::pin(scheduled_ends::run(c, p))),
        job("figures", SECOND * 15, Abort, |c, p| Box::pin(figures::run(c, p))),
        job("cors_origins", SECOND * 600, Abort, |c, p| Box::pin(cors_origins::run(c, p))),
        job("issuer_keys", SECOND, Abort, |c, p| Box::pin(issuer_keys::run(c, p))),
        job("reload_keys", SECOND * 30, Abort, |c, p| Box::pin(reload_keys::run(c, p))),
        job("reload_certificates", SECOND * 10, Abort, |c, p| Box::pin(reload_certificates::run(c, p))),
        job("signing_keys", SECOND, Abort, |c, p| Box::pin(signing_keys::run(c, p))),
        job("pepper_renewals", SECOND, Abort, |c, p| Box::pin(pepper_renewals::run(c, p))),
        job("password_resets", SECOND * 2, Abort, |c, p| Box::pin(password_resets::run(c, p))),
        job("sweep", SECOND * 600, Abort, |c, p| Box::pin(sweep::run(c, p))),
        job("searchable_backfill", SECOND * 600, Abort, |c, p| Box::pin(searchable_backfill::run(c, p))),
        job("purge", SECOND * 600, Abort, |c, p| Box::pin(purge::run(c, p))),
        job("reminders", SECOND * 600, Abort, |c, p| Box::pin(reminders::run(c, p))),
        job("drop_peppers", SECOND * 600, Abort, |c, p| Box::pin(drop_peppers::run(c, p))),
        job("last_use", last_use_interval, Finish(SECOND * 5), |c, p| Box::pin(last_use::run(c, p))),
        job("mail_delivery", SECOND * 2, Finish(SECOND * 10), |c, p| Box::pin(mail_delivery::run(c, p))),
    ]
}

/// A job that returned or panicked while the server runs.
#[derive(Debug)]
pub struct JobDied {
    name: &'static str,
    /// The panic message, if it panicked.
    panic: Option<String>,
}

impl fmt::Display for JobDied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.panic {
            Some(message) => write!(f, "job {} panicked: {message}", self.name),
            None => write!(f, "job {} ended early", self.name),
        }
    }
}

impl std::error::Error for JobDied {}

/// The running jobs. Aborted when it is dropped.
pub struct Jobs {
    set: JoinSet<()>,
    running: HashMap<Id, (Job, AbortHandle)>,
    /// Dropped to stop the jobs.
    stop: Option<watch::Sender<()>>,
}

impl Jobs {
    /// Starts all jobs of a table. The context's `stop` is the receiver of this sender.
    pub fn start(table: Vec<Job>, context: &JobContext, stop: watch::Sender<()>) -> Self {
        let mut set = JoinSet::new();
        let start = |(own, job): (usize, Job)| {
            let mut context = context.clone();
            context.figures.1 = own;
            let handle = set.spawn((job.run)(context, job.period));
            (handle.id(), (job, handle))
        };
        let running = table.into_iter().enumerate().map(start).collect();
        Self { set, running, stop: Some(stop) }
    }

    /// Waits until a job dies: it panics, or returns while the server runs.
    pub async fn died(&mut self) -> JobDied {
        loop {
            match self.set.join_next_with_id().await {
                Some(ended) => {
                    if let Some(died) = self.ended(ended, false) {
                        return died;
                    }
                }
                None => std::future::pending().await,
            }
        }
    }

    /// Aborts the jobs, except those that have work to finish, for which it waits.
    ///
    /// # Errors
    /// When a job has died that [`died`](Self::died) did not return.
    pub async fn stop(mut self) -> Result<(), JobDied> {
        let stopped = Instant::now();
        let mut outcome = Ok(());
        // A job that has returned by now did so before it was asked to.
        while let Some(ended) = self.set.try_join_next_with_id() {
            outcome = outcome.and(self.ended(ended, false).map_or(Ok(()), Err));
        }
        self.running.retain(|_, (job, handle)| {
            if job.at_stop == AtStop::Abort {
                handle.abort();
            }
            job.at_stop != AtStop::Abort
        });
        drop(self.stop.take());
        let limit = |job: &Job| match job.at_stop {
            AtStop::Finish(limit) => limit,
            AtStop::Abort => Duration::ZERO,
        };
        while let Some(next) = self.running.values().map(|(job, _)| limit(job)).min() {
            match timeout_at(stopped + next, self.set.join_next_with_id()).await {
                Ok(Some(ended)) => outcome = outcome.and(self.ended(ended, true).map_or(Ok(()), Err)),
                Ok(None) => break,
                Err(_) => self.running.retain(|_, (job, handle)| {
                    if limit(job) == next {
                        tracing::warn!(job = job.name, limit = ?next, "job not finished in time");
                        handle.abort();
                    }
                    limit(job) != next
                }),
            }
        }
        outcome
    }

    /// The error of a job that has returned, once it is logged; none where that was expected.
    fn ended(&mut self, ended: Result<(Id, ()), JoinError>, expected: bool) -> Option<JobDied> {
        let (id, error) = match ended {
            Ok((id, ())) => (id, None),
            Err(error) => (error.id(), Some(error)),
        };
        // An aborted job is not among them.
        let (job, _) = self.running.remove(&id)?;
        let panic = match error {
            None if expected => return None,
            None => None,
            Some(error) => Some(message(error)),
        };
        let died = JobDied { name: job.name, panic };
        tracing::error!(job = died.name, panic = died.panic, "job died");
        Some(died)
    }
}

/// The message of a panic.
fn message(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => match panic.downcast::<String>() {
            Ok(message) => *message,
            Err(panic) => panic.downcast_ref::<&str>().map_or("no message", |message| message).to_owned(),
        },
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Every file of this folder except those that are not loops.
    #[test]
    fn each_file_is_in_the_table() {
        let table = table(Duration::from_secs(30));
        let names: BTreeSet<_> = table.iter().map(|job| job.name.to_owned()).collect();
        assert_eq!(names.len(), table.len(), "each once");
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/jobs");
        let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
        let stems = files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned());
        let loops: BTreeSet<_> = stems
            .filter(|stem| !["mod", "context", "second_invalidations"].contains(&stem.as_str()))
            .collect();
        assert_eq!(names, loops);
    }
}
