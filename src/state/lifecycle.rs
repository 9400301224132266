//! Whether this server is ready, and whether it is stopping.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::state::feed::Feed;
use crate::state::keyring::Keyring;

/// Whether this server is ready, and whether it is stopping.
pub struct Lifecycle {
    feed: Arc<Feed>,
    keyring: Arc<Keyring>,
    /// How long exchanges continue after the database became unavailable.
    outage_grace: Duration,
    stopping: AtomicBool,
}

impl Lifecycle {
    /// The lifecycle of a server that has just started.
    pub fn new(feed: Arc<Feed>, keyring: Arc<Keyring>, outage_grace: Duration) -> Self {
        Self { feed, keyring, outage_grace, stopping: AtomicBool::new(false) }
    }

    /// Whether exchanges continue: the keys decrypt, the database answers or did within the outage
    /// grace, and the server is not stopping.
    pub fn is_ready(&self) -> bool {
        let in_grace = || self.feed.staleness() <= self.outage_grace;
        self.keyring.is_open() && !self.is_stopping() && (self.feed.answers() || in_grace())
    }

    /// Marks this server as stopping: it is not ready from now on.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked to stop, or has to because a job died.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}
