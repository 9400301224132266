//! Requests for pages.

use std::time::Duration;

use super::histogram::Histogram;

/// Requests for pages, by the class of the status that answered them.
#[derive(Debug, Default)]
pub struct Pages([Histogram; 4]);

impl Pages {
    /// The classes of statuses.
    pub const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

    /// Counts a request that was answered with this status.
    pub fn record(&self, status: u16, took: Duration) {
        let class = usize::from(status / 100).saturating_sub(2).min(Self::CLASSES.len() - 1);
        self.0[class].record(took);
    }

    /// The durations of each class.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &Histogram)> {
        Self::CLASSES.into_iter().zip(&self.0)
    }
}
