//! The context of each loop, and its pacing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tonic_health::server::HealthReporter;

use crate::clock::Jitter;
use crate::flows::access_log::AccessLog;
use crate::mail::EmailDelivery;
use crate::metrics;
use crate::state::State;
use crate::tls::Tls;

/// How long a round may take, or one item of a round that has many: the whole round is not limited then, so that an org
/// whose items take long keeps no other one waiting for ever.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// With a few short statements.
    pub short: Duration,
    /// With statements that may take five minutes.
    pub long: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { short: Duration::from_secs(30), long: Duration::from_secs(360) }
    }
}

/// The context that each loop is given.
#[derive(Clone)]
pub struct JobContext {
    pub state: Arc<State>,
    pub health: HealthReporter,
    /// The names of the services, for health.
    pub services: &'static [&'static str],
    pub delivery: EmailDelivery,
    pub access_log: Arc<AccessLog>,
    /// The metrics of all jobs, and which of them is that of this one.
    pub figures: (Arc<[metrics::Job]>, usize),
    /// Whether the node listens to the feed, besides polling it.
    pub feed_listen: bool,
    /// How long a signing key signs before its successor does.
    pub signing_key_lifetime: Duration,
    pub jitter: Jitter,
    pub limits: Limits,
    /// The TLS of the port, if it speaks any.
    pub tls: Option<Arc<Tls>>,
    /// Closed when the server stops.
    pub stop: watch::Receiver<()>,
}

impl JobContext {
    /// Done when the server stops: a job that is not aborted finishes its current work.
    pub async fn stopped(&self) {
        // Nothing is ever sent: this returns when the sender is dropped.
        while self.stop.clone().changed().await.is_ok() {}
    }

    /// A run of this job is done: counts whether it succeeded.
    pub fn ran<T, E>(&self, outcome: &std::result::Result<T, E>) {
        let (jobs, own) = &self.figures;
        match outcome {
            Ok(_) => jobs[*own].succeeded(self.state.clock.now()),
            Err(_) => jobs[*own].failures.one(),
        }
    }

    /// A run of this job, which could not fail, is done.
    pub fn succeeded(&self) {
        self.ran(&Ok::<_, ()>(()));
    }

    /// Ticks at once, and then once in each period.
    pub fn ticks(&self, period: Duration) -> Ticks {
        let mut interval = interval(period);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ticks { interval, jitter: self.jitter }
    }
}

/// The schedule of a periodic job.
pub struct Ticks {
    interval: Interval,
    jitter: Jitter,
}

impl Ticks {
    /// Done when the next tick is due.
    pub async fn next(&mut self) {
        self.interval.tick().await;
    }

    /// The job failed: the next tick is a period from now, plus or minus the jitter.
    pub fn retry(&mut self) {
        self.retry_in(self.interval.period());
    }

    /// The job failed: the next tick is this pause from now, plus or minus the jitter.
    pub fn retry_in(&mut self, pause: Duration) {
        self.interval.reset_after(self.jitter.spread(pause));
    }
}
