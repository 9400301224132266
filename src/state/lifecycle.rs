//! Whether this server is ready, and whether it is stopping.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::state::feed::Feed;
use crate::state::keyring::Keyring;

/// Why a server is not ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotReady {
    /// It was asked to stop, or has to because a job died.
    Stopping,
    /// The keys of the database do not decrypt with its master keys.
    KeysDoNotOpen,
    /// The database does not answer, for longer than the outage grace.
    DatabaseUnavailable,
}

impl std::fmt::Display for NotReady {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Stopping => "the server is stopping",
            Self::KeysDoNotOpen => "the keys of the database do not open with the master keys of this server",
            Self::DatabaseUnavailable => "the database does not answer",
        })
    }
}

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
        self.readiness().is_ok()
    }

    /// As [`is_ready`](Self::is_ready), with the cause where it is not.
    pub fn readiness(&self) -> Result<(), NotReady> {
        let in_grace = || self.feed.staleness() <= self.outage_grace;
        if self.is_stopping() {
            Err(NotReady::Stopping)
        } else if !self.keyring.is_open() {
            Err(NotReady::KeysDoNotOpen)
        } else if !self.feed.answers() && !in_grace() {
            Err(NotReady::DatabaseUnavailable)
        } else {
            Ok(())
        }
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
