//! What a server counts of itself, for `/metrics`: typed counters, made once, handed to what counts.
//!
//! Most stand here; those of a part that is made without a server, such as a cache, stand in that part.
//! Counting is one relaxed atomic operation on a place that is known beforehand: no lock, no allocation, no
//! lookup. What exists anyway, such as the size of a cache, is not counted here but read when it is asked
//! for (`http/metrics/`).

mod connections;
mod counter;
mod credentials;
mod histogram;
mod jobs;
mod mail;
mod pages;
mod passwords;
mod rpcs;
mod shares;

use std::sync::OnceLock;
use std::time::Duration;

pub use connections::{Connections, Handshake};
pub use counter::Counter;
pub use credentials::{Cache, Credentials};
pub use histogram::{BOUNDS, Histogram, Reading};
pub use jobs::{Job, Jobs};
pub use mail::{Mail, QueueState, Queued};
pub use pages::Pages;
pub use passwords::{PART_NAMES, Passwords};
pub use rpcs::{Meter, Rpc, Rpcs, UNKNOWN_METHOD};
pub use shares::Shares;

/// All counters of a server.
#[derive(Default)]
pub struct Metrics {
    pub rpcs: Rpcs,
    pub pages: Pages,
    pub credentials: Credentials,
    pub connections: Connections,
    pub mail: Mail,
    pub jobs: Jobs,
    signing_key_lifetime: OnceLock<Duration>,
}

impl Metrics {
    /// Stores how long a signing key signs before its successor does.
    pub fn set_signing_key_lifetime(&self, lifetime: Duration) {
        let _ = self.signing_key_lifetime.set(lifetime);
    }

    /// How long a signing key signs before its successor does.
    pub fn signing_key_lifetime(&self) -> Option<Duration> {
        self.signing_key_lifetime.get().copied()
    }
}
