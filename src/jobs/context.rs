//! What each loop is given, and how it paces itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tonic_health::server::HealthReporter;

use crate::clock::Jitter;
use crate::mail::EmailDelivery;
use crate::state::State;

/// What each loop is given.
#[derive(Clone)]
pub struct JobContext {
    pub state: Arc<State>,
    pub health: HealthReporter,
    /// The names of the services, for health.
    pub services: &'static [&'static str],
    pub delivery: EmailDelivery,
    /// Whether the feed is listened to, besides being polled.
    pub feed_listen: bool,
    /// How long a signing key signs before its successor does.
    pub signing_key_lifetime: Duration,
    pub jitter: Jitter,
    /// Closed when the server ends.
    pub stop: watch::Receiver<()>,
}

impl JobContext {
    /// Done when the server ends: a job that is not aborted finishes what it has in hand.
    pub async fn stopped(&self) {
        // Nothing is ever sent: this ends when the sender is dropped.
        while self.stop.clone().changed().await.is_ok() {}
    }

    /// Ticks at once, and then once in each period.
    pub fn ticks(&self, period: Duration) -> Ticks {
        let mut interval = interval(period);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ticks { interval, jitter: self.jitter }
    }
}

/// The rhythm of a periodic job.
pub struct Ticks {
    interval: Interval,
    jitter: Jitter,
}

impl Ticks {
    /// Done when the next one is due.
    pub async fn next(&mut self) {
        self.interval.tick().await;
    }

    /// The job failed: the next one is a period from now, give or take the jitter.
    pub fn retry(&mut self) {
        self.retry_in(self.interval.period());
    }

    /// The job failed: the next one is this pause from now, give or take the jitter.
    pub fn retry_in(&mut self, pause: Duration) {
        self.interval.reset_after(self.jitter.spread(pause));
    }
}
