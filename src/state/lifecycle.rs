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
    /// For this long after the database is gone, exchanges continue.
    outage_grace: Duration,
    stopping: AtomicBool,
}

impl Lifecycle {
    /// Of a server that has just started.
    pub fn new(feed: Arc<Feed>, keyring: Arc<Keyring>, outage_grace: Duration) -> Self {
        Self { feed, keyring, outage_grace, stopping: AtomicBool::new(false) }
    }

    /// Whether exchanges continue: the keys open, the database answers or did until a while
    /// ago, and the server is not stopping.
    pub fn is_ready(&self) -> bool {
        let in_grace = || self.feed.staleness() <= self.outage_grace;
        self.keyring.is_open() && !self.is_stopping() && (self.feed.answers() || in_grace())
    }

    /// From now on this server is not ready.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked to stop, or has to since a job died.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}
