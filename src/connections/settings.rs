//! What all connections of a server may do.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Jitter;
use crate::config::ConnectionLimits;
use crate::metrics::Metrics;
use crate::tls::Tls;

/// What all connections of a server may do.
pub struct Settings {
    /// The most connections at a time.
    pub max: usize,
    pub limits: ConnectionLimits,
    /// The largest header list of a request, in bytes.
    pub max_header_size: u32,
    /// How long requests may take to finish on a connection that is being closed.
    pub drain_timeout: Duration,
    /// The TLS of the port; none: it speaks plaintext.
    pub tls: Option<Arc<Tls>>,
    pub jitter: Jitter,
    pub metrics: Arc<Metrics>,
}
