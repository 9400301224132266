//! Background jobs.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use time::OffsetDateTime;

use super::counter::Counter;

/// The jobs of a server.
#[derive(Debug, Default)]
pub struct Jobs(OnceLock<Arc<[Job]>>);

/// One job.
#[derive(Debug)]
pub struct Job {
    pub name: &'static str,
    /// The longest time between two runs.
    pub period: Duration,
    pub successes: Counter,
    pub failures: Counter,
    /// Unix time in milliseconds.
    last_success: AtomicI64,
}

impl Jobs {
    /// The rows of jobs that start now.
    pub fn rows(
        &self,
        jobs: impl IntoIterator<Item = (&'static str, Duration)>,
        now: OffsetDateTime,
    ) -> Arc<[Job]> {
        let row = |(name, period)| Job {
            name,
            period,
            successes: Counter::default(),
            failures: Counter::default(),
            last_success: AtomicI64::new(millis(now)),
        };
        self.0.get_or_init(|| jobs.into_iter().map(row).collect()).clone()
    }

    /// All rows.
    pub fn all(&self) -> &[Job] {
        self.0.get().map_or(&[], |rows| rows)
    }
}

impl Job {
    /// A run has succeeded.
    pub fn succeeded(&self, now: OffsetDateTime) {
        self.successes.one();
        self.last_success.store(millis(now), Ordering::Relaxed);
    }

    /// When a run last succeeded, or the job was started, in seconds of Unix time.
    pub fn last_success(&self) -> f64 {
        self.last_success.load(Ordering::Relaxed) as f64 / 1e3
    }
}

fn millis(time: OffsetDateTime) -> i64 {
    (time.unix_timestamp_nanos() / 1_000_000) as i64
}
