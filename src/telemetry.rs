//! Logs. No secret has a `Debug` or `Display` that would write it to them.

use std::io::{IsTerminal as _, stderr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use time::format_description::well_known::Rfc3339;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt, registry};

use crate::clock::Clock;
use crate::config::{LogFormat, LogSettings};

/// Starts logging to standard error. Does nothing if it was started before.
///
/// # Errors
/// When the levels cannot be parsed.
pub(crate) fn start(settings: &LogSettings) -> anyhow::Result<()> {
    let levels: Targets =
        settings.levels.parse().map_err(|error| anyhow::anyhow!("--log {:?}: {error}", settings.levels))?;
    let layer = match settings.format {
        LogFormat::Json => fmt::layer().json().flatten_event(true).with_writer(stderr).boxed(),
        LogFormat::Pretty => fmt::layer().with_ansi(stderr().is_terminal()).with_writer(stderr).boxed(),
    };
    // The levels are a separate layer, not a filter of the other one. Such a filter remembers its last
    // refusal for the thread until the next event. A check whether something is enabled, which sqlx makes
    // for each query, has no event: the line that is logged next would be lost.
    let _ = registry().with(levels).with(layer).try_init();
    Ok(())
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

/// How many lines of one kind are logged within each `WINDOW`.
const LINES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(10);

/// Limits the log lines that clients can cause: what is not logged is counted.
pub struct Sampler(Mutex<Window>);

struct Window {
    began: Option<Instant>,
    logged: u32,
    unlogged: u64,
}

impl Sampler {
    /// A sampler that has seen nothing yet.
    pub const fn new() -> Self {
        Self(Mutex::new(Window { began: None, logged: 0, unlogged: 0 }))
    }

    /// Whether this line is logged, and if so how many before it were not.
    pub fn admit(&self, now: Instant) -> Option<u64> {
        let mut window = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if window.began.is_none_or(|began| now.saturating_duration_since(began) >= WINDOW) {
            window.began = Some(now);
            window.logged = 0;
        }
        if window.logged >= LINES {
            window.unlogged += 1;
            return None;
        }
        window.logged += 1;
        Some(std::mem::take(&mut window.unlogged))
    }
}

impl Default for Sampler {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_limit_are_counted_and_the_next_one_says_so() {
        let (sampler, began) = (Sampler::new(), Instant::now());
        for _ in 0..LINES {
            assert_eq!(sampler.admit(began), Some(0));
        }
        for _ in 0..5 {
            assert_eq!(sampler.admit(began + WINDOW / 2), None);
        }
        assert_eq!(sampler.admit(began + WINDOW), Some(5));
        assert_eq!(sampler.admit(began + WINDOW), Some(0));
    }
}
