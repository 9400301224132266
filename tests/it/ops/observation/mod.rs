//! What a server says of itself: metrics, and the lines of calls.

mod access_log;
mod alerts;
mod metrics;
mod scraping;
mod tls;
