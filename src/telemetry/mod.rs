//! Logs and traces. No secret has a `Debug` or `Display` that would write it to them.

#[cfg(feature = "otel")]
mod lines;
#[cfg(feature = "otel")]
mod otlp;
pub mod spans;

use std::io::{IsTerminal as _, stderr};
use std::sync::atomic::{AtomicU64, Ordering};

use time::format_description::well_known::Rfc3339;
#[cfg(feature = "otel")]
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt, registry};

use crate::clock::{Clock, PerPeriod};
use crate::config::{LogFormat, LogSettings};

/// Starts logging to standard error, and what exports spans to a collector, if there is one. Does nothing if
/// it was started before.
///
/// # Errors
/// When the levels cannot be parsed, or the endpoint cannot be used.
pub(crate) fn start(settings: &LogSettings, endpoint: Option<&str>) -> anyhow::Result<Option<Exporting>> {
    let levels: Targets =
        settings.levels.parse().map_err(|error| anyhow::anyhow!("--log {:?}: {error}", settings.levels))?;
    let lines = match settings.format {
        // Spans are in traces, and lines have what they need of a call.
        LogFormat::Json => {
            let lines =
                fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
            lines.with_writer(stderr).boxed()
        }
        LogFormat::Pretty => fmt::layer().with_ansi(stderr().is_terminal()).with_writer(stderr).boxed(),
    };
    #[cfg(feature = "otel")]
    if let Some(endpoint) = endpoint {
        let (spans, exporting) = otlp::open(endpoint)?;
        let all = levels.clone().with_target(spans::SPANS, LevelFilter::TRACE);
        let all = all.with_target(otlp::STATEMENTS, LevelFilter::DEBUG);
        let lines = lines::Lines { levels, layer: lines };
        let _ = registry().with(all).with(lines).with(spans).try_init();
        return Ok(Some(exporting));
    }
    // The levels are a separate layer, not a filter of the other one. Such a filter remembers its last
    // refusal for the thread until the next event. A check whether something is enabled, which sqlx makes
    // for each query, has no event: the line that is logged next would be lost.
    let _ = registry().with(levels).with(lines).try_init();
    if endpoint.is_some() {
        tracing::warn!("traces not exported: this program was built without the feature `otel`");
    }
    Ok(None)
}

/// Spans on their way to a collector.
#[cfg(feature = "otel")]
pub(crate) use otlp::Exporting;

/// Spans on their way to a collector: there is none.
#[cfg(not(feature = "otel"))]
pub(crate) enum Exporting {}

#[cfg(not(feature = "otel"))]
impl Exporting {
    pub(crate) fn begin(self) -> Self {
        self
    }

    pub(crate) async fn finish(self) {
        match self {}
    }
}

/// Prints why the process ends as one line of JSON, with the fields that log lines have.
///
/// It is no log line, since those can be switched off.
pub(crate) fn print_failure_as_json(error: &str) {
    let now = Clock::default().now().format(&Rfc3339).unwrap_or_default();
    let line = serde_json::json!({
        "timestamp": now,
        "level": "ERROR",
        "message": "command failed",
        "error": error.trim_end(),
        "target": "countersign",
    });
    eprintln!("{line}");
}

/// How many lines of one kind are logged within a second.
const LINES: u64 = 10;

/// Limits the log lines that clients can cause: what is not logged is counted. It takes no lock.
#[derive(Debug, Default)]
pub struct Sampler {
    lines: PerPeriod,
    unlogged: AtomicU64,
}

impl Sampler {
    /// Whether this line is logged, and if so how many before it were not.
    pub fn admit(&self, second: u64) -> Option<u64> {
        if self.lines.is_more_than(LINES, second) {
            self.unlogged.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.take())
    }

    /// How many lines were not logged before this second, where no other line has said so.
    pub fn take_unlogged(&self, second: u64) -> Option<u64> {
        let over = self.unlogged.load(Ordering::Relaxed) > 0 && !self.lines.is_in(second);
        over.then(|| self.take()).filter(|unlogged| *unlogged > 0)
    }

    fn take(&self) -> u64 {
        match self.unlogged.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.unlogged.swap(0, Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_limit_are_counted_and_the_next_one_says_so() {
        let sampler = Sampler::default();
        for _ in 0..LINES {
            assert_eq!(sampler.admit(7), Some(0));
        }
        for _ in 0..5 {
            assert_eq!(sampler.admit(7), None);
        }
        assert_eq!(sampler.admit(8), Some(5));
        assert_eq!(sampler.admit(8), Some(0));
    }

    #[test]
    fn what_no_line_says_is_said_once_when_its_second_is_over() {
        let sampler = Sampler::default();
        assert_eq!(sampler.take_unlogged(7), None);
        for _ in 0..LINES + 5 {
            sampler.admit(7);
        }
        assert_eq!([7, 8, 9].map(|second| sampler.take_unlogged(second)), [None, Some(5), None]);
        assert_eq!(sampler.admit(9), Some(0));
    }
}
